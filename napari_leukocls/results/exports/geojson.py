"""GeoJSON as QuPath reads it: File > Import objects from file."""

from __future__ import annotations

import json
import math
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from shapely import Polygon, orient_polygons
from shapely.geometry import mapping

from napari_leukocls.measurement.fine import FINE_CLASS, FINE_PREFIX
from napari_leukocls.results.exports._outlines import cell_masks, rings
from napari_leukocls.scheme import Scheme, default_scheme, whole_class
from napari_leukocls.types import FieldResult

_UNKNOWN = [128, 128, 128]

_MEASUREMENTS = (
    ("probability", "Probability"),
    ("ood_score", "Out-of-distribution score"),
    ("area_px", "Area px"),
    ("area_um2", "Area um^2"),
)


def write(result: FieldResult, path: Path) -> None:
    """Write a FeatureCollection: one detection a cell, with classification, colour and measurements.

    Coordinates are pixels of the full-resolution image, corners at whole numbers, as in QuPath.

    Parameters
    ----------
    result : FieldResult
    path : Path
        Within a folder that is being filled.
    """
    scheme = default_scheme()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[')
        # One feature a line, written as it is made: a whole slide has millions.
        for i, (row, corner, mask) in enumerate(cell_masks(result)):
            feature = _feature(result, row, outline(mask, corner), scheme)
            file.write(",\n" if i else "\n")
            file.write(json.dumps(feature, separators=(",", ":"), allow_nan=False))
        for number, heap in enumerate(result.segmentation.heaps, start=1):
            file.write(",\n" if len(result.cells) else "\n" if number == 1 else ",\n")
            file.write(json.dumps(_heap(result, number, heap), separators=(",", ":"), allow_nan=False))
        file.write("\n]}\n")


def outline(mask: np.ndarray, corner: tuple[int, int]) -> dict[str, Any]:
    """Describe a cell as a GeoJSON geometry, with its holes and separate parts.

    Parameters
    ----------
    mask : numpy.ndarray, (h, w), bool
    corner : tuple of int
        y, x of the mask's upper left pixel in the image.

    Returns
    -------
    dict
        A Polygon or a MultiPolygon.
    """
    found = rings(mask, corner)
    if len(found) == 1:
        x, y = found[0][:-1].T
        outwards = x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0
        return {"type": "Polygon", "coordinates": [found[0][:: 1 if outwards else -1].tolist()]}

    area = Polygon()
    # A ring within another is a hole, one within that an island: each turns inside and outside about.
    for ring in sorted((Polygon(ring) for ring in found), key=lambda part: -part.area):
        area = area.symmetric_difference(ring if ring.is_valid else ring.buffer(0))
    return dict(mapping(orient_polygons(area)))


def _feature(
    result: FieldResult, row: dict[str, Any], geometry: dict[str, Any], scheme: Scheme
) -> dict[str, Any]:
    # The finest class that is known.
    name = whole_class(str(row.get(FINE_CLASS) or row["class"]))
    known = name in scheme
    classification = {
        "name": scheme[name].display if known else name,
        "color": list(scheme[name].rgb) if known else _UNKNOWN,
    }
    key = f"{result.source}\n{result.slide_id}\n{row['cell_id']}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, key.encode("utf-8", "backslashreplace").decode())),
        "geometry": geometry,
        "properties": {
            "objectType": "detection",
            "name": f"{row['cell_id']}",
            "classification": classification,
            "measurements": _measurements(row),
            "metadata": {
                "class": str(row["class"]),
                **({FINE_CLASS: str(row[FINE_CLASS])} if FINE_CLASS in row else {}),
                "predicted_class": str(row["predicted_class"]),
                "corrected_class": str(row["corrected_class"]),
                "needs_review": str(bool(row["needs_review"])).lower(),
            },
        },
    }


def _heap(result: FieldResult, number: int, heap: np.ndarray) -> dict[str, Any]:
    """A heap that is too thick to count: an annotation, not a cell."""
    key = f"{result.source}\n{result.slide_id}\nheap {number}"
    closed = np.concatenate([heap, heap[:1]]).astype(float).round(2)
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, key.encode("utf-8", "backslashreplace").decode())),
        "geometry": {"type": "Polygon", "coordinates": [closed.tolist()]},
        "properties": {
            "objectType": "annotation",
            "name": f"heap {number}",
            "classification": {"name": "Heap too thick to count", "color": _UNKNOWN},
        },
    }


def _measurements(row: dict[str, Any]) -> dict[str, float]:
    """What is known of a cell in numbers; QuPath takes no empty ones."""
    values = {title: row[column] for column, title in _MEASUREMENTS}
    for start in ("prob_", FINE_PREFIX):
        values |= {f"p({name.removeprefix(start)})": row[name] for name in row if name.startswith(start)}
    return {name: float(f"{value:.6g}") for name, value in values.items() if math.isfinite(float(value))}
