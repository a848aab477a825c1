"""Where in an image there is stain: glass colour, optical density, burnt-in marks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu


@dataclass
class Evidence:
    """What the pixels say.

    Attributes
    ----------
    density : (H, W, 3) float32
        Optical density over the glass, natural logarithm, per channel.
    red : (H, W) float32
        Density along the typical colour of the red cells.
    stain : (H, W) float32
        Density in any colour: the length of ``density``.
    noise : float
        Robust standard deviation of ``red`` on the glass.
    glass : (H, W) bool
        Pixels that the glass was estimated on.
    """

    density: np.ndarray
    red: np.ndarray
    stain: np.ndarray
    noise: float
    glass: np.ndarray


def _terms(height: int, width: int, degree: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    columns = [np.ones_like(x), x, y, x * x, x * y, y * y]
    return np.stack(columns[: {0: 1, 1: 3, 2: 6}[degree]], -1)


def fit_glass(image: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Illumination of the empty glass, a quadratic surface per channel.

    Parameters
    ----------
    image : (H, W, 3) float
        The field.
    candidates : (H, W) bool
        Pixels that are glass, for the most part.

    Returns
    -------
    surface : (H, W, 3) float32
        The colour that the glass would have everywhere.
    used : (H, W) bool
        The candidates that agree with it.
    """
    share = candidates.mean()
    degree = 2 if share > 0.15 else 1 if share > 0.05 else 0
    terms = _terms(image.shape[0], image.shape[1], degree)
    used = candidates.copy()
    surface = image
    for _ in range(4):
        rows, values = terms[used], image[used]
        step = max(1, len(rows) // 8000)
        weights = np.linalg.lstsq(rows[::step], values[::step], rcond=None)[0]
        surface = terms @ weights
        rest = (image - surface)[..., 1]
        spread = 1.4826 * np.median(np.abs(rest[used])) + 0.5
        # Cells that slipped in are darker than the glass: cut that side closer.
        kept = candidates & (rest > -2.0 * spread) & (rest < 3.0 * spread)
        if kept.sum() < 50:
            break
        used = kept
    return np.clip(surface, 20, 255).astype(np.float32), used


def stain_threshold(density: np.ndarray, noise: float) -> float:
    """Otsu's threshold between glass and red cells, with darker things counted as dark as red cells."""
    seen = density[density > max(6 * noise, 0.08)]
    top = 1.5 * float(np.median(seen)) if seen.size else 1.0
    return float(threshold_otsu(np.minimum(density, top)))


def measure(
    image: np.ndarray, outside: np.ndarray | None = None, rings: np.ndarray | None = None
) -> Evidence:
    """Optical density of a field over its glass.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB field.
    outside : (H, W) bool, optional
        Pixels outside every annotated cell.
    rings : (H, W) bool, optional
        Pixels that are in red cells, for the most part.
    """
    pixels = ndimage.gaussian_filter(image.astype(np.float32), (0.7, 0.7, 0))
    green = pixels[..., 1]
    # Nuclei and dirt are so much darker than red cells that they would draw the threshold below these.
    shallow = np.maximum(green, 0.6 * np.percentile(green, 90))
    bright = green > threshold_otsu(shallow)
    if outside is not None and (bright & outside).mean() > 0.02:
        bright &= outside
    surface, glass = fit_glass(pixels, bright)
    density = np.log((surface + 4) / (pixels + 4)).astype(np.float32)
    if rings is None or rings.sum() < 100:
        rings = density[..., 1] > stain_threshold(density[..., 1], 0.01)
    direction = np.clip(np.median(density[rings], axis=0), 0.02, None)
    direction /= np.linalg.norm(direction)
    red = density @ direction.astype(np.float32)
    noise = float(1.4826 * np.median(np.abs(red[glass]))) + 0.005
    return Evidence(density, red, np.linalg.norm(density, axis=-1), noise, glass)


def burnt_in(image: np.ndarray) -> np.ndarray:
    """Scale bars, text and arrows that the camera drew into a 640 x 480 field: (H, W) bool."""
    red, green, blue = (image[..., c].astype(int) for c in range(3))
    drawn = (green - red > 45) & (green - blue > 45)
    drawn |= (green - blue > 80) & (red - blue > 80)
    drawn |= (blue - red > 60) & (green - red > 30) & (blue > 150)
    sizes = ndimage.binary_closing(drawn, iterations=4)
    labels, count = ndimage.label(sizes)
    if count:
        big = np.flatnonzero(np.bincount(labels.ravel())[1:] >= 60) + 1
        drawn = ndimage.binary_dilation(np.isin(labels, big), iterations=2)
    if image.shape[:2] == (480, 640):
        # The thin black bar with its length above it always stands at one place.
        strip = image[424:445, 562:597].astype(float).mean((1, 2))
        row = int(np.argmin(strip))
        around = np.delete(strip, slice(max(0, row - 2), row + 3))
        if around.size and np.median(around) - strip[row] > 25:
            place = np.zeros(drawn.shape, bool)
            place[416 : 424 + row + 4, 554:604] = True
            grey = image.astype(np.float32).mean(2)
            dark = grey < ndimage.median_filter(grey, 9) - 12
            drawn |= ndimage.binary_dilation(dark & place)
    return drawn


def without(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The field with burnt-in marks painted over from what is around them, (H, W, 3) uint8."""
    return cv2.inpaint(image, drawn.astype(np.uint8), 3, cv2.INPAINT_TELEA) if drawn.any() else image
