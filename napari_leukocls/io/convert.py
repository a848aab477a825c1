"""Pixels of any type to 8-bit RGB, with a note on each conversion.

Rules
-----
- **Depth.** 8-bit values stay as they are. Whole numbers of more bits are scaled from black = 0 to white = the
  full scale of the depth that the file states (12 bits in 16, say). Where it states none, white is the full scale
  of the smallest of 8, 10, 12, 14 or 16 bits that holds the values; above 16 bits, the largest value. Numbers with
  a fraction are taken as 0-1 where they lie there, else as 0-255, else as 0-65535 (then as whole numbers above).
  Where values are negative, or fractions exceed 65535, the smallest becomes black and the largest white.
- **Single bright values.** "Holds the values" means all but 1 in 1,000 of them: one saturated (hot) pixel, or a
  value that resampling left a little above 1, does not set the white point. What lies above it becomes white.
- **Offset.** Where even the darkest values are above `OFFSET_SHARE` of white, the data has an offset (a camera's
  black level, or signed numbers stored as unsigned ones): the darkest values become black, the brightest white.
- **Grey** is repeated into the three channels.
- **Alpha** is composited on white, the colour of empty glass. Where it is 0 everywhere it hides the whole picture
  and cannot be meant: it is ignored.
"""

from __future__ import annotations

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.types import SmearImage

#: The shorter side of the smallest image that can hold a whole cell.
MIN_SIDE_PX = 32
#: Images with more pixels are refused before they are decoded.
MAX_PIXELS = 400_000_000
#: Percent of the values that lie above the white point, and below the black point, at most.
OUTLIER_PERCENT = 0.1
#: Values further than this share of the usual range outside of it are outliers, where the range itself is stretched.
OUTLIER_REACH = 0.1
#: A picture whose darkest values are this share of white has an offset; stained nuclei are far darker.
OFFSET_SHARE = 0.7
GREY_NOTE = (
    "a grey image, repeated into three channels: classes are less certain without the colours of the stain"
)


def array_to_smear(
    array: np.ndarray,
    slide_id: str = "image",
    *,
    source: str = "array",
    um_per_px: float | None = None,
    notes: tuple[str, ...] = (),
    bits: int | None = None,
) -> SmearImage:
    """Convert an array to a `SmearImage` by the rules of this module.

    Parameters
    ----------
    array : array-like
        (H, W) grey, (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGBA, or channels
        first if the last axis cannot be the channels. Boolean, integer or real.
    slide_id, source : str
        Go into the result.
    um_per_px : float, optional
        Pixel size, um, if known.
    notes : tuple of str
        What was converted before.
    bits : int, optional
        Depth of whole numbers as the file states it, where that is less than their type holds.

    Returns
    -------
    SmearImage

    Raises
    ------
    InputError
        If the array cannot be an image of a smear; the message names `source`.
    """
    pixels = np.asarray(array)
    all_notes = list(notes)
    pixels = _channels_last(pixels, source, all_notes)
    check_size(pixels.shape[1], pixels.shape[0], source)
    pixels = to_uint8(pixels, source, all_notes, bits)
    pixels = _to_rgb(pixels, all_notes)
    # A fresh, writable array: a memory-mapped or read-only one makes torch warn.
    pixels = np.array(pixels, dtype=np.uint8, order="C")
    return SmearImage(pixels, slide_id, source, um_per_px, tuple(all_notes))


def check_size(width: int, height: int, source: str) -> None:
    """Check that an image is large enough for a cell, and small enough to be decoded at once.

    Parameters
    ----------
    width, height : int
        Pixels.
    source : str
        Name of the image, for the message.

    Raises
    ------
    InputError
        If it is too small or too large.
    """
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(
            f"'{source}' is {width} x {height} pixels, too small to hold a cell; "
            f"give an image of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels."
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            f"'{source}' is {width} x {height} pixels, more than the "
            f"{MAX_PIXELS // 1_000_000} megapixels that can be read at once; "
            "save it as smaller fields or crop the region of interest."
        )


def to_uint8(pixels: np.ndarray, source: str, notes: list[str], bits: int | None = None) -> np.ndarray:
    """Scale pixels of any numeric type to 8 bit.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, C)
    source : str
        Named in an error.
    notes : list of str
        What was converted is appended.
    bits : int, optional
        Depth of whole numbers as the file states it.

    Returns
    -------
    numpy.ndarray, (H, W, C), uint8

    Raises
    ------
    InputError
        Where the values are no numbers, or none is finite.
    """
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8 and (bits is None or bits >= 8):
        return pixels
    if kind == "b":
        notes.append("a black-and-white image, taken as 0 and 255")
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind not in "uif":
        raise InputError(f"'{source}' holds values of type {pixels.dtype}; save it as an 8-bit RGB image.")
    if kind == "f":
        pixels = _finite(pixels, source, notes)
    low, high, rule = value_range(pixels, bits)
    notes.append(f"{pixels.dtype.itemsize * 8}-bit {'real' if kind == 'f' else 'whole'} values, {rule}")
    above = int(np.count_nonzero(pixels > high))
    if above:
        notes.append(
            f"{above} {'value' if above == 1 else 'values'} above the white point {high:g}, taken as white"
        )
    return scale_to_uint8(pixels, low, high)


def _finite(pixels: np.ndarray, source: str, notes: list[str]) -> np.ndarray:
    # Values such as -3.4e38 mark missing data, as NaN does (and their difference would overflow).
    most = pixels.dtype.type(min(1e30, float(np.finfo(pixels.dtype).max)))
    finite = np.isfinite(pixels) & (np.abs(pixels) <= most)
    if finite.all():
        return pixels
    if not finite.any():
        raise InputError(f"'{source}' holds no finite value; save the image again from its source.")
    n_missing = finite.size - int(finite.sum())
    some = "1 value that is" if n_missing == 1 else f"{n_missing} values that are"
    notes.append(f"{some} not finite, set to the smallest finite value")
    return np.where(finite, pixels, pixels[finite].min())


def value_range(pixels: np.ndarray, bits: int | None) -> tuple[float, float, str]:
    """Find the values that become black and white.

    Parameters
    ----------
    pixels : numpy.ndarray
        Finite numbers.
    bits : int or None
        Depth of whole numbers as the file states it.

    Returns
    -------
    low, high : float
        Black and white.
    rule : str
        What was done, in words.
    """
    smallest, largest = float(pixels.min()), float(pixels.max())
    dark, bright = _usual_range(pixels)
    real = pixels.dtype.kind == "f"
    if dark < 0 or (real and bright > 65535):
        reach = OUTLIER_REACH * (bright - dark)
        low = smallest if dark - smallest <= reach else dark
        high = largest if largest - bright <= reach else bright
        return low, high, f"stretched from {low:g}-{high:g} to 8 bit"
    if real and bright <= 1:
        return 0.0, 1.0, "0-1 scaled to 8 bit"
    if real and bright <= 255:
        return 0.0, 255.0, "rounded to 8 bit"
    stated = bits is not None and not real and bright <= 2**bits - 1
    white = float(2**bits - 1) if stated and bits is not None else _white_of(bright)
    if dark > OFFSET_SHARE * bright and dark < bright and white > 255:
        return dark, bright, f"with an offset, stretched from {dark:g}-{bright:g} to 8 bit"
    return 0.0, white, f"scaled from 0-{white:g} to 8 bit"


def _white_of(bright: float) -> float:
    """Full scale of the smallest usual depth that holds a value; above 16 bits the value itself."""
    return next((float(2**bits - 1) for bits in (8, 10, 12, 14, 16) if bright <= 2**bits - 1), bright)


def _usual_range(pixels: np.ndarray) -> tuple[float, float]:
    """The darkest and brightest values without single outliers, by every so many rows of a large picture."""
    step = max(1, pixels.size // 8_000_000)
    rows = pixels[::step]
    low, high = np.percentile(rows, (OUTLIER_PERCENT, 100 - OUTLIER_PERCENT), method="lower")
    return float(low), float(high)


def scale_to_uint8(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values to 8 bit; what lies outside of the range becomes black or white.

    Parameters
    ----------
    pixels : numpy.ndarray
    low, high : float
        Values that become black and white.

    Returns
    -------
    numpy.ndarray, uint8
    """
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    out = np.empty(pixels.shape, np.uint8)
    # By rows, so that the copy of real numbers stays small for large images.
    step = max(1, 4_000_000 // max(1, pixels[0].size))
    for start in range(0, len(pixels), step):
        rows = (pixels[start : start + step].astype(np.float64) - low) / (high - low)
        out[start : start + step] = np.clip(np.rint(rows * 255), 0, 255)
    return out


def _channels_last(pixels: np.ndarray, source: str, notes: list[str]) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.ndim == 3 and 1 <= pixels.shape[-1] <= 4:
        return pixels
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4):
        notes.append("channels were the first axis, moved to the last")
        return np.moveaxis(pixels, 0, -1)
    raise InputError(
        f"'{source}' has the shape {pixels.shape}; give one image of (height, width, 3), 8-bit RGB."
    )


def _to_rgb(pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    """(H, W, 1..4) uint8 to (H, W, 3)."""
    channels = pixels.shape[-1]
    if channels in (2, 4) and not pixels[..., -1].any():
        notes.append("transparency that hides the whole picture, ignored")
        pixels = pixels[..., :-1]
    elif channels in (2, 4):
        notes.append("transparency, composited on white")
        pixels = _on_white(pixels[..., :-1], pixels[..., -1:])
    if pixels.shape[-1] == 1:
        notes.append(GREY_NOTE)
        pixels = np.repeat(pixels, 3, axis=-1)
    return pixels


def _on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    if (alpha == 255).all():
        return colour
    # Integer arithmetic, rounded: 255 - (255 - c) * a / 255.
    shade = (255 - colour).astype(np.uint16) * alpha
    blended: np.ndarray = (255 - (shade + 127) // 255).astype(np.uint8)
    return blended
