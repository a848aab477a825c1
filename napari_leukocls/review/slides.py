"""Slides in the store: known by their pixels, and analysed any number of times."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import log
from napari_leukocls.review.schema import analyses, cells, crops, slides
from napari_leukocls.review.text import canonical, now, sha256, storable
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    import pandas as pd

#: Settings that change where and how fast an analysis runs, and not what it finds.
_NO_MATTER = ("device", "batch_size", "heatmaps", "formats", "version")
_ROWS = 1024

#: Columns of `analyses` that the log does not repeat, or writes in another form.
_NOT_LOGGED = ("slide", "added_at", "glass", "red_cell_density")
_BOX = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")


def array_key(pixels: Any) -> str:
    """SHA-256 of an image's shape, type and pixels; read in bands, so that it need not be in memory.

    Parameters
    ----------
    pixels : array_like, (H, W[, C])
    """
    digest = hashlib.sha256(f"{tuple(pixels.shape)}:{np.dtype(pixels.dtype).str}:".encode("ascii"))
    for start in range(0, pixels.shape[0], _ROWS):
        digest.update(np.ascontiguousarray(np.asarray(pixels[start : start + _ROWS])).data)
    return digest.hexdigest()


def analysis_digest(result: FieldResult) -> str:
    """What tells one analysis of a slide from another: outlines, models and settings."""
    settings = result.run.get("settings") or {}
    return sha256(
        canonical(
            {
                "labels": array_key(result.labels),
                "segmenter": _model(result, "segmenter"),
                "classifier": _model(result, "classifier"),
                "settings": {
                    str(key): str(value) for key, value in settings.items() if key not in _NO_MATTER
                },
            }
        )
    )


def slide_row(connection: Connection, key: str) -> Any:
    """Row of a slide.

    Raises
    ------
    ReviewError
        Where the store does not have it.
    """
    row = connection.execute(sa.select(slides).where(slides.c.key == key)).first()
    if row is None or row.current_analysis is None:
        raise ReviewError(f"the review store has no slide {key[:12]!r}; add its result first.")
    return row


def insert_slide(connection: Connection, key: str, result: FieldResult, group: str, patient: str) -> Any:
    """Row of the slide of a result; made where there is none."""
    row = connection.execute(sa.select(slides).where(slides.c.key == key)).first()
    if row is not None:
        return row
    height, width = result.image.pixels.shape[:2]
    connection.execute(
        slides.insert().values(
            key=key,
            slide_id=storable(result.slide_id),
            source=storable(result.source),
            slide_group=storable(group),
            patient=storable(patient),
            height=int(height),
            width=int(width),
            added_at=now(),
        )
    )
    return connection.execute(sa.select(slides).where(slides.c.key == key)).one()


def insert_analysis(
    connection: Connection, slide: Any, digest: str, result: FieldResult, pictures: list[dict[str, Any]]
) -> int:
    """Write an analysis with its cells and pictures; its id."""
    rows = cell_rows(result.cells)
    at = now()
    scale = float(result.um_per_px)
    segmenter, classifier = _model(result, "segmenter"), _model(result, "classifier")
    values = {
        "slide": slide.id,
        "digest": digest,
        "cells_digest": cells_digest(rows),
        "um_per_px": scale if math.isfinite(scale) else None,
        "glass": canonical([_number(value) for value in result.segmentation.glass_colour]),
        "red_cell_density": canonical(_density(result)),
        "classes": canonical(_classes(result.cells)),
        "segmenter": segmenter[0],
        "segmenter_sha256": segmenter[1],
        "classifier": classifier[0],
        "classifier_sha256": classifier[1],
        "settings": json.dumps(result.run.get("settings") or {}, default=str, sort_keys=True),
        "version": str(result.run.get("version", "")),
        "added_at": at,
    }
    inserted = connection.execute(analyses.insert().values(**values))
    analysis = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    if rows:
        connection.execute(cells.insert(), [{"analysis": analysis, **row} for row in rows])
    if pictures:
        connection.execute(crops.insert(), [{"analysis": analysis, **row} for row in pictures])
    logged = {name: value for name, value in values.items() if name not in _NOT_LOGGED}
    log.append(
        connection,
        "",
        "analysis",
        at,
        **logged,
        slide=slide.key,
        slide_id=slide.slide_id,
        source=slide.source,
        analysis=analysis,
        n_cells=len(rows),
    )
    return analysis


def cell_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `cells` of a table as in ``cells.csv``."""
    names = _classes(table)
    rows = []
    for row in table.sort_values("cell_id", kind="stable").to_dict("records"):
        values = [_number(row[f"prob_{name}"]) for name in names]
        rows.append(
            {
                "cell_id": int(row["cell_id"]),
                "predicted_class": str(row["predicted_class"]),
                "probability": _number(row["probability"]),
                "probabilities": canonical([] if None in values else values),
                "needs_review": bool(row["needs_review"]),
                "review_reason": str(row["review_reason"]),
                "ood_score": _number(row["ood_score"]),
                **{name: int(row[name]) for name in _BOX},
                "area_px": int(row["area_px"]),
                "revision": 0,
            }
        )
    return rows


def cells_digest(rows: list[dict[str, Any]]) -> str:
    """SHA-256 of what was predicted, over the rows of one analysis in order of their ids."""
    kept = ("cell_id", "predicted_class", "probability", "probabilities", "needs_review", "review_reason")
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical([row[name] for name in (*kept, "ood_score", *_BOX, "area_px")]).encode())
    return digest.hexdigest()


def boxes(connection: Connection, analysis: int, corrected: bool = False) -> dict[int, np.ndarray]:
    """Boxes y0, x0, y1, x1 of an analysis' cells, or of the corrected ones alone."""
    query = sa.select(cells.c.cell_id, *(cells.c[name] for name in _BOX)).where(cells.c.analysis == analysis)
    if corrected:
        query = query.where(cells.c.in_force.is_not(None))
    return {row[0]: np.array(row[1:], float) for row in connection.execute(query)}


def _classes(table: pd.DataFrame) -> list[str]:
    return [str(name)[5:] for name in table.columns if str(name).startswith("prob_")]


def _model(result: FieldResult, kind: str) -> tuple[str, str]:
    """Name and hash of a model of a run."""
    entry = result.run.get(kind)
    if isinstance(entry, dict):
        return storable(str(entry.get("name", ""))), str(entry.get("sha256") or "")
    return storable(str(entry or "")), ""


def _density(result: FieldResult) -> list[float | None] | None:
    density = result.segmentation.red_cell_density
    return None if density is None else [_number(value) for value in density]


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
