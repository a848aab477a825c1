"""The rules of a laboratory: at, below and above each limit; and files that are wrong."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.absolute import white_cells
from napari_leukocls.measurement.flags import (
    ABSENT,
    CERTAIN,
    NOT_EXCLUDED,
    NOT_JUDGED,
    PERHAPS,
    Flag,
    flags,
)
from napari_leukocls.measurement.judgement import judge
from napari_leukocls.measurement.rules import RuleSet, default_rules, load_rules
from napari_leukocls.measurement.samples import make_sample, with_sample
from napari_leukocls.measurement.smudges import smudge_finding
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import Finding, Signature, SlideResult
from tests.results import FINER, counted

SCHEME = default_scheme()


def laboratory(tmp_path: Path, text: str) -> RuleSet:
    path = tmp_path / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return load_rules(path)


def raised(result: SlideResult, rules: RuleSet | None = None) -> dict[str, Flag]:
    judged = judge(result, rules or load_rules())
    return {flag.finding.name.removeprefix("flag_"): flag for flag in judged.flags}


def mixed(n: int, **classes: int) -> dict[str, int]:
    """So many of some classes; the rest of n are neutrophils."""
    return {**classes, "neutrophil": n - sum(classes.values())}


# the rules that ship, at, below and above their limits


@pytest.mark.parametrize(
    ("seen", "n", "weight", "words"),
    [
        # Clopper-Pearson: 0 of 100 reaches up to 3.6 %, 0 of 200 up to 1.8 %; 6 of 100 begins at 2.2 %, 5 at 1.6 %.
        (0, 100, NOT_EXCLUDED, "0 % (0 to 3.62), limit >= 2; count 83 more"),
        (0, 200, ABSENT, "0 % (0 to 1.83), limit >= 2"),
        (1, 100, NOT_EXCLUDED, "1 % (0.0253 to 5.45), limit >= 2"),
        (2, 100, PERHAPS, "2 % (0.243 to 7.04), limit >= 2; more than 10000 cells would be needed to decide"),
        (5, 100, PERHAPS, "5 % (1.64 to 11.3), limit >= 2; count"),
        (6, 100, CERTAIN, "6 % (2.23 to 12.6), limit >= 2"),
    ],
)
def test_immature_granulocytes(seen: int, n: int, weight: int, words: str) -> None:
    flag = raised(counted(mixed(n, immature_granulocyte=seen)))["immature_granulocytes"]
    assert flag.weight == weight
    assert flag.finding.text.startswith(f"Immature granulocytes: {words}")
    assert flag.finding.state == {CERTAIN: "certain", ABSENT: "absent"}.get(weight, "possible")
    assert flag.finding.rule == "Immature granulocytes >= 2 %"
    assert flag.finding.value == pytest.approx(100 * seen / n)


def test_how_many_more_decides_it() -> None:
    """Five of 100 with a limit of 2 %: with the same share, the limits clear it at the number that is asked for."""
    flag = raised(counted(mixed(100, immature_granulocyte=5)))["immature_granulocytes"]
    more = int(flag.finding.text.split("count ")[1].split(" more")[0])
    from scipy.stats import beta

    def low(n: float) -> float:
        return float(beta.ppf(0.025, 0.05 * n, n - 0.05 * n + 1))

    assert low(100 + more) >= 0.02 > low(100 + more - 1)


@pytest.mark.parametrize(
    ("settled", "waiting", "weight", "words"),
    [
        ({"blast": 1}, {}, CERTAIN, "Blasts: 1 cell, limit >= 1"),
        ({"blast": 3}, {"blast": 2}, CERTAIN, "Blasts: 3 cells"),
        ({"blast": 0, "lymphocyte": 1}, {"blast": 2}, PERHAPS, "review 2 cells"),
    ],
)
def test_any_blast(settled: dict[str, int], waiting: dict[str, int], weight: int, words: str) -> None:
    flag = raised(counted(mixed(100, **settled), waiting))["blast"]
    assert flag.weight == weight
    assert words in flag.finding.text


def test_no_blast_is_absent_only_where_the_count_can_have_one() -> None:
    result = counted(mixed(100))
    flag = raised(result)["blast"]
    assert (flag.weight, flag.finding.text) == (
        NOT_JUDGED,
        "Blasts: not judged: the classifier does not tell these cells apart.",
    )
    assert flag.finding.state == "possible", "it is not excluded"
    signed = replace(result, signature=Signature("signed", "A. Reader"))
    flag = raised(signed)["blast"]
    assert flag.weight == ABSENT
    assert flag.finding.text == "Blasts: none among 100 leukocytes; up to 3.62 % may be missed, limit >= 1."


@pytest.mark.parametrize(
    ("seen", "n", "weight"),
    # 3 of 100 leukocytes: of 103 cells 0.6 to 8.3 %; 4: 1.07 to 9.6 %, which is 1.08 per 100.
    [(0, 100, NOT_EXCLUDED), (0, 500, ABSENT), (1, 100, PERHAPS), (3, 100, PERHAPS), (4, 100, CERTAIN)],
)
def test_erythroblasts_per_100(seen: int, n: int, weight: int) -> None:
    flag = raised(counted({"neutrophil": n, "erythroblast": seen}))["erythroblasts"]
    assert flag.weight == weight
    assert flag.finding.value == pytest.approx(100 * seen / n)
    assert flag.finding.unit == "/100{WBCs}"


@pytest.mark.parametrize(("seen", "weight"), [(2, ABSENT), (4, NOT_EXCLUDED), (10, PERHAPS), (18, CERTAIN)])
def test_variant_lymphocytes(seen: int, weight: int) -> None:
    # 10 % of 100: 4 reaches to 9.93 %, and 18 begins at 11.0 %.
    weight = ABSENT if seen == 4 else weight
    assert raised(counted(mixed(100, variant_lymphocyte=seen)))["variant_lymphocytes"].weight == weight


@pytest.mark.parametrize(
    ("n", "waiting", "weight"), [(99, 0, CERTAIN), (100, 0, ABSENT), (101, 0, ABSENT), (95, 10, PERHAPS)]
)
def test_too_few_cells(n: int, waiting: int, weight: int) -> None:
    flag = raised(counted({"neutrophil": n}, {"lymphocyte": waiting}))["few_cells"]
    assert flag.weight == weight
    assert flag.finding.value == n
    assert ("review 10 cells" in flag.finding.text) == (waiting > 0)


def test_a_left_shift_needs_the_finer_classes() -> None:
    flag = raised(counted(mixed(100)))["left_shift"]
    assert flag.weight == NOT_JUDGED
    assert "does not tell these cells apart; count the finer classes too" in flag.finding.text
    fine = counted(
        {"segmented_neutrophil": 80, "band_neutrophil": 20},
        finer=FINER,
        run={"settings": {"depth": "fine"}},
    )
    flag = raised(fine)["left_shift"]
    assert (flag.weight, flag.finding.value) == (CERTAIN, 20)


@pytest.mark.parametrize(
    ("wbc", "seen", "weight", "word"),
    [
        (None, 5, ABSENT, "5 %"),
        (None, 7, PERHAPS, "7 %"),
        (None, 14, CERTAIN, "14 %"),
        # 5 % of 50 x 10^9/L are 2.5, at least 0.82; of 100 x 10^9/L 5, at least 1.64.
        ("50", 5, PERHAPS, "2.5 × 10⁹/L"),
        ("100", 5, CERTAIN, "5 × 10⁹/L"),
    ],
)
def test_eosinophilia_by_share_or_by_number(wbc: str | None, seen: int, weight: int, word: str) -> None:
    result = with_sample(
        counted(mixed(300 if wbc is None and seen == 5 else 100, eosinophil=seen)), make_sample(wbc=wbc)
    )
    if wbc is None and seen == 5:
        word = "1.67 %"
    flag = raised(result)["eosinophilia"]
    assert flag.weight == weight
    assert flag.finding.text.startswith("Eosinophilia: Eosinophils")
    assert word in flag.finding.text
    assert "eosinophils_share" not in raised(result), "a rule that only serves others"


@pytest.mark.parametrize(
    ("name", "cells", "wbc", "weight"),
    [
        ("neutrophilia", "neutrophil", "50", CERTAIN),
        ("neutrophilia", "neutrophil", "10", ABSENT),
        ("neutropenia", "neutrophil", "2", CERTAIN),
        ("neutropenia", "neutrophil", "10", ABSENT),
        ("lymphocytosis", "lymphocyte", "40", CERTAIN),
        ("monocytosis", "monocyte", "10", CERTAIN),
    ],
)
def test_rules_of_absolute_counts(name: str, cells: str, wbc: str, weight: int) -> None:
    result = with_sample(counted({cells: 60, "basophil": 40}), make_sample(wbc=wbc))
    assert raised(result)[name].weight == weight
    without = raised(counted({cells: 60}))[name]
    assert without.weight == NOT_JUDGED
    assert "needs the number of leukocytes per litre" in without.finding.text


@pytest.mark.parametrize(
    ("value", "low", "high", "weight"),
    [
        (0.5, 0.2, 0.9, ABSENT),
        (0.8, 0.2, 2.1, NOT_EXCLUDED),
        (1.0, 0.4, 2.4, PERHAPS),
        (3, 1.2, 5, CERTAIN),
        (1, nan, nan, CERTAIN),
    ],
)
def test_rules_of_findings(value: float, low: float, high: float, weight: int) -> None:
    measured = Finding("red_cell_schistocytes", value, low, high, "%", "certain", "", "")
    flag = raised(replace(counted(mixed(100)), findings=(measured,)))["schistocytes"]
    assert flag.weight == weight
    assert flag.finding.unit == "%"


SHARES = {
    "immature_granulocytes": ("immature_granulocyte", 2),
    "erythroblasts": ("erythroblast", 1),
    "left_shift": ("band_neutrophil", 10),
    "eosinophilia": ("eosinophil", 7),
    "basophilia": ("basophil", 2),
    "variant_lymphocytes": ("variant_lymphocyte", 10),
}
ABSOLUTE = {
    "neutrophilia": ("neutrophil", 20.0, 1),
    "neutropenia": ("neutrophil", 1.5, -1),
    "lymphocytosis": ("lymphocyte", 10.0, 1),
    "monocytosis": ("monocyte", 2.0, 1),
    "eosinophilia": ("eosinophil", 1.0, 1),
    "basophilia": ("basophil", 1.0, 1),
}
FINDINGS = {
    "schistocytes": ("red_cell_schistocytes", 1),
    "platelet_clumps": ("platelet_clumps", 1),
    "giant_platelets": ("platelet_giant", 11),
}


def test_each_rule_that_ships_is_in_these_tests() -> None:
    names = {rule.name for rule in load_rules().rules if rule.shown}
    assert names == {*SHARES, *ABSOLUTE, *FINDINGS, "blast", "few_cells", "smudge_cells"}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize(("times", "weight"), [(0.6, ABSENT), (1, PERHAPS), (1.5, CERTAIN)])
def test_each_share_below_at_and_above_its_limit(name: str, times: float, weight: int) -> None:
    """Of 4000 leukocytes: 0.6 times of 1 % are 24, at most 0.9 %; 1.5 times are 60, at least 1.1 %."""
    of_class, limit = SHARES[name]
    seen, apart = round(4000 * limit / 100 * times), of_class == "erythroblast"
    rest = "segmented_neutrophil" if name == "left_shift" else "neutrophil"
    result = counted(
        {of_class: seen, rest: 4000 - (0 if apart else seen)},
        finer=FINER if name == "left_shift" else None,
        run={"settings": {"depth": "fine"}},
        signature=Signature("signed", "A. Reader"),
    )
    flag = raised(result)[name]
    assert flag.weight == weight
    assert f"{limit * times:g}" in flag.finding.text


@pytest.mark.parametrize("name", ABSOLUTE)
@pytest.mark.parametrize(("times", "weight"), [(0.7, ABSENT), (1, NOT_EXCLUDED), (1.4, CERTAIN)])
def test_each_absolute_count_below_at_and_above_its_limit(name: str, times: float, weight: int) -> None:
    """Of 4000 leukocytes 1 % are of the class: 40, which is 0.72 to 1.36 %, so 0.7 and 1.4 times clear the limit."""
    of_class, limit, sign = ABSOLUTE[name]
    seen = 2400 if limit > 1.5 or sign < 0 else 40
    result = counted(
        {of_class: seen, "artefact": 0, "monocyte" if of_class != "monocyte" else "basophil": 4000 - seen}
    )
    wbc = limit * times**sign * 4000 / seen
    flag = raised(with_sample(result, make_sample(wbc=f"{wbc!r} 10^9/L")))[name]
    assert flag.weight == weight
    assert f"{limit * times**sign:.3g} × 10⁹/L" in flag.finding.text


@pytest.mark.parametrize("name", FINDINGS)
@pytest.mark.parametrize(("times", "weight"), [(0.5, ABSENT), (1, PERHAPS), (2, CERTAIN)])
def test_each_finding_below_at_and_above_its_limit(name: str, times: float, weight: int) -> None:
    finding, limit = FINDINGS[name]
    value = limit * times
    measured = Finding(finding, value, 0.8 * value, 1.3 * value, "%", "certain", "", "")
    assert raised(replace(counted(mixed(100)), findings=(measured,)))[name].weight == weight


@pytest.mark.parametrize(("seen", "weight"), [(480, ABSENT), (800, PERHAPS), (1200, CERTAIN)])
def test_smudge_cells_below_at_and_above_their_limit(seen: int, weight: int) -> None:
    result = counted({"smudge_cell": seen, "neutrophil": 4000 - seen})
    result = replace(result, cells=result.cells.assign(review_reason=""))
    found = smudge_finding(result.cells, result.counts)
    assert found.value == pytest.approx(100 * seen / 4000)
    assert raised(replace(result, findings=(found,)))["smudge_cells"].weight == weight


@pytest.mark.parametrize(("waiting", "weight"), [(0, NOT_EXCLUDED), (1, NOT_EXCLUDED), (2, PERHAPS)])
def test_red_cells_that_wait_for_their_shape_make_a_flag_uncertain(waiting: int, weight: int) -> None:
    """Of 200 measured red cells, 1 is 0.5 % and 2 are 1 %, where the rule begins."""
    table = pd.DataFrame(
        {"measured": True, "shape": "normal_red_cell", "needs_review": False}, index=range(200)
    )
    table.loc[: waiting - 1, ["shape", "needs_review"]] = ["schistocyte", True]
    measured = Finding("red_cell_schistocytes", 0, 0, 1.8, "%", "possible", "Schistocytes >= 1 % (2+)", "")
    result = replace(counted(mixed(100)), red_cells=table, findings=(measured,))
    flag = raised(result)["schistocytes"]
    assert flag.weight == weight
    assert ("review 2 cells" in flag.finding.text) == (waiting == 2)
    assert flag.finding.state == "possible"


def test_what_was_not_measured_is_not_judged() -> None:
    flag = raised(counted(mixed(100)))["schistocytes"]
    assert flag.weight == NOT_JUDGED
    assert flag.finding.text == "Schistocytes: not judged: it was not measured."


# cells under review


def test_cells_under_review_make_a_flag_uncertain() -> None:
    """60 % neutrophils became 75 %, because the unsure lymphocytes were left out."""
    rules = load_rules()
    sure = counted({"neutrophil": 94, "immature_granulocyte": 6})
    assert raised(sure, rules)["immature_granulocytes"].weight == CERTAIN
    many = counted({"neutrophil": 94, "immature_granulocyte": 6}, {"lymphocyte": 300})
    flag = raised(many, rules)["immature_granulocytes"]
    assert flag.weight == PERHAPS
    assert flag.finding.text.endswith("review 300 cells.")
    hidden = counted({"neutrophil": 400}, {"immature_granulocyte": 20})
    flag = raised(hidden, rules)["immature_granulocytes"]
    assert flag.weight == PERHAPS, "none is settled, and twenty wait"
    assert "review 20 cells" in flag.finding.text


# the laboratory's own file


def test_a_laboratory_changes_adds_and_takes_away(tmp_path: Path) -> None:
    rules = laboratory(
        tmp_path,
        """
        [counting]
        correct_from = 10
        [[rules]]
        name = "immature_granulocytes"
        above = 5
        [[rules]]
        name = "blast"
        enabled = false
        [[rules]]
        name = "stress"
        text = "Immature granulocytes and erythroblasts"
        all_of = ["immature_granulocytes", "erythroblasts"]
        [[rules]]
        name = "bands_of_neutrophils"
        figure = "percent"
        class = "Bands"
        of = ["neutrophil"]
        at_least = 20
        """,
    )
    assert rules.counting.correct_from == 10
    assert rules.sources == (str(tmp_path / "rules.toml"),)
    result = counted({"neutrophil": 70, "immature_granulocyte": 30, "erythroblast": 20})
    found = raised(result, rules)
    assert "blast" not in found
    assert found["immature_granulocytes"].finding.rule == "Immature granulocytes > 5 %"
    assert found["stress"].weight == CERTAIN
    assert found["stress"].finding.rule == (
        "Immature granulocytes and erythroblasts: Immature granulocytes > 5 % and Erythroblasts >= 1 per 100 leukocytes"
    )
    few = raised(counted({"neutrophil": 1000, "immature_granulocyte": 300}), rules)
    assert few["stress"].weight == ABSENT, "one of the two is absent"
    bands = counted({"segmented_neutrophil": 30, "band_neutrophil": 30, "lymphocyte": 40})
    flag = raised(bands, rules)["bands_of_neutrophils"]
    assert (flag.finding.value, flag.weight) == (50, CERTAIN)


def test_rules_of_rules_stand_on_rules_of_rules(tmp_path: Path) -> None:
    rules = laboratory(
        tmp_path,
        """
        [[rules]]
        name = "deep"
        any_of = ["eosinophilia", "basophilia", "blast"]
        """,
    )
    assert raised(counted(mixed(100, basophil=20)), rules)["deep"].weight == CERTAIN
    assert raised(counted(mixed(500)), rules)["deep"].weight == ABSENT
    # Where nothing can be judged, the rule is still in words and not in the names of the file.
    unjudged = raised(counted({"red_cell": 5}), rules)["deep"]
    assert unjudged.weight == NOT_JUDGED and "Basophils >= 2 %" in unjudged.finding.rule


def test_rules_for_some_people(tmp_path: Path) -> None:
    rules = laboratory(
        tmp_path,
        """
        [[rules]]
        name = "child"
        figure = "percent"
        class = "lymphocyte"
        above = 70
        age_from = 0
        age_to = 6
        """,
    )
    result = counted({"lymphocyte": 95, "neutrophil": 5})
    assert raised(result, rules)["child"].finding.text == "Child: not judged: the age or sex is not known."
    assert raised(with_sample(result, make_sample(age="3")), rules)["child"].weight == CERTAIN
    assert "child" not in raised(with_sample(result, make_sample(age="6")), rules)


RANGES = """
[[ranges]]
figure = "percent"
class = "neutrophil"
low = 40
high = 75
sex = "female"
age_from = 18
source = "made up"
[[ranges]]
figure = "absolute"
class = "neutrophil"
high = 7
[[ranges]]
figure = "wbc"
low = 4
high = 10
"""


@pytest.mark.parametrize(
    ("seen", "weight", "word"),
    [
        (20, CERTAIN, "low"),
        (38, PERHAPS, "perhaps low"),
        (45, NOT_EXCLUDED, "perhaps low"),
        (57, ABSENT, "usual"),
        (70, NOT_EXCLUDED, "perhaps high"),
        (78, PERHAPS, "perhaps high"),
        (95, CERTAIN, "high"),
    ],
)
def test_reference_ranges(tmp_path: Path, seen: int, weight: int, word: str) -> None:
    rules = laboratory(tmp_path, RANGES)
    sample = make_sample("8", age="40", sex="f")
    result = with_sample(counted({"neutrophil": seen, "lymphocyte": 100 - seen}), sample)
    found = raised(result, rules)
    flag = found["range_percent_neutrophil"]
    assert flag.weight == weight
    assert f": {word} (usual 40 to 75)" in flag.finding.text
    assert flag.finding.rule == "Neutrophil: usual 40 to 75 (made up)"
    assert found["range_wbc"].weight == ABSENT
    assert found["range_absolute_neutrophil"].finding.value == pytest.approx(0.08 * seen)
    man = with_sample(result, make_sample("8", age="40", sex="m"))
    assert "range_percent_neutrophil" not in raised(man, rules)
    assert "range_percent_neutrophil" not in raised(with_sample(result, make_sample("8")), rules)


def test_no_reference_range_is_shipped() -> None:
    assert default_rules().ranges == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[rules]]\nname = "x"\nfigure = "percent"\nclass = "blats"\nat_least = 1',
            "no class 'blats'; did you mean 'blast'",
        ),
        ('[[rules]]\nname = "x"\nfigure = "percent"\nclass = "zzz"\nat_least = 1', "no class 'zzz'; add it"),
        (
            '[[rules]]\nname = "a"\nany_of = ["b"]\n[[rules]]\nname = "b"\nall_of = ["a"]',
            r"in a circle \(a -> b -> a\); break it",
        ),
        ('[[rules]]\nname = "a"\nany_of = ["a"]', r"circle \(a -> a\)"),
        ('[[rules]]\nname = "a"\nany_of = ["nothing"]', "refers to 'nothing', which is not there"),
        (
            '[[rules]]\nname = "basophils_share"\nenabled = false',
            "refers to 'basophils_share', which is not enabled",
        ),
        ('[[rules]]\nname = "x"\nfigure = "percent"\nclass = "blast"', "rule 'x': state one limit"),
        (
            '[[rules]]\nname = "x"\nfigure = "percent"\nclass = "blast"\nat_least = 1\nbelow = 3',
            "state one limit",
        ),
        ('[[rules]]\nname = "x"\nany_of = ["blast"]\nat_least = 1', "state no limit"),
        ('[[rules]]\nname = "x"\nfigure = "percent"\nat_least = 1', "state a class"),
        ('[[rules]]\nname = "x"\nfigure = "wbc"\nclass = "blast"\nat_least = 1', "state a class with"),
        ('[[rules]]\nname = "x"\nfigure = "share"\nclass = "blast"\nat_least = 1', "rule 'x', figure"),
        (
            '[[rules]]\nname = "x"\nfigure = "percent"\nclass = "blast"\nat_least = "two"',
            "rule 'x', at_least",
        ),
        ('[[rules]]\nname = "x"\nfigure = "percent"\nclass = "blast"\nat_leats = 2', "rule 'x', at_leats"),
        ('[[rules]]\nname = "X y"\nfigure = "wbc"\nat_least = 2', "lower-case letters"),
        ('[[rules]]\nfigure = "wbc"\nat_least = 2', "rule 1, name"),
        ('[[rules]]\nname = "blast"\n[[rules]]\nname = "blast"', "there are two rules 'blast'"),
        ("[[ranges]]\nfigure = 'wbc'", "range 1: state low, high, or both"),
        ("[[ranges]]\nfigure = 'wbc'\nlow = 10\nhigh = 4", "low is not below high"),
        ("[counting]\ncorrect_from = -1", "correct_from is a number of at least 0"),
        ("[counting]\nfactor = 1", "counting, factor"),
        ("rules = 3", "rules is no list"),
        ("[[rule]]\nname = 'x'", "unknown part 'rule'"),
        ("format_version = 9", "format_version 9"),
        ("[[rules]", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as error:
        laboratory(tmp_path, text)
    assert "\n" not in str(error.value)
    assert "rules.toml" in str(error.value)


def test_a_missing_file_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEUKOCLS_RULES", "/nowhere/rules.toml")
    with pytest.raises(ArgumentError, match="cannot be read: No such file"):
        default_rules()


@given(
    st.dictionaries(
        st.sampled_from(("neutrophil", "lymphocyte", "blast", "erythroblast", "platelet")), st.integers(0, 60)
    ),
    st.dictionaries(st.sampled_from(("neutrophil", "blast", "erythroblast", "artefact")), st.integers(0, 9)),
    st.one_of(st.none(), st.floats(0.1, 200)),
)
def test_any_count_is_judged(settled: dict[str, int], waiting: dict[str, int], wbc: float | None) -> None:
    result = counted(settled, waiting)
    if wbc is not None:
        result = with_sample(result, replace(make_sample(), wbc=wbc))
    judged = judge(result, load_rules())
    assert len({one.name for one in judged.result.findings}) == len(judged.result.findings)
    for flag in judged.flags:
        assert "nan" not in flag.finding.text
        assert "\n" not in flag.finding.text
        low, value, high = flag.finding.low, flag.finding.value, flag.finding.high
        assert not (low > value + 1e-9 or value > high + 1e-9)
    white = white_cells(result, load_rules().counting, SCHEME)
    assert (white is None) == (wbc is None)
    assert flags(judged.result, load_rules(), SCHEME, white, judged.result.findings)


def test_a_finding_that_is_only_possible_makes_no_certain_flag() -> None:
    suspected = Finding(
        "platelet_clumps", 2, nan, nan, "{clumps}", "possible", "four together", "2 ragged outlines: look."
    )
    flag = raised(replace(counted(mixed(100)), findings=(suspected,)))["platelet_clumps"]
    assert flag.weight == PERHAPS
    assert flag.finding.text == "Platelet clumps: 2 clumps, limit >= 1; 2 ragged outlines: look."
    sure = replace(suspected, state="certain")
    assert raised(replace(counted(mixed(100)), findings=(sure,)))["platelet_clumps"].weight == CERTAIN


def test_the_command_lists_and_checks_rules(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from napari_leukocls.cli import cli

    path = tmp_path / "rules.toml"
    path.write_text(RANGES, encoding="utf-8")
    done = CliRunner().invoke(cli, ["rules", str(path)])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert f"{'immature_granulocytes':<24} Immature granulocytes >= 2 %" in lines
    assert f"{'range':<24} percent neutrophil: 40 to 75 (female, 18 on years, made up)" in lines
    assert f"{'correct_from':<24} 5" in lines
    path.write_text('[[rules]]\nname = "a"\nany_of = ["a"]\n', encoding="utf-8")
    done = CliRunner().invoke(cli, ["rules", str(path)])
    assert isinstance(done.exception, ArgumentError)
    assert "in a circle (a -> a)" in str(done.exception)


def test_cells_after_the_goal_of_a_signed_count_change_nothing() -> None:
    signed = Signature("signed", "A. Reader", goal=100)
    result = counted({"neutrophil": 94, "immature_granulocyte": 6}, {"lymphocyte": 300, "blast": 3})
    found = raised(replace(result, signature=signed))
    assert found["immature_granulocytes"].weight == CERTAIN
    assert found["blast"].weight == ABSENT
    assert raised(result)["blast"].weight == PERHAPS
