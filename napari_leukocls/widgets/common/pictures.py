"""Small pictures in docks."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap, QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_leukocls.widgets.common.controls import named

#: Share of a picture between the corners that mark its middle: 22 of 40 um hold the largest leukocyte.
MARK = 0.55


class Picture(QLabel):
    """A small square image, as wide as its column.

    Parameters
    ----------
    name : str
        Accessible name.
    lines : int
        Height that it likes to have, in lines of text.
    marked : bool
        Mark the middle, where other cells may be near, by four corners.
    """

    def __init__(self, name: str, lines: int = 9, marked: bool = False) -> None:
        super().__init__()
        named(self, name, name)
        self._lines = lines
        self._marked = marked
        self._source: QPixmap | None = None
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_pixels(self, pixels: np.ndarray | None) -> None:
        """Show an image.

        Parameters
        ----------
        pixels : numpy.ndarray or None
            (h, w, 3), uint8; None for no image.
        """
        if pixels is None:
            self._source = None
            self.clear()
            return
        held = np.ascontiguousarray(pixels)
        height, width = held.shape[:2]
        image = QImage(held.data, width, height, 3 * width, QImage.Format.Format_RGB888)
        self._source = QPixmap.fromImage(image.copy())
        self._scale()

    def sizeHint(self) -> QSize:
        """Return a square of so many lines of text."""
        side = self.fontMetrics().height() * self._lines
        return QSize(side, side)

    def minimumSizeHint(self) -> QSize:
        """Return half of `sizeHint`."""
        return self.sizeHint() / 2

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the image to the new width.

        Parameters
        ----------
        event : QResizeEvent
        """
        super().resizeEvent(event)
        self._scale()

    def _scale(self) -> None:
        if self._source is not None:
            side = min(self.width(), self.sizeHint().height())
            smooth = Qt.TransformationMode.SmoothTransformation
            fitted = self._source.scaledToWidth(max(16, side), smooth)
            if self._marked:
                _mark_middle(fitted)
            self.setPixmap(fitted)


def _mark_middle(picture: QPixmap) -> None:
    """Draw four corners around the middle of a picture, in black on white, so that they are seen on any stain."""
    half, arm = picture.width() * MARK / 2, picture.width() * MARK / 8
    middle = QPointF(picture.width() / 2, picture.height() / 2)
    painter = QPainter(picture)
    for colour, width in (("white", 4), ("black", 2)):
        painter.setPen(QPen(QColor(colour), width))
        for x in (-1, 1):
            for y in (-1, 1):
                corner = middle + QPointF(x * half, y * half)
                painter.drawLine(corner, corner - QPointF(x * arm, 0))
                painter.drawLine(corner, corner - QPointF(0, y * arm))
    painter.end()
