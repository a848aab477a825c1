"""A gallery of cells under the headings of their classes. Only visible cells are drawn, so that it scrolls fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qtpy.QtCore import (
    QAbstractListModel,
    QByteArray,
    QItemSelection,
    QItemSelectionModel,
    QMimeData,
    QModelIndex,
    QPoint,
    QRect,
    QRectF,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import (
    QColor,
    QDrag,
    QDragEnterEvent,
    QDragMoveEvent,
    QDropEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QPixmap,
    QRegion,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QAbstractItemView, QWidget

from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.common.texts import Review
from napari_leukocls.widgets.review.arrangement import Arrangement, Box
from napari_leukocls.widgets.review.kinds import Section, Tile
from napari_leukocls.widgets.review.pictures import Pictures

#: Type of data that is dragged from the gallery: numbers of cells, separated by commas.
CELLS_MIME = "application/x-leukocls-cells"
#: Widths of the image of a cell that a person can choose, pixels of the screen.
SMALLEST, LARGEST = 32, 320
#: Factor of one step of the wheel.
STEP = 1.15
#: Width of a tile below which its caption is left out.
CAPTION_FROM = 56
#: Pixels around the image of a cell.
MARGIN = 5
#: Frame of a chosen cell: seen on light and on dark, and the colour of no class.
CHOSEN, CHOSEN_EDGE = QColor("#ffe14d"), QColor("#000000")


class CellList(QAbstractListModel):
    """The cells of the gallery in their order. Their captions are requested when they are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[int] = []
        self.sections: list[Section] = []
        self.tile: Callable[[int], Tile | None] = lambda _: None

    def set_sections(self, sections: list[Section]) -> None:
        """Replace the cells.

        Parameters
        ----------
        sections : list of Section
        """
        self.beginResetModel()
        self.sections = sections
        self.ids = [cell for section in sections for cell in section.ids]
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of cells.

        Parameters
        ----------
        parent : QModelIndex or None

        Returns
        -------
        int
        """
        return len(self.ids)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the number or the description of a cell.

        Parameters
        ----------
        index : QModelIndex
        role : int

        Returns
        -------
        object
        """
        if not index.isValid():
            return None
        cell = self.ids[index.row()]
        if role == Qt.ItemDataRole.UserRole:
            return cell
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole):
            tile = self.tile(cell)
            return Review.TILE_TIP.format(id=cell, what=tile.caption if tile is not None else "")
        return None

    def flags(self, index: QModelIndex) -> Any:
        """Return that cells can be selected and dragged.

        Parameters
        ----------
        index : QModelIndex

        Returns
        -------
        object
        """
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsDragEnabled

    def mimeTypes(self) -> list[str]:
        """Return the type of dragged data."""
        return [CELLS_MIME]

    def mimeData(self, indexes: Any) -> QMimeData:
        """Return the numbers of the dragged cells as data of the drag.

        Parameters
        ----------
        indexes : object

        Returns
        -------
        QMimeData
        """
        data = QMimeData()
        ids = ",".join(str(self.ids[index.row()]) for index in indexes)
        data.setData(CELLS_MIME, QByteArray(ids.encode()))
        return data


def dragged_cells(data: QMimeData) -> list[int]:
    """Return the numbers of the cells in a drag.

    Parameters
    ----------
    data : QMimeData
        Data of the drag.

    Returns
    -------
    list of int
    """
    text = bytes(data.data(CELLS_MIME)).decode()
    return [int(part) for part in text.split(",") if part]


class TilePainter:
    """Draws cells: the image in a frame of the colour of the class, and the caption.

    Parameters
    ----------
    pictures : Pictures
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._pens: dict[tuple[str, bool, int], QPen] = {}

    def draw(self, painter: QPainter, cell: int, tile: Tile, box: QRect, chosen: bool, caption: int) -> None:
        """Draw one tile.

        Parameters
        ----------
        painter : QPainter
        cell : int
            Number of the cell.
        tile : Tile
        box : QRect
            Of the whole tile.
        chosen : bool
            Whether the cell is selected.
        caption : int
            Height of the caption, pixels; 0 for none.
        """
        side = self._pictures.side
        frame = QRect(box.left() + MARGIN, box.top() + MARGIN, side, side)
        if chosen:
            painter.fillRect(box.adjusted(0, 0, -1, -1), CHOSEN_EDGE)
            painter.fillRect(box.adjusted(1, 1, -2, -2), CHOSEN)
        self._pictures.draw(painter, cell, QRectF(frame))
        painter.setPen(self._pen(tile))
        painter.drawRect(frame)
        if caption:
            painter.setPen(CHOSEN_EDGE if chosen else painter.background().color())
            text = QRect(box.left(), frame.bottom() + 2, box.width(), caption)
            painter.drawText(text, int(Qt.AlignmentFlag.AlignCenter), tile.caption)

    def _pen(self, tile: Tile) -> QPen:
        key = (tile.colour, tile.waiting, 3 if self._pictures.side >= CAPTION_FROM else 2)
        if key not in self._pens:
            style = Qt.PenStyle.DashLine if tile.waiting else Qt.PenStyle.SolidLine
            self._pens[key] = QPen(QColor(tile.colour), key[2], style)
        return self._pens[key]


class Heading(QWidget):
    """The heading of the section at the upper edge of the gallery.

    Parameters
    ----------
    gallery : Gallery
    """

    def __init__(self, gallery: Gallery) -> None:
        super().__init__(gallery)
        self._gallery = gallery
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
            self._gallery.draw_heading(painter, self.section, self.rect())
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Select the cells of the section.

        Parameters
        ----------
        event : QMouseEvent
        """
        if self.section is not None:
            self._gallery.select_section(self.section)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept cells for a class.

        Parameters
        ----------
        event : QDragEnterEvent
        """
        if self.section is not None and self.section.name and event.mimeData().hasFormat(CELLS_MIME):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Give the dropped cells the class of the section.

        Parameters
        ----------
        event : QDropEvent
        """
        if self.section is not None and self.section.name:
            self._gallery.dropped.emit(self.section.name, dragged_cells(event.mimeData()))
            event.acceptProposedAction()


class Gallery(QAbstractItemView):
    """The gallery: cells are selected, dragged, and classified with a key."""

    chosen = Signal(object)
    class_key = Signal(str)
    confirm = Signal()
    dropped = Signal(str, object)
    resized = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        named(self, Review.GALLERY, Review.GALLERY_TIP)
        line = self.fontMetrics().height()
        self.pictures = Pictures(line * 5)
        self.painter = TilePainter(self.pictures)
        self.cells = CellList()
        self._heading_height = round(line * 1.6)
        self._arranged = Arrangement([], 1, (1, 1), 0)
        self.heading = Heading(self)
        self.setModel(self.cells)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setDragEnabled(True)
        self.setAcceptDrops(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragDrop)
        self.setDropIndicatorShown(False)
        self.setViewportMargins(0, self._heading_height, 0, 0)
        self.setMinimumHeight(round(line * 9))
        self.verticalScrollBar().valueChanged.connect(lambda _: self._show_heading())
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit(self.selected_ids()))

    # Sizes ---------------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """Return the size of three rows of four cells."""
        width, height = self._tile_size()
        return QSize(4 * width, 3 * height)

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
                self.draw_heading(painter, self.cells.sections[rows.section], self._on_screen(heading))
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

    def draw_heading(self, painter: QPainter, section: Section, box: QRect) -> None:
        """Draw the heading of a section.

        Parameters
        ----------
        painter : QPainter
        section : Section
        box : QRect
        """
        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.Text)
        tint = QColor(ink)
        tint.setAlpha(34)
        painter.fillRect(box.adjusted(0, 1, 0, -1), tint)
        side = round(box.height() * 0.5)
        left = box.left() + side // 2
        if section.colour:
            mark = QRect(left, box.center().y() - side // 2, side, side)
            painter.fillRect(mark, QColor(section.colour))
            painter.setPen(ink)
            painter.drawRect(mark)
            left += side + side // 2
        bold = painter.font()
        bold.setBold(True)
        painter.save()
        painter.setFont(bold)
        painter.setPen(ink)
        middle = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        painter.drawText(box.adjusted(left - box.left(), 0, 0, 0), middle, section.title)
        left += painter.fontMetrics().horizontalAdvance(section.title) + side
        painter.restore()
        painter.setPen(ink)
        painter.drawText(box.adjusted(left - box.left(), 0, 0, 0), middle, section.figures)

    def _show_heading(self) -> None:
        sections = self.cells.sections
        at = self._arranged.section_at(self.verticalOffset()) if sections else 0
        self.heading.show_section(sections[at] if at < len(sections) else None)

    # Cells ---------------------------------------------------------------------------------------------

    def show_sections(self, sections: list[Section], selected: list[int]) -> None:
        """Show cells, and select some of them.

        Parameters
        ----------
        sections : list of Section
        selected : list of int
            Numbers of the cells that are selected.
        """
        at = self.verticalOffset()
        was_blocked = self.blockSignals(True)
        if sections != self.cells.sections:
            self.cells.set_sections(sections)
            # Now, and not with a timer that draws the gallery a second time.
            self.executeDelayedItemsLayout()
        self._arrange()
        self.verticalScrollBar().setValue(at)
        self.blockSignals(was_blocked)
        self.select(selected)
        self.viewport().update()

    def selected_ids(self) -> list[int]:
        """Return the selected cells in their order."""
        rows = sorted(index.row() for index in self.selectionModel().selectedIndexes())
        return [self.cells.ids[row] for row in rows]

    def select(self, ids: Iterable[int]) -> None:
        """Select cells, and scroll to the first.

        Parameters
        ----------
        ids : iterable of int
            Numbers of the cells.
        """
        wanted = set(ids)
        rows = [row for row, cell in enumerate(self.cells.ids) if cell in wanted] if wanted else []
        self._select_rows(rows)
        if rows:
            self.scrollTo(self.cells.index(rows[0]))

    def _select_rows(self, rows: list[int]) -> None:
        selection = QItemSelection()
        for row in rows:
            at = self.cells.index(row)
            selection.select(at, at)
        flags = QItemSelectionModel.SelectionFlag
        self.selectionModel().select(selection, flags.ClearAndSelect)
        if rows:
            self.selectionModel().setCurrentIndex(self.cells.index(rows[0]), flags.NoUpdate)

    def select_section(self, section: Section) -> None:
        """Select all cells of a section.

        Parameters
        ----------
        section : Section
        """
        if not section.ids:
            return
        first = self._arranged.starts[self.cells.sections.index(section)]
        ends = self.cells.index(first), self.cells.index(first + len(section.ids) - 1)
        flags = QItemSelectionModel.SelectionFlag
        self.selectionModel().select(QItemSelection(*ends), flags.ClearAndSelect)
        self.selectionModel().setCurrentIndex(ends[0], flags.NoUpdate)
        self.setFocus()

    def go_to_section(self, step: int) -> Section | None:
        """Scroll to the heading of the next section or of the one before, and choose its first cell.

        Parameters
        ----------
        step : int
            1 or -1.

        Returns
        -------
        Section or None
            None if there is no other section.
        """
        sections = self.cells.sections
        if not sections:
            return None
        row = self.currentIndex().row()
        at = self._arranged.section_of(row) if row >= 0 else self._arranged.section_at(self.verticalOffset())
        to = max(0, min(len(sections) - 1, at + step))
        if to == at:
            return None
        self._select_rows([self._arranged.starts[to]])
        self.scrollTo(self.cells.index(self._arranged.starts[to]), QAbstractItemView.ScrollHint.PositionAtTop)
        return sections[to]

    def next_after(self, ids: list[int]) -> int | None:
        """Return the cell to review after some cells.

        Parameters
        ----------
        ids : list of int
            Numbers of the cells.

        Returns
        -------
        int or None
            The cell after the last of them in their section, else the last one before the first there, else the
            first cell of the next section; None if there is none.
        """
        given = set(ids)
        rows = [row for row, cell in enumerate(self.cells.ids) if cell in given]
        if not rows:
            return None
        section = self._arranged.section_of(max(rows))
        start = self._arranged.starts[section]
        end = start + self._arranged.counts[section]
        inside = (*range(max(rows) + 1, end), *range(min(max(rows), end) - 1, start - 1, -1))
        for row in (*inside, *range(end, len(self.cells.ids)), *range(start - 1, -1, -1)):
            if self.cells.ids[row] not in given:
                value: int | None = self.cells.ids[row]
                return value
        return None

    # Mouse and keys ------------------------------------------------------------------------------------

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Select a cell, with Shift all cells up to it, or on a heading all cells of the section.

        Parameters
        ----------
        event : QMouseEvent
        """
        point = event.position().toPoint()
        heading = self._arranged.heading_at(point.y() + self.verticalOffset())
        if heading is not None and event.button() == Qt.MouseButton.LeftButton:
            self.select_section(self.cells.sections[heading])
            return
        at, anchor = self.indexAt(point), self.currentIndex()
        shift = event.modifiers() == Qt.KeyboardModifier.ShiftModifier
        if shift and at.isValid() and anchor.isValid():
            ends = sorted((anchor.row(), at.row()))
            selection = QItemSelection(self.cells.index(ends[0]), self.cells.index(ends[1]))
            self.selectionModel().select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
            return
        super().mousePressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll; with Ctrl, change the size of the cells.

        Parameters
        ----------
        event : QWheelEvent
        """
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            steps = event.angleDelta().y() / 120
            side = self.pictures.side * STEP**steps
            self.set_side(round(side))
            event.accept()
            return
        super().wheelEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Handle Return and the keys of the classes. Other keys move in the gallery.

        Parameters
        ----------
        event : QKeyEvent
        """
        plain = event.modifiers() in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)
        if plain and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.confirm.emit()
            return
        if plain and event.text().strip():
            self.class_key.emit(event.text().lower())
            return
        if event.key() == Qt.Key.Key_A and event.modifiers() == Qt.KeyboardModifier.ControlModifier:
            section = self.heading.section
            at = self.currentIndex()
            if at.isValid():
                section = self.cells.sections[self._arranged.section_of(at.row())]
            if section is not None:
                self.select_section(section)
            return
        super().keyPressEvent(event)

    # Dragging ------------------------------------------------------------------------------------------

    def startDrag(self, actions: Qt.DropAction) -> None:
        """Drag the selected cells as a small picture beside the pointer, which hides no target.

        Parameters
        ----------
        actions : Qt.DropAction
        """
        indexes = self.selectionModel().selectedIndexes()
        if not indexes:
            return
        drag = QDrag(self)
        drag.setMimeData(self.cells.mimeData(indexes))
        drag.setPixmap(self.drag_picture([self.cells.ids[index.row()] for index in indexes]))
        # The picture hangs below the pointer, and does not cover what is under it.
        drag.setHotSpot(QPoint(-14, -14))
        drag.exec(Qt.DropAction.CopyAction)

    def drag_picture(self, ids: list[int]) -> QPixmap:
        """Return the picture of dragged cells: the first cell, and how many there are.

        Parameters
        ----------
        ids : list of int

        Returns
        -------
        QPixmap
        """
        side = round(self.fontMetrics().height() * 2.2)
        made = QPixmap(side, side)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        painter.setOpacity(0.8)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self.pictures.draw(painter, ids[0], QRectF(0, 0, side, side))
        painter.setOpacity(1)
        if len(ids) > 1:
            height = round(side * 0.45)
            badge = QRect(side - round(height * 1.6), side - height, round(height * 1.6), height)
            painter.fillRect(badge, CHOSEN)
            painter.setPen(CHOSEN_EDGE)
            painter.drawText(badge, int(Qt.AlignmentFlag.AlignCenter), str(len(ids)))
        painter.end()
        return made

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept cells, for the headings.

        Parameters
        ----------
        event : QDragEnterEvent
        """
        if event.mimeData().hasFormat(CELLS_MIME):
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        """Accept a drop in the section of another class.

        Parameters
        ----------
        event : QDragMoveEvent
        """
        if self._class_at(event.position().toPoint()):
            event.acceptProposedAction()
        else:
            event.ignore()

    def dropEvent(self, event: QDropEvent) -> None:
        """Give dropped cells the class of the section they are dropped in.

        Parameters
        ----------
        event : QDropEvent
        """
        name = self._class_at(event.position().toPoint())
        if name:
            self.dropped.emit(name, dragged_cells(event.mimeData()))
            event.acceptProposedAction()

    def _class_at(self, point: QPoint) -> str:
        if not self.cells.sections:
            return ""
        return self.cells.sections[self._arranged.section_at(point.y() + self.verticalOffset())].name
