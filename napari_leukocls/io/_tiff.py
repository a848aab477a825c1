"""TIFF as microscopes write it: OME, ImageJ, Aperio, 16 bit, planes and pages."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, Picture, damaged, plausible_um_per_px
from napari_leukocls.io.channels import check_ground, colour_order
from napari_leukocls.io.convert import MAX_PIXELS, check_size, to_uint8
from napari_leukocls.io.planes import take_plane

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


def read_tiff(file: Path, plane: int | str = "first") -> Picture:
    """Read the picture of a TIFF: the largest one that is no reduced copy.

    Parameters
    ----------
    file : Path
    plane : int or str
        Of a stack, see `napari_leukocls.io.planes.take_plane`.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If the file is damaged, the image is too small or too large, its channels are not a colour image, or it has
        no such plane.
    """
    notes: list[str] = []
    try:
        with tifffile.TiffFile(file) as tiff:
            check_pages(tiff)
            series, full = _main_picture(tiff, notes)
            page = full or series.keyframe
            check_size(page.imagewidth, page.imagelength, str(file))
            check_whole(tiff, page, file)
            if full is None:
                array, bits = _pixels(tiff, series, file, plane, notes)
            else:
                array, bits = _page_pixels(page, file, notes)
            um_per_px = um_per_px_of(tiff, page, notes, tiff.series.index(series))
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
    except DAMAGE as error:
        raise damaged(file, error) from error
    return Picture(array, um_per_px, list(dict.fromkeys(notes)), bits, orientation)


def check_pages(tiff: TiffFile) -> None:
    """Refuse a chain of pages that overlap each other: reading all of them would take hours.

    Parameters
    ----------
    tiff : tifffile.TiffFile

    Raises
    ------
    ValueError
        If the pages state more tags than the file has room for.
    """
    kind, file = tiff.tiff, tiff.filehandle
    big = kind.version == 43
    number, count, tag = ("Q", "Q", 20) if big else ("I", "H", 12)
    at, tags = 8 if big else 4, 0
    while True:
        file.seek(at)
        raw = file.read(struct.calcsize(number))
        if len(raw) < struct.calcsize(number):
            return
        (offset,) = struct.unpack(tiff.byteorder + number, raw)
        if not 0 < offset < file.size:
            return
        file.seek(offset)
        raw = file.read(struct.calcsize(count))
        if len(raw) < struct.calcsize(count):
            return
        (n,) = struct.unpack(tiff.byteorder + count, raw)
        tags += n + 1
        # Twice the room, for the pages that share a little.
        if tags * tag > 2 * file.size:
            raise ValueError("its pages overlap each other")
        at = offset + struct.calcsize(count) + n * tag


def _main_picture(tiff: TiffFile, notes: list[str]) -> tuple[TiffPageSeries, TiffPage | None]:
    """The series of the picture, or a page outside of it where the series is a reduced copy of that.

    Thumbnails come first in DNG and in some scanners' files; the full picture is a later page, or a SubIFD. Labels
    and maps of a slide are smaller than the picture itself.
    """
    series = tiff.series[0]
    first = series.keyframe
    if first.is_reduced:
        full = _full_picture(tiff)
        if full is not None:
            notes.append("the first picture is a reduced copy; the full one was used")
        return series, full
    largest = max(tiff.series, key=_area)
    if _area(largest) > _area(series) and not largest.keyframe.is_reduced:
        notes.append("pictures of several sizes, the largest one was used")
        return largest, None
    return series, None


def _area(series: TiffPageSeries) -> int:
    page = series.keyframe
    return int(page.imagewidth) * int(page.imagelength)


def _full_picture(tiff: TiffFile) -> TiffPage | None:
    """The largest page or SubIFD of a file that is no reduced copy."""
    pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
    pages += [sub for page in pages for sub in (page.pages or ()) if isinstance(sub, tifffile.TiffPage)]
    full = [page for page in pages if not page.is_reduced]
    return max(full, key=lambda page: page.imagewidth * page.imagelength, default=None)


def stack_axes(file: Path) -> tuple[tuple[str, int], ...]:
    """The axes of a TIFF's picture other than height, width and the colours of a pixel, in their order.

    Parameters
    ----------
    file : Path

    Returns
    -------
    tuple of (str, int)
        Letter and length of each axis; "C" stands for separate channels that are one picture together.
    """
    with tifffile.TiffFile(file) as tiff:
        check_pages(tiff)
        series, full = _main_picture(tiff, [])
        if full is not None:
            return ()
        colour = "C" if _separate_channels(series) else ""
        planar = series.axes.find("S") < series.axes.find("Y") if "S" in series.axes else False
        sizes = zip(series.axes, series.shape, strict=True)
        return tuple(
            ("C" if axis == "S" or axis == colour else axis.replace("C", "Q"), int(size))
            for axis, size in sizes
            if axis not in "YX" and not (axis == "S" and not planar)
        )


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
    needed = int(np.prod(page.chunked, dtype=float))
    # Also: a height that lies would make a list of all the strips that there should be.
    if len(page.dataoffsets) < needed:
        raise damaged(file, EOFError(f"it holds {len(page.dataoffsets)} of {needed} strips or tiles"))
    counts = list(page.databytecounts)
    if page.compression == 1 and not page.is_tiled and counts:
        counts = [min(count, rows) for count, rows in zip(counts, _strip_bytes(page), strict=False)]
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
    tiff: TiffFile, series: TiffPageSeries, file: Path, plane: int | str, notes: list[str]
) -> tuple[np.ndarray, int | None]:
    """Pixels of the chosen plane of a series, and the depth of their values where the file states it."""
    separate = _separate_channels(series)
    inner = "YXSC" if separate else "YXS"
    counts = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in inner]
    count = int(np.prod([n for _, n in counts]))
    if count == 1 and len(tiff.series) > 1 and len(tiff.pages) > 1 and len(series.levels) == 1:
        others = sum(not one.keyframe.is_reduced for one in tiff.series)
        if others > 1 and series is tiff.series[0]:
            notes.append(f"{len(tiff.pages)} pages, the first one was used")
    bits: list[int | None] = []

    def read(index: int) -> np.ndarray:
        where = dict(
            zip((axis for axis, _ in counts), np.unravel_index(index, [n for _, n in counts]), strict=True)
        )
        if separate:
            bits.append(stated_bits(series.keyframe))
            return _channel_planes(tiff, series, where, file, notes)
        page = _page_at(series, where)
        if page is None:
            pixels = _of_whole_stack(series, where, file)
            array, depth = _converted(pixels, series.keyframe, file, notes)
        else:
            array, depth = _page_pixels(page, file, notes)
        bits.append(depth)
        return array

    array = take_plane(read, count, plane, notes, str(file), "pages")
    return array, bits[-1]


def _separate_channels(series: TiffPageSeries) -> bool:
    """Whether the colours of a picture are planes of their own, as ImageJ and OME store them."""
    axes = series.axes
    return "C" in axes and "S" not in axes and series.shape[axes.index("C")] > 1


def _page_at(series: TiffPageSeries, where: dict[str, np.intp]) -> TiffPage | None:
    """The page at an index of each axis; None where one page stands for a whole stack (ImageJ)."""
    if not where:
        return series.keyframe
    outer = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis in where]
    first = series.axes.index(outer[-1][0])
    if any(axis not in where for axis in series.axes[:first]):
        return None
    number = int(np.ravel_multi_index([where[axis] for axis, _ in outer], [n for _, n in outer]))
    if len(series.pages) <= number:
        # The first page holds the first plane, whatever the others are.
        return series.keyframe if number == 0 else None
    page = series.pages[number]
    if page is None:
        raise EOFError(f"plane {number + 1} is missing")
    return page.aspage()


def _of_whole_stack(series: TiffPageSeries, where: dict[str, np.intp], file: Path) -> np.ndarray:
    """A plane of a stack that is stored as one block."""
    if int(np.prod(series.shape, dtype=float)) > 4 * MAX_PIXELS:
        raise InputError(f"'{file}' holds a stack that is too large; save one plane of it as RGB.")
    array = series.asarray()
    plane: np.ndarray = array[tuple(where.get(axis, slice(None)) for axis in series.axes)]
    return plane


def _page_pixels(page: TiffPage, file: Path, notes: list[str]) -> tuple[np.ndarray, int | None]:
    """Pixels of one page by its photometric interpretation, and their depth where the file states it."""
    return _converted(page.asarray(), page, file, notes)


def _converted(
    array: np.ndarray, page: TiffPage, file: Path, notes: list[str]
) -> tuple[np.ndarray, int | None]:
    """Pixels as a page stores them to grey or RGB, by what the page says of them."""
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


def _channel_planes(
    tiff: TiffFile, series: TiffPageSeries, where: dict[str, np.intp], file: Path, notes: list[str]
) -> np.ndarray:
    """Three or four planes, taken as red, green and blue: how ImageJ and OME store colour."""
    axes, channels = series.axes, series.shape[series.axes.index("C")]
    names, fluorescence = _channel_names(tiff, tiff.series.index(series))
    order = colour_order(names, channels, str(file), fluorescence)
    if int(np.prod(series.shape, dtype=float)) > 4 * MAX_PIXELS:
        raise InputError(f"'{file}' holds a stack that is too large; save one plane of it as RGB.")
    array = series.asarray()[tuple(where.get(axis, slice(None)) for axis in axes)]
    left = [axis for axis in axes if axis not in where]
    notes.append("separate channels, used as red, green and blue")
    if channels == 4:
        notes.append("a fourth channel, dropped")
    colours: np.ndarray = np.transpose(array, [left.index(axis) for axis in "YXC"])[..., list(order)]
    check_ground(colours, str(file))
    return colours


def _channel_names(tiff: TiffFile, number: int) -> tuple[list[str], bool]:
    """Names of the channels of a series by OME or ImageJ, and whether they are said to be fluorescence."""
    if tiff.is_ome and tiff.ome_metadata:
        found = _ome_elements(tiff.ome_metadata, number, [])
        channels = [one for one in found if one.tag.rpartition("}")[2] == "Channel"]
        emits = any(
            "EmissionWavelength" in one.attrib
            or "Fluor" in one.attrib
            or one.get("ContrastMethod") == "Fluorescence"
            for one in channels
        )
        return [one.get("Name", "") for one in channels], emits
    if tiff.is_imagej and tiff.imagej_metadata:
        tables = tiff.imagej_metadata.get("LUTs") or []
        brightest = [np.asarray(table).reshape(3, -1)[:, -1] for table in tables]
        pure = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue"}
        names = [pure.get((int(r), int(g), int(b)), "") for r, g, b in brightest]
        labels = tiff.imagej_metadata.get("Labels") or []
        return (names, False) if any(names) else ([str(label) for label in labels], False)
    return [], False


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


def um_per_px_of(tiff: TiffFile, page: TiffPage, notes: list[str], number: int = 0) -> float | None:
    """The plausible pixel size of a picture.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    page : tifffile.TiffPage
    notes : list of str
        A size that the file states and that is not used is appended.
    number : int
        Of the series, for OME.

    Returns
    -------
    float or None
        um per pixel.
    """
    x, y = _pixel_size(tiff, page, notes, number)
    # Only the metadata of microscopes state sizes in earnest: every program writes a resolution.
    microscope = bool(tiff.is_ome or tiff.is_lsm or "MPP" in (page.description or ""))
    return plausible_um_per_px(x, y, notes, microscope)


def _pixel_size(
    tiff: TiffFile, page: TiffPage, found: list[str], number: int
) -> tuple[float | None, float | None]:
    """Micrometres per pixel in x and y: OME, then LSM, Aperio, ImageJ, then the resolution tags."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_size(tiff.ome_metadata, found, number)
    if tiff.is_lsm and tiff.lsm_metadata:
        metres = [tiff.lsm_metadata.get(f"VoxelSize{axis}") for axis in "XY"]
        return metres[0] and metres[0] * 1e6, metres[1] and metres[1] * 1e6
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
        # A unit such as "pixel" states no size, whatever the resolution tags say.
        per_unit = UM_PER_UNIT.get(unit) if unit else per_unit
    return (None, None) if per_unit is None else (per_unit / x, per_unit / y)


def _ratio(page: TiffPage, code: int) -> float | None:
    tag = page.tags.get(code)
    if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2:
        return None
    over, under = tag.value
    return over / under if over > 0 and under > 0 else None


def _ome_elements(metadata: str, number: int, notes: list[str]) -> list[ElementTree.Element]:
    """The ``Pixels`` of one image of an OME-XML text, and what is in it; nothing where there is none."""
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError as error:
        notes.append(f"the OME metadata cannot be read ({error}): the pixel size is not taken from it")
        return []
    images = [one for one in root.iter() if one.tag.rpartition("}")[2] == "Pixels"]
    if not images:
        return []
    return list(images[min(number, len(images) - 1)].iter())


def _ome_size(metadata: str, notes: list[str], number: int = 0) -> tuple[float | None, float | None]:
    """Pixel sizes of an OME-XML text."""
    found = _ome_elements(metadata, number, notes)
    if not found:
        return None, None
    x, y = (_ome_length(found[0].attrib, axis, notes) for axis in "XY")
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
