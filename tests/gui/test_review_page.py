"""The Review dock as a page: sections, sizes, keys over the smear, drags, and room that stays where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from acting import click, click_tile, control, drop, front, pick, press, pump, until, wheel, write
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtTest import QTest

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.widgets.common.analysed import Analysed
from napari_leukocls.widgets.common.session import session_of
from napari_leukocls.widgets.common.slide_model import SlideModel
from tests.results import make_result

Opens = Callable[[str], Any]


@pytest.fixture
def slide(viewer: Any) -> SlideModel:
    """A slide that was analysed, over its image."""
    from napari_leukocls.widgets.common.cases import cases_of

    result = make_result("field", (480, 640))
    session = session_of(viewer)
    session.set_reviewer("A. Reader")
    key = session.store.add_slide(result)
    cases_of(viewer).open("field", [Analysed(result, key, AnalyzeConfig(), 0, result)])
    assert session.current is not None
    return session.current


@pytest.fixture
def review(slide: SlideModel, dock: Opens) -> Any:
    """The Review dock of that slide."""
    opened = dock("Review")
    pump(0.3)
    return opened


def click_cell(
    viewer: Any, slide: SlideModel, cell: int, modifier: Any = Qt.KeyboardModifier.NoModifier
) -> None:
    """Click a cell on the canvas."""
    viewer.reset_view()
    pump(0.3)
    row = slide.row(cell)
    assert row is not None
    native = viewer.window._qt_viewer.canvas.native
    camera = viewer.scene.camera
    world = viewer.layers["field"].data_to_world((row["centroid_y"], row["centroid_x"]))
    middle = np.array(world) - np.array(camera.center)[-2:]
    y, x = (middle * camera.zoom + np.array([native.height(), native.width()]) / 2).round().astype(int)
    QTest.mouseMove(native, QPoint(int(x), int(y)))
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, modifier, QPoint(int(x), int(y)))
    pump(0.1)


def test_cells_stand_under_the_headings_of_their_classes(viewer: Any, slide: SlideModel, review: Any) -> None:
    gallery = control(review, "Gallery of cells")
    titles = [section.title for section in gallery.cells.sections]
    assert titles[:3] == ["To review", "Neutrophil", "Eosinophil"]
    # A click on a heading chooses the whole class; its figures follow a correction at once.
    before = {section.title: section.figures for section in gallery.cells.sections}
    click(review, "Next class")
    assert "Next: Neutrophil" in review.message.text()
    assert gallery.heading.section.title == "Neutrophil"
    QTest.mouseClick(gallery.heading, Qt.MouseButton.LeftButton)
    assert len(gallery.selected_ids()) == len(gallery.cells.sections[1].ids) > 3
    click_tile(gallery, gallery.cells.ids.index(gallery.cells.sections[1].ids[0]))
    press(gallery, "5")
    after = {section.title: section.figures for section in gallery.cells.sections}
    assert int(after["Neutrophil"].split()[0]) == int(before["Neutrophil"].split()[0]) - 1
    assert int(after["Monocyte"].split()[0]) == int(before["Monocyte"].split()[0]) + 1
    # The next cell is of the same class, so that a whole class is judged in one go.
    assert gallery.selected_ids()[0] in gallery.cells.sections[1].ids


def test_the_wheel_changes_the_size_of_the_cells(viewer: Any, review: Any) -> None:
    gallery = control(review, "Gallery of cells")
    before = gallery.visualRect(gallery.model().index(0, 0)).width()
    wheel(gallery.viewport(), 240, Qt.KeyboardModifier.ControlModifier)
    larger = gallery.visualRect(gallery.model().index(0, 0)).width()
    assert larger > 1.2 * before and control(review, "Size of the cells").value() == gallery.pictures.side
    for _ in range(20):
        wheel(gallery.viewport(), -240, Qt.KeyboardModifier.ControlModifier)
    assert gallery.visualRect(gallery.model().index(0, 0)).width() < 50


def test_keys_on_the_smear_give_classes_and_arm_no_tool(viewer: Any, slide: SlideModel, review: Any) -> None:
    gallery = control(review, "Gallery of cells")
    cell = next(one for one in gallery.cells.sections[1].ids)
    labels = viewer.layers["field cells"]
    viewer.layers.selection.active = labels
    native = viewer.window._qt_viewer.canvas.native
    # Without a chosen cell the key of a class does nothing, and arms no eraser.
    press(native, "1")
    assert labels.mode == "pan_zoom" and "on the smear first" in viewer.status
    click_cell(viewer, slide, cell)
    assert gallery.selected_ids() == [cell]
    zoom = viewer.scene.camera.zoom
    press(native, "5")
    assert labels.features["class"][cell] == "monocyte" and labels.mode == "pan_zoom"
    # The view stays, and so does the chosen cell: Ctrl+Z takes it back there, too.
    assert viewer.scene.camera.zoom == zoom and gallery.selected_ids() == [cell]
    press(native, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert labels.features["class"][cell] == "neutrophil" and labels.features["corrected"][cell] is None
    # The outline of the cell was not touched by any of it.
    assert np.array_equal(labels.data, slide.result.labels)
    # Where a person has armed a tool by its button, the keys are napari's.
    labels.mode = "paint"
    press(native, "1")
    assert labels.mode == "erase" and labels.features["class"][cell] == "neutrophil"
    labels.mode = "pan_zoom"


def test_keys_in_another_dock_arm_no_tool(viewer: Any, slide: SlideModel, review: Any, dock: Opens) -> None:
    analysis = dock("Analyse")
    cell = int(control(review, "Gallery of cells").cells.sections[1].ids[0])
    slide.select((cell,), "canvas")
    press(analysis.run, "4")
    labels = viewer.layers["field cells"]
    assert labels.features["class"][cell] == "lymphocyte" and labels.mode == "pan_zoom"


def test_a_message_moves_no_button(viewer: Any, review: Any) -> None:
    names = ("Confirm", "Undo", "Class Lymphocyte", "Next class")
    write_room = {name: control(review, name).mapTo(review, QPoint(0, 0)) for name in names}
    for text in ("", "Short.", "A long message of an error that says what is wrong and what to do. " * 6):
        review.message.warn(text)
        pump(0.1)
        assert {name: control(review, name).mapTo(review, QPoint(0, 0)) for name in names} == write_room
        assert review.message.text() == text == review.message.toolTip()


def test_a_drag_shows_a_small_picture_beside_the_pointer(viewer: Any, review: Any) -> None:
    gallery = control(review, "Gallery of cells")
    picture = gallery.drag_picture(list(gallery.cells.sections[1].ids))
    button = control(review, "Class Lymphocyte")
    assert picture.height() <= 2 * button.height()
    # A drop on the heading of a class gives the class.
    cell = gallery.cells.sections[1].ids[0]
    click_tile(gallery, gallery.cells.ids.index(cell))
    data = gallery.model().mimeData(gallery.selectionModel().selectedIndexes())
    pick(review, "Show", "Eosinophil")
    while gallery.heading.section.name != "eosinophil":
        click(review, "Next class")
    drop(data, gallery.heading)
    assert viewer.layers["field cells"].features["class"][cell] == "eosinophil"


def test_outlines_are_seen_at_every_zoom(viewer: Any, slide: SlideModel, review: Any) -> None:
    labels = viewer.layers["field cells"]
    viewer.scene.camera.zoom = 0.3
    until(lambda: labels.contour * 0.3 >= 1.4 or labels.contour >= 5, 20)
    widest = labels.contour
    viewer.scene.camera.zoom = 1.0
    until(lambda: 1.4 <= labels.contour < widest, 20)
    viewer.scene.camera.zoom = 4.0
    until(lambda: labels.contour == 1, 20)
    # A width that a person has set stays.
    labels.contour = 3
    viewer.scene.camera.zoom = 0.3
    pump(0.4)
    assert labels.contour == 3


def test_the_dock_is_shown_large_and_in_a_window_of_its_own(viewer: Any, review: Any) -> None:
    from napari_leukocls.widgets.common.workplace import frame_of

    frame = frame_of(review)
    assert frame is not None
    narrow = review.width()
    for view, text in (("wide", "Large"), ("window", "In a window"), ("narrow", "Beside")):
        menu = control(review, "View").menu()
        action = next(one for one in menu.actions() if one.text().startswith(text))
        action.trigger()
        pump(0.4)
        assert frame.isFloating() == (view == "window")
        if view != "narrow":
            assert review.width() > 1.5 * narrow
            gallery = control(review, "Gallery of cells")
            assert gallery.visualRect(gallery.model().index(0, 0)).intersects(
                QRect(gallery.viewport().rect())
            )


def test_unreviewed_corrections_of_an_unnamed_person_are_refused_on_the_smear(
    viewer: Any, slide: SlideModel, review: Any
) -> None:
    if not control(review, "Settings of the review").isChecked():
        click(review, "Settings of the review")
    write(review, "Reviewer", " ")
    cell = int(control(review, "Gallery of cells").cells.sections[1].ids[0])
    slide.select((cell,), "canvas")
    press(viewer.window._qt_viewer.canvas.native, "5")
    assert "Enter your name" in review.message.text()


def open_slide(viewer: Any, name: str, seed: int) -> None:
    """Open another slide that was analysed."""
    from napari_leukocls.widgets.common.cases import cases_of

    result = make_result(name, (480, 640), seed=seed)
    key = session_of(viewer).store.add_slide(result)
    cases_of(viewer).open(name, [Analysed(result, key, AnalyzeConfig(), 0, result)])
    pump(0.5)


def test_what_is_shown_stays_from_slide_to_slide_and_session_to_session(
    viewer: Any, slide: SlideModel, review: Any, dock: Opens, make_napari_viewer: Callable[..., Any]
) -> None:
    analysis = dock("Analyse")
    pick(analysis, "Show", "Eosinophil")
    front(review)
    pick(review, "Show", "Neutrophil")
    pick(review, "Sort by", "largest first")
    # A cell that is chosen on the smear brings its class to the gallery; that is no choice of a list.
    basophil = next(row["cell_id"] for row in slide.cells.to_dict("records") if row["class"] == "basophil")
    case = session_of(viewer).case
    assert case is not None
    case.select((int(basophil),), "canvas")
    assert control(review, "Show").currentText().startswith("Basophil")

    def shown(dock_: Any) -> tuple[str, str]:
        return control(dock_, "Show").currentText().split(" (")[0], control(dock_, "Sort by").currentText()

    open_slide(viewer, "second", 1)
    assert shown(review) == ("Neutrophil", "largest first")
    titles = [section.title for section in control(review, "Gallery of cells").cells.sections]
    assert set(titles) <= {"To review", "Neutrophil"}

    another = make_napari_viewer(show=True)
    open_slide(another, "third", 2)
    opened = [
        another.window.add_plugin_dock_widget("napari-leukocls", one)[1] for one in ("Analyse", "Review")
    ]
    pump(0.5)
    assert shown(opened[1]) == ("Neutrophil", "largest first")
    front(opened[0])
    until(lambda: control(opened[0], "Show").currentText() == "Eosinophil", 20)
    # All cells of the next slide again, once a person has chosen so.
    front(opened[1])
    pick(opened[1], "Show", "All leukocytes")
    open_slide(another, "fourth", 3)
    assert shown(opened[1])[0] == "All leukocytes"
