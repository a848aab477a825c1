"""A program's side of a review store: its transactions, and what it has read of each slide."""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection

from napari_leukocls.errors import LeukoclsError, ReviewError
from napari_leukocls.review import cases, log, signing, slides
from napari_leukocls.review.case_state import CaseState
from napari_leukocls.review.database import Database
from napari_leukocls.review.text import now
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import FieldResult

logger = logging.getLogger(__name__)


class Station:
    """What one program knows of a review store that others may change; it can be used from several threads.

    Parameters
    ----------
    database : Database
    scheme : Scheme
        The classes that cells can have.

    Attributes
    ----------
    anchor : Path or None
        A file outside the database that holds the end of the log.
    """

    def __init__(self, database: Database, scheme: Scheme) -> None:
        self.database = database
        self.scheme = scheme
        self._lock = threading.Lock()
        #: By slide: its analysis, and the revisions of its changed cells when this program last read them.
        self._known: dict[str, tuple[int, dict[int, int]]] = {}
        #: Results that are still in memory: pictures of further cells can be cut from them.
        self._results: dict[str, weakref.ref[FieldResult]] = {}
        #: The case that was read last.
        self._case: CaseState | None = None
        with database.read() as connection:
            new = log.is_new(connection)
        if new:
            with database.write() as connection:
                if log.is_new(connection):
                    log.begin(connection, secrets.token_hex(16))
        self.anchor = log.anchor_file(database)
        with database.read() as connection:
            self._noted = log.read_anchor(self.anchor)
            self._anchored = log.leads_to(connection, self._noted)
        if not self._anchored:
            logger.warning("The log of the review store was cut or changed: run 'leukocls audit verify'.")

    # transactions

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction for writing.

        Yields
        ------
        Connection
            What is written is on the disk when the block has ended, and the end of the log is noted.
        """
        with self.database.write() as connection:
            yield connection
            head = log.head_of(connection)
            with self._lock:
                # This is the only writer, so the noted end is an earlier entry, unless the log was cut.
                if self._noted is not None and head.seq < self._noted.seq:
                    self._anchored = False
        self._note(head)

    def _note(self, head: log.Head) -> None:
        """Write the end of the log to its file, unless the log no longer contains the end that the file has."""
        with self._lock:
            behind = self._noted is not None and head.seq <= self._noted.seq
            if behind or not self._anchored:
                return
            self._noted = head
        try:
            log.write_anchor(self.anchor, head)
        except LeukoclsError as error:
            # The change is in the database: an error would make the user believe that it is lost.
            logger.warning("%s The log is whole, but its end is not noted outside the store.", error)

    def lift(self, connection: Connection, slide: Any, actor: str, what: str) -> None:
        """Lift the signature of the case of a slide, if a change has made it void.

        Parameters
        ----------
        connection : Connection
            Of `writing`.
        slide : Row
        actor : str
            Who made the change; may be "".
        what : str
            What was changed, in words.
        """
        case = cases.case_of(connection, slide)
        signing.lift(connection, case, self.scheme, actor, now(), what)

    # what was read

    def opened(self, slide: str, analysis: int, revisions: dict[int, int], result: FieldResult) -> None:
        """Remember a slide that was just added.

        Parameters
        ----------
        slide : str
            Key.
        analysis : int
        revisions : dict of int to int
            Of its changed cells.
        result : FieldResult
            It is not kept alive.
        """
        with self._lock:
            self._known[slide] = (analysis, revisions)
            self._results[slide] = weakref.ref(result)

    def read_revisions(self, slide: str, analysis: int, revisions: dict[int, int]) -> None:
        """Remember which corrections of a slide were read.

        Parameters
        ----------
        slide : str
            Key.
        analysis : int
        revisions : dict of int to int
            Of its changed cells.
        """
        with self._lock:
            self._known[slide] = (analysis, revisions)

    def changed(self, slide: str, analysis: int, cell_id: int, revision: int) -> None:
        """Remember a change that this program made itself.

        Parameters
        ----------
        slide : str
            Key.
        analysis : int
        cell_id : int
        revision : int
            Of the cell.
        """
        with self._lock:
            if slide in self._known and self._known[slide][0] == analysis:
                self._known[slide][1][cell_id] = revision

    def current(self, connection: Connection, slide: str) -> tuple[Any, int, dict[int, int] | None]:
        """The current analysis of a slide.

        Parameters
        ----------
        connection : Connection
        slide : str
            Key.

        Returns
        -------
        row : Row
            Of the slide.
        analysis : int
        revisions : dict of int to int, or None
            Of the changed cells, as this program has read them; None if it has read none yet.

        Raises
        ------
        ReviewError
            If another program has analysed the slide again.
        """
        row = slides.slide_row(connection, slide)
        with self._lock:
            analysis, known = self._known.get(slide, (row.current_analysis, None))
        if analysis != row.current_analysis:
            raise ReviewError(f"{row.slide_id} was analysed again meanwhile: open its result again.")
        return row, analysis, known

    def case(self, connection: Connection, key: str) -> CaseState:
        """Read a case, if it is another one than the last, or if anything was written to the store since.

        A key in the Review dock asks several times for the same case. Each change of a store, by any program, adds to
        its log in the same transaction, so that the number of the last entry tells whether there was one.

        Parameters
        ----------
        connection : Connection
        key : str
            Of the case.

        Returns
        -------
        CaseState

        Raises
        ------
        ReviewError
            If the store does not have the case.
        """
        written = log.head_of(connection).seq
        with self._lock:
            known = self._case
        if known is None or known.written != written or known.row.key != key:
            known = CaseState(connection, cases.case_row(connection, key), self.scheme, written)
            with self._lock:
                self._case = known
        return known

    def result_of(self, slide: str) -> FieldResult | None:
        """The result that a slide was added from, if it is still in memory.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        FieldResult or None
        """
        with self._lock:
            kept = self._results.get(slide)
        return kept() if kept is not None else None
