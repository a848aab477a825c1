"""Temperature, review threshold and unknown threshold that hold in laboratories that a network has not seen.

For each laboratory there is a network that was trained without it. Its predictions of that laboratory's cells, and the
final network's predictions of validation cells of a laboratory that it was trained with ("home"), are what everything
here is fitted on. Laboratories are weighted with the root of their number of cells. `nested` measures each laboratory
with values that were fitted without it.

The two thresholds are chosen together. Of all pairs at which enough of the cells that are not reviewed are right, at
home and elsewhere, and at which a left-out laboratory reviews no more than `MOST_REVIEW` of its cells, the one is taken
that sends most strange cells to review: cells that no class has, made of those of the laboratory
(`scripts.strange_cells`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from napari_leukocls.classification.ood import softening_factor
from napari_leukocls.evaluation.bootstrap import auroc
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
#: Shares of home cells above the unknown threshold that are tried; the largest is taken where no laboratory was left
#: out. A smaller share than the last would let pictures pass that show no cell at all.
HOME_UNKNOWN = (0.01, 0.007, 0.005, 0.003, 0.002, 0.001)
#: Share of the known cells that a left-out laboratory is to review at most.
MOST_REVIEW = 0.25
#: Review thresholds that are tried; above the highest, more cells go to review than are saved.
MOST_THRESHOLD = 0.95
LIMITS = np.arange(0.5, MOST_THRESHOLD + 0.001, 0.01)
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
    strange : Predicted or None
        Cells of the same laboratory that no class has; their truth says nothing.
    """

    logits: np.ndarray
    score: np.ndarray
    truth: np.ndarray
    strange: Predicted | None = None


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
        review = self.review(cells)
        strange = {} if cells.strange is None else self._of_strange(cells)
        return {
            "n": len(right),
            "accuracy": float(right.mean()),
            "accuracy_ci95": [float(one) for one in exact_limits(right.sum(), len(right)).ravel()],
            "ece": float(ece(probabilities, cells.truth)),
            "ece_if_calibrated": _expected_ece(probabilities),
            "review_rate": float(review.mean()),
            "accuracy_not_reviewed": float(right[~review].mean()) if (~review).any() else None,
            **strange,
        }

    def review(self, cells: Predicted) -> np.ndarray:
        """Mask (N,) of the cells that go to review."""
        unsure = self.probabilities(cells).max(axis=1) < self.review_threshold
        mask: np.ndarray = unsure | (cells.score >= self.unknown_threshold)
        return mask

    def _of_strange(self, cells: Predicted) -> dict[str, Any]:
        """How well cells that no class has are told, and how many go to review."""
        strange = cells.strange
        assert strange is not None
        unknown = np.arange(len(cells.score) + len(strange.score)) >= len(cells.score)
        return {
            "strange_auroc": auroc(unknown, np.append(cells.score, strange.score)),
            "strange_reviewed": float(self.review(strange).mean()),
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
    unknown = float(np.quantile(home.score, 1 - HOME_UNKNOWN[0]))
    return _thresholds(home, away, Honesty(temperature, softening, 0.0, unknown))


def _expected_ece(probabilities: np.ndarray) -> float:
    """Calibration error that probabilities which are exactly right would show, with as many cells.

    Few cells leave a calibration error by chance alone.
    """
    random = np.random.default_rng(0)
    total = probabilities.cumsum(axis=1)
    last = probabilities.shape[1] - 1
    drawn = [(random.random((len(total), 1)) > total).sum(axis=1).clip(0, last) for _ in range(50)]
    return float(np.mean([ece(probabilities, truth) for truth in drawn]))


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


@dataclass(frozen=True)
class _Pair:
    """Two thresholds, and what they do in left-out laboratories."""

    found: Honesty
    reviewed: float
    caught: float

    def rank(self) -> tuple[bool, float]:
        """Smaller is better: few enough to review first, then strange cells sent there."""
        too_many = self.reviewed > MOST_REVIEW
        return too_many, self.reviewed if too_many else -self.caught


def _thresholds(home: Predicted, away: list[Predicted], found: Honesty) -> Honesty:
    """Choose review threshold and unknown threshold together."""
    scores = [float(np.quantile(home.score, 1 - share)) for share in HOME_UNKNOWN]
    pairs = []
    for unknown in scores if away else scores[:1]:
        tried = replace(found, unknown_threshold=unknown)
        limit = _review_threshold(home, away, tried)
        if limit is not None:
            pairs.append(_judged(replace(tried, review_threshold=limit), away))
    if not pairs:
        return replace(found, review_threshold=MOST_THRESHOLD, unknown_threshold=scores[0])
    return min(pairs, key=_Pair.rank).found


def _judged(found: Honesty, away: list[Predicted]) -> _Pair:
    if not away:
        return _Pair(found, 0.0, 0.0)
    known = [found.review(one).mean() for one in away]
    strange = [found.review(one.strange).mean() if one.strange is not None else 0.0 for one in away]
    return _Pair(found, _mean(np.array(known), away), _mean(np.array(strange), away))


def _review_threshold(home: Predicted, away: list[Predicted], found: Honesty) -> float | None:
    """Smallest threshold at which the rest is right often enough, at home and elsewhere; None if there is none."""
    seen = [(found.probabilities(one), one) for one in (home, *away)]
    parts = [
        (best.max(axis=1), best.argmax(axis=1) != one.truth, one.score < found.unknown_threshold)
        for best, one in seen
    ]
    for limit in LIMITS:
        errors = []
        for certain, wrong, familiar in parts:
            kept = (certain >= limit) & familiar
            errors.append(float(wrong[kept].mean()) if kept.any() else 0.0)
        if errors[0] <= HOME_ERROR and (not away or float(np.median(errors[1:])) <= LEFT_OUT_ERROR):
            return round(float(limit), 2)
    return None


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
