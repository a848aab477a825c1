"""Labelled crops as people have them: a folder of class folders, or a CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_leukocls.errors import InputError
from napari_leukocls.scheme import Scheme
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
    from napari_leukocls.io.images import IMAGE_SUFFIXES

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
    import pandas as pd

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
