"""Crops of the bundled smears, as a person brings them to a training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image

from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smears

CROPS_A_CLASS = 6


def labelled_crops(folder: Path) -> Path:
    """Crops of the bundled smears, in folders after their truth."""
    taken: dict[str, int] = {}
    for name, path in sample_smears().items():
        image = read_image(path)
        half = round(16 / (image.um_per_px or 0.16))
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
