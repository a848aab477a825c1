"""Leukocytes that people outlined: the masks of ``bcisc``, ``krd`` and ``tecom``.

Only leukocytes have masks in these sets. The masks of ``bcisc`` are those of its crops; a crop is the field at half
size, so its place in the field is where it fits best, and its mask is put there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage

from .marks import is_held_out

#: Slide of BCISC of which nothing is trained on, beside the names that the hold-out rule keeps back.
BCISC_TEST_SLIDE = "3"
#: Red cells in BCISC's crops, and in its fields at half size, px: the median of the ruler's readings.
BCISC_DIAMETER = 60.0
#: Red cells in Tecom's crops, px. They are hardly visible: the width of their rings, measured by eye.
TECOM_DIAMETER = 43.0
#: Smaller pieces of a mask are slips of the pen, px.
MIN_MASK = 100


@dataclass(frozen=True)
class Picture:
    """One image with the leukocytes that a person outlined.

    Attributes
    ----------
    set, name, slide : str
        The name decides whether it is held out; the slide is empty where it is not known.
    kind : str
        ``"field"`` or ``"crop"``.
    pixels : (H, W, 3) uint8
        RGB.
    masks : (H, W) int32
        0 background, 1..N leukocytes.
    diameter_px : float
        Of a red cell; 0 where only the image itself tells.
    held_out : bool
    """

    set: str
    name: str
    slide: str
    kind: str
    pixels: np.ndarray
    masks: np.ndarray
    diameter_px: float
    held_out: bool


def _read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path.name}: not an image that can be read; restore the file")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _mask(path: Path, level: int = 127) -> np.ndarray:
    """Whether a pixel belongs to the cell, (H, W) bool: some masks are colours on black."""
    return _read(path).max(axis=2) > level


def _numbered(mask: np.ndarray) -> np.ndarray:
    """Pieces of a mask as labels, without slips of the pen."""
    labels, count = ndimage.label(ndimage.binary_fill_holes(mask))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    kept = np.flatnonzero(areas[1:] >= MIN_MASK) + 1
    table = np.zeros(count + 1, np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[labels]


def bcisc_crops(data: Path) -> Iterator[Picture]:
    """Crops of 256 px, with the masks of the one or two leukocytes that each holds."""
    folder = data / "bcisc"
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        path = folder / row["file"]
        mask = folder / "cell_masks" / f"{path.stem}.png"
        if mask.exists():
            held = row["slide"] == BCISC_TEST_SLIDE or is_held_out(path.name)
            yield Picture(
                "bcisc",
                path.name,
                row["slide"],
                "crop",
                _read(path),
                _numbered(_mask(mask)),
                BCISC_DIAMETER,
                held,
            )


def bcisc_fields(data: Path, slide: str | None = None) -> Iterator[Picture]:
    """Fields at half size, 1024x768, with the masks of their crops and what else the field's mask holds."""
    folder = data / "bcisc"
    crops = {crop.name: crop for crop in bcisc_crops(data)}
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        crop = crops.get(Path(row["file"]).name)
        if crop is None or slide not in (None, row["slide"]):
            continue
        field = cv2.resize(_read(folder / row["field"]), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        fit = cv2.matchTemplate(field[..., 1], crop.pixels[..., 1], cv2.TM_CCOEFF_NORMED)
        _, score, _, (x, y) = cv2.minMaxLoc(fit)
        if score < 0.95:
            continue
        mask = np.zeros(field.shape[:2], bool)
        path = folder / "field_wbc_masks" / Path(row["field"]).relative_to("fields").with_suffix(".png")
        if path.exists():
            whole = _mask(path).astype(np.uint8)
            mask |= cv2.resize(whole, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        height, width = crop.masks.shape
        mask[y : y + height, x : x + width] = crop.masks > 0
        yield Picture(
            "bcisc", crop.name, crop.slide, "field", field, _numbered(mask), BCISC_DIAMETER, crop.held_out
        )


def krd(data: Path) -> Iterator[Picture]:
    """Fields of 512 px of two laboratories, one leukocyte each."""
    folder = data / "krd"
    with (folder / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            path = folder / row["file"]
            mask = _numbered(_mask(folder / "masks" / f"{path.stem}.png", 0))
            yield Picture("krd", path.name, "", "field", _read(path), mask, 0.0, is_held_out(path.name))


def tecom(data: Path) -> Iterator[Picture]:
    """Tight crops of a cheap camera; for checks only, so all of them are held out."""
    folder = data / "tecom"
    for path in sorted((folder / "images").glob("*.png")):
        mask = _numbered(_mask(folder / "masks" / path.name, 64))
        yield Picture("tecom", path.name, "", "crop", _read(path), mask, TECOM_DIAMETER, True)


def cut_tight(item: Picture, margin: float) -> Picture | None:
    """Cut the picture around its first leukocyte that no edge cuts, with a margin in units of the cell's side.

    Returns
    -------
    Picture or None
        None where an edge cuts every leukocyte.
    """
    height, width = item.masks.shape
    for where in ndimage.find_objects(item.masks):
        if where is None:
            continue
        rows, columns = where
        if rows.start < 2 or columns.start < 2 or rows.stop > height - 2 or columns.stop > width - 2:
            continue
        more = int(margin * max(rows.stop - rows.start, columns.stop - columns.start))
        window = tuple(
            slice(max(0, part.start - more), min(length, part.stop + more))
            for part, length in zip(where, (height, width), strict=True)
        )
        return Picture(
            item.set,
            item.name,
            item.slide,
            "tight",
            np.ascontiguousarray(item.pixels[window]),
            _numbered(item.masks[window] > 0),
            item.diameter_px,
            item.held_out,
        )
    return None
