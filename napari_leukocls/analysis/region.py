"""A region of a field; cells measured again after an edit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from skimage.measure import points_in_poly

from napari_leukocls.analysis.engine import Engine
from napari_leukocls.analysis.field import candidates, classify, iter_analyze
from napari_leukocls.analysis.red_cells import examine_again
from napari_leukocls.classification.single_cell import CONTEXT_UM
from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.absolute import AREA, counted_area
from napari_leukocls.measurement.cells import build_cell_table, cell_geometry
from napari_leukocls.measurement.differential import count_warnings, unsigned
from napari_leukocls.measurement.findings import with_findings
from napari_leukocls.measurement.fine import count_cells, fine_classes_of, with_corrections
from napari_leukocls.measurement.heaps import HEAPS, heap_findings, heap_warnings, is_heap_warning
from napari_leukocls.measurement.nuclei import review_scale
from napari_leukocls.measurement.platelets import is_platelet_warning, measure_platelets
from napari_leukocls.measurement.red_cell_findings import with_red_cells
from napari_leukocls.measurement.smudges import smudge_finding
from napari_leukocls.progress import CancelToken, Progress, drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.illumination import EvenPixels
from napari_leukocls.types import FieldResult, Segmentation, SmearImage

#: The shorter side of the smallest region that can hold a whole cell, pixels.
MIN_REGION_PX = 48


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Attributes
    ----------
    box : tuple of int
        y0, x0, y1, x1 in pixels, half-open.
    polygons : tuple of numpy.ndarray, (K, 2)
        Corners y, x in pixels of the image; a cell whose centre lies in none of them is left out. Empty: the
        whole box.
    """

    box: tuple[int, int, int, int]
    polygons: tuple[np.ndarray, ...] = ()


def region_of_box(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> Region:
    """Clip a box to an image.

    Parameters
    ----------
    box : tuple of float
        y0, x0, y1, x1 in pixels.
    shape : tuple of int
        Shape of the image, (H, W, ...).

    Returns
    -------
    Region

    Raises
    ------
    ArgumentError
        If less than `MIN_REGION_PX` pixels of a side lie in the image.
    """
    height, width = shape[:2]
    y0, x0 = (max(0, int(np.floor(value))) for value in box[:2])
    y1, x1 = min(height, int(np.ceil(box[2]))), min(width, int(np.ceil(box[3])))
    if min(y1 - y0, x1 - x0) < MIN_REGION_PX:
        raise ArgumentError(
            f"the region is smaller than {MIN_REGION_PX} pixels within the image: choose a larger one."
        )
    return Region((y0, x0, y1, x1))


def region_of_polygons(polygons: list[np.ndarray], shape: tuple[int, ...]) -> Region:
    """Enclose polygons in a region.

    Parameters
    ----------
    polygons : list of numpy.ndarray, (K, 2)
        Corners y, x in pixels.
    shape : tuple of int
        Shape of the image, (H, W, ...).

    Returns
    -------
    Region

    Raises
    ------
    ArgumentError
        If there is no polygon, or too little of them lies in the image.
    """
    if not polygons:
        raise ArgumentError("the Shapes layer has no closed shape: draw a rectangle, ellipse or polygon.")
    corners = np.concatenate(polygons)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return replace(region_of_box((*low, *high), shape), polygons=tuple(polygons))


def iter_analyze_region(
    image: SmearImage,
    region: Region | None,
    engine: Engine,
    cancel: CancelToken | None = None,
    others: Sequence[np.ndarray] = (),
) -> Generator[Progress, None, FieldResult]:
    """Analyse a region as `napari_leukocls.analysis.field.iter_analyze` does a whole image.

    Parameters
    ----------
    image : SmearImage
    region : Region or None
        None for the whole image.
    engine : Engine
    cancel : CancelToken, optional
    others : sequence of numpy.ndarray, (H, W, 3), uint8
        Images from the same microscope, which are measured where the red cells in view are too few.

    Returns
    -------
    FieldResult
        Of the whole image: labels have its shape, and places are its pixels.
    """
    if region is None:
        return (yield from iter_analyze(image, engine, cancel, others=others))
    y0, x0, y1, x1 = region.box
    part = replace(image, pixels=np.ascontiguousarray(image.pixels[y0:y1, x0:x1]))
    # What is around the region has its scale.
    found = yield from iter_analyze(part, engine, cancel, others=[image.pixels, *others])
    return _placed(found, image, region)


def _placed(found: FieldResult, image: SmearImage, region: Region) -> FieldResult:
    """Move the cells of a region to their position in the whole image."""
    y0, x0, y1, x1 = region.box
    cells = found.cells.copy()
    for name, shift in (("y", y0), ("x", x0)):
        cells[f"centroid_{name}"] += shift
        cells[[f"bbox_{name}0", f"bbox_{name}1"]] += shift
    keep = _inside(cells, region.polygons)
    old_ids = cells["cell_id"].to_numpy()
    lookup = np.zeros(int(found.labels.max(initial=0)) + 1, np.int32)
    lookup[old_ids[keep]] = np.arange(1, int(keep.sum()) + 1)
    labels = np.zeros(image.pixels.shape[:2], np.int32)
    labels[y0:y1, x0:x1] = lookup[found.labels]
    kinds = found.segmentation.kind_probabilities[old_ids[keep] - 1]
    cells = cells[keep].reset_index(drop=True)
    cells["cell_id"] = np.arange(1, len(cells) + 1, dtype=np.int32)
    red_cells = _red_cells_placed(found.red_cells, lookup, (y0, x0))
    classes = found.run["classifier"]["classes"]
    finer = fine_classes_of(found.run)
    counts = count_cells(cells, default_scheme(), classes, finer, slide_id=image.slide_id)
    light = found.segmentation.light
    if light is not None:
        light = replace(light, box=region.box)
    corner = np.array([x0, y0], np.float32)
    outlines = {int(lookup[cell]): line + corner for cell, line in found.segmentation.outlines.items()}
    outlines.pop(0, None)
    segmentation: Segmentation = replace(
        found.segmentation,
        labels=labels,
        kind_probabilities=kinds,
        light=light,
        outlines=outlines,
        heaps=tuple(heap + corner for heap in found.segmentation.heaps if _is_inside(heap + corner, region)),
    )
    run = {**found.run, "region": list(region.box), "light": None if light is None else asdict(light)}
    placed = replace(
        found,
        image=image,
        segmentation=segmentation,
        cells=cells,
        counts=counts,
        run=run,
        signature=unsigned(cells),
        red_cells=red_cells,
    )
    return with_red_cells(_found_inside(placed, found, region))


def _found_inside(placed: FieldResult, found: FieldResult, region: Region) -> FieldResult:
    """Say anew what was said of the whole box: area, heaps, platelets, smudge cells and too few cells."""
    segmentation, cells = placed.segmentation, placed.cells
    area = counted_area(segmentation, region.box, region.polygons)
    with_heaps = counted_area(replace(segmentation, heaps=()), region.box, region.polygons)
    heaps = 100 * (1 - area / with_heaps) if area is not None and with_heaps else found.run.get(HEAPS) or 0.0
    if found.run.get(AREA, area) is None:
        area = None  # of what is no smear there is no density
    platelets = measure_platelets(segmentation, cells)
    old = count_warnings(found.cells, found.counts)
    warnings = [
        line
        for line in found.warnings
        if line not in old and not is_platelet_warning(line) and not is_heap_warning(line)
    ]
    warnings += [*platelets.warnings(), *heap_warnings(heaps), *count_warnings(cells, placed.counts)]
    kept = tuple(one for one in found.findings if one.name != HEAPS)
    placed = replace(
        placed,
        run=placed.run | platelets.record() | {AREA: area, HEAPS: heaps},
        warnings=tuple(dict.fromkeys(warnings)),
        findings=kept,
    )
    said = [smudge_finding(cells, placed.counts), *platelets.findings(), *heap_findings(heaps)]
    return with_findings(placed, said)


def _red_cells_placed(
    table: pd.DataFrame | None, lookup: np.ndarray, origin: tuple[int, int]
) -> pd.DataFrame | None:
    """Move the red cells of a region; those that `lookup` maps to 0 are outside of it."""
    if table is None:
        return None
    table = table.assign(cell_id=lookup[table["cell_id"]].astype(np.int64))
    for name, shift in zip(("y", "x"), origin, strict=True):
        for column in (f"centroid_{name}", f"bbox_{name}0", f"bbox_{name}1"):
            table[column] = table[column] + shift
    return table[table["cell_id"] > 0].reset_index(drop=True)


def _inside(cells: pd.DataFrame, polygons: tuple[np.ndarray, ...]) -> np.ndarray:
    """Whether the centre of each cell lies in one of the polygons; everywhere where there are none."""
    if not polygons or len(cells) == 0:
        return np.ones(len(cells), bool)
    centres = cells[["centroid_y", "centroid_x"]].to_numpy(float)
    array: np.ndarray = np.any([points_in_poly(centres, polygon) for polygon in polygons], axis=0)
    return array


def _is_inside(heap: np.ndarray, region: Region) -> bool:
    """Whether the middle of a heap lies in one of the polygons of a region; always where there are none."""
    middle = heap.mean(axis=0)[None, ::-1]
    return not region.polygons or any(points_in_poly(middle, polygon)[0] for polygon in region.polygons)


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
    """Compare two label images of one shape.

    Parameters
    ----------
    before, after : numpy.ndarray, (H, W), int

    Returns
    -------
    Edit or None
        None if they are the same.
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


def remeasure(result: FieldResult, labels: np.ndarray, edit: Edit, engine: Engine) -> FieldResult:
    """Measure and classify the cells of an edit again, and count anew.

    A correction of a cell that is still there stays.

    Parameters
    ----------
    result : FieldResult
        Before the edit.
    labels : numpy.ndarray, (H, W), int
        After the edit. Numbers of deleted cells stay free, so that the others keep theirs.
    edit : Edit
    engine : Engine
        Its classifier must be the one of `result`.

    Returns
    -------
    FieldResult
    """
    fresh, kinds = _measured(result, labels, edit, engine)
    kept = result.cells[~result.cells["cell_id"].isin(edit.cell_ids)]
    fresh = _with_corrections(fresh, result.cells)
    cells = pd.concat([part for part in (kept, fresh) if len(part)] or [kept], ignore_index=True)
    cells = cells.sort_values("cell_id", kind="stable", ignore_index=True)
    classes, finer = engine.classifier.classes, engine.finer
    counts = count_cells(cells, default_scheme(), classes, finer, slide_id=result.slide_id)
    old = result.segmentation.kind_probabilities
    all_kinds = np.zeros((max(len(old), *edit.cell_ids), old.shape[1]), np.float32)
    all_kinds[: len(old)] = old
    for cell, row in kinds.items():
        all_kinds[cell - 1] = row
    segmentation = replace(
        result.segmentation,
        labels=np.asarray(labels, np.int32),
        kind_probabilities=all_kinds,
        # A person has drawn these cells: nothing of them is estimated any more.
        outlines={
            cell: line
            for cell, line in result.segmentation.outlines.items()
            if cell not in set(edit.cell_ids)
        },
    )
    after = replace(result, segmentation=segmentation, cells=cells, counts=counts, signature=unsigned(cells))
    return drain(examine_again(result, after, edit.cell_ids, engine))


def _measured(
    result: FieldResult, labels: np.ndarray, edit: Edit, engine: Engine
) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Rows of the edit's cells that are still there, and their kinds."""
    scale = result.segmentation.scale
    y0, x0, y1, x1 = _window(result, edit, labels.shape, int(np.ceil(CONTEXT_UM / scale.um_per_px)))
    part = labels[y0:y1, x0:x1]
    present = np.intersect1d(part, edit.cell_ids)
    lookup = np.zeros(int(max(part.max(initial=0), *edit.cell_ids)) + 1, np.int32)
    lookup[present] = np.arange(1, len(present) + 1)
    local = lookup[part]
    pixels = EvenPixels(result.image.pixels, result.segmentation.light)[y0:y1, x0:x1]
    votes = engine.compact.class_votes(pixels, local, scale.red_cell_diameter_px)[:, 1:]
    kinds = (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    whole = result.segmentation
    segmentation = Segmentation(
        local, kinds, whole.glass_colour, scale, red_cell_density=whole.red_cell_density
    )
    geometry = cell_geometry(local)
    chosen = candidates(segmentation, geometry.area)
    image = SmearImage(pixels, result.slide_id, result.source)
    predictions = drain(classify(image, engine, segmentation, geometry, chosen, lambda _: None))
    limit = engine.config.min_confidence
    table = build_cell_table(
        segmentation,
        predictions,
        geometry.ids[chosen],
        result.slide_id,
        scale.um_per_px,
        engine.classifier.classes,
        engine.classifier.card.review_threshold if limit is None else limit,
        geometry,
        engine.finer,
    )
    review_scale(table, pixels, segmentation)
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
    result: FieldResult, edit: Edit, shape: tuple[int, ...], context: int
) -> tuple[int, int, int, int]:
    """Return the box of the edit, of its cells before it, and of what is around them, within the image."""
    mine = result.cells[result.cells["cell_id"].isin(edit.cell_ids)]
    boxes = np.vstack([mine[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].to_numpy(int), [edit.box]])
    y0, x0 = np.maximum(boxes[:, :2].min(axis=0) - context, 0)
    y1, x1 = np.minimum(boxes[:, 2:].max(axis=0) + context, shape)
    return int(y0), int(x0), int(y1), int(x1)


def _with_corrections(fresh: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Copy the corrections of cells to their new rows."""
    fresh = fresh.copy()
    corrected = before[before["corrected_class"].fillna("") != ""].set_index("cell_id")
    for row in fresh.index:
        cell = fresh.at[row, "cell_id"]
        if cell in corrected.index:
            fresh.loc[row, ["corrected_class", "class"]] = corrected.at[cell, "corrected_class"]
            fresh.at[row, "reviewer"] = corrected.at[cell, "reviewer"]
    return with_corrections(fresh, default_scheme())


__all__ = [
    "Edit",
    "Region",
    "find_edit",
    "iter_analyze_region",
    "region_of_box",
    "region_of_polygons",
    "remeasure",
]
