"""A part of a smear: analysed alone, with its cells at their places in the whole image."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.errors import ArgumentError
from napari_leukocls.pipeline import Engine, iter_analyze
from napari_leukocls.types import CancelToken, Progress, Segmentation, SmearImage, SmearResult

if TYPE_CHECKING:
    import pandas as pd

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
    """Clip a box to an image of `shape`.

    Raises
    ------
    ArgumentError
        Where too little of it lies in the image.
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
    """Return the region that polygons (corners y, x) enclose; `ArgumentError` where there is none."""
    if not polygons:
        raise ArgumentError("the Shapes layer has no closed shape: draw a rectangle, ellipse or polygon.")
    corners = np.concatenate(polygons)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return replace(region_of_box((*low, *high), shape), polygons=tuple(polygons))


def iter_analyze_region(
    image: SmearImage, region: Region | None, engine: Engine, cancel: CancelToken | None = None
) -> Generator[Progress, None, SmearResult]:
    """Analyse a region as `napari_leukocls.pipeline.iter_analyze` does a whole image.

    Parameters
    ----------
    image : SmearImage
    region : Region or None
        None for the whole image.
    engine : Engine
    cancel : CancelToken, optional

    Returns
    -------
    SmearResult
        Of the whole image: labels have its shape, and places are its pixels.
    """
    if region is None:
        return (yield from iter_analyze(image, engine, cancel))
    y0, x0, y1, x1 = region.box
    part = replace(image, pixels=np.ascontiguousarray(image.pixels[y0:y1, x0:x1]))
    found = yield from iter_analyze(part, engine, cancel)
    return _placed(found, image, region)


def _placed(found: SmearResult, image: SmearImage, region: Region) -> SmearResult:
    """Put what was found in a region at its place in the whole image."""
    from napari_leukocls.measurement.differential import differential
    from napari_leukocls.scheme import default_scheme

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
    classes = found.run["classifier"]["classes"]
    counts = differential(cells, default_scheme(), classes, slide_id=image.slide_id)
    light = found.segmentation.light
    if light is not None:
        light = replace(light, box=region.box)
    segmentation: Segmentation = replace(
        found.segmentation, labels=labels, kind_probabilities=kinds, light=light
    )
    run = {**found.run, "region": list(region.box), "light": None if light is None else asdict(light)}
    return replace(found, image=image, segmentation=segmentation, cells=cells, counts=counts, run=run)


def _inside(cells: pd.DataFrame, polygons: tuple[np.ndarray, ...]) -> np.ndarray:
    """Whether the centre of each cell lies in one of the polygons; everywhere where there are none."""
    from skimage.measure import points_in_poly

    if not polygons or len(cells) == 0:
        return np.ones(len(cells), bool)
    centres = cells[["centroid_y", "centroid_x"]].to_numpy(float)
    return np.any([points_in_poly(centres, polygon) for polygon in polygons], axis=0)


__all__ = ["Region", "iter_analyze_region", "region_of_box", "region_of_polygons"]
