"""The heading that stays at the upper edge of the gallery while its cells are scrolled."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.review.cell_list import CELLS_MIME, dragged_cells
from napari_leukocls.widgets.review.kinds import Section
from napari_leukocls.widgets.review.tile_painter import draw_heading
from napari_leukocls.widgets.texts import Review


class Heading(QWidget):
    """The heading of the section at the upper edge of the gallery.

    Parameters
    ----------
    parent : QWidget
        The gallery.
    """

    pressed = Signal(object)
    dropped = Signal(str, object)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.section: Section | None = None
        named(self, Review.HEADING_NAME, Review.HEADING_TIP)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAcceptDrops(True)

    def show_section(self, section: Section | None) -> None:
        """Show the heading of a section.

        Parameters
        ----------
        section : Section or None
        """
        if section != self.section:
            self.section = section
            text = "" if section is None else f"{section.title} {section.figures}"
            self.setAccessibleDescription(text)
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the heading.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self)
        if self.section is not None:
            draw_heading(painter, self.section, self.rect(), self.parentWidget().palette())
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Report the section whose cells are to be selected.

        Parameters
        ----------
        event : QMouseEvent
        """
        if self.section is not None:
            self.pressed.emit(self.section)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept cells for a class.

        Parameters
        ----------
        event : QDragEnterEvent
        """
        if self.section is not None and self.section.name and event.mimeData().hasFormat(CELLS_MIME):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Report cells that are to get the class of the section.

        Parameters
        ----------
        event : QDropEvent
        """
        if self.section is not None and self.section.name:
            self.dropped.emit(self.section.name, dragged_cells(event.mimeData()))
            event.acceptProposedAction()
