"""Measure red cells against the boxes of BCCD, in which about half of the cells have no box.

    python -m scripts.evaluate_boxes --data ../shared/data

The held-out fields that have a box of a red cell, boxes at IoU >= 0.5, one to one. The annotators left out cells
that others cover or touch and that the edge cuts, and more, so that a cell without a box is an error only where it
would have been boxed. So the figures are given in several ways:

- ``all``: each outline that fits no box is one too many;
- ``whole outlines``: the same, with the boxes of the whole outlines of covered cells;
- ``most cells boxed``: the same, in fields with at least half as many boxes as outlines;
- ``inside and alone``: an outline that fits no box says nothing if the edge cuts it, or if more than `MAX_CONTACT` of
  its edge borders on other cells, as for the measurement of the scale; neither does a box at the edge that was not
  found;
- ``points``: in the fields in which all red cells are marked (``red_cell_points.csv``), an outline that fits no box
  says nothing if it is at one of the points. ``points, every cell found`` is what the points themselves would reach, if
  the box of each boxed cell fitted exactly.

Leukocytes and platelets are measured as in ``scripts.evaluate_segmentation``.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from napari_leukocls.evaluation.detection import Found, box_ious, boxes_f1
from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.segmentation.red_cell_ruler import MAX_CONTACT, contact_of
from scripts.evaluate_red_cells import NEAR, pooled_figures, read_marked
from scripts.evaluate_segmentation import KINDS, bccd_boxes, boxes_of, heldout, outline_field, read_pixels

log = logging.getLogger("evaluate_boxes")
IOU = 0.5
#: Boxes for each outline from which most of the cells of a field are boxed.
MOST_BOXED = 0.5
#: How near to the edge of the field a box is cut by it, pixels.
AT_EDGE_PX = 2


@dataclass(frozen=True)
class Field:
    """The red cells of one field: their boxes (N, 4), which are inside and alone (N,), and centres x, y (N, 2)."""

    seen: np.ndarray
    whole: np.ndarray
    clear: np.ndarray
    centres: np.ndarray
    diameter_px: float
    boxes: np.ndarray
    boxes_inside: np.ndarray
    points: np.ndarray | None


def read_fields(data: Path, name: str) -> Iterator[tuple[Field, dict[str, Found]]]:
    """Outline the held-out fields.

    Parameters
    ----------
    data : Path
    name : str
        Of the segmenter.

    Yields
    ------
    field : Field
        Of its red cells.
    others : dict of str to Found
        Leukocytes and platelets.
    """
    points = {marked.file: marked.points for marked in read_marked() if marked.set == "bccd"}
    for file in heldout(data / "bccd" / "images"):
        true = bccd_boxes(data, file.stem)
        found = outline_field(read_pixels(file), name, None)
        kinds = found.kind_probabilities.argmax(axis=1)
        seen, red = boxes_of(found.labels), kinds == 0
        others = {
            kind: boxes_f1(seen[kinds == index], true[kind]) for index, kind in enumerate(KINDS) if index
        }
        whole = seen.copy()
        for cell, line in found.outlines.items():
            corners = np.concatenate([line[:, ::-1], seen[cell - 1].reshape(2, 2)])
            whole[cell - 1] = (*corners.min(axis=0), *corners.max(axis=0))
        alone = contact_of(found.labels)[1:] <= MAX_CONTACT
        yield (
            Field(
                seen[red],
                whole[red],
                (_inside(seen, found.labels.shape) & alone)[red],
                cell_geometry(found.labels).centroid[red][:, ::-1] + 0.5,
                found.scale.red_cell_diameter_px,
                true["red_cell"],
                _inside(true["red_cell"], found.labels.shape),
                points.get(f"images/{file.name}"),
            ),
            others,
        )


def _inside(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether boxes (N, 4) end before the edge of the field, (N,)."""
    array: np.ndarray = (boxes[:, :2] > AT_EDGE_PX).all(axis=1)
    return array & (boxes[:, 2:] < np.array(shape[:2]) - AT_EDGE_PX).all(axis=1)


def fitting(boxes: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Match boxes one to one, as many as possible.

    Parameters
    ----------
    boxes, true : numpy.ndarray, (N, 4) and (M, 4)

    Returns
    -------
    numpy.ndarray, (N,), int
        Number of the annotated box; -1 for none.
    """
    near = box_ious(boxes, true)
    rows, columns = linear_sum_assignment(np.where(near >= IOU, -1 - near, 0))
    found = np.full(len(boxes), -1)
    right = near[rows, columns] >= IOU
    found[rows[right]] = columns[right]
    return found


def on_points(field: Field) -> np.ndarray:
    """Whether each outline is at a marked red cell, one to one, (N,) bool."""
    assert field.points is not None
    far = cdist(field.centres, field.points)
    near = far <= NEAR * field.diameter_px
    rows, columns = linear_sum_assignment(np.where(near, far - 1e6, 0))
    found = np.zeros(len(field.centres), bool)
    found[rows] = near[rows, columns]
    return found


def count(field: Field) -> dict[str, Found]:
    """Count right, too many and missed cells of a field in each way.

    Parameters
    ----------
    field : Field

    Returns
    -------
    dict of str to Found
    """
    n = len(field.boxes)
    ways = {}
    for name, boxes in (("all", field.seen), ("whole outlines", field.whole)):
        right = fitting(boxes, field.boxes) >= 0
        ways[name] = Found(int(right.sum()), int((~right).sum()), n - int(right.sum()))
    if n >= MOST_BOXED * len(field.seen):
        ways["most cells boxed"] = ways["whole outlines"]
    match = fitting(field.whole, field.boxes)
    tp = int((match >= 0).sum())
    missed = field.boxes_inside.copy()
    missed[match[match >= 0]] = False
    ways["inside and alone"] = Found(tp, int(((match < 0) & field.clear).sum()), int(missed.sum()))
    if field.points is not None:
        ways["points"] = Found(tp, int(((match < 0) & ~on_points(field)).sum()), n - tp)
        ways["points, every cell found"] = Found(n, len(field.points) - n, 0)
    return ways


def measure(data: Path, name: str) -> dict[str, Any]:
    """Measure one segmenter.

    Parameters
    ----------
    data : Path
    name : str

    Returns
    -------
    dict
        Figures by way, and of leukocytes and platelets.
    """
    counts: dict[str, list[Found]] = defaultdict(list)
    for field, others in read_fields(data, name):
        for key, one in others.items():
            counts[key].append(one)
        if len(field.boxes):
            for key, one in count(field).items():
                counts[key].append(one)
    return {key: pooled_figures(found) for key, found in counts.items()}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--segmenters", nargs="+", default=["compact"])
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("%s", json.dumps({name: measure(args.data, name) for name in args.segmenters}, indent=1))


if __name__ == "__main__":
    main()
