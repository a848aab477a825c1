"""Crops cut (or taken as stored) and cached."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.classification.crops import whole_image
from napari_leukocls.classification.dataset import Dataset
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.classification.single_cell import common_scales, cut_labelled, shows_other_area
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.paths import user_data_dir
from napari_leukocls.progress import CancelToken
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.threads import cores
from napari_leukocls.training.events import TrainEvent

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

log = logging.getLogger(__name__)

#: Changes when crops are cut in another way with the same rule.
FORMAT = 1
#: Crops that are cut between two checks of the stop button.
BATCH = 32
#: Shorter side, pixels, from which on an image can show red cells or a nucleus that is measured.
LEAST_MEASURED_PX = 60
#: Sides of whole images, micrometres, that are believed.
LEAST_SIDE_UM, MOST_SIDE_UM = 5.0, 150.0
#: Spread of the sides (10th to 90th percentile, share of the median) up to which images count as alike.
SAME_SIDE = 0.1


def cache_folder() -> Path:
    """Return the folder of the cache; ``LEUKOCLS_CACHE`` names another one.

    Returns
    -------
    Path
    """
    override = os.environ.get("LEUKOCLS_CACHE")
    return Path(override) if override else user_data_dir() / "cache"


class CropCache:
    """Cut crops by key.

    A cache that cannot be read or written is not used, and one line of the log says so: it only saves time.

    Parameters
    ----------
    rule : CropRule
    how : str
        How crops are found: the segmenter's hash, or a word where none is used.
    """

    def __init__(self, rule: CropRule, how: str) -> None:
        self.rule = rule
        self._how = f"{FORMAT}|{rule}|{how}"
        name = sha256_of(self._how.encode())[:16]
        self._file = cache_folder() / f"crops-{name}.sqlite"
        self._base: sqlite3.Connection | None = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._file, timeout=30, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS crops (key TEXT PRIMARY KEY, found INT, data BLOB)"
            )
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def key(self, digest: str, um_per_px: float, crop: LabelledCrop | None = None) -> str:
        """Return the key of a cut crop.

        Parameters
        ----------
        digest : str
            SHA-256 of the image.
        um_per_px : float
        crop : LabelledCrop, optional
            Its outline, if it has one, and its smear's colours belong to the key.

        Returns
        -------
        str
        """
        key = f"{digest}@{um_per_px:.6g}"
        mask = b"" if crop is None else crop.raw_mask()
        if crop is None or not mask:
            return key
        return f"{key}|{sha256_of(mask)}|{crop.glass}|{crop.red_cell_density}"

    def get(self, key: str) -> tuple[np.ndarray, np.ndarray, bool] | None:
        """Return a crop that was cut before.

        Parameters
        ----------
        key : str

        Returns
        -------
        tuple or None
            Crop (side, side, 3), kind votes (3,), and whether a cell was found; None if it is not there.
        """
        if self._base is None:
            return None
        try:
            row = self._base.execute("SELECT found, data FROM crops WHERE key=?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        side = self.rule.side_px
        if row is None or len(row[1]) != 12 + side * side * 3:
            return None
        kind = np.frombuffer(row[1], np.float32, 3)
        return np.frombuffer(row[1], np.uint8, offset=12).reshape(side, side, 3), kind, bool(row[0])

    def put(self, rows: list[tuple[str, np.ndarray, np.ndarray, bool]]) -> None:
        """Keep crops.

        Parameters
        ----------
        rows : list of tuple
            Key, crop, kind votes, and whether a cell was found.
        """
        if self._base is None:
            return
        values = [
            (key, int(found), np.asarray(kind, np.float32).tobytes() + np.ascontiguousarray(crop).tobytes())
            for key, crop, kind, found in rows
        ]
        try:
            with self._base:
                self._base.executemany("INSERT OR REPLACE INTO crops VALUES (?, ?, ?)", values)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _give_up(self, error: Exception) -> None:
        log.warning("the cache of crops %s is not used (%s); free space or delete it.", self._file, error)
        with contextlib.suppress(sqlite3.Error):
            self.close()
        self._base = None


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
    rule : CropRule
        By which they were cut; of whole images, with the side that was measured.
    """

    pixels: np.ndarray
    kinds: np.ndarray
    not_found: int
    notes: tuple[str, ...]
    rule: CropRule


def cut(
    dataset: Dataset, config: TrainConfig, rule: CropRule, device: str, cancel: CancelToken
) -> Generator[TrainEvent, None, CutCrops]:
    """Cut the crops of a dataset, or resize them if they are cut already.

    Parameters
    ----------
    dataset : Dataset
    config : TrainConfig
    rule : CropRule
    device : str
    cancel : CancelToken

    Yields
    ------
    TrainEvent

    Returns
    -------
    CutCrops
    """
    if config.ready_crops or rule.whole_image:
        return (yield from _resized(dataset, config, rule, device, cancel))
    segmenter = compact(device)
    yield TrainEvent("progress", {"stage": "scale", "done": 0, "total": 1})
    given = [config.um_per_px if crop.um_per_px is None else crop.um_per_px for crop in dataset.crops]
    scales, notes = common_scales(
        [crop.file for crop in dataset.crops],
        dataset.sizes,
        lambda row: dataset.crops[row].surroundings(),
        given,
        rule.um_per_px,
        segmenter,
    )
    for note in notes:
        yield TrainEvent("log", {"message": note})

    def one(row: int) -> tuple[np.ndarray, np.ndarray, bool]:
        cell = cut_labelled(dataset.crops[row], scales[row], segmenter, rule)
        return cell.crop, cell.kind, cell.found

    cache = CropCache(rule, segmenter.weights_hash or segmenter.name)
    keys = [
        cache.key(digest, scale, crop)
        for digest, scale, crop in zip(dataset.hashes, scales, dataset.crops, strict=True)
    ]
    try:
        made = yield from _through_cache(cache, keys, one, cancel)
    finally:
        cache.close()
    if made.not_found:
        share = 100 * made.not_found / len(dataset)
        message = f"in {made.not_found} crops ({share:.1f} %) no cell is outlined: their middle is used."
        yield TrainEvent("warning", {"message": message})
    return CutCrops(made.pixels, made.kinds, made.not_found, tuple(notes), rule)


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
    with ThreadPoolExecutor(min(4, cores())) as pool:
        for start in range(0, len(new), BATCH):
            cancel.check()
            yield TrainEvent("progress", {"stage": "cut", "done": start, "total": len(new)})
            rows = new[start : start + BATCH]
            for row, made in zip(rows, pool.map(one, rows), strict=True):
                pixels[row], kinds[row], found[row] = made
            cache.put([(keys[row], pixels[row], kinds[row], bool(found[row])) for row in rows])
    return CutCrops(pixels, kinds, int((~found).sum()), (), cache.rule)


def _resized(
    dataset: Dataset, config: TrainConfig, rule: CropRule, device: str, cancel: CancelToken
) -> Generator[TrainEvent, None, CutCrops]:
    """Whole images, and how large a part of a slide they show."""
    side = rule.side_px
    pixels = np.empty((len(dataset), side, side, 3), np.uint8)
    for row, crop in enumerate(dataset.crops):
        if row % 500 == 0:
            cancel.check()
            yield TrainEvent("progress", {"stage": "cut", "done": row, "total": len(dataset)})
        image = crop.pixels()
        if rule.whole_image and shows_other_area(crop, image, rule):
            pixels[row] = cut_labelled(crop, crop.um_per_px or rule.um_per_px, compact(device), rule).crop
        else:
            pixels[row] = whole_image(image, rule)
    kinds = np.zeros((len(dataset), 3), np.float32)
    notes: tuple[str, ...] = ("the images are taken whole.",)
    if not rule.whole_image:
        notes = (f"the images are taken as crops of {rule.side_um:g} um a side, which they must be.",)
        yield TrainEvent("warning", {"message": notes[0]})
    elif not rule.side_known:
        yield TrainEvent("progress", {"stage": "scale", "done": 0, "total": 1})
        rule, note = _with_side(dataset, config, rule, device)
        notes = (*notes, note)
        yield TrainEvent("log", {"message": note})
    return CutCrops(pixels, kinds, 0, notes, rule)


def _with_side(dataset: Dataset, config: TrainConfig, rule: CropRule, device: str) -> tuple[CropRule, str]:
    """The rule with the part of a slide that whole images show, as their red cells or nuclei tell, and a note on it."""
    rows = [row for row, size in enumerate(dataset.sizes) if min(size) >= LEAST_MEASURED_PX]
    scales: list[float] = []
    if rows:
        given = [dataset.crops[row].um_per_px or config.um_per_px for row in rows]
        scales, _ = common_scales(
            [dataset.crops[row].file for row in rows],
            [dataset.sizes[row] for row in rows],
            lambda number: dataset.crops[rows[number]].surroundings(),
            given,
            float("nan"),
            compact(device),
        )
    sides = np.array(
        [scale * float(np.sqrt(np.prod(dataset.sizes[row]))) for row, scale in zip(rows, scales, strict=True)]
    )
    sides = sides[np.isfinite(sides)] * rule.central_share
    if len(sides) == 0 or not LEAST_SIDE_UM < np.median(sides) < MOST_SIDE_UM:
        return rule, (
            "nothing in the images shows their size on the slide: the model can classify images of one cell, but "
            "analyse no field; give --side-um if you know it."
        )
    middle = float(np.median(sides))
    spread = float(np.percentile(sides, 90) - np.percentile(sides, 10)) / middle
    more = f"; they differ by {100 * spread:.0f} %" if spread > SAME_SIDE else ""
    return replace(rule, side_um=round(middle, 2), side_known=True), (
        f"the images show about {middle:.1f} um of the slide{more}; an analysis cuts such squares around cells."
    )
