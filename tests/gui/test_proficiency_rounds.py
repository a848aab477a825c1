"""A proficiency round as a learner does it: slides ticked, cells classified by keys, the result and the certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from acting import (
    answer_file_dialog,
    answer_question,
    click,
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
from napari.layers import Labels
from PIL import Image
from qtpy.QtCore import Qt

from napari_leukocls.results.writer import write_result
from napari_leukocls.review import ReviewStore
from napari_leukocls.review.proficiency import Proficiency
from napari_leukocls.review.proficiency_outcome import coarse
from napari_leukocls.widgets.batch.model import opened as opened_results
from napari_leukocls.widgets.common.session import session_of
from tests.results import make_result

Opens = Callable[[str], Any]


def tick(window: Any, words: str, on: bool = True) -> None:
    """Set the mark of a slide with the keyboard."""
    slides = control(window, "Slides with a reference")
    for row in range(slides.count()):
        item = slides.item(row)
        if words in item.text():
            slides.setCurrentRow(row)
            if (item.checkState() == Qt.CheckState.Checked) is not on:
                press(slides, Qt.Key.Key_Space)
            assert (item.checkState() == Qt.CheckState.Checked) is on
            return
    raise AssertionError(f"there is no slide {words!r}")


def key_of(viewer: Any, window: Any, wrong: bool = False) -> str:
    """The key of the class that the cell shown has, or of another one."""
    session = session_of(viewer)
    page = window.exam
    name = coarse(page._round.questions[page.place].reference, session.scheme)
    entry = session.scheme[name]
    return ("5" if entry.key != "5" else "4") if wrong else entry.key


def test_a_round_from_the_first_cell_to_the_certificate(viewer: Any, dock: Opens, tmp_path: Path) -> None:
    window = dock("Proficiency")
    until(lambda: control(window, "Slides with a reference").count() >= 3, 60)
    # Nothing is begun without a name, and the dock says so.
    write(window, "Learner", "")
    click(window, "Start round")
    until(lambda: "name is missing" in says(window), 30)
    write(window, "Learner", "B. Learner")
    tick(window, "normal")
    tick(window, "left shift")
    pick(window, "Cells asked", "25")
    control(window, "Wanted agreement").setFocus()
    write(window, "Wanted agreement", "80")
    click(window, "Start round")
    until(lambda: is_there(window, "Cell to classify"), 60)

    # The learner sees a cell and no class. Two are called wrongly, and one of these is mended.
    exam = window.exam
    shown = control(window, "Cell to classify")
    assert shown.pixmap() is not None and not shown.pixmap().isNull()
    press(exam, key_of(viewer, window, wrong=True))
    assert exam.place == 1
    press(exam, key_of(viewer, window, wrong=True))
    press(exam, Qt.Key.Key_Left)
    assert exam.place == 1 and "Your answer" in exam.answer.text()
    press(exam, key_of(viewer, window))
    # Interrupted, and continued where it was left.
    click(window, "Interrupt")
    until(lambda: is_there(window, "Rounds so far"), 30)
    record = control(window, "Rounds so far")
    assert record.item(0, 3).text() == "open"
    record.setCurrentCell(0, 0)
    click(window, "Open round")
    until(lambda: is_there(window, "Cell to classify"), 30)
    assert exam.place == 2
    while exam.where.text().split(". ")[1] != "25 of 25 answered.":
        press(exam, key_of(viewer, window))
    assert "finish the round" in exam.answer.text()
    click(window, "Finish round")

    # The result: agreement, kappa with limits, Rümke's limits, the cell that differs beside two others.
    until(lambda: is_there(window, "Save certificate…"), 60)
    outcome = window.outcome
    assert "24 of 25 cells agree with the reference: 96 %" in outcome.text.text()
    assert "kappa" in outcome.text.text() and "95 % limits" in outcome.text.text()
    assert "80 % is reached" in outcome.verdict.text()
    found = {outcome.classes.item(i, 0).text() for i in range(outcome.classes.rowCount())}
    assert "Neutrophil" in found
    assert outcome.counts.rowCount() >= 3 and outcome.counts.item(0, 4).text() in ("yes", "no")
    assert outcome.differing.text() == "1 cell differs from the reference"
    captions = [one.text() for one in outcome.pairs.findChildren(type(outcome.text)) if one.text()]
    assert any(text.startswith("You: ") for text in captions)
    assert any(text.startswith("Reference: ") for text in captions)
    click(window, "Which classes were mixed up")
    assert outcome.matrix.isVisible()
    assert sum(int(text) for text in _texts(outcome.matrix) if text.isdigit()) == 25

    # The certificate, as PDF and as a page.
    for name in ("mine.pdf", "mine.html"):
        answer_file_dialog(tmp_path / name)
        click(window, "Save certificate…")
        until(lambda name=name: name in says(window), 60)
    assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert "B. Learner" in page and "24 of 25 cells agree" in page

    # The record over time has it.
    click(window, "Back to the rounds")
    until(lambda: record.item(0, 3) is not None and record.item(0, 3).text() == "96 %", 30)
    assert Proficiency(session_of(viewer).store).learners() == ["B. Learner"]


def _texts(table: Any) -> list[str]:
    return [
        table.item(row, column).text()
        for row in range(table.rowCount())
        for column in range(table.columnCount())
    ]


def test_cells_without_an_answer_are_asked_about_and_told(viewer: Any, dock: Opens) -> None:
    window = dock("Proficiency")
    until(lambda: control(window, "Slides with a reference").count() >= 3, 60)
    write(window, "Learner", "C. Short")
    pick(window, "Cells asked", "25")
    click(window, "Start round")
    until(lambda: is_there(window, "Cell to classify"), 60)
    click(window, "Finish round")
    until(lambda: "no cell has an answer" in says(window), 30)
    assert window.horizontalScrollBar().maximum() == 0, "names of classes are cut off at the side"
    # With the mouse this time.
    name = session_of(viewer).scheme[
        coarse(window.exam._round.questions[0].reference, session_of(viewer).scheme)
    ]
    click(window, f"Class {name.display}")
    assert says(window) == ""
    asked = answer_question(yes=True)
    click(window, "Finish round")
    until(lambda: is_there(window, "Save certificate…"), 60)
    assert asked and "24 cells have no answer" in asked[0]
    assert "24 of 25 cells were left unanswered" in window.outcome.text.text()
    assert window.outcome.differing.text() == "No cell differs from the reference."


def signed_slide(store: ReviewStore, folder: Path, name: str, seed: int = 0) -> Path:
    """The folder of results of a slide that another person has signed."""
    result = make_result(name, seed=seed, source=str(folder / f"{name}.png"))
    result = replace(result, run={**result.run, "scale": asdict(result.segmentation.scale)})
    Image.fromarray(result.image.pixels).save(folder / f"{name}.png")
    slide = store.add_slide(result)
    for cell in store.offered(slide):
        store.correct(slide, cell, "lymphocyte", "Ada")
    store.sign_off(slide, "Ada")
    return Path(write_result(result, folder / "results")["folder"])


def has_classes(viewer: Any, name: str) -> bool:
    """Whether the classes of a slide are seen, or can be made to be seen by the eye in the list of layers."""
    layers = [layer for layer in viewer.layers if layer.name.startswith(name) and isinstance(layer, Labels)]
    return any("class" in layer.features for layer in layers)


def test_a_slide_that_is_opened_during_a_round_stays_hidden(viewer: Any, dock: Opens, tmp_path: Path) -> None:
    store = session_of(viewer).store
    asked, other = signed_slide(store, tmp_path, "asked"), signed_slide(store, tmp_path, "other", seed=1)
    window = dock("Proficiency")
    until(lambda: control(window, "Slides with a reference").count() >= 10, 60)
    write(window, "Learner", "B. Learner")
    tick(window, "asked: ")
    click(window, "Start round")
    until(lambda: is_there(window, "Cell to classify"), 60)

    # Dropped during the round: the image opens, its cells do not. A slide that is not asked opens with its cells.
    viewer.open(asked, plugin="napari-leukocls")
    assert not has_classes(viewer, "asked")
    until(lambda: "unfinished proficiency round" in says(window, "Message on the slide"), 60)
    assert [layer.name for layer in viewer.layers] == ["asked"]
    viewer.open(other, plugin="napari-leukocls")
    until(lambda: has_classes(viewer, "other"), 60)
    # From the table of a batch it is refused, too.
    batch = dock("Batch")
    batch._model.out = tmp_path / "results"
    batch._open_job.start(lambda token: opened_results(session_of(viewer), asked, token))
    until(lambda: "unfinished proficiency round" in says(batch), 60)

    # Interrupted, the round goes on only while its slide is not open; the learner cannot open it as the reviewer.
    front(window)
    click(window, "Interrupt")
    until(lambda: is_there(window, "Rounds so far"), 30)
    session_of(viewer).set_reviewer("B. Learner")
    viewer.open(asked, plugin="napari-leukocls")
    until(lambda: "unfinished proficiency round" in says(window, "Message on the slide"), 60)
    assert not has_classes(viewer, "asked")
    session_of(viewer).set_reviewer("Ada")
    viewer.open(asked, plugin="napari-leukocls")
    until(lambda: "is open again" in says(window, "Message on the slide"), 60)
    assert has_classes(viewer, "asked")
    control(window, "Rounds so far").setCurrentCell(0, 0)
    # The list that is read meanwhile keeps the choice.
    window._look()
    until(lambda: not window._overview_job.running, 30)
    assert control(window, "Rounds so far").currentRow() == 0
    click(window, "Open round")
    until(lambda: "close it first" in says(window), 30)
    click(window, "Slide details")
    click(window, "Close slide")
    pump(0.3)
    assert not has_classes(viewer, "asked")
    click(window, "Open round")
    until(lambda: is_there(window, "Cell to classify"), 60)

    # Finished, the slide can be seen.
    press(window.exam, key_of(viewer, window))
    answer_question(yes=True)
    click(window, "Finish round")
    until(lambda: is_there(window, "Save certificate…"), 60)
    session_of(viewer).set_reviewer("B. Learner")
    viewer.open(asked, plugin="napari-leukocls")
    until(lambda: has_classes(viewer, "asked"), 60)

    # While it is read blind, the result of the round would show its classes.
    until(lambda: (case := session_of(viewer).case) is not None and case.name == "asked" and case.slides, 30)
    front(window)
    click(window, "Back to the rounds")
    until(lambda: is_there(window, "Rounds so far"), 30)
    session_of(viewer).set_blind(True)
    control(window, "Rounds so far").setCurrentCell(0, 0)
    click(window, "Open round")
    until(lambda: "being read blind in this window" in says(window), 30)
    session_of(viewer).set_blind(False)
    click(window, "Open round")
    until(lambda: is_there(window, "Save certificate…"), 60)
