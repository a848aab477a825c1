"""The review store: corrections, counts, signatures and second reads of analysed slides."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.measurement.differential import recounted_warnings
from napari_leukocls.measurement.fine import count_cells, fine_classes_of
from napari_leukocls.measurement.red_cell_findings import with_given_shapes
from napari_leukocls.review import cases, corrections, crops, log, schema, second_read, signing, slides
from napari_leukocls.review.blind_reads import CaseRead, SecondRead
from napari_leukocls.review.case import Case
from napari_leukocls.review.cell_corrections import CellCorrections
from napari_leukocls.review.corrections import revisions
from napari_leukocls.review.counting import in_count
from napari_leukocls.review.database import Database, store_url
from napari_leukocls.review.records import (
    Agreement,
    CaseRecord,
    ReviewProgress,
    SignOff,
    SlideRecord,
)
from napari_leukocls.review.slides import model_classes
from napari_leukocls.review.station import Station
from napari_leukocls.review.text import now, person
from napari_leukocls.review.transfer import transfer
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult, Signature


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


class ReviewStore(CellCorrections):
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
        super().__init__(Station(database, scheme))
        self.database = database
        self.scheme = scheme
        self.anchor = self._station.anchor

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
        with self._station.writing() as connection:
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
        self._station.opened(key, analysis, known, result)
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
        return Case(self._station, row.key)

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
        return None if row is None else Case(self._station, row.key)

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
            return Case(self._station, cases.case_row(connection, key).key)

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
        with self._station.writing() as connection:
            row = cases.insert_case(connection, name, identifier, now())
            if goal is not None:
                cases.set_goal(connection, row, goal, "", now())
        return Case(self._station, row.key)

    def cases(self) -> list[CaseRecord]:
        """All cases that have a field, the newest last."""
        with self.database.read() as connection:
            return cases.case_records(connection)

    def slides(self) -> list[SlideRecord]:
        """All slides, ordered by name."""
        with self.database.read() as connection:
            return slides.slide_records(connection, self.scheme)

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
        with self._station.writing() as connection:
            row, analysis, _ = self._station.current(connection, slide)
            session, order = second_read.start(connection, row, analysis, who, cell_ids, now())
        return SecondRead(CaseRead(self._station, who, [(slide, session, order)]))

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
            _, analysis, _ = self._station.current(connection, slide)
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

    # for other parts

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction for a part that keeps its own tables in the store, as proficiency rounds do.

        Yields
        ------
        Connection
            What is written is on the disk when the block has ended, and the end of the log is noted.
        """
        with self._station.writing() as connection:
            yield connection

    # shared steps

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

    def _review_record(self, slide: str, to_goal: bool) -> dict[str, Any]:
        """The record of the review in the result."""
        with self.database.read() as connection:
            row, analysis, _ = self._station.current(connection, slide)
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
