"""Proficiency rounds: a learner classifies cells whose class is known, blind, and is set against the reference.

The reference is a signed count of the review store, or a bundled teaching smear. A round keeps its own copy of the
reference, so that a later correction changes no earlier result. Answers are only ever added.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.measurement.fine import CLASSES, FINE
from napari_leukocls.review import log
from napari_leukocls.review.crops import decode_png
from napari_leukocls.review.proficiency_outcome import Outcome, coarse, compare_with_reference
from napari_leukocls.review.schema import crops, proficiency_answers, proficiency_rounds, slides
from napari_leukocls.review.teaching import (
    teaching_cells,
    teaching_key,
    teaching_picture,
    teaching_smears,
)
from napari_leukocls.review.text import canonical, now, person, storable
from napari_leukocls.scheme import Scheme

if TYPE_CHECKING:
    from napari_leukocls.review.store import ReviewStore

#: Kinds of class that a learner is asked for.
ASKED_KINDS = ("leukocyte", "nucleated", "other")
#: What no reference says about a cell.
_NO_ANSWER = ("not_classed",)
_TEACHING = "teaching:"
#: Who made the reference of a teaching smear.
DRAWN = "the drawing of the teaching smears"


@dataclass(frozen=True)
class Question:
    """One cell of a round.

    Attributes
    ----------
    slide : str
        Key of the slide in the store, or ``teaching:`` and the name of a bundled smear.
    analysis : int or None
        Of the slide, which the picture belongs to.
    cell_id : int
    reference : str
        Its class.
    """

    slide: str
    analysis: int | None
    cell_id: int
    reference: str


@dataclass(frozen=True)
class ReferenceSlide:
    """A slide whose classes are known.

    Attributes
    ----------
    key : str
        As `Question.slide`.
    name : str
    n : int
        Cells.
    by : str
        Who signed it, or `DRAWN`.
    """

    key: str
    name: str
    n: int
    by: str

    @property
    def is_teaching(self) -> bool:
        """Whether it is a bundled teaching smear."""
        return self.key.startswith(_TEACHING)


@dataclass(frozen=True)
class RoundRecord:
    """A round as the record over time has it.

    Attributes
    ----------
    id : int
    learner, name, by : str
        The learner, the slides, and who made their reference.
    started_at, finished_at : str
        UTC, ISO 8601; the latter is "" while the round is open.
    outcome : Outcome or None
        None while the round is open.
    """

    id: int
    learner: str
    name: str
    by: str
    started_at: str
    finished_at: str
    outcome: Outcome | None


class Round:
    """A round that a learner works on; every answer is on the disk when `answer` returns.

    Parameters
    ----------
    rounds : Proficiency
    row : Row
        Of the table ``proficiency_rounds``.

    Attributes
    ----------
    id : int
    learner, name, by, depth : str
    required : float or None
        The agreement that the laboratory wants, 0-1.
    questions : tuple of Question
        In the order in which they are asked.
    """

    def __init__(self, rounds: Proficiency, row: Any) -> None:
        self._rounds = rounds
        self.id = int(row.id)
        self.learner, self.name, self.by, self.depth = row.learner, row.name, row.reference_by, row.depth
        self.required: float | None = row.required
        self.questions = tuple(Question(*one) for one in json.loads(row.questions))

    def picture(self, place: int) -> np.ndarray | None:
        """Return the picture of a cell with its surroundings.

        Parameters
        ----------
        place : int
            Of the cell in the round, from 0.

        Returns
        -------
        numpy.ndarray or None, (h, w, 3), uint8
            None if the store no longer has it.
        """
        return self._rounds.picture(self.questions[place])

    def answers(self) -> list[str | None]:
        """The class that the learner gave each cell; None for a cell without an answer."""
        with self._rounds.store.database.read() as connection:
            return _answers(connection, self.id, len(self.questions))

    def answer(self, place: int, class_name: str) -> None:
        """Give a cell a class. It may be given again until the round is finished; the last answer counts.

        Parameters
        ----------
        place : int
            Of the cell in the round, from 0.
        class_name : str

        Raises
        ------
        ReviewError
            If the round is finished.
        ArgumentError
            If there is no such cell or class.
        """
        scheme = self._rounds.store.scheme
        if not 0 <= place < len(self.questions):
            raise ArgumentError(f"the round has {len(self.questions)} cells: there is no number {place + 1}.")
        if class_name not in scheme:
            raise ArgumentError(f"'{class_name}' is not a class: choose one of the classes shown.")
        at = now()
        with self._rounds.store.writing() as connection:
            _open_row(connection, self.id)
            connection.execute(
                proficiency_answers.insert().values(
                    **{"round": self.id, "place": place, "class": class_name, "at": at}
                )
            )
            log.append(
                connection,
                self.learner,
                "proficiency_answer",
                at,
                round=self.id,
                place=place,
                to_class=class_name,
            )

    def outcome(self) -> Outcome:
        """Set the answers so far against the reference. Ask for it when the round is finished: it names classes."""
        return compare_with_reference(
            [one.reference for one in self.questions],
            self.answers(),
            self._rounds.store.scheme,
            learner=self.learner,
            by=self.by,
            depth=self.depth,
            required=self.required,
        )

    def finish(self) -> Outcome:
        """End the round. Cells without an answer are left out, and the outcome says how many.

        Returns
        -------
        Outcome

        Raises
        ------
        ReviewError
            If no cell has an answer, or the round is finished already.
        """
        at = now()
        answered = sum(one is not None for one in self.answers())
        if not answered:
            raise ReviewError("no cell has an answer yet: give at least one cell a class first.")
        with self._rounds.store.writing() as connection:
            _open_row(connection, self.id)
            connection.execute(
                proficiency_rounds.update().where(proficiency_rounds.c.id == self.id).values(finished_at=at)
            )
            log.append(connection, self.learner, "proficiency_finished", at, round=self.id, answered=answered)
        return self.outcome()


class Proficiency:
    """The proficiency rounds of a review store.

    Parameters
    ----------
    store : ReviewStore

    Examples
    --------
    >>> rounds = Proficiency(store)  # doctest: +SKIP
    >>> exam = rounds.begin("B. Learner", [rounds.references()[0].key], n=50)  # doctest: +SKIP
    >>> exam.answer(0, "monocyte")  # doctest: +SKIP
    >>> print(exam.finish().words())  # doctest: +SKIP
    """

    def __init__(self, store: ReviewStore) -> None:
        self.store = store

    @property
    def scheme(self) -> Scheme:
        """The class scheme of the store."""
        return self.store.scheme

    def references(self) -> list[ReferenceSlide]:
        """List the slides whose classes are known: the bundled teaching smears, then the signed slides."""
        found = []
        for name in teaching_smears():
            n = len(teaching_cells(name, self.scheme))
            found.append(ReferenceSlide(_TEACHING + name, _words(name), n, DRAWN))
        for row in self.store.slides():
            signature = self.store.signed(row.key)
            if signature is not None:
                found.append(ReferenceSlide(row.key, row.slide_id, signature.n_counted, signature.reviewer))
        return found

    def questions(self, key: str) -> list[Question]:
        """List the cells of a slide whose class is known.

        Parameters
        ----------
        key : str
            Of `references`.

        Returns
        -------
        list of Question

        Raises
        ------
        ReviewError
            If the slide is not signed any more.
        """
        if key.startswith(_TEACHING):
            name = key.removeprefix(_TEACHING)
            return [Question(key, None, cell, kind) for cell, kind in teaching_cells(name, self.scheme)]
        if self.store.signed(key) is None:
            raise ReviewError(
                "a slide of the round is not signed any more: sign it again, or choose another."
            )
        counted = set(self.store.counted(key))
        with self.store.database.read() as connection:
            analysis = connection.execute(
                sa.select(slides.c.current_analysis).where(slides.c.key == key)
            ).scalar_one()
        table = self.store.crop_table([key], signed=True, leave_out=_NO_ANSWER)
        return [
            Question(key, int(analysis), crop.cell_id, crop.class_name)
            for crop in table
            if crop.cell_id in counted and self._is_asked(crop.class_name)
        ]

    def _is_asked(self, class_name: str) -> bool:
        return class_name in self.scheme and self.scheme[class_name].kind in ASKED_KINDS

    def begin(
        self,
        learner: str,
        keys: Collection[str],
        *,
        n: int | None = None,
        depth: str = CLASSES,
        required: float | None = None,
        seed: int | None = None,
    ) -> Round:
        """Begin a round.

        Parameters
        ----------
        learner : str
        keys : collection of str
            Of `references`.
        n : int, optional
            How many cells are asked, drawn at random; all by default.
        depth : {"classes", "fine"}
            How finely the answers are compared.
        required : float, optional
            The agreement that the laboratory wants, 0-1.
        seed : int, optional
            Of the order and the choice of the cells; by default another one each time.

        Returns
        -------
        Round

        Raises
        ------
        ArgumentError
            If no slide is given, or a number makes no sense.
        ReviewError
            If there are no cells, or the learner has signed or corrected one of the slides.
        """
        who = person(learner)
        if not keys:
            raise ArgumentError("choose at least one slide with a reference.")
        if n is not None and n < 1:
            raise ArgumentError("a round needs at least one cell.")
        if required is not None and not 0 < required <= 1:
            raise ArgumentError("the wanted agreement is a share above 0 and up to 100 %.")
        if depth not in (CLASSES, FINE):
            raise ArgumentError(f"classes are compared as '{CLASSES}' or '{FINE}', not '{depth}'.")
        known = {one.key: one for one in self.references()}
        chosen = [known[key] for key in dict.fromkeys(keys) if key in known]
        for slide in chosen:
            self._refuse_own(who, slide)
        asked = [question for slide in chosen for question in self.questions(slide.key)]
        if not asked:
            raise ReviewError(
                "the chosen slides have no cell with a known class and a picture: choose others."
            )
        order = np.random.default_rng(seed).permutation(len(asked))[:n]
        return self._insert(who, chosen, [asked[i] for i in order], depth, required)

    def _insert(
        self,
        learner: str,
        chosen: Sequence[ReferenceSlide],
        asked: Sequence[Question],
        depth: str,
        required: float | None,
    ) -> Round:
        at = now()
        name = storable(", ".join(one.name for one in chosen))
        by = storable(", ".join(dict.fromkeys(one.by for one in chosen)))
        rows = [[one.slide, one.analysis, one.cell_id, one.reference] for one in asked]
        values = {
            "learner": learner,
            "name": name,
            "reference_by": by,
            "depth": depth,
            "required": required,
            "questions": canonical(rows),
            "started_at": at,
        }
        with self.store.writing() as connection:
            inserted = connection.execute(proficiency_rounds.insert().values(**values))
            number = int(inserted.inserted_primary_key[0])  # type: ignore[index]
            log.append(connection, learner, "proficiency_started", at, round=number, n=len(rows), name=name)
        return self.open(number)

    def _refuse_own(self, learner: str, slide: ReferenceSlide) -> None:
        """Refuse a slide of which the learner has seen the classes."""
        # A teaching smear may have been opened, corrected and signed like any slide.
        key = pixels_key(slide.key)
        own = {slide.by}
        if any(row.key == key for row in self.store.slides()):
            signature = self.store.signed(key)
            own |= {one.reviewer for one in self.store.history(key)}
            own |= set() if signature is None else {signature.reviewer}
        if learner in own:
            raise ReviewError(
                f"{learner} has signed or corrected {slide.name} and knows its classes: choose another slide."
            )

    def check_seen(self, keys: Collection[str], seen: Collection[str]) -> None:
        """Refuse slides whose classes are seen, since they are open.

        Parameters
        ----------
        keys : collection of str
            Slides that are asked, as `Question.slide`.
        seen : collection of str
            Keys of the slides that are open.

        Raises
        ------
        ReviewError
        """
        if seen and any(pixels_key(key) in seen for key in keys):
            raise ReviewError(
                "a slide of the round is open in this window, where its classes are seen: close it first, with "
                "'Close slide' in the slide details."
            )

    def check_unread(self, keys: Collection[str], read: Collection[str]) -> None:
        """Refuse to show the classes of slides of which one is being read blind.

        Parameters
        ----------
        keys : collection of str
            Slides that were asked, as `Question.slide`.
        read : collection of str
            Keys of the slides that are being read.

        Raises
        ------
        ReviewError
        """
        if any(pixels_key(key) in read for key in keys):
            raise ReviewError(
                "a slide of this round is being read blind in this window, and its classes would be seen: finish or "
                "interrupt the read first."
            )

    def check_blind(self, key: str, people: Collection[str]) -> None:
        """Refuse to show the classes of a slide to a person who has an unfinished round with its cells.

        Parameters
        ----------
        key : str
            Of the slide in the store.
        people : collection of str
            Who would see the classes.

        Raises
        ------
        ReviewError
        """
        table = proficiency_rounds
        query = sa.select(table.c.learner, table.c.questions).where(
            table.c.finished_at.is_(None), table.c.learner.in_(people)
        )
        with self.store.database.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            asked = {str(one[0]) for one in json.loads(row.questions)}
            if any(pixels_key(one) == key for one in asked):
                raise ReviewError(
                    f"{row.learner} has an unfinished proficiency round with cells of this slide: its classes are "
                    "shown again when the round is finished, in the Proficiency dock."
                )

    def open(self, number: int) -> Round:
        """Open a round.

        Parameters
        ----------
        number : int
            Its id.

        Returns
        -------
        Round

        Raises
        ------
        ReviewError
            If there is none.
        """
        with self.store.database.read() as connection:
            row = connection.execute(
                sa.select(proficiency_rounds).where(proficiency_rounds.c.id == number)
            ).first()
        if row is None:
            raise ReviewError(f"the review store has no proficiency round {number}.")
        return Round(self, row)

    def records(self, learner: str | None = None) -> list[RoundRecord]:
        """The rounds over time, the first one first.

        Parameters
        ----------
        learner : str, optional
            By default of all learners.

        Returns
        -------
        list of RoundRecord
        """
        query = sa.select(proficiency_rounds).order_by(proficiency_rounds.c.id)
        if learner is not None:
            query = query.where(proficiency_rounds.c.learner == learner)
        with self.store.database.read() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            outcome = Round(self, row).outcome() if row.finished_at else None
            found.append(
                RoundRecord(
                    int(row.id),
                    row.learner,
                    row.name,
                    row.reference_by,
                    row.started_at,
                    row.finished_at or "",
                    outcome,
                )
            )
        return found

    def learners(self) -> list[str]:
        """The names of all who have begun a round, sorted."""
        query = sa.select(proficiency_rounds.c.learner).distinct().order_by(proficiency_rounds.c.learner)
        with self.store.database.read() as connection:
            return [str(name) for name in connection.execute(query).scalars()]

    def picture(self, question: Question) -> np.ndarray | None:
        """Return the picture of a cell with its surroundings.

        Parameters
        ----------
        question : Question

        Returns
        -------
        numpy.ndarray or None, (h, w, 3), uint8
            None if the store no longer has it.
        """
        if question.slide.startswith(_TEACHING):
            return teaching_picture(question.slide.removeprefix(_TEACHING), question.cell_id)
        query = sa.select(crops.c.image).where(
            crops.c.analysis == question.analysis, crops.c.cell_id == question.cell_id
        )
        with self.store.database.read() as connection:
            data = connection.execute(query).scalar()
        return None if data is None else decode_png(data)


def pixels_key(key: str) -> str:
    """The key of a slide of a round when it is opened as an image: a teaching smear has another one.

    Parameters
    ----------
    key : str
        As `Question.slide`.

    Returns
    -------
    str
    """
    return teaching_key(key.removeprefix(_TEACHING)) if key.startswith(_TEACHING) else key


def classes_to_give(scheme: Scheme, depth: str, questions: Sequence[Question]) -> list[str]:
    """The classes that are offered to a learner: the usual ones, so that they do not tell which classes occur.

    Parameters
    ----------
    scheme : Scheme
    depth : {"classes", "fine"}
        At ``classes``, parts of other classes are left out.
    questions : sequence of Question
        Any further class of the references is added.

    Returns
    -------
    list of str
    """
    usual = [
        entry.name
        for entry in scheme
        if entry.kind in ASKED_KINDS and entry.name not in _NO_ANSWER and entry.key
    ]
    names = {coarse(name, scheme, depth) for name in [*usual, *(one.reference for one in questions)]}
    return scheme.ordered(names)


def _words(name: str) -> str:
    """The name of a teaching smear as people read it."""
    return name.replace("synthetic_teaching_", "teaching smear: ").replace("_", " ")


def _answers(connection: Connection, number: int, n: int) -> list[str | None]:
    found: list[str | None] = [None] * n
    rows = connection.execute(
        sa.select(proficiency_answers.c.place, proficiency_answers.c["class"])
        .where(proficiency_answers.c.round == number)
        .order_by(proficiency_answers.c.id)
    )
    for place, name in rows:
        found[place] = str(name)
    return found


def _open_row(connection: Connection, number: int) -> None:
    row = connection.execute(
        sa.select(proficiency_rounds.c.finished_at).where(proficiency_rounds.c.id == number)
    ).one()
    if row.finished_at is not None:
        raise ReviewError("this round is finished: begin a new one.")
