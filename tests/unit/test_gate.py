"""The gate's rule: what it finds, what it lets pass, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.evaluation.gate import detectable_fall, judge_classes, judge_overall, reason
from napari_leukocls.evaluation.shared_classes import SharedCrops

CLASSES = ("neutrophil", "lymphocyte", "basophil")


def crops_of(*counts: int) -> SharedCrops:
    truth = np.repeat(np.arange(len(counts)), counts)
    names = CLASSES if len(counts) == 3 else tuple(f"class_{k}" for k in range(len(counts)))
    return SharedCrops(names, np.arange(len(truth)), truth)


def losing(shared: SharedCrops, said: np.ndarray, place: int, n: int) -> np.ndarray:
    """Predictions with `n` right cells of a class made wrong."""
    worse = said.copy()
    rows = np.flatnonzero((shared.truth == place) & (said == place))[:n]
    worse[rows] = (place + 1) % len(shared.classes)
    return worse


def verdicts(shared: SharedCrops, current: np.ndarray, new: np.ndarray) -> dict[str, str]:
    return {row.name: row.verdict for row in judge_classes(shared, current, new)}


def test_a_fall_in_the_rarest_class_alone_is_found() -> None:
    shared = crops_of(200, 100, 30)
    current = losing(shared, shared.truth, 0, 5)
    new = losing(shared, current, 2, 8)
    assert verdicts(shared, current, new) == {"neutrophil": "held", "lymphocyte": "held", "basophil": "fell"}
    overall = judge_overall(shared, current, new)
    text = reason("mine", judge_classes(shared, current, new), overall)
    assert text.startswith("not promoted: 'mine' is worse in basophil: recall 100 % to 73 % of 30 cells; ")


@pytest.mark.parametrize("counts", [(200, 100, 30), (5, 4, 3), (1, 1, 0)])
def test_the_same_and_the_better_model_pass(counts: tuple[int, int, int]) -> None:
    shared = crops_of(*counts)
    poor = losing(shared, shared.truth, 0, counts[0] // 2)
    for current, new in ((poor, poor), (poor, shared.truth), (shared.truth, shared.truth)):
        assert "fell" not in verdicts(shared, current, new).values()
        assert not judge_overall(shared, current, new)["fell"]


def test_few_cells_are_said_and_get_less_benefit_of_the_doubt() -> None:
    shared = crops_of(100, 8, 2)
    rows = {row.name: row for row in judge_classes(shared, shared.truth, shared.truth)}
    assert [rows[name].verdict for name in CLASSES] == ["held", "not judged", "not judged"]
    assert "points or more would be detected" in rows["lymphocyte"].why
    assert rows["basophil"].detectable_fall == 1 and "no fall would be detected" in rows["basophil"].why
    assert verdicts(shared, shared.truth, losing(shared, shared.truth, 1, 2))["lymphocyte"] == "not judged"
    assert verdicts(shared, shared.truth, losing(shared, shared.truth, 1, 3))["lymphocyte"] == "fell"
    # The same three of a hundred are no more than chance.
    assert verdicts(shared, shared.truth, losing(shared, shared.truth, 0, 3))["neutrophil"] == "held"
    overall = judge_overall(shared, shared.truth, shared.truth)
    text = reason("mine", list(rows.values()), overall)
    assert text.endswith("Too few cells to judge: lymphocyte (8), basophil (2).")


def test_a_small_fall_of_many_cells_has_to_hold_against_all_classes() -> None:
    """Six of 1,000 are a small fall: alone it is significant, among eight classes it is not."""
    shared = crops_of(*[1000] * 8)
    six = judge_classes(shared, shared.truth, losing(shared, shared.truth, 3, 6))[3]
    assert six.p < 0.05 < six.p_holm and six.verdict == "held"
    nine = judge_classes(shared, shared.truth, losing(shared, shared.truth, 3, 9))[3]
    assert nine.p_holm < 0.05 and nine.verdict == "fell"


def test_a_class_that_the_new_model_does_not_know_fell_even_without_cells() -> None:
    shared = crops_of(50, 50, 0)
    rows = judge_classes(shared, shared.truth, shared.truth, unknown=["basophil"])
    assert rows[2].verdict == "fell"
    text = reason("mine", rows, judge_overall(shared, shared.truth, shared.truth))
    assert text == "not promoted: 'mine' is worse in basophil: the new model does not know this class."


def test_a_fall_spread_over_the_classes_is_found_overall() -> None:
    shared = crops_of(*[100] * 8)
    new = shared.truth
    for place in range(8):
        new = losing(shared, new, place, 2)
    rows = judge_classes(shared, shared.truth, new)
    overall = judge_overall(shared, shared.truth, new)
    assert all(row.verdict == "held" for row in rows) and overall["fell"]
    assert reason("mine", rows, overall).startswith(
        "not promoted: overall accuracy falls from 100.0 % to 98.0 %"
    )


def test_what_cells_show_is_what_simulation_says() -> None:
    rng = np.random.default_rng(0)
    for n in (27, 100):
        fall = detectable_fall(n)
        lost = rng.binomial(n, fall, 20_000)
        assert np.mean(lost >= 4) == pytest.approx(0.8, abs=0.01)
    assert detectable_fall(27) < 0.2 < detectable_fall(25)
    assert [detectable_fall(n) for n in (0, 3)] == [1, 1]


def refusals(recall_current: float, recall_new: list[float], n: list[int], runs: int = 60) -> float:
    """Share of runs in which the gate says no to models that err independently."""
    shared, rng, no = crops_of(*n), np.random.default_rng(1), 0
    for _ in range(runs):
        said = []
        for recalls in ([recall_current] * len(n), recall_new):
            right = rng.random(len(shared.truth)) < np.array(recalls)[shared.truth]
            said.append(np.where(right, shared.truth, (shared.truth + 1) % len(n)))
        rows = judge_classes(shared, *said)
        no += any(row.verdict == "fell" for row in rows) or judge_overall(shared, *said)["fell"]
    return no / runs


def test_models_that_are_alike_mostly_pass_and_worse_ones_mostly_do_not() -> None:
    assert refusals(0.97, [0.97] * 8, [100] * 8) < 0.25
    assert refusals(0.97, [0.97] * 7 + [0.72], [100] * 7 + [30]) > 0.6
    assert refusals(0.97, [0.97] * 7 + [0.2], [100] * 7 + [12]) > 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40))
def test_losing_more_cells_never_helps(n: int, lost: int, gained: int) -> None:
    shared = crops_of(100, 100, n)
    gained = min(gained, n)
    current = losing(shared, shared.truth, 2, gained)
    found = [
        verdicts(shared, current, _after(shared, current, more))["basophil"] for more in (lost, lost + 3)
    ]
    assert not (found[0] == "fell" and found[1] != "fell")


def _after(shared: SharedCrops, current: np.ndarray, lost: int) -> np.ndarray:
    """The new model has all right but `lost` of those that the current one has right."""
    new = shared.truth.copy()
    rows = np.flatnonzero((shared.truth == 2) & (current == 2))[:lost]
    new[rows] = 0
    return new


def test_too_few_cells_of_every_class_are_reported() -> None:
    shared = crops_of(2, 3, 2)
    overall = judge_overall(shared, shared.truth, shared.truth)
    text = reason("mine", judge_classes(shared, shared.truth, shared.truth), overall)
    assert text.startswith("promoted: no class has enough cells to be judged, and")
    assert "0 of" not in text
