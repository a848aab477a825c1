"""The picture of a result: outlines in the colours of the classes, a legend and a scale bar."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from PIL.ImageFont import load_default

from napari_leukocls.measurement.fine import leaf_rows, shown_classes
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    import pandas as pd
    from PIL.ImageFont import FreeTypeFont, ImageFont

#: Width beyond which the picture is reduced, pixels.
MAX_WIDTH = 2000
_BAR_LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_UNKNOWN = (128, 128, 128)

#: Written on a heap that is too thick to count.
_HEAP = "heap"

#: More names would cover the picture.
_MAX_NAMES = 400


def draw_overlay(result: FieldResult, scheme: Scheme, max_width: int = MAX_WIDTH) -> Image.Image:
    """Draw outlines, the short name beside each nucleated cell, a legend and a scale bar.

    Parameters
    ----------
    result : FieldResult
    scheme : Scheme
    max_width : int
        Pixels; a wider image is reduced to it.

    Returns
    -------
    PIL.Image.Image
        RGB; the legend is a strip under the image. A "?" after a name says that the cell needs review.
    """
    return draw_cells(
        result.image.pixels,
        result.labels,
        result.cells,
        result.counts,
        result.um_per_px,
        scheme,
        max_width,
        result.segmentation.outlines,
        result.segmentation.heaps,
    )


def draw_cells(
    pixels: np.ndarray,
    labels: np.ndarray,
    cells: pd.DataFrame,
    counts: pd.DataFrame,
    um_per_px: float,
    scheme: Scheme,
    max_width: int = MAX_WIDTH,
    outlines: Mapping[int, np.ndarray] | None = None,
    heaps: Sequence[np.ndarray] = (),
) -> Image.Image:
    """Draw cells on a picture, as `draw_overlay` does.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; boxes are in pixels of the picture.
    counts : pandas.DataFrame
        Columns as in ``counts.csv``, for the legend.
    um_per_px : float
        Pixel size of the picture in micrometres; nan if it is not known.
    scheme : Scheme
    max_width : int
        Pixels; a wider picture is reduced to it.
    outlines : mapping of int to numpy.ndarray, (M, 2), optional
        Whole outlines of covered cells, as `Segmentation` has them.
    heaps : sequence of numpy.ndarray, (M, 2)
        Heaps too thick to count.

    Returns
    -------
    PIL.Image.Image
        RGB, with the legend under the picture.
    """
    height, width = labels.shape
    factor = min(1.0, max_width / width)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if factor < 1:
        size = (max_width, max(1, round(height * factor)))
        picture = picture.resize(size, Image.Resampling.BOX)
        labels = _nearest(labels, size)
    drawn = np.array(picture)
    # In a reduced picture the smallest cells may have no pixel.
    top = max(int(labels.max(initial=0)), int(cells["cell_id"].max()) if len(cells) else 0)
    colours, strong = _cell_colours(cells, scheme, top)
    paint_outlines(drawn, labels, colours, strong)
    picture = Image.fromarray(drawn)
    draw = ImageDraw.Draw(picture)
    for cell, line in (outlines or {}).items():
        if 0 < cell < len(colours):
            _draw_ring(draw, line * factor, tuple(colours[cell]), 1)
    for heap in heaps:
        _draw_ring(draw, heap * factor, _UNKNOWN, 3)
        x, y = heap.mean(axis=0) * factor
        draw.text(
            (x, y), _HEAP, fill="white", font=_font(13), anchor="mm", stroke_width=2, stroke_fill="black"
        )
    _draw_names(draw, cells, scheme, factor)
    _draw_scale_bar(draw, picture.size, um_per_px / factor)
    return _with_legend(picture, counts, scheme)


def overlay_png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG, with light compression, which is much faster.

    Parameters
    ----------
    picture : PIL.Image.Image

    Returns
    -------
    bytes
    """
    return _encoded(picture, "PNG", compress_level=3)


def jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    """Encode a picture as JPEG.

    Parameters
    ----------
    picture : PIL.Image.Image
    quality : int
        1 to 95.

    Returns
    -------
    bytes
    """
    return _encoded(picture, "JPEG", quality=quality)


def paint_outlines(pixels: np.ndarray, labels: np.ndarray, colours: np.ndarray, strong: np.ndarray) -> None:
    """Paint the inner edge of each cell into `pixels`, two pixels wide where `strong`.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        Changed in place.
    labels : numpy.ndarray, (H, W), int
    colours : numpy.ndarray, (N + 1, 3), uint8
        Row i is the colour of label i.
    strong : numpy.ndarray, (N + 1,), bool
    """
    edge = np.zeros(labels.shape, bool)
    for here, there in _neighbours():
        edge[here] |= labels[here] != labels[there]
    edge &= labels > 0
    second = np.zeros(labels.shape, bool)
    for here, there in _neighbours():
        second[here] |= edge[there] & (labels[here] == labels[there])
    second &= strong[labels]
    edge |= second
    pixels[edge] = colours[labels[edge]]


def _neighbours() -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Pairs of views that lay each pixel over its four neighbours in turn."""
    whole, first, last = slice(None), slice(None, -1), slice(1, None)
    yield (first, whole), (last, whole)
    yield (last, whole), (first, whole)
    yield (whole, first), (whole, last)
    yield (whole, last), (whole, first)


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at the centres of the pixels of a smaller picture of `size` (width, height)."""
    rows = ((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]).astype(np.intp)
    columns = ((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]).astype(np.intp)
    array: np.ndarray = labels[rows[:, None], columns]
    return array


def _cell_colours(cells: pd.DataFrame, scheme: Scheme, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour of each label, and whether it stands out (everything but a red cell)."""
    colours = np.full((top + 1, 3), _UNKNOWN, np.uint8)
    strong = np.zeros(top + 1, bool)
    ids = cells["cell_id"].to_numpy()
    names = shown_classes(cells)
    for name in set(names):
        mine = ids[names == name]
        if name in scheme:
            colours[mine] = scheme[name].rgb
        strong[mine] = name != "red_cell"
    return colours, strong


def _font(size: int) -> FreeTypeFont | ImageFont:
    return load_default(size)


def _draw_names(draw: ImageDraw.ImageDraw, cells: pd.DataFrame, scheme: Scheme, factor: float) -> None:
    font = _font(13)
    named = cells.assign(shown=shown_classes(cells))
    named = named[~named["shown"].isin(["red_cell", "platelet"])].head(_MAX_NAMES)
    columns = named[["shown", "needs_review", "corrected_class", "bbox_y0", "bbox_x0"]]
    for name, unsure, corrected, y0, x0 in columns.itertuples(index=False):
        short = scheme[name].short if name in scheme else str(name)
        text = f"{short}?" if unsure and not corrected and not short.endswith("?") else short
        at = (x0 * factor + 2, max(0, y0 * factor - 14))
        draw.text(at, text, fill="white", font=font, stroke_width=2, stroke_fill="black")


def _draw_scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], um_per_px: float) -> None:
    """A bar of a round length, about a fifth of the width, at the lower left."""
    width, height = size
    if not math.isfinite(um_per_px) or um_per_px <= 0 or width < 80 or height < 60:
        return
    fitting = [length for length in _BAR_LENGTHS if length / um_per_px <= width / 5]
    if not fitting:
        return
    length = fitting[-1] / um_per_px
    left, bottom = 10, height - 12
    draw.rectangle((left - 1, bottom - 5, left + length + 1, bottom + 1), fill="white")
    draw.rectangle((left, bottom - 4, left + length, bottom), fill="black")
    text = f"{fitting[-1]} um"
    draw.text((left, bottom - 24), text, fill="black", font=_font(14), stroke_width=2, stroke_fill="white")


def _with_legend(picture: Image.Image, counts: pd.DataFrame, scheme: Scheme) -> Image.Image:
    """The picture with a strip under it: colour, name and count of each class that was found."""
    found = leaf_rows(counts)
    found = found[found["count"] > 0]
    entries = [
        (scheme[name].rgb, f"{scheme[name].display} {count}")
        for name, count in found[["class", "count"]].itertuples(index=False)
    ] or [(_UNKNOWN, "no settled cell")]
    font, line, gap = _font(14), 24, 34
    measure = ImageDraw.Draw(picture)
    places, x, y = [], 8, 0
    for _, text in entries:
        length = int(measure.textlength(text, font=font)) + gap
        if x > 8 and x + length > picture.width:
            x, y = 8, y + line
        places.append((x, y))
        x += length
    canvas = Image.new("RGB", (picture.width, picture.height + y + line), "white")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for (rgb, text), (left, top) in zip(entries, places, strict=True):
        upper = picture.height + top + 6
        draw.rectangle((left, upper, left + 13, upper + 13), fill=rgb, outline="black")
        draw.text((left + 19, upper - 2), text, fill="black", font=font)
    return canvas


def _draw_ring(draw: ImageDraw.ImageDraw, points: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    """Draw a closed line through points x, y, whose pixels have their corners at whole numbers."""
    closed = np.concatenate([points, points[:1]]) - 0.5
    rgb = (int(colour[0]), int(colour[1]), int(colour[2]))
    draw.line([(float(x), float(y)) for x, y in closed], fill=rgb, width=width, joint="curve")


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
