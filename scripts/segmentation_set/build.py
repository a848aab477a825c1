"""One image in, its stored image, labels and facts out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from . import IGNORE, LEUKOCYTE, PLATELET, RED_CELL, RED_CELL_UM, STORED_DIAMETER, from_boxes, from_centres
from .evidence import Evidence, burnt_in
from .leftover import name_blobs, nucleated, purple, red_level
from .marks import CHULA_DIAMETER, Item, items, native_diameter, read_annotations, stored_factor
from .shapes import box_iou, box_of

COLUMNS = ["set", "stem", "file", "holdout", "um_per_px_stored", "n_rbc", "n_wbc", "n_plt", "problems"]


@dataclass
class Made:
    """The training data of one image.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB at the stored scale.
    labels : (H, W) uint16
        0 background, ``i + 1`` cell i, 65535 ignore.
    kinds, annotated : (N,) uint8
        Kind of each cell; 1 where an annotator marked it, 0 where the image alone says so.
    um_per_px : float
        Of the stored image, by way of the red cell's 7.5 um.
    agreement : list of (kind, IoU)
        Of each mask's tight box with the annotated one.
    sizes : (K,) float
        Diameters of lone cells with a centre, native px.
    """

    image: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    annotated: np.ndarray
    um_per_px: float
    problems: list[str]
    agreement: list[tuple[int, float]] = field(default_factory=list)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0))


def _pack(labels: np.ndarray, kinds: list[int], annotated: list[bool], ignore: np.ndarray) -> tuple:
    """Number the cells that have pixels 1..N, and lay the ignored pixels beneath them."""
    present = [i for i in np.unique(labels) if i]
    table = np.zeros(len(kinds) + 1, np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    packed = table[labels]
    packed[(packed == 0) & ignore] = IGNORE
    chosen = [i - 1 for i in present]
    return packed, np.array(kinds, np.uint8)[chosen], np.array(annotated, np.uint8)[chosen]


def _from_boxes(item: Item, image: np.ndarray, factor: float, um_per_px: float) -> Made:
    boxes, kinds, dropped = from_boxes.clean_boxes(item.boxes * factor, item.kinds, image.shape[:2])
    problems = list(item.problems) + ([f"{dropped} repeated boxes left out"] if dropped else [])
    labels, evidence = from_boxes.instances(image, boxes, kinds)
    if item.set == "boxes":
        problems += _correct_kinds(labels, kinds, evidence)
    agreement = []
    for i, kind in enumerate(kinds):
        found = box_of(labels == i + 1)
        agreement.append((int(kind), float(box_iou(boxes[i : i + 1], found[None])[0, 0])))
    reds = np.isin(labels, np.flatnonzero(kinds == RED_CELL) + 1)
    level = red_level(evidence, reds) if reds.any() else None
    ignore = from_boxes.leftovers(labels, evidence, level)
    all_kinds, annotated = [int(k) for k in kinds], [True] * len(kinds)
    diameter = RED_CELL_UM / um_per_px
    nuclear = purple(evidence, reds) & (labels == 0)
    for shape, window, kind in nucleated(nuclear, diameter):
        if kind:
            ignore[window] |= shape
    if item.set == "boxes":
        for shape, window, kind in name_blobs(ignore, evidence, reds, diameter, at_edge_only=True):
            if kind and not (nuclear[window] & shape).sum() > 0.1 * shape.sum():
                all_kinds.append(kind)
                annotated.append(False)
                labels[window][shape] = len(all_kinds)
    packed, k, a = _pack(labels, all_kinds, annotated, ignore)
    return Made(image, packed, k, a, um_per_px, problems, agreement)


def _correct_kinds(labels: np.ndarray, kinds: np.ndarray, evidence: Evidence) -> list[str]:
    """Set right, in place, kinds that the semi-automatic boxes have plainly wrong; say what was done."""
    told = []
    pale = from_boxes.pale_leukocytes(labels, kinds, evidence)
    kinds[pale] = RED_CELL
    if pale:
        told.append(f"{len(pale)} leukocyte boxes without a nucleus taken as red cells")
    stained = purple(evidence, np.isin(labels, np.flatnonzero(kinds == RED_CELL) + 1))
    areas = np.bincount(labels.ravel(), minlength=len(kinds) + 1)[1:]
    share = np.bincount(labels[stained], minlength=len(kinds) + 1)[1:] / np.maximum(areas, 1)
    dark = (kinds == RED_CELL) & (share > 0.4) & (areas > 0.5 * STORED_DIAMETER**2)
    kinds[dark] = LEUKOCYTE
    if dark.any():
        told.append(f"{int(dark.sum())} red cell boxes with a nucleus taken as leukocytes")
    return told


def make(item: Item) -> Made | None:
    """Masks for one image, or None where nobody annotated it.

    Raises
    ------
    ValueError
        If the image cannot be read.
    """
    native = cv2.imread(str(item.path), cv2.IMREAD_COLOR)
    if native is None:
        raise ValueError(f"{item.path.name}: not an image that can be read; restore the file")
    native = cv2.cvtColor(native, cv2.COLOR_BGR2RGB)
    height, width = native.shape[:2]
    read_annotations(item, width, height)
    if not len(item.boxes) and not len(item.centres):
        return None
    factor = stored_factor(item.set, width)
    um_per_px = RED_CELL_UM / (native_diameter(item.set, width) * factor)
    if item.set != "chula":
        size = (round(width * factor), round(height * factor))
        image = cv2.resize(native, size, interpolation=cv2.INTER_AREA)
        return _from_boxes(item, image, factor, um_per_px)
    drawn = burnt_in(native)
    cells, sizes = from_centres.instances(native, item.centres, drawn, CHULA_DIAMETER)
    packed, kinds, annotated = _pack(cells.labels, cells.kinds, cells.annotated, cells.ignore | drawn)
    problems = list(item.problems) + (["burnt-in marks ignored"] if drawn.any() else [])
    share = len(item.centres) / max(len(kinds), 1)
    if share < 0.5:
        problems.append("fewer than half of the red cells have a centre")
    return Made(native, packed, kinds, annotated, um_per_px, problems, sizes=sizes)


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a temporary name beside the file, and rename."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("wb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def save(item: Item, made: Made, out: Path, quality: int) -> dict[str, object]:
    """Write the image and its labels; return the row of the index."""
    folder = out / item.set
    folder.mkdir(parents=True, exist_ok=True)
    stem = item.path.stem
    ok, coded = cv2.imencode(".webp", made.image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not ok:
        raise OSError(f"{stem}: the image could not be coded as WebP")
    _write(folder / f"{stem}.webp", lambda stream: stream.write(coded.tobytes()))
    _write(
        folder / f"{stem}.npz",
        lambda stream: np.savez_compressed(
            stream, labels=made.labels, kinds=made.kinds, annotated=made.annotated
        ),
    )
    counts = [int((made.kinds == kind).sum()) for kind in (RED_CELL, LEUKOCYTE, PLATELET)]
    values = [item.set, stem, f"{item.set}/{stem}.webp", int(item.holdout), round(made.um_per_px, 5), *counts]
    return dict(zip(COLUMNS, [*values, "; ".join(made.problems)], strict=True))


def build(
    data: Path,
    out: Path,
    sets: tuple[str, ...],
    quality: int = 92,
    every: int = 1,
    further: Iterator[tuple[Item, Made]] | None = None,
) -> Iterator[tuple[Item, Made]]:
    """Make and write the whole set, image by image, and the index at the end.

    Images of `further`, which are made already, follow those of the sets.
    """
    rows = []
    made_here = ((item, make(item)) for number, item in enumerate(items(data, sets)) if number % every == 0)
    for item, made in chain(made_here, further or ()):
        if made is None:
            continue
        rows.append(save(item, made, out, quality))
        yield item, made
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    _write(out / "index.csv", lambda stream: stream.write(table.getvalue().encode()))
