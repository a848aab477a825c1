"""How far the probabilities of each class can be believed: errors of calibration class by class, and sharpness.

References
----------
.. [1] Nixon et al. (2019). Measuring calibration in deep learning. CVPR workshops.
.. [2] Austin, P. C. and Steyerberg, E. W. (2019). The integrated calibration index (ICI) and related metrics for
       quantifying the calibration of logistic regression models. Stat. Med. 38, 4051-4065.
.. [3] Guo et al. (2017). On calibration of modern neural networks. ICML.
.. [4] Broecker, J. (2009). Reliability, sufficiency, and the decomposition of proper scores. Q. J. R. Meteorol. Soc.
       135, 1512-1519.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, rel_entr
from scipy.stats import entropy
from statsmodels.nonparametric.smoothers_lowess import lowess

from napari_leukocls.evaluation.calibration import N_BINS, bins_of, fit_temperature

#: Share of the crops around a probability by which the smooth curve is drawn.
SPAN = 0.75
#: Probabilities that are taken away from 0 and 1 before their logit is taken.
EDGE = 1e-7
#: Fewest crops of a class, and of the others, for its figures.
MIN_CLASS = 5


def class_curve(probability: np.ndarray, is_class: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """Compare the probability of a class with how often it is the true one.

    Parameters
    ----------
    probability : numpy.ndarray, (N,)
    is_class : numpy.ndarray, (N,), bool
    n_bins : int
        Of equal widths.

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``low, high, n, predicted, observed``; the means are NaN in an empty bin.
    """
    bins = bins_of(probability, n_bins)
    n = np.bincount(bins, minlength=n_bins)
    edges = np.arange(n_bins + 1) / n_bins
    means = [
        np.divide(
            np.bincount(bins, weights=np.asarray(values, float), minlength=n_bins),
            n,
            out=np.full(n_bins, np.nan),
            where=n > 0,
        )
        for values in (probability, is_class)
    ]
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n": n, "predicted": means[0], "observed": means[1]}
    )


def class_ece(curve: pd.DataFrame) -> float:
    """Calibration error of one class [1]_: the mean gap of its bins, weighted by their crops.

    Parameters
    ----------
    curve : pandas.DataFrame
        As `class_curve` gives it.

    Returns
    -------
    float
    """
    filled = curve[curve["n"] > 0]
    gap = (filled["predicted"] - filled["observed"]).abs()
    return float((gap * filled["n"]).sum() / filled["n"].sum())


def class_kl(curve: pd.DataFrame) -> float:
    """Kullback-Leibler divergence of the probabilities of one class from how often it is true, in nats.

    In each bin, the observed share is compared with the mean probability; the mean over bins is weighted by their
    crops. It is the reliability part of the logarithmic score [4]_.

    Parameters
    ----------
    curve : pandas.DataFrame
        As `class_curve` gives it.

    Returns
    -------
    float
    """
    filled = curve[curve["n"] > 0]
    observed = filled["observed"].to_numpy()
    predicted = np.clip(filled["predicted"].to_numpy(), EDGE, 1 - EDGE)
    divergence = rel_entr(observed, predicted) + rel_entr(1 - observed, 1 - predicted)
    return float((divergence * filled["n"]).sum() / filled["n"].sum())


def calibration_index(probability: np.ndarray, is_class: np.ndarray) -> float:
    """Integrated calibration index [2]_: mean distance of the probabilities from a smooth curve of what is true.

    Parameters
    ----------
    probability : numpy.ndarray, (N,)
    is_class : numpy.ndarray, (N,), bool

    Returns
    -------
    float
    """
    probability = np.asarray(probability, float)
    spread = float(np.ptp(probability))
    if spread < 1e-9:
        return float(abs(probability.mean() - np.mean(is_class)))
    # Points closer than this are interpolated: the curve is smooth, and a set may have 10,000 crops.
    smooth = lowess(
        np.asarray(is_class, float), probability, frac=SPAN, it=0, delta=0.005 * spread, return_sorted=False
    )
    known = np.isfinite(smooth)
    return float(np.abs(np.clip(smooth[known], 0, 1) - probability[known]).mean()) if known.any() else np.nan


def class_temperature(probability: np.ndarray, is_class: np.ndarray) -> float:
    """Temperature of one class against the others [3]_: above 1 where its probabilities are too extreme.

    Parameters
    ----------
    probability : numpy.ndarray, (N,)
    is_class : numpy.ndarray, (N,), bool

    Returns
    -------
    float
        0.05 to 20.
    """
    score = logit(np.clip(np.asarray(probability, float), EDGE, 1 - EDGE))
    return fit_temperature(np.stack([np.zeros_like(score), score], axis=1), np.asarray(is_class, int))


def at_class_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logit of a class's probability by a temperature.

    Parameters
    ----------
    probability : numpy.ndarray, (N,)
    temperature : float

    Returns
    -------
    numpy.ndarray, (N,)
    """
    return np.asarray(expit(logit(np.clip(np.asarray(probability, float), EDGE, 1 - EDGE)) / temperature))


def class_reliability(probability: np.ndarray, is_class: np.ndarray) -> dict[str, Any]:
    """Measure how far the probabilities of one class can be believed.

    Parameters
    ----------
    probability : numpy.ndarray, (N,)
    is_class : numpy.ndarray, (N,), bool

    Returns
    -------
    dict
        ``ece``, ``kl``, ``ici`` and ``temperature``; NaN where the class, or the others, have fewer than
        `MIN_CLASS` crops.
    """
    is_class = np.asarray(is_class, bool)
    if min(is_class.sum(), (~is_class).sum()) < MIN_CLASS:
        return dict.fromkeys(("ece", "kl", "ici", "temperature"), float("nan"))
    curve = class_curve(probability, is_class)
    return {
        "ece": class_ece(curve),
        "kl": class_kl(curve),
        "ici": calibration_index(probability, is_class),
        "temperature": class_temperature(probability, is_class),
    }


def sharpness(probabilities: np.ndarray) -> float:
    """How decided the probabilities are: 1 minus their mean entropy over that of equal probabilities.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)

    Returns
    -------
    float
        0 (all classes equal) to 1 (always sure); NaN without crops.
    """
    if len(probabilities) == 0:
        return float("nan")
    clipped = np.clip(np.asarray(probabilities, float), 0, None)
    return float(1 - entropy(clipped, axis=1).mean() / np.log(clipped.shape[1]))
