"""Colours and outlines of the cells of a labels layer, made of whole arrays: napari makes them label by label."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_leukocls.types import Segmentation

#: Width of an outline on the screen, pixels.
OUTLINE_SCREEN_PX = 2.0
#: Widest outline relative to a red cell.
WIDEST_SHARE = 1 / 6
#: The width is changed when it differs by more than this share: each change draws the whole layer again.
STEP = 0.3

RGBA = tuple[float, float, float, float]
CLEAR: RGBA = (0.0, 0.0, 0.0, 0.0)


class CellColours(DirectLabelColormap):
    """A colour for each cell.

    As napari's colour map of the same name, which goes through all cells and a table of 65,536 colours in loops of
    Python at each change of one colour.
    """

    #: Colour by label; the last row is that of labels that are not in the table. (N, 4), float32.
    _rows: np.ndarray | None = PrivateAttr(default=None)

    def _map_without_cache(self, values: np.ndarray) -> np.ndarray:
        if self._rows is None:
            found: np.ndarray = super()._map_without_cache(values)
            return found
        other = len(self._rows) - 1
        array: np.ndarray = self._rows[np.where((values < 0) | (values > other), other, values)]
        return array

    def _map_precast(self, values: np.ndarray, apply_selection: bool) -> np.ndarray:
        by_number = self._values_mapping_to_minimum_values_set(apply_selection)[1]
        table = np.array([by_number[number] for number in range(len(by_number))], np.float32)
        array: np.ndarray = table[values]
        return array


def cell_colours(ids: np.ndarray, inks: np.ndarray, palette: Sequence[RGBA], other: RGBA) -> CellColours:
    """Make the colour map of cells.

    Parameters
    ----------
    ids : numpy.ndarray, (N,), int
        Labels, 1 or more.
    inks : numpy.ndarray, (N,), int
        Index into ``palette`` for each label.
    palette : sequence of tuple of float
        RGBA, 0 to 1.
    other : tuple of float
        The colour of labels that are not among ``ids``. The background is transparent.

    Returns
    -------
    CellColours
    """
    arrays = [np.array(colour, np.float32) for colour in palette]
    unknown = np.array(other, np.float32)
    made = CellColours(color_dict=defaultdict(lambda: unknown, {None: unknown, 0: np.array(CLEAR)}))
    # napari checks each colour that the constructor gets, and counts them one by one, which takes long for thousands.
    made.color_dict.update(zip(ids.tolist(), map(arrays.__getitem__, inks.tolist()), strict=True))
    made._clear_cache()
    rows = np.empty((int(ids.max(initial=0)) + 2, 4), np.float32)
    rows[:] = unknown
    rows[0] = CLEAR
    if len(ids):
        rows[ids] = np.array(arrays)[inks]
    made._rows = rows
    made.__dict__["_num_unique_colors"] = len({*(palette[i] for i in np.unique(inks)), other, CLEAR})
    return made


def outline(labels: np.ndarray, width: int) -> np.ndarray:
    """Keep the pixels of cells that are near the edge of their cell.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int
        0 is the background.
    width : int
        Pixels; at least 1.

    Returns
    -------
    numpy.ndarray, (H, W)
        Labels of the outlines, of the same type.
    """
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        later, earlier = (slice(1, None), slice(None, -1))
        at = (slice(None),) * axis
        differs = labels[(*at, later)] != labels[(*at, earlier)]
        edge[(*at, later)] |= differs
        edge[(*at, earlier)] |= differs
    if width > 1:
        distance = cv2.distanceTransform((~edge).view(np.uint8), cv2.DIST_L2, 3)
        edge = distance < width
    return np.where(edge, labels, labels.dtype.type(0))


def width_at(pixel_on_screen: float, red_cell_px: float) -> int:
    """Return the width of outlines that can be seen at a zoom.

    Parameters
    ----------
    pixel_on_screen : float
        Size of a pixel of the image, pixels of the screen.
    red_cell_px : float
        Diameter of a red cell, pixels of the image.

    Returns
    -------
    int
        Pixels of the image.
    """
    wanted = OUTLINE_SCREEN_PX / max(pixel_on_screen, 1e-6)
    return max(1, round(min(wanted, WIDEST_SHARE * red_cell_px)))


#: A label that no cell has, which is grey: outlines of heaps.
HEAP = 65_535
#: Binary digits behind the point of drawn outlines.
_BITS = 4

#: Outlines that labels cannot hold: label, and x, y (M, 2) in pixels whose corners are at whole numbers.
Lines = list[tuple[int, np.ndarray]]


def hidden_lines(segmentation: Segmentation) -> Lines:
    """List what labels cannot hold: whole outlines of covered cells, and heaps too thick to count.

    Parameters
    ----------
    segmentation : Segmentation

    Returns
    -------
    list of tuple
        Label and outline; heaps have the label `HEAP`.
    """
    return [(HEAP, heap) for heap in segmentation.heaps] + list(segmentation.outlines.items())


def draw_lines(drawn: np.ndarray, lines: Lines, width: int, corner: tuple[int, int] = (0, 0)) -> None:
    """Draw outlines that overlap.

    Parameters
    ----------
    drawn : numpy.ndarray, (h, w), uint16 or int32
        Labels of outlines; changed in place.
    lines : list of tuple
        As from `hidden_lines`.
    width : int
        Pixels; at least 1.
    corner : tuple of int
        y, x of `drawn` in the image.
    """
    shift = np.array([corner[1] + 0.5, corner[0] + 0.5])
    for label, line in lines:
        points = np.round((line - shift) * 2**_BITS).astype(np.int32)
        cv2.polylines(drawn, [points], True, label, width, cv2.LINE_8, _BITS)


class Outlines:
    """Draws the outlines of one labels layer, and keeps them while no outline changes.

    napari computes the outlines of the whole image again at each change of a colour, the slower the wider they are.
    Where a version of napari does not call what is replaced here, its own outlines are drawn.

    Parameters
    ----------
    layer : napari.layers.Labels
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = weakref.ref(layer)
        self._lines: Lines = []
        #: The labels, the width and the outlines that were computed last.
        self._last: tuple[np.ndarray, int, np.ndarray] | None = None
        #: Width that was set last; another one is the choice of a person.
        self.width = int(layer.contour)
        layer._calculate_contour = self._calculate

    def follow(self, pixel_on_screen: float, red_cell_px: float) -> None:
        """Fit the width to a zoom. A width that a person has chosen stays.

        Parameters
        ----------
        pixel_on_screen, red_cell_px : float
            See `width_at`.
        """
        layer = self._layer()
        if layer is None or not layer.contour or int(layer.contour) != self.width:
            return
        wanted = width_at(pixel_on_screen, red_cell_px)
        if abs(wanted - self.width) > STEP * self.width:
            self.width = wanted
            layer.contour = wanted

    def start(self, width: int, segmentation: Segmentation) -> None:
        """Draw outlines of a width, or none.

        Parameters
        ----------
        width : int
            Pixels of the image; 0 fills the cells.
        segmentation : Segmentation
            Its covered cells and heaps are drawn, too.
        """
        layer = self._layer()
        if layer is not None:
            # First, so that the outlines of the whole image are computed once.
            self.overlap(segmentation)
            self.width = width
            layer.contour = width

    def overlap(self, segmentation: Segmentation) -> None:
        """Draw the whole outlines of covered cells and heaps too, where outlines are drawn.

        Parameters
        ----------
        segmentation : Segmentation
        """
        before, self._lines = self._lines, hidden_lines(segmentation)
        same = len(before) == len(self._lines) and all(
            one[0] == other[0] and one[1] is other[1] for one, other in zip(before, self._lines, strict=True)
        )
        layer = self._layer()
        if not same and layer is not None:
            self._last = None
            if layer.contour:
                layer.refresh()

    def _calculate(self, labels: np.ndarray, data_slice: tuple[slice, ...]) -> np.ndarray | None:
        layer = self._layer()
        width = 0 if layer is None else int(layer.contour)
        if width < 1 or labels.ndim != 2:
            return None
        spans = [part.indices(n) for part, n in zip(data_slice, labels.shape, strict=True)]
        if all(start == 0 and stop == n for (start, stop, _), n in zip(spans, labels.shape, strict=True)):
            return self._whole(labels, width)
        # A part that was painted: the outlines near it change with it.
        self._last = None
        grown = [
            (max(0, a - width - 1), min(n, b + width + 1))
            for (a, b, _), n in zip(spans, labels.shape, strict=True)
        ]
        (y0, y1), (x0, x1) = grown
        part = outline(np.asarray(labels[y0:y1, x0:x1]), width)
        draw_lines(part, self._lines, width, (y0, x0))
        (top, bottom, _), (left, right, _) = spans
        array: np.ndarray = part[top - y0 : bottom - y0, left - x0 : right - x0]
        return array

    def _whole(self, labels: np.ndarray, width: int) -> np.ndarray:
        if self._last is not None:
            known, its_width, found = self._last
            if its_width == width and known.dtype == labels.dtype and np.array_equal(known, labels):
                return found
        found = outline(np.asarray(labels), width)
        draw_lines(found, self._lines, width)
        self._last = (np.array(labels), width, found)
        return found


def unrefreshed(layer: Any) -> AbstractContextManager[Any]:
    """Return a context in which napari does not draw a layer again after each change.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    context manager
        Does nothing where a version of napari has no such context.
    """
    blocked = getattr(layer, "_block_refresh", None)
    found: AbstractContextManager[Any] = nullcontext() if blocked is None else blocked()
    return found


@contextmanager
def colours_alone(viewer: Any, layer: Any) -> Iterator[None]:
    """Make a context in which a change of the colours does not cut and send all labels again.

    Labels of 8 and 16 bits are coloured on the graphics card, so that they stay as they are there.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Labels
    """
    if layer.data.dtype.itemsize > 2:
        yield
        return
    with unrefreshed(layer), unlisted(viewer, layer):
        yield


def unlisted(viewer: Any, layer: Any) -> AbstractContextManager[Any]:
    """Return a context in which the list of layers is not told of the changes of a layer.

    It shows a layer's name, eye and thumbnail. But napari draws it again after every change, and with it the whole
    window a second time, even where none of these has changed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Layer

    Returns
    -------
    context manager
        Does nothing where a version of napari has no such callback.
    """
    passed_on = getattr(viewer.layers, "_reemit_child_event", None)
    found: AbstractContextManager[Any] = (
        nullcontext() if passed_on is None else layer.events.blocker(passed_on)
    )
    return found


def outlines_of(layer: Any) -> Outlines:
    """Return what draws the outlines of a labels layer, and make it if needed.

    Parameters
    ----------
    layer : napari.layers.Labels

    Returns
    -------
    Outlines
    """
    found = layer.__dict__.get("_calculate_contour")
    made: Outlines | None = getattr(found, "__self__", None)
    return made if isinstance(made, Outlines) else Outlines(layer)
