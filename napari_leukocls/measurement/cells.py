"""The table of cells: where each cell lies, what it is, and whether a person should look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from napari_leukocls.measurement.fine import fine_columns
from napari_leukocls.progress import stop_here
from napari_leukocls.types import CELL_KINDS, Predictions, Segmentation

LOW_CONFIDENCE = "low confidence"

UNLIKE_TRAINING = "unlike the training data"

NO_CLASSIFICATION = "not classified"

#: Why a cell of `ReviewThresholds.always` needs review.
ALWAYS_REVIEWED = "class that is always reviewed"

#: Class of a cell that the segmenter holds to be nucleated but that no classifier has seen.
NOT_CLASSED = "not_classed"
# Pixels measured at a time: bounds the memory of the coordinate arrays whatever the image's size.
_BLOCK_PIXELS = 4_000_000


@dataclass(frozen=True)
class CellGeometry:
    """Where the cells of a label image lie; row i of each array belongs to ``ids[i]``.

    Attributes
    ----------
    ids : numpy.ndarray, (N,), int32
        Labels that are present, ascending.
    bbox : numpy.ndarray, (N, 4), int64
        y0, x0, y1, x1, pixels, half-open.
    centroid : numpy.ndarray, (N, 2), float64
        y, x, pixels; the centre of the first pixel is (0, 0).
    area : numpy.ndarray, (N,), int64
        Pixels.
    touches_border : numpy.ndarray, (N,), bool
    """

    ids: np.ndarray
    bbox: np.ndarray
    centroid: np.ndarray
    area: np.ndarray
    touches_border: np.ndarray


@dataclass(frozen=True)
class ReviewThresholds:
    """When a person should look at a classified cell.

    Attributes
    ----------
    min_confidence : float
        Below this probability a cell needs review.
    per_class : mapping of str to float
        Another threshold for some predicted classes.
    always : frozenset of str
        Predicted classes that a person sees whatever their probability: an erythroblast changes the count of the
        leukocytes of an analyser, and is easily taken for a lymphocyte.
    """

    min_confidence: float = 0.0
    per_class: Mapping[str, float] = field(default_factory=dict)
    always: frozenset[str] = frozenset({"erythroblast"})


def cell_geometry(labels: np.ndarray) -> CellGeometry:
    """Measure the position and the size of every cell in one pass over the pixels.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int
        0 is background.
    """
    labels = np.asarray(labels)
    height, width = labels.shape
    top = int(labels.max(initial=0))
    area = np.zeros(top + 1, np.int64)
    sums = np.zeros((2, top + 1))
    rows = max(1, _BLOCK_PIXELS // max(width, 1))
    for start in range(0, height, rows):
        stop_here()
        block = labels[start : start + rows]
        y, x = np.nonzero(block)
        ids = block[y, x]
        area += np.bincount(ids, minlength=top + 1)
        sums[0] += np.bincount(ids, weights=y + start, minlength=top + 1)
        sums[1] += np.bincount(ids, weights=x, minlength=top + 1)
    present = np.flatnonzero(area)
    slices = find_objects(labels) if top else []
    boxes = [(s[0].start, s[1].start, s[0].stop, s[1].stop) for s in slices if s is not None]
    bbox = np.array(boxes, np.int64).reshape(-1, 4)
    touches = (bbox[:, :2] == 0).any(axis=1) | (bbox[:, 2] == height) | (bbox[:, 3] == width)
    centroid = (sums[:, present] / area[present]).T
    return CellGeometry(present.astype(np.int32), bbox, centroid, area[present], touches)


def build_cell_table(
    segmentation: Segmentation,
    predictions: Predictions | None,
    cell_ids_classified: Sequence[int] | np.ndarray,
    slide_id: str,
    um_per_px: float | None,
    model_classes: Sequence[str],
    thresholds: ReviewThresholds | float = 0.0,
    geometry: CellGeometry | None = None,
    finer: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row a cell, with the columns of ``cells.csv``.

    Parameters
    ----------
    segmentation : Segmentation
    predictions : Predictions or None
        Row i belongs to ``cell_ids_classified[i]``.
    cell_ids_classified : array_like of int
        Labels of the cells that the classifier saw; the segmenter's kinds decide the others.
    slide_id : str
    um_per_px : float or None
        None leaves ``area_um2`` empty.
    model_classes : sequence of str
        Classes in the model's order; each becomes a column ``prob_<class>``.
    thresholds : ReviewThresholds or float
    geometry : CellGeometry, optional
        Of the labels, where it has been measured already.
    finer : sequence of str, optional
        The finer classes: they add the columns of `napari_leukocls.measurement.fine.fine_columns`.

    Returns
    -------
    pandas.DataFrame
        Sorted by ``cell_id``. Empty probabilities are NaN, empty texts are "".

    Raises
    ------
    ValueError
        The predictions do not fit the cells or the classes.
    """
    cells = geometry if geometry is not None else cell_geometry(segmentation.labels)
    limits = ReviewThresholds(thresholds) if isinstance(thresholds, (int, float)) else thresholds
    found = _Verdicts.of_segmenter(segmentation.kind_probabilities, cells.ids, len(model_classes))
    at, shares = np.zeros(0, np.intp), None
    if predictions is not None and len(cell_ids_classified):
        at = _rows_of(cells.ids, cell_ids_classified, predictions, model_classes)
        found.take(at, predictions, limits)
        shares = predictions.fine
    empty = np.full(len(cells.ids), "", dtype=object)
    data: dict[str, Any] = {
        "slide_id": np.full(len(cells.ids), slide_id, dtype=object),
        "cell_id": cells.ids,
        "class": found.names,
        "probability": found.probability,
        **{f"prob_{name}": found.probabilities[:, column] for column, name in enumerate(model_classes)},
        "needs_review": found.reason != "",
        "review_reason": found.reason,
        "ood_score": found.ood_score,
        **_geometry_columns(cells, um_per_px),
        "predicted_class": found.names.copy(),
        "corrected_class": empty,
        "reviewer": empty.copy(),
    }
    if finer is not None:
        joint = {name: found.probabilities[:, column] for column, name in enumerate(model_classes)}
        data |= fine_columns(found.names, found.probability, joint, at, finer, shares)
    return pd.DataFrame(data)


@dataclass(frozen=True)
class _Verdicts:
    """What is held of each cell; all of its arrays have one row a cell and are filled in place.

    Attributes
    ----------
    names : numpy.ndarray, (N,), str
    probability : numpy.ndarray, (N,)
        Of the class in `names`.
    reason : numpy.ndarray, (N,), str
        Why a person should look at it; "" for no reason.
    probabilities : numpy.ndarray, (N, C)
        Of the classifier's classes; nan where it did not see the cell.
    ood_score : numpy.ndarray, (N,)
    """

    names: np.ndarray
    probability: np.ndarray
    reason: np.ndarray
    probabilities: np.ndarray
    ood_score: np.ndarray

    @classmethod
    def of_segmenter(cls, kinds: np.ndarray, ids: np.ndarray, n_classes: int) -> _Verdicts:
        """What the segmenter alone says."""
        names, probability = _from_kinds(kinds, ids)
        reason = np.where(names == NOT_CLASSED, NO_CLASSIFICATION, "").astype(object)
        return cls(
            names, probability, reason, np.full((len(ids), n_classes), np.nan), np.full(len(ids), np.nan)
        )

    def take(self, at: np.ndarray, predictions: Predictions, limits: ReviewThresholds) -> None:
        """Let the classifier's word stand for the cells in the rows `at`."""
        self.probabilities[at] = predictions.probabilities
        self.ood_score[at] = predictions.ood_score
        best = self.probabilities[at].argmax(axis=1)
        self.names[at] = np.asarray(predictions.classes, dtype=object)[best]
        self.probability[at] = self.probabilities[at, best]
        self.reason[at] = review_reasons(
            self.names[at], self.probability[at], self.ood_score[at], predictions.ood_threshold, limits
        )


def review_reasons(
    names: np.ndarray,
    probability: np.ndarray,
    ood_score: np.ndarray,
    ood_threshold: float,
    limits: ReviewThresholds,
) -> np.ndarray:
    """Why each classified cell needs review; "" where it does not.

    Parameters
    ----------
    names : numpy.ndarray, (N,), str
        Predicted classes.
    probability : numpy.ndarray, (N,)
        Of the predicted class. A value that is not a number counts as low.
    ood_score : numpy.ndarray, (N,)
        A value that is not a number counts as unlike the training data.
    ood_threshold : float
        Infinite where no cell shall be held to be unlike the training data.
    limits : ReviewThresholds
    """
    least = np.array([limits.per_class.get(str(name), limits.min_confidence) for name in names], dtype=float)
    low = ~(probability >= least)
    unlike = ~(ood_score < ood_threshold) if np.isfinite(ood_threshold) else np.zeros(len(names), bool)
    reason = np.full(len(names), "", dtype=object)
    reason[low] = LOW_CONFIDENCE
    reason[unlike] = UNLIKE_TRAINING
    reason[low & unlike] = f"{LOW_CONFIDENCE}; {UNLIKE_TRAINING}"
    reason[np.isin(names.astype(str), list(limits.always)) & (reason == "")] = ALWAYS_REVIEWED
    return reason


def add_review(cells: pd.DataFrame, rows: np.ndarray, reason: str) -> None:
    """Send cells to review, with a reason beside those that they have.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; changed in place.
    rows : numpy.ndarray, (N,), bool
    reason : str
    """
    reasons = cells["review_reason"].to_numpy(dtype=object).copy()
    for i in np.flatnonzero(rows):
        reasons[i] = f"{reasons[i]}; {reason}" if reasons[i] else reason
    cells["review_reason"] = reasons
    cells["needs_review"] = cells["needs_review"].to_numpy() | rows


def _from_kinds(kinds: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class and its probability from the segmenter alone; nucleated cells are `NOT_CLASSED`."""
    names = np.array([NOT_CLASSED if kind == "leukocyte" else kind for kind in CELL_KINDS], dtype=object)
    rows = np.asarray(kinds, dtype=float).reshape(-1, len(CELL_KINDS))
    if len(ids) and ids[-1] > len(rows):
        raise ValueError(f"kind probabilities for {len(rows)} cells, but the labels go up to {ids[-1]}")
    mine = rows[ids - 1]
    best = mine.argmax(axis=1)
    return names[best], mine[np.arange(len(ids)), best]


def _rows_of(
    ids: np.ndarray,
    classified: Sequence[int] | np.ndarray,
    predictions: Predictions,
    model_classes: Sequence[str],
) -> np.ndarray:
    """Positions of the classified cells among `ids`, once everything is seen to fit."""
    wanted = np.asarray(classified)
    if tuple(predictions.classes) != tuple(model_classes):
        raise ValueError("the predictions' classes are not the model's")
    if predictions.probabilities.shape != (len(wanted), len(model_classes)):
        raise ValueError(f"probabilities {predictions.probabilities.shape} for {len(wanted)} cells")
    at = np.searchsorted(ids, wanted)
    if not np.array_equal(ids[np.minimum(at, len(ids) - 1)] if len(ids) else [], wanted):
        raise ValueError("a classified cell is not in the label image")
    return at


def _geometry_columns(cells: CellGeometry, um_per_px: float | None) -> dict[str, np.ndarray]:
    scale = np.nan if um_per_px is None else float(um_per_px)
    return {
        "centroid_y": cells.centroid[:, 0],
        "centroid_x": cells.centroid[:, 1],
        "bbox_y0": cells.bbox[:, 0],
        "bbox_x0": cells.bbox[:, 1],
        "bbox_y1": cells.bbox[:, 2],
        "bbox_x1": cells.bbox[:, 3],
        "area_px": cells.area,
        "area_um2": cells.area * scale**2,
        "touches_border": cells.touches_border,
    }
