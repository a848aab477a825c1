"""A scrolling view of tiles in sections. Only visible tiles are drawn, so that it scrolls fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QItemSelection, QItemSelectionModel, QModelIndex, QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QPainter, QPaintEvent, QPalette, QRegion, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView

from napari_leukocls.widgets.review.arrangement import Arrangement, Box
from napari_leukocls.widgets.review.cell_list import CellList
from napari_leukocls.widgets.review.gallery_heading import Heading
from napari_leukocls.widgets.review.pictures import Pictures
from napari_leukocls.widgets.review.tile_painter import CAPTION_FROM, MARGIN, TilePainter, draw_heading
from napari_leukocls.widgets.texts import Review

#: Widths of the image of a cell that a person can choose, pixels of the screen.
SMALLEST, LARGEST = 32, 320


class TileView(QAbstractItemView):
    """Where the tiles of the gallery lie, and how they are drawn: what Qt asks of a view."""

    resized = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        line = self.fontMetrics().height()
        self.pictures = Pictures(line * 5)
        self.painter = TilePainter(self.pictures)
        self.cells = CellList()
        self._heading_height = round(line * 1.6)
        self._arranged = Arrangement([], 1, (1, 1), 0)
        self.heading = Heading(self)
        self.setModel(self.cells)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setViewportMargins(0, self._heading_height, 0, 0)
        self.setMinimumHeight(round(line * 9))
        self.verticalScrollBar().valueChanged.connect(lambda _: self._show_heading())

    # Sizes ---------------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """Return the size of two rows of four cells, but not much more than the least height."""
        # It takes what the dock has left. A higher wish would make the dock scroll, and hide the buttons below it.
        width, height = self._tile_size()
        least = self.minimumHeight()
        return QSize(4 * width, max(least, min(2 * height, round(least * 4 / 3))))

    def _caption(self) -> int:
        return round(self.fontMetrics().height() * 1.1) if self.pictures.side >= CAPTION_FROM else 0

    def _tile_size(self) -> tuple[int, int]:
        side = self.pictures.side + 2 * MARGIN
        return side, side + self._caption()

    def set_side(self, side: int) -> None:
        """Set the size of the cells; the cell in the middle stays where it is.

        Parameters
        ----------
        side : int
            Width of the image of a cell, pixels of the screen.
        """
        side = max(SMALLEST, min(LARGEST, side))
        if side == self.pictures.side:
            return
        at = self.currentIndex()
        if not at.isValid() or not self.viewport().rect().intersects(self.visualRect(at)):
            at = self.indexAt(self.viewport().rect().center())
        self.pictures.side = side
        self._arrange()
        if at.isValid():
            self.scrollTo(at)
        self.resized.emit(side)

    def _arrange(self) -> None:
        counts = [len(section.ids) for section in self.cells.sections]
        width = self.viewport().width()
        self._arranged = Arrangement(counts, width, self._tile_size(), self._heading_height)
        bar = self.verticalScrollBar()
        bar.setRange(0, max(0, self._arranged.height - self.viewport().height()))
        bar.setPageStep(max(1, self.viewport().height()))
        bar.setSingleStep(max(1, self._arranged.tile[1] // 3))
        self._show_heading()
        self.viewport().update()

    def updateGeometries(self) -> None:
        """Arrange the tiles in the room that there is."""
        super().updateGeometries()
        self._arrange()
        port = self.viewport().geometry()
        self.heading.setGeometry(
            port.left(), port.top() - self._heading_height, port.width(), self._heading_height
        )

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Arrange the tiles in the new width.

        Parameters
        ----------
        event : QResizeEvent
        """
        super().resizeEvent(event)
        self.updateGeometries()

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Move what is drawn, so that only the new lines are drawn.

        Parameters
        ----------
        dx, dy : int
        """
        self.viewport().scroll(dx, dy)

    # What Qt asks of a view ----------------------------------------------------------------------------

    def horizontalOffset(self) -> int:
        """Return 0: nothing is wider than the gallery."""
        return 0

    def verticalOffset(self) -> int:
        """Return how far the gallery is scrolled, pixels."""
        value: int = self.verticalScrollBar().value()
        return value

    def isIndexHidden(self, index: QModelIndex) -> bool:
        """Return False: all cells are shown.

        Parameters
        ----------
        index : QModelIndex
        """
        return False

    def visualRect(self, index: QModelIndex) -> QRect:
        """Return where a cell is drawn.

        Parameters
        ----------
        index : QModelIndex

        Returns
        -------
        QRect
        """
        if not index.isValid() or index.row() >= self._arranged.total:
            return QRect()
        return self._on_screen(self._arranged.box(index.row()))

    def _on_screen(self, box: Box) -> QRect:
        return QRect(box.x, box.y - self.verticalOffset(), box.width, box.height)

    def indexAt(self, point: QPoint) -> QModelIndex:
        """Return the cell at a point.

        Parameters
        ----------
        point : QPoint

        Returns
        -------
        QModelIndex
        """
        place = self._arranged.place_at(point.x(), point.y() + self.verticalOffset())
        return QModelIndex() if place is None else self.cells.index(place)

    def scrollTo(
        self,
        index: QModelIndex,
        hint: QAbstractItemView.ScrollHint = QAbstractItemView.ScrollHint.EnsureVisible,
    ) -> None:
        """Scroll until a cell is seen whole.

        Parameters
        ----------
        index : QModelIndex
        hint : QAbstractItemView.ScrollHint
        """
        rect = self.visualRect(index)
        if rect.isNull():
            return
        height = self.viewport().height()
        bar = self.verticalScrollBar()
        if hint == QAbstractItemView.ScrollHint.PositionAtTop:
            bar.setValue(bar.value() + rect.top())
        elif rect.top() < 0 or rect.height() > height:
            bar.setValue(bar.value() + rect.top())
        elif rect.bottom() >= height:
            bar.setValue(bar.value() + rect.bottom() - height + 1)

    def moveCursor(self, action: QAbstractItemView.CursorAction, modifiers: Any) -> QModelIndex:
        """Return the cell that a key of the cursor leads to.

        Parameters
        ----------
        action : QAbstractItemView.CursorAction
        modifiers : Qt.KeyboardModifiers

        Returns
        -------
        QModelIndex
        """
        if not self.cells.ids:
            return QModelIndex()
        at = self.currentIndex()
        if not at.isValid():
            return self.cells.index(0)
        actions = QAbstractItemView.CursorAction
        row, last = at.row(), len(self.cells.ids) - 1
        page = max(1, self.viewport().height() // self._arranged.tile[1])
        steps: dict[Any, Callable[[], int]] = {
            actions.MoveLeft: lambda: row - 1,
            actions.MoveRight: lambda: row + 1,
            actions.MovePrevious: lambda: row - 1,
            actions.MoveNext: lambda: row + 1,
            actions.MoveHome: lambda: 0,
            actions.MoveEnd: lambda: last,
            actions.MoveUp: lambda: self._arranged.beside(row, -1),
            actions.MoveDown: lambda: self._arranged.beside(row, 1),
            actions.MovePageUp: lambda: self._lines(row, -page),
            actions.MovePageDown: lambda: self._lines(row, page),
        }
        return self.cells.index(max(0, min(last, steps[action]() if action in steps else row)))

    def _lines(self, row: int, lines: int) -> int:
        for _ in range(abs(lines)):
            row = self._arranged.beside(row, 1 if lines > 0 else -1)
        return row

    def setSelection(self, rect: QRect, flags: QItemSelectionModel.SelectionFlag) -> None:
        """Select the cells that meet a rectangle.

        Parameters
        ----------
        rect : QRect
            Pixels of the view.
        flags : QItemSelectionModel.SelectionFlag
        """
        wanted = rect.normalized()
        top = wanted.top() + self.verticalOffset()
        selection = QItemSelection()
        for rows in self._arranged.within(top, top + wanted.height()):
            for row in range(rows.first, rows.end):
                if self._on_screen(self._arranged.box(row)).intersects(wanted):
                    selection.select(self.cells.index(row), self.cells.index(row))
        self.selectionModel().select(selection, flags)

    def visualRegionForSelection(self, selection: QItemSelection) -> QRegion:
        """Return where selected cells are drawn.

        Parameters
        ----------
        selection : QItemSelection

        Returns
        -------
        QRegion
        """
        region = QRegion()
        seen = self.viewport().rect()
        for index in selection.indexes():
            rect = self.visualRect(index)
            if rect.intersects(seen):
                region += rect
        return region

    # Drawing -------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the tiles and headings that are seen.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setBackground(self.palette().color(QPalette.ColorRole.Text))
        caption, offset = self._caption(), self.verticalOffset()
        area = event.rect()
        if not self.cells.ids:
            painter.setPen(self.palette().color(QPalette.ColorRole.Text))
            flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(self.viewport().rect(), flags, Review.EMPTY)
        lines = self._arranged.within(area.top() + offset, area.bottom() + 1 + offset)
        chosen = self._chosen_among(lines[0].first, lines[-1].end) if lines else set()
        for rows in lines:
            heading = self._arranged.heading_box(rows.section)
            if heading.height:
                draw_heading(
                    painter, self.cells.sections[rows.section], self._on_screen(heading), self.palette()
                )
            for row in range(rows.first, rows.end):
                cell = self.cells.ids[row]
                tile = self.cells.tile(cell)
                if tile is not None:
                    box = self._on_screen(self._arranged.box(row))
                    self.painter.draw(painter, cell, tile, box, row in chosen, caption)
        painter.end()

    def _chosen_among(self, first: int, end: int) -> set[int]:
        """Return the selected rows from one to before another."""
        found: set[int] = set()
        selection = self.selectionModel().selection()
        for i in range(len(selection)):
            part = selection[i]
            found.update(range(max(first, part.top()), min(end, part.bottom() + 1)))
        return found

    def _show_heading(self) -> None:
        sections = self.cells.sections
        at = self._arranged.section_at(self.verticalOffset()) if sections else 0
        self.heading.show_section(sections[at] if at < len(sections) else None)
