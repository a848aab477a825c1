"""The values that the review store returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Correction:
    """One change of the class of a cell by a person.

    Attributes
    ----------
    slide : str
        Key of the slide: SHA-256 of its pixels.
    cell_id : int
    from_class, corrected_class : str
        Class before and after; the latter is "" after an undo of the only correction.
    reviewer, reason : str
    at : str
        UTC, ISO 8601.
    predicted_class : str
    action : str
        ``correct``, ``undo``, ``redo``, ``carry`` (transferred from an earlier analysis of the slide) or
        ``contested`` (kept, but another person's class is in force).
    revision : int
        How often the class of the cell was changed, this change included.
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
    """A slide in the store.

    Attributes
    ----------
    key : str
        SHA-256 of its pixels.
    slide_id, source : str
    group, patient : str
        Slide and patient of the field, "" if not given.
    um_per_px : float or None
        Pixel size, um, of the current analysis.
    classifier, classifier_sha256 : str
        Of the current analysis.
    added_at : str
        UTC, ISO 8601.
    n_corrections : int
        Cells whose class is a correction.
    signed_by : str
        "" if the slide is not signed, or was changed since.
    """

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
class CaseRecord:
    """A case: the fields that make one count.

    Attributes
    ----------
    key : str
    name : str
        Of the slide.
    identifier : str
        Of the sample, not of the patient; may be "".
    goal : int or None
        Leukocytes to count; None for all.
    added_at : str
        UTC, ISO 8601.
    fields : tuple of str
        Keys of the slides (images) of the case, in the order in which they are counted.
    """

    key: str
    name: str
    identifier: str
    goal: int | None
    added_at: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class ReviewProgress:
    """How far the review of a slide is.

    Attributes
    ----------
    goal : int or None
        Leukocytes to count; None for all.
    counted : int
        Leukocytes and other nucleated cells that are counted.
    leukocytes : int
        Those of them that are in the differential and need no review.
    to_review : int
        Counted cells that still need review.
    reviewed : int
        Counted cells that a person has given a class.
    met : bool
        Whether the goal is reached and nothing needs review.
    """

    goal: int | None
    counted: int
    leukocytes: int
    to_review: int
    reviewed: int
    met: bool


@dataclass(frozen=True)
class SignOff:
    """A signature.

    Attributes
    ----------
    case : str
        Key.
    reviewer : str
    at : str
        UTC, ISO 8601.
    n_counted : int
        Cells whose classes were signed.
    """

    case: str
    reviewer: str
    at: str
    n_counted: int


@dataclass(frozen=True)
class Lift:
    """Why a signature is not valid any more.

    Attributes
    ----------
    signed_by, signed_at : str
        The signature.
    by : str
        Who changed what was signed; "" for the program.
    at : str
        UTC, ISO 8601; "" if it is not known.
    what : str
        What was changed.
    """

    signed_by: str
    signed_at: str
    by: str
    at: str
    what: str

    def words(self) -> str:
        """Describe it in one line."""
        who = f" by {self.by}" if self.by else ""
        when = f" on {self.at[:10]}" if self.at else ""
        return f"signature of {self.signed_by} lifted{who}{when}: {self.what}"


@dataclass(frozen=True)
class Agreement:
    """How far two readers of a slide agree.

    Attributes
    ----------
    first, second : str
        Readers; the first reader's classes are those in force when the second read was finished.
    n : int
        Cells that both read.
    observed : float
        Share of cells on which they agree, 0-1.
    kappa, low, high : float
        Cohen's kappa with its 95 % interval; NaN if there is only one class.
    table : pandas.DataFrame
        Counts; rows: classes of the first reader, columns: of the second.
    disagreements : pandas.DataFrame
        ``cell_id, first, second, slide``; the last is the key of the cell's image. Cells on which both agree by now
        are left out, and ``first`` is the present class.
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
