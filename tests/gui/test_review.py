"""The Review dock, as a person uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from acting import click, click_tile, control, drop, front, pick, press, pump, until, write
from qtpy.QtCore import Qt

Opens = Callable[[str], Any]


@pytest.fixture
def review(viewer: Any, smear: Any, dock: Opens) -> Any:
    """The Review dock of an analysed smear, with a name in it."""
    analysis = dock("Analyse")
    # Every leukocyte waits for review, however sure the model is that ships.
    write(analysis, "Least probability", "100")
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 120)
    opened = dock("Review")
    write(opened, "Reviewer", "A. Reader")
    return opened


def groups(window: Any) -> dict[str, int]:
    """Number of cells in each group, by the list's words."""
    box = control(window, "Show")
    texts = [box.itemText(i).rpartition(" (") for i in range(box.count())]
    return {name: int(count.rstrip(")")) for name, _, count in texts}


def test_after_the_name_the_keys_are_for_the_cells(viewer: Any, review: Any) -> None:
    control(review, "Reviewer").setFocus()
    gallery = control(review, "Gallery of cells")
    write(review, "Reviewer", "B. Reader")
    pressed = review.window().focusWidget()
    assert pressed is gallery
    press(pressed, "5")
    assert control(review, "Reviewer").text() == "B. Reader"
    assert "Select one or more" in review.message.text()
    click_tile(gallery, 0)
    first = gallery.selected_ids()[0]
    press(gallery, "5")
    assert viewer.layers["smear cells"].features["class"][first] == "monocyte"


def test_ctrl_and_the_arrows_go_from_class_to_class_in_the_gallery(review: Any) -> None:
    gallery = control(review, "Gallery of cells")
    # A cell that is settled has left those to review for the section of its class.
    click_tile(gallery, 0)
    press(gallery, "5")
    first, second = gallery.cells.sections[:2]
    click_tile(gallery, 0)
    press(gallery, Qt.Key.Key_Down, Qt.KeyboardModifier.ControlModifier)
    assert gallery.selected_ids() == [second.ids[0]] and second.title in review.message.text()
    press(gallery, Qt.Key.Key_Up, Qt.KeyboardModifier.ControlModifier)
    assert gallery.selected_ids() == [first.ids[0]]


def test_cells_are_corrected_with_keys_buttons_and_drags_and_undone(viewer: Any, review: Any) -> None:
    gallery = control(review, "Gallery of cells")
    waiting = groups(review)["To review"]
    assert waiting > 2 and gallery.model().rowCount() == groups(review)["All leukocytes"]
    assert gallery.heading.section.title == "To review" and gallery.heading.section.figures == str(waiting)

    # A click brings the canvas to the cell and rings it; Back returns.
    before = tuple(viewer.scene.camera.center)
    click_tile(gallery, 0)
    first = gallery.selected_ids()[0]
    cells = viewer.layers["smear cells"]
    ring = viewer.layers["Selected cell"].data[0]
    assert cells.data[tuple(ring.round().astype(int))] == first
    assert tuple(viewer.scene.camera.center) != before
    click(review, "Back")
    assert tuple(viewer.scene.camera.center) == before

    # A key of a class: the cell is settled, coloured, and the next one is offered.
    click_tile(gallery, 0)
    press(gallery, "5")
    assert cells.features["class"][first] == cells.features["corrected"][first] == "monocyte"
    assert groups(review)["To review"] == waiting - 1
    assert gallery.selected_ids() and gallery.selected_ids()[0] != first
    assert "Saved" in review.message.text()

    # Return confirms, a button gives its class, a drop on a button too.
    second = gallery.selected_ids()[0]
    shown = cells.features["class"][second]
    press(gallery, Qt.Key.Key_Return)
    assert cells.features["corrected"][second] == shown
    third = gallery.selected_ids()[0]
    click(review, "Class Artefact")
    assert cells.features["class"][third] == "artefact"
    pick(review, "Show", "All leukocytes")
    click_tile(gallery, 0)
    click_tile(gallery, 1, Qt.KeyboardModifier.ControlModifier)
    two = gallery.selected_ids()
    assert len(two) == 2
    data = gallery.model().mimeData(gallery.selectionModel().selectedIndexes())
    drop(data, control(review, "Class Lymphocyte"))
    assert list(cells.features["class"][two]) == ["lymphocyte"] * 2

    # Undo takes both back, redo puts them again, and undo goes on beyond.
    press(gallery, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert "lymphocyte" not in list(cells.features["corrected"][two])
    click(review, "Redo")
    assert list(cells.features["class"][two]) == ["lymphocyte"] * 2
    click(review, "Undo")
    click(review, "Undo")
    assert cells.features["corrected"][third] is None

    # A cell that is clicked on the canvas is chosen in the gallery.
    from napari_leukocls.widgets.common.session import session_of

    session_of(viewer).current.select((first,), "canvas")
    pump()
    assert gallery.selected_ids() == [first]


def test_corrections_come_back_and_a_second_reader_is_blind(
    viewer: Any, smear: Any, dock: Opens, review: Any
) -> None:
    gallery = control(review, "Gallery of cells")
    pick(review, "Show", "To review")
    n = gallery.model().rowCount()
    click(review, "Second read and signature")
    click(review, "Sign the slide")
    assert "need review" in review.message.text()
    for _ in range(n):
        click_tile(gallery, 0)
        press(gallery, "4")
    assert gallery.model().rowCount() == 0
    assert "Nothing is left to review" in review.progress.text()

    # The slide opened anew has its corrections.
    again = viewer.add_image(smear.data.copy(), name="the same", scale=smear.scale, units=("um", "um"))
    analysis = dock("Analyse")
    pick(analysis, "Smear", "the same")
    click(analysis, "Run analysis")
    until(lambda: "earlier correction" in analysis.message.text(), 120)
    assert (viewer.layers["the same cells"].features["corrected"] == "lymphocyte").sum() == n
    assert again in viewer.layers

    # The second reader sees no class, in the gallery or on the canvas, and may not be the first.
    write(review, "Second reader", "A. Reader")
    click(review, "Start blind read")
    assert "another person" in review.message.text()
    write(review, "Second reader", "B. Second")
    click(review, "Start blind read")
    assert not viewer.layers["the same cells"].visible
    left = gallery.model().rowCount()
    assert {gallery.cells.tile(cell).caption for cell in gallery.cells.ids} == {""}
    click(review, "Finish read")
    assert "left to read" in review.message.text()
    for place in range(left):
        click_tile(gallery, 0)
        press(gallery, "4" if place else "1")
    click(review, "Finish read")
    assert f"of {left} cells" in review.message.text()
    assert viewer.layers["the same cells"].visible
    assert groups(review)["Readers disagree"] >= 1
    click(review, "Sign the slide")
    assert "Signed by A. Reader" in review.signed.text()


def test_a_goal_ends_the_offer_and_a_name_is_asked_for(viewer: Any, smear: Any, dock: Opens) -> None:
    analysis = dock("Analyse")
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 120)
    window = dock("Review")
    gallery = control(window, "Gallery of cells")
    click_tile(gallery, 0)
    press(gallery, "1")
    assert "Enter your name" in window.message.text()
    write(window, "Reviewer", "A. Reader")
    pick(window, "Count", "100")
    assert "short of 100" in window.progress.text()


def test_a_full_disk_is_said_and_nothing_is_pretended(
    viewer: Any, review: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_leukocls.errors import OutputError
    from napari_leukocls.review import ReviewStore

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("the disk is full: make room, then do it again.")

    monkeypatch.setattr(ReviewStore, "correct", full)
    gallery = control(review, "Gallery of cells")
    click_tile(gallery, 0)
    cell = gallery.selected_ids()[0]
    press(gallery, "5")
    assert "disk is full" in review.message.text()
    assert viewer.layers["smear cells"].features["corrected"][cell] is None


def test_finer_classes_are_shown_and_given_and_both_docks_agree(
    viewer: Any, review: Any, dock: Opens
) -> None:
    analysis = dock("Analyse")
    table = control(analysis, "Counts of the classes")
    plain = groups(review)
    assert not any(name.startswith("–") for name in plain)
    pick(review, "Classes shown", "finer classes too")
    pump(0.3)
    assert control(analysis, "Classes shown").currentText() == "finer classes too"
    fine = groups(review)
    whole, parts = "Neutrophil", [name for name in fine if name.startswith("–") and "eutrophil" in name]
    assert fine[whole] == plain[whole] == sum(fine[name] for name in parts) > 0
    front(analysis)
    pump(0.2)
    assert "– Band neutrophil" in [table.model().index(i, 0).data() for i in range(table.model().rowCount())]
    assert analysis.results.fine_note.text().startswith("Left shift")

    # A key names the finer class; it counts in both rows, and is kept when the depth changes.
    front(review)
    gallery = control(review, "Gallery of cells")
    pick(review, "Show", whole)
    click_tile(gallery, 0)
    cell = gallery.selected_ids()[0]
    press(gallery, "d")
    cells = viewer.layers["smear cells"]
    assert cells.features["finer"][cell] == cells.features["corrected"][cell] == "band_neutrophil"
    assert "Band neutrophil. Saved" in review.message.text()
    assert groups(review)[whole] == plain[whole]
    assert control(review, "Class Promyelocyte").isEnabled()
    pick(review, "Classes shown", "the model's classes")
    pump(0.3)
    assert "finer" not in cells.features and cells.features["class"][cell] == "band_neutrophil"
    assert not any(name.startswith("–") for name in groups(review))
