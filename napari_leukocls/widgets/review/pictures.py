"""Images of cells for the gallery, drawn from the slide at the nearest of several sizes."""

from __future__ import annotations

import cv2
import numpy as np
from qtpy.QtCore import QRectF
from qtpy.QtGui import QImage, QPainter

from napari_leukocls.types import FieldResult

#: Width of the image of a cell, micrometres: a large monocyte and its surroundings.
TILE_UM = 22.0
#: Largest number of halvings of a slide.
MOST_HALVINGS = 4


#: What is shown beyond the edge of a slide.
GLASS = (235, 235, 235)


class Pictures:
    """Draws images of the cells of a slide.

    Small tiles are drawn from a copy of the slide at half, a quarter... of its size, which is quick and smooth, so no
    image of a single cell is kept.

    Parameters
    ----------
    side : int
        Width and height of a tile, pixels of the screen.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self._fields: list[FieldResult] = []
        #: Of each field: what its cells' places were taken from.
        self._outlines: list[tuple[int, object, int]] = []
        #: Of each cell: the field that it is in, and its middle there.
        self._places: dict[int, tuple[int, float, float]] = {}
        #: Of each field: its pixels, and those at half the size, a quarter...
        self._levels: list[list[np.ndarray]] = []

    def show(self, fields: list[tuple[int, FieldResult]]) -> None:
        """Use other results.

        Parameters
        ----------
        fields : list of tuple
            What is added to the numbers of a field's cells, and its result.
        """
        known = {id(field.image): levels for field, levels in zip(self._fields, self._levels, strict=True)}
        self._levels = [known.get(id(result.image), []) for _, result in fields]
        self._fields = [result for _, result in fields]
        # A correction makes another table of cells, but moves none of them.
        outlines: list[tuple[int, object, int]] = [
            (first, result.segmentation, len(result.cells)) for first, result in fields
        ]
        if len(outlines) == len(self._outlines) and all(
            one[0] == other[0] and one[1] is other[1] and one[2] == other[2]
            for one, other in zip(outlines, self._outlines, strict=True)
        ):
            return
        self._outlines = outlines
        self._places = {}
        for at, (first, result) in enumerate(fields):
            columns = (result.cells[name].tolist() for name in ("cell_id", "centroid_y", "centroid_x"))
            for cell, y, x in zip(*columns, strict=True):
                self._places[first + cell] = (at, y, x)

    def draw(self, painter: QPainter, cell: int, target: QRectF) -> None:
        """Draw a cell; where the slide ends, glass.

        Parameters
        ----------
        painter : QPainter
        cell : int
            Number of the cell. Nothing is drawn if there is no such cell.
        target : QRectF
        """
        place = self._places.get(cell)
        if place is None:
            return
        at, y, x = place
        width = TILE_UM / self._fields[at].um_per_px
        halvings = int(
            np.clip(np.floor(np.log2(max(1.0, width / max(target.width(), 1.0)))), 0, MOST_HALVINGS)
        )
        pixels = self._level(at, halvings)
        scale = 2.0**halvings
        part = _square(pixels, (y + 0.5) / scale, (x + 0.5) / scale, max(1, round(width / scale)))
        # OpenCV scales small pictures several times faster than Qt does.
        ratio = painter.device().devicePixelRatioF()
        side = max(1, round(target.width() * ratio))
        scaled = cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR)
        image = QImage(scaled.data, side, side, 3 * side, QImage.Format.Format_RGB888)
        image.setDevicePixelRatio(ratio)
        painter.drawImage(target.topLeft(), image)

    def _level(self, at: int, halvings: int) -> np.ndarray:
        """Return a field at a size; each size is made from the one before when it is first needed."""
        levels = self._levels[at]
        if not levels:
            levels.append(self._fields[at].image.pixels)
        while len(levels) <= halvings:
            last = levels[-1]
            height, width = (max(1, n // 2) for n in last.shape[:2])
            smaller = cv2.resize(
                last[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
            )
            levels.append(smaller)
        return levels[halvings]


def _square(pixels: np.ndarray, y: float, x: float, side: int) -> np.ndarray:
    """Cut a square around a point; beyond the edge there is glass."""
    top, left = round(y - side / 2), round(x - side / 2)
    part = pixels[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if part.shape[:2] == (side, side):
        return part
    whole = np.full((side, side, 3), GLASS, np.uint8)
    at_y, at_x = max(0, -top), max(0, -left)
    whole[at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
    return whole
