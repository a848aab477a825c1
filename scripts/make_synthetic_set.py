"""Draw a training set for the compact segmenter: synthetic smears with exact masks.

Each smear becomes ``<stem>.webp`` and ``<stem>.npz`` with ``labels`` (H, W) uint16 and ``kinds`` (N,)
uint8: 1 red cell, 2 leukocyte (all nucleated cells), 3 platelet. A field's look and its cells follow
from its seed alone.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from napari_leukocls.synthetic import SyntheticSmear, random_recipe, render_smear
from napari_leukocls.types import CELL_KINDS


def draw(seed: int, side: int, um_per_px: float) -> SyntheticSmear:
    """Draw the smear of one seed; leukocytes are far more common than in blood, so that few fields do."""
    rng = np.random.default_rng(seed)
    density = float(rng.choice([2.0, 6.0, 12.0], p=[0.3, 0.4, 0.3]))
    recipe = random_recipe(rng, side, side, um_per_px, leukocyte_density=density)
    return render_smear(recipe, seed)


def save(smear: SyntheticSmear, folder: Path, stem: str, quality: int) -> None:
    """Write the picture and its truth."""
    kinds = np.array([CELL_KINDS.index(cell.kind) + 1 for cell in smear.cells], np.uint8)
    np.savez_compressed(folder / f"{stem}.npz", labels=smear.labels.astype(np.uint16), kinds=kinds)
    Image.fromarray(smear.pixels).save(folder / f"{stem}.webp", quality=quality, method=4)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", default=260, show_default=True, help="Training smears: seeds 0, 1, ...")
@click.option("--heldout", default=40, show_default=True, help="Held-out smears: seeds 10000, 10001, ...")
@click.option("--side", default=512, show_default=True, help="Pixels.")
@click.option("--um-per-px", default=1 / 6, show_default=True, help="A red cell of 7.5 um is 45 px at 1/6.")
@click.option("--quality", default=92, show_default=True, help="Of the WebP files.")
def main(folder: Path, train: int, heldout: int, side: int, um_per_px: float, quality: int) -> None:
    """Draw the set into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = {f"smear_{seed:05d}": seed for seed in range(train)}
    stems |= {f"heldout_{seed:05d}": seed for seed in range(10_000, 10_000 + heldout)}
    with click.progressbar(stems.items(), label="drawing", length=len(stems)) as todo:
        for stem, seed in todo:
            save(draw(seed, side, um_per_px), folder, stem, quality)


if __name__ == "__main__":
    main()
