"""The Train dock as a technician uses it: from a correction to the promoted model, with real events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from acting import (
    answer_file_dialog,
    click,
    click_tile,
    control,
    front,
    is_there,
    pick,
    press,
    pump,
    says,
    until,
    write,
)
from PIL import Image
from qtpy.QtWidgets import QLabel
from smears import labelled_crops

from napari_leukocls.models.registry import active_classifier, find_model
from napari_leukocls.progress import Progress
from napari_leukocls.widgets.train.dock import TrainDock
from napari_leukocls.widgets.train.results_model import Results

Opens = Callable[[str], Any]


def crops_and_an_artefact(folder: Path) -> Path:
    """Crops of the bundled smears in folders after their truth, and one artefact."""
    labelled_crops(folder)
    (folder / "artefact").mkdir()
    Image.fromarray(np.full((80, 80, 3), (120, 60, 160), np.uint8)).save(folder / "artefact" / "one.png")
    return folder


def words(window: Any) -> str:
    """All that the labels of a dock say."""
    return "\n".join(one.text() for one in window.findChildren(QLabel) if one.isVisible())


@pytest.mark.timeout(1800)
def test_from_a_correction_to_the_promoted_model(
    viewer: Any, smear: Any, dock: Opens, tmp_path: Path
) -> None:
    analysis = dock("Analyse")
    click(analysis, "Run analysis")
    until(lambda: says(analysis).startswith("Done"), 300)
    review = dock("Review")
    front(review)
    write(review, "Reviewer", "A. Reader")
    pick(review, "Show", "All leukocytes")
    click_tile(control(review, "Gallery of cells"), 0)
    press(control(review, "Gallery of cells"), "4")

    # The correction is offered and ticked, and data is checked when it is added, without a button.
    window = dock("Train")
    front(window)
    until(lambda: "1 corrected" in _slides(window), 60)
    answer_file_dialog(crops_and_an_artefact(tmp_path / "crops"))
    click(window, "Add folder…")
    until(lambda: is_there(window, "Split of the crops"), 200)
    assert "Left out, since there are too few crops: Artefact (1)" in words(window)
    assert "--" not in words(window)
    pick(window, "Recipe", "adapt to my laboratory")
    write(window, "Name", "ours")
    seen: set[str] = set()
    click(window, "Start training")
    until(lambda: seen.add(window.state.text()) or is_there(window, "Promote") or says(window), 600)
    assert is_there(window, "Promote"), says(window)
    # Steps with their numbers went by.
    assert any(text.startswith("Step ") and " of 5: " in text for text in seen), seen

    # The verdict is in words; what is lost or carried over is named; the matrices can be read.
    page = window.results
    text = page.verdict.text()
    assert any(head in text for head in ("Better.", "As good.", "Cannot tell: too few cells.")), text
    assert "morphology in words, finer classes" in page.lost.text()
    click(window, "Confusion matrices")
    pump(0.3)
    matrix = page.matrices[0]
    assert matrix.isVisible() and matrix.rowCount() >= 3
    assert matrix.item(0, 0).toolTip().startswith(matrix.item(0, 0).text().replace("·", "0") + " of ")

    # Promoted by the comparison that was just made: nothing is compared again.
    decision = window._results.decision
    click(window, "Promote")
    until(lambda: "is now the active model" in says(window), 60)
    assert active_classifier() == "ours"
    assert '"promote": true' in (find_model("ours").path / "promotion.json").read_text(encoding="utf-8")
    assert decision.current.name == "default"
    front(analysis)
    assert control(analysis, "Classes by").currentText() == "ours (active)"


def _slides(window: TrainDock) -> str:
    slides = window.data.slides
    return " ".join(slides.item(i).text() for i in range(slides.count()))


@pytest.mark.timeout(1500)
def test_a_training_that_is_stopped_says_what_it_has_kept(viewer: Any, dock: Opens, tmp_path: Path) -> None:
    # A low window: the form is higher, and what Start begins is below its edge.
    viewer.window.resize(1200, 600)
    window = dock("Train")
    window.data.add(str(crops_and_an_artefact(tmp_path / "crops")))
    pick(window, "Recipe", "fine-tune all layers")
    write(window, "Name", "short")
    write(window, "Epochs", "50")
    click(window, "Start training")
    until(lambda: window.bar.isVisible(), 100)
    for part in (window.stop, window.bar, window.state):
        until(lambda part=part: part.visibleRegion().boundingRect() == part.rect(), 5)
    until(lambda: "epoch 2 of 50" in window.state.text(), 400)
    assert "about" in window.state.text() and "left" in window.state.text()
    click(window, "Stop, keep the best")
    until(lambda: says(window), 300)
    assert says(window).startswith("Stopped after epoch ") and "Kept: the model of epoch" in says(window)
    until(lambda: is_there(window, "Promote"), 300)
    # The layers below have changed, and with them the features: nothing is carried over.
    assert (
        "you lose: morphology in words, finer classes, the checks of the heatmaps"
        in window.results.lost.text()
    )


def test_the_checks_of_the_heatmaps_are_made_anew_on_demand(
    viewer: Any, dock: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = dock("Train")
    found = Results(tmp_path, tmp_path, None, (), (), lost=("the checks of the heatmaps",), unchecked=True)

    def checks(_session: Any, given: Results, _device: str, _token: Any) -> Iterator[Any]:
        """The work itself is tested without a window."""
        yield Progress("check", 1, 2)
        return replace(given, lost=(), unchecked=False)

    monkeypatch.setattr("napari_leukocls.widgets.train.dock.iter_recheck_heatmaps", checks)
    window._run = SimpleNamespace(config=SimpleNamespace(device="cpu"), running=False)
    window._on_results(found)
    assert "you lose: the checks of the heatmaps" in window.results.lost.text()
    # Without a comparison there is nothing to check on.
    assert not is_there(window, "Check its heatmaps")
    window.results.recheck_button.show()
    click(window, "Check its heatmaps")
    until(lambda: "you lose" not in window.results.lost.text(), 60)
    assert not is_there(window, "Check its heatmaps")
