"""The headline metrics of many bootstrap resamples at once, from how often each crop was drawn."""

from __future__ import annotations

import numpy as np

from napari_leukocls.evaluation import calibration
from napari_leukocls.evaluation.statistics import weighted_auroc


def weighted_metrics(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, review: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Measure many resamples at once.

    Parameters
    ----------
    truth : numpy.ndarray, (N,), int
    probabilities : numpy.ndarray, (N, C)
    weights : numpy.ndarray, (B, N)
        How often each crop was drawn.
    review : numpy.ndarray, (N,), bool, optional

    Returns
    -------
    dict of str to numpy.ndarray, (B,)
        And ``recall`` (B, C), NaN where a class was not drawn.
    """
    n_classes = probabilities.shape[1]
    confidence, correct = calibration.best_of(probabilities, truth)
    matrix = weighted_confusion(truth, probabilities.argmax(axis=1), weights, n_classes)
    columns = [(truth == place, probabilities[:, place]) for place in range(n_classes)]
    ece, mce = calibration.binned_gaps(confidence, correct, calibration.bins_of(confidence), weights)
    total = weights.sum(axis=1, dtype=np.float64)
    kept = np.zeros(len(truth)) if review is None else 1.0 - review
    n_kept = weights @ kept
    return {
        **_from_confusion(matrix),
        "auc_macro": _over_classes([weighted_auroc(mine, score, weights) for mine, score in columns]),
        "average_precision_macro": _over_classes(
            [weighted_average_precision(mine, score, weights) for mine, score in columns]
        ),
        "ece": ece,
        "mce": mce,
        "brier": weights @ calibration.brier_scores(probabilities, truth) / total,
        "review_rate": np.full(len(total), np.nan) if review is None else 1 - n_kept / total,
        "accuracy_not_reviewed": _ratio(weights @ (kept * correct), n_kept),
    }


def weighted_confusion(
    truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Confusion matrices (B, C, C) of resamples; rows are the truth."""
    member = np.zeros((len(truth), n_classes**2), weights.dtype)
    member[np.arange(len(truth)), truth * n_classes + predicted] = 1
    return (weights @ member).astype(np.float64).reshape(-1, n_classes, n_classes)


def weighted_average_precision(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of many resamples at once, as scikit-learn defines it.

    Parameters
    ----------
    positive : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
    weights : numpy.ndarray, (B, N)

    Returns
    -------
    numpy.ndarray, (B,)
        NaN where no positive was drawn.
    """
    order = np.argsort(-np.asarray(score, dtype=float), kind="stable")
    ranked = np.asarray(score)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    drawn, is_positive = weights[:, order], np.asarray(positive, dtype=bool)[order]
    # Crops of one score pass the threshold together.
    hit = np.add.reduceat(np.where(is_positive, drawn, 0), starts, axis=1).astype(np.float64)
    passed = np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1, dtype=np.float64)
    hits = np.cumsum(hit, axis=1)
    precision = np.divide(hits, passed, out=np.zeros_like(hits), where=passed > 0)
    return _ratio((hit * precision).sum(axis=1), hits[:, -1])


def _from_confusion(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, macro F1, MCC, kappa, NMI and recalls of confusion matrices (B, C, C)."""
    hit = np.diagonal(matrix, axis1=1, axis2=2)
    true, said = matrix.sum(axis=2), matrix.sum(axis=1)
    total, right = true.sum(axis=1), hit.sum(axis=1)
    recall, f1 = _ratio(hit, true), _ratio(2 * hit, true + said)
    chance = (true * said).sum(axis=1)
    spread = np.sqrt((total**2 - (said**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1)))
    return {
        "accuracy": right / total,
        "balanced_accuracy": _mean_of_known(recall),
        "macro_f1": _mean_of_known(f1),
        "mcc": _ratio(right * total - chance, spread),
        "kappa": _ratio(right * total - chance, total**2 - chance),
        "nmi": _mutual_information(matrix / total[:, None, None]),
        "recall": recall,
    }


def _mutual_information(share: np.ndarray) -> np.ndarray:
    """Mutual information over the mean of both entropies, of joint shares (B, C, C)."""

    def entropy(values: np.ndarray) -> np.ndarray:
        logs = np.log(values, out=np.zeros_like(values), where=values > 0)
        return -(values * logs).reshape(len(values), -1).sum(axis=1)

    both = entropy(share.sum(axis=1)) + entropy(share.sum(axis=2))
    known = both > 1e-12
    return _ratio(2 * np.where(known, np.maximum(both - entropy(share), 0), 0), np.where(known, both, 0))


def _over_classes(values: list[np.ndarray]) -> np.ndarray:
    """Mean over classes (B,) of what is known."""
    stacked = np.stack(values, axis=1)
    return _mean_of_known(stacked)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above` / `below`, NaN where that is not defined."""
    known = np.isfinite(below) & (below > 0)
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=known)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))
