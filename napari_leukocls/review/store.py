"""The review store: slides, cells, what people say of them, and who signed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.errors import ReviewConflict
from napari_leukocls.review import counting, crop_table, history, log, reading, steps
from napari_leukocls.review.base import revisions
from napari_leukocls.review.database import Database, store_url
from napari_leukocls.review.records import Agreement, Correction, ReviewProgress, SignOff
from napari_leukocls.review.shelf import SlideShelf
from napari_leukocls.review.slides import boxes
from napari_leukocls.review.text import now, person, reason_text
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import SmearResult

if TYPE_CHECKING:
    import pandas as pd


def open_store(url: str | Path | None = None, scheme: Scheme | None = None) -> ReviewStore:
    """Open a review store; made where there is none.

    Parameters
    ----------
    url : str or Path, optional
        A SQLite file, or ``postgresql://user@host/database`` for several stations; by default the user's own.
    scheme : Scheme, optional
        Classes that cells can be given; the one that ships by default.

    Raises
    ------
    ReviewError
        Where it cannot be opened.
    """
    return ReviewStore(Database(store_url(url)), scheme or default_scheme())


class ReviewStore(SlideShelf):
    """An open review store; safe to use from several threads.

    Slides are named by their key, the SHA-256 of their pixels, as `add_slide` returns it.
    """

    # corrections

    def correct(
        self, slide: str, cell_id: int, corrected_class: str, reviewer: str, reason: str = ""
    ) -> Correction:
        """Give a cell a class; on disk when this returns.

        Parameters
        ----------
        slide : str
            Key.
        cell_id : int
        corrected_class : str
            A class of the scheme; the predicted one confirms it.
        reviewer, reason : str

        Raises
        ------
        ReviewConflict
            Another station has given the cell another class since this one last looked. That one stands, both
            are kept, and saying it again puts this one in force.
        ReviewError
            Where there is no such slide or cell, or the slide was analysed anew elsewhere.
        ArgumentError
            Where the scheme has no such class.
        """
        name, who, why = self.scheme[corrected_class].name, person(reviewer), reason_text(reason)
        with self._write() as connection:
            row, analysis, seen = self._opened(connection, slide)
            cell = history.cell_row(connection, analysis, cell_id)
            at_sight = seen.get(cell.cell_id, 0) if seen is not None else cell.revision
            mine, theirs = history.correct(connection, slide, cell, name, who, why, now(), at_sight)
            self._keep_picture(connection, slide, analysis, cell.cell_id)
        self._saw(slide, analysis, cell.cell_id, mine.revision)
        if theirs is not None:
            raise ReviewConflict(
                f"cell {cell.cell_id} of {row.slide_id}: you say {name}, {theirs.reviewer} has said "
                f"{theirs.corrected_class or theirs.predicted_class} meanwhile, which stands; both are kept. "
                "Say it again to put yours in its place.",
                mine,
                theirs,
            )
        return mine

    def undo(self, slide: str, reviewer: str) -> Correction | None:
        """Take back the reviewer's last correction; None where there is none.

        Raises
        ------
        ReviewConflict
            Where another person has changed the cell since.
        """
        return self._step(steps.undo, slide, reviewer)

    def redo(self, slide: str, reviewer: str) -> Correction | None:
        """Put back what the reviewer has undone last; None where there is nothing."""
        return self._step(steps.redo, slide, reviewer)

    def corrections(self, slide: str) -> dict[int, Correction]:
        """The corrections that stand, by cell; what they say counts as seen from here on."""
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            found = history.standing(connection, slide, analysis)
            seen = revisions(connection, analysis)
        with self._lock:
            self._seen[slide] = (analysis, seen)
        return found

    def history(self, slide: str) -> list[Correction]:
        """All that was said of the cells of the slide's current analysis, oldest first."""
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            return history.everything(connection, slide, analysis)

    def apply(self, slide: str, cells: pd.DataFrame) -> pd.DataFrame:
        """A copy of a table of cells with the corrections filled in; the prediction stays beside them.

        Parameters
        ----------
        slide : str
            Key.
        cells : pandas.DataFrame
            Columns as in ``cells.csv``, of the analysis that was added last.

        Raises
        ------
        ReviewError
            Where a corrected cell is not at its place in the table.
        """
        from napari_leukocls.review.table import fill

        found = self.corrections(slide)
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            places = boxes(connection, analysis, corrected=True)
        return fill(cells, found, places)

    def apply_to(self, slide: str, result: SmearResult, *, to_goal: bool = False) -> SmearResult:
        """A result with the corrections filled in and its differential counted again.

        Parameters
        ----------
        slide : str
            Key.
        result : SmearResult
            The one that was added last.
        to_goal : bool
            Count only the cells that the goal takes (the first 100 leukocytes, say).

        Returns
        -------
        SmearResult
            ``run["review"]`` says who corrected, who signed, and where the log ended.
        """
        from napari_leukocls.measurement.differential import differential
        from napari_leukocls.review.table import model_classes

        cells = self.apply(slide, result.cells)
        chosen = cells[cells["cell_id"].isin(self.counted(slide))] if to_goal else cells
        counts = differential(chosen, self.scheme, model_classes(cells), slide_id=result.image.slide_id)
        run = {**result.run, "review": self._review_record(slide, to_goal)}
        return replace(result, cells=cells, counts=counts, run=run)

    # counting and signing

    def set_goal(self, slide: str, goal: int | None, reviewer: str = "") -> None:
        """Count this many leukocytes (100, 200, 400...); None for all."""
        with self._write() as connection:
            row, _, _ = self._opened(connection, slide)
            counting.set_goal(connection, row, goal, person(reviewer) if reviewer else "", now())

    def progress(self, slide: str) -> ReviewProgress:
        """How far the review of a slide is."""
        with self.database.read() as connection:
            row, analysis, _ = self._opened(connection, slide)
            return counting.progress(counting.state(connection, analysis, self.scheme), self.scheme, row.goal)

    def counted(self, slide: str) -> list[int]:
        """Cells that the count is made of: up to the goal, in the order of their outlines."""
        with self.database.read() as connection:
            row, analysis, _ = self._opened(connection, slide)
            rows = counting.counted(counting.state(connection, analysis, self.scheme), self.scheme, row.goal)
            return [found.cell_id for found in rows]

    def offered(self, slide: str) -> list[int]:
        """Counted cells that need review, least certain first; empty once the goal is met."""
        with self.database.read() as connection:
            row, analysis, _ = self._opened(connection, slide)
            return counting.offered(counting.state(connection, analysis, self.scheme), self.scheme, row.goal)

    def sign_off(self, slide: str, reviewer: str) -> SignOff:
        """Sign the slide.

        Raises
        ------
        ReviewError
            While counted cells need review.
        """
        who = person(reviewer)
        with self._write() as connection:
            row, analysis, _ = self._opened(connection, slide)
            return counting.sign_off(connection, row, analysis, self.scheme, who, now())

    def signed(self, slide: str) -> SignOff | None:
        """The signature, as long as nothing has changed since."""
        with self.database.read() as connection:
            row, analysis, _ = self._opened(connection, slide)
            return counting.signed(connection, row, analysis, self.scheme)

    # second reads

    def second_read(self, slide: str, reader: str) -> reading.SecondRead:
        """Begin a blind reading of the counted cells by another person, or go on with it.

        Raises
        ------
        ReviewError
            Where the reader has corrected the slide, or there is nothing to read.
        """
        who = person(reader)
        with self._write() as connection:
            row, analysis, _ = self._opened(connection, slide)
            rows = counting.counted(counting.state(connection, analysis, self.scheme), self.scheme, row.goal)
            cell_ids = [found.cell_id for found in rows]
            session, order = reading.start(connection, row, analysis, who, cell_ids, now())
        return reading.SecondRead(self, session, slide, who, order)

    def agreement(self, slide: str, reader: str | None = None) -> Agreement:
        """Kappa of the last finished second read (of one reader, or any) with the classes that stand."""
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            finished = reading.finished(connection, analysis, reader)
            return reading.agreement(connection, analysis, finished, self.scheme)

    # training

    def crop_table(
        self,
        slides: Collection[str] | None = None,
        *,
        reviewers: Collection[str] | None = None,
        signed: bool = False,
        leave_out: Collection[str] = ("not_classed",),
    ) -> crop_table.CropTable:
        """Labelled crops of the corrections that stand, for training.

        Parameters
        ----------
        slides : collection of str, optional
            Keys; all by default.
        reviewers : collection of str, optional
            Only what these people said.
        signed : bool
            Also the counted cells of signed slides that nobody had to correct.
        leave_out : collection of str
            Classes that are not wanted.
        """
        with self.database.read() as connection:
            return crop_table.crop_table(connection, self.scheme, slides, reviewers, signed, leave_out)

    # within

    def _step(self, step: Any, slide: str, reviewer: str) -> Correction | None:
        who = person(reviewer)
        with self._write() as connection:
            _, analysis, _ = self._opened(connection, slide)
            done = step(connection, slide, analysis, who, now())
        if done is not None:
            self._saw(slide, analysis, done.cell_id, done.revision)
        return done

    def _review_record(self, slide: str, to_goal: bool) -> dict[str, Any]:
        """What a reviewed result says of its review."""
        with self.database.read() as connection:
            row, analysis, _ = self._opened(connection, slide)
            standing = history.standing(connection, slide, analysis)
            signature = counting.signed(connection, row, analysis, self.scheme)
            head = log.head_of(connection)
        return {
            "slide_key": slide,
            "corrections": len(standing),
            "reviewers": sorted({said.reviewer for said in standing.values()}),
            "goal": row.goal if to_goal else None,
            "signed_by": signature.reviewer if signature else None,
            "signed_at": signature.at if signature else None,
            "log_head": str(head),
        }

    def _read_cell(self, session: int, slide: str, reader: str, cell_id: int, class_name: str) -> None:
        name, at = self.scheme[class_name].name, now()
        with self._write() as connection:
            reading.answer(connection, session, slide, reader, cell_id, name, at)

    def _finish_reading(self, session: int, slide: str, reader: str) -> Agreement:
        with self._write() as connection:
            return reading.finish(connection, session, slide, reader, now(), self.scheme)
