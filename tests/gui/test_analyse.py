"""The Analyse dock, as a person uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acting import answer_file_dialog, click, control, pick, pump, until
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from tests.unfamiliar import write_unfamiliar

Opens = Callable[[str], Any]


def done(dock: Any) -> bool:
    """Whether the dock says that the analysis is done."""
    return dock.message.text().startswith("Done")


def analyse(dock: Any) -> None:
    """Press Analyse and wait for the end."""
    dock.message.clear()
    click(dock, "Run analysis")
    until(lambda: dock.message.text() and not dock.progress.isVisible(), 120)


def test_a_smear_is_analysed_filtered_analysed_again_and_edited(viewer: Any, smear: Any, dock: Opens) -> None:
    window = dock("Analyse")
    assert control(window, "Smear").currentText() == "smear"
    analyse(window)
    assert done(window), window.message.text()
    cells = viewer.layers["smear cells"]
    np.testing.assert_allclose(cells.scale, smear.scale)
    assert list(cells.features["index"]) == list(range(len(cells.features)))
    assert cells.features["class"][0] is None
    assert 50 < int(cells.data.max()) == len(cells.features) - 1

    # The status bar names the cell under the cursor; colours are those of the classes.
    centre = np.argwhere(cells.data == 20).mean(axis=0).round()
    name = cells.features["class"][20]
    assert str(name) in cells.get_status(cells.data_to_world(centre), world=True)["value"]
    from napari_leukocls.scheme import default_scheme

    colour = default_scheme()[name].rgb
    np.testing.assert_allclose(cells.colormap.map(20)[:3] * 255, colour, atol=1)

    # Counts: a row a class, and what is still to count.
    table = control(window, "Counts of the classes").model()
    shown = {table.index(i, 0).data(): int(table.index(i, 1).data()) for i in range(table.rowCount())}
    assert shown["Red cell"] == int((cells.features["class"] == "red_cell").sum())
    assert "more leukocytes" in window.results.more.text()

    # A filter leaves the colours of one class only.
    pick(window, "Show", "Red cell")
    visible = [label for label in range(1, int(cells.data.max()) + 1) if cells.colormap.map(label)[3] > 0]
    assert set(cells.features["class"][visible]) == {"red_cell"}
    pick(window, "Show", "all classes")
    click(window, "to review only")
    visible = [label for label in range(1, int(cells.data.max()) + 1) if cells.colormap.map(label)[3] > 0]
    assert all(cells.features["review"][label] for label in visible)
    assert len(visible) == int(cells.features["review"].notna().sum())
    click(window, "to review only")

    # Again: the same layer, in place.
    analyse(window)
    assert done(window)
    assert [layer.name for layer in viewer.layers] == ["smear", "smear cells"]
    assert viewer.layers["smear cells"] is cells

    # Erase a cell and draw a new one: these two are measured, the others stay as they are.
    before = cells.features.copy()
    red = int(before.index[before["class"] == "red_cell"][3])
    new = int(cells.data.max()) + 1
    cells.data_setitem(np.nonzero(cells.data == red), 0)
    cells.brush_size = 30
    glass = np.argwhere(cells.data == 0)[5000]
    cells.paint(glass, new)
    until(lambda: "measured again" in window.message.text(), 60)
    after = viewer.layers["smear cells"].features
    assert after["class"][red] is None
    assert after["class"][new] is not None
    others = [i for i in before.index[1:] if i != red and after["class"][i] is not None]
    assert (after["class"][others] == before["class"][others]).mean() > 0.95


def test_what_is_in_view_and_shapes_are_analysed_alone(viewer: Any, smear: Any, dock: Opens) -> None:
    window = dock("Analyse")
    corners = np.array([[100, 100], [100, 400], [350, 400], [350, 100]]) * 0.16
    viewer.add_shapes([corners], shape_type="rectangle", name="area")
    pick(window, "Region", "shapes: area")
    analyse(window)
    assert done(window), window.message.text()
    rows, columns = np.nonzero(viewer.layers["smear cells"].data)
    assert len(rows) and rows.min() >= 100 and rows.max() < 351 and columns.max() < 401
    # Cells keep their places: the labels lie over cells, which are darker than glass.
    labels = viewer.layers["smear cells"].data
    assert smear.data[labels > 0].mean() < smear.data[100:350, 100:400][labels[100:350, 100:400] == 0].mean()


def test_nothing_to_analyse_is_said(viewer: Any, dock: Opens) -> None:
    window = dock("Analyse")
    assert "Open a smear first" in window.message.text()
    assert not control(window, "Run analysis").isEnabled()
    viewer.add_labels(np.zeros((50, 50), int), name="no smear")
    assert not control(window, "Run analysis").isEnabled()
    viewer.add_image(np.zeros((4, 20, 20), np.uint8), name="stack")
    click(window, "Run analysis")
    assert "too small to hold a cell" in window.message.text()


def test_the_plane_of_a_stack_that_is_shown_is_analysed(viewer: Any, field: np.ndarray, dock: Opens) -> None:
    stack = np.stack([np.full_like(field, 230), field, np.full_like(field, 230)])
    image = viewer.add_image(stack, name="stack", scale=(1, 0.16, 0.16), units=("um",) * 3)
    viewer.dims.set_current_step(0, 1)
    window = dock("Analyse")
    analyse(window)
    assert done(window), window.message.text()
    cells = viewer.layers["stack cells"]
    assert cells.data.shape == field.shape[:2] and int(cells.data.max()) > 50
    np.testing.assert_allclose(cells.extent.world[:, -2:], image.extent.world[:, -2:])


def test_a_model_that_is_gone_is_named(
    viewer: Any, smear: Any, dock: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_leukocls.models.registry import find_model

    monkeypatch.setenv("LEUKOCLS_MODELS", str(tmp_path))
    shutil.copytree(find_model("default").path, tmp_path / "mine")
    window = dock("Analyse")
    pick(window, "Classes by", "mine")
    shutil.rmtree(tmp_path / "mine")
    analyse(window)
    assert "no model 'mine'" in window.message.text()
    assert control(window, "Run analysis").isEnabled()
    names = [window.form.classifier.itemText(i) for i in range(window.form.classifier.count())]
    assert "mine" not in names


def test_errors_that_napari_would_swallow_are_shown(
    viewer: Any, smear: Any, dock: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_leukocls.analysis import region

    def broken(*_: Any, **__: Any) -> Iterator[Any]:
        raise RuntimeError("shapes do not match")
        yield

    monkeypatch.setattr(region, "iter_analyze", broken)
    window = dock("Analyse")
    analyse(window)
    assert "shapes do not match" in window.message.text()
    assert "fault of the program" in window.message.text()
    assert control(window, "Run analysis").isEnabled()


def test_the_window_lives_on_and_cancel_leaves_nothing(viewer: Any, large: np.ndarray, dock: Opens) -> None:
    viewer.add_image(large, name="smear", scale=(0.16, 0.16), units=("um", "um"))
    window = dock("Analyse")
    click(window, "Run analysis")
    # Other controls work meanwhile, and the canvas follows the camera.
    pick(window, "Region", "visible part")
    before = viewer.screenshot(canvas_only=True, flash=False)
    viewer.camera.zoom *= 3
    pump(0.3)
    assert (viewer.screenshot(canvas_only=True, flash=False) != before).any()
    assert control(window, "Cancel").isVisible()
    click(window, "Cancel")
    assert window.message.text() == "Stopped."
    assert control(window, "Run analysis").isEnabled()
    pump(1)
    assert [layer.name for layer in viewer.layers] == ["smear"]


def test_a_smear_or_a_dock_that_goes_while_it_works_harms_nobody(
    viewer: Any, smear: Any, large: np.ndarray, dock: Opens
) -> None:
    window = dock("Analyse")
    # Not by `click`, which lets the window live for a moment: a fast machine would have done by then.
    window.run.click()
    viewer.layers.remove(smear)
    until(lambda: "removed during the analysis" in window.message.text(), 120)
    again = viewer.add_image(large, name="again")
    click(window, "Run analysis")
    viewer.window.remove_dock_widget(window)
    pump(1)
    assert list(viewer.layers) == [again]


CLOSED_AT_WORK = """
import sys
import napari
import numpy as np
from qtpy.QtCore import QTimer

viewer = napari.Viewer()
viewer.add_image(np.load(sys.argv[1]), name="smear", scale=(0.16, 0.16), units=("um", "um"))
dock = viewer.window.add_plugin_dock_widget("napari-leukocls", "Analyse")[1]
timer = QTimer()


def look():
    if dock.progress.isVisible():
        timer.stop()
        viewer.window._qt_window.close()


timer.timeout.connect(look)
timer.start(30)
QTimer.singleShot(1000, dock.run.click)
napari.run()
print("napari has ended")
"""


def test_closing_napari_while_it_analyses_ends_it(large: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "field.npy", large)
    script = tmp_path / "script.py"
    script.write_text(CLOSED_AT_WORK)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "field.npy")],
        env={**os.environ, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "napari has ended" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_an_export_to_a_full_disk_is_said(
    viewer: Any, smear: Any, dock: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Modules that are imported while a function is replaced would keep the replacement.
    from napari_leukocls.batch import joint_slide, worker
    from napari_leukocls.results import writer

    assert joint_slide and worker

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_result", full)
    window = dock("Analyse")
    analyse(window)
    answer_file_dialog(tmp_path)
    click(window, "Export slide")
    until(lambda: "No space left" in window.message.text(), 60)
    assert "check the disk" in window.message.text()


def test_the_keyboard_reaches_every_control(viewer: Any, smear: Any, dock: Opens) -> None:
    window = dock("Analyse")
    order = [
        "Smear",
        "Region",
        "Outlines by",
        "Classes by",
        "Least probability",
        "Scale",
        "Compute on",
        "Run analysis",
    ]
    control(window, order[0]).setFocus()
    pump(0.2)
    reached = []
    for _ in range(30):
        focus = window.focusWidget()
        if focus is not None and focus.accessibleName() and focus.accessibleName() not in reached:
            reached.append(focus.accessibleName())
        QTest.keyClick(focus, Qt.Key.Key_Tab)
    assert [name for name in reached if name in order] == order


def test_a_stain_or_camera_that_the_model_does_not_know_is_said(
    viewer: Any, smear: Any, dock: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_unfamiliar(tmp_path)
    monkeypatch.setenv("LEUKOCLS_MODELS", str(tmp_path))
    window = dock("Analyse")
    chosen = window.form.classifier
    chosen.setCurrentIndex(chosen.findData("stranger"))
    analyse(window)
    said = window.message.text()
    assert done(window) and "unlike what the model stranger was trained on" in said and "Train dock" in said
    assert "unlike what the model" in window.results.warning_text.text()
    click(window, "Adapt to my laboratory…")
    until(lambda: "Train (Leukocls)" in viewer.window.dock_widgets, 60)
    assert control(dock("Train"), "Adapt to my laboratory…").isEnabled()
