"""The slides of the store: adding them, opening them again, and pictures of their cells."""

from __future__ import annotations

import weakref
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.review import counting, pictures, slides
from napari_leukocls.review import schema as tables
from napari_leukocls.review.base import StoreBase, revisions
from napari_leukocls.review.carrying import carry
from napari_leukocls.review.records import SlideRecord
from napari_leukocls.types import SmearResult


class SlideShelf(StoreBase):
    """The part of `ReviewStore` that adds and lists slides."""

    def add_slide(self, result: SmearResult, *, group: str = "", patient: str = "") -> str:
        """Add an analysed slide, or open it again; corrections of an earlier analysis come along.

        Parameters
        ----------
        result : SmearResult
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
        found = pictures.pictures(result, self._without_picture(key, digest, result))
        with self._write() as connection:
            slide = slides.insert_slide(connection, key, result, group, patient)
            analysis = connection.execute(
                sa.select(tables.analyses.c.id).where(
                    tables.analyses.c.slide == slide.id, tables.analyses.c.digest == digest
                )
            ).scalar()
            if analysis is None:
                analysis = slides.insert_analysis(connection, slide, digest, result, found)
            if slide.current_analysis != analysis:
                if slide.current_analysis is not None:
                    carry(connection, key, slide.current_analysis, analysis)
                connection.execute(
                    tables.slides.update()
                    .where(tables.slides.c.id == slide.id)
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
                sa.select(tables.slides, tables.analyses)
                .join(tables.analyses, tables.analyses.c.id == tables.slides.c.current_analysis)
                .order_by(tables.slides.c.slide_id, tables.slides.c.key)
                .with_only_columns(
                    tables.slides,
                    tables.analyses.c.um_per_px,
                    tables.analyses.c.classifier,
                    tables.analyses.c.classifier_sha256,
                )
            ).all()
            return [self._slide_record(connection, row) for row in rows]

    def has_slide(self, slide: str) -> bool:
        """Whether the store has a slide of this key."""
        with self.database.read() as connection:
            found = connection.execute(
                sa.select(tables.slides.c.current_analysis).where(tables.slides.c.key == slide)
            ).scalar()
        return found is not None

    def _without_picture(self, key: str, digest: str, result: SmearResult) -> list[int]:
        """Cells to cut pictures of before the store is locked; none where it has this analysis."""
        with self.database.read() as connection:
            known = connection.execute(
                sa.select(tables.analyses.c.id)
                .join(tables.slides, tables.slides.c.id == tables.analyses.c.slide)
                .where(tables.slides.c.key == key, tables.analyses.c.digest == digest)
            ).first()
        if known is not None:
            return []
        return [int(cell) for cell in result.cells["cell_id"].to_numpy()[pictures.wanted(result.cells)]]

    def _keep_picture(self, connection: Connection, slide: str, analysis: int, cell_id: int) -> None:
        """Store the picture of a cell that had none (a red cell, say), while its result is in memory."""
        has = connection.execute(
            sa.select(tables.crops.c.cell_id).where(
                tables.crops.c.analysis == analysis, tables.crops.c.cell_id == cell_id
            )
        ).first()
        with self._lock:
            kept = self._results.get(slide)
        result = kept() if kept is not None else None
        if has is None and result is not None:
            rows = pictures.pictures(result, [cell_id])
            connection.execute(tables.crops.insert(), [{"analysis": analysis, **row} for row in rows])

    def _slide_record(self, connection: Connection, row: Any) -> SlideRecord:
        corrected = connection.execute(
            sa.select(sa.func.count())
            .select_from(tables.cells)
            .where(tables.cells.c.analysis == row.current_analysis, tables.cells.c.in_force.is_not(None))
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
