"""What the Proficiency dock does, without Qt: slides with a reference, rounds, results, certificates."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from napari_leukocls.review.proficiency import Proficiency, ReferenceSlide, Round, RoundRecord
    from napari_leukocls.widgets.common.session import Session

#: Numbers of cells that are offered; None for all.
NUMBERS = (25, 50, 100, 200, None)
#: Differing cells that are shown with pictures.
MOST_SHOWN = 60


@dataclass(frozen=True)
class Overview:
    """What the start page shows.

    Attributes
    ----------
    references : tuple of ReferenceSlide
        Slides whose classes are known.
    seen : frozenset of str
        Keys of those of them that are open in the window.
    records : tuple of RoundRecord
        The learner's rounds so far.
    """

    references: tuple[ReferenceSlide, ...]
    seen: frozenset[str]
    records: tuple[RoundRecord, ...]


@dataclass(frozen=True)
class Differing:
    """A cell whose class differs from the reference, with two cells to compare it with.

    Attributes
    ----------
    place : int
        Of the cell in the round, from 0.
    learner, reference : str
        Classes.
    picture, of_learner, of_reference : numpy.ndarray or None, (h, w, 3), uint8
        The cell; a cell of the class that the learner gave, and one of the reference's class, by the reference.
    """

    place: int
    learner: str
    reference: str
    picture: np.ndarray | None
    of_learner: np.ndarray | None
    of_reference: np.ndarray | None


@dataclass(frozen=True)
class Finished:
    """A finished round with what the result page shows.

    Attributes
    ----------
    record : RoundRecord
    records : tuple of RoundRecord
        All of the learner, up to this one.
    differing : tuple of Differing
        At most `MOST_SHOWN`.
    verdict : str
        Whether the wanted agreement is reached; "" if none is wanted.
    class_rows, count_rows : tuple of dict
        As `napari_leukocls.review.certificate.class_rows` and ``count_rows`` give them.
    """

    record: RoundRecord
    records: tuple[RoundRecord, ...]
    differing: tuple[Differing, ...]
    verdict: str
    class_rows: tuple[dict[str, Any], ...]
    count_rows: tuple[dict[str, Any], ...]


def rounds_of(session: Session) -> Proficiency:
    """Return the proficiency rounds of the review store.

    Parameters
    ----------
    session : Session

    Returns
    -------
    Proficiency
    """
    from napari_leukocls.review.proficiency import Proficiency

    return Proficiency(session.store)


def open_keys(session: Session) -> set[str]:
    """Return the keys of the slides that are open in the window, whose classes can be seen.

    Parameters
    ----------
    session : Session

    Returns
    -------
    set of str
    """
    return {slide.key for case in session.cases for slide in case.slides}


def overview(session: Session, learner: str) -> Generator[Progress, None, Overview]:
    """Read the slides with a reference, and the record of a learner.

    Parameters
    ----------
    session : Session
    learner : str
        May be empty.

    Yields
    ------
    Progress

    Returns
    -------
    Overview
    """
    from napari_leukocls.review.proficiency import pixels_key

    yield Progress("read", 0, 1)
    rounds = rounds_of(session)
    records = rounds.records(" ".join(learner.split())) if learner.strip() else []
    references = tuple(rounds.references())
    opened = open_keys(session)
    seen = frozenset(one.key for one in references if opened and pixels_key(one.key) in opened)
    return Overview(references, seen, tuple(records))


def begun(
    session: Session, learner: str, keys: list[str], n: int | None, depth: str, required: float | None
) -> Generator[Progress, None, Round]:
    """Begin a round.

    Parameters
    ----------
    session : Session
    learner : str
    keys : list of str
        Of the slides.
    n : int or None
        Cells that are asked; None for all.
    depth : {"classes", "fine"}
        How finely classes are compared.
    required : float or None
        The agreement that the laboratory wants, 0-1.

    Yields
    ------
    Progress

    Returns
    -------
    Round

    Raises
    ------
    ReviewError
        If a slide is open in this window, or `Proficiency.begin` refuses.
    """
    yield Progress("read", 0, 1)
    rounds = rounds_of(session)
    rounds.check_seen(keys, open_keys(session))
    return _shown(session, rounds.begin(learner, keys, n=n, depth=depth, required=required))


def continued(session: Session, number: int) -> Generator[Progress, None, Round]:
    """Go on with a round that was interrupted.

    Parameters
    ----------
    session : Session
    number : int
        Id of the round.

    Yields
    ------
    Progress

    Returns
    -------
    Round

    Raises
    ------
    ReviewError
        If a slide of the round is open in this window.
    """
    yield Progress("read", 0, 1)
    rounds = rounds_of(session)
    one = rounds.open(number)
    rounds.check_seen({question.slide for question in one.questions}, open_keys(session))
    return _shown(session, one)


def _shown(session: Session, one: Round) -> Round:
    """Keep the slides of a round from being shown in this window, and read the first picture, which opens a file."""
    session.learner = one.learner
    one.picture(0)
    return one


def result(session: Session, number: int, end: bool) -> Generator[Progress, None, Finished]:
    """Read the result of a round.

    Parameters
    ----------
    session : Session
    number : int
        Id of the round.
    end : bool
        Finish the round first.

    Yields
    ------
    Progress

    Returns
    -------
    Finished

    Raises
    ------
    ReviewError
        If a slide of the round is being read blind in this window.
    """
    from napari_leukocls.review.certificate import class_rows, count_rows, verdict

    yield Progress("read", 0, 1)
    rounds = rounds_of(session)
    one = rounds.open(number)
    if session.blind and session.case is not None:
        # The result shows the classes of the cells that are being read.
        rounds.check_unread(
            {question.slide for question in one.questions}, {s.key for s in session.case.slides}
        )
    if end:
        one.finish()
    records = tuple(record for record in rounds.records(one.learner) if record.finished_at)
    record = next(found for found in records if found.id == number)
    outcome = record.outcome
    assert outcome is not None
    unlike = outcome.agreement.disagreements.head(MOST_SHOWN).to_dict("records")
    examples = _examples(one, {row["cell_id"] for row in outcome.agreement.disagreements.to_dict("records")})
    differing = []
    for done, row in enumerate(unlike):
        place, mine, theirs = int(row["cell_id"]), str(row["second"]), str(row["first"])
        differing.append(Differing(place, mine, theirs, one.picture(place), examples(mine), examples(theirs)))
        yield Progress("read", done + 1, len(unlike))
    earlier = tuple(found for found in records if found.id <= number)
    return Finished(
        record,
        earlier,
        tuple(differing),
        verdict(outcome),
        tuple(class_rows(outcome, session.scheme)),
        tuple(count_rows(outcome, session.scheme)),
    )


def offered(session: Session, one: Round) -> list[str]:
    """Return the classes that a learner can give.

    Parameters
    ----------
    session : Session
    one : Round

    Returns
    -------
    list of str
    """
    from napari_leukocls.review.proficiency import classes_to_give

    return classes_to_give(session.scheme, one.depth, one.questions)


def _examples(one: Round, unlike: set[int]) -> Callable[[str], np.ndarray | None]:
    """A function that gives a picture of a class by the reference; cells on which both agree come first."""
    from napari_leukocls.review.proficiency_outcome import coarse
    from napari_leukocls.scheme import default_scheme

    scheme = default_scheme()
    found: dict[str, np.ndarray | None] = {}
    order = sorted(range(len(one.questions)), key=lambda place: (place in unlike, place))
    names = [coarse(question.reference, scheme, one.depth) for question in one.questions]

    def example(name: str) -> np.ndarray | None:
        if name not in found:
            place = next((i for i in order if names[i] == name), None)
            found[name] = None if place is None else one.picture(place)
        return found[name]

    return example


def certificate(session: Session, finished: Finished) -> str:
    """Return the certificate of a finished round as HTML.

    Parameters
    ----------
    session : Session
    finished : Finished

    Returns
    -------
    str
    """
    from napari_leukocls.review.certificate import certificate_html

    return certificate_html(finished.record, session.scheme, finished.records)


def save_html(html: str, path: Path) -> None:
    """Write a page whole, or not at all.

    Parameters
    ----------
    html : str
    path : pathlib.Path
    """
    from napari_leukocls.io.atomic import atomic_text

    atomic_text(path, html)
