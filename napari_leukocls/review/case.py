"""One case of an open store: fields that make one count, its goal, signature and second read."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.measurement.delta import EarlierCount
from napari_leukocls.measurement.samples import SampleValues
from napari_leukocls.review import (
    case_samples,
    cases,
    corrections,
    counting,
    earlier,
    second_read,
    signing,
    slides,
)
from napari_leukocls.review.database import Database
from napari_leukocls.review.records import Agreement, CaseRecord, Correction, Lift, ReviewProgress, SignOff
from napari_leukocls.review.text import now, person
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Signature

#: A cell of a case: the key of its field and its number there.
Cell = tuple[str, int]


class Store(Protocol):
    """What a case needs of `ReviewStore`, which makes cases and so cannot be imported here."""

    database: Database
    scheme: Scheme

    def _write(self) -> AbstractContextManager[Connection]: ...

    def _step(self, step: Any, fields: list[str], reviewer: str) -> Correction | None: ...

    def _read_cell(self, session: int, slide: str, reader: str, cell_id: int, class_name: str) -> None: ...


class Case:
    """A case of a store, as `ReviewStore.case` returns it. Nothing of it is kept in memory but its key.

    Parameters
    ----------
    store : Store
    key : str
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self.key = key

    # the case itself

    @property
    def record(self) -> CaseRecord:
        """Name, identifier, goal and fields."""
        with self._store.database.read() as connection:
            return cases.record(connection, self._row(connection))

    def rename(self, name: str, identifier: str, reviewer: str = "") -> None:
        """Change the name and the identifier. A signature is lifted.

        Parameters
        ----------
        name : str
            Of the slide.
        identifier : str
            Of the sample, not of the patient; may be "".
        reviewer : str
            Who changes it; may be "".

        Raises
        ------
        ArgumentError
            If the name is empty.
        """
        with self._store._write() as connection:
            row = self._row(connection)
            cases.rename(connection, row, name, identifier, reviewer, now())
            self._lift(connection, reviewer, f"renamed from {row.name} {row.identifier}".rstrip())

    def add(self, slide: str, reviewer: str = "") -> None:
        """Make a slide the last field of this case; it leaves the case that it was in. Signatures are lifted.

        Parameters
        ----------
        slide : str
            Key of the slide.
        reviewer : str
            Who adds it; may be "".
        """
        with self._store._write() as connection:
            row, field = self._row(connection), slides.slide_row(connection, slide)
            before = cases.case_of(connection, field)
            if not cases.add_field(connection, row, field, reviewer, now()):
                return
            self._lift(connection, reviewer, f"field {field.slide_id} added")
            if before is not None:
                what = f"field {field.slide_id} moved to {row.name}"
                signing.lift(connection, before, self._store.scheme, reviewer, now(), what)

    # the sample

    def sample(self) -> SampleValues | None:
        """Counts of the analyser, the patient's number, age and sex; None if nobody has given any."""
        with self._store.database.read() as connection:
            return case_samples.sample_of_case(connection, self._row(connection))

    def set_sample(self, sample: SampleValues | None, reviewer: str = "") -> None:
        """Set the counts of the analyser and the rest. A signature is lifted if they were others.

        Parameters
        ----------
        sample : SampleValues or None
            None takes them away.
        reviewer : str
            Who sets them; may be "".
        """
        who = person(reviewer) if reviewer else ""
        with self._store._write() as connection:
            if case_samples.set_sample(connection, self._row(connection), sample, who, now()):
                self._lift(connection, who, "the counts of the analyser, or the patient, changed")

    def earlier_count(self) -> EarlierCount | None:
        """The last signed count of the same patient before this one; None if there is none."""
        with self._store.database.read() as connection:
            return earlier.earlier_count(connection, self._row(connection), self._store.scheme)

    # counting

    def set_goal(self, goal: int | None, reviewer: str = "") -> None:
        """Set how many leukocytes are counted. A signature is lifted if the goal was another one.

        Parameters
        ----------
        goal : int or None
            100, 200 or 400 are usual; None for all.
        reviewer : str
            Who sets it; may be "".

        Raises
        ------
        ArgumentError
            If the goal is out of range.
        """
        who = person(reviewer) if reviewer else ""
        with self._store._write() as connection:
            row = self._row(connection)
            cases.set_goal(connection, row, goal, who, now())
            self._lift(connection, who, f"the goal was {row.goal or 'all'} and is {goal or 'all'}")

    def progress(self) -> ReviewProgress:
        """How far the review of all fields together is."""
        with self._store.database.read() as connection:
            row = self._row(connection)
            return counting.progress(self._state(connection, row), self._store.scheme, row.goal)

    def counted(self) -> list[Cell]:
        """The cells that are counted: up to the goal, field after field, in the order of their ids."""
        with self._store.database.read() as connection:
            row, keys = self._row_and_keys(connection)
            found = counting.counted(self._state(connection, row), self._store.scheme, row.goal)
            return [(keys[cell.analysis], cell.cell_id) for cell in found]

    def offered(self) -> list[Cell]:
        """The counted cells that need review, least certain first; empty once the goal is reached."""
        with self._store.database.read() as connection:
            row, keys = self._row_and_keys(connection)
            found = counting.offered(self._state(connection, row), self._store.scheme, row.goal)
            return [(keys[cell.analysis], cell.cell_id) for cell in found]

    # one's own corrections

    def undo(self, reviewer: str) -> Correction | None:
        """Undo the reviewer's own last correction in any field; those of other people stay.

        Parameters
        ----------
        reviewer : str

        Returns
        -------
        Correction or None
            None if there is nothing to undo.

        Raises
        ------
        ReviewConflict
            If another person has changed the cell since.
        """
        return self._step(corrections.undo, reviewer)

    def redo(self, reviewer: str) -> Correction | None:
        """Redo what the reviewer undid last in any field.

        Parameters
        ----------
        reviewer : str

        Returns
        -------
        Correction or None
            None if there is nothing to redo.

        Raises
        ------
        ReviewConflict
            If another person has changed the cell since.
        """
        return self._step(corrections.redo, reviewer)

    # signing

    def doubts(self) -> list[str]:
        """What a person should know before signing: a count short of its goal, artefacts among the cells."""
        with self._store.database.read() as connection:
            return signing.doubts(connection, self._row(connection), self._store.scheme)

    def sign_off(self, reviewer: str) -> SignOff:
        """Sign the count as it is now.

        Parameters
        ----------
        reviewer : str

        Returns
        -------
        SignOff

        Raises
        ------
        ReviewError
            If a counted cell needs review.
        """
        who = person(reviewer)
        with self._store._write() as connection:
            return signing.sign_off(connection, self._row(connection), self._store.scheme, who, now())

    def signed(self) -> SignOff | None:
        """The last signature, if nothing that it covers has changed since."""
        with self._store.database.read() as connection:
            return signing.signed(connection, self._row(connection), self._store.scheme)

    def lifted(self) -> Lift | None:
        """Who changed what after the last signature; None if that is valid, or there is none."""
        with self._store.database.read() as connection:
            return signing.lifted(connection, self._row(connection), self._store.scheme)

    def signature(self) -> Signature:
        """The state of the count, for reports, tables and windows."""
        with self._store.database.read() as connection:
            return signing.signature_of(connection, self._row(connection), self._store.scheme)

    # second read

    def second_read(self, reader: str) -> CaseRead:
        """Begin a blind second read of the counted cells of all fields by another person, or continue it.

        Parameters
        ----------
        reader : str

        Returns
        -------
        CaseRead

        Raises
        ------
        ReviewError
            If the reader has corrected a field, or there is no cell to read.
        """
        who = person(reader)
        begun: list[tuple[str, int, list[int]]] = []
        with self._store._write() as connection:
            row = self._row(connection)
            counted = counting.counted(self._state(connection, row), self._store.scheme, row.goal)
            for field in cases.fields_of(connection, row):
                analysis = field.current_analysis
                ids = [cell.cell_id for cell in counted if cell.analysis == analysis]
                if ids:
                    session, order = second_read.start(connection, field, analysis, who, ids, now())
                    begun.append((field.key, session, order))
            if not begun:
                raise ReviewError(f"{row.name} has no cell to read.")
        return CaseRead(self._store, self.key, who, begun)

    def agreement(self, reader: str | None = None) -> Agreement:
        """How far the last finished second read agrees with the current classes.

        Parameters
        ----------
        reader : str, optional
            By default any reader.

        Returns
        -------
        Agreement

        Raises
        ------
        ReviewError
            If no second read of all fields is finished.
        """
        with self._store.database.read() as connection:
            return second_read.case_agreement(connection, self._row(connection), reader, self._store.scheme)

    # shared steps

    def _row(self, connection: Connection) -> Any:
        return cases.case_row(connection, self.key)

    def _row_and_keys(self, connection: Connection) -> tuple[Any, dict[int, str]]:
        row = self._row(connection)
        return row, cases.keys_of(connection, row)

    def _state(self, connection: Connection, row: Any) -> list[Any]:
        return cases.state(connection, row, self._store.scheme)

    def _lift(self, connection: Connection, actor: str, what: str) -> None:
        signing.lift(connection, self._row(connection), self._store.scheme, actor, now(), what)

    def _step(self, step: Any, reviewer: str) -> Correction | None:
        with self._store.database.read() as connection:
            keys = list(cases.keys_of(connection, self._row(connection)).values())
        return self._store._step(step, keys, reviewer)


class CaseRead:
    """A blind second read of the counted cells of a case by one reader.

    It holds the cells and this reader's classes, but not the current classes.

    Parameters
    ----------
    store : Store
    case : str
        Key.
    reader : str
    begun : list of tuple
        Of each field: its key, the id of the second read, and its cells in the order in which they are shown.
    """

    def __init__(self, store: Store, case: str, reader: str, begun: list[tuple[str, int, list[int]]]) -> None:
        self._store = store
        self.case = case
        self.reader = reader
        self._sessions = {slide: session for slide, session, _ in begun}
        self.cells: tuple[Cell, ...] = tuple((slide, cell) for slide, _, order in begun for cell in order)
        #: Own answers that can be taken back: the cell, and what this reader had said before.
        self._done: list[tuple[Cell, str]] = []

    def classify(self, slide: str, cell_id: int, class_name: str) -> None:
        """Give a cell a class; a later class replaces it.

        Parameters
        ----------
        slide : str
            Key of the field.
        cell_id : int
        class_name : str

        Raises
        ------
        ReviewError
            If the cell does not belong to this second read, or it is finished.
        ArgumentError
            If the scheme has no such class.
        """
        if (slide, cell_id) not in self.cells:
            raise ReviewError(f"cell {cell_id} does not belong to this second read.")
        before = self.answers().get((slide, cell_id), "")
        name = self._store.scheme[class_name].name
        self._store._read_cell(self._sessions[slide], slide, self.reader, cell_id, name)
        self._done.append(((slide, cell_id), before))

    def undo(self) -> Cell | None:
        """Take back this reader's own last class; nothing of another person is touched.

        Returns
        -------
        tuple or None
            The cell; None if there is nothing to take back.
        """
        if not self._done:
            return None
        (slide, cell_id), before = self._done.pop()
        self._store._read_cell(self._sessions[slide], slide, self.reader, cell_id, before)
        return slide, cell_id

    def answers(self) -> dict[Cell, str]:
        """The classes that this reader has given so far, by cell."""
        with self._store.database.read() as connection:
            return {
                (slide, cell): name
                for slide, session in self._sessions.items()
                for cell, name in second_read.answers(connection, session).items()
            }

    def pending(self) -> list[Cell]:
        """The cells that this reader has not classified yet, in order."""
        given = self.answers()
        return [cell for cell in self.cells if cell not in given]

    def finish(self) -> Agreement:
        """Finish the second read, and compare it with the current classes.

        Returns
        -------
        Agreement

        Raises
        ------
        ReviewError
            If cells are left to classify, or it is finished already.
        """
        left = self.pending()
        if left:
            n_cells = "1 cell is" if len(left) == 1 else f"{len(left)} cells are"
            raise ReviewError(f"{n_cells} left to read (next: cell {left[0][1]}); classify all cells first.")
        with self._store._write() as connection:
            read = []
            for slide, session in self._sessions.items():
                row = second_read.open_session(connection, session)
                read.append((slide, int(row.analysis), row))
            return second_read.finish(connection, read, self.reader, now(), self._store.scheme)
