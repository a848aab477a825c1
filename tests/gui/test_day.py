"""A technician's day from the first click to the new model, with mouse and keyboard alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from acting import answer_file_dialog, click, click_tile, control, pick, press, until, write
from PIL import Image
from qtpy.QtCore import Qt

from napari_leukocls.io.images import read_image
from napari_leukocls.resources import sample_smears

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd" / "images"
CROPS_A_CLASS = 10


def real_field() -> np.ndarray | None:
    """Four public fields side by side, each with a leukocyte, where they are there."""
    files = sorted(SHARED.glob("*.jpg"))[:4] if SHARED.is_dir() else []
    if len(files) < 4:
        return None
    fields = [read_image(file).pixels[:480, :640] for file in files]
    return np.concatenate([np.concatenate(fields[i : i + 2], axis=1) for i in (0, 2)])


def labelled_crops(folder: Path) -> Path:
    """Crops of the bundled smears, in folders after their truth."""
    taken: dict[str, int] = {}
    for name, path in sample_smears().items():
        image = read_image(path)
        half = round(16 / image.um_per_px)
        truth = pd.read_csv(path.with_name(f"{name}_truth.csv"))
        for row in truth[truth["kind"] == "leukocyte"].to_dict("records"):
            kind, y, x = row["class"], round(row["centroid_y"]), round(row["centroid_x"])
            crop = image.pixels[max(0, y - half) : y + half, max(0, x - half) : x + half]
            if taken.get(kind, 0) >= CROPS_A_CLASS or crop.shape[:2] != (2 * half, 2 * half):
                continue
            taken[kind] = taken.get(kind, 0) + 1
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop).save(folder / kind / f"{name}_{row['cell_id']}.png")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_technicians_day(
    viewer: Any, field: np.ndarray, dock: Callable[[str], Any], tmp_path: Path
) -> None:
    crops = labelled_crops(tmp_path / "crops")
    real = real_field()
    if real is None:
        viewer.add_image(field, name="smear", scale=(0.16, 0.16), units=("um", "um"))
    else:
        viewer.add_image(real, name="smear")
    analysis, review, train = (dock(name) for name in ("Analyse", "Review", "Train"))

    # Analyse, and look at the neutrophils alone.
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 600)
    cells = viewer.layers["smear cells"]
    pick(analysis, "Show", "Neutrophil")
    hidden = [label for label in range(1, int(cells.data.max()) + 1) if cells.colormap.map(label)[3] == 0]
    assert "neutrophil" not in set(cells.features["class"][hidden])
    pick(analysis, "Show", "all classes")

    # Correct five cells, undo one.
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
    assert "agree on" in review.message.text()

    # Export: the tables say what the people said.
    out = tmp_path / "out"
    out.mkdir()
    answer_file_dialog(out)
    click(analysis, "Export slide")
    until(lambda: analysis.message.text().startswith("Written"), 120)
    table = pd.read_csv(out / "smear" / "cells.csv")
    assert int(table["corrected_class"].notna().sum()) == 4
    assert set(table["reviewer"].dropna()) == {"A. Reader"}

    # A quick fine-tune on the crops, compared with the model in use, and promoted.
    answer_file_dialog(crops)
    click(train, "Add folder…")
    pick(train, "Recipe", "adapt")
    write(train, "Name", "ours")
    click(train, "Start training")
    until(lambda: train.results.isVisible() or train.message.text(), 2000)
    assert train.results.isVisible(), train.message.text()
    assert control(train, "Promote").isEnabled(), train.results.verdict.text()
    click(train, "Promote")
    until(lambda: "active model now" in train.message.text(), 600)

    # The new model is in the list at once, and analyses.
    assert control(analysis, "Classes by").currentText() == "ours (active)"
    analysis.message.clear()
    click(analysis, "Run analysis")
    until(lambda: analysis.message.text().startswith("Done"), 600)
    answer_file_dialog(out)
    click(analysis, "Export slide")
    until(lambda: analysis.message.text().startswith("Written"), 120)
    run = json.loads((out / "smear" / "run.json").read_text(encoding="utf-8"))
    assert run["classifier"]["name"] == "ours"
