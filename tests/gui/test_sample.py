"""Counts of the analyser typed into the Review dock: flags, a refusal, and the exported report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acting import click, control, until, write

from napari_leukocls.results.writer import write_result

Opens = Callable[[str], Any]


@pytest.fixture
def review(viewer: Any, smear: Any, dock: Opens) -> Any:
    """The Review dock of an analysed smear."""
    analysis = dock("Analyse")
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 120)
    opened = dock("Review")
    write(opened, "Reviewer", "A. Reader")
    return opened


def test_a_wbc_gives_counts_per_litre_and_what_is_unclear_is_asked(review: Any, tmp_path: Path) -> None:
    click(review, "Sample and flags")
    group = review.sample
    write(review, "WBC", "7500")
    assert "has no unit" in group.message.text()
    assert group._case.sample.wbc is None
    write(review, "WBC", "7500 /uL")
    write(review, "Patient number", "P-1")
    assert group.message.text() == ""
    assert "Leukocytes, given: 7.5" in group.said.text()
    assert "Uncertain: " in group.said.text() or "Abnormal: " in group.said.text()
    assert control(review, "WBC").text() == "7500 /uL"
    (result,) = group._case.for_export("S1")
    folder = write_result(result, tmp_path)["folder"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "Leukocytes, given: 7.5 × 10⁹/L." in report
    assert "Patient number P-1" in report
    assert "absolute" in (folder / "counts.csv").read_text(encoding="utf-8").splitlines()[0]
