"""Metrics of a classifier, with bootstrap intervals, as ``metrics.json`` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from statsmodels.stats.proportion import proportion_confint

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation import calibration
from napari_leukocls.evaluation.bootstrap import auroc, interval, resample_weights, weighted_metrics
from napari_leukocls.evaluation.reliability import class_reliability, sharpness
from napari_leukocls.evaluation.separation import class_separation, error_figures

#: Metrics with a confidence interval.
HEADLINE = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_precision",
    "mcc",
    "kappa",
    "nmi",
    "auc_macro",
    "auc_micro",
    "average_precision_macro",
    "average_precision_micro",
    "ece",
    "mce",
    "brier",
    "review_rate",
    "accuracy_not_reviewed",
)
#: Metrics without one.
_WITHOUT_LIMITS = ("macro_recall", "adaptive_ece", "brier_mean", "log_loss", "sharpness")


@dataclass(frozen=True)
class _Known:
    """The crops whose true class the model knows."""

    truth: np.ndarray
    probabilities: np.ndarray
    review: np.ndarray | None

    @property
    def n_classes(self) -> int:
        return int(self.probabilities.shape[1])

    @property
    def predicted(self) -> np.ndarray:
        return np.asarray(self.probabilities.argmax(axis=1))


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
    """Compute everything that ``metrics.json`` holds.

    Parameters
    ----------
    truth : sequence of str, length N
        Class names. Crops of a class that is not among `classes` count in ``unknown_classes`` alone.
    probabilities : numpy.ndarray, (N, C)
    classes : sequence of str, length C
        Classes of the model.
    ood_score : numpy.ndarray, (N,), optional
        Larger is less like the training data.
    needs_review : numpy.ndarray, (N,), bool, optional
    n_boot : int
        Resamples of the bootstrap; 0 leaves the intervals out.
    seed : int
        Of the bootstrap.
    temperature : float, optional
        Of the model; it is copied to the result.
    groups : numpy.ndarray, (N,), optional
        Patient or slide of each crop; the bootstrap draws whole groups.

    Returns
    -------
    dict
        As in ``metrics.json``; a metric that is not defined (no crop, no review) is None.
        ``balanced_accuracy`` is the mean over classes with at least one crop; ``macro_f1`` the mean over
        classes that are true or predicted at least once; ``auc_macro`` the mean over classes, each against
        the rest, that have positives and negatives. ``brier`` is 0-2; the scores of the single classes are
        0-1, their sum is ``brier`` and their mean ``brier_mean``. ``recall_ci95`` of a class is Wilson's interval, or
        the bootstrap's where `groups` are given.

    Raises
    ------
    ArgumentError
        If `probabilities` is not of shape (N, C).
    """
    names = np.asarray([str(name) for name in truth], dtype=object)
    scores = np.asarray(probabilities, dtype=float)
    if scores.shape != (len(names), len(classes)):
        raise ArgumentError(
            f"{len(names)} crops and {len(classes)} classes need probabilities of shape "
            f"({len(names)}, {len(classes)}), not {scores.shape}."
        )
    column = {name: i for i, name in enumerate(classes)}
    index = np.array([column.get(name, -1) for name in names], dtype=np.intp)
    known = index >= 0
    review = None if needs_review is None else np.asarray(needs_review, dtype=bool)
    crops = _Known(index[known], scores[known], None if review is None else review[known])
    result: dict[str, Any] = {
        "n": int(known.sum()),
        "classes": list(classes),
        **_point_estimates(crops),
        "temperature": temperature,
        "brier_parts": calibration.brier_parts(crops.probabilities, crops.truth),
        "errors": error_figures(crops.probabilities, crops.truth),
        "per_class": _per_class(crops, classes),
        "confusion_matrix": _confusion(crops).tolist(),
        "unknown_classes": _unknown(names, known, ood_score, review),
    }
    if ood_score is not None and not known.all():
        result["ood_auroc"] = auroc(~known, np.asarray(ood_score))
    if n_boot:
        _add_limits(result, crops, n_boot, seed, None if groups is None else np.asarray(groups)[known])
    plain: dict[str, Any] = _nan_to_none(result)
    return plain


def _confusion(known: _Known) -> np.ndarray:
    """Confusion matrix (C, C): rows are the truth, columns the prediction."""
    size = known.n_classes
    return np.bincount(known.truth * size + known.predicted, minlength=size**2).reshape(size, size)


def _point_estimates(known: _Known) -> dict[str, float]:
    if len(known.truth) == 0:
        return dict.fromkeys((*HEADLINE, *_WITHOUT_LIMITS), float("nan"))
    truth, predicted, probabilities = known.truth, known.predicted, known.probabilities
    # Macro means are over classes that are true or predicted; the mean recall is over those that are true.
    present = np.union1d(truth, predicted)
    precision, _, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=present, average="macro", zero_division=0
    )
    recalls = metrics.recall_score(truth, predicted, labels=np.unique(truth), average=None, zero_division=0)
    single = len(present) < 2
    constant = len(np.unique(truth)) < 2 and len(np.unique(predicted)) < 2
    right = predicted == truth
    kept = None if known.review is None else ~known.review
    return {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_precision": float(precision),
        "macro_recall": float(np.mean(recalls)),
        "macro_f1": float(f1),
        "mcc": float("nan") if single else float(metrics.matthews_corrcoef(truth, predicted)),
        "kappa": float("nan") if single else float(metrics.cohen_kappa_score(truth, predicted)),
        "nmi": float("nan") if constant else float(metrics.normalized_mutual_info_score(truth, predicted)),
        **_ranking(truth, probabilities),
        "ece": calibration.ece(probabilities, truth),
        "mce": calibration.mce(probabilities, truth),
        "adaptive_ece": calibration.adaptive_ece(probabilities, truth),
        "brier": calibration.brier(probabilities, truth),
        "brier_mean": calibration.brier(probabilities, truth) / known.n_classes,
        "log_loss": calibration.log_loss(probabilities, truth),
        "sharpness": sharpness(probabilities),
        "review_rate": float("nan") if kept is None else float(1 - kept.mean()),
        "accuracy_not_reviewed": float(right[kept].mean())
        if kept is not None and kept.any()
        else float("nan"),
    }


def _ranking(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Areas under the ROC and precision-recall curves, each class against the rest."""
    is_class = truth[:, None] == np.arange(probabilities.shape[1])
    columns = list(zip(is_class.T, probabilities.T, strict=True))
    aucs = np.array([auroc(is_true, score) for is_true, score in columns])
    precisions = [average_precision_score(is_true, score) for is_true, score in columns if is_true.any()]
    return {
        "auc_macro": float(np.nanmean(aucs)) if np.isfinite(aucs).any() else float("nan"),
        "auc_micro": auroc(is_class.ravel(), probabilities.ravel()),
        "average_precision_macro": float(np.mean(precisions)),
        "average_precision_micro": float(average_precision_score(is_class.ravel(), probabilities.ravel())),
    }


def _per_class(known: _Known, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    if len(known.truth) == 0:
        nothing = (np.empty(0), np.empty(0, bool))
        empty: dict[str, Any] = dict.fromkeys(
            ("precision", "recall", "f1", "recall_ci95", "auc", "average_precision", "brier"), None
        )
        empty |= {**class_reliability(*nothing), **class_separation(*nothing[::-1])}
        return {name: {**empty, "n": 0} for name in classes}
    columns = precision_recall_fscore_support(
        known.truth, known.predicted, labels=np.arange(len(classes)), zero_division=np.nan
    )
    briers = calibration.classwise_brier(known.probabilities, known.truth)
    rows: dict[str, dict[str, Any]] = {}
    for i, (name, p, r, f, n) in enumerate(zip(classes, *columns, strict=True)):
        is_true, score = known.truth == i, known.probabilities[:, i]
        hits = int((known.predicted[is_true] == i).sum())
        limits = proportion_confint(hits, n, method="wilson") if n else (np.nan, np.nan)
        rows[name] = {
            "precision": float(p),
            "recall": float(r),
            "f1": float(f),
            "n": int(n),
            "recall_ci95": [float(limit) for limit in limits],
            "auc": auroc(is_true, score),
            "average_precision": float(average_precision_score(is_true, score)) if n else float("nan"),
            "brier": float(briers[i]),
            **class_reliability(score, is_true),
            **class_separation(is_true, score),
        }
    return rows


def _unknown(
    names: np.ndarray, known: np.ndarray, ood_score: np.ndarray | None, review: np.ndarray | None
) -> dict[str, dict[str, float | int | None]]:
    """True classes that the model does not have: share sent to review, and AUROC of the out-of-distribution score."""
    result: dict[str, dict[str, float | int | None]] = {}
    for name in sorted(set(names[~known])):
        is_true = names == name
        either = is_true | known
        result[name] = {
            "n": int(is_true.sum()),
            "review_rate": None if review is None else float(review[is_true].mean()),
            "ood_auroc": None if ood_score is None else auroc(is_true[either], np.asarray(ood_score)[either]),
        }
    return result


def _intervals(
    known: _Known, n_boot: int, seed: int, groups: np.ndarray | None
) -> tuple[dict[str, list[float]], list[list[float]]]:
    """Bootstrap limits of the headline metrics, and of each class's recall."""
    blocks = [
        weighted_metrics(known.truth, known.probabilities, weights, known.review)
        for weights in resample_weights(len(known.truth), n_boot, seed, groups)
    ]
    values = {name: [block[name] for block in blocks] or [np.empty(0)] for name in HEADLINE}
    limits = {f"{name}_ci95": list(interval(np.concatenate(values[name]))) for name in HEADLINE}
    recall = np.concatenate([block["recall"] for block in blocks] or [np.empty((0, known.n_classes))])
    return limits, [list(interval(column)) for column in recall.T]


def _add_limits(
    result: dict[str, Any], known: _Known, n_boot: int, seed: int, groups: np.ndarray | None
) -> None:
    """Add the bootstrap's limits to the metrics, and to the recalls of the classes where there are groups."""
    limits, recalls = _intervals(known, n_boot, seed, groups)
    _widen_where_all_are_right(limits, result)
    result |= limits
    if groups is not None:
        for name, low_high in zip(result["classes"], recalls, strict=True):
            result["per_class"][name]["recall_ci95"] = low_high
    result["bootstrap"] = {"n": n_boot, "seed": seed, "by_group": groups is not None}


def _widen_where_all_are_right(limits: dict[str, list[float]], result: dict[str, Any]) -> None:
    """Give the exact lower limit where every crop is right: all resamples of such crops are perfect as well."""
    if result["n"] == 0 or result["accuracy"] != 1:
        return
    low = float(proportion_confint(result["n"], result["n"], method="beta")[0])
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        limits[f"{name}_ci95"] = [low, 1.0]


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


__all__ = ["HEADLINE", "classification_metrics", "weighted_metrics"]
