"""Training data from leukocytes outlined by hand, and from crops of single cells that nobody outlined.

The sets with hand masks say nothing of the other cells. Those are taken from the present segmenter, run at the right
scale: training at other scales, cuts and colours then teaches that the same cells are there. What the segmenter calls a
leukocyte and no person outlined is :data:`IGNORE`.

Crops of PBC have no masks at all: a crop is used where the present segmenter outlines the same leukocyte at three
sizes, so that lobes taken for cells do not become a lesson.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from napari_leukocls.progress import drain
from napari_leukocls.segmentation.base import Outlines
from napari_leukocls.segmentation.compact import CompactSegmenter
from napari_leukocls.segmentation.red_cell_ruler import estimate_diameter

from . import IGNORE, LEUKOCYTE, PLATELET, RED_CELL, RED_CELL_UM, STORED_DIAMETER, by_hand
from .build import Made
from .marks import Item, is_held_out

#: Largest stored image, px: what the training reads.
STORED = (512, 640)
#: Vote from which the present segmenter is believed.
SURE = 0.8
#: Share of a cell that a hand mask may take from it before the rest is ignored.
MOST_TAKEN = 0.25
#: Pixels (stored) around a hand mask that are no leukocyte even if the segmenter says so.
RIM = 4
#: Red cell in the copies of PBC, px.
PBC_DIAMETER = 49.0
#: Sizes at which a crop of PBC must give the same outline, and how much of it.
SIZES, SAME_IOU = (0.8, 1.0, 1.25), 0.85
#: Believable area of a leukocyte, um2.
LEUKOCYTE_UM2 = (35.0, 420.0)


def _stored(item: by_hand.Picture, diameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Image and masks at the stored scale, cut to `STORED` around the first leukocyte."""
    factor = STORED_DIAMETER / diameter
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(item.pixels, None, fx=factor, fy=factor, interpolation=method)
    masks = cv2.resize(item.masks, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    rows, columns = np.nonzero(masks == 1)
    window = []
    for places, length, most in zip((rows, columns), masks.shape, STORED, strict=True):
        middle = int(places.mean()) if len(places) else length // 2
        start = int(np.clip(middle - most // 2, 0, max(0, length - most)))
        window.append(slice(start, start + most))
    cut = tuple(window)
    return np.ascontiguousarray(image[cut]), np.ascontiguousarray(masks[cut])


def _kinds_of(outlines: Outlines) -> np.ndarray:
    """Kind of each cell, or 0 where the segmenter is not sure."""
    votes = outlines.kind_votes
    assert votes is not None
    if not len(votes):
        return np.zeros(0, int)
    return np.where(votes.max(axis=1) >= SURE, votes.argmax(axis=1), 0)


def masks_with_neighbours(image: np.ndarray, masks: np.ndarray, segmenter: CompactSegmenter) -> Made:
    """Join the leukocytes of hand masks with the red cells and platelets that the segmenter is sure of.

    Parameters
    ----------
    image : numpy.ndarray, (H, W, 3), uint8
        At the stored scale.
    masks : numpy.ndarray, (H, W), int32
        Leukocytes 1..N.
    segmenter : CompactSegmenter

    Returns
    -------
    Made
    """
    outlines = drain(segmenter.segment(image, STORED_DIAMETER))
    labels = np.zeros(masks.shape, np.uint16)
    by_person = masks > 0
    near = cv2.dilate(by_person.astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)) > 0
    kinds: list[int] = []
    for index, kind in enumerate(_kinds_of(outlines)):
        cell = outlines.labels == index + 1
        taken = (cell & by_person).sum() / cell.sum()
        if kind in (RED_CELL, PLATELET) and taken <= MOST_TAKEN:
            kinds.append(int(kind))
            labels[cell & ~by_person] = len(kinds)
        else:
            labels[cell & ~near] = IGNORE
    annotated = [False] * len(kinds)
    for index in range(1, int(masks.max()) + 1):
        if (masks == index).any():
            kinds.append(LEUKOCYTE)
            annotated.append(True)
            labels[masks == index] = len(kinds)
    um_per_px = RED_CELL_UM / STORED_DIAMETER
    return Made(image, labels, np.array(kinds, np.uint8), np.array(annotated, np.uint8), um_per_px, [])


def hand_made(data: Path, sets: tuple[str, ...], segmenter: CompactSegmenter) -> Iterator[tuple[Item, Made]]:
    """Yield the stored data of ``bcisc`` (fields and crops) and ``krd``, held-out pictures left out.

    Parameters
    ----------
    data : Path
    sets : tuple of str
    segmenter : CompactSegmenter

    Yields
    ------
    tuple of Item and Made
    """
    sources = {"bcisc": (by_hand.bcisc_fields, by_hand.bcisc_crops), "krd": (by_hand.krd,)}
    for name in sets:
        for read in sources.get(name, ()):
            for number, item in enumerate(read(data)):
                if item.held_out or not item.masks.any():
                    continue
                diameter = item.diameter_px or estimate_diameter(segmenter, [item.pixels]).diameter_px
                image, masks = _stored(item, diameter)
                stem = f"{item.kind}_{number:03d}_{Path(item.name).stem}"
                yield Item(name, Path(f"{stem}.jpg"), False), masks_with_neighbours(image, masks, segmenter)


def pbc_crops(data: Path, segmenter: CompactSegmenter, a_class: int) -> Iterator[tuple[Item, Made]]:
    """Yield crops of PBC, `a_class` of each class, whose leukocyte comes out alike at several sizes.

    Parameters
    ----------
    data : Path
    segmenter : CompactSegmenter
    a_class : int

    Yields
    ------
    tuple of Item and Made
    """
    with (data / "pbc" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    order = np.random.default_rng(0).permutation(len(rows))
    left = {row["class"]: a_class for row in rows if row["class"] != "platelet"}
    for place in order:
        row = rows[place]
        path = data / "pbc" / row["file"]
        if left.get(row["class"], 0) == 0 or is_held_out(path.name):
            continue
        pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        made = _steady(pixels, segmenter)
        if made is not None:
            left[row["class"]] -= 1
            yield Item("pbc", path, False), made
        if not any(left.values()):
            return


def _steady(pixels: np.ndarray, segmenter: CompactSegmenter) -> Made | None:
    """Stored data of a crop, or None where its middle holds no leukocyte that is the same at all `SIZES`."""
    factor = STORED_DIAMETER / PBC_DIAMETER
    image = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    middle = tuple(length // 2 for length in image.shape[:2])
    found = []
    for size in SIZES:
        outlines = drain(segmenter.segment(image, STORED_DIAMETER * size))
        kinds = np.concatenate([[0], _kinds_of(outlines)])
        around = outlines.labels[middle[0] - 12 : middle[0] + 13, middle[1] - 12 : middle[1] + 13]
        label = int(np.bincount(around.ravel()).argmax())
        if kinds[label] != LEUKOCYTE:
            return None
        found.append(outlines.labels == label)
    right = found[SIZES.index(1.0)]
    area = right.sum() * (RED_CELL_UM / STORED_DIAMETER) ** 2
    alike = min((right & other).sum() / (right | other).sum() for other in found)
    if not LEUKOCYTE_UM2[0] < area < LEUKOCYTE_UM2[1] or alike < SAME_IOU:
        return None
    return masks_with_neighbours(image, right.astype(np.int32), segmenter)
