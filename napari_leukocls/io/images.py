"""One smear field from a file (PNG, JPEG, TIFF and other common formats) to 8-bit RGB.

The pixel size comes from OME, ImageJ and Aperio metadata, or from the resolution that other files state. It is
used only from 0.02 um to below 1.5 um: the 72, 96 or 300 dpi of screens and printers mean pixels of 85 um
and more.
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
from PIL.GifImagePlugin import GifImageFile

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, Picture, damaged, plausible_um_per_px, too_large, upright
from napari_leukocls.io._tiff import read_tiff, stack_axes
from napari_leukocls.io.convert import array_to_smear, check_size
from napari_leukocls.io.formats import (
    COMMON_BEGINNINGS,
    FORMAT_SUFFIXES,
    FORMATS,
    Format,
    format_of,
    open_format,
    read_format,
)
from napari_leukocls.io.planes import take_plane
from napari_leukocls.types import SmearImage

#: Suffixes of the images that are searched for in a folder, lower case.
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
        ".j2k",
        ".avif",
        ".ppm",
        ".pgm",
        ".lsm",
        *FORMAT_SUFFIXES,
    }
)
# Formats that Pillow may decode here; none that runs a program (EPS).
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM", "AVIF")
#: Formats that no library reads here, by suffix: what they are called, and what their programs export.
FOREIGN_FORMATS = {
    ".oir": ("an Olympus OIR file", "export it as TIFF in cellSens"),
    ".oib": ("an Olympus OIB file", "export it as TIFF in cellSens"),
    ".oif": ("an Olympus OIF file", "export it as TIFF in cellSens"),
    ".ims": ("an Imaris file", "export it as TIFF in Imaris"),
    ".jxl": ("a JPEG XL picture", "save it as JPEG or PNG"),
    ".dng": ("a camera's raw DNG file", "export it as TIFF"),
    ".cr2": ("a camera's raw CR2 file", "export it as TIFF"),
    ".cr3": ("a camera's raw CR3 file", "export it as TIFF"),
    ".nef": ("a camera's raw NEF file", "export it as TIFF"),
    ".arw": ("a camera's raw ARW file", "export it as TIFF"),
    ".orf": ("a camera's raw ORF file", "export it as TIFF"),
    ".rw2": ("a camera's raw RW2 file", "export it as TIFF"),
    ".raf": ("a camera's raw RAF file", "export it as TIFF"),
    ".pef": ("a camera's raw PEF file", "export it as TIFF"),
    ".pdf": ("a PDF document", "save its pictures as PNG, JPEG or TIFF"),
    ".psd": ("a Photoshop file", "save it as TIFF or PNG"),
}
# Files that begin as a TIFF does, and whose first picture is a preview.
_PREVIEW_FIRST = frozenset({".dng", ".cr2", ".nef", ".arw", ".orf", ".rw2", ".pef"})
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SAVE_AS = "save it as PNG, JPEG or TIFF"

#: This many lines of one colour at the end of a JPEG may be a missing part; a block of the format has 8 or 16.
FLAT_LINES = 16
_pillow_limit = threading.Lock()


def read_image(
    path: str | os.PathLike[str],
    slide_id: str | None = None,
    plane: int | str = "first",
    turned: bool = True,
) -> SmearImage:
    """Read one field: this function decides what a file is, and how it becomes pixels.

    Parameters
    ----------
    path : path-like
        An image file.
    slide_id : str, optional
        Goes into the result; by default the name of the file without its suffix.
    plane : int or str
        Of a stack (depths, times, pages, frames): a number from 1, or one of `napari_leukocls.io.planes.PLANES`.
    turned : bool
        Whether the image is turned upright by its EXIF orientation.

    Returns
    -------
    SmearImage
        8-bit RGB, with the pixel size if the file states a plausible one, and with a note on each conversion.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged, no image, too small or too large, or has no such plane.
    """
    file = Path(path)
    head = read_head(file)
    try:
        kind = kind_of(file, head)
        if isinstance(kind, Format):
            picture = read_format(kind, file, plane)
        elif kind == "tiff":
            picture = read_tiff(file, plane)
        else:
            picture = _read_pillow(file, head, plane)
        pixels = upright(picture.array, picture.orientation) if turned else picture.array
        return array_to_smear(
            pixels,
            slide_id or file.stem,
            source=str(file),
            um_per_px=picture.um_per_px,
            notes=tuple(picture.notes),
            bits=picture.bits,
        )
    except MemoryError as error:
        raise too_large(file) from error


def kind_of(file: Path, head: bytes) -> Format | str:
    """What a file is, by its first bytes; by its name only where they do not tell.

    Parameters
    ----------
    file : Path
    head : bytes
        The first bytes of the file.

    Returns
    -------
    Format or str
        A format with a module of its own, ``tiff``, or ``picture`` for all that Pillow reads.

    Raises
    ------
    InputError
        If it is a camera's raw file, whose first picture is a preview.
    """
    found = format_of(file, head)
    if found is not None:
        return found
    if head.startswith(_TIFF_MAGIC):
        if file.suffix.lower() in _PREVIEW_FIRST:
            raise _foreign(file)
        return "tiff"
    return "picture"


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be read as a picture, by its first bytes, or by its name for the formats of microscopes.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
    """
    try:
        head = read_head(Path(path))
    except InputError:
        return False
    return begins_as_picture(head) or Path(path).suffix.lower() in FORMAT_SUFFIXES


def begins_as_picture(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a picture that is read here.

    Parameters
    ----------
    head : bytes
        The first 4096 bytes, or all of a shorter file.

    Returns
    -------
    bool
    """
    return head.startswith((*COMMON_BEGINNINGS, *_TIFF_MAGIC)) or any(one.begins(head) for one in FORMATS)


def plane_axes(path: str | os.PathLike[str]) -> tuple[tuple[str, int], ...]:
    """The axes of an image file other than height, width and the colours of a pixel.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    tuple of (str, int)
        Letter and length of each; "C" stands for separate channels that are one picture together. Empty where
        there is a single plane, or the file cannot be read.
    """
    file = Path(path)
    try:
        head = read_head(file)
        kind = kind_of(file, head)
        if kind == "tiff":
            return stack_axes(file)
        if isinstance(kind, Format):
            with open_format(kind, file) as opened:
                planes = opened.planes
        else:
            with _quiet(), _open(file) as image:
                planes = int(getattr(image, "n_frames", 1))
    except (InputError, *DAMAGE):
        return ()
    return (("Q", planes),) if planes > 1 else ()


def read_head(file: Path) -> bytes:
    """The first bytes of a file.

    Parameters
    ----------
    file : Path

    Returns
    -------
    bytes
        At least one, at most 4096.

    Raises
    ------
    InputError
        If it cannot be read, is no file, or is empty.
    """
    try:
        if file.is_dir():
            if _holds_images(file):
                raise InputError(
                    f"'{file}' is a folder, and one image is needed: give one of its images; "
                    "run_batch and 'leukocls analyze' take folders."
                )
            with os.scandir(file) as entries:
                inside = sorted(entry.name for entry in entries if entry.is_dir())
            first = next((name for name in inside if _holds_images(file / name)), None)
            if first is not None:
                raise InputError(
                    f"'{file}' holds no image itself, but its folders do: give these, for example '{file / first}'."
                )
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


def _holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)


def _kinds() -> str:
    return "PNG, JPEG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000"


def _read_pillow(file: Path, head: bytes, plane: int | str) -> Picture:
    notes: list[str] = []
    try:
        with _quiet(), _open(file) as image:
            check_size(*image.size, str(file))
            _check_covered(image)
            um_per_px = _pillow_um_per_px(image, notes)
            orientation = int(image.getexif().get(0x0112, 1))
            deep = image.format == "PNG" and head[24:25] == b"\x10"

            def read(index: int) -> np.ndarray:
                # An animation's decoder goes forward only: the first frame is the one that is there.
                if index or getattr(image, "n_frames", 1) > 1:
                    image.seek(index)
                return _decode_deep_png(file) if deep else _pillow_array(image, file, notes)

            frames = 1 if deep else int(getattr(image, "n_frames", 1))
            array = take_plane(read, frames, plane, notes, str(file), "frames")
            if image.format == "JPEG":
                notes += _flat_end(array)
    except UnidentifiedImageError as error:
        raise _not_an_image(file, head) from error
    except DAMAGE as error:
        raise damaged(file, error) from error
    return Picture(array, um_per_px, list(dict.fromkeys(notes)), None, orientation)


def _check_covered(image: Image.Image) -> None:
    """Refuse a GIF whose first frame is far smaller than the size that it states: the rest would be empty."""
    if not isinstance(image, GifImageFile) or not image.tile or image.tile[0].extents is None:
        return
    left, top, right, bottom = image.tile[0].extents
    if 2 * (right - left) * (bottom - top) < image.width * image.height:
        raise ValueError(f"its frame fills only a part of {image.width} x {image.height} pixels")


def _flat_end(pixels: np.ndarray) -> list[str]:
    """A note if a JPEG ends in lines of one colour: decoders fill the missing part of a damaged file with it.

    A file of which most is missing is refused.
    """
    last = pixels[-1].reshape(-1, pixels[-1, 0].size)[:1].astype(int)
    lines = 0
    for line in pixels[::-1]:
        if np.abs(line.reshape(-1, last.size) - last).max() > 2:
            break
        lines += 1
    # White or black lines are the border of a picture in a larger frame.
    if not FLAT_LINES <= lines < len(pixels) or not 8 < last.mean() < 247:
        return []
    if lines > 0.8 * len(pixels):
        raise ValueError(f"the last {lines} of {len(pixels)} lines have one colour")
    return [f"the last {lines} lines have one colour: the file may be damaged; compare it with the original"]


def _open(file: Path) -> Image.Image:
    """Open without the size limit of Pillow, which is lower than ours and holds for the whole process."""
    # Pillow knows the names in `formats` only after this.
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
    """Hide Pillow's warnings about unusual metadata: only the pixels matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _decode_deep_png(file: Path) -> np.ndarray:
    """Decode a 16-bit PNG; Pillow would keep only the upper 8 bits."""
    pixels: np.ndarray = imagecodecs.png_decode(file.read_bytes())
    return pixels


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
    # The modes 1, L, LA, RGB, RGBA, I, I;16 and F stay as they are.
    return np.asarray(image)


def _pillow_um_per_px(image: Image.Image, notes: list[str]) -> float | None:
    dpi = image.info.get("dpi")
    if not dpi or not all(float(value) > 0 for value in dpi):
        return None
    return plausible_um_per_px(25400 / float(dpi[0]), 25400 / float(dpi[1]), notes)


def _foreign(file: Path) -> InputError:
    name, export = FOREIGN_FORMATS[file.suffix.lower()]
    return InputError(f"'{file}' is {name}, which is not read: {export}.")


def _not_an_image(file: Path, head: bytes) -> InputError:
    if file.suffix.lower() in FOREIGN_FORMATS:
        return _foreign(file)
    try:
        head.decode("utf-8")
        text = b"\0" not in head
    except UnicodeDecodeError as error:
        # Text may be cut within its last character.
        text = error.start > len(head) - 4 and b"\0" not in head
    what = "holds text, not an image" if text else "is not an image of a kind that can be read"
    return InputError(f"'{file}' {what}; give {_kinds()}, or {_SAVE_AS}.")


__all__ = ["IMAGE_SUFFIXES", "array_to_smear", "read_image"]
