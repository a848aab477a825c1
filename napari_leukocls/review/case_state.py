"""A case at one moment: read once for all that a window shows of it, and again when anything was written."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy.engine import Connection

from napari_leukocls.review import cases, counting, signing
from napari_leukocls.review.records import CaseRecord, ReviewProgress
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Signature


class CaseState:
    """What the store says of a case.

    Parameters
    ----------
    connection : Connection
    row : Row
        Of the table ``cases``.
    scheme : Scheme
    written : int
        Number of the last entry of the store's log.
    """

    def __init__(self, connection: Connection, row: Any, scheme: Scheme, written: int) -> None:
        self.row, self.scheme, self.written = row, scheme, written
        fields = cases.fields_of(connection, row)
        self.record: CaseRecord = cases.record_of(row, fields)
        self._keys = {field.current_analysis: field.key for field in fields}
        self._rows = cases.state(connection, row, scheme, fields)
        self._signature: Signature | None = None

    @cached_property
    def _counted(self) -> list[Any]:
        return counting.counted(self._rows, self.scheme, self.row.goal)

    @cached_property
    def progress(self) -> ReviewProgress:
        """How far the review of all fields together is."""
        return counting.progress_of(self._counted, self.scheme, self.row.goal)

    @cached_property
    def counted(self) -> list[tuple[str, int]]:
        """The cells that are counted: up to the goal, field after field, in the order of their ids."""
        return self._cells(self._counted)

    @cached_property
    def offered(self) -> list[tuple[str, int]]:
        """The counted cells that need review, least certain first."""
        return self._cells(counting.by_doubt(self._counted))

    def signature(self, connection: Connection) -> Signature:
        """The state of the count.

        Parameters
        ----------
        connection : Connection
            Open since this state was read or asked for.

        Returns
        -------
        Signature
        """
        if self._signature is None:
            self._signature = signing.signature_of(connection, self.row, self.scheme, self._rows)
        return self._signature

    def _cells(self, rows: list[Any]) -> list[tuple[str, int]]:
        return [(self._keys[row.analysis], row.cell_id) for row in rows]
