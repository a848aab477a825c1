"""Metrics of a classifier, with bootstrap intervals, as ``metrics.json`` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation import calibration
from napari_leukocls.evaluation.detection import Found, boxes_f1, centres_f1, mask_average_precision
from napari_leukocls.evaluation.statistics import auroc, interval, resample_weights, weighted_auroc

__all__ = [
    "HEADLINE",
    "Found",
    "boxes_f1",
    "centres_f1",
    "classification_metrics",
    "mask_average_precision",
    "weighted_metrics",
]

#: Metrics that come with an interval.
HEADLINE = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "mcc",
    "kappa",
    "auc_macro",
    "ece",
    "mce",
    "brier",
    "review_rate",
    "accuracy_not_reviewed",
)


@dataclass(frozen=True)
class _Known:
    """The crops whose truth the model knows."""

    truth: np.ndarray
    probabilities: np.ndarray
    review: np.ndarray | None

    @property
    def n_classes(self) -> int:
        return self.probabilities.shape[1]

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)


def classification_metrics(
    truth: Sequence[str] | np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    ood_score: np.ndarray | None = None,
    needs_review: np.ndarray | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    temperature: float | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Everything that ``metrics.json`` holds.

    Parameters
    ----------
    truth : sequence of str, length N
        Class names; those that are not among `classes` are kept out of every metric but ``unknown_classes``.
    probabilities : numpy.ndarray, (N, C)
    classes : sequence of str, length C
        The model's.
    ood_score : numpy.ndarray, (N,), optional
        Larger is less like the training data.
    needs_review : numpy.ndarray, (N,), bool, optional
    n_boot, seed
        Of the bootstrap; `n_boot` of 0 leaves the intervals out.
    temperature : float, optional
        Of the model, to be noted.
    groups : numpy.ndarray, (N,), optional
        Patient or slide of each crop; the bootstrap draws these whole.

    Returns
    -------
    dict
        As in ``metrics.json``; what cannot be known (no crop, no review) is None. ``balanced_accuracy`` is
        the mean over classes with at least one crop, ``macro_f1`` over classes that are true or predicted
        at least once, ``auc_macro`` that of one against the rest over classes that have both; ``brier`` is
        0-2.
    """
    names = np.asarray([str(name) for name in truth], dtype=object)
    scores = np.asarray(probabilities, dtype=float)
    if scores.shape != (len(names), len(classes)):
        raise ArgumentError(
            f"{len(names)} crops of {len(classes)} classes, but probabilities {scores.shape}."
        )
    column = {name: place for place, name in enumerate(classes)}
    index = np.array([column.get(name, -1) for name in names], dtype=np.intp)
    known = index >= 0
    review = None if needs_review is None else np.asarray(needs_review, dtype=bool)
    mine = _Known(index[known], scores[known], None if review is None else review[known])
    result: dict[str, Any] = {
        "n": int(known.sum()),
        "classes": list(classes),
        **_point_estimates(mine),
        "temperature": temperature,
        "per_class": _per_class(mine, classes),
        "confusion_matrix": _confusion(mine).tolist(),
        "unknown_classes": _unknown(names, known, ood_score, review),
    }
    if ood_score is not None and not known.all():
        result["ood_auroc"] = auroc(~known, np.asarray(ood_score))
    mine_groups = None if groups is None else np.asarray(groups)[known]
    if n_boot:
        result |= _intervals(mine, n_boot, seed, mine_groups)
        result["bootstrap"] = {"n": n_boot, "seed": seed, "by_group": groups is not None}
    return _nan_to_none(result)


def _confusion(known: _Known) -> np.ndarray:
    """Rows are the truth, columns the prediction."""
    size = known.n_classes
    return np.bincount(known.truth * size + known.predicted, minlength=size**2).reshape(size, size)


def _point_estimates(known: _Known) -> dict[str, float]:
    from sklearn import metrics

    if len(known.truth) == 0:
        return dict.fromkeys(HEADLINE, float("nan"))
    truth, predicted, probabilities = known.truth, known.predicted, known.probabilities
    recalls = metrics.recall_score(truth, predicted, labels=np.unique(truth), average=None, zero_division=0)
    single = len(np.union1d(truth, predicted)) < 2
    aucs = [auroc(truth == place, probabilities[:, place]) for place in range(known.n_classes)]
    right = predicted == truth
    kept = None if known.review is None else ~known.review
    return {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(metrics.f1_score(truth, predicted, average="macro", zero_division=0)),
        "mcc": float("nan") if single else float(metrics.matthews_corrcoef(truth, predicted)),
        "kappa": float("nan") if single else float(metrics.cohen_kappa_score(truth, predicted)),
        "auc_macro": float(np.nanmean(aucs)) if np.isfinite(aucs).any() else float("nan"),
        "ece": calibration.ece(probabilities, truth),
        "mce": calibration.mce(probabilities, truth),
        "adaptive_ece": calibration.adaptive_ece(probabilities, truth),
        "brier": calibration.brier(probabilities, truth),
        "review_rate": float("nan") if kept is None else float(1 - kept.mean()),
        "accuracy_not_reviewed": float(right[kept].mean())
        if kept is not None and kept.any()
        else float("nan"),
    }


def _per_class(known: _Known, classes: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
    from sklearn.metrics import precision_recall_fscore_support

    if len(known.truth) == 0:
        return {name: {"precision": None, "recall": None, "f1": None, "n": 0} for name in classes}
    columns = precision_recall_fscore_support(
        known.truth, known.predicted, labels=np.arange(len(classes)), zero_division=np.nan
    )
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
        for name, p, r, f, n in zip(classes, *columns, strict=True)
    }


def _unknown(
    names: np.ndarray, known: np.ndarray, ood_score: np.ndarray | None, review: np.ndarray | None
) -> dict[str, dict[str, float | int | None]]:
    """Truth classes that the model does not have: share in review, and how well the score tells them."""
    result: dict[str, dict[str, float | int | None]] = {}
    for name in sorted(set(names[~known])):
        mine = names == name
        either = mine | known
        result[name] = {
            "n": int(mine.sum()),
            "review_rate": None if review is None else float(review[mine].mean()),
            "ood_auroc": None if ood_score is None else auroc(mine[either], np.asarray(ood_score)[either]),
        }
    return result


def _intervals(known: _Known, n_boot: int, seed: int, groups: np.ndarray | None) -> dict[str, list[float]]:
    blocks = [
        weighted_metrics(known.truth, known.probabilities, weights, known.review)
        for weights in resample_weights(len(known.truth), n_boot, seed, groups)
    ]
    values = {name: [block[name] for block in blocks] or [np.empty(0)] for name in HEADLINE}
    return {f"{name}_ci95": list(interval(np.concatenate(values[name]))) for name in HEADLINE}


def weighted_metrics(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, review: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The headline metrics of many resamples at once.

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
    """
    n_classes = probabilities.shape[1]
    confidence, correct = calibration.best_of(probabilities, truth)
    cells = truth * n_classes + probabilities.argmax(axis=1)
    member = np.zeros((len(truth), n_classes**2), weights.dtype)
    member[np.arange(len(truth)), cells] = 1
    matrix = (weights @ member).astype(np.float64).reshape(-1, n_classes, n_classes)
    aucs = np.stack(
        [weighted_auroc(truth == place, probabilities[:, place], weights) for place in range(n_classes)]
    )
    seen = np.isfinite(aucs)
    ece, mce = calibration.binned_gaps(confidence, correct, calibration.bins_of(confidence), weights)
    total = weights.sum(axis=1, dtype=np.float64)
    kept = np.zeros(len(truth)) if review is None else 1.0 - review
    n_kept = weights @ kept
    return {
        **_from_confusion(matrix),
        "auc_macro": _ratio(np.where(seen, aucs, 0).sum(axis=0), seen.sum(axis=0)),
        "ece": ece,
        "mce": mce,
        "brier": weights @ calibration.brier_scores(probabilities, truth) / total,
        "review_rate": np.full(len(total), np.nan) if review is None else 1 - n_kept / total,
        "accuracy_not_reviewed": _ratio(weights @ (kept * correct), n_kept),
    }


def _from_confusion(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, macro F1, MCC and kappa of confusion matrices (B, C, C)."""
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
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above` / `below`, NaN where that is not defined."""
    known = np.isfinite(below) & (below > 0)
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=known)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
