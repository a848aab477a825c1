"""The promotion gate's rule: no class's recall falls by more than chance.

Both models see the same cells, so that only cells count on which they differ: those of a class that the new
model loses, and those that it gains. How often chance alone would lose so many is the one-sided mid-p of
McNemar's test. A class *fell* where

- that is below 0.05 after Holm's adjustment for the number of classes: any fall, however small; or
- it is below 0.05 by itself and the fall is eight points or more: a large fall need not hold against all
  classes together, else one in a rare class would pass among many; or
- it is below 0.10 and the class has too few cells to be judged: there the benefit of the doubt is smaller,
  for four in five falls of twenty points would not be seen at 0.05.

A class without enough cells that did not fall is named as not judged. Overall accuracy must not fall either
(0.05, by itself). A class that the new model does not know at all fell. Cells of one patient are alike, which
makes small p too small: the gate then says no too readily, never too seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

from napari_leukocls.evaluation.shared_classes import Ground
from napari_leukocls.evaluation.significance import (
    Discordant,
    difference_interval,
    discordant,
    fall_p,
    holm,
    mcnemar,
)

LEVEL = 0.05

LEVEL_OF_FEW = 0.10

#: A fall that counts without Holm's adjustment.
LARGE_FALL = 0.08
#: A class is judged where a fall of this much is seen four times in five.
JUDGED_FALL = 0.20
POWER = 0.8

#: Fall of overall accuracy that the new model is said to stay within, or not.
MARGIN = 0.02
Verdict = Literal["held", "fell", "not judged"]


@dataclass(frozen=True)
class ClassVerdict:
    """One class at the gate.

    Attributes
    ----------
    name : str
    n : int
        Cells.
    recall_current, recall_new : float
        NaN without cells.
    lost, gained : int
        Cells that only the current, and only the new model has right.
    p, p_holm : float
        One-sided, of so many lost by chance; NaN without cells.
    detectable_fall : float
        Fall of the recall that would be found four times in five, at best; 1 where none would.
    verdict : str
        ``held``, ``fell`` or ``not judged``.
    why : str
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
        """As ``promotion.json`` has it, without the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@lru_cache(maxsize=512)
def detectable_fall(n: int) -> float:
    """Smallest true fall of the recall that `n` cells show four times in five, where nothing is gained."""
    needed = next(lost for lost in range(1, 20) if fall_p(Discordant(lost, lost, 0)) < LEVEL)
    if n < needed:
        return 1.0

    def short(fall: float) -> float:
        return float(binom.sf(needed - 1, n, fall)) - POWER

    return float(brentq(short, 0.0, 1.0))


def judge_classes(
    ground: Ground, current: np.ndarray, new: np.ndarray, unknown: Sequence[str] = ()
) -> list[ClassVerdict]:
    """Judge every class of the ground.

    Parameters
    ----------
    ground : Ground
        In the current model's classes.
    current, new : numpy.ndarray, (N,), int
        Predicted columns.
    unknown : sequence of str
        Classes that the new model does not know.
    """
    pairs = []
    for place in range(len(ground.classes)):
        mine = ground.truth == place
        pairs.append(discordant(current[mine] == place, new[mine] == place))
    p_values = [fall_p(pair) if pair.n else float("nan") for pair in pairs]
    verdicts = []
    for place, (name, pair, p, adjusted) in enumerate(
        zip(ground.classes, pairs, p_values, holm(p_values), strict=True)
    ):
        mine = ground.truth == place
        verdict, why = _verdict(pair, p, adjusted)
        if name in unknown:
            verdict, why = "fell", "the new model does not know this class"
        before, after = (
            float(np.mean(said[mine] == place)) if pair.n else float("nan") for said in (current, new)
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
        return "fell", f"chance alone loses so many in {p:.2g} of comparisons, {adjusted:.2g} after Holm"
    if p < LEVEL and -pair.difference >= LARGE_FALL:
        return "fell", f"a fall of {-100 * pair.difference:.0f} points; by chance in {p:.2g} of comparisons"
    if few and p < LEVEL_OF_FEW:
        return "fell", f"few cells, and chance alone loses so many of them in {p:.2g} of comparisons"
    if few:
        return "not judged", f"too few cells: only a fall of {_points(pair.n)} would be seen"
    return "held", "no more lost than by chance" if pair.lost > pair.gained else "nothing lost"


def _points(n: int) -> str:
    """The smallest fall that would be seen, in words."""
    fall = detectable_fall(n)
    return "no size" if fall >= 1 else f"{100 * fall:.0f} points or more"


def judge_overall(ground: Ground, current: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """Accuracy over all cells: the difference, its limits, and whether it fell by more than chance."""
    pair = discordant(current == ground.truth, new == ground.truth)
    p = fall_p(pair)
    one_sided = difference_interval(pair, 1 - 2 * LEVEL)[0]
    return {
        "n": pair.n,
        "accuracy_current": float(np.mean(current == ground.truth)),
        "accuracy_new": float(np.mean(new == ground.truth)),
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
    """Say the decision in one line that a person can act on; `new` is the model's name."""
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
        held = f"no recall falls by more than chance in the {judged} of {len(verdicts)} classes that can be judged"
    else:
        held = f"no class has enough cells to be judged alone, and nothing in all {overall['n']} cells speaks against"
    text = f"promoted: {held}; accuracy {accuracy}"
    if few:
        text += f". Too few cells to judge: {', '.join(f'{row.name} ({row.n})' for row in few)}"
    return text + "."


def rule() -> dict[str, Any]:
    """The rule's numbers, as ``promotion.json`` has them."""
    return {
        "test": "one-sided mid-p of McNemar's test on the cells of a class",
        "level_after_holm": LEVEL,
        "level_of_a_large_fall": LEVEL,
        "large_fall": LARGE_FALL,
        "level_where_cells_are_few": LEVEL_OF_FEW,
        "few_cells": f"a fall of {JUDGED_FALL:g} is seen in less than {POWER:g} of cases",
        "overall_level": LEVEL,
    }
