"""Outlines that a person has changed: just those cells are measured and classified again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.pipeline import Engine, candidates, classify
from napari_leukocls.types import Segmentation, SmearImage, SmearResult, finish

if TYPE_CHECKING:
    import pandas as pd

#: Looked at around changed cells, micrometres: what the networks need of the neighbourhood.
CONTEXT_UM = 40.0


@dataclass(frozen=True)
class Edit:
    """What differs between two label images.

    Attributes
    ----------
    cell_ids : tuple of int
        Cells that gained or lost pixels, ascending; also those that came or went.
    box : tuple of int
        y0, x0, y1, x1 of the pixels that differ, half-open.
    """

    cell_ids: tuple[int, ...]
    box: tuple[int, int, int, int]


def find_edit(before: np.ndarray, after: np.ndarray) -> Edit | None:
    """Compare two label images of one shape; None where they are the same.

    Parameters
    ----------
    before, after : numpy.ndarray, (H, W), int
    """
    rows = np.flatnonzero((before != after).any(axis=1))
    if len(rows) == 0:
        return None
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    different = before[y0:y1] != after[y0:y1]
    columns = np.flatnonzero(different.any(axis=0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    ids = np.union1d(before[y0:y1][different], after[y0:y1][different])
    return Edit(tuple(int(one) for one in ids if one > 0), (y0, x0, y1, x1))


def remeasure(result: SmearResult, labels: np.ndarray, edit: Edit, engine: Engine) -> SmearResult:
    """Measure and classify the cells of an edit again, and count anew.

    A correction of a cell that is still there stays.

    Parameters
    ----------
    result : SmearResult
        Before the edit.
    labels : numpy.ndarray, (H, W), int
        After the edit. Numbers of deleted cells stay free, so that the others keep theirs.
    edit : Edit
    engine : Engine
        Its classifier must be the one of `result`.

    Returns
    -------
    SmearResult
    """
    import pandas as pd

    from napari_leukocls.measurement.differential import differential
    from napari_leukocls.scheme import default_scheme

    fresh, kinds = _measured(result, labels, edit, engine)
    kept = result.cells[~result.cells["cell_id"].isin(edit.cell_ids)]
    fresh = _with_corrections(fresh, result.cells)
    cells = pd.concat([part for part in (kept, fresh) if len(part)] or [kept], ignore_index=True)
    cells = cells.sort_values("cell_id", kind="stable", ignore_index=True)
    counts = differential(cells, default_scheme(), engine.classifier.classes, slide_id=result.image.slide_id)
    old = result.segmentation.kind_probabilities
    all_kinds = np.zeros((max(len(old), *edit.cell_ids), old.shape[1]), np.float32)
    all_kinds[: len(old)] = old
    for cell, row in kinds.items():
        all_kinds[cell - 1] = row
    segmentation = replace(
        result.segmentation, labels=np.asarray(labels, np.int32), kind_probabilities=all_kinds
    )
    return replace(result, segmentation=segmentation, cells=cells, counts=counts)


def _measured(
    result: SmearResult, labels: np.ndarray, edit: Edit, engine: Engine
) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Rows of the edit's cells that are still there, and their kinds."""
    from napari_leukocls.measurement.cells import build_cell_table, cell_geometry
    from napari_leukocls.segmentation.light import SeenPixels

    scale = result.segmentation.scale
    y0, x0, y1, x1 = _window(result, edit, labels.shape, int(np.ceil(CONTEXT_UM / scale.um_per_px)))
    part = labels[y0:y1, x0:x1]
    present = np.intersect1d(part, edit.cell_ids)
    lookup = np.zeros(int(max(part.max(initial=0), *edit.cell_ids)) + 1, np.int32)
    lookup[present] = np.arange(1, len(present) + 1)
    local = lookup[part]
    pixels = SeenPixels(result.image.pixels, result.segmentation.light)[y0:y1, x0:x1]
    votes = engine.compact.class_votes(pixels, local, scale.red_cell_diameter_px)[:, 1:]
    kinds = (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    whole = result.segmentation
    segmentation = Segmentation(
        local, kinds, whole.glass_colour, scale, red_cell_density=whole.red_cell_density
    )
    geometry = cell_geometry(local)
    seen = candidates(segmentation, geometry.area)
    image = SmearImage(pixels, result.image.slide_id, result.image.source)
    predictions = finish(classify(image, engine, segmentation, geometry, seen, lambda _: None))
    limit = engine.config.min_confidence
    table = build_cell_table(
        segmentation,
        predictions,
        geometry.ids[seen],
        result.image.slide_id,
        scale.um_per_px,
        engine.classifier.classes,
        engine.classifier.card.review_threshold if limit is None else limit,
        geometry,
    )
    for name, shift in (("y", y0), ("x", x0)):
        table[f"centroid_{name}"] += shift
        table[[f"bbox_{name}0", f"bbox_{name}1"]] += shift
    height, width = labels.shape
    table["touches_border"] = (
        (table["bbox_y0"] == 0)
        | (table["bbox_x0"] == 0)
        | (table["bbox_y1"] == height)
        | (table["bbox_x1"] == width)
    )
    table["cell_id"] = present.astype(np.int32)
    return table, dict(zip((int(one) for one in present), kinds, strict=True))


def _window(
    result: SmearResult, edit: Edit, shape: tuple[int, ...], context: int
) -> tuple[int, int, int, int]:
    """Return the box of the edit, of its cells before it, and of what is around them, within the image."""
    mine = result.cells[result.cells["cell_id"].isin(edit.cell_ids)]
    boxes = np.vstack([mine[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].to_numpy(int), [edit.box]])
    y0, x0 = np.maximum(boxes[:, :2].min(axis=0) - context, 0)
    y1, x1 = np.minimum(boxes[:, 2:].max(axis=0) + context, shape)
    return int(y0), int(x0), int(y1), int(x1)


def _with_corrections(fresh: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Carry what people said of the cells over to their new rows."""
    fresh = fresh.copy()
    said = before[before["corrected_class"].fillna("") != ""].set_index("cell_id")
    for place in fresh.index:
        cell = fresh.at[place, "cell_id"]
        if cell in said.index:
            fresh.loc[place, ["corrected_class", "class"]] = said.at[cell, "corrected_class"]
            fresh.at[place, "reviewer"] = said.at[cell, "reviewer"]
    return fresh


__all__ = ["Edit", "find_edit", "remeasure"]
