"""Bootstrap: metrics of many resamples at once, and percentile intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import roc_auc_score

from napari_leukocls.evaluation import calibration

#: Weights in memory at one time: resamples are drawn in blocks of at most so many numbers.
_BLOCK = 8_000_000


def weighted_metrics(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, review: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute the metrics of many resamples at once.

    Parameters
    ----------
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    probabilities : numpy.ndarray, (N, C)
    weights : numpy.ndarray, (B, N)
        How often each crop was drawn.
    review : numpy.ndarray, (N,), bool, optional
        Crops that are sent to review.

    Returns
    -------
    dict of str to numpy.ndarray, (B,)
        The metrics by their names in ``metrics.json``; ``recall`` is (B, C). NaN where a metric is not defined, as
        the recall of a class that was not drawn.
    """
    n_classes = probabilities.shape[1]
    # All decisions pooled: each crop is drawn with all its classes.
    is_class = (truth[:, None] == np.arange(n_classes)).ravel()
    pooled, drawn = np.asarray(probabilities).ravel(), np.repeat(weights, n_classes, axis=1)
    confidence, correct = calibration.best_class(probabilities, truth)
    matrix = weighted_confusion(truth, probabilities.argmax(axis=1), weights, n_classes)
    columns = [(truth == i, probabilities[:, i]) for i in range(n_classes)]
    ece, mce = calibration.binned_gaps(confidence, correct, calibration.bins_of(confidence), weights)
    total = weights.sum(axis=1, dtype=np.float64)
    kept = np.zeros(len(truth)) if review is None else 1.0 - review
    n_kept = weights @ kept
    return {
        **_from_confusion(matrix),
        "auc_macro": _over_classes([weighted_auroc(is_class, score, weights) for is_class, score in columns]),
        "average_precision_macro": _over_classes(
            [weighted_average_precision(is_class, score, weights) for is_class, score in columns]
        ),
        "auc_micro": weighted_auroc(is_class, pooled, drawn),
        "average_precision_micro": weighted_average_precision(is_class, pooled, drawn),
        "ece": ece,
        "mce": mce,
        "brier": weights @ calibration.brier_scores(probabilities, truth) / total,
        "review_rate": np.full(len(total), np.nan) if review is None else 1 - n_kept / total,
        "accuracy_not_reviewed": _ratio(weights @ (kept * correct), n_kept),
    }


def weighted_confusion(
    truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Count the confusion matrices of many resamples.

    Parameters
    ----------
    truth, predicted : numpy.ndarray, (N,), int
        Columns of classes.
    weights : numpy.ndarray, (B, N)
        How often each crop was drawn.
    n_classes : int

    Returns
    -------
    numpy.ndarray, (B, C, C)
        Rows are the truth.
    """
    member = np.zeros((len(truth), n_classes**2), weights.dtype)
    member[np.arange(len(truth)), truth * n_classes + predicted] = 1
    matrices: np.ndarray = (weights @ member).astype(np.float64).reshape(-1, n_classes, n_classes)
    return matrices


def weighted_average_precision(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of many resamples at once, as scikit-learn defines it.

    Parameters
    ----------
    positive : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
        Larger is more likely positive.
    weights : numpy.ndarray, (B, N)
        How often each crop was drawn.

    Returns
    -------
    numpy.ndarray, (B,)
        NaN where no positive was drawn.
    """
    order = np.argsort(-np.asarray(score, dtype=float), kind="stable")
    ranked = np.asarray(score)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    drawn, is_positive = weights[:, order], np.asarray(positive, dtype=bool)[order]
    # Crops with the same score pass a threshold together.
    hit = np.add.reduceat(np.where(is_positive, drawn, 0), starts, axis=1).astype(np.float64)
    passed = np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1, dtype=np.float64)
    hits = np.cumsum(hit, axis=1)
    precision = np.divide(hits, passed, out=np.zeros_like(hits), where=passed > 0)
    return _ratio((hit * precision).sum(axis=1), hits[:, -1])


def _from_confusion(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, macro F1, precision, MCC, kappa, NMI, recalls of confusion matrices (B, C, C)."""
    hit = np.diagonal(matrix, axis1=1, axis2=2)
    true, predicted = matrix.sum(axis=2), matrix.sum(axis=1)
    total, right = true.sum(axis=1), hit.sum(axis=1)
    recall, f1 = _ratio(hit, true), _ratio(2 * hit, true + predicted)
    # As F1, over the classes that are true or predicted; a true class that is never predicted counts 0.
    precision = np.where(predicted > 0, _ratio(hit, predicted), np.where(true > 0, 0.0, np.nan))
    chance = (true * predicted).sum(axis=1)
    spread = np.sqrt((total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1)))
    return {
        "accuracy": right / total,
        "balanced_accuracy": _mean_of_known(recall),
        "macro_f1": _mean_of_known(f1),
        "macro_precision": _mean_of_known(precision),
        "mcc": _ratio(right * total - chance, spread),
        "kappa": _ratio(right * total - chance, total**2 - chance),
        "nmi": _mutual_information(matrix / total[:, None, None]),
        "recall": recall,
    }


def _mutual_information(share: np.ndarray) -> np.ndarray:
    """Mutual information over the mean of both entropies, of joint shares (B, C, C)."""

    def entropy(values: np.ndarray) -> np.ndarray:
        logs = np.log(values, out=np.zeros_like(values), where=values > 0)
        return np.asarray(-(values * logs).reshape(len(values), -1).sum(axis=1))

    both = entropy(share.sum(axis=1)) + entropy(share.sum(axis=2))
    known = both > 1e-12
    return _ratio(2 * np.where(known, np.maximum(both - entropy(share), 0), 0), np.where(known, both, 0))


def _over_classes(values: list[np.ndarray]) -> np.ndarray:
    """Mean over classes, (B,), of the values that are not NaN."""
    return _mean_of_known(np.stack(values, axis=1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above` / `below`; NaN where `below` is 0 or not finite."""
    known = np.isfinite(below) & (below > 0)
    ratio: np.ndarray = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=known)
    return ratio


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean of each row over the values that are finite."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))


def resample_weights(
    n: int, n_boot: int, seed: int = 0, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples as counts of how often each row was drawn.

    Parameters
    ----------
    n : int
        Rows.
    n_boot : int
        Resamples.
    seed : int
    groups : numpy.ndarray, (n,), optional
        Rows of one group (a patient, a slide) are drawn together.

    Yields
    ------
    numpy.ndarray, (B, n), float32
        Blocks of resamples, `n_boot` in all.
    """
    if n == 0:
        return
    rng = np.random.default_rng(seed)
    members = np.arange(n)
    if groups is not None:
        members = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    n_groups = int(members.max()) + 1
    size = max(1, _BLOCK // n)
    for start in range(0, n_boot, size):
        rows = min(size, n_boot - start)
        drawn = rng.integers(0, n_groups, (rows, n_groups))
        drawn += n_groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
        yield counts.astype(np.float32)[:, members]


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values.

    Parameters
    ----------
    values : array_like, (B,)
        Values that are not finite are left out.
    confidence : float
        0-1.

    Returns
    -------
    low, high : float
        NaN where no value is finite.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve.

    Parameters
    ----------
    positive : array_like of bool, (N,)
    score : array_like, (N,)
        Larger is more likely positive.

    Returns
    -------
    float
        NaN where all crops are positive, or none is.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, np.asarray(score, dtype=float)))


def weighted_auroc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of many resamples at once.

    Parameters
    ----------
    positive : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
        Larger is more likely positive.
    weights : numpy.ndarray, (B, N)
        How often each row was drawn.

    Returns
    -------
    numpy.ndarray, (B,)
        NaN where a resample has no positive or no negative.
    """
    order = np.argsort(score, kind="stable")
    ranked = np.asarray(score)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    drawn = weights[:, order]
    is_positive = np.asarray(positive, dtype=bool)[order]
    up = np.add.reduceat(np.where(is_positive, drawn, 0), starts, axis=1).astype(np.float64)
    down = np.add.reduceat(np.where(is_positive, 0, drawn), starts, axis=1).astype(np.float64)
    # A positive counts each negative of lower score, and half of each negative of the same score.
    beaten = np.cumsum(down, axis=1) - 0.5 * down
    pairs = up.sum(axis=1) * down.sum(axis=1)
    wins = np.einsum("bn,bn->b", up, beaten)
    area: np.ndarray = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
    return area
