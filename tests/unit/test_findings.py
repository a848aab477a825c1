"""Findings of a slide: added to a result, written, read back."""

from __future__ import annotations

from math import nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_results import smear

from napari_leukocls.errors import InputError
from napari_leukocls.measurement.findings import (
    FINDINGS,
    STATES,
    Finding,
    limits_text,
    measured,
    read_findings,
    with_findings,
    write_findings,
)
from napari_leukocls.results.writer import write_result

CLUMPS = Finding("platelet_clumps", 3.0, nan, nan, "{clumps}", "certain", "any clump", "=Three clumps, say.")
SHAPE = Finding("red_cell_schistocytes", 0.8, 0.2, 2.1, "%", "possible", "schistocytes >= 1 %", "0.8 %")


def _same(one: Finding, other: Finding) -> bool:
    return repr(one) == repr(other)  # nan is not equal to itself


def test_findings_are_added_written_and_read(tmp_path: Path) -> None:
    result = with_findings(smear(), [CLUMPS, SHAPE])
    folder = write_result(result, tmp_path)["folder"]
    back = {one.name: one for one in read_findings(folder)}
    assert _same(back["platelet_clumps"], CLUMPS)
    assert _same(back["red_cell_schistocytes"], SHAPE)
    assert b"'=Three clumps" in (folder / FINDINGS).read_bytes(), "no spreadsheet runs it"


def test_a_finding_of_the_same_name_takes_the_place_of_the_first() -> None:
    fewer = Finding("platelet_clumps", 1, nan, nan, "{clumps}", "certain", "any clump", "One clump.")
    result = with_findings(with_findings(smear(), [CLUMPS, SHAPE]), [fewer])
    assert [one.value for one in result.findings] == [1, 0.8]


@pytest.mark.parametrize(("name", "state"), [("Clumps", "certain"), ("", "certain"), ("clumps", "unsure")])
def test_a_finding_without_a_usable_name_or_state_is_refused(name: str, state: str) -> None:
    with pytest.raises(ValueError, match=r"finding"):
        with_findings(smear(), [Finding(name, 1, nan, nan, "", state, "", "")])  # type: ignore[arg-type]


def test_what_follows_from_the_counts_is_not_kept() -> None:
    flag = Finding("flag_blast", 1, 1, 1, "{cells}", "certain", "any blast", "One blast.")
    assert measured([flag, SHAPE]) == (SHAPE,)


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (SHAPE, "0.8 % (0.2 to 2.1)"),
        (CLUMPS, "3 clumps"),
        (Finding("platelet_clumps", 1.0, nan, nan, "{clumps}", "certain", "", ""), "1 clump"),
        (Finding("wbc_corrected", 7.246, 7.1, 7.4, "10*9/L", "certain", "", ""), "7.25 × 10⁹/L (7.1 to 7.4)"),
        (Finding("quality_focus", nan, nan, nan, "", "possible", "x", ""), ""),
        (Finding("platelet_estimate", 1234.5, 987.6, 2000, "10*9/L", "certain", "", ""), "1234 × 10⁹/L (988 to 2000)"),
    ],
)  # fmt: skip
def test_a_figure_is_written_with_its_limits(finding: Finding, text: str) -> None:
    assert limits_text(finding) == text


def test_a_folder_of_an_earlier_version_has_no_findings(tmp_path: Path) -> None:
    assert read_findings(tmp_path) == ()


@pytest.mark.parametrize(
    "content",
    [
        "name,value\nx,1\n",
        "slide_id,name,value,low,high,unit,state,rule,text\ns,x,one,,,,certain,,\n",
        "slide_id,name,value,low,high,unit,state,rule,text\ns,x,1,,,,perhaps,,\n",
        "",
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FINDINGS).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"findings.csv' cannot be read .*analyse the slide again") as error:
        read_findings(tmp_path)
    assert "\n" not in str(error.value)


_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)
_FIGURE = st.one_of(st.just(nan), st.integers(-1000, 1000).map(float))


@given(
    st.lists(
        st.builds(
            Finding,
            st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True),
            _FIGURE,
            _FIGURE,
            _FIGURE,
            _TEXT,
            st.sampled_from(STATES),
            _TEXT,
            _TEXT,
        )
    )
)
def test_any_finding_comes_back(tmp_path_factory: pytest.TempPathFactory, findings: list[Finding]) -> None:
    folder = tmp_path_factory.mktemp("findings")
    write_findings(folder, findings, "slide")
    assert all(_same(*pair) for pair in zip(read_findings(folder), findings, strict=True))
