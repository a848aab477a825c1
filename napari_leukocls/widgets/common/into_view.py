"""Brings a part of a dock into view: in a low window, errors and progress may be scrolled away."""

from __future__ import annotations

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QScrollArea, QWidget


class IntoView(QTimer):
    """Scrolls the dock of a widget until the widget is seen, once the layout has settled: `start` it.

    Parameters
    ----------
    widget : QWidget
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self.setSingleShot(True)
        self.setInterval(0)
        self.timeout.connect(self._bring)

    def _bring(self) -> None:
        parent = self._widget.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None and self._widget.isVisible():
            parent.ensureWidgetVisible(self._widget, 0, 4)
