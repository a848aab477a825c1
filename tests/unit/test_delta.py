"""The delta check: a count against the last one of the same patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from napari_leukocls.measurement.comparison import repeat_limits
from napari_leukocls.measurement.delta import EarlierCount, delta_findings
from napari_leukocls.measurement.findings import read_findings
from napari_leukocls.measurement.judgement import earlier_count, judge, with_earlier
from napari_leukocls.results.writer import write_result
from napari_leukocls.scheme import default_scheme
from tests.results import counted, make_result

SCHEME = default_scheme()
BEFORE = counted({"neutrophil": 60, "lymphocyte": 40})


def test_a_change_is_told_from_chance() -> None:
    now = counted({"neutrophil": 90, "lymphocyte": 10})
    found = {
        one.name: one
        for one in delta_findings(now.counts, EarlierCount(BEFORE.counts, "2026-11-01", "S0"), SCHEME)
    }
    flag = found["delta_neutrophil"]
    assert (flag.value, flag.state) == (90, "certain")
    assert (flag.low, flag.high) == repeat_limits(60, 100, 100)
    assert flag.text.startswith("Neutrophil: 90 % after 60 % since S0 of 2026-11-01: changed (by chance ")
    # Rümke's table: 60 of 100 is followed by 46 to 73 of 100 in 95 of 100 repeats.
    assert (flag.low, flag.high) == pytest.approx((45, 74), abs=1.5)
    assert found["delta_monocyte"].state == "absent"


@pytest.mark.parametrize(
    ("seen", "state"), [(60, "absent"), (70, "absent"), (75, "possible"), (80, "certain")]
)
def test_the_limits_of_chance(seen: int, state: str) -> None:
    # Fisher's test of 60 against 75 of 100 has p = 0.034; with Holm for all classes it is not significant.
    now = counted({"neutrophil": seen, "lymphocyte": 100 - seen - 5, "monocyte": 5})
    before = counted({"neutrophil": 60, "lymphocyte": 35, "monocyte": 5})
    found = {one.name: one.state for one in delta_findings(now.counts, EarlierCount(before.counts), SCHEME)}
    assert found["delta_neutrophil"] == state


def test_a_count_without_leukocytes_is_not_compared() -> None:
    assert delta_findings(counted({"red_cell": 5}).counts, EarlierCount(BEFORE.counts), SCHEME) == ()
    assert delta_findings(BEFORE.counts, EarlierCount(counted({}).counts), SCHEME) == ()


def test_a_class_that_the_laboratory_has_given_up_is_left_out() -> None:
    old = pd.DataFrame({"class": ["neutrophil", "gone"], "count": [50, 50], "in_differential": [True, True]})
    assert len(delta_findings(BEFORE.counts, EarlierCount(old), SCHEME)) > 3


def test_the_last_count_stays_with_the_result(tmp_path: Path) -> None:
    result = with_earlier(make_result(), EarlierCount(BEFORE.counts, "2026-11-01", "S0"))
    back = earlier_count(result)
    assert back is not None
    assert (back.when, back.slide_id) == ("2026-11-01", "S0")
    judged = judge(result)
    assert {one.name for one in judged.delta} >= {"delta_neutrophil", "delta_lymphocyte"}
    assert "delta_neutrophil" in {one.name for one in judged.result.findings}
    again = judge(judged.result)
    assert again.result.findings == judged.result.findings or repr(again.result.findings) == repr(
        judged.result.findings
    )
    assert with_earlier(result, None).run == make_result().run
    folder = write_result(judged.result, tmp_path)["folder"]
    assert "delta_neutrophil" in {one.name for one in read_findings(folder)}
