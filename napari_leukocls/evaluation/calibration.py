"""Calibration: its errors, Brier's score, temperature and isotonic regression.

References
----------
.. [1] Guo et al. (2017). On calibration of modern neural networks. ICML.
.. [2] Zadrozny, B. and Elkan, C. (2002). Transforming classifier scores into accurate multiclass probability
       estimates. KDD.
.. [3] Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Mon. Weather Rev. 78, 1-3.
.. [4] Nixon et al. (2019). Measuring calibration in deep learning. CVPR workshops.
.. [5] Stephenson, D. B. et al. (2008). Two extra components in the Brier score decomposition. Weather and
       Forecasting 23, 752-757.
"""

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

#: Bins of probability in which a calibration error is computed.
N_BINS = 15


def bins_of(confidence: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each confidence; the bins have equal widths and include their upper limit.

    Parameters
    ----------
    confidence : array_like, (N,)
        0-1.
    n_bins : int

    Returns
    -------
    numpy.ndarray, (N,), int
        0 to `n_bins` - 1.
    """
    upper = np.ceil(np.asarray(confidence, dtype=float) * n_bins)
    return np.asarray(np.clip(upper - 1, 0, n_bins - 1), np.intp)


def adaptive_bins_of(confidence: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Bin of each confidence; the bins have equal numbers of crops.

    Parameters
    ----------
    confidence : array_like, (N,)
        0-1.
    n_bins : int

    Returns
    -------
    numpy.ndarray, (N,), int
        0 to `n_bins` - 1.
    """
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
    confidence : numpy.ndarray, (N,)
        Probability of the predicted class.
    correct : numpy.ndarray, (N,), bool
    bins : numpy.ndarray, (N,), int
        As `bins_of` gives them.
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
    """Expected calibration error [1]_ of the predicted class, with bins of equal widths.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    n_bins : int

    Returns
    -------
    float
        NaN without crops.
    """
    return _gaps(probabilities, truth, n_bins, adaptive=False)[0]


def mce(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> float:
    """Maximum calibration error: the largest gap among the bins that are not empty.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    n_bins : int

    Returns
    -------
    float
        NaN without crops.
    """
    return _gaps(probabilities, truth, n_bins, adaptive=False)[1]


def adaptive_ece(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> float:
    """Expected calibration error with bins of equal numbers of crops [4]_.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    n_bins : int

    Returns
    -------
    float
        NaN without crops.
    """
    return _gaps(probabilities, truth, n_bins, adaptive=True)[0]


def _gaps(
    probabilities: np.ndarray, truth: np.ndarray, n_bins: int, *, adaptive: bool
) -> tuple[float, float]:
    if len(truth) == 0:
        return float("nan"), float("nan")
    confidence, correct = best_class(probabilities, truth)
    bins = (adaptive_bins_of if adaptive else bins_of)(confidence, n_bins)
    expected, largest = binned_gaps(confidence, correct, bins, np.ones((1, len(truth))), n_bins)
    return float(expected[0]), float(largest[0])


def best_class(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the predicted class of each crop, and whether it is the true one.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    confidence : numpy.ndarray, (N,)
    correct : numpy.ndarray, (N,), bool
    """
    probabilities = np.asarray(probabilities, dtype=float)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(truth)


def brier_scores(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Brier's score of each crop: the squared error of its probabilities, summed over classes.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    numpy.ndarray, (N,)
        0 (perfect) to 2.
    """
    distance = np.array(probabilities, dtype=float)
    distance[np.arange(len(truth)), truth] -= 1
    return np.asarray((distance**2).sum(axis=1))


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Brier's score for several classes [3]_, 0 (perfect) to 2.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    float
        NaN without crops.
    """
    return float(brier_scores(probabilities, truth).mean()) if len(truth) else float("nan")


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean negative logarithm of the probability of the true class (cross-entropy), in nats.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    float
        NaN without crops.
    """
    if len(truth) == 0:
        return float("nan")
    of_truth = np.asarray(probabilities, dtype=float)[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(of_truth, 1e-30, None)).mean())


def brier_parts(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> dict[str, float]:
    """Split Brier's score into reliability, resolution, uncertainty and the rest within bins [5]_.

    Each class against the others, in bins of equal width, summed over classes:
    ``brier = reliability - resolution + uncertainty + within_bin``.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    n_bins : int

    Returns
    -------
    dict
        ``reliability`` (error by miscalibration; 0 is perfect), ``resolution`` (how well classes are separated;
        larger is better), ``uncertainty`` (of the set of crops, whatever the model), and ``within_bin`` (the
        part that the binning hides). NaN without crops.
    """
    names = ("reliability", "resolution", "uncertainty", "within_bin")
    if len(truth) == 0:
        return dict.fromkeys(names, float("nan"))
    sums = np.zeros(3)
    for i in range(probabilities.shape[1]):
        predicted, actual = np.asarray(probabilities[:, i], dtype=float), (truth == i).astype(float)
        bins = bins_of(predicted, n_bins)
        n = np.bincount(bins, minlength=n_bins)
        filled = n > 0
        mean_predicted, mean_actual = (
            np.bincount(bins, weights=values, minlength=n_bins)[filled] / n[filled]
            for values in (predicted, actual)
        )
        share, rate = n[filled] / len(actual), actual.mean()
        sums += (
            (share * (mean_predicted - mean_actual) ** 2).sum(),
            (share * (mean_actual - rate) ** 2).sum(),
            rate * (1 - rate),
        )
    rest = brier(probabilities, truth) - (sums[0] - sums[1] + sums[2])
    return dict(zip(names, (*sums.tolist(), rest), strict=True))


def classwise_brier(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Brier's score of each class against the others.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    numpy.ndarray, (C,)
        0-1 each; their sum is `brier`. NaN without crops.
    """
    if len(truth) == 0:
        return np.full(np.shape(probabilities)[1], np.nan)
    inside = np.clip(np.asarray(probabilities, dtype=float), 0, 1)
    return np.array(
        [brier_score_loss(truth == i, inside[:, i], pos_label=True) for i in range(inside.shape[1])]
    )


def reliability_table(probabilities: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """Compare confidence and accuracy in each bin.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    n_bins : int

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``low, high, n, confidence, accuracy``. Confidence and accuracy are means, NaN in an empty
        bin.
    """
    confidence, correct = best_class(probabilities, truth)
    bins = bins_of(confidence, n_bins)
    n = np.bincount(bins, minlength=n_bins)
    edges = np.arange(n_bins + 1) / n_bins
    sums = [np.bincount(bins, weights=values, minlength=n_bins) for values in (confidence, correct)]
    means = [np.divide(total, n, out=np.full(n_bins, np.nan), where=n > 0) for total in sums]
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n": n, "confidence": means[0], "accuracy": means[1]}
    )


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Fit the temperature that makes the likelihood of the truth largest [1]_.

    The logits are divided by it. Fit it on validation data alone.

    Parameters
    ----------
    logits : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    float
        0.05 to 20.

    Raises
    ------
    ArgumentError
        There are no crops, or the logits are not finite.
    """
    logits, truth = np.asarray(logits, dtype=float), np.asarray(truth)
    if len(truth) == 0 or not np.isfinite(logits).all():
        raise ArgumentError("a temperature is fitted to crops with finite logits; check the validation set.")
    true_logits = logits[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        return float((logsumexp(logits * factor, axis=1) - true_logits * factor).mean())

    # The loss is smooth and has one minimum in 1/T; perfect separation would send T to 0, hence the bounds.
    found = minimize_scalar(
        loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities by a temperature.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    temperature : float
        Above 1 makes the probabilities less extreme, below 1 more extreme.

    Returns
    -------
    numpy.ndarray, (N, C)
    """
    logits = np.log(np.clip(np.asarray(probabilities, dtype=float), 1e-30, None))
    return np.asarray(softmax(logits / temperature, axis=1))


@dataclass(frozen=True)
class Isotonic:
    """An increasing piecewise linear map for each class, instead of one temperature for all.

    It can correct any miscalibration that preserves the order of the probabilities, and needs more cells than a
    temperature. It may change the predicted class.

    Attributes
    ----------
    knots : tuple of (numpy.ndarray, numpy.ndarray)
        One pair a class: probabilities, and the value of the map at each; linear between them.
    """

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Map probabilities, and make each row sum to 1.

        Parameters
        ----------
        probabilities : numpy.ndarray, (N, C)

        Returns
        -------
        numpy.ndarray, (N, C)
            A row whose values are all mapped to 0 is returned unchanged.
        """
        given = np.asarray(probabilities, dtype=float)
        mapped = np.stack([np.interp(given[:, k], *knots) for k, knots in enumerate(self.knots)], axis=1)
        total = mapped.sum(axis=1, keepdims=True)
        return np.where(total > 0, mapped / np.where(total > 0, total, 1), given)


def fit_isotonic(probabilities: np.ndarray, truth: np.ndarray) -> Isotonic:
    """Fit isotonic regression of each class against the others [2]_.

    Fit it on validation data alone.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    Isotonic

    Raises
    ------
    ArgumentError
        There are no crops, or the probabilities are not finite.
    """
    given = np.asarray(probabilities, dtype=float)
    if len(truth) == 0 or not np.isfinite(given).all():
        raise ArgumentError(
            "isotonic calibration is fitted to crops with finite probabilities; check the validation set."
        )
    knots = []
    for i in range(given.shape[1]):
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(given[:, i], truth == i)
        knots.append((np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_, dtype=float)))
    return Isotonic(tuple(knots))


def recalibration(
    probabilities: np.ndarray, truth: np.ndarray, folds: int = 5, seed: int = 0
) -> dict[str, dict[str, float]] | None:
    """Estimate by cross-validation what a new calibration on these cells would give.

    Each fold is calibrated by a fit on the other folds.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    folds : int
    seed : int
        Of the assignment of cells to folds.

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
