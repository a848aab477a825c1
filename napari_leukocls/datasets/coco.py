"""COCO: one JSON file of images, annotations and categories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from napari_leukocls.datasets.folders import split_word
from napari_leukocls.datasets.marked import (
    Box,
    Finder,
    Labels,
    Marked,
    Polygon,
    bounds,
    settled,
)
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import count_text, first_names

#: Largest file of annotations that is read, bytes.
MOST_BYTES = 1 << 30


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    object

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is larger than 1 GB")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}).") from error


def is_coco(content: Any) -> bool:
    """Tell whether the content of a JSON file is in the form of COCO.

    Parameters
    ----------
    content : object

    Returns
    -------
    bool
    """
    return isinstance(content, dict) and all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    )


def read_coco(files: list[tuple[Path, Any]], root: Path) -> Labels:
    """Read annotations in the form of COCO.

    Parameters
    ----------
    files : list of (Path, object)
        JSON files and their contents; one for each part of a split.
    root : Path
        Folder that images are searched in.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If an entry is wrong.
    """
    finder = Finder(root)
    rows: list[Marked] = []
    crowds: list[str] = []
    empty = 0
    for path, content in files:
        try:
            images = {image["id"]: image for image in content["images"]}
            names = {category["id"]: str(category["name"]) for category in content["categories"]}
            split = split_word(path.stem.replace("instances", "")) or split_word(path.parent.name)
            found = [
                row
                for one in content["annotations"]
                for row in _row(one, images, names, path, split, finder, crowds)
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{path} is no whole COCO file ({type(error).__name__}: {error}).") from error
        rows += found
        empty += len(images) - len({one["image_id"] for one in content["annotations"]})
    notes = finder.note()
    if crowds:
        notes.append(
            f"{count_text(len(crowds), 'crowd of cells is', 'crowds of cells are')} left out: {first_names(crowds)}."
        )
    return settled("COCO annotations", rows, notes, max(empty, 0))


def _row(
    one: dict[str, Any],
    images: dict[Any, Any],
    names: dict[Any, str],
    path: Path,
    split: str,
    finder: Finder,
    crowds: list[str],
) -> Iterator[Marked]:
    image = images[one["image_id"]]
    file = str(image["file_name"])
    if one.get("iscrowd") and not isinstance(one.get("segmentation"), dict):
        crowds.append(file)
        return
    found = finder.find(
        file, path.parent, path.parent / "images", path.parent.parent, path.parent.parent / "images"
    )
    stated = int(image.get("height") or 0), int(image.get("width") or 0)
    outline = _outline(one.get("segmentation"), stated)
    box: Box
    if one.get("bbox"):
        x, y, w, h = (float(value) for value in one["bbox"])
        box = (x, y, x + w, y + h)
    elif outline:
        box = bounds(outline)
    else:
        # A category of the whole image.
        yield Marked(finder.relative(found), found, names[one["category_id"]], split=split)
        return
    size = stated if all(stated) else None
    yield Marked(finder.relative(found), found, names[one["category_id"]], box, outline, split, size=size)


def _outline(segmentation: Any, size: tuple[int, int]) -> tuple[Polygon, ...]:
    """Polygons of a segmentation: of polygons, or of run lengths."""
    if isinstance(segmentation, list):
        return tuple(
            tuple(map(float, part)) for part in segmentation if isinstance(part, list) and len(part) >= 6
        )
    if isinstance(segmentation, dict) and segmentation.get("counts"):
        height, width = segmentation.get("size") or size
        counts = segmentation["counts"]
        runs = _runs(counts) if isinstance(counts, str) else [int(count) for count in counts]
        if sum(runs) != height * width:
            raise ValueError("run lengths that do not fill their image")
        starts = np.cumsum([0, *runs[:-1]])
        flat = np.zeros(height * width, np.uint8)
        for start, length in zip(starts[1::2], runs[1::2], strict=False):
            flat[start : start + length] = 1
        return polygons_of(flat.reshape(width, height).T)
    return ()


def _runs(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: numbers of 5 bits each, as differences from the run before the last."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            position += 1
            shift += 5
            if not more and bits & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def polygons_of(mask: np.ndarray, corner: tuple[int, int] = (0, 0)) -> tuple[Polygon, ...]:
    """Trace the outer outlines of a mask.

    Parameters
    ----------
    mask : numpy.ndarray, (H, W), uint8
    corner : tuple of int
        x, y of the mask's first pixel in the image.

    Returns
    -------
    tuple of tuple of float
        x, y, x, y, ... of pixel centres: filled again they give the mask without its holes.
    """
    found, _ = cv2.findContours(
        np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=corner
    )
    return tuple(tuple(contour.reshape(-1).astype(float).tolist()) for contour in found)
