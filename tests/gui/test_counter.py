"""The counter of the Review dock: keys, sound, goal, undo, and the program's count beside one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from acting import click, control, pick, press, pump, write
from qtpy.QtCore import Qt
from test_review_page import click_cell, slide  # noqa: F401

from napari_leukocls.widgets.common.session import session_of
from napari_leukocls.widgets.common.slide_model import SlideModel

Opens = Callable[[str], Any]
BACKSPACE = Qt.Key.Key_Backspace


@pytest.fixture
def sounds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sounds that are played."""
    from qtpy.QtWidgets import QApplication

    from napari_leukocls.widgets.counter.sound import Sounds

    played: list[str] = []
    monkeypatch.setattr(Sounds, "_load", lambda _: {})
    monkeypatch.setattr(QApplication, "beep", lambda *_: played.append("beep"))
    return played


def test_cells_are_counted_at_the_microscope_without_a_slide(
    viewer: Any, dock: Opens, sounds: list[str]
) -> None:
    review = dock("Review")
    click(review, "Counter")
    press(review.counter, "1")
    assert "Enter your name" in review.message.text()
    write(review, "Reviewer", "A. Reader")
    for key in "1114527":
        press(review.counter, key)
    panel = review.counter
    assert panel.total.text() == "6 of 100" and panel.bar.value() == 6
    assert (
        control(review, "Count Neutrophil").count == 3
        and control(review, "Count Erythroblast (nRBC)").count == 1
    )
    # Each key is heard; Backspace takes the last one back; a click on a key counts, too.
    assert len(sounds) >= 7
    press(review.counter, BACKSPACE)
    press(review.counter, BACKSPACE)
    assert "Taken back: Eosinophil." in review.message.text() and panel.total.text() == "5 of 100"
    click(review, "Count Basophil")
    assert panel.total.text() == "6 of 100"
    click(review, "Sound")
    heard = len(sounds)
    press(review.counter, "1")
    assert len(sounds) == heard and panel.sounds.last == "count"
    click(review, "Finish and compare")
    assert "There is no count of the program" in review.message.text()


def test_the_goal_is_signalled_and_nothing_is_counted_beyond_it(
    viewer: Any, dock: Opens, sounds: list[str]
) -> None:
    session_of(viewer).set_reviewer("A. Reader")
    review = dock("Review")
    click(review, "Counter")
    for _ in range(100):
        review.counter.press("neutrophil")
    assert review.counter.sounds.last == "goal" and "100 leukocytes are counted" in review.message.text()
    press(review.counter, "4")
    assert review.counter.sounds.last == "refused" and review.counter.total.text() == "100 of 100"
    pick(review, "Count to", "200")
    press(review.counter, "4")
    assert review.counter.total.text() == "101 of 200"


def test_a_count_of_the_field_stands_beside_the_programs(
    viewer: Any,
    slide: SlideModel,  # noqa: F811
    dock: Opens,
    sounds: list[str],
) -> None:
    review = dock("Review")
    labels = viewer.layers["field cells"]
    click(review, "Counter")
    # While a person counts, the program's classes are hidden, on the smear, too.
    assert not labels.visible and session_of(viewer).blind
    names = slide.cells.set_index("cell_id")["class"]
    chosen = [int(cell) for cell in names.index[names.isin(["neutrophil", "lymphocyte"])]][:6]
    native = viewer.window._qt_viewer.canvas.native
    for cell in chosen:
        click_cell(viewer, slide, cell)
        press(native, "1" if names[cell] == "neutrophil" else "5")
    assert review.counter.total.text() == "6 of 100" and labels.mode == "pan_zoom"
    assert len(viewer.layers["Counted cells"].data) == 6
    # The same cell again changes its class, and counts once.
    click_cell(viewer, slide, chosen[0])
    press(native, "1")
    assert review.counter.total.text() == "6 of 100"
    # Nothing of it is a correction.
    assert not session_of(viewer).store.corrections(slide.key)
    # Closed and opened again, the count goes on.
    click(review, "Gallery")
    assert labels.visible and "Counted cells" not in viewer.layers
    click(review, "Counter")
    assert "goes on: 6 leukocytes" in review.message.text()
    click(review, "Finish and compare")
    assert labels.visible
    table = control(review, "Your count beside the program's")
    rows = {
        table.item(i, 0).text(): [table.item(i, k).text() for k in range(6)] for i in range(table.rowCount())
    }
    neutrophils = sum(names[cell] == "neutrophil" for cell in chosen)
    assert rows["Neutrophil"][1] == str(neutrophils) and "–" in rows["Neutrophil"][4]
    assert f"you and the program agree on {neutrophils}" in review.counter.agreement.text()
    click(review, "New count")
    pump(0.1)
    assert review.counter.total.text() == "0 of 100" and not labels.visible
