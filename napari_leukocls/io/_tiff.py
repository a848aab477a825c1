"""TIFF as microscopes write it: OME, ImageJ, Aperio, 16 bit, planes and pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, damaged, plausible_um_per_px, upright
from napari_leukocls.io.convert import MAX_PIXELS, check_size, to_uint8

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

#: Compressions whose decoder gives RGB for YCbCr.
_JPEG = frozenset({6, 7, 33007, 34892})
#: Photometric interpretations whose values are grey or RGB as they stand.
_PLAIN_COLOURS = frozenset(
    {
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.RGB,
        tifffile.PHOTOMETRIC.YCBCR,
        tifffile.PHOTOMETRIC.PALETTE,
        tifffile.PHOTOMETRIC.SEPARATED,
    }
)
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
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
    "in": 25400.0,
}


@dataclass(frozen=True)
class TiffField:
    """The picture of a TIFF, before its values become 8-bit RGB.

    Attributes
    ----------
    array : numpy.ndarray, (H, W) or (H, W, C)
    um_per_px : float or None
    notes : list of str
    bits : int or None
        Depth of the values as the file states it, where that is less than their type holds.
    """

    array: np.ndarray
    um_per_px: float | None
    notes: list[str]
    bits: int | None


def read_tiff(file: Path) -> TiffField:
    """Read the picture of a TIFF: the first one that is no reduced copy, else the first one.

    Parameters
    ----------
    file : Path

    Returns
    -------
    TiffField

    Raises
    ------
    InputError
        If the file is damaged, the image is too small or too large, or its channels are not a colour image.
    """
    notes: list[str] = []
    try:
        with tifffile.TiffFile(file) as tiff:
            series, page = tiff.series[0], tiff.series[0].keyframe
            full = _full_picture(tiff, page)
            if full is not None:
                page = full
                notes.append("the first picture is a reduced copy; the full one was used")
            check_size(page.imagewidth, page.imagelength, str(file))
            check_whole(tiff, page, file)
            if full is None:
                array, bits = _pixels(tiff, series, page, file, notes)
            else:
                array, bits = _page_pixels(page, file, notes)
            um_per_px = plausible_um_per_px(*pixel_size(tiff, page, notes), notes)
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
    except DAMAGE as error:
        raise damaged(file, error) from error
    return TiffField(upright(array, orientation), um_per_px, notes, bits)


def _full_picture(tiff: TiffFile, first: TiffPage) -> TiffPage | None:
    """The largest picture of a file that is no reduced copy; None where the first one is it.

    Thumbnails come first in DNG and in some scanners' files; the full picture is a later page, or a SubIFD.
    """
    if not first.is_reduced:
        return None
    pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
    pages += [sub for page in pages for sub in (page.pages or ()) if isinstance(sub, tifffile.TiffPage)]
    full = [page for page in pages if not page.is_reduced]
    return max(full, key=lambda page: page.imagewidth * page.imagelength, default=None)


def check_whole(tiff: TiffFile, page: TiffPage, file: Path) -> None:
    """Refuse a file that ends too early: the decoder would fill what is missing with black.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    page : tifffile.TiffPage
    file : Path
        Named in the error.

    Raises
    ------
    InputError
        Where bytes of the picture are missing. Of uncompressed strips only the rows that the picture has are
        needed: some programs state a last strip of full height.
    """
    size = tiff.filehandle.size
    counts = list(page.databytecounts)
    if page.compression == 1 and not page.is_tiled and counts:
        counts = [min(count, needed) for count, needed in zip(counts, _strip_bytes(page), strict=False)]
    ends = [offset + count for offset, count in zip(page.dataoffsets, counts, strict=False)]
    if not ends or max(ends) > size:
        raise damaged(file, EOFError(f"it ends at byte {size} of {max(ends, default=0)}"))


def _strip_bytes(page: TiffPage) -> list[int]:
    """Bytes of the rows that each uncompressed strip of a page really holds."""
    rows = min(page.rowsperstrip or page.imagelength, page.imagelength)
    separate = page.planarconfig == 2
    samples = 1 if separate else page.samplesperpixel
    row_bytes = (page.imagewidth * samples * page.bitspersample + 7) // 8
    plane = [min(rows, page.imagelength - start) * row_bytes for start in range(0, page.imagelength, rows)]
    return plane * (page.samplesperpixel if separate else 1)


def _pixels(
    tiff: TiffFile, series: TiffPageSeries, page: TiffPage, file: Path, notes: list[str]
) -> tuple[np.ndarray, int | None]:
    """Pixels of the first picture of a series, and the depth of its values where the file states it."""
    axes = series.axes
    if "C" in axes and "S" not in axes and series.shape[axes.index("C")] > 1:
        return _channel_planes(series, file, notes), stated_bits(page)
    others = int(np.prod([n for axis, n in zip(axes, series.shape, strict=True) if axis not in "YXSC"]))
    pages = max(others, len(tiff.pages) if len(tiff.series) > 1 else 1)
    if pages > 1 and not page.is_reduced:
        notes.append(f"{pages} pages, the first one was used")
    # A stack of ImageJ's may have one page that stands for all: take that page's own pixels alone.
    return _page_pixels(page, file, notes)


def _page_pixels(page: TiffPage, file: Path, notes: list[str]) -> tuple[np.ndarray, int | None]:
    """Pixels of one page by its photometric interpretation, and their depth where the file states it."""
    array = page.asarray()
    if page.planarconfig == 2 and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    bits = stated_bits(page)
    colours = _colours(array, page, file, notes, bits)
    return colours, bits if colours.dtype == array.dtype else None


def stated_bits(page: TiffPage) -> int | None:
    """Depth of whole values as the tags state it (BitsPerSample, MaxSampleValue), where it is less than the type's.

    Parameters
    ----------
    page : tifffile.TiffPage

    Returns
    -------
    int or None
    """
    if page.dtype is None or page.dtype.kind != "u":
        return None
    full = 8 * page.dtype.itemsize
    if 1 < page.bitspersample < full:
        return int(page.bitspersample)
    tag = page.tags.get(281)
    values = np.atleast_1d(tag.value if tag is not None else 0)
    largest = int(values.max())
    bits = largest.bit_length()
    # Programs write the largest value that occurs, too: only a full scale tells the depth.
    return bits if 8 < bits < full and largest == 2**bits - 1 else None


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


def _colours(array: np.ndarray, page: TiffPage, file: Path, notes: list[str], bits: int | None) -> np.ndarray:
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
        if array.dtype.kind == "b":
            return ~array
        return 255 - to_uint8(array, str(file), notes, bits)
    if photometric == meaning.SEPARATED and array.ndim == 3 and array.shape[-1] >= 4:
        notes.append("CMYK colours, converted to RGB without a colour profile")
        ink = to_uint8(array[..., :4], str(file), notes, bits).astype(np.uint16)
        paper = (255 - ink[..., :3]) * (255 - ink[..., 3:])
        return ((paper + 127) // 255).astype(np.uint8)
    if photometric == meaning.YCBCR and page.compression not in _JPEG and array.ndim == 3:
        notes.append("YCbCr colours, converted to RGB")
        return _from_ycbcr(to_uint8(array[..., :3], str(file), notes, bits), page)
    if photometric in (meaning.CIELAB, meaning.ICCLAB, meaning.ITULAB):
        raise InputError(f"'{file}' has CIELAB colours; save it as RGB.")
    if photometric not in _PLAIN_COLOURS:
        name = getattr(photometric, "name", photometric)
        raise InputError(f"'{file}' has colours of a kind that is not read ({name}); save it as RGB.")
    if _has_alpha(page) and int(page.extrasamples[0]) == 1 and array.ndim == 3:
        return _unassociated(array)
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and not _has_alpha(page):
        colours = 3 if photometric in (meaning.RGB, meaning.YCBCR) else 1
        if colours == 1 and array.shape[-1] > 2:
            raise InputError(
                f"'{file}' has {array.shape[-1]} channels; give the stained smear as one RGB image."
            )
        notes.append("channels other than the colours, dropped")
        return array[..., :colours]
    return array


def _from_ycbcr(pixels: np.ndarray, page: TiffPage) -> np.ndarray:
    """8-bit YCbCr to RGB by the coefficients and the reference values that the file states (TIFF 6.0, section 21)."""
    red, green, blue = _rationals(page, 529, (0.299, 0.587, 0.114))
    black_y, white_y, black_b, white_b, black_r, white_r = _rationals(page, 532, (0, 255, 128, 255, 128, 255))
    values = pixels.astype(np.float32)
    luma = (values[..., 0] - black_y) * 255 / (white_y - black_y)
    chroma_b = (values[..., 1] - black_b) * 127 / (white_b - black_b)
    chroma_r = (values[..., 2] - black_r) * 127 / (white_r - black_r)
    r = chroma_r * (2 - 2 * red) + luma
    b = chroma_b * (2 - 2 * blue) + luma
    g = (luma - blue * b - red * r) / green
    rgb: np.ndarray = np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8)
    return rgb


def _rationals(page: TiffPage, code: int, usual: tuple[float, ...]) -> tuple[float, ...]:
    """Numbers of a tag of rationals, or the usual ones where the file has none that can be used."""
    tag = page.tags.get(code)
    flat = np.asarray(tag.value, float).ravel() if tag is not None else np.zeros(0)
    if flat.size != 2 * len(usual) or (flat[1::2] == 0).any():
        return usual
    values = flat[::2] / flat[1::2]
    spans = values[1::2] - values[::2] if len(usual) == 6 else values
    return usual if (spans <= 0).any() else tuple(float(value) for value in values)


def _unassociated(array: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by their alpha, divided by it again."""
    alpha = array[..., -1:].astype(np.float64)
    full = float(np.iinfo(array.dtype).max) if array.dtype.kind in "ui" else 1.0
    colours = np.divide(
        array[..., :-1] * full, alpha, out=array[..., :-1].astype(np.float64), where=alpha > 0
    )
    if array.dtype.kind in "ui":
        colours = np.clip(np.rint(colours), 0, full)
    return np.concatenate([colours.astype(array.dtype), array[..., -1:]], axis=-1)


def _has_alpha(page: TiffPage) -> bool:
    return len(page.extrasamples) == 1 and int(page.extrasamples[0]) in (1, 2)


def pixel_size(
    tiff: TiffFile, page: TiffPage, notes: list[str] | None = None
) -> tuple[float | None, float | None]:
    """Micrometres per pixel in x and y: OME, then Aperio, then ImageJ, then the resolution tags.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    page : tifffile.TiffPage
    notes : list of str, optional
        A size that the file states and that cannot be read is appended.

    Returns
    -------
    x, y : float or None
    """
    found = [] if notes is None else notes
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_size(tiff.ome_metadata, found)
    aperio = re.search(r"\bMPP\s*=\s*([0-9.,]+)", page.description or "")
    if aperio:
        size = _number(aperio.group(1), found)
        return size, size
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


def _ome_size(metadata: str, notes: list[str]) -> tuple[float | None, float | None]:
    """Pixel sizes of an OME-XML text."""
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError as error:
        notes.append(f"the OME metadata cannot be read ({error}): the pixel size is not taken from it")
        return None, None
    pixels = next((one for one in root.iter() if one.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None, None
    x, y = (_ome_length(pixels.attrib, axis, notes) for axis in "XY")
    return x, y


def _ome_length(attributes: Mapping[str, str], axis: str, notes: list[str]) -> float | None:
    """One physical size in micrometres; None where there is none, or none that can be read."""
    text = attributes.get(f"PhysicalSize{axis}")
    if text is None:
        return None
    unit = attributes.get(f"PhysicalSize{axis}Unit", "µm").strip()
    per_unit = UM_PER_UNIT.get(unit.lower())
    if per_unit is None:
        notes.append(f"the file states a pixel size in '{unit}', which is no unit of length: not used")
        return None
    size = _number(text, notes)
    return None if size is None else size * per_unit


def _number(text: str, notes: list[str]) -> float | None:
    """A number that may be written with a decimal comma; None, with a note, where it is none."""
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        notes.append(f"the file states a pixel size of '{text[:40]}', which is no number: not used")
        return None
