"""One case of an open store: fields that make one count, its goal, signature and second read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
from napari_leukocls.review.blind_reads import CaseRead, CellKey
from napari_leukocls.review.case_state import CaseState
from napari_leukocls.review.cell_corrections import Step, step
from napari_leukocls.review.records import Agreement, CaseRecord, Correction, Lift, ReviewProgress, SignOff
from napari_leukocls.review.station import Station
from napari_leukocls.review.text import now, person
from napari_leukocls.types import Signature


class Case:
    """A case of a store, as `ReviewStore.case` returns it. It is read again when anything was written.

    Parameters
    ----------
    station : Station
    key : str
    """

    def __init__(self, station: Station, key: str) -> None:
        self._station = station
        self.key = key

    # the case itself

    @property
    def record(self) -> CaseRecord:
        """Name, identifier, goal and fields."""
        with self._now() as (_, state):
            return state.record

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
        with self._station.writing() as connection:
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
        with self._station.writing() as connection:
            row, field = self._row(connection), slides.slide_row(connection, slide)
            before = cases.case_of(connection, field)
            if not cases.add_field(connection, row, field, reviewer, now()):
                return
            self._lift(connection, reviewer, f"field {field.slide_id} added")
            if before is not None:
                what = f"field {field.slide_id} moved to {row.name}"
                signing.lift(connection, before, self._station.scheme, reviewer, now(), what)

    # the sample

    def sample(self) -> SampleValues | None:
        """Counts of the analyser, the patient's number, age and sex; None if nobody has given any."""
        with self._station.database.read() as connection:
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
        with self._station.writing() as connection:
            if case_samples.set_sample(connection, self._row(connection), sample, who, now()):
                self._lift(connection, who, "the counts of the analyser, or the patient, changed")

    def earlier_count(self) -> EarlierCount | None:
        """The last signed count of the same patient before this one; None if there is none."""
        with self._station.database.read() as connection:
            return earlier.earlier_count(connection, self._row(connection), self._station.scheme)

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
        with self._station.writing() as connection:
            row = self._row(connection)
            cases.set_goal(connection, row, goal, who, now())
            self._lift(connection, who, f"the goal was {row.goal or 'all'} and is {goal or 'all'}")

    def progress(self) -> ReviewProgress:
        """How far the review of all fields together is."""
        with self._now() as (_, state):
            return state.progress

    def counted(self) -> list[CellKey]:
        """The cells that are counted: up to the goal, field after field, in the order of their ids."""
        with self._now() as (_, state):
            return list(state.counted)

    def offered(self) -> list[CellKey]:
        """The counted cells that need review, least certain first; empty once the goal is reached."""
        with self._now() as (_, state):
            return list(state.offered)

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
        with self._station.database.read() as connection:
            return signing.doubts(connection, self._row(connection), self._station.scheme)

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
        with self._station.writing() as connection:
            return signing.sign_off(connection, self._row(connection), self._station.scheme, who, now())

    def signed(self) -> SignOff | None:
        """The last signature, if nothing that it covers has changed since."""
        with self._station.database.read() as connection:
            return signing.signed(connection, self._row(connection), self._station.scheme)

    def lifted(self) -> Lift | None:
        """Who changed what after the last signature; None if that is valid, or there is none."""
        with self._station.database.read() as connection:
            return signing.lifted(connection, self._row(connection), self._station.scheme)

    def signature(self) -> Signature:
        """The state of the count, for reports, tables and windows."""
        with self._now() as (connection, state):
            return state.signature(connection)

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
        with self._station.writing() as connection:
            row = self._row(connection)
            counted = counting.counted(self._state(connection, row), self._station.scheme, row.goal)
            for field in cases.fields_of(connection, row):
                analysis = field.current_analysis
                ids = [cell.cell_id for cell in counted if cell.analysis == analysis]
                if ids:
                    session, order = second_read.start(connection, field, analysis, who, ids, now())
                    begun.append((field.key, session, order))
            if not begun:
                raise ReviewError(f"{row.name} has no cell to read.")
        return CaseRead(self._station, who, begun)

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
        with self._station.database.read() as connection:
            return second_read.case_agreement(connection, self._row(connection), reader, self._station.scheme)

    # shared steps

    def _row(self, connection: Connection) -> Any:
        return cases.case_row(connection, self.key)

    @contextmanager
    def _now(self) -> Iterator[tuple[Connection, CaseState]]:
        """Read the case, if anything was written since it was read last."""
        with self._station.database.read() as connection:
            yield connection, self._station.case(connection, self.key)

    def _state(self, connection: Connection, row: Any) -> list[Any]:
        return cases.state(connection, row, self._station.scheme)

    def _lift(self, connection: Connection, actor: str, what: str) -> None:
        signing.lift(connection, self._row(connection), self._station.scheme, actor, now(), what)

    def _step(self, change: Step, reviewer: str) -> Correction | None:
        with self._station.database.read() as connection:
            keys = list(cases.keys_of(connection, self._row(connection)).values())
        return step(self._station, change, keys, reviewer)
