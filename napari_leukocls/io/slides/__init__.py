"""Whole slides and images too large for memory: only the parts that are asked for are decoded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, damaged, too_large
from napari_leukocls.io.convert import MAX_PIXELS, MIN_SIDE_PX
from napari_leukocls.io.formats import Format
from napari_leukocls.io.images import kind_of, read_head, read_image
from napari_leukocls.io.planes import parse_plane
from napari_leukocls.io.slides.base import MAX_SLIDE_PIXELS, SlideImage
from napari_leukocls.types import SmearImage

#: Formats of scanners, read by OpenSlide.
SCANNER_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif"})


def is_slide(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a whole slide, rather than a field that is read at once.

    Slides are the formats of scanners, OME-Zarr, a TIFF that is large or is a pyramid of tiles, and a file of CZI,
    VSI or DICOM that is large or that a scanner made.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
    """
    file = Path(path)
    if file.suffix.lower() in SCANNER_SUFFIXES:
        return True
    if file.is_dir():
        return is_zarr(file)
    try:
        kind = kind_of(file, read_head(file))
    except InputError:
        # Reading it as a field raises the error.
        return False
    if isinstance(kind, Format):
        from napari_leukocls.io.slides.formats import is_large_or_scanned

        return is_large_or_scanned(kind, file)
    if kind != "tiff":
        return False
    from napari_leukocls.io.slides.tiff import is_large_or_pyramid

    return is_large_or_pyramid(file)


def is_zarr(folder: Path) -> bool:
    """Whether a folder holds a Zarr array or group.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    bool
    """
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def open_slide(path: str | os.PathLike[str], plane: int | str = "first") -> SlideImage:
    """Open a whole slide.

    Parameters
    ----------
    path : path-like
    plane : int or str
        Of several depths or times the first one is read: any other choice is refused.

    Returns
    -------
    SlideImage
        Close it, or use it in a ``with`` block.

    Raises
    ------
    InputError
        If it is missing, damaged, too small, states an impossible size, needs a package that is not installed, or
        another plane than the first one is asked for.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"there is no file '{file}'; check the name and the folder.")
    try:
        slide = _opened(file)
    except DAMAGE as error:
        raise damaged(file, error) from error
    except MemoryError as error:
        raise too_large(file) from error
    try:
        _check(slide)
        _check_plane(slide, plane)
    except InputError:
        slide.close()
        raise
    if slide.planes > 1:
        slide.notes = (*slide.notes, f"{slide.planes} planes, the first one was used")
    return slide


def _opened(file: Path) -> SlideImage:
    if file.is_dir():
        if not is_zarr(file):
            raise InputError(f"'{file}' is a folder, but not a Zarr; give an image or an OME-Zarr.")
        from napari_leukocls.io.slides.zarr import ZarrSlide

        return ZarrSlide(file)
    if file.suffix.lower() in SCANNER_SUFFIXES:
        from napari_leukocls.io.slides.openslide import open_scanner

        return open_scanner(file)
    kind = kind_of(file, read_head(file))
    if isinstance(kind, Format):
        from napari_leukocls.io.slides.formats import FormatSlide

        return FormatSlide(kind, file)
    from napari_leukocls.io.slides.tiff import TiffSlide

    return TiffSlide(file)


def _check(slide: SlideImage) -> None:
    height, width, _ = slide.shape
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(
            f"'{slide.source}' is {width} x {height} pixels, too small to hold a cell; "
            f"give an image of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels."
        )
    if height * width > MAX_SLIDE_PIXELS:
        raise InputError(
            f"'{slide.source}' states {width} x {height} pixels, more than a slide can have; "
            "copy it again from its source."
        )


def _check_plane(slide: SlideImage, plane: int | str) -> None:
    chosen = parse_plane(plane)
    if chosen == 1 or chosen == "first" or (slide.planes == 1 and isinstance(chosen, str)):
        return
    raise InputError(
        f"'{slide.source}' is a whole slide, of which only the first plane is read; save the plane that you want as a "
        "file of its own."
    )


def read_smear(
    path: str | os.PathLike[str],
    slide_id: str | None = None,
    plane: int | str = "first",
    turned: bool = True,
) -> tuple[SmearImage, bool]:
    """Read a field, or a whole slide that is small enough to be read at once.

    Parameters
    ----------
    path : path-like
        An image file, or an OME-Zarr folder.
    slide_id : str, optional
        Goes into the result; by default the name of the file without its suffix.
    plane : int or str
        Of a stack, as `read_image` takes it; of a whole slide only the first plane can be read.
    turned : bool
        Whether the image is turned upright by its EXIF orientation.

    Returns
    -------
    image : SmearImage
        8-bit RGB.
    scanned : bool
        Whether it is a whole slide: a scanner has evened out its light already.

    Raises
    ------
    InputError
        If it cannot be read (see `read_image` and `open_slide`), or is a slide of more than 400 megapixels.
    """
    if not is_slide(path):
        return read_image(path, slide_id, plane, turned), False
    with open_slide(path, plane) as slide:
        height, width, _ = slide.shape
        if height * width > MAX_PIXELS:
            raise InputError(
                f"'{slide.source}' is a whole slide of {width} x {height} pixels: use leukocls analyze, or "
                "napari_leukocls.batch.run_batch, which read it in tiles."
            )
        pixels = slide.read(0, height, 0, width)
        name = slide_id or re.sub(r"\.ome$", "", Path(path).stem, flags=re.IGNORECASE)
        return SmearImage(pixels, name, slide.source, slide.um_per_px, slide.notes), True
