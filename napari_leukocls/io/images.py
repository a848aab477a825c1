"""One smear field from a file: PNG, JPEG, TIFF and the other common kinds, to 8-bit RGB.

Pixel size is taken from OME, ImageJ and Aperio metadata and from the resolution that other files state, and
believed only between 0.02 and 1.5 um: the 72, 96 or 300 dpi that screens and printers leave behind mean
pixels of 85 um and more.
"""

from __future__ import annotations

import glob
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, damaged, plausible_um_per_px, upright
from napari_leukocls.io._tiff import read_tiff
from napari_leukocls.io.convert import array_to_smear, check_size
from napari_leukocls.types import SmearImage

#: Suffixes that a folder is searched for, lower case.
IMAGE_SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".webp",
        ".jp2",
        ".ppm",
        ".pgm",
    }
)
# What Pillow may decode here: no format that runs a program (EPS) or is no picture.
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SAVE_AS = "save it as PNG, JPEG or TIFF"

#: Lines of one colour at the end of a JPEG that are no picture; a block of the format has 8 or 16.
FLAT_LINES = 16
_pillow_limit = threading.Lock()


def read_image(path: str | os.PathLike[str], slide_id: str | None = None) -> SmearImage:
    """Read one field.

    Parameters
    ----------
    path : path-like
        An image file.
    slide_id : str, optional
        Goes into the result; by default the stem of the file's name.

    Returns
    -------
    SmearImage
        8-bit RGB, upright by its EXIF orientation, with the pixel size where the file states a plausible one
        and a note on each conversion.

    Raises
    ------
    InputError
        Where the file is missing, empty, damaged, no image, too small or too large; one line that says what
        to do.
    """
    file = Path(path)
    head = _head(file)
    try:
        if head.startswith(_TIFF_MAGIC):
            array, um_per_px, notes = read_tiff(file)
        else:
            array, um_per_px, notes = _read_pillow(file, head)
        return array_to_smear(
            array, slide_id or file.stem, source=str(file), um_per_px=um_per_px, notes=tuple(notes)
        )
    except MemoryError as error:
        raise InputError(f"'{file}' does not fit into memory; save it as smaller fields.") from error


def _head(file: Path) -> bytes:
    """The first bytes of a file, with the plain reasons why there may be none."""
    try:
        if file.is_dir():
            os.scandir(file).close()
            raise InputError(
                f"'{file}' is a folder that holds no image; give images ({_kinds()}) or their folder."
            )
        if file.exists() and not file.is_file():
            # A pipe or a device would never end.
            raise InputError(f"'{file}' is a device or a pipe, not a file; give an image.")
        with open(file, "rb") as stream:
            head = stream.read(4096)
    except FileNotFoundError as error:
        what = "no image matches" if glob.has_magic(str(file)) else "there is no file"
        raise InputError(f"{what} '{file}'; check the name and the folder.") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"'{file}' cannot be read ({why}); check its name and permissions.") from error
    if not head:
        raise InputError(f"'{file}' is empty; copy it again from its source.")
    return head


def _kinds() -> str:
    return "PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000"


def _read_pillow(file: Path, head: bytes) -> tuple[np.ndarray, float | None, list[str]]:
    notes: list[str] = []
    try:
        with _quiet(), _open(file) as image:
            check_size(*image.size, str(file))
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                notes.append(f"{frames} frames, the first one was used")
            um_per_px = _pillow_um_per_px(image, notes)
            orientation = int(image.getexif().get(0x0112, 1))
            deep = image.format == "PNG" and head[24:25] == b"\x10"
            array = _decode_deep_png(file) if deep else _pillow_array(image, file, notes)
            if image.format == "JPEG":
                notes += _flat_end(array)
    except UnidentifiedImageError as error:
        raise _not_an_image(file, head) from error
    except DAMAGE as error:
        raise damaged(file, error) from error
    return upright(array, orientation), um_per_px, notes


def _flat_end(pixels: np.ndarray) -> list[str]:
    """Say where a JPEG ends in lines of one colour: decoders fill up so what is missing of a damaged file."""
    last = pixels[-1].reshape(-1, pixels[-1, 0].size)[:1].astype(int)
    lines = 0
    for line in pixels[::-1]:
        if np.abs(line.reshape(-1, last.size) - last).max() > 2:
            break
        lines += 1
    # White and black ends are of pictures that were fitted into a larger frame.
    if not FLAT_LINES <= lines < len(pixels) or not 8 < last.mean() < 247:
        return []
    return [
        f"the last {lines} lines are of one colour: the file may be damaged; compare it with the original"
    ]


def _open(file: Path) -> Image.Image:
    """Open without Pillow's own limit, which is lower than this module's and set for the whole process."""
    # `formats` may name only what is loaded already.
    Image.init()
    with _pillow_limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=_PILLOW_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings on odd metadata to itself: the pixels are what counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _decode_deep_png(file: Path) -> np.ndarray:
    """16-bit PNG, of which Pillow would keep the upper 8 bits only."""
    return imagecodecs.png_decode(file.read_bytes())


def _pillow_array(image: Image.Image, file: Path, notes: list[str]) -> np.ndarray:
    """The first frame, (H, W) or (H, W, C), any type that `array_to_smear` knows."""
    image.load()
    mode = image.mode
    if mode == "P" or (mode in ("L", "RGB") and "transparency" in image.info):
        if mode == "P":
            notes.append("a palette image, converted to RGB")
        mode = "RGBA" if "transparency" in image.info else "RGB"
        image = image.convert(mode)
    elif mode in ("PA", "La", "RGBa"):
        mode = "LA" if mode == "La" else "RGBA"
        image = image.convert(mode)
    elif mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        if mode != "RGBX":
            notes.append(f"{mode} colours, converted to RGB without a colour profile")
        image = image.convert("RGB")
    elif mode == "LAB":
        raise InputError(f"'{file}' has CIELAB colours; {_SAVE_AS} in RGB.")
    # "1", L, LA, RGB, RGBA, I, I;16, F go on as they are.
    return np.asarray(image)


def _pillow_um_per_px(image: Image.Image, notes: list[str]) -> float | None:
    dpi = image.info.get("dpi")
    if not dpi or not all(float(value) > 0 for value in dpi):
        return None
    return plausible_um_per_px(25400 / float(dpi[0]), 25400 / float(dpi[1]), notes)


def _not_an_image(file: Path, head: bytes) -> InputError:
    try:
        head.decode("utf-8")
        text = b"\0" not in head
    except UnicodeDecodeError as error:
        # A character cut at the end of what was read is still text.
        text = error.start > len(head) - 4 and b"\0" not in head
    what = "holds text, not an image" if text else "is not an image of a kind that can be read"
    return InputError(f"'{file}' {what}; give {_kinds()}, or {_SAVE_AS}.")


__all__ = ["IMAGE_SUFFIXES", "array_to_smear", "read_image"]
