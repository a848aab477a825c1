"""A technician's day from the first click to the new model, with mouse and keyboard alone."""

from __future__ import annotations

import json
from dataclasses import replace
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
from PIL import Image
from qtpy.QtCore import Qt
from smears import labelled_crops
from test_cases import MOST_OVERHEAD, Person, fields_of, state

from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.io.images import read_image
from napari_leukocls.progress import Progress, Steps
from napari_leukocls.synthetic import SmearRecipe, render, render_smear
from napari_leukocls.synthetic.layout import PlacedCell
from napari_leukocls.synthetic.leukocytes import leukocyte_outline
from napari_leukocls.synthetic.red_cells import red_cell_outline
from napari_leukocls.types import Predictions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"
#: Side of what is taken of a public field, pixels.
PART = 340
#: Leukocytes of a drawn field, and those of them that the classifier is not sure of.
FIELD_CELLS, FIELD_UNSURE = 25, 7
#: Distance of the leukocytes of a drawn field, micrometres.
GRID_UM = 24
PREDICT = Classifier.iter_predict


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


def on_a_grid(rng: np.random.Generator, recipe: SmearRecipe) -> list[PlacedCell]:
    """25 leukocytes and 40 red cells that touch neither each other nor the edge: all of them are found."""
    cells = [
        PlacedCell(
            "leukocyte", "segmented_neutrophil", "", 0, 0, leukocyte_outline(rng, "segmented_neutrophil")
        )
    ] * FIELD_CELLS
    places = [(y, x) for y in range(5) for x in range(5)]
    shape = red_cell_outline(rng, "round", recipe.red_cells.diameter_um)
    cells += [PlacedCell("red_cell", "red_cell", "round", 0, 0, shape)] * 40
    places += [(y + 0.5, x) for y in range(4) for x in range(5)] + [
        (y, x + 0.5) for y in range(5) for x in range(4)
    ]
    return [
        replace(cell, y=GRID_UM * (y + 0.5), x=GRID_UM * (x + 0.5))
        for cell, (y, x) in zip(cells, places, strict=True)
    ]


def drawn_field(path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A field with cells on a grid, as a file."""
    side = round(5 * GRID_UM / 0.16)
    recipe = SmearRecipe(height=side, width=side, um_per_px=0.16, platelets=0, debris=0)
    monkeypatch.setattr(render, "lay_out", on_a_grid)
    # The density says how large a pixel is.
    Image.fromarray(render_smear(recipe, seed).pixels).save(path, dpi=(25400 / 0.16,) * 2)
    return path


def some_unsure(
    self: Classifier, crops: np.ndarray, batch_size: int = 32, warn: Any = None, fine: Any = None
) -> Steps[Predictions]:
    """A classifier of leukocytes that is sure of all cells of a field but the first seven."""
    if "neutrophil" not in self.classes:
        return (yield from PREDICT(self, crops, batch_size, warn, fine))
    yield Progress("classify", len(crops), len(crops))
    found = np.full((len(crops), len(self.classes)), 1e-3, np.float32)
    found[:, self.classes.index("neutrophil")] = 0.98
    found[:FIELD_UNSURE] = 1 / len(self.classes)
    found /= found.sum(axis=1, keepdims=True)
    return Predictions(self.classes, found, np.zeros(len(crops), np.float32), np.inf)


@pytest.mark.timeout(600)
def test_fifty_leukocytes_and_fourteen_unsure_ones_take_at_most_twenty_actions(
    viewer: Any, docks: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "iter_predict", some_unsure)
    _, review = docks
    gallery = control(review, "Gallery of cells")
    person = Person(viewer)

    # From opening to the signed table; one field came twice, and is counted once.
    files = [drawn_field(tmp_path / f"patient_7_field_{i}.png", 4 + i, monkeypatch) for i in (1, 2)]
    files.append(files[1].with_name("patient_7_field_3.png"))
    files[2].write_bytes(files[1].read_bytes())
    person.drop(files)
    person.next_step()
    until(lambda: "provisional" in state(review) or "unreviewed" in state(review), 200)
    assert gallery.model().rowCount() == 2 * FIELD_CELLS
    assert not any("field_3" in layer.name for layer in viewer.layers)
    assert "14 cells are left out" in state(review)
    person.review(gallery, n=2 * FIELD_UNSURE)
    person.next_step()
    folder = tmp_path / "out" / "patient_7_field_1"
    until(lambda: (folder / "run.json").is_file(), 120)

    assert person.actions <= 20
    counts = pd.read_csv(folder / "counts.csv").set_index("class")
    assert counts.loc["neutrophil", "count"] == 36 and counts.loc["lymphocyte", "count"] == 14
    assert set(counts["signed_by"]) == {"A. Reader"} and counts["signed_at"].notna().all()
    cells = pd.read_csv(folder / "cells.csv")
    assert int(cells["corrected_class"].notna().sum()) == 2 * FIELD_UNSURE


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
