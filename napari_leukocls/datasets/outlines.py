"""Outlines drawn by hand: LabelMe (a JSON file for each image), and QuPath's GeoJSON."""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_leukocls.datasets.coco import polygons_of
from napari_leukocls.datasets.folders import split_word
from napari_leukocls.datasets.marked import (
    Finder,
    Labels,
    Marked,
    Polygon,
    bounds,
    files_below,
    is_image,
    settled,
)
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import first_names

#: Points of a polygon that stands for a circle.
_CIRCLE_POINTS = 48


def is_labelme(content: Any) -> bool:
    """Tell whether the content of a JSON file is LabelMe's.

    Parameters
    ----------
    content : object

    Returns
    -------
    bool
    """
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def is_geojson(content: Any) -> bool:
    """Tell whether the content of a JSON file is GeoJSON.

    Parameters
    ----------
    content : object
        A FeatureCollection, a Feature, or a list of these, as QuPath writes them.

    Returns
    -------
    bool
    """
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and first.get("type") in ("FeatureCollection", "Feature")


def read_labelme(files: list[tuple[Path, Any]], root: Path) -> Labels:
    """Read annotations of LabelMe.

    Parameters
    ----------
    files : list of (Path, object)
        JSON files and their contents.
    root : Path
        Folder that images are searched in.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If a shape cannot be read.
    """
    finder = Finder(root)
    rows: list[Marked] = []
    left: list[str] = []
    empty = 0
    for path, content in files:
        name = str(content["imagePath"] or path.stem)
        image = finder.find(name, path.parent)
        if not image.is_file():
            image = finder.find(path.stem, path.parent)
        split = _split_of(path, root)
        size = content.get("imageHeight"), content.get("imageWidth")
        stated = (size[0], size[1]) if all(isinstance(side, int) for side in size) else None
        before = len(rows)
        for shape in content["shapes"]:
            file = finder.relative(image)
            try:
                outline = _shape(shape)
                label = str(shape["label"])
            except (KeyError, TypeError, ValueError, OSError, binascii.Error) as error:
                raise InputError(
                    f"{path}: a shape cannot be read ({type(error).__name__}: {error})."
                ) from error
            if outline is None:
                left.append(file)
            else:
                drawn = () if shape.get("shape_type") == "rectangle" else outline
                rows.append(Marked(file, image, label, bounds(outline), drawn, split, size=stated))
        for label, on in (content.get("flags") or {}).items():
            if on and not content["shapes"]:
                # A flag is a class of the whole image.
                rows.append(Marked(finder.relative(image), image, str(label), split=split))
        empty += len(rows) == before
    notes = finder.note()
    if left:
        notes.append(
            f"{len(left)} shapes that are no area of a cell (points, lines) are left out: {first_names(left)}."
        )
    return settled("LabelMe annotations", rows, notes, empty)


def _shape(shape: dict[str, Any]) -> tuple[Polygon, ...] | None:
    """Polygons of a shape; None if it has no area."""
    points = np.asarray(shape["points"], float)
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask" and shape.get("mask"):
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            mask = (np.asarray(image.convert("L")) > 0).astype(np.uint8)
        return polygons_of(mask, (int(points[0, 0]), int(points[0, 1]))) or None
    if kind == "rectangle" and len(points) in (2, 4):
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return ((x0, y0, x1, y0, x1, y1, x0, y1),)
    if kind == "circle" and len(points) == 2:
        radius = math.dist(points[0], points[1])
        angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        ring = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return (tuple(ring.reshape(-1).tolist()),)
    if kind == "polygon" and len(points) >= 3:
        return (tuple(points.reshape(-1).tolist()),)
    return None


def read_geojson(files: list[tuple[Path, Any]], root: Path) -> Labels:
    """Read objects of QuPath. The image is the one with the name of the GeoJSON file, or the only one.

    Parameters
    ----------
    files : list of (Path, object)
        GeoJSON files and their contents.
    root : Path
        Folder that images are searched in.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If no image has the name of a file, or an object cannot be read.
    """
    finder = Finder(root)
    images = [path for path in files_below(root) if is_image(path)]
    rows: list[Marked] = []
    without = 0
    for path, content in files:
        image = _image_of(path, content, images, finder, alone=len(files) == 1)
        split = _split_of(path, root)
        for feature in _features(content):
            name = _class_of(feature)
            if not name:
                without += 1
                continue
            try:
                outline = _geometry(feature.get("geometry") or {})
            except (TypeError, ValueError, IndexError) as error:
                raise InputError(
                    f"{path}: an object cannot be read ({type(error).__name__}: {error})."
                ) from error
            if outline:
                rows.append(Marked(finder.relative(image), image, name, bounds(outline), outline, split))
            else:
                without += 1
    notes = finder.note()
    if without:
        notes.append(f"{without} objects without a class or an area are left out.")
    return settled("QuPath GeoJSON", rows, notes)


def _image_of(path: Path, content: Any, images: list[Path], finder: Finder, alone: bool) -> Path:
    stem = re.sub(r"\.(ome|geo)$", "", path.stem)
    named = content.get("image") or content.get("imageName") if isinstance(content, dict) else None
    for name in (named, path.stem, stem):
        found = finder.find(str(name), path.parent) if name else None
        if found is not None and found.is_file():
            return found
    close = [image for image in images if re.sub(r"\.ome$", "", image.stem) == stem]
    if len(close) == 1:
        return close[0]
    if alone and len(images) == 1:
        return images[0]
    raise InputError(f"{path}: no image has its name: put {stem}.tif (or .png, .jpg) beside it.")


def _features(content: Any) -> Iterator[dict[str, Any]]:
    for one in content if isinstance(content, list) else [content]:
        if isinstance(one, dict) and one.get("type") == "FeatureCollection":
            yield from (part for part in one.get("features") or [] if isinstance(part, dict))
        elif isinstance(one, dict):
            yield one


def _class_of(feature: dict[str, Any]) -> str:
    """The class of an object; of a derived class its own, finer names."""
    properties = feature.get("properties") or {}
    classification = properties.get("classification") or {}
    if isinstance(classification, str):
        return classification
    name = classification.get("name") or ": ".join(classification.get("names") or [])
    metadata = properties.get("metadata") or {}
    # This program's own export states the name of the scheme.
    return str(metadata.get("class") or name or "")


def _geometry(geometry: dict[str, Any]) -> tuple[Polygon, ...]:
    """The outer rings of a geometry."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates") or []
    if kind == "GeometryCollection":
        return tuple(ring for part in geometry.get("geometries") or [] for ring in _geometry(part))
    polygons = [coordinates] if kind == "Polygon" else coordinates if kind == "MultiPolygon" else []
    rings = (np.asarray(polygon[0], float)[:, :2] for polygon in polygons if polygon)
    return tuple(tuple(ring.reshape(-1).tolist()) for ring in rings if len(ring) >= 3)


def _split_of(path: Path, root: Path) -> str:
    """The part that a folder above a file is named after."""
    try:
        parts = path.parent.relative_to(root).parts
    except ValueError:
        return ""
    return next((split_word(part) for part in parts if split_word(part)), "")
