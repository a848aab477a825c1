"""Temperature, review threshold and unknown threshold that hold in laboratories that a network has not seen.

For each laboratory there is a network that was trained without it. Its predictions of that laboratory's cells, and the
final network's predictions of validation cells of a laboratory that it was trained with ("home"), are what everything
here is fitted on. Laboratories are weighted with the root of their number of cells. `nested` measures each laboratory
with values that were fitted without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from napari_leukocls.classification.ood import softening_factor
from napari_leukocls.evaluation.calibration import ece, fit_temperature
from napari_leukocls.measurement.differential import exact_limits
from napari_leukocls.models.card_parts import Softening

#: Name of the home laboratories' validation cells.
HOME = "home"
#: Wrong cells among those that are not reviewed: at home, and in the median of the left-out laboratories (some labels
#: are wrong, and one laboratory is not to send the cells of all others to review).
HOME_ERROR, LEFT_OUT_ERROR = 0.004, 0.04
#: Laboratories with fewer cells than this are measured, but nothing is fitted to them.
FEW = 50
#: Share of home cells above the unknown threshold. It is not raised for left-out laboratories: more of their cells are
#: above it, and half of these are wrong.
HOME_UNKNOWN = 0.01
#: Highest review threshold: above it, more cells go to review than are saved.
MOST_THRESHOLD = 0.95
#: Where the ramp of the temperature may start and how wide it may be, in units of the score (1 is the 95th percentile
#: of home cells, in each of its parts), and its factors.
STARTS, WIDTHS, FACTORS = (0.5, 1.0, 1.5, 2.0), (0.5, 1.0, 2.0, 4.0), np.arange(1.25, 4.01, 0.25)
#: Calibration error at home up to which softer probabilities are accepted.
HOME_ECE = 0.006


@dataclass(frozen=True)
class Predicted:
    """Predictions of one laboratory's cells of known classes.

    Attributes
    ----------
    logits : numpy.ndarray, (N, C)
    score : numpy.ndarray, (N,)
        Out-of-distribution score.
    truth : numpy.ndarray, (N,), int
    """

    logits: np.ndarray
    score: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Honesty:
    """What is fitted.

    Attributes
    ----------
    temperature : float
    softening : Softening or None
    review_threshold, unknown_threshold : float
    """

    temperature: float
    softening: Softening | None
    review_threshold: float
    unknown_threshold: float

    def probabilities(self, cells: Predicted) -> np.ndarray:
        """Probabilities (N, C), as the product computes them."""
        divisor = self.temperature * softening_factor(cells.score, self.softening)
        array: np.ndarray = softmax(np.asarray(cells.logits, float) / divisor[:, None], axis=1)
        return array

    def figures(self, cells: Predicted) -> dict[str, Any]:
        """Accuracy, calibration error, share to review and accuracy of the rest."""
        probabilities = self.probabilities(cells)
        right = probabilities.argmax(axis=1) == cells.truth
        review = probabilities.max(axis=1) < self.review_threshold
        review |= cells.score >= self.unknown_threshold
        return {
            "n": len(right),
            "accuracy": float(right.mean()),
            "accuracy_ci95": [float(one) for one in exact_limits(right.sum(), len(right)).ravel()],
            "ece": float(ece(probabilities, cells.truth)),
            "review_rate": float(review.mean()),
            "accuracy_not_reviewed": float(right[~review].mean()) if (~review).any() else None,
        }


def fit(laboratories: Mapping[str, Predicted]) -> Honesty:
    """Fit all values on home cells and on left-out laboratories.

    Parameters
    ----------
    laboratories : mapping of str to Predicted
        `HOME`, and the laboratories that were left out; there may be none.

    Returns
    -------
    Honesty
    """
    home = laboratories[HOME]
    away = [cells for name, cells in laboratories.items() if name != HOME and len(cells.truth) >= FEW]
    temperature = fit_temperature(home.logits, home.truth)
    softening = _soften(home, away, temperature)
    unknown = float(np.quantile(home.score, 1 - HOME_UNKNOWN))
    found = Honesty(temperature, softening, 0.0, unknown)
    return Honesty(temperature, softening, _review_threshold(home, away, found), unknown)


def _mean(values: np.ndarray, laboratories: list[Predicted]) -> float:
    return float(np.average(values, weights=[np.sqrt(len(one.truth)) for one in laboratories]))


def _soften(home: Predicted, away: list[Predicted], temperature: float) -> Softening | None:
    """The ramp with the best mean likelihood of the left-out laboratories.

    It must help each of them, and keep home calibrated.
    """
    if not away:
        return None
    before = np.array([_loss(one, temperature, None) for one in away])
    allowed = max(HOME_ECE, _ece(home, temperature, None) + 0.001)
    best, least = None, _mean(before, away)
    for start, width, most in itertools.product(STARTS, WIDTHS, FACTORS):
        ramp = Softening(start=start, end=start + width, most=float(most))
        losses = np.array([_loss(one, temperature, ramp) for one in away])
        helps = bool((losses <= before).all()) and _ece(home, temperature, ramp) <= allowed
        if helps and _mean(losses, away) < least:
            best, least = ramp, _mean(losses, away)
    return best


def _scaled(cells: Predicted, temperature: float, ramp: Softening | None) -> np.ndarray:
    divisor = temperature * softening_factor(cells.score, ramp)
    return np.asarray(cells.logits, float) / divisor[:, None]


def _loss(cells: Predicted, temperature: float, ramp: Softening | None) -> float:
    likelihood = log_softmax(_scaled(cells, temperature, ramp), axis=1)
    return float(-likelihood[np.arange(len(cells.truth)), cells.truth].mean())


def _ece(cells: Predicted, temperature: float, ramp: Softening | None) -> float:
    return float(ece(softmax(_scaled(cells, temperature, ramp), axis=1), cells.truth))


def _review_threshold(home: Predicted, away: list[Predicted], found: Honesty) -> float:
    """Smallest threshold at which the rest is right often enough, at home and elsewhere."""

    def error(cells: Predicted, limit: float) -> float:
        probabilities = found.probabilities(cells)
        kept = (probabilities.max(axis=1) >= limit) & (cells.score < found.unknown_threshold)
        wrong = probabilities.argmax(axis=1) != cells.truth
        return float(wrong[kept].mean()) if kept.any() else 0.0

    for limit in np.arange(0.5, MOST_THRESHOLD, 0.01):
        elsewhere = float(np.median([error(one, limit) for one in away])) if away else 0.0
        if error(home, limit) <= HOME_ERROR and elsewhere <= LEFT_OUT_ERROR:
            return round(float(limit), 2)
    return MOST_THRESHOLD


def nested(laboratories: Mapping[str, Predicted]) -> dict[str, dict[str, Any]]:
    """Measure each left-out laboratory with values that were fitted without it.

    Parameters
    ----------
    laboratories : mapping of str to Predicted
        As for `fit`.

    Returns
    -------
    dict of dict
        By laboratory: figures, and under ``home_only`` the same with values that were fitted at home alone.
    """
    home_only = fit({HOME: laboratories[HOME]})
    rows = {}
    for name, cells in laboratories.items():
        if name == HOME:
            continue
        others = {other: one for other, one in laboratories.items() if other != name}
        rows[name] = {**fit(others).figures(cells), "home_only": home_only.figures(cells)}
    return rows


def as_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Write figures before and after as a Markdown table."""
    lines = [
        "| laboratory | n | accuracy | ECE before | after | review before | after | rest before | after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        before = row["home_only"]
        pairs = (
            f"{before[key]:.3f} | {row[key]:.3f}" if row[key] is not None else "– | –"
            for key in ("ece", "review_rate", "accuracy_not_reviewed")
        )
        lines.append(f"| {name} | {row['n']} | {row['accuracy']:.3f} | {' | '.join(pairs)} |")
    return "\n".join(lines)
