"""Corrections transferred to a new analysis of a slide, by the overlap of the cells' boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from sqlalchemy.engine import Connection, Row

from napari_leukocls.review.corrections import Change, cell_row, class_of, record, undo_stacks
from napari_leukocls.review.slides import boxes
from napari_leukocls.review.text import now

#: Overlap (intersection over union of the boxes) from which a cell is the same one in another analysis.
SAME_CELL = 0.5


def transfer(connection: Connection, slide_key: str, source: int, target: int) -> int:
    """Transfer the corrections of one analysis of a slide to another.

    Cells are matched by `match`. The corrections below the current one of a cell are transferred too, in the order
    in which they were made, so that undo gives the same classes as in the earlier analysis.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide_key : str
    source, target : int
        Ids of the analyses.

    Returns
    -------
    int
        How many cells changed.
    """
    at = now()
    there, here = undo_stacks(connection, source), undo_stacks(connection, target)
    changed: set[int] = set()
    brought: list[tuple[int, Row[Any]]] = []
    for old, new in match(boxes(connection, source), boxes(connection, target)):
        theirs, ours = there.get(old, []), here.get(new, [])
        n_common = _n_common(theirs, ours)
        if len(ours) > n_common:
            _drop_top(connection, slide_key, cell_row(connection, target, new), ours, n_common, at)
            changed.add(new)
        brought += [(new, row) for row in theirs[n_common:]]
    for new, row in sorted(brought, key=lambda pair: int(pair[1].id)):
        cell = cell_row(connection, target, new)
        change = Change("carry", class_of(connection, cell), row.to_class, row.reviewer, row.reason, at)
        record(connection, slide_key, cell, change)
        changed.add(new)
    return len(changed)


def _n_common(theirs: list[Row[Any]], ours: list[Row[Any]]) -> int:
    """How many corrections, from the oldest on, two stacks have in common."""
    for i, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        if (one.to_class, one.reviewer) != (other.to_class, other.reviewer):
            return i
    return min(len(theirs), len(ours))


def _drop_top(
    connection: Connection, slide_key: str, cell: Row[Any], stack: list[Row[Any]], keep: int, at: str
) -> None:
    """Keep the first `keep` corrections of a stack: those above them were undone in the other analysis."""
    base = stack[keep - 1] if keep else None
    to_class = base.to_class if base is not None else ""
    change = Change("carry", class_of(connection, cell), to_class, stack[-1].reviewer, "", at)
    record(connection, slide_key, cell, change, in_force=None if base is None else base.id)


def match(old: dict[int, np.ndarray], new: dict[int, np.ndarray]) -> list[tuple[int, int]]:
    """Find the cells that are the same in two analyses.

    Each cell is matched with the cell whose box it overlaps most, if the overlap (intersection over union) is at
    least `SAME_CELL`.

    Parameters
    ----------
    old, new : dict of int to numpy.ndarray
        Boxes y0, x0, y1, x1, half-open, pixels, by ``cell_id``.

    Returns
    -------
    list of tuple of int
        Pairs of ids, old and new, in order.
    """
    if not old or not new:
        return []
    new_ids = np.array(list(new))
    new_boxes = np.array([new[cell] for cell in new], float)
    tree = cKDTree((new_boxes[:, :2] + new_boxes[:, 2:]) / 2)
    best: dict[int, tuple[float, int]] = {}
    for cell_id, box in old.items():
        centre = (box[:2] + box[2:]) / 2
        reach = float(np.hypot(*(box[2:] - box[:2])))
        near = tree.query_ball_point(centre, reach)
        if not near:
            continue
        overlap = _iou(np.asarray(box, float), new_boxes[near])
        i = int(overlap.argmax())
        other = int(new_ids[near[i]])
        if overlap[i] >= SAME_CELL and overlap[i] > best.get(other, (0.0, 0))[0]:
            best[other] = (float(overlap[i]), cell_id)
    return sorted((cell_id, other) for other, (_, cell_id) in best.items())


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with others, (N,)."""
    top = np.maximum(box[:2], others[:, :2])
    bottom = np.minimum(box[2:], others[:, 2:])
    both = np.clip(bottom - top, 0, None).prod(axis=1)
    overlap: np.ndarray = both / (
        np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(axis=1) - both
    )
    return overlap
