"""How well classes are told apart: scores at small false positive rates, distributions of scores, and kinds of errors.

References
----------
.. [1] McClish, D. K. (1989). Analyzing a portion of the ROC curve. Med. Decis. Making 9, 190-195.
.. [2] Lin, J. (1991). Divergence measures based on the Shannon entropy. IEEE Trans. Inf. Theory 37, 145-151.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.integrate import trapezoid
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import precision_recall_curve, roc_curve

from napari_leukocls.evaluation.calibration import best_class

#: Largest false positive rate of the partial area.
PARTIAL_FPR = 0.1
#: False positive rates at which the true positive rate is read.
FPRS = (0.01, 0.05)
#: Recall at which precision is read.
RECALL = 0.9
#: Bins of the distributions of a class's score.
BINS = 20
#: Pairs of classes that the concentration of errors is about.
PAIRS = 3


def partial_auc(is_class: np.ndarray, score: np.ndarray, largest: float = PARTIAL_FPR) -> float:
    """Area under the ROC curve up to a false positive rate, as a share of what it could be [1]_.

    Parameters
    ----------
    is_class : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
    largest : float
        False positive rate.

    Returns
    -------
    float
        0 to 1; half of `largest` by chance. NaN where there is one class only.
    """
    if not is_class.any() or is_class.all():
        return float("nan")
    wrong, right, _ = roc_curve(is_class, score)
    inside = wrong <= largest
    x = np.append(wrong[inside], largest)
    y = np.append(right[inside], np.interp(largest, wrong, right))
    return float(trapezoid(y, x) / largest)


def recall_at(is_class: np.ndarray, score: np.ndarray, rate: float) -> float:
    """Largest true positive rate at which the false positive rate is not above a limit.

    Parameters
    ----------
    is_class : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
    rate : float
        The limit.

    Returns
    -------
    float
        NaN where there is one class only.
    """
    if not is_class.any() or is_class.all():
        return float("nan")
    wrong, right, _ = roc_curve(is_class, score, drop_intermediate=False)
    return float(right[wrong <= rate].max())


def score_divergence(is_class: np.ndarray, score: np.ndarray, bins: int = BINS) -> float:
    """Jensen-Shannon divergence [2]_ between the scores of a class's own crops and of the others, in bits.

    Parameters
    ----------
    is_class : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
        0-1.
    bins : int

    Returns
    -------
    float
        0 (alike) to 1 (apart); NaN where there is one class only.
    """
    if not is_class.any() or is_class.all():
        return float("nan")
    own, other = (
        np.histogram(np.clip(score[rows], 0, 1), bins=bins, range=(0, 1))[0] for rows in (is_class, ~is_class)
    )
    return float(jensenshannon(own, other, base=2) ** 2)


def precision_figures(is_class: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Read the curve of precision and recall.

    Parameters
    ----------
    is_class : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)

    Returns
    -------
    dict
        ``precision_at_recall`` (the largest at a recall of `RECALL` or more), ``best_f1_threshold`` (the score from
        which on F1 is best) and ``break_even`` (where precision and recall are equal); NaN without crops of the class.
    """
    names = ("precision_at_recall", "best_f1_threshold", "break_even")
    if not is_class.any():
        return dict.fromkeys(names, float("nan"))
    precision, recall, threshold = precision_recall_curve(is_class, score)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    equal = int(np.abs(precision - recall)[:-1].argmin())
    values = (precision[recall >= RECALL].max(), threshold[f1[:-1].argmax()], precision[equal])
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def class_separation(is_class: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Measure how well one class is told from the others.

    Parameters
    ----------
    is_class : numpy.ndarray, (N,), bool
    score : numpy.ndarray, (N,)
        The probability of the class.

    Returns
    -------
    dict
        ``partial_auc``, ``recall_at_fpr_0.01``, ``recall_at_fpr_0.05``, ``js_divergence``, and those of
        `precision_figures`.
    """
    is_class = np.asarray(is_class, bool)
    return {
        "partial_auc": partial_auc(is_class, score),
        **{f"recall_at_fpr_{rate:g}": recall_at(is_class, score, rate) for rate in FPRS},
        "js_divergence": score_divergence(is_class, score),
        **precision_figures(is_class, score),
    }


def error_figures(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Describe the errors: how they are spread over pairs of classes, and how sure the model was.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.

    Returns
    -------
    dict
        ``n``; ``entropy`` in nats of the shares of the pairs (true, predicted); ``concentration``, the share of the
        errors in the `PAIRS` most frequent pairs, in whichever direction; ``confidence_right``,
        ``confidence_wrong`` and their difference ``confidence_margin``. NaN where there are no errors, or no crops.
    """
    confidence, right = best_class(probabilities, truth) if len(truth) else (np.empty(0), np.empty(0, bool))
    wrong = ~right
    guess = np.asarray(probabilities).argmax(axis=1)[wrong] if len(truth) else np.empty(0, int)
    true = np.asarray(truth)[wrong]
    size = np.shape(probabilities)[1]
    shares = np.bincount(true * size + guess, minlength=size**2)
    both = np.sort(np.bincount(np.minimum(true, guess) * size + np.maximum(true, guess), minlength=size**2))
    mean_right = float(confidence[right].mean()) if right.any() else float("nan")
    mean_wrong = float(confidence[wrong].mean()) if wrong.any() else float("nan")
    n = int(wrong.sum())
    return {
        "n": n,
        "entropy": float(entropy(shares)) if n else float("nan"),
        "concentration": float(both[-PAIRS:].sum() / n) if n else float("nan"),
        "confidence_right": mean_right,
        "confidence_wrong": mean_wrong,
        "confidence_margin": mean_right - mean_wrong,
    }
