"""Draw a training set for the compact segmenter: synthetic smears with exact masks.

Each smear becomes ``<stem>.webp`` and ``<stem>.npz`` with ``labels`` (H, W) uint16 and ``kinds`` (N,)
uint8: 1 red cell, 2 leukocyte (all nucleated cells), 3 platelet. A field's look and its cells follow
from its seed alone. The fields ``heaps_*`` have red cells that stick together and lie on each other; a cell of which
less than a quarter is seen is neither cell nor background there (65535).
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from napari_leukocls.synthetic import SyntheticSmear, random_recipe, render_smear
from napari_leukocls.types import CELL_KINDS

#: Value of pixels that are neither cell nor background in training, and the share of a cell that must be seen.
IGNORE, LEAST_SEEN = 65535, 0.25


def draw(seed: int, side: int, um_per_px: float) -> SyntheticSmear:
    """Draw the smear of one seed; leukocytes are far more common than in blood, so that few fields do."""
    rng = np.random.default_rng(seed)
    density = float(rng.choice([2.0, 6.0, 12.0], p=[0.3, 0.4, 0.3]))
    recipe = random_recipe(rng, side, side, um_per_px, leukocyte_density=density)
    return render_smear(recipe, seed)


def draw_heaps(seed: int, side: int, um_per_px: float) -> SyntheticSmear:
    """Draw the smear of one seed with its red cells in chains and heaps, and glass between them."""
    rng = np.random.default_rng((seed, 1))
    recipe = random_recipe(rng, side, side, um_per_px, leukocyte_density=3.0)
    coverage = rng.uniform(0.35, 0.95)
    thick = rng.random() < 0.5
    red = recipe.red_cells.model_copy(
        update={
            "count": int(coverage * recipe.area_um2 / (np.pi / 4 * recipe.red_cells.diameter_um**2)),
            "clustering": rng.uniform(0.8, 0.99),
            "overlap": rng.uniform(0.6, 1.0),
            "squeeze": rng.uniform(0.0, 0.6),
            "opacity": rng.uniform(0.6, 0.97) if thick else rng.uniform(0.0, 0.5),
            "pallor": rng.uniform(0.0, 0.4) if thick else recipe.red_cells.pallor,
            "refractile": float(rng.choice([0.0, rng.uniform(0.05, 0.5)])),
        }
    )
    return render_smear(recipe.model_copy(update={"red_cells": red}), seed)


def without_hidden(smear: SyntheticSmear) -> np.ndarray:
    """Return the labels, with `IGNORE` where a cell is that others hide for the most part."""
    hidden = np.zeros(len(smear.cells) + 1, bool)
    hidden[1:] = [
        cell.visible_fraction < LEAST_SEEN and not cell.fringe and cell.kind == "red_cell"
        for cell in smear.cells
    ]
    return np.where(hidden[smear.labels], IGNORE, smear.labels).astype(np.uint16)


def save(smear: SyntheticSmear, folder: Path, stem: str, quality: int) -> None:
    """Write the picture and its truth."""
    kinds = np.array([CELL_KINDS.index(cell.kind) + 1 for cell in smear.cells], np.uint8)
    labels = without_hidden(smear) if stem.startswith("heaps") else smear.labels.astype(np.uint16)
    np.savez_compressed(folder / f"{stem}.npz", labels=labels, kinds=kinds)
    Image.fromarray(smear.pixels).save(folder / f"{stem}.webp", quality=quality, method=4)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", default=260, show_default=True, help="Training smears: seeds 0, 1, ...")
@click.option("--heldout", default=40, show_default=True, help="Held-out smears: seeds 10000, 10001, ...")
@click.option(
    "--heaps", default=0, show_default=True, help="Training smears with heaps: seeds 20000, 20001, ..."
)
@click.option("--side", default=512, show_default=True, help="Pixels.")
@click.option("--um-per-px", default=1 / 6, show_default=True, help="A red cell of 7.5 um is 45 px at 1/6.")
@click.option("--quality", default=92, show_default=True, help="Of the WebP files.")
def main(
    folder: Path, train: int, heldout: int, heaps: int, side: int, um_per_px: float, quality: int
) -> None:
    """Draw the set into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = {f"smear_{seed:05d}": seed for seed in range(train)}
    stems |= {f"heldout_{seed:05d}": seed for seed in range(10_000, 10_000 + heldout)}
    stems |= {f"heaps_{seed:05d}": seed for seed in range(20_000, 20_000 + heaps)}
    with click.progressbar(stems.items(), label="drawing", length=len(stems)) as todo:
        for stem, seed in todo:
            drawn = draw_heaps if stem.startswith("heaps") else draw
            save(drawn(seed, side, um_per_px), folder, stem, quality)


if __name__ == "__main__":
    main()
