"""What every part of the review store stands on: transactions, and what this station has seen."""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import LeukoclsError, ReviewError
from napari_leukocls.review import log, slides
from napari_leukocls.review import schema as tables
from napari_leukocls.review.database import Database
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import SmearResult

logger = logging.getLogger(__name__)


class StoreBase:
    """An open store's database and scheme; `ReviewStore` is what is used.

    Attributes
    ----------
    database : Database
    scheme : Scheme
    anchor : Path or None
        File that notes, outside the database, where the log ends.
    """

    def __init__(self, database: Database, scheme: Scheme) -> None:
        self.database = database
        self.scheme = scheme
        self._lock = threading.Lock()
        #: By slide: the analysis that this store shows, and the revisions of its changed cells as last seen.
        self._seen: dict[str, tuple[int, dict[int, int]]] = {}
        #: Results that are still in memory, for pictures of cells that were not stored from the start.
        self._results: dict[str, weakref.ref[SmearResult]] = {}
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

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self.database.write() as connection:
            yield connection
            head = log.head_of(connection)
            with self._lock:
                # No writer is beside this one: what was noted before lies behind, unless the log was cut.
                if self._noted is not None and head.seq < self._noted.seq:
                    self._anchored = False
        self._note(head)

    def _note(self, head: log.Head) -> None:
        """Note where the log ends, outside the database; a note that the log has left is kept as it is."""
        with self._lock:
            behind = self._noted is not None and head.seq <= self._noted.seq
            if behind or not self._anchored:
                return
            self._noted = head
        try:
            log.write_anchor(self.anchor, head)
        except LeukoclsError as error:
            # What was said is in the database by now: it must not look as if it were lost.
            logger.warning("%s The log is whole; its end is not noted outside the store.", error)

    def _opened(self, connection: Connection, slide: str) -> tuple[Any, int, dict[int, int] | None]:
        """Row of a slide, its current analysis, and the revisions that this store has seen (None: none)."""
        row = slides.slide_row(connection, slide)
        with self._lock:
            analysis, seen = self._seen.get(slide, (row.current_analysis, None))
        if analysis != row.current_analysis:
            raise ReviewError(f"{row.slide_id} was analysed anew meanwhile: open its result again.")
        return row, analysis, seen

    def _saw(self, slide: str, analysis: int, cell_id: int, revision: int) -> None:
        with self._lock:
            if slide in self._seen and self._seen[slide][0] == analysis:
                self._seen[slide][1][cell_id] = revision


def revisions(connection: Connection, analysis: int) -> dict[int, int]:
    """Revisions of the cells that were ever changed."""
    rows = connection.execute(
        sa.select(tables.cells.c.cell_id, tables.cells.c.revision).where(
            tables.cells.c.analysis == analysis, tables.cells.c.revision > 0
        )
    )
    return {row[0]: row[1] for row in rows}
