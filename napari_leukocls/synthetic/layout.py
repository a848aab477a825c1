"""Positions of the cells of a field, and deformation of cells that touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from napari_leukocls.synthetic.leukocytes import leukocyte_outline
from napari_leukocls.synthetic.platelets_and_debris import platelet_outline
from napari_leukocls.synthetic.recipe import SmearRecipe
from napari_leukocls.synthetic.red_cells import choose_shape, red_cell_outline
from napari_leukocls.synthetic.shapes import flatten_outline

#: Positions that are tried for each cell; if none is free, the one with most space is used.
N_CANDIDATES = 40


@dataclass
class PlacedCell:
    """A cell with its position; micrometres from the corner of the field.

    Attributes
    ----------
    kind : str
        ``red_cell``, ``leukocyte`` or ``platelet``.
    name : str
        Its class.
    shape : str
        For red cells the shape; else empty.
    y, x : float
        Centre.
    outline : numpy.ndarray, (256,)
        Radii.
    fringe : bool
        The centre lies outside the field.
    """

    kind: str
    name: str
    shape: str
    y: float
    x: float
    outline: np.ndarray
    fringe: bool = False

    @property
    def reach(self) -> float:
        """Radius of a disc of about the same area, micrometres."""
        return float(np.sqrt(np.mean(self.outline**2)))


class _Layout:
    """Adds cells to a field one by one, each where there is space for it."""

    def __init__(self, rng: np.random.Generator, recipe: SmearRecipe) -> None:
        self.rng = rng
        self.recipe = recipe
        self.height = recipe.height * recipe.um_per_px
        self.width = recipe.width * recipe.um_per_px
        self.cells: list[PlacedCell] = []
        self._y = np.zeros(0)
        self._x = np.zeros(0)
        self._r = np.zeros(0)
        self._kind = np.zeros(0, dtype="U10")

    def add(self, cell: PlacedCell) -> None:
        self.cells.append(cell)
        self._y = np.append(self._y, cell.y)
        self._x = np.append(self._x, cell.x)
        self._r = np.append(self._r, cell.reach)
        self._kind = np.append(self._kind, cell.kind)

    def anywhere(self, n: int) -> np.ndarray:
        """Points (n, 2) in the field."""
        return self.rng.uniform(0, 1, (n, 2)) * (self.height, self.width)

    def in_margin(self, n: int, margin: float) -> np.ndarray:
        """Points (n, 2) just outside the field."""
        points = (
            self.rng.uniform(0, 1, (40 * n, 2)) * (self.height + 2 * margin, self.width + 2 * margin) - margin
        )
        inside = ((points >= 0) & (points < (self.height, self.width))).all(1)
        return points[~inside][:n]

    def beside(self, n: int, kind: str, gap: tuple[float, float], radius: float) -> np.ndarray:
        """Points beside cells of `kind`, at a share of the touching distance; may be none."""
        mates = np.flatnonzero(self._kind == kind)
        if len(mates) == 0:
            return np.zeros((0, 2))
        mate = self.rng.choice(mates, n)
        angle = self.rng.uniform(0, 2 * np.pi, n)
        far = (self._r[mate] + radius) * self.rng.uniform(*gap, n)
        points = np.stack([self._y[mate] + far * np.sin(angle), self._x[mate] + far * np.cos(angle)], axis=1)
        return points[((points >= 0) & (points < (self.height, self.width))).all(1)]

    def roomiest(self, points: np.ndarray, radius: float, share: dict[str, float]) -> np.ndarray:
        """The first point that is far enough from all cells, else the one with most space."""
        if len(self.cells) == 0:
            return np.asarray(points[0])
        factor = np.array([share[str(kind)] for kind in self._kind])
        need = factor * (self._r + radius)
        far = np.hypot(points[:, :1] - self._y, points[:, 1:] - self._x)
        room = (far - need).min(axis=1)
        free = np.flatnonzero(room >= 0)
        return np.asarray(points[free[0] if len(free) else int(room.argmax())])


def _place_leukocytes(layout: _Layout) -> None:
    rng = layout.rng
    names = [name for name, count in sorted(layout.recipe.leukocytes.items()) for _ in range(count)]
    for name in rng.permutation(names) if names else []:
        outline = leukocyte_outline(rng, str(name))
        radius = float(np.sqrt(np.mean(outline**2)))
        points = layout.anywhere(N_CANDIDATES)
        if rng.random() < 0.1:
            points = np.concatenate([layout.beside(8, "leukocyte", (0.95, 1.05), radius), points])
        y, x = layout.roomiest(points, radius, {"leukocyte": 0.95})
        layout.add(PlacedCell("leukocyte", str(name), "", y, x, outline))


def _place_red_cells(layout: _Layout) -> None:
    rng, recipe = layout.rng, layout.recipe
    red = recipe.red_cells
    margin = red.diameter_um / 2
    ring = (layout.height + 2 * margin) * (layout.width + 2 * margin) - layout.height * layout.width
    n_fringe = (
        int(rng.poisson(red.count * ring / (layout.height * layout.width))) if recipe.fringe_cells else 0
    )
    fringe = np.zeros(red.count + n_fringe, bool)
    fringe[red.count :] = True
    for outside in rng.permutation(fringe):
        shape = choose_shape(rng, red)
        diameter = red.diameter_um * rng.lognormal(0, red.anisocytosis)
        outline = red_cell_outline(rng, shape, diameter)
        radius = float(np.sqrt(np.mean(outline**2)))
        near = rng.uniform(0.5, 0.95) if rng.random() < red.overlap else 1.0
        points = layout.in_margin(N_CANDIDATES, margin) if outside else layout.anywhere(N_CANDIDATES)
        if not outside and rng.random() < red.clustering:
            gap = (near, 1.0) if near < 1 else (1.0, 1.04)
            points = np.concatenate([layout.beside(12, "red_cell", gap, radius), points])
        y, x = layout.roomiest(points, radius, {"red_cell": near, "leukocyte": rng.uniform(0.85, 1.0)})
        layout.add(PlacedCell("red_cell", "red_cell", shape, y, x, outline, bool(outside)))


def _place_platelets(layout: _Layout) -> None:
    rng, recipe = layout.rng, layout.recipe
    for _ in range(recipe.platelets):
        outline = platelet_outline(rng)
        radius = float(np.sqrt(np.mean(outline**2)))
        points = layout.anywhere(N_CANDIDATES)
        if rng.random() < recipe.platelet_clumping:
            points = np.concatenate([layout.beside(12, "platelet", (0.85, 1.1), radius), points])
        share = {"platelet": 0.85, "leukocyte": 1.0, "red_cell": 1.0}
        if rng.random() < 0.12:
            share["red_cell"] = 0.0
        y, x = layout.roomiest(points, radius, share)
        layout.add(PlacedCell("platelet", "platelet", "", y, x, outline))


def _press(rng: np.random.Generator, cells: list[PlacedCell], squeeze: float) -> None:
    """Flatten cells where they touch; red cells are deformed more than leukocytes."""
    if len(cells) < 2:
        return
    centres = np.array([(cell.y, cell.x) for cell in cells])
    reach = np.array([cell.reach for cell in cells])
    for i, j in sorted(cKDTree(centres).query_pairs(2 * float(reach.max()))):
        a, b = cells[i], cells[j]
        if "platelet" in (a.kind, b.kind) and a.kind != b.kind:
            continue
        dy, dx = b.y - a.y, b.x - a.x
        far = float(np.hypot(dy, dx))
        if far >= reach[i] + reach[j] or far < 0.6 * (reach[i] + reach[j]):
            continue
        unlike = a.kind != b.kind
        if not unlike and rng.random() > squeeze:
            continue
        angle = float(np.arctan2(dy, dx))
        share = reach[i] / (reach[i] + reach[j])
        if unlike:
            share = share * 1.08 if a.kind == "leukocyte" else 1 - (1 - share) * 1.08
        overlap = rng.uniform(0.0, 0.25)
        a.outline = flatten_outline(a.outline, angle, far * share + overlap)
        b.outline = flatten_outline(b.outline, angle + np.pi, far * (1 - share) + overlap)


def lay_out(rng: np.random.Generator, recipe: SmearRecipe) -> list[PlacedCell]:
    """Choose position, size and outline of every cell of a recipe.

    Parameters
    ----------
    rng : numpy.random.Generator
    recipe : SmearRecipe

    Returns
    -------
    list of PlacedCell
        In the order in which they are drawn: red cells lowest, then leukocytes, then platelets.
    """
    layout = _Layout(rng, recipe)
    _place_leukocytes(layout)
    _place_red_cells(layout)
    _place_platelets(layout)
    _press(rng, layout.cells, recipe.red_cells.squeeze)
    order = {"red_cell": 0, "leukocyte": 1, "platelet": 2}
    return sorted(layout.cells, key=lambda cell: order[cell.kind])
