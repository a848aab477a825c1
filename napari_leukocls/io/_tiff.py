"""TIFF as microscopes write it: OME, ImageJ, Aperio, 16 bit, planes and pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, damaged, plausible_um_per_px, upright
from napari_leukocls.io.convert import MAX_PIXELS, check_size, to_uint8

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

#: Units of length in the metadata of microscopes, lower case.
UM_PER_UNIT = {
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "\\u00b5m": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
    "in": 25400.0,
}


def read_tiff(file: Path) -> tuple[np.ndarray, float | None, list[str]]:
    """Read the first image of a TIFF.

    Parameters
    ----------
    file : Path

    Returns
    -------
    array : numpy.ndarray, (H, W) or (H, W, C)
    um_per_px : float or None
    notes : list of str
        One for each conversion.

    Raises
    ------
    InputError
        If the file is damaged, the image is too small or too large, or its channels are not a colour image.
    """
    notes: list[str] = []
    try:
        with tifffile.TiffFile(file) as tiff:
            series = tiff.series[0]
            page = series.keyframe
            check_size(page.imagewidth, page.imagelength, str(file))
            check_whole(tiff, page, file)
            array = _pixels(tiff, series, page, file, notes)
            um_per_px = plausible_um_per_px(*pixel_size(tiff, page), notes)
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
    except DAMAGE as error:
        raise damaged(file, error) from error
    return upright(array, orientation), um_per_px, notes


def check_whole(tiff: TiffFile, page: TiffPage, file: Path) -> None:
    """Check that a file holds all the bytes of an image; a decoder would fill missing parts with black.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    page : tifffile.TiffPage
        The page of the image.
    file : Path
        For the message.

    Raises
    ------
    InputError
        If the file ends too early.
    """
    size = tiff.filehandle.size
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or max(ends) > size:
        raise damaged(file, EOFError(f"it ends at byte {size} of {max(ends, default=0)}"))


def _pixels(
    tiff: TiffFile, series: TiffPageSeries, page: TiffPage, file: Path, notes: list[str]
) -> np.ndarray:
    axes = series.axes
    if "C" in axes and "S" not in axes and series.shape[axes.index("C")] > 1:
        return _channel_planes(series, file, notes)
    others = int(np.prod([n for axis, n in zip(axes, series.shape, strict=True) if axis not in "YXSC"]))
    pages = max(others, len(tiff.pages) if len(tiff.series) > 1 else 1)
    if pages > 1 and not page.is_reduced:
        notes.append(f"{pages} pages, the first one was used")
    # One page of an ImageJ stack may stand for all of them: take the pixels of that page only.
    array = page.asarray()
    if page.planarconfig == 2 and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return _colours(array, page, file, notes)


def _channel_planes(series: TiffPageSeries, file: Path, notes: list[str]) -> np.ndarray:
    """Three or four planes, taken as red, green and blue (and alpha): how ImageJ and OME store colour."""
    axes = series.axes
    channels = series.shape[axes.index("C")]
    if channels not in (3, 4):
        raise InputError(f"'{file}' has {channels} channels; give the stained smear as one RGB image.")
    if int(np.prod(series.shape)) > 4 * MAX_PIXELS:
        raise InputError(f"'{file}' holds a stack that is too large; save one plane of it as RGB.")
    array = series.asarray()
    first = tuple(slice(None) if axis in "CYX" else 0 for axis in axes)
    left = [axis for axis in axes if axis in "CYX"]
    if array[first].size < array.size:
        notes.append("a stack of planes, the first one was used")
    notes.append("separate channels, used as red, green and blue")
    if channels == 4:
        notes.append("a fourth channel, dropped")
    return np.transpose(array[first], [left.index(axis) for axis in "YXC"])[..., :3]


def _colours(array: np.ndarray, page: TiffPage, file: Path, notes: list[str]) -> np.ndarray:
    """Apply the file's photometric interpretation."""
    meaning = tifffile.PHOTOMETRIC
    photometric = page.photometric
    if photometric == meaning.PALETTE and page.colormap is not None:
        notes.append("a palette image, converted to RGB")
        palette: np.ndarray = (np.moveaxis(page.colormap, 0, -1) >> 8).astype(np.uint8)
        coloured: np.ndarray = palette[array]
        return coloured
    if photometric == meaning.MINISWHITE:
        notes.append("white was stored as zero, inverted")
        return _inverted(array)
    if photometric == meaning.SEPARATED and array.ndim == 3 and array.shape[-1] >= 4:
        notes.append("CMYK colours, converted to RGB without a colour profile")
        ink = to_uint8(array[..., :4], str(file), notes).astype(np.uint16)
        paper = (255 - ink[..., :3]) * (255 - ink[..., 3:])
        return ((paper + 127) // 255).astype(np.uint8)
    if photometric in (meaning.CIELAB, meaning.ICCLAB, meaning.ITULAB):
        raise InputError(f"'{file}' has CIELAB colours; save it as RGB.")
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and not _has_alpha(page):
        colours = 3 if photometric == meaning.RGB else 1
        if photometric != meaning.RGB and array.shape[-1] > 2:
            raise InputError(
                f"'{file}' has {array.shape[-1]} channels; give the stained smear as one RGB image."
            )
        notes.append("channels other than the colours, dropped")
        return array[..., :colours]
    return array


def _inverted(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return ~array
    largest = np.iinfo(array.dtype).max if array.dtype.kind == "u" else array.max()
    inverted: np.ndarray = largest - array
    return inverted


def _has_alpha(page: TiffPage) -> bool:
    return len(page.extrasamples) == 1 and int(page.extrasamples[0]) in (1, 2)


def pixel_size(tiff: TiffFile, page: TiffPage) -> tuple[float | None, float | None]:
    """The pixel size from OME, Aperio or ImageJ metadata, or from the resolution tags, in this order.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    page : tifffile.TiffPage
        The page of the image.

    Returns
    -------
    x, y : float or None
        um per pixel; None if the file does not state it.
    """
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_size(tiff.ome_metadata)
    aperio = re.search(r"\bMPP\s*=\s*([0-9.]+)", page.description or "")
    if aperio:
        return float(aperio.group(1)), float(aperio.group(1))
    x, y = _ratio(page, 282), _ratio(page, 283)
    if x is None or y is None:
        return None, None
    unit_tag = page.tags.get(296)
    per_unit = {2: 25400.0, 3: 10000.0}.get(int(unit_tag.value) if unit_tag is not None else 2)
    if tiff.is_imagej and tiff.imagej_metadata:
        unit = str(tiff.imagej_metadata.get("unit", "")).strip().lower()
        per_unit = UM_PER_UNIT.get(unit, per_unit)
    return (None, None) if per_unit is None else (per_unit / x, per_unit / y)


def _ratio(page: TiffPage, code: int) -> float | None:
    tag = page.tags.get(code)
    if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2:
        return None
    over, under = tag.value
    return over / under if over > 0 and under > 0 else None


def _ome_size(metadata: str) -> tuple[float | None, float | None]:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", metadata)
    attributes = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', pixels.group(0))) if pixels else {}
    sizes: list[float | None] = []
    for axis in "XY":
        size = attributes.get(f"PhysicalSize{axis}")
        per_unit = UM_PER_UNIT.get(attributes.get(f"PhysicalSize{axis}Unit", "µm").lower())
        sizes.append(float(size) * per_unit if size and per_unit else None)
    return sizes[0], sizes[1]
