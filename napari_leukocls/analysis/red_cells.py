"""The red cells of a field: measured, cut at the scale of the model, and sorted by shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.measurement.red_cell_findings import with_red_cells
from napari_leukocls.measurement.red_cell_grades import load_grades
from napari_leukocls.measurement.red_cell_table import build_red_cell_table, with_shape_corrections
from napari_leukocls.measurement.red_cells import measure_red_cells
from napari_leukocls.progress import Steps
from napari_leukocls.scheme import RED_CELL
from napari_leukocls.segmentation.illumination import EvenPixels
from napari_leukocls.types import FieldResult, Segmentation

if TYPE_CHECKING:
    from napari_leukocls.analysis.engine import Engine


def examine(
    pixels: np.ndarray,
    cells: pd.DataFrame,
    segmentation: Segmentation,
    engine: Engine,
    warn: Callable[[str], None],
) -> Steps[pd.DataFrame | None]:
    """Measure the red cells of a field and tell their shapes.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        Under even light.
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; their places are those in `pixels`.
    segmentation : Segmentation
    engine : Engine
    warn : callable
        Called with a warning if the memory of the device ran out.

    Yields
    ------
    Progress

    Returns
    -------
    pandas.DataFrame or None
        As ``red_cells.csv``; None if the configuration does not ask for it.
    """
    model = engine.red_cells
    if model is None:
        return None
    mine = cells[(cells["predicted_class"] == RED_CELL).to_numpy()]
    geometry = cell_geometry(segmentation.labels)
    chosen = np.isin(geometry.ids, mine["cell_id"].to_numpy())
    um, glass = segmentation.scale.um_per_px, segmentation.glass_colour
    covered = tuple(segmentation.outlines)
    measures = measure_red_cells(pixels, segmentation.labels, geometry, glass, um, chosen, covered=covered)
    mine = mine.set_index("cell_id", drop=False).loc[measures["cell_id"]]
    measured = measures["measured"].to_numpy(dtype=bool)
    rows = np.flatnonzero(chosen)[measured]
    crops = cut_crops(
        pixels,
        segmentation.labels,
        geometry.ids[rows],
        geometry.bbox[rows],
        um,
        glass,
        model.card.crop,
        segmentation.red_cell_density,
    )
    predictions = yield from model.iter_predict(crops, engine.config.batch_size, warn)
    return build_red_cell_table(mine, measures, predictions, model.card, load_grades().limits)


def examine_again(
    before: FieldResult, after: FieldResult, cell_ids: Iterable[int], engine: Engine
) -> Steps[FieldResult]:
    """Measure the red cells of a field anew after its outlines were edited.

    Parameters
    ----------
    before, after : FieldResult
        Before and after the edit.
    cell_ids : iterable of int
        Cells that the edit touched.
    engine : Engine

    Yields
    ------
    Progress

    Returns
    -------
    FieldResult
        `after` with its table and findings of red cells.
    """
    if before.red_cells is None or engine.red_cells is None:
        return after
    pixels = EvenPixels(after.image.pixels, after.segmentation.light)
    ids = np.array(sorted(cell_ids), int)
    fresh = after.cells[after.cells["cell_id"].isin(ids)]
    kept = before.red_cells[~before.red_cells["cell_id"].isin(ids)]
    if len(fresh):
        height, width = after.labels.shape
        margin = int(np.ceil(15.0 / after.um_per_px))
        low = np.maximum(fresh[["bbox_y0", "bbox_x0"]].to_numpy(int).min(axis=0) - margin, 0)
        high = np.minimum(fresh[["bbox_y1", "bbox_x1"]].to_numpy(int).max(axis=0) + margin, (height, width))
        window = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
        part = replace(after.segmentation, labels=np.ascontiguousarray(after.labels[window]))
        table = yield from examine(np.asarray(pixels[window]), fresh, part, engine, lambda _: None)
        assert table is not None
        kept = pd.concat([one for one in (kept, table) if len(one)] or [kept], ignore_index=True)
    kept = with_shape_corrections(kept.sort_values("cell_id", kind="stable", ignore_index=True), after.cells)
    return with_red_cells(replace(after, red_cells=kept))


__all__ = ["examine", "examine_again"]
