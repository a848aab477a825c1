"""Slides in the store: identified by their pixels, and analysed any number of times."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import cases, log, signing
from napari_leukocls.review.records import SlideRecord
from napari_leukocls.review.schema import BOX, analyses, cells, crops, slides
from napari_leukocls.review.text import canonical, now, sha256, storable
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    import pandas as pd

#: Settings that change where and how fast an analysis runs, or how finely it is counted, but not its classes.
_NOT_IN_DIGEST = ("device", "batch_size", "heatmaps", "formats", "version", "depth")
#: Rows of an image that are read at once.
_ROWS = 1024

#: Columns of `analyses` that the log does not repeat, or writes in another form.
_NOT_LOGGED = ("slide", "added_at", "glass", "red_cell_density")


def array_key(pixels: Any) -> str:
    """SHA-256 of the shape, type and pixels of an image.

    Parameters
    ----------
    pixels : array_like, (H, W[, C])
        It is read in bands, and may be larger than memory.

    Returns
    -------
    str
    """
    digest = hashlib.sha256(f"{tuple(pixels.shape)}:{np.dtype(pixels.dtype).str}:".encode("ascii"))
    for start in range(0, pixels.shape[0], _ROWS):
        digest.update(np.ascontiguousarray(np.asarray(pixels[start : start + _ROWS])).data)
    return digest.hexdigest()


def analysis_digest(result: FieldResult) -> str:
    """A hash that identifies an analysis of a slide: its outlines, models and settings.

    Parameters
    ----------
    result : FieldResult

    Returns
    -------
    str
        SHA-256.
    """
    settings = result.run.get("settings") or {}
    return sha256(
        canonical(
            {
                "labels": array_key(result.labels),
                "segmenter": model_of(result, "segmenter"),
                "classifier": model_of(result, "classifier"),
                "settings": {
                    str(key): str(value) for key, value in settings.items() if key not in _NOT_IN_DIGEST
                },
            }
        )
    )


def slide_row(connection: Connection, key: str) -> Any:
    """The row of a slide.

    Parameters
    ----------
    connection : Connection
    key : str

    Returns
    -------
    Row

    Raises
    ------
    ReviewError
        If the store does not have the slide.
    """
    row = connection.execute(sa.select(slides).where(slides.c.key == key)).first()
    if row is None or row.current_analysis is None:
        raise ReviewError(f"the review store has no slide {key[:12]!r}; add its result first.")
    return row


def slide_records(connection: Connection, scheme: Scheme) -> list[SlideRecord]:
    """All slides, ordered by name.

    Parameters
    ----------
    connection : Connection
    scheme : Scheme

    Returns
    -------
    list of SlideRecord
    """
    query = (
        sa.select(slides, analyses.c.um_per_px, analyses.c.classifier, analyses.c.classifier_sha256)
        .join(analyses, analyses.c.id == slides.c.current_analysis)
        .order_by(slides.c.slide_id, slides.c.key)
    )
    return [_slide_record(connection, row, scheme) for row in connection.execute(query).all()]


def _slide_record(connection: Connection, row: Any, scheme: Scheme) -> SlideRecord:
    corrected = connection.execute(
        sa.select(sa.func.count())
        .select_from(cells)
        .where(cells.c.analysis == row.current_analysis, cells.c.in_force.is_not(None))
    ).scalar_one()
    case = cases.case_of(connection, row)
    signature = None if case is None else signing.signed(connection, case, scheme)
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


def insert_slide(connection: Connection, key: str, result: FieldResult, group: str, patient: str) -> Any:
    """The row of the slide of a result, added if it is not there.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    key : str
    result : FieldResult
    group, patient : str
        May be "".

    Returns
    -------
    Row
    """
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
    """Add an analysis with its cells and pictures.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : Row
    digest : str
        Of `analysis_digest`.
    result : FieldResult
    pictures : list of dict
        Of `napari_leukocls.review.crops.pictures`.

    Returns
    -------
    int
        Id of the analysis.
    """
    rows = cell_rows(result.cells)
    at = now()
    scale = float(result.um_per_px)
    segmenter, classifier = model_of(result, "segmenter"), model_of(result, "classifier")
    values = {
        "slide": slide.id,
        "digest": digest,
        "labels_sha256": array_key(result.labels),
        "cells_digest": cells_digest(rows),
        "um_per_px": scale if math.isfinite(scale) else None,
        "glass": canonical([_number(value) for value in result.segmentation.glass_colour]),
        "red_cell_density": canonical(_density(result)),
        "classes": canonical(model_classes(result.cells)),
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
    """The rows of the table ``cells`` for a table of cells.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    list of dict
        In order of their ids.
    """
    names = model_classes(table)
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
                **{name: int(row[name]) for name in BOX},
                "area_px": int(row["area_px"]),
                "revision": 0,
            }
        )
    return rows


def cells_digest(rows: list[dict[str, Any]]) -> str:
    """A hash of the predictions of an analysis.

    Parameters
    ----------
    rows : list of dict
        Of `cell_rows`, in order of their ids.

    Returns
    -------
    str
        SHA-256.
    """
    kept = ("cell_id", "predicted_class", "probability", "probabilities", "needs_review", "review_reason")
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical([row[name] for name in (*kept, "ood_score", *BOX, "area_px")]).encode())
    return digest.hexdigest()


def boxes(connection: Connection, analysis: int, corrected: bool = False) -> dict[int, np.ndarray]:
    """The boxes of the cells of an analysis.

    Parameters
    ----------
    connection : Connection
    analysis : int
    corrected : bool
        Whether to return only those of corrected cells.

    Returns
    -------
    dict of int to numpy.ndarray
        y0, x0, y1, x1, half-open, pixels, by ``cell_id``.
    """
    query = sa.select(cells.c.cell_id, *(cells.c[name] for name in BOX)).where(cells.c.analysis == analysis)
    if corrected:
        query = query.where(cells.c.in_force.is_not(None))
    return {row[0]: np.array(row[1:], float) for row in connection.execute(query)}


def model_classes(table: pd.DataFrame) -> list[str]:
    """The classes of the model that a table of cells is from.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    list of str
        In the order of the columns of probabilities.
    """
    return [str(name)[5:] for name in table.columns if str(name).startswith("prob_")]


def model_of(result: FieldResult, kind: str) -> tuple[str, str]:
    """Name and hash of a model of a result.

    Parameters
    ----------
    result : FieldResult
    kind : {"segmenter", "classifier"}

    Returns
    -------
    name, sha256 : str
        "" if not known.
    """
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
