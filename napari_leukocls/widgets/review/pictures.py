"""Images of cells for the gallery, drawn from the slide at the nearest of several sizes."""

from __future__ import annotations

import cv2
import numpy as np
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QImage, QPainter

from napari_leukocls.types import FieldResult

#: Width of the image of a cell, micrometres: a large monocyte and its surroundings.
TILE_UM = 22.0
#: Largest number of halvings of a slide.
MOST_HALVINGS = 4


def image_of(pixels: np.ndarray) -> tuple[QImage, np.ndarray]:
    """Make a Qt image of pixels, without copying them where this is possible.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    QImage, numpy.ndarray
        The second holds the memory of the first.
    """
    held = np.ascontiguousarray(pixels)
    height, width = held.shape[:2]
    return QImage(held.data, width, height, 3 * width, QImage.Format.Format_RGB888), held


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
        self._tables: list[object] = []
        #: Of each cell: the field that it is in, and its middle there.
        self._places: dict[int, tuple[int, float, float]] = {}
        #: Of each field: its image, and that at half the size, a quarter...
        self._levels: list[list[tuple[QImage, np.ndarray]]] = []

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
        tables = [result.cells for result in self._fields]
        if [id(one) for one in tables] == [id(one) for one in self._tables]:
            return
        self._tables = list(tables)
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
        image = self._level(at, halvings)
        scale = 2.0**halvings
        source = QRectF(
            (x + 0.5 - width / 2) / scale,
            (y + 0.5 - width / 2) / scale,
            width / scale,
            width / scale,
        )
        if not QRectF(0, 0, image.width(), image.height()).contains(source):
            painter.fillRect(target, QColor(235, 235, 235))
        painter.drawImage(target, image, source)

    def _level(self, at: int, halvings: int) -> QImage:
        """Return a field at a size; each size is made from the one before when it is first needed."""
        levels = self._levels[at]
        if not levels:
            levels.append(image_of(self._fields[at].image.pixels))
        while len(levels) <= halvings:
            last = levels[-1][1]
            height, width = (max(1, n // 2) for n in last.shape[:2])
            smaller = cv2.resize(
                last[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
            )
            levels.append(image_of(smaller))
        return levels[halvings][0]
