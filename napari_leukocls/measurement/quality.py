"""Quality of a field: what is measured of its focus, stain and cells before a result is believed.

`measure_quality` gives the figures of one field. `napari_leukocls.measurement.quality_grades` says which of them are
good enough, for a field or for all fields of a slide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_leukocls.measurement.ground import bright_ground
from napari_leukocls.progress import stop_here
from napari_leukocls.types import CELL_KINDS

if TYPE_CHECKING:
    from napari_leukocls.types import Segmentation

RED_CELL, LEUKOCYTE, PLATELET = (CELL_KINDS.index(kind) for kind in ("red_cell", "leukocyte", "platelet"))
#: Finest scale that is looked at, micrometres per pixel: finer images are reduced to it.
FINEST_UM = 0.1
#: Fewest pixels of red-cell edges, beside glass, in which focus can be measured.
FEWEST_EDGE_PX = 200
#: Fewest pixels of a kind of cell whose density is measured.
FEWEST_PX = 100
#: Half width of the band around an edge in which its steepest point is looked for, micrometres.
EDGE_UM = 0.8
#: Depth in a red cell at which the density of its rim is read, micrometres.
RIM_UM = (0.5, 1.5)
#: Stained area without an outline is counted from this distance to the next outline on, micrometres.
OFF_OUTLINES_UM = 0.6
#: It must hold a disc of this diameter, micrometres: thinner strands are no cells.
PIECE_UM = 2.0
#: Share of the red cells' density from which on a pixel is stained.
STAINED = 0.6
#: Stain that is fainter than this (natural optical density, green) is not told from dirty glass.
FAINTEST = 0.08
#: Areas of grains of precipitate, square micrometres: smaller is noise, larger is a platelet or a cell.
GRAIN_UM2 = (0.05, 3.0)
#: The share of red cells with a drying artefact is of at least this many cells.
FEWEST_RED_CELLS = 10
#: A drying artefact is a bright spot in a red cell, narrower than twice this radius, micrometres.
SPOT_UM = 0.9
#: Its height, as a share of the cell's density; its steepness, as a share of that of the cells' edges; its area.
SPOT_HEIGHT, SPOT_STEEPNESS, SPOT_UM2 = 0.5, 0.7, 0.06


@dataclass(frozen=True)
class FieldQuality:
    """Figures of one field. What could not be measured is nan.

    Densities are natural optical densities against the glass of the field.

    Attributes
    ----------
    area_um2 : float
        Area of the field, square micrometres.
    red_cells : int
        Outlined red cells.
    focus_um : float
        Width of the edges of red cells, micrometres: their contrast divided by their steepest slope.
    red_coverage : float
        Share of the area beside leukocytes that red cells cover, 0-1.
    red_density_r, red_density_g, red_density_b : float
        Median density of the red cells.
    nuclear_density_r, nuclear_density_g, nuclear_density_b : float
        Median density of the darker half of the leukocytes.
    not_outlined : float
        Share of the stained area that has no outline and is no heap, 0-1.
    heaps : float
        Share of the area that lies in heaps too thick to count, 0-1.
    grains : float
        Grains as dark as nuclei beside the cells, per 1000 square micrometres.
    drying : float
        Share of the red cells with a glassy spot, 0-1.
    bright_ground : float
        Share of what is no cell that is as bright as glass, 0-1.
    inverted : float
        1 if the cells are brighter than the glass, else 0.
    """

    area_um2: float
    red_cells: int
    focus_um: float = math.nan
    red_coverage: float = math.nan
    red_density_r: float = math.nan
    red_density_g: float = math.nan
    red_density_b: float = math.nan
    nuclear_density_r: float = math.nan
    nuclear_density_g: float = math.nan
    nuclear_density_b: float = math.nan
    not_outlined: float = math.nan
    heaps: float = 0.0
    grains: float = math.nan
    drying: float = math.nan
    bright_ground: float = math.nan
    inverted: float = 0.0

    def record(self) -> dict[str, float | None]:
        """Return the figures as ``run.json`` holds them: four digits, and None for nan."""
        return {
            name: round(value, 4) if math.isfinite(value) else None for name, value in asdict(self).items()
        }

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> FieldQuality:
        """Read what `record` has returned.

        Parameters
        ----------
        record : mapping

        Returns
        -------
        FieldQuality
        """
        values = {one.name: record.get(one.name) for one in fields(cls)}
        red_cells = int(values.pop("red_cells") or 0)
        numbers = {name: math.nan if value is None else float(value) for name, value in values.items()}
        return cls(red_cells=red_cells, **numbers)


def measure_quality(pixels: np.ndarray, segmentation: Segmentation) -> FieldQuality:
    """Measure the quality of a field from its pixels and outlines.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        RGB, under even light.
    segmentation : Segmentation
        Of `pixels`.

    Returns
    -------
    FieldQuality
    """
    um = segmentation.scale.um_per_px
    labels = np.asarray(segmentation.labels)
    kinds = np.full(int(labels.max(initial=0)) + 1, -1)
    if len(segmentation.kind_probabilities):
        best = segmentation.kind_probabilities.argmax(axis=1)
        kinds[1 : len(best) + 1] = best[: len(kinds) - 1]
    area = labels.size * um * um
    n_red = int((kinds[np.unique(labels)] == RED_CELL).sum())
    ground = bright_ground(pixels, labels, segmentation.heaps)
    if not math.isfinite(um) or n_red == 0 and not (kinds == LEUKOCYTE).any():
        return FieldQuality(area, n_red, bright_ground=ground)
    stop_here()
    view = _View.of(pixels, labels, kinds, segmentation)
    stop_here()
    red, nuclei = view.density_of(view.red), view.nuclear_density()
    steepness = view.edge_steepness()
    rim = view.rim_contrast()
    in_heaps = float(view.heaps.mean()) if view.heaps.any() else 0.0
    return FieldQuality(
        area,
        n_red,
        focus_um=rim / steepness if steepness > 0 else math.nan,
        red_coverage=_share(view.red, view.kind != LEUKOCYTE),
        **dict(zip(("red_density_r", "red_density_g", "red_density_b"), red, strict=True)),
        **dict(zip(("nuclear_density_r", "nuclear_density_g", "nuclear_density_b"), nuclei, strict=True)),
        not_outlined=view.not_outlined(red[1]),
        heaps=in_heaps,
        grains=view.grains(red[0], nuclei[0]) / area * 1000,
        drying=view.drying(red[1], steepness),
        bright_ground=ground,
    )


@dataclass(frozen=True)
class _View:
    """A field at a scale that is fine enough for the figures.

    Attributes
    ----------
    density : numpy.ndarray, (h, w, 3), float32
        Natural optical density against the glass.
    labels : numpy.ndarray, (h, w), int
    kind : numpy.ndarray, (h, w), int
        Index into `CELL_KINDS`; -1 for glass.
    heaps : numpy.ndarray, (h, w), bool
    um : float
        Micrometres per pixel.
    """

    density: np.ndarray
    labels: np.ndarray
    kind: np.ndarray
    heaps: np.ndarray
    um: float

    @classmethod
    def of(cls, pixels: np.ndarray, labels: np.ndarray, kinds: np.ndarray, found: Segmentation) -> _View:
        um = found.scale.um_per_px
        factor = min(1.0, um / FINEST_UM)
        size = (max(1, round(labels.shape[1] * factor)), max(1, round(labels.shape[0] * factor)))
        heaps: np.ndarray = np.zeros(labels.shape, np.uint8)
        for outline in found.heaps:
            cv2.fillPoly(heaps, [np.round(outline).astype(np.int32)], 1)
        if factor < 1:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            labels = cv2.resize(labels.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
            heaps = cv2.resize(heaps, size, interpolation=cv2.INTER_NEAREST)
        glass = np.asarray(found.glass_colour, float)
        if not np.isfinite(glass).all():
            glass = np.percentile(pixels.reshape(-1, 3)[:: max(1, labels.size // 200_000)], 98, axis=0)
        levels = np.arange(256)[:, None] / np.maximum(glass, 20.0)
        table = -np.log(np.clip(levels, 1 / 255, 1.2)).astype(np.float32)
        density = np.stack([table[:, i][pixels[..., i]] for i in range(3)], axis=-1)
        return cls(density, labels, kinds[labels], heaps > 0, um / factor)

    @property
    def red(self) -> np.ndarray:
        return np.asarray(self.kind == RED_CELL)

    def disc(self, radius_um: float) -> np.ndarray:
        side = 2 * max(1, round(radius_um / self.um)) + 1
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))

    def smooth(self, channel: int, sigma_um: float = 0.12) -> np.ndarray:
        plane = np.ascontiguousarray(self.density[..., channel])
        return cv2.GaussianBlur(plane, (0, 0), max(0.3, sigma_um / self.um))

    def density_of(self, where: np.ndarray) -> tuple[float, float, float]:
        if where.sum() < FEWEST_PX:
            return (math.nan, math.nan, math.nan)
        values = self.density[where]
        red, green, blue = np.median(values[:: max(1, len(values) // 200_000)], axis=0)
        return (float(red), float(green), float(blue))

    def nuclear_density(self) -> tuple[float, float, float]:
        where = self.kind == LEUKOCYTE
        if where.sum() < FEWEST_PX:
            return (math.nan, math.nan, math.nan)
        level = np.median(self.density[..., 0][where])
        return self.density_of(where & (self.density[..., 0] >= level))

    def depth(self) -> np.ndarray:
        """Depth of each pixel in red cells, micrometres."""
        return np.asarray(cv2.distanceTransform(self.red.astype(np.uint8), cv2.DIST_L2, 5) * self.um)

    def rim_contrast(self) -> float:
        """Density of the rims of red cells over that of the glass, green."""
        stop_here()
        depth = self.depth()
        rim = self.density[..., 1][(depth > RIM_UM[0]) & (depth < RIM_UM[1])]
        glass = self.density[..., 1][(self.kind < 0) & ~self.heaps]
        if len(rim) < FEWEST_PX or len(glass) < FEWEST_PX:
            return math.nan
        return float(np.median(rim) - np.median(glass))

    def slope(self) -> np.ndarray:
        """Slope of the green density, per micrometre; 3 x 3 Sobel."""
        plane = np.ascontiguousarray(self.density[..., 1])
        across, down = (cv2.Sobel(plane, cv2.CV_32F, *way, ksize=3) for way in ((1, 0), (0, 1)))
        return np.asarray(np.hypot(across, down) / 8 / self.um)

    def edge_steepness(self) -> float:
        """Slope at the steepest point of the edges between red cells and glass, per micrometre: the median."""
        stop_here()
        around = cv2.dilate(self.red.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        edge = around & (self.kind < 0) & ~self.heaps
        if edge.sum() < FEWEST_EDGE_PX:
            return math.nan
        side = 2 * max(1, round(EDGE_UM / self.um)) + 1
        steepest = cv2.dilate(self.slope(), np.ones((side, side), np.uint8))
        return float(np.median(steepest[edge]))

    def not_outlined(self, red_density: float) -> float:
        """Share of the stained area that is far from all outlines."""
        stop_here()
        if not math.isfinite(red_density):
            return math.nan
        stained = self.smooth(1, 0.25) > max(STAINED * red_density, FAINTEST)
        glass = ((self.labels == 0) & ~self.heaps).astype(np.uint8)
        far = cv2.distanceTransform(glass, cv2.DIST_L2, 5) * self.um > OFF_OUTLINES_UM
        pieces = cv2.morphologyEx((stained & far).astype(np.uint8), cv2.MORPH_OPEN, self.disc(PIECE_UM / 2))
        return float(pieces.sum()) / max(1, int((stained | (self.labels > 0)).sum()))

    def grains(self, red_density: float, nuclear_density: float) -> float:
        """Number of small spots beside the cells that are nearer to nuclei than to red cells in density."""
        stop_here()
        if not math.isfinite(nuclear_density):
            return math.nan
        level = (nuclear_density + (red_density if math.isfinite(red_density) else 0.0)) / 2
        glass = cv2.distanceTransform((self.labels == 0).astype(np.uint8), cv2.DIST_L2, 5) * self.um > 0.5
        dark = ((self.density[..., 0] > level) & glass).astype(np.uint8)
        _, _, found, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
        size = found[1:, cv2.CC_STAT_AREA] * self.um**2
        return float(((size >= GRAIN_UM2[0]) & (size <= GRAIN_UM2[1])).sum())

    def drying(self, red_density: float, steepness: float) -> float:
        """Share of red cells with a small, bright, sharp spot."""
        stop_here()
        n_red = len(np.unique(self.labels[self.red]))
        if n_red < FEWEST_RED_CELLS or not math.isfinite(steepness) or not red_density > 0:
            return math.nan
        plane = self.smooth(1)
        height = cv2.morphologyEx(plane, cv2.MORPH_CLOSE, self.disc(SPOT_UM)) - plane
        stop_here()
        sharp = cv2.dilate(self.slope(), self.disc(0.5)) > SPOT_STEEPNESS * steepness
        spot = (height > SPOT_HEIGHT * red_density) & sharp & (self.depth() > SPOT_UM)
        size = np.bincount(self.labels[spot]) * self.um**2
        return float((size[1:] >= SPOT_UM2).sum()) / n_red


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    n = int(whole.sum())
    return float((part & whole).sum()) / n if n else math.nan
