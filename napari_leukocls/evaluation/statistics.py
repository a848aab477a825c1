"""Bootstrap intervals and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

# Weights held at a time, numbers: bounds the memory whatever the number of crops and resamples.
_BLOCK = 8_000_000


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
    """Percentile interval of bootstrap values; those that are no number are left out."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_ci(
    statistic: Callable[..., float],
    *arrays: np.ndarray,
    n_boot: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of any statistic of paired arrays.

    Parameters
    ----------
    statistic : callable
        Takes the arrays, resampled by row, and returns a number.
    *arrays : array_like
        Of one length.
    n_boot, seed, confidence
    groups : array_like, optional
        Rows of one group are drawn together.
    """
    data = [np.asarray(array) for array in arrays]
    rows = np.arange(len(data[0]))
    values = []
    for block in resample_weights(len(rows), n_boot, seed, groups):
        for weights in block:
            chosen = np.repeat(rows, weights.astype(np.intp))
            values.append(float(statistic(*(array[chosen] for array in data))))
    return interval(np.array(values), confidence)


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN where there is only one kind.

    Parameters
    ----------
    positive : array_like of bool, (N,)
    score : array_like, (N,)
        Larger is more likely positive.
    """
    from sklearn.metrics import roc_auc_score

    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, np.asarray(score, dtype=float)))


def weighted_auroc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`auroc` of many resamples at once.

    Parameters
    ----------
    positive : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
    weights : numpy.ndarray, (B, N)
        How often each row was drawn.

    Returns
    -------
    numpy.ndarray, (B,)
    """
    order = np.argsort(score, kind="stable")
    ranked = np.asarray(score)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    drawn = weights[:, order]
    is_positive = np.asarray(positive, dtype=bool)[order]
    up = np.add.reduceat(np.where(is_positive, drawn, 0), starts, axis=1).astype(np.float64)
    down = np.add.reduceat(np.where(is_positive, 0, drawn), starts, axis=1).astype(np.float64)
    # A positive beats the negatives of lower score, and half of those of the same score.
    beaten = np.cumsum(down, axis=1) - 0.5 * down
    pairs = up.sum(axis=1) * down.sum(axis=1)
    wins = np.einsum("bn,bn->b", up, beaten)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
