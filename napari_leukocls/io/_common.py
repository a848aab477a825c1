"""What the readers of all formats share."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.types import MOST_UM_PER_PX

#: What decoders raise on bytes that are not what they should be.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
)


def plausible_um_per_px(x: float | None, y: float | None, notes: list[str]) -> float | None:
    """Pixel size in um where it can be a microscope's: 0.02 to 1.5 um, and square within 5 %."""
    sizes = [value for value in (x, y) if value is not None and 0.02 <= value < MOST_UM_PER_PX]
    if len(sizes) < 2:
        return None
    if max(sizes) > 1.05 * min(sizes):
        notes.append(f"the file states pixels of {sizes[0]:.4g} x {sizes[1]:.4g} um, not square: not used")
        return None
    return sizes[0]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image by its EXIF or TIFF orientation (1-8; others are taken as 1)."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def damaged(file: Path, error: BaseException) -> InputError:
    """The message for a file that a decoder stumbled over."""
    detail = " ".join(str(error).split())[:120] or type(error).__name__
    return InputError(f"'{file}' is damaged or incomplete ({detail}); copy it again from its source.")
