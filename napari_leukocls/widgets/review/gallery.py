"""A gallery of cells. Only visible cells are drawn, so that large slides scroll fast."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import (
    QAbstractListModel,
    QByteArray,
    QItemSelection,
    QItemSelectionModel,
    QMimeData,
    QModelIndex,
    QRect,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QImage, QKeyEvent, QPainter, QPalette, QPen, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from napari_leukocls.types import FieldResult
from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.common.texts import Review
from napari_leukocls.widgets.review.model import Tile

#: Type of data that is dragged from the gallery: numbers of cells, separated by commas.
CELLS_MIME = "application/x-leukocls-cells"
#: Width of the image of a cell, micrometres: a large monocyte and its surroundings.
TILE_UM = 22.0
#: Largest number of images of cells in memory.
MOST_PIXMAPS = 2000


class CellList(QAbstractListModel):
    """The cells of the gallery in their order. Their captions are requested when they are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[int] = []
        self.tile: Callable[[int], Tile | None] = lambda _: None

    def set_ids(self, ids: list[int]) -> None:
        """Replace the cells.

        Parameters
        ----------
        ids : list of int
            Numbers of the cells.
        """
        self.beginResetModel()
        self.ids = ids
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


class Pictures:
    """Images of cells, cut when they are first shown.

    Parameters
    ----------
    side : int
        Width and height, pixels of the screen.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        #: Of each cell: the field that it is in, and its centre there.
        self._places: dict[int, tuple[int, float, float]] = {}
        self._fields: list[FieldResult] = []
        self._cache: OrderedDict[int, QPixmap] = OrderedDict()

    def show(self, fields: list[tuple[int, FieldResult]]) -> None:
        """Use other results. Images of cells that have not moved in the same fields are kept.

        Parameters
        ----------
        fields : list of tuple
            What is added to the numbers of a field's cells, and its result.
        """
        places = {
            first + int(cell): (at, float(y), float(x))
            for at, (first, result) in enumerate(fields)
            for cell, y, x in result.cells[["cell_id", "centroid_y", "centroid_x"]].itertuples(index=False)
        }
        before, self._fields = self._fields, [result for _, result in fields]
        same = [old.image is new.image for old, new in zip(before, self._fields, strict=False)]
        for cell in list(self._cache):
            place = self._places.get(cell)
            if place is None or place != places.get(cell) or not same[place[0]]:
                del self._cache[cell]
        self._places = places

    def get(self, cell: int) -> QPixmap | None:
        """Return the image of a cell.

        Parameters
        ----------
        cell : int
            Number of the cell.

        Returns
        -------
        QPixmap or None
            None if there is no such cell.
        """
        found = self._cache.get(cell)
        if found is not None:
            self._cache.move_to_end(cell)
            return found
        if cell not in self._places:
            return None
        at, y, x = self._places[cell]
        made = QPixmap.fromImage(self._cut(self._fields[at], y, x))
        self._cache[cell] = made
        if len(self._cache) > MOST_PIXMAPS:
            self._cache.popitem(last=False)
        return made

    def _cut(self, result: FieldResult, y: float, x: float) -> QImage:
        pixels = result.image.pixels
        half = max(4, round(TILE_UM / result.um_per_px / 2))
        top, left = round(y) - half, round(x) - half
        window = np.full((2 * half, 2 * half, 3), 235, np.uint8)
        y0, x0 = max(0, top), max(0, left)
        part = pixels[y0 : max(y0, top + 2 * half), x0 : max(x0, left + 2 * half)]
        window[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
        image = QImage(window.data, 2 * half, 2 * half, 6 * half, QImage.Format.Format_RGB888)
        return image.scaled(
            self.side,
            self.side,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )


class TilePainter(QStyledItemDelegate):
    """Draws a cell: its image in a frame of the colour of its class, and its caption.

    Parameters
    ----------
    pictures : Pictures
    caption_height : int
        Pixels of the screen.
    """

    def __init__(self, pictures: Pictures, caption_height: int) -> None:
        super().__init__()
        self._pictures = pictures
        self._caption = caption_height

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the size of a tile. All tiles have the same size, which makes the layout fast.

        Parameters
        ----------
        option : QStyleOptionViewItem
        index : QModelIndex

        Returns
        -------
        QSize
        """
        return QSize(self._pictures.side + 8, self._pictures.side + 8 + self._caption)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw one tile.

        Parameters
        ----------
        painter : QPainter
        option : QStyleOptionViewItem
        index : QModelIndex
        """
        model = index.model()
        cell = model.data(index, Qt.ItemDataRole.UserRole)
        tile = model.tile(cell)
        if tile is None:
            return
        side = self._pictures.side
        frame = QRect(option.rect.left() + 4, option.rect.top() + 4, side, side)
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        if chosen:
            painter.fillRect(option.rect, option.palette.color(QPalette.ColorRole.Highlight))
        picture = self._pictures.get(cell)
        if picture is not None:
            painter.drawPixmap(frame.topLeft(), picture)
        style = Qt.PenStyle.DashLine if tile.waiting else Qt.PenStyle.SolidLine
        painter.setPen(QPen(QColor(tile.colour), 3, style))
        painter.drawRect(frame)
        if option.state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QPen(option.palette.color(QPalette.ColorRole.Text), 1, Qt.PenStyle.DotLine))
            painter.drawRect(option.rect.adjusted(0, 0, -1, -1))
        text = QRect(option.rect.left(), frame.bottom() + 3, option.rect.width(), self._caption)
        role = QPalette.ColorRole.HighlightedText if chosen else QPalette.ColorRole.Text
        painter.setPen(option.palette.color(role))
        painter.drawText(text, int(Qt.AlignmentFlag.AlignCenter), tile.caption)


class Gallery(QListView):
    """The gallery: cells are selected, dragged, and classified with a key."""

    chosen = Signal(object)
    class_key = Signal(str)
    confirm = Signal()

    def __init__(self) -> None:
        super().__init__()
        named(self, Review.GALLERY, Review.GALLERY_TIP)
        line = self.fontMetrics().height()
        self.pictures = Pictures(line * 6)
        self.cells = CellList()
        self.setModel(self.cells)
        self.painter = TilePainter(self.pictures, round(line * 1.1))
        self.setItemDelegate(self.painter)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setMovement(QListView.Movement.Static)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setUniformItemSizes(True)
        self.setLayoutMode(QListView.LayoutMode.SinglePass)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setDragEnabled(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragOnly)
        self.setSpacing(2)
        self.setMinimumHeight(round(line * 8.5))
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit(self.selected_ids()))

    def sizeHint(self) -> QSize:
        """Return the size of three rows of four cells."""
        tile = self.pictures.side + 12
        return QSize(4 * tile, 3 * tile)

    def show_cells(self, ids: list[int], selected: list[int]) -> None:
        """Show cells, and select some of them.

        Parameters
        ----------
        ids : list of int
            Numbers of the cells.
        selected : list of int
            Numbers of the cells that are selected.
        """
        was_blocked = self.blockSignals(True)
        self.cells.set_ids(ids)
        self.blockSignals(was_blocked)
        self.select(selected)

    def selected_ids(self) -> list[int]:
        """Return the selected cells in their order."""
        rows = sorted(index.row() for index in self.selectionModel().selectedIndexes())
        return [self.cells.ids[row] for row in rows]

    def select(self, ids: list[int]) -> None:
        """Select cells, and scroll to the first.

        Parameters
        ----------
        ids : list of int
            Numbers of the cells.
        """
        wanted = set(ids)
        rows = [row for row, cell in enumerate(self.cells.ids) if cell in wanted]
        selection = QItemSelection()
        for row in rows:
            at = self.cells.index(row)
            selection.select(at, at)
        flags = QItemSelectionModel.SelectionFlag.ClearAndSelect
        self.selectionModel().select(selection, flags)
        if rows:
            first = self.cells.index(rows[0])
            self.selectionModel().setCurrentIndex(first, QItemSelectionModel.SelectionFlag.NoUpdate)
            self.scrollTo(first)

    def next_after(self, ids: list[int]) -> int | None:
        """Return the cell to review after some cells.

        Parameters
        ----------
        ids : list of int
            Numbers of the cells.

        Returns
        -------
        int or None
            The cell after the last of them, else the cell before the first; None if there is none.
        """
        rows = [row for row, cell in enumerate(self.cells.ids) if cell in set(ids)]
        if not rows:
            return None
        for row in (*range(max(rows) + 1, len(self.cells.ids)), *range(min(rows) - 1, -1, -1)):
            if self.cells.ids[row] not in ids:
                value: int | None = self.cells.ids[row]
                return value
        return None

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
        super().keyPressEvent(event)
