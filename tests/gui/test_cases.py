"""Slides of several fields in the window: one count, one header, one key to hand them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acting import (
    answer_question,
    click,
    click_tile,
    control,
    drop_files,
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
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_leukocls.batch import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs, group_as_slide
from napari_leukocls.paths import sample_smears
from napari_leukocls.widgets.common.cases import cases_of
from napari_leukocls.widgets.common.session import session_of

CONTROL = Qt.KeyboardModifier.ControlModifier
#: Actions of a person that a slide may take beside one for each cell that needs review.
MOST_OVERHEAD = 6


def fields_of(folder: Path, smear: str, n: int, height: int = 300, width: int = 400) -> list[Path]:
    """Parts of a bundled smear as image files, as a microscope's camera leaves them."""
    image = read_image(sample_smears()[smear])
    files = []
    for i in range(n):
        y, x = divmod(i, 2)
        part = image.pixels[y * height : (y + 1) * height, x * width : (x + 1) * width]
        # The density says how large a pixel is, so that the scale need not be measured.
        dots = 25400 / float(image.um_per_px or 0.16)
        files.append(folder / f"{smear}_{i + 1}.png")
        Image.fromarray(part).save(files[-1], dpi=(dots, dots))
    return files


class Person:
    """Counts what a person does."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.canvas = viewer.window._qt_viewer.canvas.native
        # Without a window manager a window is not active by itself, and keys go nowhere.
        self.window.activateWindow()
        until(lambda: self.window.isActiveWindow(), 20)
        self.actions = 0

    def drop(self, files: list[Path]) -> None:
        """Drop files on the canvas."""
        self.actions += 1
        drop_files(self.viewer, files)

    def next_step(self) -> None:
        """Press the key that analyses, or signs, exports and goes on; on the canvas."""
        self.actions += 1
        # Without a window manager no window is active once a question was answered.
        self.window.activateWindow()
        until(self.window.isActiveWindow, 10)
        self.canvas.setFocus()
        press(self.canvas, Qt.Key.Key_Return, CONTROL)

    def review(self, gallery: Any, key: str = "4", n: int | None = None) -> int:
        """Give cells a class by its key, all of them or the first ones: the next cell is chosen by itself."""
        n = gallery.model().rowCount() if n is None else n
        if n and not gallery.selected_ids():
            self.actions += 1
            click_tile(gallery, 0)
        for _ in range(n):
            self.actions += 1
            press(gallery, key)
        return n


def state(dock: Any) -> str:
    """The line of the header."""
    pump(0.2)
    return says(dock, "State of the slide")


def rows(dock: Any) -> dict[str, int]:
    """The table of counts."""
    table = control(dock, "Counts of the classes").model()
    return {table.index(i, 0).data(): int(table.index(i, 1).data()) for i in range(table.rowCount())}


@pytest.mark.timeout(600)
def test_a_slide_of_fields_is_one_count_and_another_takes_its_place(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path
) -> None:
    analysis, review = docks
    person = Person(viewer)
    front(analysis)
    person.drop(fields_of(tmp_path, "synthetic_teaching_normal", 2))
    assert [layer.name for layer in viewer.layers] == [f"synthetic_teaching_normal_{i}" for i in (1, 2)]
    assert state(analysis).startswith("2 fields to analyse")
    person.next_step()
    until(lambda: says(analysis).startswith("Done"), 150)
    # One field is seen, and all of them are counted.
    seen = [layer.name for layer in viewer.layers if layer.visible]
    assert len(seen) == 2 and seen[1] == f"{seen[0]} cells"
    front(review)
    pick(review, "Show", "All leukocytes")
    gallery = control(review, "Gallery of cells")
    fields = {cell // 1_000_000 for cell in gallery.cells.ids}
    assert fields == {0, 1}
    # A cell of another field brings its field.
    last = [cell // 1_000_000 for cell in gallery.cells.ids].index(1)
    click_tile(gallery, last)
    pump(0.3)
    assert "synthetic_teaching_normal_2" in [layer.name for layer in viewer.layers if layer.visible]
    assert control(review, "Field shown").currentText().startswith("2 of 2")
    first_state, n = state(review), gallery.model().rowCount()
    front(analysis)
    counts = rows(analysis)

    # Another slide: its image, no count, no cells, its name; the last one's layers are gone.
    person.drop(fields_of(tmp_path, "synthetic_teaching_left_shift", 2))
    assert [layer.name for layer in viewer.layers] == [
        "synthetic_teaching_left_shift_1",
        "synthetic_teaching_left_shift_2",
    ]
    assert control(analysis, "Slide shown").currentText() == "synthetic_teaching_left_shift_1"
    assert not is_there(analysis, "Counts of the classes") and state(analysis).startswith("2 fields")
    front(review)
    assert gallery.model().rowCount() == 0 or not gallery.isEnabled()

    # And back: everything is there again.
    pick(review, "Slide shown", "synthetic_teaching_normal_1")
    until(lambda: state(review) == first_state, 20)
    assert {layer.name.split("_")[2] for layer in viewer.layers} >= {"normal"}
    assert not any("left_shift" in layer.name for layer in viewer.layers)
    pick(review, "Show", "All leukocytes")
    assert gallery.model().rowCount() == n
    front(analysis)
    assert rows(analysis) == counts


@pytest.mark.timeout(600)
def test_a_signature_is_lifted_by_a_change_and_asked_for_when_in_doubt(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path
) -> None:
    analysis, review = docks
    person = Person(viewer)
    gallery = control(review, "Gallery of cells")
    person.drop(fields_of(tmp_path, "synthetic_teaching_normal", 2))
    person.next_step()
    until(lambda: "provisional" in state(review), 150)
    person.review(gallery)
    # Short of the goal: it asks, and no is no.
    pick(review, "Count", "100")
    asked = answer_question(yes=False)
    person.next_step()
    until(lambda: asked, 20)
    assert "of 100 leukocytes are counted" in asked[0]
    assert "provisional" in state(review) and not (tmp_path / "out").exists()
    asked = answer_question(yes=True)
    person.next_step()
    until(lambda: "signed by A. Reader" in state(review), 60)
    until(lambda: (tmp_path / "out").exists(), 60)
    # A change of one class lifts it, and the header tells who changed what.
    pick(review, "Show", "All leukocytes")
    click_tile(gallery, 0)
    press(gallery, "5")
    assert "signature of A. Reader lifted by A. Reader" in state(review)
    assert "to monocyte" in state(review)


@pytest.mark.timeout(600)
def test_a_blind_read_is_blind_everywhere_and_takes_back_its_own(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path
) -> None:
    from napari_leukocls._writer import write_counts
    from napari_leukocls.errors import InputError

    analysis, review = docks
    person = Person(viewer)
    gallery = control(review, "Gallery of cells")
    person.drop(fields_of(tmp_path, "synthetic_teaching_normal", 2))
    person.next_step()
    until(lambda: "provisional" in state(review), 150)
    pick(review, "Show", "All leukocytes")
    click_tile(gallery, 0)
    press(gallery, "5")
    click(review, "Second read and signature")
    write(review, "Second reader", "B. Second")
    click(review, "Start blind read")
    # Docks, layers, the status bar and files say no class.
    assert "hidden" in state(review)
    said = [one.text() for one in review.findChildren(QLabel) if one.isVisible()]
    assert not any("left out" in text for text in said), "the classes of what is left out"
    for layer in viewer.layers:
        if layer.name.endswith(" cells"):
            assert "class" not in layer.features
            colours = {tuple(layer.colormap.map(label)) for label in range(1, int(layer.data.max()) + 1)}
            assert len(colours) == 1
            with pytest.raises(InputError, match="blind"):
                write_counts(str(tmp_path / "c.csv"), layer.data, {"metadata": layer.metadata, "name": "x"})
    person.next_step()
    assert "hidden for a blind second read" in says(review, "Message on the slide")
    front(analysis)
    assert not is_there(analysis, "Counts of the classes")
    front(review)
    # Ctrl+Z takes the second reader's own class back, and nothing of the first reader.
    left = gallery.model().rowCount()
    click_tile(gallery, 0)
    press(gallery, "4")
    assert gallery.model().rowCount() == left - 1
    press(gallery, Qt.Key.Key_Z, CONTROL)
    press(gallery, Qt.Key.Key_Z, CONTROL)
    assert gallery.model().rowCount() == left
    # Own classes can be looked at again and mended.
    click_tile(gallery, 0)
    press(gallery, "4")
    pick(review, "Show", "Your own classes")
    assert gallery.model().rowCount() == 1
    click_tile(gallery, 0)
    press(gallery, "1")
    pick(review, "Show", "Still to read")
    while gallery.model().rowCount():
        click_tile(gallery, 0)
        press(gallery, "4")
    assert says(review).endswith("press 'Finish read'.")
    click(review, "Finish read")
    assert "agree on" in says(review)
    cells = next(layer for layer in viewer.layers if layer.name.endswith(" cells") and layer.visible)
    assert "class" in cells.features
    store, case = session_of(viewer).store, session_of(viewer).case
    history = [
        (one.action, one.cell_id, one.corrected_class, one.reviewer)
        for slide in case.slides
        for one in store.history(slide.key)
    ]
    assert [one[2:] for one in history] == [("monocyte", "A. Reader")], "nothing of the first reader changed"


@pytest.mark.timeout(600)
def test_a_dropped_folder_of_results_brings_the_slide_back(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path
) -> None:
    _, review = docks
    person = Person(viewer)
    gallery = control(review, "Gallery of cells")
    person.drop(fields_of(tmp_path, "synthetic_teaching_normal", 2))
    person.next_step()
    until(lambda: "provisional" in state(review), 150)
    person.review(gallery)
    person.next_step()
    folder = tmp_path / "out" / "synthetic_teaching_normal_1"
    until(lambda: (folder / "run.json").is_file(), 120)
    signed = state(review)
    person.drop(fields_of(tmp_path, "synthetic_teaching_left_shift", 1))
    assert "normal" not in viewer.layers[0].name
    layers = viewer.open(folder, plugin="napari-leukocls")
    assert len(layers) == 4
    until(lambda: state(review) == signed, 60)
    seen = [layer.name for layer in viewer.layers if layer.visible]
    assert seen == ["synthetic_teaching_normal_1", "synthetic_teaching_normal_1 cells"]
    cells = viewer.layers["synthetic_teaching_normal_1 cells"]
    assert "class" in cells.features
    assert np.array_equal(viewer.layers["synthetic_teaching_normal_1"].data.shape[:2], cells.data.shape)
    pick(review, "Show", "All leukocytes")
    assert {cell // 1_000_000 for cell in gallery.cells.ids} == {0, 1}
    # What was said of the last action goes with the next one.
    assert " is open again, with " in says(review, "Message on the slide")
    click_tile(gallery, 0)
    press(gallery, "3")
    assert says(review, "Message on the slide") == ""


@pytest.mark.timeout(600)
def test_a_slide_and_one_of_its_fields_that_is_open_alone_do_not_mix(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path
) -> None:
    files = [str(file) for file in fields_of(tmp_path, "synthetic_teaching_normal", 2)]
    slides, out = expand_inputs(files), tmp_path / "results"
    run_batch(slides, out, make_config())
    run_batch([group_as_slide(slides, "S1")], out, make_config())
    _, review = docks
    second = slides[1].slide_id
    viewer.open(out / second, plugin="napari-leukocls")
    until(lambda: "provisional" in state(review), 60)
    viewer.open(out / "S1", plugin="napari-leukocls")
    until(lambda: len(session_of(viewer).case.slides) == 2, 60)
    pump(0.5)

    def shown() -> list[Any]:
        return [layer for layer in viewer.layers if layer.visible]

    # Only the first field with its own cells, and outlined.
    assert len(viewer.layers) == 4
    image, cells = shown()
    assert image.name == slides[0].slide_id and cells.name == f"{image.name} cells"
    assert np.array_equal(cells.data, session_of(viewer).case.slides[0].result.labels)
    # The second one is shown with its own, under the name that napari has left for it.
    cases_of(viewer).show_field(session_of(viewer).case.fields[1])
    image, cells = shown()
    assert second in image.name and cells.name == f"{image.name} cells"
    assert control(docks[0], "Smear").currentText() == image.name
    assert np.array_equal(cells.data, session_of(viewer).case.slides[1].result.labels)
