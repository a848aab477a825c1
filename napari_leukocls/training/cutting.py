"""The crops of a training: cut as evaluation and analysis cut them, once."""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.classification.crops import CropRule
from napari_leukocls.classification.dataset import LabelledCrop
from napari_leukocls.training.cache import CropCache
from napari_leukocls.training.dataset import Collection, pixels_of
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.types import CancelToken

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

#: Crops that are cut between two looks at the stop button.
BATCH = 32


@dataclass(frozen=True)
class CutCrops:
    """Crops at the model's scale.

    Attributes
    ----------
    pixels : numpy.ndarray, (N, side, side, 3), uint8
    kinds : numpy.ndarray, (N, 3), float32
        The segmenter's vote for red cell, leukocyte, platelet; zeros where it was not asked.
    not_found : int
        Crops in whose middle no cell was outlined.
    notes : tuple of str
        How the scale was found.
    """

    pixels: np.ndarray
    kinds: np.ndarray
    not_found: int
    notes: tuple[str, ...]


def cut(
    collection: Collection, config: TrainConfig, rule: CropRule, device: str, cancel: CancelToken
) -> Generator[TrainEvent, None, CutCrops]:
    """Cut the crops of a collection, or resize them where they are cut already.

    Yields
    ------
    TrainEvent
    """
    if config.ready_crops:
        return (yield from _resized(collection, rule, cancel))
    from napari_leukocls.cutting import common_scales, cut_central
    from napari_leukocls.segmentation.catalogue import compact

    segmenter = compact(device)
    yield TrainEvent("progress", {"stage": "scale", "done": 0, "total": 1})
    given = [config.um_per_px if crop.um_per_px is None else crop.um_per_px for crop in collection.crops]
    scales, notes = common_scales(
        collection.sizes, lambda row: pixels_of(collection.crops[row]), given, rule.um_per_px,
        segmenter,
    )  # fmt: skip
    for note in notes:
        yield TrainEvent("log", {"message": note})

    def one(row: int) -> tuple[np.ndarray, np.ndarray, bool]:
        crop = collection.crops[row]
        if getattr(crop, "mask", b"") and rule.red_cell is None:
            return cut_stored(crop, scales[row], rule)
        cell = cut_central(pixels_of(crop), scales[row], segmenter, rule)
        return cell.crop, cell.kind, cell.found

    cache = CropCache(rule, segmenter.weights_hash or segmenter.name)
    keys = [cache.key(digest, scale) for digest, scale in zip(collection.hashes, scales, strict=True)]
    try:
        made = yield from _through_cache(cache, keys, one, cancel)
    finally:
        cache.close()
    if made.not_found:
        share = 100 * made.not_found / len(collection)
        message = f"in {made.not_found} crops ({share:.1f} %) no cell is outlined: their middle is used."
        yield TrainEvent("warning", {"message": message})
    return CutCrops(made.pixels, made.kinds, made.not_found, tuple(notes))


def cut_stored(crop: LabelledCrop, um_per_px: float, rule: CropRule) -> tuple[np.ndarray, np.ndarray, bool]:
    """Cut a crop of the review store by the outline that the analysis gave it."""
    from napari_leukocls.classification.crops import cut_crops

    pixels = pixels_of(crop)
    labels = (np.asarray(crop.cell_mask()) > 127).astype(np.int32)  # type: ignore[attr-defined]
    rows, columns = np.nonzero(labels)
    if len(rows) == 0:
        rows, columns = np.array([0, pixels.shape[0] - 1]), np.array([0, pixels.shape[1] - 1])
    box = np.array([[rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]])
    glass = crop.glass  # type: ignore[attr-defined]
    made = cut_crops(pixels, labels, np.array([1]), box, um_per_px, glass, rule)[0]
    return made, np.zeros(3, np.float32), bool(labels.any())


def _through_cache(
    cache: CropCache, keys: list[str], one: Any, cancel: CancelToken
) -> Generator[TrainEvent, None, CutCrops]:
    side = cache.rule.side_px
    pixels = np.empty((len(keys), side, side, 3), np.uint8)
    kinds = np.zeros((len(keys), 3), np.float32)
    found = np.ones(len(keys), bool)
    new: list[int] = []
    for row, key in enumerate(keys):
        kept = cache.get(key)
        if kept is None:
            new.append(row)
        else:
            pixels[row], kinds[row], found[row] = kept
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(new), BATCH):
            cancel.check()
            yield TrainEvent("progress", {"stage": "cut", "done": start, "total": len(new)})
            rows = new[start : start + BATCH]
            for row, made in zip(rows, pool.map(one, rows), strict=True):
                pixels[row], kinds[row], found[row] = made
            cache.put([(keys[row], pixels[row], kinds[row], bool(found[row])) for row in rows])
    return CutCrops(pixels, kinds, int((~found).sum()), ())


def _resized(
    collection: Collection, rule: CropRule, cancel: CancelToken
) -> Generator[TrainEvent, None, CutCrops]:
    import cv2

    side = rule.side_px
    pixels = np.empty((len(collection), side, side, 3), np.uint8)
    for row, crop in enumerate(collection.crops):
        if row % 500 == 0:
            cancel.check()
            yield TrainEvent("progress", {"stage": "cut", "done": row, "total": len(collection)})
        image = pixels_of(crop)
        shrinks = max(image.shape[:2]) > side
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels[row] = (
            image if image.shape[:2] == (side, side) else cv2.resize(image, (side, side), interpolation=way)
        )
    kinds = np.zeros((len(collection), 3), np.float32)
    return CutCrops(pixels, kinds, 0, ("the crops are taken to be at the model's scale already.",))
