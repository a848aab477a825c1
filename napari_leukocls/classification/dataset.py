"""LabelledCrop.pixels(), read_dataset(): the one reader of labelled crops (sizes, hashes, what was skipped)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import IMAGE_SUFFIXES, read_image
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX

#: Share of unreadable crops above which the data is refused: something is wrong with all of it.
MAX_UNREADABLE = 0.05


@dataclass(frozen=True)
class LabelledCrop:
    """One image of one cell.

    Attributes
    ----------
    file : str
        As the data names it: relative to the folder or the CSV.
    path : Path
    class_name : str
        In the project's names where the scheme knows it, else as it stands.
    um_per_px : float or None
    patient, slide, split : str
        Empty where the data does not say.
    """

    file: str
    path: Path
    class_name: str
    um_per_px: float | None = None
    patient: str = ""
    slide: str = ""
    split: str = ""


def read_labelled_crops(data: str | Path, scheme: Scheme) -> list[LabelledCrop]:
    """List labelled crops.

    Parameters
    ----------
    data : path-like
        A folder whose folders are named after classes, or a CSV with columns ``file`` and ``class`` and
        optionally ``patient``, ``slide``, ``split`` and ``um_per_px``.
    scheme : Scheme
        Its aliases are understood as names of classes.

    Returns
    -------
    list of LabelledCrop
        Sorted by file.

    Raises
    ------
    InputError
        Where there is nothing of the kind.
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
        if not class_folder.is_dir() or class_folder.name.startswith("."):
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
    missing = [column for column in ("file", "class") if column not in table.columns]
    if missing:
        raise InputError(
            f"{table_file} has no column {' and no column '.join(missing)}: it needs file,class."
        )
    crops = []
    for place, row in enumerate(table.to_dict("records"), start=1):
        if not row["file"].strip() or not row["class"].strip():
            raise InputError(f"{table_file}: row {place} has no file or no class: fill it in or delete it.")
        crops.append(
            LabelledCrop(
                row["file"],
                table_file.parent / row["file"],
                scheme.resolve(row["class"]) or row["class"],
                _pixel_size(row.get("um_per_px", ""), table_file),
                row.get("patient", ""),
                row.get("slide", ""),
                row.get("split", ""),
            )
        )
    return crops


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


log = logging.getLogger(__name__)

#: How a table says that a crop is the test's.
TEST_WORDS = ("test", "testing", "holdout", "held-out", "heldout")


@dataclass(frozen=True)
class Gathered:
    """Labelled crops whose files are images.

    Attributes
    ----------
    crops : list of LabelledCrop
    sizes : list of (int, int)
        Height and width of each.
    skipped : list of str
        Files that are no readable image.
    """

    crops: list[LabelledCrop]
    sizes: list[tuple[int, int]]
    skipped: list[str]

    @property
    def groups(self) -> np.ndarray | None:
        """Patient, else slide, of each crop (N,); None where a crop has neither."""
        names = [crop.patient or crop.slide for crop in self.crops]
        return np.array(names) if all(names) else None


def gather(data: str | Path, test_only: bool = False) -> Gathered:
    """List labelled crops and leave out those that cannot be read.

    Parameters
    ----------
    data : path-like
        A folder of class folders, or a CSV.
    test_only : bool
        Where the CSV's column ``split`` says of some crops that they are the test's, take those alone.

    Raises
    ------
    InputError
        Where there is nothing, or more than 5 % are no images.
    """
    crops = read_labelled_crops(data, default_scheme())
    if test_only:
        test = [crop for crop in crops if crop.split.strip().casefold() in TEST_WORDS]
        crops = test or crops
    kept: list[LabelledCrop] = []
    sizes: list[tuple[int, int]] = []
    bad: list[str] = []
    for crop in crops:
        try:
            height, width = read_image(crop.path).pixels.shape[:2]
        except InputError as error:
            log.debug("%s", error)
            bad.append(crop.file)
            continue
        kept.append(crop)
        sizes.append((height, width))
    if len(bad) > MAX_UNREADABLE * len(crops):
        raise InputError(
            f"{len(bad)} of {len(crops)} crops cannot be read (first {bad[0]}): check the data's files."
        )
    for name in bad:
        log.warning("%s is no readable image and was skipped.", name)
    return Gathered(kept, sizes, bad)


def truth_of(gathered: Gathered, classes: Sequence[str]) -> list[str]:
    """Class of each crop, in a model's classes where it is, or is part of, one of them."""
    scheme = default_scheme()
    return [scheme.coarsen(crop.class_name, classes) for crop in gathered.crops]
