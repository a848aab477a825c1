"""The review store: corrections, counts, signatures and second reads of analysed slides."""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import LeukoclsError, ReviewConflict, ReviewError
from napari_leukocls.measurement.differential import recounted_warnings
from napari_leukocls.measurement.fine import count_cells, fine_classes_of, with_corrections
from napari_leukocls.measurement.red_cell_findings import with_given_shapes
from napari_leukocls.review import cases, corrections, crops, log, schema, second_read, signing, slides
from napari_leukocls.review.case import Case
from napari_leukocls.review.corrections import revisions, transfer
from napari_leukocls.review.counting import fill, in_count
from napari_leukocls.review.database import Database, store_url
from napari_leukocls.review.records import (
    Agreement,
    CaseRecord,
    Correction,
    ReviewProgress,
    SignOff,
    SlideRecord,
)
from napari_leukocls.review.second_read import answers
from napari_leukocls.review.slides import boxes, model_classes
from napari_leukocls.review.text import now, person, reason_text
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult, Signature

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def open_store(url: str | Path | None = None, scheme: Scheme | None = None) -> ReviewStore:
    """Open a review store, or create it.

    Parameters
    ----------
    url : str or Path, optional
        A SQLite file, or ``postgresql://user@host/database`` for several computers; by default the user's
        own file.
    scheme : Scheme, optional
        The classes that cells can have; by default the scheme of this package.

    Returns
    -------
    ReviewStore
        Close it, or use it in a ``with`` block.

    Raises
    ------
    ArgumentError
        If the URL is wrong.
    ReviewError
        If the store cannot be opened.
    """
    return ReviewStore(Database(store_url(url)), scheme or default_scheme())


class ReviewStore:
    """An open review store; it can be used from several threads.

    A slide is named by its key, the SHA-256 of its pixels, as `add_slide` returns it.

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
        #: By slide: its analysis, and the revisions of its changed cells when this store last read them.
        self._known: dict[str, tuple[int, dict[int, int]]] = {}
        #: Results that are still in memory: pictures of further cells can be cut from them.
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

    # slides

    def add_slide(
        self,
        result: FieldResult,
        *,
        group: str = "",
        patient: str = "",
        case: str | None = None,
        actor: str = "",
    ) -> str:
        """Add an analysed slide, or open it again. Corrections of an earlier analysis are transferred.

        Parameters
        ----------
        result : FieldResult
        group : str
            Name of the slide that the field is part of; training keeps the fields of one slide together.
        patient : str
            A code of the patient, not a name; training keeps the slides of one patient together.
        case : str, optional
            Key of the case that it is a field of. By default it stays in its case; a new slide becomes a case of its
            own.
        actor : str
            Who analysed it, for the log of a signature that this lifts; may be "".

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
                    transfer(connection, key, slide.current_analysis, analysis)
                connection.execute(
                    schema.slides.update()
                    .where(schema.slides.c.id == slide.id)
                    .values(current_analysis=analysis)
                )
            self._into_case(connection, slide, case, actor)
            known = revisions(connection, analysis)
        with self._lock:
            self._known[key] = (analysis, known)
            self._results[key] = weakref.ref(result)
        return key

    def _into_case(self, connection: Connection, slide: Any, key: str | None, actor: str) -> None:
        """Put a slide into its case, and lift the signature of the case if the slide was changed."""
        row = cases.case_of(connection, slide) if key is None else cases.case_row(connection, key)
        if row is None:
            row = cases.insert_case(
                connection, slide.slide_group or slide.slide_id, "", now(), slide.key[:32]
            )
        before = cases.case_of(connection, slide)
        what = ""
        if cases.add_field(connection, row, slide, actor, now()):
            what = f"field {slide.slide_id} added"
            if before is not None:
                moved = f"field {slide.slide_id} moved to {row.name}"
                signing.lift(connection, before, self.scheme, actor, now(), moved)
        signing.lift(connection, row, self.scheme, actor, now(), what)

    # cases

    def case(self, slide: str) -> Case:
        """The case that a slide is a field of: with its goal, signature and second read.

        Parameters
        ----------
        slide : str
            Key of the slide.

        Returns
        -------
        Case
        """
        with self.database.read() as connection:
            row = cases.case_of(connection, slides.slide_row(connection, slide))
        return Case(self, row.key)

    def find_case(self, result: FieldResult) -> Case | None:
        """The case of an earlier analysis of the same pixels.

        Parameters
        ----------
        result : FieldResult

        Returns
        -------
        Case or None
            None if the pixels were never added.
        """
        query = sa.select(schema.slides).where(schema.slides.c.key == slides.array_key(result.image.pixels))
        with self.database.read() as connection:
            slide = connection.execute(query).first()
            row = None if slide is None else cases.case_of(connection, slide)
        return None if row is None else Case(self, row.key)

    def open_case(self, key: str) -> Case:
        """A case by its own key.

        Parameters
        ----------
        key : str

        Returns
        -------
        Case

        Raises
        ------
        ReviewError
            If the store does not have it.
        """
        with self.database.read() as connection:
            return Case(self, cases.case_row(connection, key).key)

    def new_case(self, name: str, identifier: str = "", goal: int | None = None) -> Case:
        """Make a case without fields: `add_slide` adds them.

        Parameters
        ----------
        name : str
            Of the slide.
        identifier : str
            Of the sample, not of the patient; may be "".
        goal : int or None
            Leukocytes to count; None for all.

        Returns
        -------
        Case
        """
        with self._write() as connection:
            row = cases.insert_case(connection, name, identifier, now())
            if goal is not None:
                cases.set_goal(connection, row, goal, "", now())
        return Case(self, row.key)

    def cases(self) -> list[CaseRecord]:
        """All cases that have a field, the newest last."""
        with self.database.read() as connection:
            return cases.case_records(connection)

    def slides(self) -> list[SlideRecord]:
        """All slides, ordered by name."""
        with self.database.read() as connection:
            return slides.slide_records(connection, self.scheme)

    # corrections

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
        name, who, why = self.scheme[corrected_class].name, person(reviewer), reason_text(reason)
        with self._write() as connection:
            row, analysis, known = self._current(connection, slide)
            cell = corrections.cell_row(connection, analysis, cell_id)
            known_revision = known.get(cell.cell_id, 0) if known is not None else cell.revision
            mine, theirs = corrections.correct(connection, slide, cell, name, who, why, now(), known_revision)
            self._keep_picture(connection, slide, analysis, cell.cell_id)
            if theirs is None:
                self._lift(connection, row, who, _change_words(mine, row.slide_id))
        self._remember(slide, analysis, cell.cell_id, mine.revision)
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
        return self._step(corrections.undo, [slide], reviewer)

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
        return self._step(corrections.redo, [slide], reviewer)

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
        with self.database.read() as connection:
            _, analysis, _ = self._current(connection, slide)
            found = corrections.in_force_corrections(connection, slide, analysis)
            known = revisions(connection, analysis)
        with self._lock:
            self._known[slide] = (analysis, known)
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
        with self.database.read() as connection:
            _, analysis, _ = self._current(connection, slide)
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
        with self.database.read() as connection:
            _, analysis, _ = self._current(connection, slide)
            corrected_boxes = boxes(connection, analysis, corrected=True)
        return with_corrections(fill(cells, found, corrected_boxes), self.scheme)

    def apply_to(self, slide: str, result: FieldResult, *, to_goal: bool = False) -> FieldResult:
        """Fill the corrections into a copy of a result, and count its differential again.

        Parameters
        ----------
        slide : str
            Key.
        result : FieldResult
            The result that was added last.
        to_goal : bool
            Whether to count only up to the goal (for example the first 100 leukocytes).

        Returns
        -------
        FieldResult
            ``run["review"]`` holds who corrected, who signed, and the end of the log.

        Raises
        ------
        ReviewError
            If the box of a corrected cell is another one in the table.
        """
        cells = self.apply(slide, result.cells)
        chosen = cells[in_count(cells, self.counted(slide), self.scheme)] if to_goal else cells
        finer = fine_classes_of(result.run)
        counts = count_cells(chosen, self.scheme, model_classes(cells), finer, slide_id=result.slide_id)
        run = {**result.run, "review": self._review_record(slide, to_goal)}
        warnings = recounted_warnings(result.warnings, cells, counts)
        signature = self.signature(slide)
        filled = replace(result, cells=cells, counts=counts, run=run, warnings=warnings, signature=signature)
        return with_given_shapes(filled, self.scheme)

    # counting and signing

    def set_goal(self, slide: str, goal: int | None, reviewer: str = "") -> None:
        """Set how many leukocytes are counted in the case of a slide; see `Case.set_goal`.

        Parameters
        ----------
        slide : str
            Key.
        goal : int or None
            100, 200 or 400 are usual; None for all.
        reviewer : str
            Who sets it; may be "".

        Raises
        ------
        ArgumentError
            If the goal is out of range.
        """
        self.case(slide).set_goal(goal, reviewer)

    def progress(self, slide: str) -> ReviewProgress:
        """How far the review of the case of a slide is.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        ReviewProgress
        """
        return self.case(slide).progress()

    def counted(self, slide: str) -> list[int]:
        """The cells of a slide that its case counts: up to the goal, in the order of their ids.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        list of int
        """
        return [cell for key, cell in self.case(slide).counted() if key == slide]

    def offered(self, slide: str) -> list[int]:
        """The counted cells of a slide that need review, least certain first.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        list of int
            Empty once the goal of the case is reached.
        """
        return [cell for key, cell in self.case(slide).offered() if key == slide]

    def sign_off(self, slide: str, reviewer: str) -> SignOff:
        """Sign the count of the case of a slide as it is now; see `Case.sign_off`.

        Parameters
        ----------
        slide : str
            Key.
        reviewer : str

        Returns
        -------
        SignOff

        Raises
        ------
        ReviewError
            If a counted cell needs review.
        """
        return self.case(slide).sign_off(reviewer)

    def signed(self, slide: str) -> SignOff | None:
        """The last signature of the case of a slide, if nothing that it covers has changed since.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        SignOff or None
        """
        return self.case(slide).signed()

    def signature(self, slide: str) -> Signature:
        """The state of the count of the case of a slide.

        Parameters
        ----------
        slide : str
            Key.

        Returns
        -------
        Signature
        """
        return self.case(slide).signature()

    # second reads

    def second_read(self, slide: str, reader: str) -> SecondRead:
        """Begin a blind second read of the counted cells of a slide by another person, or continue it.

        For all fields of a case together, see `Case.second_read`.

        Parameters
        ----------
        slide : str
            Key.
        reader : str

        Returns
        -------
        SecondRead

        Raises
        ------
        ReviewError
            If the reader has corrected the slide, or there is no cell to read.
        """
        who, cell_ids = person(reader), self.counted(slide)
        with self._write() as connection:
            row, analysis, _ = self._current(connection, slide)
            session, order = second_read.start(connection, row, analysis, who, cell_ids, now())
        return SecondRead(self, session, slide, who, order)

    def agreement(self, slide: str, reader: str | None = None) -> Agreement:
        """How far the last finished second read of a slide agrees with the current classes.

        Parameters
        ----------
        slide : str
            Key.
        reader : str, optional
            By default any reader.

        Returns
        -------
        Agreement

        Raises
        ------
        ReviewError
            If no second read is finished.
        """
        with self.database.read() as connection:
            _, analysis, _ = self._current(connection, slide)
            finished = second_read.finished(connection, analysis, reader)
            return second_read.agreement(connection, [(slide, analysis, finished)], self.scheme)

    # training

    def crop_table(
        self,
        slides: Collection[str] | None = None,
        *,
        reviewers: Collection[str] | None = None,
        signed: bool = False,
        leave_out: Collection[str] = ("not_classed",),
        shapes: bool = False,
    ) -> crops.CropTable:
        """Labelled crops of the corrections that are in force, for training.

        Parameters
        ----------
        slides : collection of str, optional
            Keys; by default all slides.
        reviewers : collection of str, optional
            Only corrections by these people; by default all.
        signed : bool
            Whether to add the counted cells of signed slides that nobody had to correct.
        leave_out : collection of str
            Classes to leave out.
        shapes : bool
            Whether to take the shapes of red cells, and nothing else; else they are left out.

        Returns
        -------
        CropTable
        """
        with self.database.read() as connection:
            return crops.crop_table(connection, self.scheme, slides, reviewers, signed, leave_out, shapes)

    # shared steps

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction for a part that keeps its own tables in the store, as proficiency rounds do.

        Yields
        ------
        Connection
            What is written is on the disk when the block has ended, and the end of the log is noted.
        """
        with self._write() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
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

    def _current(self, connection: Connection, slide: str) -> tuple[Any, int, dict[int, int] | None]:
        """Row of a slide, its current analysis, and the revisions that this store has read (None: none yet)."""
        row = slides.slide_row(connection, slide)
        with self._lock:
            analysis, known = self._known.get(slide, (row.current_analysis, None))
        if analysis != row.current_analysis:
            raise ReviewError(f"{row.slide_id} was analysed again meanwhile: open its result again.")
        return row, analysis, known

    def _remember(self, slide: str, analysis: int, cell_id: int, revision: int) -> None:
        with self._lock:
            if slide in self._known and self._known[slide][0] == analysis:
                self._known[slide][1][cell_id] = revision

    def _without_picture(self, key: str, digest: str, result: FieldResult) -> list[int]:
        """The cells of a new analysis that need a picture. They are cut before the store is locked."""
        with self.database.read() as connection:
            known = connection.execute(
                sa.select(schema.analyses.c.id)
                .join(schema.slides, schema.slides.c.id == schema.analyses.c.slide)
                .where(schema.slides.c.key == key, schema.analyses.c.digest == digest)
            ).first()
        if known is not None:
            return []
        return [int(cell) for cell in result.cells["cell_id"].to_numpy()[crops.needs_picture(result.cells)]]

    def _keep_picture(self, connection: Connection, slide: str, analysis: int, cell_id: int) -> None:
        """Store the picture of a cell that has none (such as a red cell), if its result is still in memory."""
        with self._lock:
            kept = self._results.get(slide)
        result = kept() if kept is not None else None
        if result is not None and not crops.has_picture(connection, analysis, cell_id):
            rows = crops.pictures(result, [cell_id])
            connection.execute(schema.crops.insert(), [{"analysis": analysis, **row} for row in rows])

    def _step(
        self, step: Callable[..., Correction | None], fields: list[str], reviewer: str
    ) -> Correction | None:
        who = person(reviewer)
        with self._write() as connection:
            rows = {slide: self._current(connection, slide) for slide in fields}
            keys = {analysis: slide for slide, (_, analysis, _) in rows.items()}
            done = step(connection, keys, who, now())
            if done is not None:
                row = rows[done.slide][0]
                self._lift(connection, row, who, _change_words(done, row.slide_id))
        if done is not None:
            self._remember(done.slide, rows[done.slide][1], done.cell_id, done.revision)
        return done

    def _lift(self, connection: Connection, slide: Any, actor: str, what: str) -> None:
        """Lift the signature of the case of a slide, if a change has made it void."""
        case = cases.case_of(connection, slide)
        signing.lift(connection, case, self.scheme, actor, now(), what)

    def _review_record(self, slide: str, to_goal: bool) -> dict[str, Any]:
        """The record of the review in the result."""
        with self.database.read() as connection:
            row, analysis, _ = self._current(connection, slide)
            in_force = corrections.in_force_corrections(connection, slide, analysis)
            case = cases.case_of(connection, row)
            signature = signing.signed(connection, case, self.scheme)
            head = log.head_of(connection)
        return {
            "slide_key": slide,
            "corrections": len(in_force),
            "reviewers": sorted({change.reviewer for change in in_force.values()}),
            "goal": case.goal if to_goal else None,
            "signed_by": signature.reviewer if signature else None,
            "signed_at": signature.at if signature else None,
            "log_head": str(head),
        }

    def _read_cell(self, session: int, slide: str, reader: str, cell_id: int, class_name: str) -> None:
        with self._write() as connection:
            second_read.answer(connection, session, slide, reader, cell_id, class_name, now())

    def _finish_reading(self, session: int, slide: str, reader: str) -> Agreement:
        with self._write() as connection:
            row = second_read.open_session(connection, session)
            return second_read.finish(connection, [(slide, row.analysis, row)], reader, now(), self.scheme)


def _change_words(change: Correction, slide_id: str) -> str:
    """A change of the class of a cell, for the log of a lifted signature."""
    after = change.corrected_class or change.predicted_class
    if change.from_class == after:
        return f"cell {change.cell_id} of {slide_id} confirmed as {after}"
    return f"cell {change.cell_id} of {slide_id} changed from {change.from_class} to {after}"


class SecondRead:
    """A blind second read of the counted cells of a slide by one reader.

    It holds the ids of the cells and this reader's classes, but not the current classes.

    Parameters
    ----------
    store : ReviewStore
    session : int
        Id of the second read.
    slide : str
        Key.
    reader : str
    cell_ids : list of int
        In the order in which they are shown.
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
        name = self._store.scheme[class_name].name
        self._store._read_cell(self._session, self.slide, self.reader, int(cell_id), name)

    def answers(self) -> dict[int, str]:
        """The classes that this reader has given so far, by cell."""
        with self._store.database.read() as connection:
            return answers(connection, self._session)

    def pending(self) -> list[int]:
        """The cells that this reader has not classified yet, in order."""
        answered = self.answers()
        return [cell_id for cell_id in self.cell_ids if cell_id not in answered]

    def finish(self) -> Agreement:
        """Finish the second read, and compare it with the current classes.

        Returns
        -------
        Agreement

        Raises
        ------
        ReviewError
            If cells are left to classify.
        """
        left = self.pending()
        if left:
            n_cells = "1 cell is" if len(left) == 1 else f"{len(left)} cells are"
            raise ReviewError(f"{n_cells} left to read (next: cell {left[0]}); classify all cells first.")
        return self._store._finish_reading(self._session, self.slide, self.reader)
