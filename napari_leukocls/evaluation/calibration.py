"""Calibration error, temperature, isotonic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import KFold

from napari_leukocls.errors import ArgumentError

N_BINS = 15


def bins_of(confidence: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each confidence, equal widths, closed above: 0 .. `n_bins` - 1."""
    return np.clip(np.ceil(np.asarray(confidence, dtype=float) * n_bins) - 1, 0, n_bins - 1).astype(np.intp)


def adaptive_bins_of(confidence: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each confidence, equal numbers of crops in each."""
    confidence = np.asarray(confidence, dtype=float)
    rank = np.empty(len(confidence), np.intp)
    rank[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return rank * n_bins // max(len(confidence), 1)


def binned_gaps(
    confidence: np.ndarray, correct: np.ndarray, bins: np.ndarray, weights: np.ndarray, n_bins: int = N_BINS
) -> tuple[np.ndarray, np.ndarray]:
    """Expected and maximum calibration error of many resamples at once.

    Parameters
    ----------
    confidence, correct, bins : numpy.ndarray, (N,)
    weights : numpy.ndarray, (B, N)
        How often each row was drawn.
    n_bins : int

    Returns
    -------
    ece, mce : numpy.ndarray, (B,)
    """
    member = np.zeros((len(bins), n_bins))
    member[np.arange(len(bins)), bins] = 1
    filled = weights @ member
    gap = np.abs(weights @ (member * (np.asarray(confidence, float) - correct)[:, None]))
    ece = gap.sum(axis=1) / filled.sum(axis=1)
    mce = np.divide(gap, filled, out=np.zeros_like(gap), where=filled > 0).max(axis=1)
    return ece, mce


def ece(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> float:
    """Expected calibration error of the best class, equal-width bins.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    n_bins : int
    """
    return _gaps(probabilities, truth, n_bins, adaptive=False)[0]


def mce(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> float:
    """Largest gap of any bin that is not empty; arguments as for `ece`."""
    return _gaps(probabilities, truth, n_bins, adaptive=False)[1]


def adaptive_ece(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> float:
    """Expected calibration error with bins of equal numbers of crops; arguments as for `ece`."""
    return _gaps(probabilities, truth, n_bins, adaptive=True)[0]


def _gaps(
    probabilities: np.ndarray, truth: np.ndarray, n_bins: int, *, adaptive: bool
) -> tuple[float, float]:
    if len(truth) == 0:
        return float("nan"), float("nan")
    confidence, correct = best_of(probabilities, truth)
    bins = (adaptive_bins_of if adaptive else bins_of)(confidence, n_bins)
    expected, largest = binned_gaps(confidence, correct, bins, np.ones((1, len(truth))), n_bins)
    return float(expected[0]), float(largest[0])


def best_of(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the best class of each crop, and whether it is the true one."""
    probabilities = np.asarray(probabilities, dtype=float)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(truth)


def brier_scores(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared distance of each crop's probabilities from the truth, summed over classes: 0-2, shape (N,)."""
    distance = np.array(probabilities, dtype=float)
    distance[np.arange(len(truth)), truth] -= 1
    return (distance**2).sum(axis=1)


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Brier's score for many classes, 0 (perfect) to 2; arguments as for `ece`."""
    return float(brier_scores(probabilities, truth).mean()) if len(truth) else float("nan")


def brier_parts(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> dict[str, float]:
    """Split Brier's score into what miscalibration costs, what telling classes apart gains, and the rest.

    Each class against the others, in bins of equal width, summed over classes:
    ``brier = reliability - resolution + uncertainty + within_bin``.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
    n_bins : int

    Returns
    -------
    dict
        ``reliability`` (0 is perfect), ``resolution`` (larger is better), ``uncertainty`` (of the set),
        and ``within_bin``, which is what binning hides [5]_.
    """
    names = ("reliability", "resolution", "uncertainty", "within_bin")
    if len(truth) == 0:
        return dict.fromkeys(names, float("nan"))
    sums = np.zeros(3)
    for place in range(probabilities.shape[1]):
        said, came = np.asarray(probabilities[:, place], dtype=float), (truth == place).astype(float)
        bins = bins_of(said, n_bins)
        n = np.bincount(bins, minlength=n_bins)
        filled = n > 0
        mean_said, mean_came = (
            np.bincount(bins, weights=values, minlength=n_bins)[filled] / n[filled] for values in (said, came)
        )
        share, rate = n[filled] / len(came), came.mean()
        sums += (
            (share * (mean_said - mean_came) ** 2).sum(),
            (share * (mean_came - rate) ** 2).sum(),
            rate * (1 - rate),
        )
    rest = brier(probabilities, truth) - (sums[0] - sums[1] + sums[2])
    return dict(zip(names, (*sums.tolist(), rest), strict=True))


def classwise_brier(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Brier's score of each class against the others, (C,), 0-1 each; their sum is `brier`."""
    if len(truth) == 0:
        return np.full(np.shape(probabilities)[1], np.nan)
    inside = np.clip(np.asarray(probabilities, dtype=float), 0, 1)
    return np.array(
        [
            brier_score_loss(truth == place, inside[:, place], pos_label=True)
            for place in range(inside.shape[1])
        ]
    )


def reliability_table(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """One row a bin: ``low, high, n, confidence, accuracy``; means are NaN where a bin is empty."""
    confidence, correct = best_of(probabilities, truth)
    bins = bins_of(confidence, n_bins)
    n = np.bincount(bins, minlength=n_bins)
    edges = np.arange(n_bins + 1) / n_bins
    sums = [np.bincount(bins, weights=values, minlength=n_bins) for values in (confidence, correct)]
    means = [np.divide(total, n, out=np.full(n_bins, np.nan), where=n > 0) for total in sums]
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n": n, "confidence": means[0], "accuracy": means[1]}
    )


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature by which to divide the logits so that the likelihood of the truth is largest.

    Fit it on validation data alone.

    Parameters
    ----------
    logits : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int

    Raises
    ------
    ArgumentError
        Nothing to fit on, or logits that are no numbers.
    """
    logits, truth = np.asarray(logits, dtype=float), np.asarray(truth)
    if len(truth) == 0 or not np.isfinite(logits).all():
        raise ArgumentError("a temperature needs crops and finite logits; check the validation set.")
    mine = logits[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        return float((logsumexp(logits * factor, axis=1) - mine * factor).mean())

    # The loss is smooth and has one minimum in 1/T; perfect separation would send T to 0, hence the bounds.
    found = minimize_scalar(
        loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities (N, C) by a temperature; below 1 it makes them surer."""
    logits = np.log(np.clip(np.asarray(probabilities, dtype=float), 1e-30, None))
    return softmax(logits / temperature, axis=1)


@dataclass(frozen=True)
class Isotonic:
    """A rising step-wise map for each class, instead of one temperature for all.

    It follows any miscalibration, and needs more cells than a temperature; it may change the best class.

    Attributes
    ----------
    knots : tuple of (numpy.ndarray, numpy.ndarray)
        One pair a class: probabilities, and what each becomes; linear between them.
    """

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Map probabilities (N, C) and make rows sum to 1; a row that becomes nothing stays as it was."""
        given = np.asarray(probabilities, dtype=float)
        mapped = np.stack([np.interp(given[:, k], *knots) for k, knots in enumerate(self.knots)], axis=1)
        total = mapped.sum(axis=1, keepdims=True)
        return np.where(total > 0, mapped / np.where(total > 0, total, 1), given)


def fit_isotonic(probabilities: np.ndarray, truth: np.ndarray) -> Isotonic:
    """Fit isotonic regression of each class against the others; on validation data alone [1]_.

    Raises
    ------
    ArgumentError
        Nothing to fit on, or probabilities that are no numbers.
    """
    given = np.asarray(probabilities, dtype=float)
    if len(truth) == 0 or not np.isfinite(given).all():
        raise ArgumentError(
            "isotonic calibration needs crops and finite probabilities; check the validation set."
        )
    knots = []
    for place in range(given.shape[1]):
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            given[:, place], truth == place
        )
        knots.append((np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_, dtype=float)))
    return Isotonic(tuple(knots))


def recalibration(
    probabilities: np.ndarray, truth: np.ndarray, folds: int = 5, seed: int = 0
) -> dict[str, dict[str, float]] | None:
    """What fitting anew on these cells would give: each fold is calibrated by a fit on the others.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
    folds, seed : int

    Returns
    -------
    dict or None
        ``as_is``, ``temperature`` and ``isotonic``, each with ``ece``, ``brier`` and ``accuracy``; None where
        there are fewer than ten cells a fold.
    """
    if len(truth) < 10 * folds:
        return None
    given = np.asarray(probabilities, dtype=float)
    fitted = {"as_is": given, "temperature": np.empty_like(given), "isotonic": np.empty_like(given)}
    logits = np.log(np.clip(given, 1e-30, None))
    for rest, part in KFold(folds, shuffle=True, random_state=seed).split(given):
        fitted["temperature"][part] = at_temperature(given[part], fit_temperature(logits[rest], truth[rest]))
        fitted["isotonic"][part] = fit_isotonic(given[rest], truth[rest]).apply(given[part])
    return {
        name: {
            "ece": ece(values, truth),
            "brier": brier(values, truth),
            "accuracy": float((values.argmax(axis=1) == truth).mean()),
        }
        for name, values in fitted.items()
    }
