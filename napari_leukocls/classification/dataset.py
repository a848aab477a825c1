"""The one reader of labelled crops, for training and evaluation: images, outlines, sizes, and what was left out."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from napari_leukocls.errors import InputError
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.io.images import IMAGE_SUFFIXES, read_image
from napari_leukocls.io.serialise import original_text, safe_text, sha256_of
from napari_leukocls.models.provenance import is_split_table, part_named, read_split
from napari_leukocls.progress import Progress, Steps
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX

log = logging.getLogger(__name__)

#: Share of unreadable crops above which the data is refused: something is wrong with all of it.
MAX_UNREADABLE = 0.05
#: Crops that are read between two steps of progress.
READ_TOGETHER = 200
#: Folder beside the class folders that holds masks of cells and no crops.
MASKS_FOLDER = "masks"
#: Columns of a table of labelled crops; all but the first two may be missing.
COLUMNS = ("file", "class", "patient", "slide", "split", "um_per_px", "mask", "glass", "red_cell_density")

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class LabelledCrop:
    """One image of one cell.

    Attributes
    ----------
    file : str
        As the data names it: relative to the folder or the CSV.
    path : Path
    class_name : str
        The project's name of the class if the scheme knows it, else the name in the data.
    um_per_px : float or None
    patient, slide : str
        Empty if they are not known.
    split : str
        ``train``, ``validation``, ``test``, or empty.
    mask_path : Path or None
        Image of the same size, white where the cell is; None if the cell is not outlined.
    glass : tuple of 3 float or None
        RGB of the smear's empty glass, 0-255; NaN where it has none, None if it was not measured.
    red_cell_density : tuple of 3 float or None
        Optical density of the smear's red cells; NaN where it has too few, None if it was not measured.
    """

    file: str
    path: Path
    class_name: str
    um_per_px: float | None = None
    patient: str = ""
    slide: str = ""
    split: str = ""
    mask_path: Path | None = None
    glass: Colour | None = None
    red_cell_density: Colour | None = None

    def raw(self) -> bytes:
        """Return the bytes of the image file.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return self.path.read_bytes()

    def pixels(self) -> np.ndarray:
        """Return the image, (h, w, 3) uint8.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        return read_image(self.path).pixels

    def raw_mask(self) -> bytes:
        """Return the bytes of the mask's file; empty if the cell is not outlined.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return b"" if self.mask_path is None else self.mask_path.read_bytes()

    def cell_mask(self) -> np.ndarray | None:
        """Return the mask of the cell, (h, w) uint8, above 127 in the cell; None if it is not outlined.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        return None if self.mask_path is None else read_image(self.mask_path).pixels[..., 0]


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
    """

    crops: tuple[LabelledCrop, ...]
    hashes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    thumbs: np.ndarray
    left_out: tuple[tuple[str, str], ...] = ()

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
        )


def read_dataset(
    data: str | Path | Sequence[LabelledCrop],
    *,
    test_only: bool = False,
    hashes: bool = False,
    thumbnail_px: int = 0,
) -> Steps[Dataset]:
    """Read labelled crops, each file once, and leave out those that cannot be read.

    Parameters
    ----------
    data : path-like or sequence of LabelledCrop
        As `list_crops` takes it, or crops that are listed already.
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
    crops = list_crops(data, default_scheme()) if isinstance(data, (str, Path)) else list(data)
    if test_only:
        crops = _test_part(crops, data)
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
        sizes.append((pixels.shape[0], pixels.shape[1]))
        if thumbnail_px:
            thumbs.append(cv2.resize(pixels, (thumbnail_px, thumbnail_px), interpolation=cv2.INTER_AREA))
    if len(left_out) > MAX_UNREADABLE * len(crops):
        raise InputError(
            f"{len(left_out)} of {len(crops)} crops cannot be read (first {left_out[0][0]}): check the data's files."
        )
    pictures = np.stack(thumbs) if thumbs else np.zeros((len(kept), thumbnail_px, thumbnail_px, 3), np.uint8)
    return Dataset(tuple(kept), tuple(digests) if hashes else (), tuple(sizes), pictures, tuple(left_out))


def _checked_pixels(crop: LabelledCrop) -> np.ndarray:
    """Read an image, and check that its mask fits it."""
    pixels = crop.pixels()
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
    """List labelled crops without reading the images.

    Parameters
    ----------
    data : path-like
        A folder whose folders are named after classes; a CSV with the columns ``file`` and ``class`` and, if they
        are known, the others of `COLUMNS`; or the ``split.csv`` of a model, whose crops are looked for beside it
        and in the data of that training.
    scheme : Scheme
        Its aliases are understood as names of classes.

    Returns
    -------
    list of LabelledCrop
        Sorted by file.

    Raises
    ------
    InputError
        If there are none, or the table is wrong.
    """
    path = Path(data)
    if path.is_dir():
        crops = _from_folder(path, scheme)
    elif path.is_file():
        crops = _from_csv(path, scheme)
    else:
        raise InputError(f"{path} does not exist: give a folder of class folders, or a CSV with file,class.")
    if not crops:
        raise InputError(
            f"{path} holds no labelled crop: give a folder of class folders, or a CSV with file,class."
        )
    return sorted(crops, key=lambda crop: crop.file)


def _from_folder(folder: Path, scheme: Scheme) -> list[LabelledCrop]:
    crops = []
    for class_folder in sorted(folder.iterdir()):
        if (
            not class_folder.is_dir()
            or class_folder.name.startswith(".")
            or class_folder.name == MASKS_FOLDER
        ):
            continue
        name = scheme.resolve(class_folder.name) or class_folder.name
        for file in sorted(class_folder.rglob("*")):
            hidden = file.name.startswith(".")
            if file.suffix.lower() in IMAGE_SUFFIXES and not hidden and file.is_file():
                crops.append(LabelledCrop(file.relative_to(folder).as_posix(), file, name))
    return crops


def _from_csv(table_file: Path, scheme: Scheme) -> list[LabelledCrop]:
    try:
        table = pd.read_csv(table_file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table_file} cannot be read as a CSV ({error}).") from error
    if is_split_table(table.columns):
        return _from_split(table_file, scheme)
    missing = [column for column in ("file", "class") if column not in table.columns]
    if missing:
        raise InputError(
            f"{table_file} has no column {' and no column '.join(missing)}: it needs file,class."
        )
    return [
        _from_row({name: original_text(text) for name, text in row.items()}, number, table_file, scheme)
        for number, row in enumerate(table.to_dict("records"), start=1)
    ]


def _from_row(row: dict[Any, str], number: int, table_file: Path, scheme: Scheme) -> LabelledCrop:
    if not row["file"].strip() or not row["class"].strip():
        raise InputError(f"{table_file}: row {number} has no file or no class: fill it in or delete it.")
    mask = row.get("mask", "").strip()
    return LabelledCrop(
        row["file"],
        table_file.parent / row["file"],
        scheme.resolve(row["class"]) or row["class"],
        _pixel_size(row.get("um_per_px", ""), table_file),
        row.get("patient", ""),
        row.get("slide", ""),
        part_named(row.get("split", ""), row["file"]),
        table_file.parent / mask if mask else None,
        _colour(row.get("glass", ""), "glass", table_file),
        _colour(row.get("red_cell_density", ""), "red_cell_density", table_file),
    )


def _pixel_size(text: str, table_file: Path) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not LEAST_UM_PER_PX < value < MOST_UM_PER_PX:
        raise InputError(f"{table_file}: um_per_px {text!r} is no pixel size in micrometres.")
    return value


def _colour(text: str, column: str, table_file: Path) -> Colour | None:
    """Read three numbers, ``[r, g, b]``; null is NaN, an empty cell None."""
    if not text.strip():
        return None
    try:
        red, green, blue = (float("nan") if value is None else float(value) for value in json.loads(text))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{table_file}: {column} {text!r} is not [r, g, b]: correct it, or empty it."
        ) from error
    return red, green, blue


def _from_split(table_file: Path, scheme: Scheme) -> list[LabelledCrop]:
    """List the crops of a model's split, with their parts."""
    rows = [row for row in read_split(table_file) if row.split]
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


def crop_cells(crop: LabelledCrop) -> dict[str, str]:
    """Return a crop's row of a table of labelled crops.

    Parameters
    ----------
    crop : LabelledCrop

    Returns
    -------
    dict of str to str
        Text by name of column; paths are absolute.
    """
    return {
        "file": str(crop.path.resolve()),
        "class": crop.class_name,
        "patient": crop.patient,
        "slide": crop.slide,
        "split": crop.split,
        "um_per_px": "" if crop.um_per_px is None else repr(float(crop.um_per_px)),
        "mask": "" if crop.mask_path is None else str(crop.mask_path.resolve()),
        "glass": _colour_text(crop.glass),
        "red_cell_density": _colour_text(crop.red_cell_density),
    }


def _colour_text(colour: Colour | None) -> str:
    if colour is None:
        return ""
    return json.dumps([float(value) if np.isfinite(value) else None for value in colour])


def write_crop_table(crops: Iterable[LabelledCrop], path: Path) -> Path:
    """Write a table of labelled crops that `list_crops` reads back.

    Parameters
    ----------
    crops : iterable of LabelledCrop
        Their images are files.
    path : Path

    Returns
    -------
    Path
        The same.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for crop in crops:
        cells = crop_cells(crop)
        writer.writerow([safe_text(cells[column]) for column in COLUMNS])
    atomic_text(path, text.getvalue())
    return path
