"""ReviewStore and SecondRead, read from top to bottom."""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import LeukoclsError, ReviewConflict, ReviewError
from napari_leukocls.measurement.differential import differential
from napari_leukocls.review import corrections, counting, crops, log, schema, second_read, slides
from napari_leukocls.review.corrections import carry
from napari_leukocls.review.counting import fill, model_classes
from napari_leukocls.review.database import Database, store_url
from napari_leukocls.review.records import Agreement, Correction, ReviewProgress, SignOff, SlideRecord
from napari_leukocls.review.second_read import answers
from napari_leukocls.review.slides import boxes
from napari_leukocls.review.text import now, person, reason_text
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    import pandas as pd

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
        self._results: dict[str, weakref.ref[FieldResult]] = {}
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
        sa.select(schema.cells.c.cell_id, schema.cells.c.revision).where(
            schema.cells.c.analysis == analysis, schema.cells.c.revision > 0
        )
    )
    return {row[0]: row[1] for row in rows}


class SlideShelf(StoreBase):
    """The part of `ReviewStore` that adds and lists slides."""

    def add_slide(self, result: FieldResult, *, group: str = "", patient: str = "") -> str:
        """Add an analysed slide, or open it again; corrections of an earlier analysis come along.

        Parameters
        ----------
        result : FieldResult
        group : str
            Name of the slide that the field is part of; training keeps fields of one group together.
        patient : str
            Likewise of the patient; a code, rather than a name.

        Returns
        -------
        str
            Key of the slide.
        """
        key = slides.array_key(result.image.pixels)
        digest = slides.analysis_digest(result)
        found = crops.pictures(result, self._without_picture(key, digest, result))
        with self._write() as connection:
            slide = slides.insert_slide(connection, key, result, group, patient)
            analysis = connection.execute(
                sa.select(schema.analyses.c.id).where(
                    schema.analyses.c.slide == slide.id, schema.analyses.c.digest == digest
                )
            ).scalar()
            if analysis is None:
                analysis = slides.insert_analysis(connection, slide, digest, result, found)
            if slide.current_analysis != analysis:
                if slide.current_analysis is not None:
                    carry(connection, key, slide.current_analysis, analysis)
                connection.execute(
                    schema.slides.update()
                    .where(schema.slides.c.id == slide.id)
                    .values(current_analysis=analysis)
                )
            seen = revisions(connection, analysis)
        with self._lock:
            self._seen[key] = (analysis, seen)
            self._results[key] = weakref.ref(result)
        return key

    def slides(self) -> list[SlideRecord]:
        """All slides, by name."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(schema.slides, schema.analyses)
                .join(schema.analyses, schema.analyses.c.id == schema.slides.c.current_analysis)
                .order_by(schema.slides.c.slide_id, schema.slides.c.key)
                .with_only_columns(
                    schema.slides,
                    schema.analyses.c.um_per_px,
                    schema.analyses.c.classifier,
                    schema.analyses.c.classifier_sha256,
                )
            ).all()
            return [self._slide_record(connection, row) for row in rows]

    def has_slide(self, slide: str) -> bool:
        """Whether the store has a slide of this key."""
        with self.database.read() as connection:
            found = connection.execute(
                sa.select(schema.slides.c.current_analysis).where(schema.slides.c.key == slide)
            ).scalar()
        return found is not None

    def _without_picture(self, key: str, digest: str, result: FieldResult) -> list[int]:
        """Cells to cut pictures of before the store is locked; none where it has this analysis."""
        with self.database.read() as connection:
            known = connection.execute(
                sa.select(schema.analyses.c.id)
                .join(schema.slides, schema.slides.c.id == schema.analyses.c.slide)
                .where(schema.slides.c.key == key, schema.analyses.c.digest == digest)
            ).first()
        if known is not None:
            return []
        return [int(cell) for cell in result.cells["cell_id"].to_numpy()[crops.wanted(result.cells)]]

    def _keep_picture(self, connection: Connection, slide: str, analysis: int, cell_id: int) -> None:
        """Store the picture of a cell that had none (a red cell, say), while its result is in memory."""
        has = connection.execute(
            sa.select(schema.crops.c.cell_id).where(
                schema.crops.c.analysis == analysis, schema.crops.c.cell_id == cell_id
            )
        ).first()
        with self._lock:
            kept = self._results.get(slide)
        result = kept() if kept is not None else None
        if has is None and result is not None:
            rows = crops.pictures(result, [cell_id])
            connection.execute(schema.crops.insert(), [{"analysis": analysis, **row} for row in rows])

    def _slide_record(self, connection: Connection, row: Any) -> SlideRecord:
        corrected = connection.execute(
            sa.select(sa.func.count())
            .select_from(schema.cells)
            .where(schema.cells.c.analysis == row.current_analysis, schema.cells.c.in_force.is_not(None))
        ).scalar_one()
        signature = counting.signed(connection, row, row.current_analysis, self.scheme)
        return SlideRecord(
            key=row.key,
            slide_id=row.slide_id,
            source=row.source,
            group=row.slide_group,
            patient=row.patient,
            um_per_px=row.um_per_px,
            classifier=row.classifier,
            classifier_sha256=row.classifier_sha256,
            added_at=row.added_at,
            n_corrections=int(corrected),
            signed_by=signature.reviewer if signature else "",
        )


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
            cell = corrections.cell_row(connection, analysis, cell_id)
            at_sight = seen.get(cell.cell_id, 0) if seen is not None else cell.revision
            mine, theirs = corrections.correct(connection, slide, cell, name, who, why, now(), at_sight)
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
        return self._step(corrections.undo, slide, reviewer)

    def redo(self, slide: str, reviewer: str) -> Correction | None:
        """Put back what the reviewer has undone last; None where there is nothing."""
        return self._step(corrections.redo, slide, reviewer)

    def corrections(self, slide: str) -> dict[int, Correction]:
        """The corrections that stand, by cell; what they say counts as seen from here on."""
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            found = corrections.standing(connection, slide, analysis)
            seen = revisions(connection, analysis)
        with self._lock:
            self._seen[slide] = (analysis, seen)
        return found

    def history(self, slide: str) -> list[Correction]:
        """All that was said of the cells of the slide's current analysis, oldest first."""
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            return corrections.everything(connection, slide, analysis)

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
        found = self.corrections(slide)
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            places = boxes(connection, analysis, corrected=True)
        return fill(cells, found, places)

    def apply_to(self, slide: str, result: FieldResult, *, to_goal: bool = False) -> FieldResult:
        """A result with the corrections filled in and its differential counted again.

        Parameters
        ----------
        slide : str
            Key.
        result : FieldResult
            The one that was added last.
        to_goal : bool
            Count only the cells that the goal takes (the first 100 leukocytes, say).

        Returns
        -------
        FieldResult
            ``run["review"]`` says who corrected, who signed, and where the log ended.
        """
        cells = self.apply(slide, result.cells)
        chosen = cells[cells["cell_id"].isin(self.counted(slide))] if to_goal else cells
        counts = differential(chosen, self.scheme, model_classes(cells), slide_id=result.slide_id)
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

    def second_read(self, slide: str, reader: str) -> SecondRead:
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
            session, order = second_read.start(connection, row, analysis, who, cell_ids, now())
        return SecondRead(self, session, slide, who, order)

    def agreement(self, slide: str, reader: str | None = None) -> Agreement:
        """Kappa of the last finished second read (of one reader, or any) with the classes that stand."""
        with self.database.read() as connection:
            _, analysis, _ = self._opened(connection, slide)
            finished = second_read.finished(connection, analysis, reader)
            return second_read.agreement(connection, analysis, finished, self.scheme)

    # training

    def crop_table(
        self,
        slides: Collection[str] | None = None,
        *,
        reviewers: Collection[str] | None = None,
        signed: bool = False,
        leave_out: Collection[str] = ("not_classed",),
    ) -> crops.CropTable:
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
            return crops.crop_table(connection, self.scheme, slides, reviewers, signed, leave_out)

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
            standing = corrections.standing(connection, slide, analysis)
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
            second_read.answer(connection, session, slide, reader, cell_id, name, at)

    def _finish_reading(self, session: int, slide: str, reader: str) -> Agreement:
        with self._write() as connection:
            return second_read.finish(connection, session, slide, reader, now(), self.scheme)


class SecondRead:
    """One reader's blind pass over the counted cells of a slide.

    It says which cells there are and what this reader called them, and nothing of the classes that stand.

    Attributes
    ----------
    slide, reader : str
    cell_ids : tuple of int
        In the order in which they are to be shown.
    """

    def __init__(
        self, store: ReviewStore, session: int, slide: str, reader: str, cell_ids: list[int]
    ) -> None:
        self._store = store
        self._session = session
        self.slide = slide
        self.reader = reader
        self.cell_ids = tuple(cell_ids)

    def classify(self, cell_id: int, class_name: str) -> None:
        """Say what a cell is; saying it again replaces it.

        Raises
        ------
        ReviewError
            Where the cell is not of this reading, or the reading is finished.
        """
        self._store._read_cell(self._session, self.slide, self.reader, int(cell_id), class_name)

    def answers(self) -> dict[int, str]:
        """What this reader has said so far, by cell."""
        with self._store.database.read() as connection:
            return answers(connection, self._session)

    def pending(self) -> list[int]:
        """Cells that this reader has not classed yet, in order."""
        said = self.answers()
        return [cell_id for cell_id in self.cell_ids if cell_id not in said]

    def finish(self) -> Agreement:
        """End the reading and say how far it agrees with the classes that stand.

        Raises
        ------
        ReviewError
            While cells are left.
        """
        left = self.pending()
        if left:
            raise ReviewError(f"{len(left)} cells are left to read (next: cell {left[0]}); class them first.")
        return self._store._finish_reading(self._session, self.slide, self.reader)
