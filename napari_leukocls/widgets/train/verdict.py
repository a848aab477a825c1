"""Whether a new model is better: in words for a technician, from the decision of the promotion gate. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_leukocls.widgets.texts import Train

if TYPE_CHECKING:
    from napari_leukocls.evaluation.promote import Promotion

Kind = Literal["better", "as good", "worse", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """The answer of a comparison.

    Attributes
    ----------
    kind : str
        ``better``: accuracy over all cells rises significantly, and no class falls. ``as good``: no class falls,
        some classes have enough cells to say so, and accuracy is at most two points lower. ``worse``: the gate
        refuses. ``cannot tell``: there are too few cells for any of these.
    text : str
        The reason, with figures.
    """

    kind: Kind
    text: str

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        return Train.VERDICT[self.kind]


def why(reason: str) -> str:
    """Return the reason of a decision without its verdict, since nothing is promoted before the button is pressed.

    Parameters
    ----------
    reason : str
        As the promotion gate gives it.

    Returns
    -------
    str
    """
    return reason.removeprefix("not promoted: ").removeprefix("promoted: ")


def verdict_of(decision: Promotion) -> Verdict:
    """Put the decision of the gate in words. The gate alone would call a model good that nobody can judge.

    Parameters
    ----------
    decision : Promotion

    Returns
    -------
    Verdict
    """
    overall = decision.overall
    if not decision.promote:
        return Verdict("worse", why(decision.reason))
    low, high = (100 * limit for limit in overall["difference_ci95"])
    accuracy = Train.ACCURACY.format(
        current=100 * overall["accuracy_current"], new=100 * overall["accuracy_new"], n=overall["n"]
    )
    limits = Train.DIFFERENCE.format(low=low, high=high)
    held = [row for row in decision.classes if row.verdict == "held"]
    few = [
        f"{row.name.replace('_', ' ')} ({row.n})" for row in decision.classes if row.verdict == "not judged"
    ]
    parts = [accuracy, limits]
    if few:
        parts.append(Train.FEW.format(classes=", ".join(few)))
    text = " ".join(parts)
    if low > 0:
        return Verdict("better", text)
    if held and overall["within_margin"]:
        return Verdict("as good", text)
    return Verdict("cannot tell", text)
