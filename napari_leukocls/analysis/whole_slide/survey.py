"""A slide at low resolution: glass, monolayer and thick parts, and how sharp they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.filters import threshold_otsu

from napari_leukocls.io.slides.base import SlideImage

GLASS, MONOLAYER, THICK, BLURRED = "glass", "monolayer", "thick", "out_of_focus"

STATES = (GLASS, MONOLAYER, THICK, BLURRED)

#: Side of a part of the slide, which is analysed or skipped as a whole, micrometres.
PART_UM = 96.0
#: A part of which a smaller share is stained is empty glass.
MIN_COVERAGE = 0.004
#: In a part of which a larger share is stained, cells lie on each other.
MAX_COVERAGE = 0.93
#: A part whose sharpness is below this share of the slide's usual sharpness is out of focus.
MIN_SHARPNESS = 0.45
#: Pixels of the survey, micrometres at most: a red cell is two across.
SURVEY_UM = 3.5
#: Scale at which sharpness is measured, micrometres per pixel.
FOCUS_UM = 0.25
#: Number of parts in which the usual sharpness of a slide is measured.
FOCUS_SAMPLES = 24
#: Absorbance (density, base 10) that stain has at least, whatever the threshold found.
MIN_STAIN = 0.03
#: Pixels a side that the survey has at most.
MAX_SURVEY = 6000
#: Pixels a side that are read at a time.
_PIECE = 2048


@dataclass(frozen=True)
class Survey:
    """The parts of a slide, measured before cells are segmented.

    Attributes
    ----------
    rows, columns : numpy.ndarray, (R + 1,) and (C + 1,)
        Edges of the parts, pixels of the finest level.
    coverage : numpy.ndarray, (R, C)
        Share that is stained.
    stain : numpy.ndarray, (R, C)
        Mean optical density (base 10) of the stained pixels, over the three channels; nan without any.
    glass_colour : tuple of float
        RGB, 0-255.
    """

    rows: np.ndarray
    columns: np.ndarray
    coverage: np.ndarray
    stain: np.ndarray
    glass_colour: tuple[float, float, float]

    def states(self) -> np.ndarray:
        """Classify the parts by how much of them is stained, before their focus is measured.

        Returns
        -------
        numpy.ndarray, (R, C), object
            One of `STATES` for each part.
        """
        found = np.full(self.coverage.shape, MONOLAYER, dtype=object)
        found[self.coverage < MIN_COVERAGE] = GLASS
        found[self.coverage > MAX_COVERAGE] = THICK
        return found

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Give the box of a part.

        Parameters
        ----------
        row, column : int

        Returns
        -------
        tuple of int
            y0, y1, x0, x1 in pixels of the finest level.
        """
        y, x = self.rows[row : row + 2], self.columns[column : column + 2]
        return int(y[0]), int(y[1]), int(x[0]), int(x[1])


def overview(slide: SlideImage, longest: int) -> tuple[np.ndarray, float]:
    """Reduce a slide to a small picture, reading it in pieces.

    Parameters
    ----------
    slide : SlideImage
    longest : int
        Pixels of the longer side, at most.

    Returns
    -------
    pixels : numpy.ndarray, (h, w, 3), uint8
    step : float
        Pixels of the finest level for each of its pixels.
    """
    wanted = max(1.0, max(slide.shape) / longest)
    level = slide.coarse_level(wanted)
    here = slide.levels[level]
    step = min(max(1, int(np.ceil(wanted / here.downsample))), here.height, here.width)
    small = np.empty((here.height // step, here.width // step, 3), np.uint8)
    piece = max(1, _PIECE // step)
    for y0 in range(0, small.shape[0], piece):
        for x0 in range(0, small.shape[1], piece):
            y1, x1 = min(y0 + piece, small.shape[0]), min(x0 + piece, small.shape[1])
            part = slide.read(y0 * step, y1 * step, x0 * step, x1 * step, level)
            small[y0:y1, x0:x1] = cv2.resize(part, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return small, here.downsample * step


def glass_of(pixels: np.ndarray) -> np.ndarray:
    """Measure the colour of the empty glass: the lightest pixels without single bright values.

    Parameters
    ----------
    pixels : numpy.ndarray, (h, w, 3), uint8

    Returns
    -------
    numpy.ndarray, (3,), float
        RGB, 0-255.
    """
    step = max(1, int(np.sqrt(pixels.shape[0] * pixels.shape[1] / 500_000)))
    array: np.ndarray = np.maximum(np.percentile(pixels[::step, ::step].reshape(-1, 3), 98, axis=0), 30.0)
    return array


def survey(slide: SlideImage, um_per_px: float) -> Survey:
    """Find glass, monolayer and thick parts of a whole slide at low resolution.

    Parameters
    ----------
    slide : SlideImage
    um_per_px : float
        Pixel size of the finest level, micrometres.

    Returns
    -------
    Survey
    """
    height, width, _ = slide.shape
    longest = max(height, width) * um_per_px / SURVEY_UM
    small, _ = overview(slide, int(np.clip(longest, 64, MAX_SURVEY)))
    glass = glass_of(small)
    # By rows: a real-valued copy of all of it would take more than the analysis of a tile.
    density = np.concatenate(
        [-np.log10(np.maximum(rows, 1) / glass).mean(axis=2).astype(np.float16) for rows in _rows(small)]
    )
    sample = density[:: max(1, len(density) // 700), :: max(1, density.shape[1] // 700)].astype(np.float32)
    level = float(threshold_otsu(sample)) / 2 if sample.max() > sample.min() else 0.0
    stained = density > max(MIN_STAIN, level)
    side = PART_UM / um_per_px
    counts = [max(1, round(length / side)) for length in (height, width)]
    edges = [
        np.linspace(0, length, min(count, length) + 1).round().astype(int)
        for length, count in zip(small.shape[:2], counts, strict=True)
    ]
    area = np.maximum(np.outer(np.diff(edges[0]), np.diff(edges[1])), 1)
    covered = _sums(stained, edges)
    stain = np.full(covered.shape, np.nan)
    np.divide(_sums(np.where(stained, density, np.float16(0)), edges), covered, out=stain, where=covered > 0)
    rows, columns = (
        np.linspace(0, length, len(edge)).round().astype(int)
        for length, edge in zip((height, width), edges, strict=True)
    )
    return Survey(rows, columns, covered / area, stain, (float(glass[0]), float(glass[1]), float(glass[2])))


def _rows(pixels: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pixels), 256):
        yield pixels[start : start + 256].astype(np.float32)


def _sums(values: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """Sums over the cells of a grid."""
    by_row = np.stack(
        [values[a:b].sum(axis=0, dtype=np.float64) for a, b in zip(edges[0][:-1], edges[0][1:], strict=True)]
    )
    return np.stack(
        [by_row[:, a:b].sum(axis=1) for a, b in zip(edges[1][:-1], edges[1][1:], strict=True)], axis=1
    )


def sharpness(pixels: np.ndarray, um_per_px: float) -> float:
    """Measure the fine detail of a part, relative to its contrast.

    The energy of structures of half a micrometre is divided by the spread of the grey levels. Blur lowers the first and
    hardly changes the second.

    Parameters
    ----------
    pixels : numpy.ndarray, (h, w, 3), uint8
    um_per_px : float

    Returns
    -------
    float
        nan if the part has no contrast.
    """
    grey: np.ndarray = pixels[..., 1].astype(np.float32)
    factor = um_per_px / FOCUS_UM
    if factor < 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    spread = float(grey.std())
    if spread < 2.0:
        return float("nan")
    fine = cv2.GaussianBlur(grey, (0, 0), 0.8) - cv2.GaussianBlur(grey, (0, 0), 1.6)
    return float(np.sqrt(np.mean(fine**2))) / spread
