"""Positions of the cells of a field, and deformation of cells that touch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from napari_leukocls.synthetic.leukocytes import leukocyte_outline
from napari_leukocls.synthetic.platelets_and_debris import platelet_outline
from napari_leukocls.synthetic.recipe import RedCellRecipe, SmearRecipe
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
    group : str
        Name of the rouleau, heap or clump that it is part of; else empty.
    """

    kind: str
    name: str
    shape: str
    y: float
    x: float
    outline: np.ndarray
    fringe: bool = False
    group: str = ""

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
    n_single = red.count - _place_groups(layout)
    fringe = np.zeros(n_single + n_fringe, bool)
    fringe[n_single:] = True
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


#: Cells of a rouleau and of a heap, and distance of neighbours as a share of the touching distance.
ROULEAU, HEAP, CLUMP = (4, 9), (6, 18), (6, 17)
ROULEAU_GAP, HEAP_GAP, CLUMP_GAP = (0.28, 0.45), (0.4, 0.85), (0.8, 1.0)


def _place_groups(layout: _Layout) -> int:
    """Place the cells that lie in rouleaux and heaps; how many these are."""
    rng, red = layout.rng, layout.recipe.red_cells
    placed = 0
    for kind, share, sizes in (("rouleau", red.rouleaux, ROULEAU), ("heap", red.heaps, HEAP)):
        left, number = round(share * red.count), 0
        while left:
            n = min(int(rng.integers(*sizes)), left)
            number += 1
            cells = [_new_red_cell(rng, red, f"{kind} {number}") for _ in range(n)]
            _place_group(
                layout, cells, _in_line(rng, cells) if kind == "rouleau" else _in_heap(rng, cells, HEAP_GAP)
            )
            left, placed = left - n, placed + n
    return placed


def _new_red_cell(rng: np.random.Generator, red: RedCellRecipe, group: str) -> PlacedCell:
    shape = choose_shape(rng, red)
    outline = red_cell_outline(rng, shape, red.diameter_um * rng.lognormal(0, red.anisocytosis))
    return PlacedCell("red_cell", "red_cell", shape, 0.0, 0.0, outline, group=group)


def _in_line(rng: np.random.Generator, cells: list[PlacedCell]) -> np.ndarray:
    """Centres (n, 2) of cells that lie like a fallen stack of coins, in a slight curve."""
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.12)
    points = [np.zeros(2)]
    for one, other in pairwise(cells):
        step = (one.reach + other.reach) * rng.uniform(*ROULEAU_GAP)
        points.append(points[-1] + step * np.array([np.sin(angle), np.cos(angle)]))
        angle += bend
    return np.asarray(np.array(points) - np.mean(points, axis=0))


def _in_heap(rng: np.random.Generator, cells: list[PlacedCell], gap: tuple[float, float]) -> np.ndarray:
    """Centres (n, 2) of cells each of which lies on or against one of those before it."""
    points = np.zeros((len(cells), 2))
    for i in range(1, len(cells)):
        mate = int(rng.integers(i))
        far = (cells[mate].reach + cells[i].reach) * rng.uniform(*gap)
        around = rng.uniform(0, 2 * np.pi, 6)
        tries = points[mate] + far * np.stack([np.sin(around), np.cos(around)], axis=1)
        # The try with the most space: a heap spreads over the glass.
        room = np.hypot(*(tries[:, None] - points[None, :i]).transpose(2, 0, 1)).min(axis=1)
        points[i] = tries[int(room.argmax())]
    return np.asarray(points - points.mean(axis=0))


def _place_group(layout: _Layout, cells: list[PlacedCell], offsets: np.ndarray) -> None:
    """Add a group of cells where there is space for all of it."""
    reach = float(max(np.hypot(*offset) + cell.reach for cell, offset in zip(cells, offsets, strict=True)))
    share = {"red_cell": 1.0, "leukocyte": 1.0, "platelet": 1.0}
    # All centres lie in the field, if the field is large enough.
    size = np.array([layout.height, layout.width])
    inside = np.minimum(np.abs(offsets).max(axis=0) / size, 0.5) * size
    points = inside + layout.rng.uniform(0, 1, (N_CANDIDATES, 2)) * (size - 2 * inside)
    y, x = layout.roomiest(points, reach, share)
    for cell, (dy, dx) in zip(cells, offsets, strict=True):
        cell.y, cell.x = float(y + dy), float(x + dx)
        cell.fringe = not (0 <= cell.y < layout.height and 0 <= cell.x < layout.width)
        layout.add(cell)


def _place_clumps(layout: _Layout) -> None:
    """Place the platelets that lie in clumps."""
    rng = layout.rng
    for number in range(1, layout.recipe.platelet_clumps + 1):
        n = int(rng.integers(*CLUMP))
        cells = [
            PlacedCell("platelet", "platelet", "", 0.0, 0.0, platelet_outline(rng), group=f"clump {number}")
            for _ in range(n)
        ]
        _place_group(layout, cells, _in_heap(rng, cells, CLUMP_GAP))


def _place_platelets(layout: _Layout) -> None:
    rng, recipe = layout.rng, layout.recipe
    _place_clumps(layout)
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
        if a.group and a.group == b.group:
            continue  # they lie over each other
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
