"""What the readers of all image formats share."""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

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


@dataclass(frozen=True)
class Picture:
    """The picture of a file, before its values become 8-bit RGB.

    Attributes
    ----------
    array : numpy.ndarray, (H, W) or (H, W, C)
        As it is stored, not yet turned upright.
    um_per_px : float or None
    notes : list of str
        What was converted or chosen.
    bits : int or None
        Depth of the values as the file states it, where that is less than their type holds.
    orientation : int
        Of EXIF or TIFF, 1 to 8; 1 is upright.
    """

    array: np.ndarray
    um_per_px: float | None
    notes: list[str]
    bits: int | None = None
    orientation: int = 1


class ClosesItself(ABC):
    """A file that is closed at the end of a ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def plausible_um_per_px(
    x: float | None, y: float | None, notes: list[str], microscope: bool = False
) -> float | None:
    """The pixel size of a file, if it is plausible for a microscope.

    A size is plausible from 0.02 um to below 1.5 um, and if x and y differ by 5 % at most.

    Parameters
    ----------
    x, y : float or None
        Width and height of a pixel as the file states them, um; None if it states none.
    notes : list of str
        A note is added here if the pixels are not square.
    microscope : bool
        Whether the size comes from a microscope's metadata, and not from a resolution that also screens and
        printers have: a size that is not plausible gets a note, then.

    Returns
    -------
    float or None
        um per pixel.
    """
    sizes = [value for value in (x, y) if value is not None and 0.02 <= value < MOST_UM_PER_PX]
    if len(sizes) < 2:
        stated = [value for value in (x, y) if value is not None and np.isfinite(value) and value > 0]
        if microscope and stated:
            notes.append(f"the file states pixels of {stated[0]:.4g} um, which is not plausible: not used")
        return None
    if max(sizes) > 1.05 * min(sizes):
        notes.append(f"the file states pixels of {sizes[0]:.4g} x {sizes[1]:.4g} um, not square: not used")
        return None
    return sizes[0]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image by its EXIF or TIFF orientation.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W) or (H, W, C)
    orientation : int
        1 to 8; any other number counts as 1, which changes nothing.

    Returns
    -------
    numpy.ndarray
        A view of `pixels`.
    """
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def too_large(file: Path) -> InputError:
    """The error for a file that asks for more memory than there is.

    Parameters
    ----------
    file : Path

    Returns
    -------
    InputError
        To be raised by the caller.
    """
    return InputError(f"'{file}' does not fit into memory, or is damaged; save it as smaller fields.")


def damaged(file: Path, error: BaseException) -> InputError:
    """The error for a file that cannot be decoded.

    Parameters
    ----------
    file : Path
    error : BaseException
        What the decoder raised; its text goes into the message.

    Returns
    -------
    InputError
        To be raised by the caller.
    """
    detail = " ".join(str(error).split())[:120] or type(error).__name__
    return InputError(f"'{file}' is damaged or incomplete ({detail}); copy it again from its source.")
