"""The formats of scanners that OpenSlide reads: SVS, NDPI, MRXS, SCN and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, damaged, plausible_um_per_px
from napari_leukocls.io.slides.base import MAX_TILE_PIXELS, Level, SlideImage
from napari_leukocls.io.slides.tiff import TiffSlide

try:
    import openslide
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Formats of scanners that can be read as TIFF, without OpenSlide.
_ALSO_TIFF = (".svs",)


def open_scanner(file: Path) -> SlideImage:
    """Open a scanner's file with OpenSlide; an SVS as TIFF if OpenSlide is not installed.

    Parameters
    ----------
    file : Path

    Returns
    -------
    SlideImage

    Raises
    ------
    InputError
        If OpenSlide is needed and not installed, or cannot read the file.
    """
    if not _INSTALLED:
        if file.suffix.lower() in _ALSO_TIFF:
            return TiffSlide(file)
        raise InputError(
            f"'{file}' needs OpenSlide: pip install 'napari-leukocls[wsi]', or export it as OME-TIFF."
        )
    _check_tiles(file)
    try:
        return OpenSlideImage(file)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise InputError(
            f"'{file}' is not a slide that OpenSlide can read; export it as OME-TIFF."
        ) from error
    except openslide.OpenSlideError as error:
        raise damaged(file, error) from error


def _check_tiles(file: Path) -> None:
    """Refuse tiles of an impossible size: OpenSlide asks for their memory, and without it ends the whole process."""
    try:
        with tifffile.TiffFile(file) as tiff:
            pages = [tiff.pages[number] for number in range(len(tiff.pages))]
            sizes = [
                page.tilewidth * page.tilelength
                for page in pages
                if isinstance(page, tifffile.TiffPage) and page.is_tiled
            ]
    except DAMAGE:
        # No TIFF, as MRXS is none: OpenSlide's own checks remain.
        return
    if max(sizes, default=0) > MAX_TILE_PIXELS:
        raise damaged(file, ValueError(f"it states tiles of {max(sizes)} pixels"))


class OpenSlideImage(SlideImage):
    """A slide that OpenSlide reads.

    Parameters
    ----------
    file : Path
    """

    def __init__(self, file: Path) -> None:
        self.source = str(file)
        self._slide = openslide.OpenSlide(file)
        notes: list[str] = []
        sizes = [self._number(openslide.PROPERTY_NAME_MPP_X), self._number(openslide.PROPERTY_NAME_MPP_Y)]
        self.um_per_px = plausible_um_per_px(sizes[0], sizes[1], notes)
        self.levels = tuple(
            Level(height, width, float(downsample))
            for (width, height), downsample in zip(
                self._slide.level_dimensions, self._slide.level_downsamples, strict=True
            )
        )
        self.notes = tuple(notes)

    def _number(self, name: str) -> float | None:
        try:
            return float(self._slide.properties[name])
        except (KeyError, ValueError):
            return None

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def _read(self, y0: int, y1: int, x0: int, x1: int, level: int) -> NDArray[np.uint8]:
        step = self.levels[level].downsample
        corner = (round(x0 * step), round(y0 * step))
        try:
            region = self._slide.read_region(corner, level, (x1 - x0, y1 - y0))
        except openslide.OpenSlideError as error:
            raise damaged(Path(self.source), error) from error
        pixels = np.asarray(region)
        colour, alpha = pixels[..., :3], pixels[..., 3:].astype(np.uint16)
        if (alpha == 255).all():
            return colour
        # Parts that were not scanned are transparent: make them white, like empty glass.
        return (255 - ((255 - colour) * alpha + 127) // 255).astype(np.uint8)
