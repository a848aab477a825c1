"""Uneven light: how the glass darkens across a field, and the field as it would be under even light.

A lens that darkens towards the corners, a condenser out of centre, or a camera held to an eyepiece: what is glass
in the middle is as dark in a corner as a pale red cell. The glass itself tells by how much, since it is in every
field.
"""

from __future__ import annotations

import cv2
import numpy as np

from napari_leukocls.progress import stop_here
from napari_leukocls.types import Light

#: Side that a field is reduced to, and of the blocks in which its glass is looked for, pixels.
SMALL_SIDE, BLOCK = 192, 12
#: What a block's glass stands for: this percentile of its brightness.
GLASS_PERCENTILE = 85
#: A pixel whose brightest channel is below this share of the glass lies outside the field of view.
BLACK = 0.15
#: Smallest part of a picture that is taken for the surroundings of a field of view.
MIN_SURROUND = 0.01
#: Share of what is not black that is one piece, and of the piece's convex hull that it fills.
ONE_FIELD = 0.7
#: Fall of the light across a field from which on it is evened out; most cameras stay below.
UNEVEN = 0.08
#: Steepest fall that is believed.
MOST_UNEVEN = 0.75
#: How far a block may be from the surface and still be glass (natural logarithm).
NEAR = 0.05
#: Weight of blocks that are darker than the surface: they hold cells, and say little about the light.
DARKER = 0.02
#: How far the hue of the darker glass may be from that of the brighter one: what is darker and pinker is a heap of
#: cells. Held-out fields with a true fall stay below 0.025, close-ups of heaps and drawn heaps begin at 0.04.
SAME_HUE = 0.03
#: Share of blocks that must be glass, and of quarters of the field that must have some.
MIN_GLASS, MIN_QUARTERS = 0.4, 4
#: Fewest blocks of glass and cells that a surface is laid through.
FEWEST_BLOCKS = 20
_ROUNDS = 25

#: Rows that are evened out at a time; bounds memory.
_ROWS = 512


def _terms(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack(np.broadcast_arrays(np.ones_like(x * y), x, y, x * x, x * y, y * y), axis=-1)


def _blocks(small: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place (n, 2) as y, x from -1 to 1, brightness (n,) and hue (n,) of the glass, of blocks in the field of view.

    Brightness is the logarithm of the mean, and hue that of green's share of red: stain takes the green first.
    """
    levels = np.log(np.maximum(small.astype(np.float64), 1.0))
    brightness = np.log(np.maximum(small.astype(np.float64).mean(axis=2), 1.0))
    hue = levels[..., 1] - levels[..., 0]
    height, width = inside.shape
    found = []
    for y in range(0, height - BLOCK // 2, BLOCK):
        for x in range(0, width - BLOCK // 2, BLOCK):
            part = np.s_[y : y + BLOCK, x : x + BLOCK]
            valid = inside[part]
            if valid.sum() < BLOCK * BLOCK / 2:
                continue
            middle = [2 * (y + valid.shape[0] / 2) / height - 1, 2 * (x + valid.shape[1] / 2) / width - 1]
            level = _percentile(brightness[part][valid], GLASS_PERCENTILE)
            glass = valid & (brightness[part] >= level)
            found.append((*middle, level, hue[part][glass].mean()))
    table = np.array(found).reshape(-1, 4)
    return table[:, :2], table[:, 2], table[:, 3]


def _percentile(values: np.ndarray, percent: float) -> float:
    """As `numpy.percentile`, which takes ten times as long for few values."""
    ordered = np.sort(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def measure_light(pixels: np.ndarray) -> Light | None:
    """Measure how the light falls across a field.

    A quadratic surface through the glass of small blocks, fitted by asymmetric least squares [1]_: what is darker
    than the surface is cells, and weighs little.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    Light or None
        None where the light is even, or where too little glass is seen to tell, and nothing is black around it.

    References
    ----------
    .. [1] Eilers, P. H. C. and Boelens, H. F. M. (2005). Baseline correction with asymmetric least squares
       smoothing. Leiden University Medical Centre report.
    """
    outside = _surroundings(pixels)
    surround = 0.0 if outside is None else float(outside.mean())
    coefficients, fall = _surface(pixels)
    if not fall and not surround:
        return None
    return Light(coefficients, fall, surround, (0, 0, *pixels.shape[:2]))


def _surface(pixels: np.ndarray) -> tuple[tuple[float, ...], float]:
    """Coefficients of the glass's brightness, and its fall: zeros where it is even or cannot be told."""
    even = ((0.0,) * 6, 0.0)
    factor = min(1.0, SMALL_SIDE / max(pixels.shape[:2]))
    if min(pixels.shape[:2]) * factor < 3 * BLOCK:
        return even
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    brightest = small.max(axis=2)
    places, values, hue = _blocks(small, brightest > BLACK * np.percentile(brightest, 98))
    if len(values) < FEWEST_BLOCKS:
        return even
    terms = _terms(places[:, 0], places[:, 1])
    weight = np.ones(len(values))
    for _ in range(_ROUNDS):
        solved = np.linalg.lstsq(terms * weight[:, None] ** 0.5, values * weight**0.5, rcond=None)[0]
        fitted = terms @ solved
        weight = np.where(values > fitted - NEAR / 2, 1.0, DARKER)
    fall = float(1 - np.exp(fitted.min() - fitted.max()))
    if not UNEVEN <= fall <= MOST_UNEVEN:
        return even
    glass = np.abs(values - fitted) <= NEAR
    quarters = {(y > 0, x > 0) for y, x in places[glass]}
    if glass.mean() < MIN_GLASS or len(quarters) < MIN_QUARTERS:
        return even
    dark, bright = np.quantile(fitted[glass], [0.3, 0.7])
    shift = hue[glass & (fitted <= dark)].mean() - hue[glass & (fitted >= bright)].mean()
    if abs(shift) > SAME_HUE:
        return even
    solved[0] -= fitted.max()
    return tuple(float(value) for value in solved), fall


def even_out(pixels: np.ndarray, light: Light | None, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Return an image, or a window of it, as the networks see it: under even light, with glass around it.

    Parameters
    ----------
    pixels : numpy.ndarray, (h, w, 3), uint8
    light : Light or None
        Of the image; None leaves the pixels alone.
    origin : tuple of int
        y, x of the window in the image.

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8
    """
    if light is None:
        return pixels
    even = _evened(pixels, light, origin) if light.fall else pixels.copy()
    outside = _surroundings(pixels) if light.surround else None
    if outside is not None:
        even[outside] = np.percentile(even[~outside][:: max(1, even.size // 600_000)], 98, axis=0)
    return even


class EvenPixels:
    """An image of which windows are brought to what the networks see when they are asked for.

    Where something is left out around the field of view, the whole image is brought there at once.

    Parameters
    ----------
    pixels : array-like, (H, W, 3), uint8
    light : Light or None
    """

    def __init__(self, pixels: np.ndarray, light: Light | None) -> None:
        if light is not None and light.surround:
            pixels, light = even_out(np.asarray(pixels), light), None
        self._pixels = pixels
        self._light = light

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """Return a window, (h, w, 3) uint8."""
        part = np.ascontiguousarray(np.asarray(self._pixels[window]))
        return even_out(part, self._light, (window[0].start or 0, window[1].start or 0))


def _evened(pixels: np.ndarray, light: Light, origin: tuple[int, int]) -> np.ndarray:
    y0, x0, y1, x1 = light.box
    out = np.empty_like(pixels)
    columns = np.arange(pixels.shape[1], dtype=np.float32) + (origin[1] - x0 + 0.5)
    x = (2 * columns / (x1 - x0) - 1)[None]
    coefficients = np.asarray(light.coefficients, np.float32)
    for start in range(0, len(pixels), _ROWS):
        stop_here()
        rows = pixels[start : start + _ROWS]
        lines = np.arange(start, start + len(rows), dtype=np.float32) + (origin[0] - y0 + 0.5)
        y = (2 * lines / (y1 - y0) - 1)[:, None]
        # Beyond what was measured, as in a corner without glass, the surface is not believed without limit.
        brightness = np.clip(_terms(y, x) @ coefficients, np.log(1 - MOST_UNEVEN), 0.0)
        out[start : start + _ROWS] = np.clip(rows * np.exp(-brightness)[..., None] + 0.5, 0, 255)
    return out


def _surroundings(pixels: np.ndarray) -> np.ndarray | None:
    """Find the black (H, W) around a round field of view, as a camera at an eyepiece gives it.

    A dark ground with bright cells on it is not around one field of view.
    """
    brightest = pixels.max(axis=2)
    level = BLACK * float(np.percentile(brightest[::4, ::4], 98))
    if level < 1:
        return None
    black = (brightest <= level).astype(np.uint8)
    if black.mean() < MIN_SURROUND:
        return None
    _, parts, found, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    at_edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    large = [part for part in at_edge if part and found[part, cv2.CC_STAT_AREA] >= MIN_SURROUND * black.size]
    if not large:
        return None
    # The ring's own soft edge belongs to it.
    reach = max(3, round(0.01 * max(black.shape)))
    outside = cv2.dilate(np.isin(parts, large).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return None if outside.all() or not _is_one_field(~outside) else outside


def _is_one_field(inside: np.ndarray) -> bool:
    """Whether a mask is one piece without large bays."""
    _, _, found, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    largest = 1 + int(found[1:, cv2.CC_STAT_AREA].argmax())
    x, y, width, height, area = (int(value) for value in found[largest])
    if area < ONE_FIELD * inside.sum():
        return False
    piece = inside[y : y + height, x : x + width].astype(np.uint8)
    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(list(contours)))
    return bool(area >= ONE_FIELD * cv2.contourArea(hull))
