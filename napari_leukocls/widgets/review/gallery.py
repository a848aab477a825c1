"""A gallery of cells under the headings of their classes: they are selected, dragged and classified."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import QItemSelection, QItemSelectionModel, QPoint, Qt, Signal
from qtpy.QtGui import (
    QDrag,
    QDragEnterEvent,
    QDragMoveEvent,
    QDropEvent,
    QKeyEvent,
    QMouseEvent,
    QPixmap,
    QWheelEvent,
)
from qtpy.QtWidgets import QAbstractItemView

from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.review.cell_list import CELLS_MIME, dragged_cells
from napari_leukocls.widgets.review.kinds import Section
from napari_leukocls.widgets.review.tile_painter import dragged_picture
from napari_leukocls.widgets.review.tile_view import TileView
from napari_leukocls.widgets.texts import Review

#: Factor of one step of the wheel.
STEP = 1.15


class Gallery(TileView):
    """The gallery: cells are selected, dragged, and classified with a key."""

    chosen = Signal(object)
    class_key = Signal(str)
    confirm = Signal()
    dropped = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        named(self, Review.GALLERY, Review.GALLERY_TIP)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setDragEnabled(True)
        self.setAcceptDrops(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragDrop)
        self.setDropIndicatorShown(False)
        self.heading.pressed.connect(self.select_section)
        self.heading.dropped.connect(self.dropped)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit(self.selected_ids()))

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
        """Handle Return, the keys of the classes, and Ctrl with up and down. Other keys move in the gallery.

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
        control = (
            event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.ControlModifier
        )
        if control and event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            # The dock goes to the next class. The list would move its cell without choosing it.
            event.ignore()
            return
        if control and event.key() == Qt.Key.Key_A:
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
        return dragged_picture(self.pictures, ids, round(self.fontMetrics().height() * 2.2))

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
