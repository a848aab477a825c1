"""Labelled crops for training and evaluation: listed, read once, with notes on what was left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

import cv2
import numpy as np

from napari_leukocls.classification.crop_table import boxed, crops_of
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.datasets.detect import GIVE, read_labels
from napari_leukocls.datasets.marked import Labels, Marked
from napari_leukocls.datasets.tables import Table, read_table
from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.provenance import is_split_table, split_rows
from napari_leukocls.plurals import count_text, first_names
from napari_leukocls.progress import Progress, Steps
from napari_leukocls.scheme import Scheme, default_scheme

log = logging.getLogger(__name__)

#: Share of unreadable crops above which the data is refused: something is wrong with all of it.
MAX_UNREADABLE = 0.05
#: Crops that are read between two steps of progress.
READ_TOGETHER = 200
#: How far a side of a box may be from a whole pixel and still count as that pixel.
ROUNDING_PX = 0.05


@dataclass(frozen=True)
class Listing:
    """Labelled crops that were found and not read yet.

    Attributes
    ----------
    kind : str
        What the data is, in words.
    crops : tuple of LabelledCrop
        Sorted by file.
    notes : tuple of str
        How the data was understood, and what was left out.
    images_without_label : int
        Annotated images in which nothing is marked.
    outside : int
        Boxes that were cut at the edge of their image, or left out.
    """

    kind: str
    crops: tuple[LabelledCrop, ...]
    notes: tuple[str, ...] = ()
    images_without_label: int = 0
    outside: int = 0


@dataclass(frozen=True)
class Dataset:
    """Labelled crops that can be read.

    Attributes
    ----------
    crops : tuple of LabelledCrop, length N
    hashes : tuple of str, length N
        SHA-256 of each image's file; empty if they were not asked for.
    sizes : tuple of (int, int), length N
        Height and width of each image, pixels.
    thumbs : numpy.ndarray, (N, S, S, 3), uint8
        Small pictures of the crops; S is 0 if they were not asked for.
    left_out : tuple of (str, str)
        Files that are not used, and why.
    notes : tuple of str
        How the data was understood.
    """

    crops: tuple[LabelledCrop, ...]
    hashes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    thumbs: np.ndarray
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def labels(self) -> list[str]:
        """Class of each crop."""
        return [crop.class_name for crop in self.crops]

    @property
    def skipped(self) -> list[str]:
        """Files that are not used."""
        return [file for file, _ in self.left_out]

    @property
    def groups(self) -> np.ndarray | None:
        """Patient, else slide, of each crop (N,); None if a crop has neither."""
        names = [crop.patient or crop.slide for crop in self.crops]
        return np.array(names) if all(names) else None

    def keep(self, rows: Sequence[int], dropped: Iterable[tuple[str, str]]) -> Dataset:
        """Return the data with some rows only.

        Parameters
        ----------
        rows : sequence of int
        dropped : iterable of (str, str)
            Files of the other rows, and why they are not used.
        """
        return Dataset(
            tuple(self.crops[row] for row in rows),
            tuple(self.hashes[row] for row in rows) if self.hashes else (),
            tuple(self.sizes[row] for row in rows),
            self.thumbs[list(rows)],
            (*self.left_out, *dropped),
            self.notes,
        )


def read_dataset(
    data: str | Path | Listing | Sequence[LabelledCrop],
    *,
    test_only: bool = False,
    hashes: bool = False,
    thumbnail_px: int = 0,
) -> Steps[Dataset]:
    """Read labelled crops, each file once, and leave out those that cannot be read.

    Parameters
    ----------
    data : path-like, Listing or sequence of LabelledCrop
        As `list_labelled` takes it, or crops that are listed already.
    test_only : bool
        Take the crops of the test part, if the data names parts.
    hashes : bool
        Compute the SHA-256 of each file.
    thumbnail_px : int
        Side of the small pictures to make; 0 for none.

    Yields
    ------
    Progress

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there is no crop, more than 5 % cannot be read, or `test_only` is set and all crops are of other parts.
    """
    listing = _listed(data)
    crops, notes = list(listing.crops), list(listing.notes)
    if test_only:
        crops = _test_part(crops, data)
        if len(crops) < len(listing.crops):
            notes.append(f"only the {len(crops)} crops of the test part are used, of {len(listing.crops)}.")
    kept: list[LabelledCrop] = []
    digests: list[str] = []
    sizes: list[tuple[int, int]] = []
    thumbs: list[np.ndarray] = []
    left_out: list[tuple[str, str]] = []
    for i, crop in enumerate(crops):
        if i % READ_TOGETHER == 0:
            yield Progress("read", i, len(crops))
        try:
            pixels = _checked_pixels(crop)
            digest = sha256_of(crop.raw()) if hashes else ""
        except (InputError, OSError) as error:
            log.debug("%s: %s", crop.file, error)
            left_out.append((crop.file, "it cannot be read"))
            continue
        kept.append(crop)
        digests.append(digest)
        sizes.append(crop.size() if crop.box is not None else (pixels.shape[0], pixels.shape[1]))
        if thumbnail_px:
            thumbs.append(cv2.resize(pixels, (thumbnail_px, thumbnail_px), interpolation=cv2.INTER_AREA))
    if len(left_out) > MAX_UNREADABLE * len(crops):
        raise InputError(
            f"{len(left_out)} of {len(crops)} crops cannot be read (first {left_out[0][0]}): check the data's "
            "files. Paths in a table count from the folder of the table."
        )
    pictures = np.stack(thumbs) if thumbs else np.zeros((len(kept), thumbnail_px, thumbnail_px, 3), np.uint8)
    hashed = tuple(digests) if hashes else ()
    return Dataset(tuple(kept), hashed, tuple(sizes), pictures, tuple(left_out), tuple(notes))


def _listed(data: str | Path | Listing | Sequence[LabelledCrop]) -> Listing:
    if isinstance(data, (str, Path)):
        return list_labelled(data, default_scheme())
    return data if isinstance(data, Listing) else Listing("crops", tuple(data))


def _checked_pixels(crop: LabelledCrop) -> np.ndarray:
    """Read an image, and check that its mask fits it."""
    pixels: np.ndarray = crop.pixels()
    mask = crop.cell_mask()
    if mask is not None and mask.shape != pixels.shape[:2]:
        raise InputError(f"the mask of {crop.file} has another size than its image: correct the table.")
    return pixels


def _test_part(crops: list[LabelledCrop], data: object) -> list[LabelledCrop]:
    test = [crop for crop in crops if crop.split == "test"]
    if test or not any(crop.split for crop in crops):
        return test or crops
    source = data if isinstance(data, (str, Path)) else "the data"
    raise InputError(
        f"{source} has no crop of the test part: models were trained on its crops; give crops that no model knows."
    )


def truth_of(dataset: Dataset, classes: Sequence[str]) -> list[str]:
    """Return the true class of each crop in a model's classes.

    Parameters
    ----------
    dataset : Dataset
    classes : sequence of str
        Of the model. A finer class of the data becomes the model's coarser one; a class that the model does not
        know keeps its name.
    """
    scheme = default_scheme()
    return [scheme.coarsen(crop.class_name, classes) for crop in dataset.crops]


def list_crops(data: str | Path, scheme: Scheme) -> list[LabelledCrop]:
    """List labelled crops without reading the images; see `list_labelled`.

    Parameters
    ----------
    data : path-like
    scheme : Scheme

    Returns
    -------
    list of LabelledCrop
        Sorted by file.

    Raises
    ------
    InputError
        If there are none, or the data is wrong.
    """
    return list(list_labelled(data, scheme).crops)


def list_labelled(data: str | Path, scheme: Scheme) -> Listing:
    """Find out what labelled data is, and list its crops without reading the images.

    Parameters
    ----------
    data : path-like
        A folder whose folders are named after classes, also within folders of the parts of a split or of patients;
        a table (CSV, TSV, XLSX, ODS) with the columns ``file`` and ``class`` and, if they are known, the others of
        `napari_leukocls.classification.crop_table.COLUMNS`; annotations of YOLO, COCO, Pascal VOC, LabelMe, CVAT or
        QuPath, as their folder or file; or the ``split.csv`` of a model, whose crops are looked for beside it and in
        the data of that training.
    scheme : Scheme
        Its aliases are understood as names of classes.

    Returns
    -------
    Listing

    Raises
    ------
    InputError
        If there are none, or the data is wrong.
    """
    path = Path(data)
    found = read_labels(path, scheme)
    if isinstance(found, Path):
        listing = _from_table(found, scheme)
    else:
        listing = _from_labels(found, scheme, path)
    if not listing.crops:
        raise InputError(f"{path} holds no labelled crop: {GIVE}.")
    crops = tuple(sorted(listing.crops, key=lambda crop: crop.file))
    codes = sorted({crop.class_name for crop in crops if crop.class_name.isdecimal()})
    note = f"the classes {first_names(codes)} are numbers: give the names of the cells."
    return replace(listing, crops=crops, notes=(*listing.notes, *([note] if codes else [])))


def _from_labels(labels: Labels, scheme: Scheme, source: Path) -> Listing:
    """Crops of class folders and of annotations; a cell that is marked twice is one crop."""
    crops: dict[str, LabelledCrop] = {}
    twice: list[str] = []
    for row in labels.rows:
        crop = _crop_of(row, scheme)
        first = crops.setdefault(crop.file, crop)
        if first is crop:
            continue
        if first.class_name != crop.class_name:
            raise InputError(
                f"{source}: {crop.file} is labelled as {first.class_name!r} and as {crop.class_name!r}: correct one."
            )
        twice.append(crop.file)
    notes = list(labels.notes)
    if twice:
        n = count_text(len(twice), "label is", "labels are")
        notes.append(f"{n} repeated and taken once: {first_names(twice)}.")
    return Listing(
        labels.kind, tuple(crops.values()), tuple(notes), labels.images_without_label, labels.outside
    )


def _crop_of(row: Marked, scheme: Scheme) -> LabelledCrop:
    name = scheme.resolve(row.class_text) or " ".join(row.class_text.split())
    crop = LabelledCrop(row.file, row.path, name, patient=row.group, split=row.split)
    if row.box is None:
        return crop
    # Shares with six decimals are no whole pixels.
    x0, y0, x1, y1 = (side + sign * ROUNDING_PX for side, sign in zip(row.box, (1, 1, -1, -1), strict=True))
    box = (floor(x0), floor(y0), max(ceil(x1), floor(x0) + 1), max(ceil(y1), floor(y0) + 1))
    return replace(crop, file=boxed(row.file, box), box=box, outline=row.outline)


def _from_table(path: Path, scheme: Scheme) -> Listing:
    """Crops of a table, or of a model's split."""
    table = read_table(path)
    if is_split_table(table.columns):
        return Listing("the split of a model", tuple(_from_split(table, scheme)), table.notes)
    crops, notes = crops_of(table, scheme)
    return Listing("table", tuple(crops), tuple(notes))


def _from_split(table: Table, scheme: Scheme) -> list[LabelledCrop]:
    """List the crops of a model's split, with their parts."""
    table_file = table.path
    rows = [row for row in split_rows(table.rows, table_file) if row.split]
    known: dict[str, LabelledCrop] = {}
    trained_on = _training_data(table_file.parent)
    if trained_on is not None and trained_on.exists() and trained_on.resolve() != table_file.resolve():
        known = {crop.file: crop for crop in list_crops(trained_on, scheme)}
    crops, lost = [], []
    for row in rows:
        beside = table_file.parent / row.file
        crop = known.get(row.file)
        if crop is None and beside.is_file():
            crop = LabelledCrop(row.file, beside, scheme.resolve(row.class_name) or row.class_name)
        if crop is None:
            lost.append(row.file)
        else:
            crops.append(replace(crop, split=row.split))
    if lost:
        raise InputError(
            f"{len(lost)} of {len(rows)} crops of {table_file} are not found (first {lost[0]}): copy the table into "
            "the folder of the crops, and give that copy."
        )
    return crops


def _training_data(model: Path) -> Path | None:
    """Return the folder or table that a model was trained on, as the model's ``run.json`` names it."""
    try:
        data = json.loads((model / "run.json").read_text(encoding="utf-8"))["config"]["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(data) if isinstance(data, str) and data else None
