"""A technician's day from the first click to the new model, with mouse and keyboard alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from acting import (
    answer_file_dialog,
    click,
    click_tile,
    control,
    front,
    is_there,
    menu,
    pick,
    press,
    says,
    until,
    write,
)
from qtpy.QtCore import Qt
from smears import labelled_crops
from test_cases import MOST_OVERHEAD, Person, fields_of, state

from napari_leukocls.io.images import read_image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"
#: Side of what is taken of a public field, pixels.
PART = 340


def real_field() -> np.ndarray | None:
    """Parts of six public fields side by side, each with a leukocyte in its middle, where they are there."""
    files = sorted((SHARED / "images").glob("*.jpg"))[:6]
    if len(files) < 6:
        return None
    parts = []
    for file in files:
        boxes = ElementTree.parse(SHARED / "voc" / f"{file.stem}.xml").iter("object")
        box = next(one.find("bndbox") for one in boxes if one.findtext("name") == "WBC")
        x, y = ((int(box.findtext(f"{axis}min")) + int(box.findtext(f"{axis}max"))) // 2 for axis in "xy")
        left, top = (min(max(0, at - PART // 2), size - PART) for at, size in ((x, 640), (y, 480)))
        parts.append(read_image(file).pixels[top : top + PART, left : left + PART])
    return np.concatenate([np.concatenate(parts[i : i + 3], axis=1) for i in (0, 3)])


@pytest.mark.timeout(1500)
def test_a_technicians_day(viewer: Any, field: np.ndarray, tmp_path: Path) -> None:
    crops = labelled_crops(tmp_path / "crops")
    out = tmp_path / "out"
    out.mkdir()
    real = real_field()
    if real is None:
        viewer.add_image(field, name="smear", scale=(0.16, 0.16), units=("um", "um"))
    else:
        viewer.add_image(real, name="smear")

    # From here on: mouse and keys, and what is seen.
    window = viewer.window._qt_window
    menu(window, "Layers", "Classify", "Open the docks")
    analysis, review, train = (
        viewer.window.dock_widgets[f"{name} (Leukocls)"] for name in ("Analyse", "Review", "Train")
    )

    # Analyse, and look at the neutrophils alone.
    front(analysis)
    click(analysis, "Run analysis")
    until(lambda: says(analysis).startswith("Done"), 600)
    cells = viewer.layers["smear cells"]
    pick(analysis, "Show", "Neutrophil")
    hidden = [label for label in range(1, int(cells.data.max()) + 1) if cells.colormap.map(label)[3] == 0]
    assert "neutrophil" not in set(cells.features["class"][hidden])
    pick(analysis, "Show", "all classes")

    # Correct five cells, undo one.
    front(review)
    write(review, "Reviewer", "A. Reader")
    pick(review, "Show", "All leukocytes")
    gallery = control(review, "Gallery of cells")
    for _ in range(5):
        tips = [gallery.model().index(row, 0).data(Qt.ItemDataRole.ToolTipRole) for row in range(12)]
        # A tick marks what a person has settled.
        click_tile(gallery, next(row for row, tip in enumerate(tips) if tip and "✓" not in tip))
        press(gallery, "4")
    assert int(cells.features["corrected"].notna().sum()) == 5
    press(gallery, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert int(cells.features["corrected"].notna().sum()) == 4

    # Another person reads the same cells, and the agreement is told.
    click(review, "Second read and signature")
    write(review, "Second reader", "B. Second")
    click(review, "Start blind read")
    while gallery.model().rowCount():
        click_tile(gallery, 0)
        press(gallery, "4")
    click(review, "Finish read")
    assert "agree on" in says(review)

    # Export: the tables say what the people said.
    front(analysis)
    answer_file_dialog(out)
    click(analysis, "Export slide")
    until(lambda: says(analysis).startswith("Written"), 120)
    table = pd.read_csv(out / "smear" / "cells.csv")
    assert int(table["corrected_class"].notna().sum()) == 4
    assert set(table["reviewer"].dropna()) == {"A. Reader"}

    # A quick fine-tune on the crops, compared with the model in use, and promoted.
    front(train)
    answer_file_dialog(crops)
    click(train, "Add folder…")
    pick(train, "Recipe", "adapt")
    write(train, "Name", "ours")
    click(train, "Start training")
    until(lambda: is_there(train, "Promote") or says(train), 1000)
    assert is_there(train, "Promote"), says(train)
    click(train, "Promote")
    until(lambda: "is now the active model" in says(train), 300)

    # The new model is in the list at once, and analyses.
    front(analysis)
    assert control(analysis, "Classes by").currentText() == "ours (active)"
    click(analysis, "Run analysis")
    until(lambda: says(analysis).startswith("Done"), 600)
    answer_file_dialog(out)
    click(analysis, "Export slide")
    until(lambda: says(analysis).startswith("Written"), 120)
    run = json.loads((out / "smear" / "run.json").read_text(encoding="utf-8"))
    assert run["classifier"]["name"] == "ours"


@pytest.mark.timeout(1500)
def test_three_slides_are_counted_signed_and_handed_over(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path
) -> None:
    """Three slides of two fields: the first is signed, the second is read twice and signed, the third is left."""
    analysis, review = docks
    person = Person(viewer)
    gallery = control(review, "Gallery of cells")
    out = tmp_path / "out"

    # The first slide, from opening to the signed table: one key for each cell that waits, and little else.
    person.drop(fields_of(tmp_path, "synthetic_teaching_normal", 2))
    person.next_step()
    until(lambda: "provisional" in state(review), 200)
    unsure = person.review(gallery)
    person.next_step()
    first = out / "synthetic_teaching_normal_1"
    until(lambda: (first / "run.json").is_file(), 120)
    assert person.actions - unsure <= MOST_OVERHEAD
    assert "signed by A. Reader" in state(review)

    # The second slide takes its place; another person reads it blind.
    person.drop(fields_of(tmp_path, "synthetic_teaching_left_shift", 2))
    assert not any("normal" in layer.name for layer in viewer.layers)
    person.next_step()
    until(lambda: "provisional" in state(review), 200)
    person.review(gallery)
    click(review, "Second read and signature")
    write(review, "Second reader", "B. Second")
    click(review, "Start blind read")
    while gallery.model().rowCount():
        click_tile(gallery, 0)
        press(gallery, "1" if gallery.model().rowCount() % 3 else "4")
    click(review, "Finish read")
    assert "agree on" in says(review)
    person.next_step()
    second = out / "synthetic_teaching_left_shift_1"
    until(lambda: (second / "run.json").is_file(), 120)
    assert "second read by B. Second" in state(review)

    # The third slide is analysed and left: what is exported of it says so.
    person.drop(fields_of(tmp_path, "synthetic_teaching_eosinophilia", 2))
    person.next_step()
    until(lambda: "provisional" in state(review), 200)
    assert not (out / "synthetic_teaching_eosinophilia_1").exists()

    # The tables of the two signed slides count all of their fields.
    for folder in (first, second):
        table = pd.read_csv(folder / "cells.csv")
        assert table["field"].nunique() == 2 and len(list((folder / "fields").iterdir())) == 2
    # The first slide is chosen again: name, count, cells and signature are its own.
    pick(review, "Slide shown", "synthetic_teaching_normal_1")
    until(lambda: "signed by A. Reader" in state(review), 20)
    assert any("normal" in layer.name for layer in viewer.layers)
