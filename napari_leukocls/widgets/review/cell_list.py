"""The cells of the gallery in their order, as a list of Qt; what is dragged from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QAbstractListModel, QByteArray, QMimeData, QModelIndex, Qt

from napari_leukocls.widgets.review.kinds import Section, Tile
from napari_leukocls.widgets.texts import Review

#: Type of data that is dragged from the gallery: numbers of cells, separated by commas.
CELLS_MIME = "application/x-leukocls-cells"


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
