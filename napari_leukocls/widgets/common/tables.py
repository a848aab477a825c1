"""Tables of results in docks, and confusion matrices that can be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_leukocls.scheme import Scheme
from napari_leukocls.widgets.common.controls import as_list, named
from napari_leukocls.widgets.texts import Common

#: Colour of a cell of a confusion matrix in which all cells of a class lie.
_RIGHT, _WRONG = QColor("#2da44e"), QColor("#e5484d")


def table(name: str, columns: tuple[str, ...]) -> QTableWidget:
    """Make a table of results that is as high as its rows.

    Parameters
    ----------
    name : str
        Accessible name.
    columns : tuple of str
        Titles of the columns.

    Returns
    -------
    QTableWidget
    """
    made: QTableWidget = named(QTableWidget(0, len(columns)), name, name)
    made.setHorizontalHeaderLabels(columns)
    as_list(made)
    return made


def fill_table(made: QTableWidget, rows: list[list[str]], tips: list[str] | None = None) -> None:
    """Fill a table. All columns but the first are aligned to the right.

    Parameters
    ----------
    made : QTableWidget
        The table.
    rows : list of list of str
        Texts of each row.
    tips : list of str or None
        Tool tip of each row.
    """
    made.setRowCount(len(rows))
    for i, cells in enumerate(rows):
        for j, text in enumerate(cells):
            item = QTableWidgetItem(text)
            if j:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if tips is not None:
                item.setToolTip(tips[i])
            made.setItem(i, j, item)
    height = made.horizontalHeader().sizeHint().height() + 2 * made.frameWidth() + 2
    made.setFixedHeight(height + sum(made.rowHeight(i) for i in range(len(rows))))


class Matrix(QTableWidget):
    """A confusion matrix as a table: a row a true class, a column a class given, shares of the row as shades.

    It scrolls sideways where the dock is narrow, so that the figures keep their size.

    Parameters
    ----------
    name : str
        Accessible name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        named(self, name, Common.MATRIX_TIP)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setTabKeyNavigation(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        for header in (self.horizontalHeader(), self.verticalHeader()):
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setHighlightSections(False)

    def show_counts(self, counts: np.ndarray, names: Sequence[str], scheme: Scheme) -> None:
        """Show counts; classes without a cell in their row and column are left out.

        Parameters
        ----------
        counts : numpy.ndarray, (C, C), int
            Rows: true classes; columns: classes that were given.
        names : sequence of str
            Of the classes.
        scheme : Scheme
            With their short and full names.
        """
        counts = np.asarray(counts)
        kept = [i for i in range(len(names)) if counts[i].sum() or counts[:, i].sum()]
        short = [scheme[names[i]].short if names[i] in scheme else names[i] for i in kept]
        full = [scheme[names[i]].display if names[i] in scheme else names[i] for i in kept]
        self.clear()
        self.setRowCount(len(kept))
        self.setColumnCount(len(kept))
        self.setHorizontalHeaderLabels(short)
        self.setVerticalHeaderLabels(short)
        for at, name in enumerate(full):
            for item in (self.horizontalHeaderItem(at), self.verticalHeaderItem(at)):
                item.setToolTip(name)
        for row, i in enumerate(kept):
            total = int(counts[i].sum())
            for column, j in enumerate(kept):
                n = int(counts[i, j])
                text = Common.MATRIX_CELL.format(n=n, true=full[row], given=full[column], total=total)
                self.setItem(row, column, self._item(n, total, row == column, text))
        self._fit()

    def _item(self, n: int, total: int, right: bool, tip: str) -> QTableWidgetItem:
        item = QTableWidgetItem(str(n) if n else "·")
        item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
        item.setToolTip(tip)
        if n:
            shade = QColor(_RIGHT if right else _WRONG)
            # Faint enough for the ink of light and dark themes.
            shade.setAlpha(round(40 + 120 * n / max(total, 1)))
            item.setBackground(shade)
            item.setForeground(self.palette().color(QPalette.ColorRole.WindowText))
        return item

    def _fit(self) -> None:
        """Make the table as high as its rows, with room for the bar that scrolls sideways."""
        height = self.horizontalHeader().sizeHint().height() + 2 * self.frameWidth() + 2
        height += sum(self.rowHeight(row) for row in range(self.rowCount()))
        self.setFixedHeight(height + self.horizontalScrollBar().sizeHint().height())
