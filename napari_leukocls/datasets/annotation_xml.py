"""XML annotations: Pascal VOC (a file for each image), and CVAT for images (a file for all)."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from napari_leukocls.datasets.coco import polygons_of
from napari_leukocls.datasets.folders import split_word
from napari_leukocls.datasets.marked import (
    Box,
    Finder,
    Labels,
    Marked,
    Polygon,
    bounds,
    files_below,
    settled,
)
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import first_names

Element = ElementTree.Element

#: Points of a polygon that stands for an ellipse.
_ELLIPSE_POINTS = 48
#: Attributes of a CVAT label that name a finer class.
_CLASS_ATTRIBUTES = ("class", "cell_type", "type", "subtype")


def root_of(path: Path) -> Element | None:
    """Read an XML file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Element or None
        Its root; None if it is no XML.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError, RecursionError):
        return None


def is_voc(root: Element | None) -> bool:
    """Tell whether an XML file is Pascal VOC's.

    Parameters
    ----------
    root : Element or None

    Returns
    -------
    bool
    """
    return root is not None and root.tag == "annotation"


def is_cvat(root: Element | None) -> bool:
    """Tell whether an XML file is CVAT's.

    Parameters
    ----------
    root : Element or None

    Returns
    -------
    bool
    """
    return root is not None and root.tag == "annotations"


def read_voc(files: list[Path], root: Path) -> Labels:
    """Read annotations of Pascal VOC.

    Parameters
    ----------
    files : list of Path
        XML files.
    root : Path
        Folder that images are searched in.

    Returns
    -------
    Labels
    """
    finder = Finder(root)
    parts = _image_sets(root)
    rows: list[Marked] = []
    wrong: list[str] = []
    empty = 0
    for path in files:
        top = root_of(path)
        if top is None or not is_voc(top):
            wrong.append(finder.relative(path))
            continue
        image = _voc_image(top, path, finder)
        split = parts.get(path.stem) or next((split_word(p) for p in path.parent.relative_to(root).parts), "")
        found = list(_voc_rows(top, image, finder, split, wrong))
        rows += found
        empty += not found
    notes = finder.note()
    if wrong:
        notes.append(f"{len(wrong)} entries cannot be read and are left out: {first_names(wrong)}.")
    return settled("Pascal VOC annotations", rows, notes, empty)


def _voc_image(top: Element, path: Path, finder: Finder) -> Path:
    """The image of an annotation: by its name, else by that of the XML file, which is often the one that is kept."""
    near = (path.parent, path.parent.parent / "JPEGImages", path.parent.parent / "images", finder.root)
    stated = (top.findtext("filename") or "").strip()
    moved = len(finder.moved)
    found = finder.find(stated, *near) if stated else Path("?")
    if found.stem != path.stem:
        del finder.moved[moved:]
        beside = Finder(finder.root, _index=finder._index).find(path.stem, *near)
        found = beside if beside.is_file() else finder.find(stated or path.stem, *near)
    return found


def _voc_rows(top: Element, image: Path, finder: Finder, split: str, wrong: list[str]) -> Iterator[Marked]:
    file = finder.relative(image)
    try:
        size = int(float(top.findtext("size/height") or 0)), int(float(top.findtext("size/width") or 0))
    except ValueError:
        size = (0, 0)
    for one in top.iter("object"):
        try:
            name = " ".join((one.findtext("name") or "").split())
            x0, y0, x1, y1 = (
                float(one.findtext(f"bndbox/{side}") or "nan") for side in ("xmin", "ymin", "xmax", "ymax")
            )
            if not name or not all(math.isfinite(value) for value in (x0, y0, x1, y1)):
                raise ValueError
        except ValueError:
            wrong.append(file)
            continue
        # VOC counts pixels from 1 and includes the last.
        yield Marked(file, image, name, (x0 - 1, y0 - 1, x1, y1), (), split, size=size if all(size) else None)


def _image_sets(root: Path) -> dict[str, str]:
    """Parts by the name of an image, from ``ImageSets/Main/train.txt`` and the like."""
    parts: dict[str, str] = {}
    for path in files_below(root):
        if path.suffix == ".txt" and "ImageSets" in path.parts and split_word(path.stem):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.split():
                    parts[line.split()[0]] = split_word(path.stem)
    return parts


def read_cvat(files: list[Path], root: Path) -> Labels:
    """Read annotations of CVAT, in its form "CVAT for images".

    Parameters
    ----------
    files : list of Path
        XML files.
    root : Path
        Folder that images are searched in.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If a file is no annotation of images.
    """
    finder = Finder(root)
    rows: list[Marked] = []
    left: list[str] = []
    empty = 0
    for path in files:
        top = root_of(path)
        if top is None:
            raise InputError(f"{path} cannot be read as XML: export it again.")
        if top.find("track") is not None:
            raise InputError(f"{path} is of a video: export it from CVAT as 'CVAT for images 1.1'.")
        for image in top.iter("image"):
            name = image.get("name") or ""
            found = finder.find(name, path.parent, path.parent / "images")
            split = split_word(image.get("subset") or "")
            size = _whole(image.get("height")), _whole(image.get("width"))
            marked = [_cvat_row(one, found, finder, split, size, left) for one in image]
            rows += [row for row in marked if row is not None]
            empty += not any(row is not None for row in marked)
    notes = finder.note()
    if left:
        notes.append(
            f"{len(left)} marks that are no area of a cell (points, lines) are left out: {first_names(left)}."
        )
    return settled("CVAT annotations", rows, notes, empty)


def _cvat_row(
    one: Element, image: Path, finder: Finder, split: str, size: tuple[int, int], left: list[str]
) -> Marked | None:
    """One mark of an image; None if it is no area."""
    file = finder.relative(image)
    finer = {(part.get("name") or "").casefold(): (part.text or "").strip() for part in one.iter("attribute")}
    name = next((finer[key] for key in _CLASS_ATTRIBUTES if finer.get(key)), one.get("label") or "")
    if one.tag == "tag":
        return Marked(file, image, name, split=split)
    try:
        box, outline = _cvat_area(one)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{file}: a mark '{one.tag}' of CVAT cannot be read ({error}).") from error
    if box is None:
        left.append(file)
        return None
    return Marked(file, image, name, box, outline, split, size=size if all(size) else None)


def _cvat_area(one: Element) -> tuple[Box | None, tuple[Polygon, ...]]:
    def number(name: str) -> float:
        return float(one.attrib[name])

    if one.tag == "box":
        box = (number("xtl"), number("ytl"), number("xbr"), number("ybr"))
        if float(one.get("rotation") or 0):
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            sides = (box[2] - box[0], box[3] - box[1], number("rotation"))
            corners = cv2.boxPoints((middle, sides[:2], sides[2])).reshape(-1).astype(float).tolist()
            return bounds([tuple(corners)]), (tuple(corners),)
        return box, ()
    if one.tag == "polygon":
        points = [float(value) for pair in one.attrib["points"].split(";") for value in pair.split(",")]
        return bounds([tuple(points)]), (tuple(points),)
    if one.tag == "ellipse":
        turn = math.radians(float(one.get("rotation") or 0))
        angles = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)
        x, y = number("rx") * np.cos(angles), number("ry") * np.sin(angles)
        xs = number("cx") + x * math.cos(turn) - y * math.sin(turn)
        ys = number("cy") + x * math.sin(turn) + y * math.cos(turn)
        polygon = tuple(np.stack([xs, ys], axis=1).reshape(-1).tolist())
        return bounds([polygon]), (polygon,)
    if one.tag == "mask":
        left, top, width, height = (int(number(name)) for name in ("left", "top", "width", "height"))
        flat = np.zeros(width * height, np.uint8)
        at = 0
        for i, length in enumerate(int(word) for word in one.attrib["rle"].split(",")):
            flat[at : at + length] = i % 2
            at += length
        if at != width * height:
            raise ValueError("its run lengths do not fill it")
        return (left, top, left + width, top + height), polygons_of(flat.reshape(height, width), (left, top))
    return None, ()


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
