"""Curves of a running training."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.texts import Train

_COLOURS = ("#e69f00", "#56b4e9")


class Curves(QWidget):
    """A small diagram with lines over the epochs.

    Parameters
    ----------
    title : str
    names : sequence of str
        Names of the lines.
    top : float, optional
        Upper end of the axis; by default it depends on the values.
    """

    def __init__(self, title: str, names: tuple[str, ...], top: float | None = None) -> None:
        super().__init__()
        named(self, title, Train.CURVES_TIP)
        self._title, self._names, self._top = title, names, top
        self._lines: list[list[float]] = [[] for _ in names]
        self._epochs = 1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def clear(self, epochs: int) -> None:
        """Remove all values.

        Parameters
        ----------
        epochs : int
            Expected number of epochs.
        """
        self._lines = [[] for _ in self._names]
        self._epochs = max(1, epochs)
        self.update()

    def add(self, *values: float | None) -> None:
        """Add the values of an epoch.

        Parameters
        ----------
        *values : float or None
            One per line; None if there is no value.
        """
        for line, value in zip(self._lines, values, strict=True):
            line.append(float("nan") if value is None else float(value))
        self._epochs = max(self._epochs, len(self._lines[0]))
        last = ", ".join(
            f"{name} {line[-1]:.3f}" for name, line in zip(self._names, self._lines, strict=True)
        )
        self.setAccessibleDescription(last)
        self.update()

    def sizeHint(self) -> QSize:
        """Return a height of eight lines of text."""
        return QSize(self.fontMetrics().averageCharWidth() * 40, self.fontMetrics().height() * 8)

    def minimumSizeHint(self) -> QSize:
        """Return a width for the title and the names of the lines."""
        return QSize(self.fontMetrics().averageCharWidth() * 30, self.fontMetrics().height() * 8)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the title, the frame, the lines and their names.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        line, char = self.fontMetrics().height(), self.fontMetrics().averageCharWidth()
        area = QRectF(char * 5, line * 2.3, self.width() - char * 6, self.height() - line * 3.6)
        values = [v for one in self._lines for v in one if v == v]
        top = self._top if self._top is not None else max([*values, 1e-6]) * 1.05
        painter.setPen(ink)
        centre = int(Qt.AlignmentFlag.AlignHCenter)
        right = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(QRectF(0, 0, self.width(), line), centre, self._title)
        painter.drawText(QRectF(0, area.top() - line / 2, char * 4.5, line), right, f"{top:.2g}")
        painter.drawText(QRectF(0, area.bottom() - line / 2, char * 4.5, line), right, "0")
        painter.drawText(
            QRectF(area.left(), area.bottom() + 2, area.width(), line), centre, Train.EPOCHS_AXIS
        )
        faint = QColor(ink)
        faint.setAlpha(90)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        for number, (name, one) in enumerate(zip(self._names, self._lines, strict=True)):
            colour = QColor(_COLOURS[number % len(_COLOURS)])
            painter.setPen(QPen(colour, 2))
            step = area.width() / max(1, self._epochs - 1)
            points = [
                QPointF(area.left() + i * step, area.bottom() - area.height() * min(v / top, 1.0))
                for i, v in enumerate(one)
                if v == v
            ]
            painter.drawPolyline(QPolygonF(points))
            for point in points:
                painter.drawEllipse(point, 2, 2)
            painter.drawText(QRectF(area.left() + number * char * 11, line * 1.1, char * 12, line), 0, name)
        painter.end()
