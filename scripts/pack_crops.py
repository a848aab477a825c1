"""Pack crops with their outlines for training: cut around the central cell, white-balanced, at one scale.

    python -m scripts.pack_crops --data ../shared/data --out FOLDER [--sets pbc raabin bccd]

``pbc``, ``pbc_full``, ``bcisc``, ``krd`` and ``tecom`` packs carry classes; ``raabin`` (the large crops of
``boxes``) and ``bccd`` carry none: `scripts.laboratories` joins them with the tables of their classes.
``tecom`` is packed for checks: nothing is trained on it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from napari_leukocls.classification.crops import cut_window, white_balance
from napari_leukocls.classification.single_cell import central_label, central_window
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.base import Outlines
from napari_leukocls.segmentation.red_cell_ruler import estimate_diameter
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.segmentation.stain_density import red_cell_density

log = logging.getLogger("pack_crops")
#: Wider than the network's view, so that views can be turned and shifted.
RULE = CropRule(side_um=27.0, side_px=176, margin_um=None)
VIEW_UM = 22.4
SHARD = 4000
#: Red cells across, pixels: the sets' medians. In ``tecom`` no red cell is whole: its neutrophils, lymphocytes and
#: monocytes are 5.4 pixels for each micrometre that those of ``raabin`` measure (medians of the masks).
RED_CELL_PX = {"pbc": 49.0, "pbc_full": 79.0, "raabin": 136.0, "bccd": 102.0, "tecom": 40.6}
#: The same of the crops of each slide of ``bcisc``: half of what the ruler reads in the slide's fields.
BCISC_RED_CELL_PX = {"1": 58.9, "2": 54.5, "3": 59.5, "4": 60.9, "5": 56.8}


@dataclass(frozen=True)
class Job:
    """An image to pack; `red_cell_px` is None where the ruler is to measure it."""

    file: Path
    set: str
    class_name: str
    heldout: bool
    red_cell_px: float | None


def is_heldout(base_name: str) -> bool:
    """The project's hold-out rule: SHA-256 of the base name as a number, modulo 5, equal to 0."""
    return int(hashlib.sha256(base_name.encode()).hexdigest(), 16) % 5 == 0


def jobs_of(name: str, data: Path) -> Iterator[Job]:
    """Yield the images of a set."""
    if name in ("raabin", "bccd"):
        folder = data / ("boxes" if name == "raabin" else "bccd") / "images"
        for file in sorted(folder.iterdir()):
            if name == "bccd" or cv2.imread(str(file)).shape[0] == 575:
                yield Job(file, name, "", is_heldout(file.name), RED_CELL_PX[name])
    elif name == "pbc_full":
        for file in sorted((data / name).glob("*/*.jpg")):
            yield Job(file, name, file.parent.name, is_heldout(file.name), RED_CELL_PX[name])
    else:
        with (data / name / "labels.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                file = data / name / row["file"]
                px = BCISC_RED_CELL_PX[row["slide"]] if name == "bcisc" else RED_CELL_PX.get(name)
                yield Job(file, name, row["class"], is_heldout(file.name), px)


def chosen_label(outlines: Outlines, job: Job, um_per_px: float) -> int:
    """Return the label of the cell that the image is named for; 0 where there is none."""
    votes = outlines.kind_votes
    if job.set == "krd":
        truth = cv2.imread(str(job.file.parents[1] / "masks" / f"{job.file.stem}.png"), cv2.IMREAD_GRAYSCALE)
        inside = np.bincount(outlines.labels[truth > 0], minlength=len(votes) + 1)
        inside[0] = 0
        return int(inside.argmax())
    if job.set != "bccd":
        return central_label(outlines.labels, votes, um_per_px)
    # A field with one leukocyte, somewhere.
    areas = np.bincount(outlines.labels.ravel(), minlength=len(votes) + 1)[1:]
    leukocyte = votes[:, 2] > 0.5
    return int(np.argmax(areas * leukocyte)) + 1 if leukocyte.any() else 0


@dataclass(frozen=True)
class Row:
    """A packed crop: WebP of the colours, PNG of the outline, and the density of the image's red cells."""

    name: str
    class_name: str
    heldout: bool
    image: bytes
    outline: bytes
    red_cell: tuple[float, float, float] | None


def cut(job: Job) -> Row | None:
    """Outline the central (in fields: the largest) leukocyte and encode its crop and mask."""
    torch.set_num_threads(1)
    pixels = cv2.cvtColor(cv2.imread(str(job.file)), cv2.COLOR_BGR2RGB)
    red_cell_px = job.red_cell_px or estimate_diameter(compact("cpu"), [pixels]).diameter_px
    um_per_px = 7.5 / red_cell_px
    window = pixels if job.set in ("bccd", "krd") else central_window(pixels, um_per_px)
    outlines = drain(compact("cpu").segment(window, red_cell_px))
    label = chosen_label(outlines, job, um_per_px)
    if not label:
        if not job.class_name:
            return None
        mask, centre = np.zeros(window.shape[:2], np.uint8), tuple((n - 1) / 2 for n in window.shape[:2])
    else:
        mask = (outlines.labels == label).astype(np.uint8) * 255
        y, x = np.nonzero(mask)
        centre = ((y.min() + y.max()) / 2, (x.min() + x.max()) / 2)
    glass = outlines.glass_colour
    fill = glass if np.isfinite(glass).all() else (235.0,) * 3
    crop = white_balance(cut_window(window, centre, um_per_px, RULE, fill), glass, RULE.white)
    drawn = (
        cut_window(mask, centre, um_per_px, RULE, [0.0])
        if label
        else np.full((RULE.side_px,) * 2, 255, np.uint8)
    )
    image = cv2.imencode(".webp", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 88])[1]
    outline = cv2.imencode(".png", (drawn > 127).astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1]
    density = red_cell_density(window, outlines.labels, outlines.kind_votes[:, 1], glass)
    return Row(job.file.name, job.class_name, job.heldout, image.tobytes(), outline.tobytes(), density)


def write_shard(path: Path, rows: list[Row]) -> None:
    """Write one shard of encoded crops."""
    np.savez(
        path,
        names=np.array([row.name for row in rows]),
        classes=np.array([row.class_name for row in rows]),
        heldout=np.array([row.heldout for row in rows]),
        sizes=np.array([len(row.image) for row in rows]),
        blob=np.frombuffer(b"".join(row.image for row in rows), np.uint8),
        mask_sizes=np.array([len(row.outline) for row in rows]),
        mask_blob=np.frombuffer(b"".join(row.outline for row in rows), np.uint8),
        red_cells=np.array([row.red_cell or (np.nan,) * 3 for row in rows]),
        ratio=np.array(RULE.side_um / VIEW_UM),
    )


def main() -> None:
    """Parse the command line and pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["pbc", "raabin", "bccd"])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        jobs = list(jobs_of(name, args.data))
        with ProcessPoolExecutor(args.workers) as pool:
            rows = [row for row in pool.map(cut, jobs, chunksize=16) if row is not None]
        for index in range(0, len(rows), SHARD):
            write_shard(args.out / f"{name}_{index // SHARD}.npz", rows[index : index + SHARD])
        log.info("%s: %d crops of %d images", name, len(rows), len(jobs))


if __name__ == "__main__":
    main()
