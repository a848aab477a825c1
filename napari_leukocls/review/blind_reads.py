"""Blind second reads that a reader works on: of one slide, and of all fields of a case."""

from __future__ import annotations

from napari_leukocls.errors import ReviewError
from napari_leukocls.plurals import count_text
from napari_leukocls.review import second_read
from napari_leukocls.review.records import Agreement
from napari_leukocls.review.station import Station
from napari_leukocls.review.text import now

#: A cell of a case: the key of its field and its number there.
CellKey = tuple[str, int]


class CaseRead:
    """A blind second read of the counted cells of a case by one reader.

    It holds the cells and this reader's classes, but not the current classes.

    Parameters
    ----------
    station : Station
    reader : str
    begun : list of tuple
        Of each field: its key, the id of the second read, and its cells in the order in which they are shown.
    """

    def __init__(self, station: Station, reader: str, begun: list[tuple[str, int, list[int]]]) -> None:
        self._station = station
        self.reader = reader
        self._sessions = {slide: session for slide, session, _ in begun}
        self.cells: tuple[CellKey, ...] = tuple((slide, cell) for slide, _, order in begun for cell in order)
        #: Own answers that can be taken back: the cell, and what this reader had said before.
        self._done: list[tuple[CellKey, str]] = []

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
        name = self._station.scheme[class_name].name
        self._answer((slide, cell_id), name)
        self._done.append(((slide, cell_id), before))

    def undo(self) -> CellKey | None:
        """Take back this reader's own last class; nothing of another person is touched.

        Returns
        -------
        tuple or None
            The cell; None if there is nothing to take back.
        """
        if not self._done:
            return None
        cell, before = self._done.pop()
        self._answer(cell, before)
        return cell

    def answers(self) -> dict[CellKey, str]:
        """The classes that this reader has given so far, by cell."""
        with self._station.database.read() as connection:
            return {
                (slide, cell): name
                for slide, session in self._sessions.items()
                for cell, name in second_read.answers(connection, session).items()
            }

    def pending(self) -> list[CellKey]:
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
            n_cells = count_text(len(left), "cell is", "cells are")
            raise ReviewError(f"{n_cells} left to read (next: cell {left[0][1]}); classify all cells first.")
        with self._station.writing() as connection:
            read = []
            for slide, session in self._sessions.items():
                row = second_read.open_session(connection, session)
                read.append((slide, int(row.analysis), row))
            return second_read.finish(connection, read, self.reader, now(), self._station.scheme)

    def _answer(self, cell: CellKey, class_name: str) -> None:
        slide, cell_id = cell
        with self._station.writing() as connection:
            second_read.answer(
                connection, self._sessions[slide], slide, self.reader, cell_id, class_name, now()
            )


class SecondRead:
    """A blind second read of the counted cells of a slide by one reader.

    It holds the ids of the cells and this reader's classes, but not the current classes.

    Parameters
    ----------
    read : CaseRead
        Of this slide alone.

    Attributes
    ----------
    slide : str
        Key.
    reader : str
    cell_ids : tuple of int
        In the order in which they are shown.
    """

    def __init__(self, read: CaseRead) -> None:
        self._read = read
        self.slide = read.cells[0][0]
        self.reader = read.reader
        self.cell_ids = tuple(cell_id for _, cell_id in read.cells)

    def classify(self, cell_id: int, class_name: str) -> None:
        """Give a cell a class; a later class replaces it.

        Parameters
        ----------
        cell_id : int
        class_name : str

        Raises
        ------
        ReviewError
            If the cell does not belong to this second read, or it is finished.
        ArgumentError
            If the scheme has no such class.
        """
        self._read.classify(self.slide, int(cell_id), class_name)

    def answers(self) -> dict[int, str]:
        """The classes that this reader has given so far, by cell."""
        return {cell_id: name for (_, cell_id), name in self._read.answers().items()}

    def pending(self) -> list[int]:
        """The cells that this reader has not classified yet, in order."""
        return [cell_id for _, cell_id in self._read.pending()]

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
        return self._read.finish()
