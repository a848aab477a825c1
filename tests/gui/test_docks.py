"""What all docks have in common, and the Explain, Train and Batch docks as a person uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acting import click, click_tile, control, front, is_there, menu, pick, pump, says, until, write
from PIL import Image
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QSlider,
    QTabBar,
    QWidget,
)

from napari_leukocls.explanation import cam
from napari_leukocls.widgets.common.session import session_of

Opens = Callable[[str], Any]
DOCKS = ("Analyse", "Review", "Explain", "Train", "Batch", "Proficiency")
KINDS = (QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QSlider, QAbstractItemView)


def controls(root: QWidget) -> list[Any]:
    """What can be used in a dock; the inner parts of such controls left out."""
    found = [one for one in root.findChildren(QWidget) if isinstance(one, KINDS)]
    return [one for one in found if not isinstance(one.parentWidget(), KINDS) and _own(one, root)]


def _own(one: QWidget, root: QWidget) -> bool:
    parent = one.parentWidget()
    while parent is not None and parent is not root:
        if isinstance(parent, KINDS):
            return False
        parent = parent.parentWidget()
    return True


@pytest.mark.parametrize("name", DOCKS)
def test_every_control_has_a_name_and_a_tip_and_is_reached_by_keyboard(
    viewer: Any, dock: Opens, name: str
) -> None:
    from qtpy.QtCore import Qt

    opened = dock(name)
    found = controls(opened)
    assert len(found) >= 4
    for one in found:
        what = f"{type(one).__name__} {one.accessibleName()!r} in {name}"
        assert one.accessibleName(), what
        assert one.toolTip(), what
        assert one.focusPolicy() & Qt.FocusPolicy.TabFocus, what


def test_a_closed_dock_is_gone(viewer: Any, dock: Opens) -> None:
    gone: list[str] = []
    for name in DOCKS:
        opened = dock(name)
        opened.destroyed.connect(lambda *_, name=name: gone.append(name))
        viewer.window.remove_dock_widget(opened)
        until(lambda name=name: name in gone, 20)
    assert gone == list(DOCKS)


def test_the_workplace_and_the_menu_open_the_same_docks(viewer: Any) -> None:
    window = viewer.window._qt_window
    menu(window, "Layers", "Classify", "Open the docks")
    analysis = viewer.window.dock_widgets["Analyse (Leukocls)"]
    until(lambda: not analysis.visibleRegion().isEmpty(), 20)
    menu(window, "Layers", "Classify", "Open the docks")
    menu(window, "Plugins", "Leukocls", "Proficiency")
    names = [f"{name} (Leukocls)" for name in DOCKS]
    assert list(viewer.window.dock_widgets) == names
    # They are tabs with short names, so that the window is no higher than before.
    bar = next(bar for bar in window.findChildren(QTabBar) if bar.isVisible() and bar.count() == len(DOCKS))
    assert {bar.tabText(i).replace("&", "") for i in range(bar.count())} == set(DOCKS)


@pytest.mark.parametrize("name", ("Review", "Explain"))
def test_a_dock_without_a_slide_says_what_to_do(viewer: Any, dock: Opens, name: str) -> None:
    assert "analyse a smear in the Analyse dock first" in dock(name).message.text()


def test_a_cell_is_explained_when_it_is_chosen(viewer: Any, smear: Any, dock: Opens) -> None:
    analysis = dock("Analyse")
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 200)
    review, explain = dock("Review"), dock("Explain")
    gallery = control(review, "Gallery of cells")
    click_tile(gallery, 0)
    until(lambda: explain.content.isVisible(), 200)
    heat, cells = viewer.layers["Heatmap"], viewer.layers["smear cells"]
    # The map lies over its cell: the cell's middle is within the map's extent.
    cell = gallery.selected_ids()[0]
    middle = cells.data_to_world(np.argwhere(cells.data == cell).mean(axis=0))
    place = np.array(heat.world_to_data(middle))
    assert (place > 0).all() and (place < heat.data.shape).all()
    assert f"Cell {cell}:" in explain.classes.text() and "%" in explain.classes.text()
    assert "Heatmaps of this model" in explain.badge.text()
    # Another class is set beside it, and the choice of a cell is followed.
    pick(explain, "Why not", "Eosinophil")
    until(lambda: "Eosinophil" in explain.captions[1].text(), 100)
    click_tile(gallery, 1)
    other = gallery.selected_ids()[0]
    until(lambda: f"Cell {other}:" in explain.classes.text(), 100)
    # Behind another tab nothing is computed or drawn; in front again, the chosen cell is explained.
    front(review)
    assert not viewer.layers["Heatmap"].visible
    click_tile(gallery, 0)
    pump(0.6)
    assert not explain._job.running and not viewer.layers["Heatmap"].visible
    front(explain)
    until(lambda: f"Cell {cell}:" in explain.classes.text() and viewer.layers["Heatmap"].visible, 100)
    # A blind reader is told nothing.
    write(review, "Reviewer", "A. Reader")
    click(review, "Second read and signature")
    write(review, "Second reader", "B. Second")
    click(review, "Start blind read")
    assert not explain.content.isVisible() and not viewer.layers["Heatmap"].visible
    # Nor does the small picture in napari's list of layers tell the classes.
    assert not cells.thumbnail[..., :3].any()
    # With Review in front, the heatmap does not come back when the read is left.
    front(review)
    click(review, "Interrupt")
    assert not session_of(viewer).blind and not viewer.layers["Heatmap"].visible


def test_no_heatmap_is_computed_before_explain_was_in_front(
    viewer: Any, smear: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    heatmaps = cam.heatmaps
    monkeypatch.setattr(cam, "heatmaps", lambda *given: computed.append(1) or heatmaps(*given))
    menu(viewer.window._qt_window, "Layers", "Classify", "Open the docks")
    analysis, review, explain = (
        viewer.window.dock_widgets[f"{name} (Leukocls)"] for name in ("Analyse", "Review", "Explain")
    )
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 200)
    front(review)
    gallery = control(review, "Gallery of cells")
    for row in (0, 1):
        click_tile(gallery, row)
        pump(0.6)
    assert not explain._job.running and not computed and "Heatmap" not in viewer.layers
    front(explain)
    until(lambda: explain.content.isVisible(), 200)
    assert computed and viewer.layers["Heatmap"].visible


def test_a_folder_is_analysed_and_a_slide_opened_for_review(
    viewer: Any, field: np.ndarray, dock: Opens, tmp_path: Path
) -> None:
    # The density says 0.16 um a pixel, so that the scale need not be measured.
    Image.fromarray(field[150:370, 180:440]).save(tmp_path / "one.png", dpi=(158750, 158750))
    (tmp_path / "broken.png").write_bytes(b"no image")
    window = dock("Batch")
    write(window, "Slides in", str(tmp_path))
    table = control(window, "Slides of the batch")
    assert {table.item(i, 0).text() for i in range(table.rowCount())} == {"one", "broken"}
    click(window, "Start batch")
    until(lambda: " done. Results in" in window.message.text(), 300)
    states = {table.item(i, 0).text(): table.item(i, 1).text() for i in range(table.rowCount())}
    assert states == {"one": "done", "broken": "failed"}, [
        [table.item(i, c).text() if table.item(i, c) else "" for c in range(table.columnCount())]
        for i in range(table.rowCount())
    ]
    # What went wrong is said first, and a slide that failed has no counts.
    assert window.message.text().startswith("1 failed: ")
    counts = {table.item(i, 0).text(): table.item(i, 2).text() for i in range(table.rowCount())}
    assert counts["broken"] == "" and int(counts["one"]) > 0
    assert (tmp_path / "leukocls-results" / "summary.csv").is_file()
    row = next(i for i in range(table.rowCount()) if table.item(i, 0).text() == "one")
    table.setCurrentCell(row, 0)
    click(window, "Open for review")
    until(lambda: "one cells" in viewer.layers, 100)
    assert control(dock("Review"), "Gallery of cells").isEnabled()
    # Again: what is done is left alone.
    click(window, "Start batch")
    until(lambda: not window.progress.isVisible() and " done. Results in" in window.message.text(), 300)


def test_bad_training_data_and_settings_are_said_in_one_line(
    viewer: Any, dock: Opens, tmp_path: Path
) -> None:
    window = dock("Train")
    click(window, "Start training")
    until(lambda: "choose data first" in window.message.text(), 30)
    window.data.add(str(tmp_path))
    assert "no labelled crop" in window.message.text()
    (tmp_path / "neutrophil").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "neutrophil" / "a.png")
    window.data.refresh_counts()
    assert "Neutrophil 1" in window.data.counts.text()
    # It is checked by itself.
    until(lambda: is_there(window, "Split of the crops") or window.message.text(), 60)
    click(window, "Advanced")
    write(window, "lr", "fast")
    click(window, "Start training")
    assert window.message.text().startswith("lr:")


def test_the_train_dock_offers_to_adapt_and_says_when_the_model_is_kept(
    viewer: Any, dock: Opens, tmp_path: Path
) -> None:
    from acting import answer_file_dialog

    window = dock("Train")
    Image.fromarray(np.full((60, 60, 3), 235, np.uint8)).save(tmp_path / "empty.png")
    answer_file_dialog(tmp_path)
    click(window, "Adapt to my laboratory…")
    assert not control(window, "Adapt to my laboratory…").isEnabled()
    until(lambda: window.message.text(), 300)
    assert window.message.text().startswith("The model is kept as it is: 0 cells are too few")
    assert control(window, "Adapt to my laboratory…").isEnabled()


def test_an_error_is_brought_into_view_in_a_low_window(viewer: Any, dock: Opens) -> None:
    viewer.window._qt_window.resize(900, 420)
    viewer.add_image(np.full((20, 20, 3), 200, np.uint8), name="tiny", rgb=True)
    window = dock("Analyse")
    pump(0.5)
    assert window.message.visibleRegion().boundingRect().height() < window.message.height()
    click(window, "Run analysis")
    until(lambda: "too small" in says(window), 60)
    pump(0.2)
    assert window.message.visibleRegion().boundingRect().height() == window.message.height()
    # It can be read in the other theme, too.
    assert "#ff7b72" in window.message.styleSheet()
    viewer.theme = "light"
    pump(0.5)
    assert "#b3261e" in window.message.styleSheet()
