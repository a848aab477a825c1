"""Draws a smear from a recipe and a seed, with the exact truth of every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import ndimage

from napari_leukocls.synthetic.canvas import Canvas, Drawing
from napari_leukocls.synthetic.layout import PlacedCell, lay_out
from napari_leukocls.synthetic.leukocytes import draw_leukocyte
from napari_leukocls.synthetic.optics import compress, take_picture
from napari_leukocls.synthetic.platelets_and_debris import add_arrow, add_scale_bar, add_specks, draw_platelet
from napari_leukocls.synthetic.recipe import SmearRecipe
from napari_leukocls.synthetic.red_cells import draw_red_cell
from napari_leukocls.synthetic.shapes import ANGLES, Textures

#: A cell with fewer visible pixels than this has no label.
MIN_VISIBLE_PX = 9


@dataclass(frozen=True)
class SyntheticCell:
    """The truth about one cell.

    Attributes
    ----------
    cell_id : int
        Its value in the labels.
    name : str
        Class, by the project's names.
    kind : str
        ``red_cell``, ``leukocyte`` (all nucleated cells) or ``platelet``.
    bbox : tuple of int
        (y0, x0, y1, x1), half-open, of the visible pixels.
    centroid : tuple of float
        (y, x) of the visible pixels.
    diameter_um : float
        Of a disc as large as the whole cell, hidden parts included.
    visible_fraction : float
        Visible pixels over all pixels of the cell, those outside the field included.
    fringe : bool
        Its centre lies outside the field.
    shape : str
        Of a red cell: ``round``, ``polychromatic`` or one of `napari_leukocls.synthetic.recipe.RED_CELL_SHAPES`.
    group : str
        Name of the rouleau, heap or platelet clump that it lies in; else empty.
    """

    cell_id: int
    name: str
    kind: str
    bbox: tuple[int, int, int, int]
    centroid: tuple[float, float]
    diameter_um: float
    visible_fraction: float
    fringe: bool
    shape: str = ""
    group: str = ""


@dataclass(frozen=True)
class SyntheticSmear:
    """A drawn smear and its truth.

    Attributes
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        RGB.
    labels : numpy.ndarray, (H, W), int32
        Exact instance masks: 0 is background, cells are 1..N; the upper cell owns a pixel.
    cells : tuple of SyntheticCell
        Item i - 1 is label i.
    um_per_px : float
    recipe : SmearRecipe
    seed : int
    outlines : tuple of numpy.ndarray, (256, 2)
        y, x (pixels) of the whole outline of each cell, with the parts that others cover or that lie outside the
        field.
    """

    pixels: np.ndarray
    labels: np.ndarray
    cells: tuple[SyntheticCell, ...]
    um_per_px: float
    recipe: SmearRecipe
    seed: int
    outlines: tuple[np.ndarray, ...] = ()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a cell; column names as in ``cells.csv`` where both have them."""
        columns = [
            *("cell_id", "class", "kind", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"),
            *("centroid_y", "centroid_x", "diameter_um", "visible_fraction", "fringe"),
            *("shape", "group"),
        ]
        rows = [
            (
                *(c.cell_id, c.name, c.kind, *c.bbox, *c.centroid),
                *(c.diameter_um, c.visible_fraction, c.fringe, c.shape, c.group),
            )
            for c in self.cells
        ]
        return pd.DataFrame(rows, columns=columns)

    def counts(self) -> dict[str, int]:
        """Number of cells of each class whose centre lies in the field."""
        found: dict[str, int] = {}
        for cell in self.cells:
            if not cell.fringe:
                found[cell.name] = found.get(cell.name, 0) + 1
        return found


def _draw(rng: np.random.Generator, textures: Textures, cell: PlacedCell, recipe: SmearRecipe) -> Drawing:
    um_per_px = recipe.um_per_px
    centre = (cell.y / um_per_px, cell.x / um_per_px)
    if cell.kind == "red_cell":
        return draw_red_cell(rng, textures, recipe.red_cells, cell.shape, cell.outline, centre, um_per_px)
    if cell.kind == "leukocyte":
        return draw_leukocyte(rng, textures, cell.name, cell.outline, centre, um_per_px)
    return draw_platelet(rng, textures, cell.outline, centre, um_per_px)


def _truth(
    labels: np.ndarray, placed: list[PlacedCell], whole_px: np.ndarray, um_per_px: float
) -> tuple[np.ndarray, tuple[SyntheticCell, ...], tuple[np.ndarray, ...]]:
    """Remove cells that are not visible, number the others 1..N, and describe and outline each cell."""
    visible = np.bincount(labels.ravel(), minlength=len(placed) + 1)
    kept = np.flatnonzero(visible >= MIN_VISIBLE_PX)
    kept = kept[kept > 0]
    renumber = np.zeros(len(placed) + 1, np.int32)
    renumber[kept] = np.arange(1, len(kept) + 1)
    labels = renumber[labels]
    cells, outlines = [], []
    for cell_id, (old, box) in enumerate(zip(kept, ndimage.find_objects(labels), strict=True), start=1):
        cell = placed[old - 1]
        ys, xs = np.nonzero(labels[box] == cell_id)
        y0, x0 = box[0].start, box[1].start
        cells.append(
            SyntheticCell(
                cell_id=cell_id,
                name=cell.name,
                kind=cell.kind,
                bbox=(y0, x0, box[0].stop, box[1].stop),
                centroid=(float(ys.mean()) + y0, float(xs.mean()) + x0),
                diameter_um=2 * float(np.sqrt(whole_px[old - 1] / np.pi)) * um_per_px,
                visible_fraction=float(visible[old] / max(whole_px[old - 1], 1)),
                fringe=cell.fringe,
                shape=cell.shape,
                group=cell.group,
            )
        )
        around = np.stack(
            [cell.y + cell.outline * np.sin(ANGLES), cell.x + cell.outline * np.cos(ANGLES)], axis=1
        )
        outlines.append(around / um_per_px)
    return labels, tuple(cells), tuple(outlines)


def render_smear(recipe: SmearRecipe, seed: int) -> SyntheticSmear:
    """Draw a smear.

    Parameters
    ----------
    recipe : SmearRecipe
    seed : int
        The same recipe and seed give the same pixels and labels.

    Returns
    -------
    SyntheticSmear
        With the cells of the recipe, except those that others cover completely, and with red cells that the
        edge of the field cuts.

    References
    ----------
    .. [1] Evans and Fung, Improved measurements of the erythrocyte geometry, Microvasc Res 4, 335-347
       (1972): the biconcave profile that the pale centre stands for.
    """
    rng = np.random.default_rng(seed)
    textures = Textures(rng, recipe.um_per_px)
    canvas = Canvas(recipe.height, recipe.width)
    placed = lay_out(rng, recipe)
    whole_px = np.zeros(len(placed), np.int64)
    for index, cell in enumerate(placed):
        whole_px[index] = canvas.lay(_draw(rng, textures, cell, recipe), index + 1)
    add_specks(rng, textures, canvas, recipe.debris, recipe.um_per_px)
    pixels = take_picture(rng, canvas.density, recipe)
    if recipe.arrow:
        add_arrow(rng, pixels, recipe.um_per_px)
    if recipe.scale_bar:
        add_scale_bar(rng, pixels, recipe.um_per_px)
    labels, cells, outlines = _truth(canvas.labels, placed, whole_px, recipe.um_per_px)
    picture = compress(pixels, recipe.camera)
    return SyntheticSmear(picture, labels, cells, recipe.um_per_px, recipe, seed, outlines)
