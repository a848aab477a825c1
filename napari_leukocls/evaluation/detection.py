"""Detection metrics: boxes, centres and masks of cells against the truth, and cells outlined as several or as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from cellpose.metrics import average_precision
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from napari_leukocls.errors import ArgumentError

#: Pairs of boxes that are compared at a time.
_BLOCK = 4_000_000
#: A predicted cell is a piece of a true cell if more than half of it lies there and it covers this share of the true
#: cell.
MIN_PIECE = 0.05
#: Share of a cell that must be shared with another one before it counts as lying in it.
MOST = 0.5


@dataclass(frozen=True)
class Found:
    """Counts of true positives, false positives and false negatives; the sum of two pools their images.

    Attributes
    ----------
    tp, fp, fn : int
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Tp / (tp + fp); NaN where nothing was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else float("nan")

    @property
    def recall(self) -> float:
        """Tp / (tp + fn); NaN where there are no cells."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where there are no cells and none was found."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0


@dataclass(frozen=True)
class Outlined:
    """How each true cell was outlined; the sum of two joins their cells.

    Attributes
    ----------
    iou : numpy.ndarray, (N,), float64
        Largest intersection over union with a predicted cell; 0 where there is none.
    pieces : numpy.ndarray, (N,), int64
        Predicted cells of which more than half lies in this cell, and which cover at least `MIN_PIECE` of it.
    merged : numpy.ndarray, (N,), bool
        The predicted cell that covers more than half of this one also covers more than half of another true cell.
    outside : numpy.ndarray, (N,), float64
        Share of that predicted cell that lies in no true cell; 0 where no predicted cell covers more than half.
    """

    iou: np.ndarray
    pieces: np.ndarray
    merged: np.ndarray
    outside: np.ndarray

    def __add__(self, other: Outlined) -> Outlined:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Outlined(*(np.concatenate(pair) for pair in pairs))

    @property
    def split(self) -> np.ndarray:
        """Whether each true cell was outlined as two or more, (N,) bool."""
        several: np.ndarray = self.pieces > 1
        return several

    def of(self, chosen: np.ndarray) -> Outlined:
        """Return the entries of some true cells.

        Parameters
        ----------
        chosen : numpy.ndarray, (N,), bool

        Returns
        -------
        Outlined
        """
        return Outlined(*(np.asarray(part)[chosen] for part in astuple(self)))

    @classmethod
    def none(cls) -> Outlined:
        """Return the result for no true cell at all."""
        return cls(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))


def outlined_masks(labels_pred: np.ndarray, labels_true: np.ndarray) -> Outlined:
    """Find true cells that were split into several, or merged with another one, by their masks.

    Parameters
    ----------
    labels_pred, labels_true : numpy.ndarray, (H, W), int
        0 is background; other values are cells.

    Returns
    -------
    Outlined
        One entry a true cell, in the order of the labels.

    Raises
    ------
    ArgumentError
        If the images differ in size.
    """
    if labels_pred.shape != labels_true.shape:
        raise ArgumentError(f"label images differ in size: {labels_pred.shape} and {labels_true.shape}.")
    pred, true = _without_gaps(labels_pred), _without_gaps(labels_true)
    shape = (int(pred.max(initial=0)) + 1, int(true.max(initial=0)) + 1)
    pairs = pred.astype(np.int64).ravel() * shape[1] + true.ravel()
    common = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
    areas = common.sum(axis=1)[1:], common.sum(axis=0)[1:]
    return _outlined(common[1:, 1:], *areas, outside=common[1:, 0])


def outlined_boxes(pred_boxes: np.ndarray, true_boxes: np.ndarray) -> Outlined:
    """Find true cells that were split into several, or merged with another one, by their boxes.

    Parameters
    ----------
    pred_boxes, true_boxes : array_like, (N, 4) and (M, 4)
        y0, x0, y1, x1 (or x first in both), half-open.

    Returns
    -------
    Outlined
        One entry a true box. Boxes overlap, so `outside` is what all true boxes together leave, at least 0.
    """
    pred, true = _boxes(pred_boxes), _boxes(true_boxes)
    common = _common(pred, true)
    areas = _areas(pred), _areas(true)
    return _outlined(common, *areas, outside=np.clip(areas[0] - common.sum(axis=1), 0, None))


def _outlined(common: np.ndarray, pred: np.ndarray, true: np.ndarray, *, outside: np.ndarray) -> Outlined:
    """Compare from the common areas (M, N), and the areas of predicted (M,) and true cells (N,)."""
    if 0 in common.shape:
        n = len(true)
        return Outlined(np.zeros(n), np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n))
    union = pred[:, None] + true - common
    iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0).max(axis=0)
    pieces = (common > MOST * pred[:, None]) & (common >= MIN_PIECE * true) & (common > 0)
    covers = common > MOST * true
    holder = common.argmax(axis=0)
    held = covers[holder, np.arange(len(true))]
    share = outside[holder] / np.maximum(pred[holder], 1e-9)
    return Outlined(
        iou, pieces.sum(axis=0), held & (covers.sum(axis=1)[holder] > 1), np.where(held, share, 0.0)
    )


def boxes_f1(pred_boxes: np.ndarray, true_boxes: np.ndarray, iou: float = 0.5) -> Found:
    """Match boxes one to one, with as many pairs as possible above an intersection over union.

    Parameters
    ----------
    pred_boxes, true_boxes : array_like, (N, 4) and (M, 4)
        y0, x0, y1, x1 (or x first in both), half-open.
    iou : float
        Smallest intersection over union of a pair, 0-1.

    Returns
    -------
    Found
    """
    pred, true = _boxes(pred_boxes), _boxes(true_boxes)
    rows, columns = [], []
    size = max(1, _BLOCK // max(len(true), 1))
    for start in range(0, len(pred), size):
        near = box_ious(pred[start : start + size], true) >= iou
        row, column = np.nonzero(near)
        rows.append(row + start)
        columns.append(column)
    return _matched(_joined(rows), _joined(columns), len(pred), len(true))


def centres_f1(predicted: np.ndarray, centres: np.ndarray, *, max_distance: float | None = None) -> Found:
    """Match cells to known centres one to one.

    Parameters
    ----------
    predicted : numpy.ndarray
        A label image (H, W): a cell is found where the centre lies within it. With `max_distance`, centroids
        (N, 2), y and x.
    centres : array_like, (M, 2)
        y and x, pixels.
    max_distance : float, optional
        Largest distance of a pair, pixels.

    Returns
    -------
    Found

    Raises
    ------
    ArgumentError
        If `predicted` is no label image and `max_distance` is not given.
    """
    points = np.asarray(centres, dtype=float).reshape(-1, 2)
    if max_distance is not None:
        centroids = np.asarray(predicted, dtype=float).reshape(-1, 2)
        near = cKDTree(centroids).sparse_distance_matrix(cKDTree(points), max_distance, output_type="ndarray")
        return _matched(near["i"], near["j"], len(centroids), len(points))
    labels = np.asarray(predicted)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ArgumentError("give a label image of integers, or centroids with max_distance.")
    ids = np.unique(labels)
    ids = ids[ids > 0]
    at = np.rint(points).astype(np.intp)
    inside = ((at >= 0) & (at < labels.shape)).all(axis=1)
    hit = np.zeros(len(points), labels.dtype)
    hit[inside] = labels[at[inside, 0], at[inside, 1]]
    found = np.flatnonzero(hit > 0)
    return _matched(np.searchsorted(ids, hit[found]), found, len(ids), len(points))


def mask_average_precision(
    labels_pred: np.ndarray, labels_true: np.ndarray, thresholds: Sequence[float] = (0.5, 0.75, 0.9)
) -> np.ndarray:
    """TP / (TP + FP + FN) of masks at each IoU threshold, as cellpose defines it.

    Parameters
    ----------
    labels_pred, labels_true : numpy.ndarray, (H, W), int
    thresholds : sequence of float

    Returns
    -------
    numpy.ndarray, (T,), float64
        One value a threshold; 1 where both images are empty.

    Raises
    ------
    ArgumentError
        If the images differ in size.
    """
    if labels_pred.shape != labels_true.shape:
        raise ArgumentError(f"label images differ in size: {labels_pred.shape} and {labels_true.shape}.")
    if not labels_pred.any() and not labels_true.any():
        return np.ones(len(thresholds))
    # cellpose takes the lowest value for the background, so a background row is added; gaps in the labels
    # would cost memory.
    both = [np.pad(_without_gaps(labels), ((0, 1), (0, 0))) for labels in (labels_true, labels_pred)]
    return np.asarray(average_precision(*both, threshold=list(thresholds))[0], dtype=np.float64)


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes.

    Parameters
    ----------
    first, second : numpy.ndarray, (N, 4) and (M, 4)
        y0, x0, y1, x1 (or x first in both), half-open.

    Returns
    -------
    numpy.ndarray, (N, M)
    """
    common = _common(first, second)
    union = _areas(first)[:, None] + _areas(second)[None, :] - common
    ious: np.ndarray = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ious


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area that boxes (N, 4) have in common with boxes (M, 4): (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common: np.ndarray = np.clip(high - low, 0, None).prod(axis=2)
    return common


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return areas


def _boxes(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(boxes, dtype=float).reshape(-1, 4)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, np.intp)


def _without_gaps(labels: np.ndarray) -> np.ndarray:
    ids, inverse = np.unique(labels, return_inverse=True)
    offset = 0 if len(ids) and ids[0] == 0 else 1
    return (inverse.reshape(labels.shape) + offset).astype(np.int32)


def _matched(rows: np.ndarray, columns: np.ndarray, n_pred: int, n_true: int) -> Found:
    """The largest one-to-one matching among the allowed pairs (Hopcroft-Karp)."""
    if len(rows) == 0:
        return Found(0, n_pred, n_true)
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(n_pred, n_true))
    tp = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return Found(tp, n_pred - tp, n_true - tp)
