"""What the review store hands out: plain values, without a database behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Correction:
    """What a person said of a cell.

    Attributes
    ----------
    slide : str
        Key of the slide: SHA-256 of its pixels.
    cell_id : int
    from_class, corrected_class : str
        Class before and after; after an undo of the only correction the latter is "".
    reviewer, reason : str
    at : str
        UTC, ISO 8601.
    predicted_class : str
    action : str
        ``correct``, ``undo``, ``redo``, ``carry`` (from an earlier analysis of the slide) or ``contested``
        (kept beside another person's, not in force).
    revision : int
        How often the class of the cell had been changed when this was said.
    """

    slide: str
    cell_id: int
    from_class: str
    corrected_class: str
    reviewer: str
    reason: str
    at: str
    predicted_class: str
    action: str
    revision: int


@dataclass(frozen=True)
class SlideRecord:
    """A slide in the store."""

    key: str
    slide_id: str
    source: str
    group: str
    patient: str
    um_per_px: float | None
    classifier: str
    classifier_sha256: str
    added_at: str
    n_corrections: int
    signed_by: str


@dataclass(frozen=True)
class ReviewProgress:
    """How far the review of a slide is.

    Attributes
    ----------
    goal : int or None
        Leukocytes to count; None for all.
    counted : int
        Leukocytes and other nucleated cells that the count is made of.
    leukocytes : int
        Those of them that are in the differential and settled.
    to_review : int
        Counted cells that a person has to look at yet.
    reviewed : int
        Counted cells that a person has given a class.
    met : bool
        Whether the goal is reached with nothing left to review.
    """

    goal: int | None
    counted: int
    leukocytes: int
    to_review: int
    reviewed: int
    met: bool


@dataclass(frozen=True)
class SignOff:
    """A signature; ``n_counted`` cells had the classes that were signed."""

    slide: str
    reviewer: str
    at: str
    n_counted: int


@dataclass(frozen=True)
class Agreement:
    """How far two readers of a slide agree.

    Attributes
    ----------
    first, second : str
        Readers; the first's classes are those that stand.
    n : int
        Cells that both read.
    observed : float
        Share on which they agree, 0-1.
    kappa, low, high : float
        Cohen's kappa with its 95 % interval; NaN where the classes do not vary, so that they say nothing.
    table : pandas.DataFrame
        Rows: first reader; columns: second; counts.
    disagreements : pandas.DataFrame
        ``cell_id, first, second``.
    """

    first: str
    second: str
    n: int
    observed: float
    kappa: float
    low: float
    high: float
    table: pd.DataFrame
    disagreements: pd.DataFrame
