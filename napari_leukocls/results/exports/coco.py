"""COCO instances: boxes and run-length masks, as detection and segmentation tools train on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as runs

from napari_leukocls.measurement.fine import has_fine, shown_classes
from napari_leukocls.results.exports._outlines import cell_masks, polygon_mask
from napari_leukocls.scheme import default_scheme, whole_class
from napari_leukocls.types import FieldResult

NOTICE = "For research and for training. Not for diagnosis."


def write(result: FieldResult, path: Path) -> None:
    """Write ``images``, ``annotations`` (compressed run lengths) and ``categories``.

    Parameters
    ----------
    result : FieldResult
    path : Path
        Within a folder that is being filled.
    """
    scheme = default_scheme()
    known = {
        int(cell): whole_class(str(name))
        for cell, name in zip(result.cells["cell_id"], shown_classes(result.cells), strict=True)
    }
    heaps = result.segmentation.heaps
    names = scheme.ordered({*known.values(), *(["red_cell"] if heaps else [])})
    fine = has_fine(result.cells)
    number = {name: i for i, name in enumerate(names, start=1)}
    height, width = result.labels.shape
    annotations = []
    for row, corner, mask in cell_masks(result):
        probability = float(row["probability"])
        (y0, x0), (y1, x1) = corner, (corner[0] + mask.shape[0], corner[1] + mask.shape[1])
        annotations.append(
            {
                "id": int(row["cell_id"]),
                "image_id": 1,
                "category_id": number[known[int(row["cell_id"])]],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(mask.sum()),
                "segmentation": run_lengths(mask, corner, (height, width)),
                "iscrowd": 0,
                "score": float(f"{probability:.6g}") if math.isfinite(probability) else None,
                "attributes": {
                    "needs_review": bool(row["needs_review"]),
                    "predicted_class": str(row["predicted_class"]),
                    "corrected_class": str(row["corrected_class"]),
                },
            }
        )
    first = 1 + max((int(cell) for cell in known), default=0)
    annotations += [
        _crowd(heap, first + i, number["red_cell"], (height, width)) for i, heap in enumerate(heaps)
    ]
    data = {
        "info": {"description": NOTICE, "version": str(result.run.get("version", ""))},
        "licenses": [],
        "images": [{"id": 1, "file_name": _file_name(result.source), "height": height, "width": width}],
        "annotations": annotations,
        "categories": [
            {
                "id": number[name],
                "name": name,
                "supercategory": (scheme[name].parent if fine else "") or "cell",
            }
            for name in names
        ],
    }
    path.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def _crowd(polygon: np.ndarray, number: int, category: int, shape: tuple[int, int]) -> dict[str, Any]:
    """A heap that is too thick to count: red cells of an unknown number, as COCO marks a crowd."""
    corner, mask = polygon_mask(polygon, shape)
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "bbox": [corner[1], corner[0], mask.shape[1], mask.shape[0]],
        "area": int(mask.sum()),
        "segmentation": run_lengths(mask, corner, shape),
        "iscrowd": 1,
    }


def run_lengths(mask: np.ndarray, corner: tuple[int, int], shape: tuple[int, int]) -> dict[str, Any]:
    """Encode a cell as compressed run lengths of the whole image, which is never drawn.

    Parameters
    ----------
    mask : numpy.ndarray, (h, w), bool
    corner : tuple of int
        y, x of the mask's upper left pixel in the image.
    shape : tuple of int
        Height and width of the image.

    Returns
    -------
    dict
        ``size`` and ``counts``.
    """
    height, width = shape
    x, y = np.nonzero(mask.T)
    inside = (x + corner[1]).astype(np.int64) * height + y + corner[0]
    breaks = np.flatnonzero(np.diff(inside) != 1)
    starts = inside[np.concatenate([[0], breaks + 1])]
    ends = inside[np.concatenate([breaks, [len(inside) - 1]])] + 1
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    encoded = runs.frPyObjects({"counts": np.diff(edges).tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _file_name(source: str) -> str:
    """The file's name without its folders, which are nobody else's business."""
    return source.replace("\\", "/").rsplit("/", 1)[-1].encode("utf-8", "backslashreplace").decode()
