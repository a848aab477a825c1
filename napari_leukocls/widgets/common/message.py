"""A line of a dock: what was done, or what went wrong and what to do."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QPoint, QSize, Qt
from qtpy.QtGui import QMouseEvent, QPainter, QPaintEvent, QPalette, QTextLayout
from qtpy.QtWidgets import QLabel, QSizePolicy, QToolTip, QWidget

from napari_leukocls.widgets.common.into_view import IntoView
from napari_leukocls.widgets.common.wording import in_dock_words
from napari_leukocls.widgets.texts import Common

#: Pixels between the text and the sides.
_EDGE = 4


class Message(QLabel):
    """A line under the buttons of a dock: what was done, or what went wrong and what to do.

    Its room is always there, so that no button moves when a message comes. A text that is longer ends with an ellipsis;
    the tool tip has all of it, and a click shows it.

    Parameters
    ----------
    lines : int
        Lines of text that there is room for.
    brought : bool
        Whether the dock scrolls to it when something went wrong.
    """

    def __init__(self, lines: int = 2, brought: bool = True) -> None:
        super().__init__()
        self._lines = lines
        self._into_view = IntoView(self) if brought else None
        self._wrong = False
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setObjectName("leukocls_message")
        self.setAccessibleName(Common.DETAILS)

    def sizeHint(self) -> QSize:
        """Return the room of the lines, whatever the text is."""
        return QSize(
            self.fontMetrics().averageCharWidth() * 20, self.fontMetrics().lineSpacing() * self._lines + 2
        )

    def minimumSizeHint(self) -> QSize:
        """Return the same size."""
        return self.sizeHint()

    def hasHeightForWidth(self) -> bool:
        """Return False: the height is that of the lines."""
        return False

    def tell(self, text: str) -> None:
        """Show what was done.

        Parameters
        ----------
        text : str
        """
        self._show(text, False)

    def warn(self, text: str) -> None:
        """Show what went wrong.

        Parameters
        ----------
        text : str
        """
        self._show(text, True)
        if self._into_view is not None and text:
            self._into_view.start()

    def _show(self, text: str, wrong: bool) -> None:
        text = in_dock_words(text)
        self._wrong = wrong
        self._colour()
        self.setText(text)
        self.setToolTip(text)
        self.setAccessibleDescription(text)

    def _colour(self) -> None:
        style = f"color: {_error_colour(self)}; font-weight: bold;" if self._wrong else ""
        if style != self.styleSheet():
            self.setStyleSheet(style)

    def changeEvent(self, event: QEvent) -> None:
        """Find another colour for an error when the theme changes.

        Parameters
        ----------
        event : QEvent
        """
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and getattr(self, "_wrong", False):
            self._colour()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Show the whole text.

        Parameters
        ----------
        event : QMouseEvent
        """
        if self.text():
            QToolTip.showText(event.globalPosition().toPoint(), self.text(), self)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the text, with an ellipsis at the end of the last line if it is longer.

        Parameters
        ----------
        event : QPaintEvent
        """
        metrics = self.fontMetrics()
        # As far from the edge as Qt draws the text of other labels.
        room = self.contentsRect().adjusted(_EDGE, 0, -_EDGE, 0)
        layout = QTextLayout(self.text(), self.font())
        layout.beginLayout()
        ends = []
        for _ in range(self._lines):
            line = layout.createLine()
            if not line.isValid():
                break
            line.setLineWidth(room.width())
            ends.append(line.textStart())
        layout.endLayout()
        painter = QPainter(self)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        y = room.top() + max(0, room.height() - self._lines * metrics.lineSpacing()) // 2
        for i, start in enumerate(ends):
            text = self.text()[start : ends[i + 1] if i + 1 < len(ends) else None]
            if i + 1 == len(ends):
                text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room.width())
            painter.drawText(QPoint(room.left(), y + metrics.ascent()), text.rstrip())
            y += metrics.lineSpacing()
        painter.end()


def _error_colour(widget: QWidget) -> str:
    """A red that can be read on the background of a widget."""
    light = widget.palette().color(QPalette.ColorRole.Window).lightness() > 127
    return "#b3261e" if light else "#ff7b72"
