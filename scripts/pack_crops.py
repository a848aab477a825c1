"""Pack crops with their outlines for training: cut around the central cell, white-balanced, at one scale.

    python -m scripts.pack_crops --data ../shared/data --out FOLDER [--sets pbc raabin bccd]

``pbc`` packs carry classes; ``raabin`` (the large crops of ``boxes``) and ``bccd`` carry none: their colours
are borrowed, or their cells seen without labels.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from napari_leukocls.classification.crops import cut_window, white_balance
from napari_leukocls.models.card import CropRule

log = logging.getLogger("pack_crops")
#: Wider than the network's view, so that views can be turned and shifted.
RULE = CropRule(side_um=27.0, side_px=176, margin_um=None)
VIEW_UM = 22.4
SHARD = 4000
#: Micrometres per pixel: 7.5 um over the sets' median red cell.
UM_PER_PX = {"pbc": 7.5 / 49, "raabin": 7.5 / 136, "bccd": 7.5 / 102}


def is_heldout(base_name: str) -> bool:
    """The project's hold-out rule: SHA-256 of the base name as a number, modulo 5, equal to 0."""
    return int(hashlib.sha256(base_name.encode()).hexdigest(), 16) % 5 == 0


def jobs_of(name: str, data: Path) -> Iterator[tuple[Path, str, str, bool]]:
    """Yield (file, set, class, held out) for a set."""
    if name == "pbc":
        with (data / "pbc" / "labels.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                file = data / "pbc" / row["file"]
                yield file, name, row["class"], is_heldout(file.name)
    elif name == "raabin":
        import cv2

        for file in sorted((data / "boxes" / "images").iterdir()):
            if cv2.imread(str(file)).shape[0] == 575:
                yield file, name, "", is_heldout(file.name)
    else:
        for file in sorted((data / "bccd" / "images").iterdir()):
            yield file, name, "", is_heldout(file.name)


def cut(job: tuple[Path, str, str, bool]) -> tuple[str, str, bool, bytes, bytes] | None:
    """Outline the central (in fields: every) leukocyte and encode its crop and mask."""
    import cv2
    import torch

    from napari_leukocls.classification.single_cell import central_label, central_window
    from napari_leukocls.progress import drain
    from napari_leukocls.segmentation.registry import compact

    torch.set_num_threads(1)
    file, name, class_name, heldout = job
    um_per_px = UM_PER_PX[name]
    pixels = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    window = pixels if name == "bccd" else central_window(pixels, um_per_px)
    outlines = drain(compact("cpu").segment(window, 7.5 / um_per_px))
    votes = outlines.kind_votes
    if name == "bccd":
        areas = np.bincount(outlines.labels.ravel(), minlength=len(votes) + 1)[1:]
        leukocyte = votes[:, 2] > 0.5
        label = int(np.argmax(areas * leukocyte)) + 1 if leukocyte.any() else 0
    else:
        label = central_label(outlines.labels, votes, um_per_px)
    if not label:
        if not class_name:
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
    return file.name, class_name, heldout, image.tobytes(), outline.tobytes()


def write_shard(path: Path, rows: list[tuple[str, str, bool, bytes, bytes]]) -> None:
    """Write one shard of encoded crops."""
    np.savez(
        path,
        names=np.array([row[0] for row in rows]),
        classes=np.array([row[1] for row in rows]),
        heldout=np.array([row[2] for row in rows]),
        sizes=np.array([len(row[3]) for row in rows]),
        blob=np.frombuffer(b"".join(row[3] for row in rows), np.uint8),
        mask_sizes=np.array([len(row[4]) for row in rows]),
        mask_blob=np.frombuffer(b"".join(row[4] for row in rows), np.uint8),
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
