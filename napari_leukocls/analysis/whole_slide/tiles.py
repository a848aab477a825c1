"""A slide in tiles: each cell belongs to the tile that holds its centre, and comes out once and whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_leukocls.analysis.engine import Engine
from napari_leukocls.analysis.field import outline, tabulate
from napari_leukocls.analysis.quality_check import check_field
from napari_leukocls.analysis.red_cells import examine
from napari_leukocls.analysis.slide_familiarity import SlideTest
from napari_leukocls.analysis.whole_slide.survey import BLURRED, GLASS, MONOLAYER, PART_UM, THICK, Survey
from napari_leukocls.io.labels import LabelStore
from napari_leukocls.io.slides.base import SlideImage
from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.measurement.heaps import heap_area, heap_within
from napari_leukocls.measurement.platelets import PlateletFigures, measure_platelets
from napari_leukocls.measurement.quality import FieldQuality, measure_quality
from napari_leukocls.progress import CancelToken, Progress, staged
from napari_leukocls.types import Scale, Segmentation, SmearImage

if TYPE_CHECKING:
    import pandas as pd

#: Margin around a tile on each side, micrometres: the largest leukocyte, from its centre on, lies within it.
HALO_UM = 20.0
#: Pixels of a tile with its halo at most: what bounds memory.
MAX_WINDOW_PIXELS = 24_000_000
#: Side of a tile with its halo at most, micrometres: two blocks of the segmenter's.
MAX_WINDOW_UM = 480.0
#: The centre of a cell on the seam differs a little between two tiles: both may claim it this far out, micrometres.
CLAIM_UM = 0.75
#: Share of a cell that lies on cells of an earlier tile before it is taken for the same cell.
SAME_CELL = 0.4
#: Largest distance of a whole outline from what is kept of it, in red-cell diameters: a slide has many.
SIMPLE = 0.01


@dataclass(frozen=True)
class Tile:
    """Parts of a survey that are analysed together.

    Attributes
    ----------
    rows, columns : slice
        Of the survey's parts.
    core, window : tuple of int
        y0, y1, x0, x1 in pixels of the finest level. The tile owns the cells whose centre lies in the core; the
        networks get the pixels of the window.
    """

    rows: slice
    columns: slice
    core: tuple[int, int, int, int]
    window: tuple[int, int, int, int]


def tiles_of(survey: Survey, states: np.ndarray, um_per_px: float) -> list[Tile]:
    """Cover all parts that are to be analysed, in reading order.

    Parameters
    ----------
    survey : Survey
    states : numpy.ndarray, (R, C)
    um_per_px : float

    Returns
    -------
    list of Tile
        A tile is cut to the parts in it that are to be analysed; where there are none, there is no tile.
    """
    side_um = min(MAX_WINDOW_UM, np.sqrt(MAX_WINDOW_PIXELS) * um_per_px)
    group = max(1, int((side_um - 2 * HALO_UM) / PART_UM))
    halo = int(np.ceil(HALO_UM / um_per_px))
    height, width = int(survey.rows[-1]), int(survey.columns[-1])
    found = []
    for top in range(0, states.shape[0], group):
        for left in range(0, states.shape[1], group):
            wanted = states[top : top + group, left : left + group] == MONOLAYER
            if not wanted.any():
                continue
            r, c = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
            rows = slice(top + int(r[0]), top + int(r[-1]) + 1)
            columns = slice(left + int(c[0]), left + int(c[-1]) + 1)
            core = (
                *(int(survey.rows[rows.start]), int(survey.rows[rows.stop])),
                *(int(survey.columns[columns.start]), int(survey.columns[columns.stop])),
            )
            window = (
                *(max(0, core[0] - halo), min(height, core[1] + halo)),
                *(max(0, core[2] - halo), min(width, core[3] + halo)),
            )
            found.append(Tile(rows, columns, core, window))
    return found


def parts_of(tile: Tile) -> Iterator[tuple[int, int]]:
    """List the parts of a tile.

    Parameters
    ----------
    tile : Tile

    Yields
    ------
    tuple of int
        Row and column in the survey.
    """
    for row in range(tile.rows.start, tile.rows.stop):
        for column in range(tile.columns.start, tile.columns.stop):
            yield row, column


@dataclass
class SlideJob:
    """The slide that is being analysed: what its tiles share, and the cells found so far.

    Attributes
    ----------
    slide : SlideImage
    slide_id : str
    engine : Engine
    scale : Scale
    survey : Survey
    states : numpy.ndarray, (R, C), object
        State of each part of the survey.
    labels : LabelStore
    test : SlideTest
        Whether the stain and the camera are like those that the classifier knows.
    inverted : bool
        Whether its cells are brighter than the glass.
    n_cells : int
        Cells found so far.
    measured : list of FieldQuality
        Of each tile so far.
    platelets : PlateletFigures
        Of all tiles so far.
    sampled : frozenset of tuple of int
        Cores of the tiles whose red cells are looked at.
    red_cells : list of pandas.DataFrame
        Their red cells, as in ``red_cells.csv``.
    outlines : dict of int to numpy.ndarray, (M, 2), float32
        Whole outlines of covered cells so far, by id: x, y in pixels of the slide.
    heaps : list of numpy.ndarray, (M, 2), float32
        Heaps too thick to count so far, cut at the borders of the parts: x, y in pixels of the slide.
    heap_px : numpy.ndarray, (R, C)
        Their area in each part, square pixels.
    """

    slide: SlideImage
    slide_id: str
    engine: Engine
    scale: Scale
    survey: Survey
    states: np.ndarray
    labels: LabelStore
    test: SlideTest
    inverted: bool = False
    n_cells: int = 0
    measured: list[FieldQuality] = field(default_factory=list)
    platelets: PlateletFigures = PlateletFigures()
    sampled: frozenset[tuple[int, int, int, int]] = frozenset()
    red_cells: list[pd.DataFrame] = field(default_factory=list)
    outlines: dict[int, np.ndarray] = field(default_factory=dict)
    heaps: list[np.ndarray] = field(default_factory=list)
    heap_px: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.heap_px = np.zeros(self.states.shape)


def analyse_tile(
    job: SlideJob, tile: Tile, pixels: np.ndarray, token: CancelToken, warn: Callable[[str], None]
) -> Generator[Progress, None, pd.DataFrame]:
    """Outline and classify the cells that a tile owns, and paint them into the slide's labels.

    Parameters
    ----------
    job : SlideJob
        Its `n_cells` goes up, and the red cells of a sampled tile are added.
    tile : Tile
    pixels : numpy.ndarray, (h, w, 3), uint8
        Of the tile's window.
    token : CancelToken
    warn : callable

    Returns
    -------
    pandas.DataFrame
        Columns as in ``cells.csv``; places and ids are the slide's.
    """
    image = SmearImage(pixels, job.slide_id, job.slide.source)
    found = yield from staged("tiles", token, outline(image, job.engine, job.scale))
    for line in found.warnings:
        warn(line)
    if not np.isfinite(found.glass_colour).all():
        found = replace(found, glass_colour=job.survey.glass_colour)
    # With the cells around the tile's own, which would be stain without an outline.
    quality = measure_quality(pixels, found)
    mine = _owned(job, tile, found)
    # The label image of a tile takes most of the memory: only one is kept at a time.
    del found
    cells = yield from tabulate(image, job.engine, mine, token, warn, job.test)
    job.measured += check_field(image, mine, cells, quality, job.inverted).measured
    job.platelets += measure_platelets(mine, cells)
    y0, _, x0, _ = tile.window
    if tile.core in job.sampled:
        red_cells = yield from staged("tiles", token, examine(pixels, cells, mine, job.engine, warn))
        if red_cells is not None:
            job.red_cells.append(_moved(red_cells, y0, x0, job).drop(columns="touches_border"))
    job.labels.paint(y0, x0, mine.labels, job.n_cells)
    _keep_hidden_parts(job, tile, mine)
    cells = _moved(cells, y0, x0, job)
    job.n_cells += len(cells)
    return cells


def _owned(job: SlideJob, tile: Tile, found: Segmentation) -> Segmentation:
    """Keep the cells whose centre lies in the tile's core and that no earlier tile has painted."""
    geometry = cell_geometry(found.labels)
    y0, y1, x0, x1 = tile.window
    centre_y, centre_x = geometry.centroid[:, 0] + y0, geometry.centroid[:, 1] + x0
    claim = CLAIM_UM / job.scale.um_per_px
    keep = (centre_y >= tile.core[0] - claim) & (centre_y < tile.core[1] + claim)
    keep &= (centre_x >= tile.core[2] - claim) & (centre_x < tile.core[3] + claim)
    row = np.clip(np.searchsorted(job.survey.rows, centre_y, "right") - 1, 0, len(job.survey.rows) - 2)
    columns = job.survey.columns
    column = np.clip(np.searchsorted(columns, centre_x, "right") - 1, 0, len(columns) - 2)
    keep &= ~np.isin(job.states[row, column].astype(str), (THICK, BLURRED))
    taken = job.labels.read(y0, y1, x0, x1) > 0
    covered = np.bincount(found.labels[taken], minlength=int(found.labels.max(initial=0)) + 1)
    keep &= covered[geometry.ids] <= SAME_CELL * geometry.area
    lookup = np.zeros(len(covered), np.int32)
    lookup[geometry.ids[keep]] = np.arange(1, int(keep.sum()) + 1)
    labels = lookup[found.labels]
    labels[taken] = 0
    kinds = found.kind_probabilities[geometry.ids[keep] - 1]
    outlines = {int(lookup[cell]): line for cell, line in found.outlines.items() if lookup[cell]}
    return replace(found, labels=labels, kind_probabilities=kinds, warnings=(), outlines=outlines)


def _keep_hidden_parts(job: SlideJob, tile: Tile, mine: Segmentation) -> None:
    """Move whole outlines and heaps to the slide; of heaps what lies in the parts that the tile analyses."""
    corner = np.array([tile.window[2], tile.window[0]], np.float32)
    fine = SIMPLE * job.scale.red_cell_diameter_px
    for cell, line in mine.outlines.items():
        job.outlines[job.n_cells + cell] = cv2.approxPolyDP(line + corner, fine, True)[:, 0]
    for heap in mine.heaps:
        for row, column in parts_of(tile):
            if job.states[row, column] != MONOLAYER:
                continue
            y0, y1, x0, x1 = job.survey.box(row, column)
            part = heap_within(heap + corner, (y0, x0, y1, x1))
            if heap_area(part) >= 1:
                job.heaps.append(part)
                job.heap_px[row, column] += heap_area(part)


def _moved(cells: pd.DataFrame, y0: int, x0: int, job: SlideJob) -> pd.DataFrame:
    """Places from the tile's to the slide's, and ids that go on where the last tile's ended."""
    height, width, _ = job.slide.shape
    moved = {"cell_id": cells["cell_id"] + np.int32(job.n_cells)}
    for axis, start in (("y", y0), ("x", x0)):
        for name in (f"centroid_{axis}", f"bbox_{axis}0", f"bbox_{axis}1"):
            moved[name] = cells[name] + start
    edge = (moved["bbox_y0"] <= 0) | (moved["bbox_x0"] <= 0)
    edge |= (moved["bbox_y1"] >= height) | (moved["bbox_x1"] >= width)
    return cells.assign(**moved, touches_border=edge)


def states_of(parts: np.ndarray) -> dict[str, float]:
    """Measure the percentage of parts in each state.

    Parameters
    ----------
    parts : numpy.ndarray, (R, C), object
        A state for each part.

    Returns
    -------
    dict of str to float
        Percent by state.
    """
    return {
        name: round(100 * float(np.mean(parts == name)), 2) for name in (GLASS, MONOLAYER, THICK, BLURRED)
    }
