"""YOLO: one text file of boxes or polygons for each image, and the names of the classes beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from napari_leukocls.datasets.folders import split_word
from napari_leukocls.datasets.marked import (
    Finder,
    Labels,
    Marked,
    bounds,
    files_below,
    image_size,
    is_image,
    settled,
)
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import count_text, first_names

_NAMES_FILES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt", "names.txt")
_LABEL = re.compile(r"\s*\d+(\.0+)?(\s+[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?){4,}\s*", re.IGNORECASE)
#: Shares of the side that a box may reach beyond the image: more means that they are no shares.
_MOST_SHARE = 2.0


def is_label_file(path: Path) -> bool:
    """Tell whether a text file holds YOLO's labels of an image.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    try:
        with path.open(encoding="utf-8") as stream:
            line = stream.readline(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return bool(_LABEL.fullmatch(line))


def yaml_of(folder: Path) -> Path | None:
    """Find the YAML file that describes a data set of YOLO.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Path or None
    """
    for pattern in ("data.y*ml", "dataset.y*ml", "*.y*ml"):
        for path in sorted(folder.glob(pattern)):
            if "names" in _read_yaml(path):
                return path
    return None


def read_yolo(source: Path) -> Labels:
    """Read a data set of YOLO.

    Parameters
    ----------
    source : Path
        Its folder, or its ``data.yaml``.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If the names of the classes are missing, or a file is wrong.
    """
    described = source if source.is_file() else yaml_of(source)
    root = source.parent if source.is_file() else source
    settings = _read_yaml(described) if described is not None else {}
    names = _names(settings.get("names"), root, described)
    parts = _parts(settings, root)
    images = {_key(path, root): path for path in files_below(root) if is_image(path)}
    rows: list[Marked] = []
    faults: list[str] = []
    used: set[str] = set()
    labels = [
        path for path in files_below(root) if path.suffix.lower() == ".txt" and path.name not in _NAMES_FILES
    ]
    finder = Finder(root)
    for label in labels:
        if label.stat().st_size and not is_label_file(label):
            continue
        key = _key(label, root)
        image = images.get(key) or finder.find(label.stem)
        used.add(key)
        file = finder.relative(image)
        for number, line in enumerate(_lines(label), start=1):
            where = f"{finder.relative(label)} line {number}"
            rows += _row(line, where, image, file, _part(image, root, parts), names, faults)
    if not rows and not used:
        raise InputError(f"{source} has no label file of YOLO (class x y width height) beside its images.")
    notes = [
        f"the classes are named by {described.name if described else 'classes.txt'}: {first_names(names.values(), 12)}."
    ]
    if faults:
        notes.append(
            f"{count_text(len(faults), 'line is', 'lines are')} wrong and left out: {first_names(faults)}."
        )
    notes += finder.note()
    marked = {row.file for row in rows}
    empty = sum(finder.relative(path) not in marked for path in images.values())
    return settled("YOLO boxes", rows, notes, empty)


def _row(
    line: str, where: str, image: Path, file: str, split: str, names: dict[int, str], faults: list[str]
) -> Iterator[Marked]:
    """One line of a label file."""
    try:
        number, *values = (float(word) for word in line.split())
        if not number.is_integer() or not all(math.isfinite(value) for value in values) or len(values) < 4:
            raise ValueError
    except ValueError:
        faults.append(where)
        return
    if max(values[:4]) > _MOST_SHARE:
        raise InputError(
            f"{where}: {max(values[:4]):g} is no share of the image's side: YOLO's boxes are written in shares "
            "(0 to 1), and these may be pixels."
        )
    if int(number) not in names:
        raise InputError(
            f"{where}: class {int(number)} has no name: there are {len(names)} names, numbered from 0."
        )
    name = names[int(number)]
    try:
        height, width = image_size(image)
    except InputError:
        # A missing image is counted by the one who reads its pixels.
        yield Marked(file, image, name, split=split)
        return
    if len(values) in (4, 5):
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        yield Marked(file, image, name, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), split=split)
        return
    points = values[: len(values) // 2 * 2]
    outline = tuple(value * (height if i % 2 else width) for i, value in enumerate(points))
    yield Marked(file, image, name, bounds([outline]), (outline,), split)


def _lines(label: Path) -> list[str]:
    try:
        return [line for line in label.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{label} cannot be read ({error}).") from error


def _key(path: Path, root: Path) -> str:
    """The name that an image and its label file share: images/a/b.png and labels/a/b.txt are one."""
    parts = [
        part
        for part in path.relative_to(root).with_suffix("").parts
        if part.lower() not in ("images", "labels")
    ]
    return "/".join(parts)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _names(stated: Any, root: Path, described: Path | None) -> dict[int, str]:
    """The name of each class number."""
    if isinstance(stated, dict):
        try:
            return {int(number): str(name) for number, name in stated.items()}
        except ValueError as error:
            raise InputError(f"{described}: names must be numbered 0, 1, ...: {error}.") from error
    if isinstance(stated, list):
        return {number: str(name) for number, name in enumerate(stated)}
    for folder in (root, root / "labels", *sorted(one for one in root.iterdir() if one.is_dir())):
        for name in _NAMES_FILES:
            if (folder / name).is_file() and not is_label_file(folder / name):
                return dict(enumerate(line.strip() for line in _lines(folder / name)))
    raise InputError(
        f"{root} has label files of YOLO, but nothing names its classes: write classes.txt with one name on each line."
    )


def _parts(settings: dict[str, Any], root: Path) -> dict[str, str]:
    """Paths, as the YAML file names them for each part, relative to the root."""
    parts: dict[str, str] = {}
    for word in ("train", "val", "valid", "validation", "test"):
        stated = settings.get(word)
        for path in [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []:
            split = split_word(word)
            if str(path).endswith(".txt"):
                listed = root / str(settings.get("path") or "") / str(path)
                listed = listed if listed.is_file() else root / Path(str(path)).name
                if listed.is_file():
                    parts |= {Path(line).stem: split for line in _lines(listed)}
            else:
                parts[str(path).replace("\\", "/").lstrip("./").rstrip("/")] = split
    return parts


def _part(image: Path, root: Path, parts: dict[str, str]) -> str:
    """The part of an image: by a list, by the YAML file's folders, else by a folder's name."""
    if image.stem in parts:
        return parts[image.stem]
    try:
        folder = image.relative_to(root).parent.as_posix()
    except ValueError:
        return ""
    for path, split in parts.items():
        if path and f"/{folder}/".find(f"/{path}/") >= 0:
            return split
    return next((split_word(part) for part in folder.split("/") if split_word(part)), "")
