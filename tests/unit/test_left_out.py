"""Temperature and thresholds that are fitted on laboratories which a network has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts import left_out
from scripts.left_out import HOME, Predicted


def laboratory(count: int, strange: float, seed: int) -> Predicted:
    """Cells of which a share is strange: a high score, and a class that is sure and often wrong."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, count)
    odd = random.random(count) < strange
    wrong = np.where(odd, random.random(count) < 0.5, random.random(count) < 0.002)
    guess = np.where(wrong, (truth + 1) % 4, truth)
    logits = random.normal(0, 0.5, (count, 4))
    logits[np.arange(count), guess] += np.where(odd, 4, 9)
    return Predicted(logits, np.where(odd, 4, 0) + random.normal(0, 0.5, count), truth)


@pytest.fixture(scope="module")
def laboratories() -> dict[str, Predicted]:
    return {
        HOME: laboratory(3000, 0.003, 0),
        "one": laboratory(400, 0.15, 1),
        "two": laboratory(300, 0.2, 2),
        "three": laboratory(200, 0.12, 3),
    }


def test_left_out_laboratories_are_calibrated_and_home_stays_so(laboratories):
    rows = left_out.nested(laboratories)
    assert set(rows) == {"one", "two", "three"}
    for row in rows.values():
        assert row["ece"] < row["home_only"]["ece"]
        assert row["accuracy_not_reviewed"] >= 0.96 and row["accuracy"] == row["home_only"]["accuracy"]
    found = left_out.fit(laboratories)
    home = found.figures(laboratories[HOME])
    assert home["ece"] < 0.01 and home["review_rate"] < 0.05
    assert home["accuracy_ci95"][0] < home["accuracy"] < home["accuracy_ci95"][1]


def test_few_known_cells_are_reviewed_and_most_strange_ones(laboratories):
    """A laboratory whose known cells all look strange to a network does not send all of them to review."""
    random = np.random.default_rng(5)
    seen = {HOME: laboratories[HOME]}
    for place, name in enumerate(("one", "two", "three")):
        known = laboratory(400, 0.05, place)
        far = Predicted(random.normal(0, 1, (60, 4)) + [9, 0, 0, 0], random.normal(9, 1, 60), np.full(60, -1))
        seen[name] = replace(known, score=known.score + 3.5, strange=far)
    found = left_out.fit(seen)
    before = replace(found, unknown_threshold=float(np.quantile(seen[HOME].score, 0.99)))
    for name in ("one", "two", "three"):
        figures = found.figures(seen[name])
        assert figures["review_rate"] <= left_out.MOST_REVIEW < before.figures(seen[name])["review_rate"]
        assert figures["strange_reviewed"] > 0.95 and figures["strange_auroc"] > 0.95
        assert figures["accuracy_not_reviewed"] > 0.95


def test_without_left_out_laboratories_the_temperature_is_one_for_all(laboratories):
    found = left_out.fit({HOME: laboratories[HOME]})
    assert found.softening is None and found.review_threshold >= 0.5


def test_the_table_has_a_row_for_each_laboratory(laboratories):
    lines = left_out.as_table(left_out.nested(laboratories)).splitlines()
    assert (
        len(lines) == 5
        and lines[2].startswith("| one | 400 |")
        and lines[0].count("|") == lines[2].count("|")
    )
