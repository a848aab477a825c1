"""Corrections brought along from one analysis of a slide to another, as they lay, so that they can be undone."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy.engine import Connection, Row

from napari_leukocls.review.history import Statement, cell_row, class_of, record, stacks
from napari_leukocls.review.slides import boxes
from napari_leukocls.review.text import now

#: Overlap (intersection over union of the boxes) from which a cell is the same one in another analysis.
SAME_CELL = 0.5


def carry(connection: Connection, slide_key: str, source: int, target: int) -> int:
    """Bring what stands in one analysis of a slide over to another, cell by cell; how many changed.

    Cells are matched by their boxes, each with the one that it overlaps most and at least by `SAME_CELL`. What
    lies beneath a standing correction comes with it, in the order in which it was said: undoing goes on where
    it would have in the analysis before.
    """
    at = now()
    there, here = stacks(connection, source), stacks(connection, target)
    changed: set[int] = set()
    brought: list[tuple[int, Row[Any]]] = []
    for old, new in match(boxes(connection, source), boxes(connection, target)):
        theirs, ours = there.get(old, []), here.get(new, [])
        alike = _alike(theirs, ours)
        if len(ours) > alike:
            _take_off(connection, slide_key, cell_row(connection, target, new), ours, alike, at)
            changed.add(new)
        brought += [(new, row) for row in theirs[alike:]]
    for new, row in sorted(brought, key=lambda load: int(load[1].id)):
        cell = cell_row(connection, target, new)
        said = Statement("carry", class_of(connection, cell), row.to_class, row.reviewer, row.reason, at)
        record(connection, slide_key, cell, said)
        changed.add(new)
    return len(changed)


def _alike(theirs: list[Row[Any]], ours: list[Row[Any]]) -> int:
    """How many corrections, from the bottom, two stacks have in common."""
    for place, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        if (one.to_class, one.reviewer) != (other.to_class, other.reviewer):
            return place
    return min(len(theirs), len(ours))


def _take_off(
    connection: Connection, slide_key: str, cell: Row[Any], stack: list[Row[Any]], keep: int, at: str
) -> None:
    """Let the first `keep` corrections of a stack stand, as those above were undone in the other analysis."""
    base = stack[keep - 1] if keep else None
    to_class = base.to_class if base is not None else ""
    said = Statement("carry", class_of(connection, cell), to_class, stack[-1].reviewer, "", at)
    record(connection, slide_key, cell, said, in_force=None if base is None else base.id)


def match(old: dict[int, np.ndarray], new: dict[int, np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of cells that are the same in two analyses.

    Parameters
    ----------
    old, new : dict of int to numpy.ndarray
        Boxes y0, x0, y1, x1, half-open, by cell_id.
    """
    from scipy.spatial import cKDTree

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
        place = int(overlap.argmax())
        other = int(new_ids[near[place]])
        if overlap[place] >= SAME_CELL and overlap[place] > best.get(other, (0.0, 0))[0]:
            best[other] = (float(overlap[place]), cell_id)
    return sorted((cell_id, other) for other, (_, cell_id) in best.items())


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    top = np.maximum(box[:2], others[:, :2])
    bottom = np.minimum(box[2:], others[:, 2:])
    both = np.clip(bottom - top, 0, None).prod(axis=1)
    return both / (np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(axis=1) - both)
