"""The promotion gate's rule: no class's recall falls significantly.

Both models classify the same cells, so that only the cells on which they differ count: those of a class that the
new model loses, and those that it gains. Each class is tested by the one-sided mid-p of McNemar's test. A class
*fell* where

- p is below 0.05 after Holm's adjustment for the number of classes, however small the fall; or
- p is below 0.05 before that adjustment and the fall is eight points or more: after the adjustment, a large fall
  in one rare class would not be significant among many classes; or
- p is below 0.10 and the class has too few cells to be judged. The level is higher there because at 0.05 four
  of five falls of twenty points would not be detected.

A class with too few cells that did not fall is reported as not judged. Overall accuracy must not fall either
(level 0.05, without adjustment). A class that the new model does not know counts as fallen. Cells of one patient
are alike, which makes p too small: for this reason the gate refuses too often rather than too seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

from napari_leukocls.evaluation.shared_classes import SharedCrops
from napari_leukocls.evaluation.significance import (
    Discordant,
    difference_interval,
    discordant,
    fall_p,
    mcnemar,
)
from napari_leukocls.measurement.comparison import holm

#: Level of the test of a class, and of overall accuracy.
LEVEL = 0.05
#: Level of the test of a class with few cells.
LEVEL_OF_FEW = 0.10
#: Fall of a recall that needs no Holm adjustment.
LARGE_FALL = 0.08
#: A class has enough cells where a fall of its recall by `JUDGED_FALL` is detected with probability `POWER`.
JUDGED_FALL = 0.20
POWER = 0.8
#: Fall of overall accuracy: the report states whether the new model stays within it.
MARGIN = 0.02
Verdict = Literal["held", "fell", "not judged"]


@dataclass(frozen=True)
class ClassVerdict:
    """The verdict on one class.

    Attributes
    ----------
    name : str
    n : int
        Cells.
    recall_current, recall_new : float
        NaN without cells.
    lost, gained : int
        Cells that only the current model classifies correctly, and cells that only the new one does.
    p, p_holm : float
        One-sided p of the fall, before and after Holm's adjustment; NaN without cells.
    detectable_fall : float
        Smallest fall of the recall that is detected with probability `POWER`, if no cell is gained; 1 where
        no fall is.
    verdict : str
        ``held``, ``fell`` or ``not judged``.
    why : str
        The reason, for the report.
    """

    name: str
    n: int
    recall_current: float
    recall_new: float
    lost: int
    gained: int
    p: float
    p_holm: float
    detectable_fall: float
    verdict: Verdict
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as ``promotion.json`` holds them, without the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@lru_cache(maxsize=512)
def detectable_fall(n: int) -> float:
    """Smallest fall of the recall that the test detects with probability `POWER`, if no cell is gained.

    Parameters
    ----------
    n : int
        Cells of the class.

    Returns
    -------
    float
        0-1; 1 where no fall is detected.
    """
    needed = next(lost for lost in range(1, 20) if fall_p(Discordant(lost, lost, 0)) < LEVEL)
    if n < needed:
        return 1.0

    def excess_power(fall: float) -> float:
        return float(binom.sf(needed - 1, n, fall)) - POWER

    return float(brentq(excess_power, 0.0, 1.0))


def judge_classes(
    shared: SharedCrops, current: np.ndarray, new: np.ndarray, unknown: Sequence[str] = ()
) -> list[ClassVerdict]:
    """Judge every class of the current model.

    Parameters
    ----------
    shared : SharedCrops
        In the current model's classes.
    current, new : numpy.ndarray, (N,), int
        Columns of the classes that each model predicts.
    unknown : sequence of str
        Classes that the new model does not know.

    Returns
    -------
    list of ClassVerdict
        In the order of the classes.
    """
    pairs = []
    for i in range(len(shared.classes)):
        is_class = shared.truth == i
        pairs.append(discordant(current[is_class] == i, new[is_class] == i))
    p_values = [fall_p(pair) if pair.n else float("nan") for pair in pairs]
    verdicts = []
    for i, (name, pair, p, adjusted) in enumerate(
        zip(shared.classes, pairs, p_values, holm(p_values), strict=True)
    ):
        is_class = shared.truth == i
        verdict, why = _verdict(pair, p, adjusted)
        if name in unknown:
            verdict, why = "fell", "the new model does not know this class"
        before, after = (
            float(np.mean(predicted[is_class] == i)) if pair.n else float("nan")
            for predicted in (current, new)
        )
        smallest = detectable_fall(pair.n)
        verdicts.append(
            ClassVerdict(
                name, pair.n, before, after, pair.lost, pair.gained, p, adjusted, smallest, verdict, why
            )
        )
    return verdicts


def _verdict(pair: Discordant, p: float, adjusted: float) -> tuple[Verdict, str]:
    few = detectable_fall(pair.n) > JUDGED_FALL
    if pair.n == 0:
        return "not judged", "no cells"
    if adjusted < LEVEL:
        return "fell", f"p = {p:.2g} ({adjusted:.2g} after Holm's adjustment)"
    if p < LEVEL and -pair.difference >= LARGE_FALL:
        return "fell", f"a fall of {-100 * pair.difference:.0f} points, p = {p:.2g}"
    if few and p < LEVEL_OF_FEW:
        return "fell", f"few cells, and p = {p:.2g}"
    if few:
        return "not judged", f"too few cells: {_detectable(pair.n)}"
    return "held", "the fall is not significant" if pair.lost > pair.gained else "no fall"


def _detectable(n: int) -> str:
    """The smallest fall that would be detected, in words."""
    fall = detectable_fall(n)
    if fall >= 1:
        return "no fall would be detected"
    return f"only a fall of {100 * fall:.0f} points or more would be detected"


def judge_overall(shared: SharedCrops, current: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """Test whether accuracy over all cells falls.

    Parameters
    ----------
    shared : SharedCrops
    current, new : numpy.ndarray, (N,), int
        Columns of the classes that each model predicts.

    Returns
    -------
    dict
        As ``overall`` in ``promotion.json``: both accuracies, their difference with its limits, p, and ``fell``.
    """
    pair = discordant(current == shared.truth, new == shared.truth)
    p = fall_p(pair)
    one_sided = difference_interval(pair, 1 - 2 * LEVEL)[0]
    return {
        "n": pair.n,
        "accuracy_current": float(np.mean(current == shared.truth)),
        "accuracy_new": float(np.mean(new == shared.truth)),
        "lost": pair.lost,
        "gained": pair.gained,
        "difference": pair.difference,
        "difference_ci95": list(difference_interval(pair)),
        "p_fall": p,
        "p_mcnemar": mcnemar(pair),
        "fell": p < LEVEL,
        "margin": MARGIN,
        "within_margin": one_sided > -MARGIN,
    }


def reason(new: str, verdicts: Sequence[ClassVerdict], overall: dict[str, Any]) -> str:
    """State the decision in one line.

    Parameters
    ----------
    new : str
        The new model's name.
    verdicts : sequence of ClassVerdict
    overall : dict
        As `judge_overall` gives it.

    Returns
    -------
    str
    """
    fell = sorted(
        (row for row in verdicts if row.verdict == "fell"), key=lambda row: (np.nan_to_num(row.p), row.name)
    )
    if fell:
        worst = fell[0]
        more = f" (and {len(fell) - 1} more)" if len(fell) > 1 else ""
        recalls = f"recall {100 * worst.recall_current:.0f} % to {100 * worst.recall_new:.0f} %"
        counted = f"{recalls} of {worst.n} cells; " if worst.n else ""
        return f"not promoted: '{new}' is worse in {worst.name}{more}: {counted}{worst.why}."
    accuracy = f"{100 * overall['accuracy_current']:.1f} % to {100 * overall['accuracy_new']:.1f} %"
    if overall["fell"]:
        lost = f"{overall['lost']} cells lost, {overall['gained']} gained"
        return f"not promoted: overall accuracy falls from {accuracy} ({lost})."
    few = [row for row in verdicts if row.verdict == "not judged"]
    judged = len(verdicts) - len(few)
    if judged:
        held = f"no recall falls significantly in the {judged} of {len(verdicts)} classes with enough cells"
    else:
        held = f"no class has enough cells to be judged, and accuracy over all {overall['n']} cells does not fall"
    text = f"promoted: {held}; accuracy {accuracy}"
    if few:
        text += f". Too few cells to judge: {', '.join(f'{row.name} ({row.n})' for row in few)}"
    return text + "."


def rule() -> dict[str, Any]:
    """Return the numbers of the rule, as ``promotion.json`` holds them."""
    return {
        "test": "one-sided mid-p of McNemar's test on the cells of a class",
        "level_after_holm": LEVEL,
        "level_of_a_large_fall": LEVEL,
        "large_fall": LARGE_FALL,
        "level_where_cells_are_few": LEVEL_OF_FEW,
        "few_cells": f"a fall of {JUDGED_FALL:g} is detected with a probability below {POWER:g}",
        "overall_level": LEVEL,
    }
