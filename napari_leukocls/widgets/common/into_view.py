"""Brings a part of a dock into view: in a low window, errors and progress may be scrolled away."""

from __future__ import annotations

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QScrollArea, QWidget

#: A part that has come into view is kept there for so long while the dock grows, if nobody scrolls. Milliseconds.
SETTLED_MS = 3_000


class IntoView(QTimer):
    """Scrolls the dock of a widget until the widget is seen, once the layout has settled: `start` it.

    Parameters
    ----------
    widget : QWidget
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._followed: QScrollArea | None = None
        self._bringing = False
        self.setSingleShot(True)
        self.setInterval(0)
        self.timeout.connect(self._begin)
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLED_MS)

    def _begin(self) -> None:
        area = self._area()
        if area is not None and area is not self._followed:
            # What has just been shown gets its height in one of the next turns, and a check above it may end later.
            area.verticalScrollBar().rangeChanged.connect(self._grown)
            area.verticalScrollBar().valueChanged.connect(self._scrolled)
            self._followed = area
        self._settled.start()
        self._bring()

    def _grown(self) -> None:
        if self._settled.isActive():
            self._bring()

    def _scrolled(self) -> None:
        if not self._bringing:
            self._settled.stop()

    def _bring(self) -> None:
        area = self._area()
        if area is not None and self._widget.isVisible():
            self._bringing = True
            area.ensureWidgetVisible(self._widget, 0, 4)
            self._bringing = False

    def _area(self) -> QScrollArea | None:
        parent = self._widget.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        return parent
