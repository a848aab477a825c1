"""Pictures as people have them: each kind of file with what must come of it, from every way in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

H, W = 140, 180
UM = 0.08


def picture() -> np.ndarray:
    """Glass, red cells and a nucleus, so to speak: bright, medium and dark, with a little noise."""
    rgb = np.full((H, W, 3), (232, 228, 230), np.uint8)
    rgb[10:30, 10:30] = (205, 150, 160)
    rgb[35:50, 40:60] = (90, 50, 130)
    return rgb + np.random.default_rng(1).integers(0, 6, rgb.shape, np.uint8)


RGB = picture()
GREY = np.repeat(RGB[..., 1:2], 3, axis=-1)
OTHER = RGB[::-1, ::-1].copy()


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes
    ----------
    name : str
        Of the file.
    write : callable
        Writes it to a path.
    pixels : numpy.ndarray or None
        What is read, upright; None where the file is refused.
    words : str
        In the error of a file that is refused, or in one of the notes.
    um : float or None
    tolerance : float
        Largest difference of nearly all values.
    window : str
        ``same``; ``stored`` where napari's own reader does not turn it upright; ``refused`` where that reader shows
        another picture than the file's.
    """

    name: str
    write: Callable[[Path], Any]
    pixels: np.ndarray | None = None
    words: str = ""
    um: float | None = None
    tolerance: float = 1.5
    window: str = "same"


def pil(mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    """Write with Pillow."""

    def write(path: Path) -> None:
        image = Image.fromarray(RGB)
        (image.convert(mode) if mode else image).save(path, **options)

    return write


def tif(array: np.ndarray, photometric: str = "rgb", **options: Any) -> Callable[[Path], None]:
    """Write with tifffile."""
    return lambda path: tifffile.imwrite(path, array, photometric=photometric, **options)


def pages(*arrays: np.ndarray, first: dict[str, Any] | None = None) -> Callable[[Path], None]:
    """Write a TIFF of several pages."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            for number, array in enumerate(arrays):
                more = first if number == 0 and first else {}
                file.write(array, photometric="rgb", metadata=None, **more)

    return write


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    # The camera was turned: what is stored is the upright picture turned back.
    Image.fromarray(np.rot90(RGB).copy()).save(path, exif=exif, quality=98, subsampling=0)


def _orientation(path: Path) -> None:
    tifffile.imwrite(
        path, np.rot90(RGB).copy(), photometric="rgb", extratags=[(274, "H", 1, 6, True)], metadata=None
    )


def _palette(path: Path) -> None:
    image = Image.fromarray(RGB).quantize(255)
    colours = np.zeros((256, 3), np.uint16)
    used = np.array(image.getpalette()).reshape(-1, 3)[:256]
    colours[: len(used)] = used * 257
    tifffile.imwrite(path, np.asarray(image), photometric="palette", colormap=colours.T)


def _animation(path: Path) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(OTHER)]
    how = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **how)


def _ome(axes: str, **more: Any) -> dict[str, Any]:
    size = {"PhysicalSizeX": UM, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": UM, "PhysicalSizeYUnit": "µm"}
    return {"ome": True, "metadata": {"axes": axes, **size, **more}}


DEEP = RGB.astype(np.uint16)
ALPHA = np.dstack([RGB, np.full((H, W), 255, np.uint8)])
PLANES = np.moveaxis(RGB, -1, 0)
STACK = np.stack([RGB, OTHER, RGB // 2])
CMYK = np.asarray(Image.fromarray(RGB).convert("CMYK"))
_PER_CM = (1e4 / UM, 1e4 / UM)

KINDS = [
    Kind("a.png", pil(), RGB),
    Kind("a.JPG", pil(quality=100, subsampling=0), RGB, tolerance=4),
    Kind("a.bmp", pil(), RGB),
    Kind("lossless.webp", pil(lossless=True), RGB),
    Kind("a.jp2", pil(irreversible=False), RGB),
    Kind(
        "grey.png",
        pil("L"),
        np.repeat(np.asarray(Image.fromarray(RGB).convert("L"))[..., None], 3, -1),
        "grey",
    ),
    Kind("palette.png", lambda p: Image.fromarray(RGB).quantize(255).save(p), RGB, "palette", tolerance=8),
    Kind("cmyk.jpg", pil("CMYK", quality=100), RGB, "CMYK", tolerance=8),
    Kind("rgba.png", lambda p: Image.fromarray(ALPHA).save(p), RGB, "transparency"),
    Kind(
        "clear.png",
        lambda p: Image.fromarray(np.dstack([RGB, np.zeros((H, W), np.uint8)])).save(p),
        RGB,
        "ignored",
    ),
    Kind("turned.jpg", _turned, RGB, tolerance=6, window="stored"),
    Kind("animation.webp", _animation, RGB, "2 frames, the first one was used"),
    Kind("animation.png", _animation, RGB, "2 frames, the first one was used"),
    Kind("deep16.png", lambda p: Image.fromarray(DEEP[..., 1] * 257).save(p), GREY, "0-65535"),
    Kind("dpi72.png", pil(dpi=(72, 72)), RGB),
    Kind("phys.png", pil(dpi=(25400 / UM, 25400 / UM)), RGB, um=UM),
    Kind("no_suffix", lambda p: Image.fromarray(RGB).save(p, format="PNG"), RGB),
    Kind("png_named.tif", lambda p: Image.fromarray(RGB).save(p, format="PNG"), RGB),
    Kind("plain.tif", tif(RGB), RGB),
    Kind("UPPER.TIFF", tif(RGB), RGB),
    Kind("big_endian.tif", tif(RGB, byteorder=">"), RGB),
    Kind("bigtiff.tif", tif(RGB, bigtiff=True), RGB),
    Kind("lzw.tif", tif(RGB, compression="lzw", predictor=True), RGB),
    Kind(
        "jpeg.tif", lambda p: Image.fromarray(RGB).save(p, compression="jpeg", quality=98), RGB, tolerance=30
    ),
    Kind("jpeg2000.tif", tif(RGB, compression="jpeg2000"), RGB),
    Kind("tiled.tif", tif(RGB, tile=(32, 32)), RGB),
    Kind("planar.tif", tif(PLANES, planarconfig="separate"), RGB),
    Kind("grey.tif", tif(RGB[..., 1], "minisblack"), GREY, "grey"),
    Kind("white0.tif", tif(255 - RGB[..., 1], "miniswhite"), GREY, "inverted"),
    Kind(
        "bilevel.tif",
        tif(RGB[..., 1] > 128, "minisblack"),
        np.repeat((RGB[..., 1:2] > 128) * np.uint8(255), 3, -1),
    ),
    Kind("palette.tif", _palette, RGB, "palette", tolerance=8),
    Kind("cmyk.tif", tif(CMYK, "separated"), RGB, "CMYK"),
    Kind(
        "ycbcr.tif",
        tif(
            np.asarray(Image.fromarray(RGB).convert("YCbCr")), "ycbcr", subsampling=(1, 1), compression="zlib"
        ),
        RGB,
        "YCbCr",
        tolerance=3,
    ),
    Kind("lab.tif", tif(RGB, "cielab"), words="CIELAB"),
    Kind("10bit.tif", tif(DEEP * 4), RGB, "0-1023"),
    Kind("12bit.tif", tif(DEEP * 16), RGB, "0-4095", tolerance=2),
    Kind("14bit.tif", tif(DEEP * 64), RGB, "0-16383", tolerance=2),
    Kind("16bit.tif", tif(DEEP * 257), RGB, "0-65535"),
    Kind("12bit_big_endian.tif", tif(DEEP * 16, byteorder=">"), RGB, "0-4095", tolerance=2),
    Kind("signed16.tif", tif((DEEP * 16).astype(np.int16)), RGB, "0-4095", tolerance=2),
    Kind("32bit.tif", tif(DEEP.astype(np.uint32) * 16), RGB, "0-4095", tolerance=2),
    Kind("float01.tif", tif(RGB.astype(np.float32) / 255), RGB, "0-1"),
    Kind("float255.tif", tif(RGB.astype(np.float32)), RGB, "rounded"),
    Kind("double.tif", tif(RGB.astype(np.float64) / 255), RGB, "0-1"),
    Kind("half.tif", tif((RGB.astype(np.float32) / 255).astype(np.float16)), RGB, "0-1"),
    Kind("rgba.tif", tif(ALPHA, extrasamples=["unassalpha"]), RGB, "transparency"),
    Kind("orientation.tif", _orientation, RGB, window="stored"),
    Kind("stack.tif", tif(STACK), RGB, "3 pages, the first one was used"),
    Kind("pages.tif", pages(RGB, OTHER), RGB, "2 pages, the first one was used"),
    Kind(
        "thumbnail_first.tif",
        pages(RGB[::4, ::4], RGB, first={"subfiletype": 1}),
        RGB,
        "reduced",
        window="refused",
    ),
    Kind("small_first.tif", pages(RGB[::2, ::2], RGB), RGB, "the largest one", window="refused"),
    Kind("label_after.tif", pages(RGB, RGB[:40, :40]), RGB, "first one"),
    Kind("ome.ome.tif", tif(RGB, **_ome("YXS")), RGB, um=UM),
    Kind("planes.ome.tif", tif(PLANES, "minisblack", **_ome("CYX")), RGB, "separate channels", um=UM),
    Kind(
        "named.ome.tif",
        tif(PLANES[::-1].copy(), "minisblack", **_ome("CYX", Channel={"Name": ["Blue", "Green", "Red"]})),
        RGB,
        "separate channels",
        um=UM,
    ),
    Kind(
        "z.ome.tif",
        tif(np.moveaxis(STACK, -1, 1), "minisblack", **_ome("ZCYX")),
        RGB,
        "3 pages, the first one was used",
        um=UM,
    ),
    Kind(
        "dyes.ome.tif",
        tif(PLANES, "minisblack", **_ome("CYX", Channel={"Name": ["DAPI", "FITC", "TRITC"]})),
        words="fluorescence",
    ),
    Kind("five.ome.tif", tif(np.zeros((5, H, W), np.uint8), "minisblack", **_ome("CYX")), words="5 channels"),
    Kind(
        "imagej.tif",
        tif(RGB, imagej=True, resolution=(1 / UM, 1 / UM), metadata={"unit": "micron", "axes": "YXS"}),
        RGB,
        um=UM,
    ),
    Kind(
        "imagej_um.tif",
        tif(RGB, imagej=True, resolution=(1 / UM, 1 / UM), metadata={"unit": "\\u00B5m", "axes": "YXS"}),
        RGB,
        um=UM,
    ),
    Kind(
        "imagej_pixel.tif",
        tif(RGB, imagej=True, resolution=(1 / UM, 1 / UM), metadata={"unit": "pixel", "axes": "YXS"}),
        RGB,
    ),
    Kind(
        "imagej_inch.tif",
        tif(RGB, imagej=True, resolution=(25400 / UM, 25400 / UM), metadata={"unit": "inch", "axes": "YXS"}),
        RGB,
        um=UM,
    ),
    Kind(
        "imagej_z.tif",
        tif(np.moveaxis(STACK, -1, 1).copy(), "minisblack", imagej=True, metadata={"axes": "ZCYX"}),
        RGB,
        "3 pages, the first one was used",
    ),
    Kind("cm.tif", tif(RGB, resolution=_PER_CM, resolutionunit="CENTIMETER"), RGB, um=UM),
    Kind("no_unit.tif", tif(RGB, resolution=_PER_CM, resolutionunit="NONE"), RGB),
    Kind("dpi96.tif", tif(RGB, resolution=(96, 96), resolutionunit="INCH"), RGB),
    Kind("oblong.ome.tif", tif(RGB, **_ome("YXS", PhysicalSizeY=2 * UM)), RGB, "not square"),
    Kind(
        "implausible.ome.tif",
        tif(RGB, **_ome("YXS", PhysicalSizeX=8.0, PhysicalSizeY=8.0)),
        RGB,
        "not plausible",
    ),
]


def _nan() -> np.ndarray:
    real = RGB.astype(np.float32) / 255
    real[5, 5] = np.nan
    return real


KINDS.append(Kind("nan.tif", tif(_nan()), RGB, "not finite"))
