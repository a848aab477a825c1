"""Corrections of cells of an open store: given, undone, redone, listed, and filled into a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewConflict
from napari_leukocls.measurement.fine import with_corrections
from napari_leukocls.review import corrections, crops, schema
from napari_leukocls.review.counting import fill
from napari_leukocls.review.records import Correction
from napari_leukocls.review.slides import boxes
from napari_leukocls.review.station import Station
from napari_leukocls.review.text import now, person, reason_text

if TYPE_CHECKING:
    import pandas as pd

#: `undo` or `redo` of the module `corrections`.
Step = Callable[[Connection, dict[int, str], str, str], Correction | None]


class CellCorrections:
    """The corrections of the slides of a store. A slide is named by its key.

    Parameters
    ----------
    station : Station
    """

    def __init__(self, station: Station) -> None:
        self._station = station

    def correct(
        self, slide: str, cell_id: int, corrected_class: str, reviewer: str, reason: str = ""
    ) -> Correction:
        """Give a cell a class; the correction is on the disk when this returns.

        Parameters
        ----------
        slide : str
            Key.
        cell_id : int
        corrected_class : str
            A class of the scheme; the predicted class confirms the prediction.
        reviewer, reason : str
            `reason` may be "".

        Returns
        -------
        Correction

        Raises
        ------
        ReviewConflict
            If another person has given the cell another class since this store last read it. That class stays
            in force and both corrections are kept; the same call again puts this one in force.
        ReviewError
            If there is no such slide or cell, or the slide was analysed again by another program.
        ArgumentError
            If the scheme has no such class.
        """
        name, who, why = self._station.scheme[corrected_class].name, person(reviewer), reason_text(reason)
        with self._station.writing() as connection:
            row, analysis, known = self._station.current(connection, slide)
            cell = corrections.cell_row(connection, analysis, cell_id)
            known_revision = known.get(cell.cell_id, 0) if known is not None else cell.revision
            mine, theirs = corrections.correct(connection, slide, cell, name, who, why, now(), known_revision)
            _keep_picture(self._station, connection, slide, analysis, cell.cell_id)
            if theirs is None:
                self._station.lift(connection, row, who, _change_words(mine, row.slide_id))
        self._station.changed(slide, analysis, cell.cell_id, mine.revision)
        if theirs is not None:
            raise ReviewConflict(
                f"cell {cell.cell_id} of {row.slide_id}: you chose {name}, but {theirs.reviewer} has chosen "
                f"{theirs.corrected_class or theirs.predicted_class} meanwhile, which stays; both are kept. "
                "Correct the cell again to use yours.",
                mine,
                theirs,
            )
        return mine

    def undo(self, slide: str, reviewer: str) -> Correction | None:
        """Undo the reviewer's last correction that is in force.

        Parameters
        ----------
        slide : str
            Key.
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
        return step(self._station, corrections.undo, [slide], reviewer)

    def redo(self, slide: str, reviewer: str) -> Correction | None:
        """Redo what the reviewer undid last.

        Parameters
        ----------
        slide : str
            Key.
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
        return step(self._station, corrections.redo, [slide], reviewer)

    def corrections(self, slide: str) -> dict[int, Correction]:
        """The corrections that are in force; from now on this store knows the changes of other people in them.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        dict of int to Correction
            By ``cell_id``.
        """
        with self._station.database.read() as connection:
            _, analysis, _ = self._station.current(connection, slide)
            found = corrections.in_force_corrections(connection, slide, analysis)
            known = corrections.revisions(connection, analysis)
        self._station.read_revisions(slide, analysis, known)
        return found

    def history(self, slide: str) -> list[Correction]:
        """All changes of the cells of the slide's current analysis.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        list of Correction
            Oldest first.
        """
        with self._station.database.read() as connection:
            _, analysis, _ = self._station.current(connection, slide)
            return corrections.all_changes(connection, slide, analysis)

    def apply(self, slide: str, cells: pd.DataFrame) -> pd.DataFrame:
        """Fill the corrections into a copy of a table of cells; the predicted classes stay in their column.

        Parameters
        ----------
        slide : str
            Key.
        cells : pandas.DataFrame
            Columns as in ``cells.csv``, of the analysis that was added last.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ReviewError
            If the box of a corrected cell is another one in the table.
        """
        found = self.corrections(slide)
        with self._station.database.read() as connection:
            _, analysis, _ = self._station.current(connection, slide)
            corrected_boxes = boxes(connection, analysis, corrected=True)
        return with_corrections(fill(cells, found, corrected_boxes), self._station.scheme)


def step(station: Station, change: Step, fields: list[str], reviewer: str) -> Correction | None:
    """Undo or redo a reviewer's last correction of one of several fields.

    Parameters
    ----------
    station : Station
    change : callable
        `corrections.undo` or `corrections.redo`.
    fields : list of str
        Keys of the slides.
    reviewer : str

    Returns
    -------
    Correction or None
        None if there is nothing to undo or redo.

    Raises
    ------
    ReviewConflict
        If another person has changed the cell since.
    """
    who = person(reviewer)
    with station.writing() as connection:
        rows = {slide: station.current(connection, slide) for slide in fields}
        keys = {analysis: slide for slide, (_, analysis, _) in rows.items()}
        done = change(connection, keys, who, now())
        if done is not None:
            row = rows[done.slide][0]
            station.lift(connection, row, who, _change_words(done, row.slide_id))
    if done is not None:
        station.changed(done.slide, rows[done.slide][1], done.cell_id, done.revision)
    return done


def _keep_picture(station: Station, connection: Connection, slide: str, analysis: int, cell_id: int) -> None:
    """Store the picture of a cell that has none (such as a red cell), if its result is still in memory."""
    result = station.result_of(slide)
    if result is not None and not crops.has_picture(connection, analysis, cell_id):
        rows = crops.pictures(result, [cell_id])
        connection.execute(schema.crops.insert(), [{"analysis": analysis, **row} for row in rows])


def _change_words(change: Correction, slide_id: str) -> str:
    """A change of the class of a cell, for the log of a lifted signature."""
    after = change.corrected_class or change.predicted_class
    if change.from_class == after:
        return f"cell {change.cell_id} of {slide_id} confirmed as {after}"
    return f"cell {change.cell_id} of {slide_id} changed from {change.from_class} to {after}"
