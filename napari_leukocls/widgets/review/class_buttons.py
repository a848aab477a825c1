"""Buttons of the classes: each assigns its class to the selected cells, and to cells that are dropped on it."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QIcon, QPalette, QResizeEvent
from qtpy.QtWidgets import QGridLayout, QMenu, QPushButton, QSizePolicy, QWidget

from napari_leukocls.scheme import CellClass
from napari_leukocls.widgets.analyse.results import swatch
from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.review.cell_list import CELLS_MIME, dragged_cells
from napari_leukocls.widgets.texts import Review

#: Width of a button, characters.
BUTTON_CHARS = 12


class ClassButton(QPushButton):
    """The button of one class.

    Parameters
    ----------
    entry : CellClass
    """

    dropped = Signal(object)

    def __init__(self, entry: CellClass) -> None:
        super().__init__()
        self.class_name = entry.name
        tip = Review.CLASS_TIP.format(display=entry.display, key=entry.key or "–")
        named(self, f"Class {entry.display}", tip)
        self.setText(
            Review.CLASS_BUTTON.format(key=entry.key, short=Review.CLASS_SHORT.get(entry.name, entry.short))
        )
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        side = round(self.fontMetrics().height() * 0.8)
        self.setIcon(QIcon(swatch(entry.colour, QColor(ink), side)))
        self.setIconSize(QSize(side, side))
        self.setAutoDefault(False)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAcceptDrops(True)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept cells that are dragged from the gallery.

        Parameters
        ----------
        event : QDragEnterEvent
        """
        if event.mimeData().hasFormat(CELLS_MIME):
            self.setDown(True)
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Reset the button when the drag leaves it.

        Parameters
        ----------
        event : QDragLeaveEvent
        """
        self.setDown(False)

    def dropEvent(self, event: QDropEvent) -> None:
        """Emit the dropped cells.

        Parameters
        ----------
        event : QDropEvent
        """
        self.setDown(False)
        self.dropped.emit(dragged_cells(event.mimeData()))
        event.acceptProposedAction()


class ClassButtons(QWidget):
    """The buttons of classes in as many columns as there is room for, and a menu of all other classes."""

    given = Signal(str)
    dropped = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._shown: tuple[list[CellClass], list[CellClass]] = ([], [])
        self._columns = 0
        self._order: list[QPushButton] = []
        self.buttons: dict[str, ClassButton] = {}

    def show_classes(self, entries: list[CellClass], more: list[CellClass]) -> None:
        """Show the buttons of some classes.

        Parameters
        ----------
        entries : list of CellClass
            The classes that have a button.
        more : list of CellClass
            The classes of the menu.
        """
        if (entries, more) == self._shown:
            return
        self._shown = (entries, more)
        for old in self._order:
            self._grid.removeWidget(old)
            old.deleteLater()
        self.buttons = {}
        for entry in entries:
            button = ClassButton(entry)
            button.clicked.connect(self._give(entry.name))
            button.dropped.connect(self._take(entry.name))
            self.buttons[entry.name] = button
        self._order = [*self.buttons.values()]
        if more:
            self._order.append(self._menu(more))
        self._columns = 0
        self._arrange()

    def _menu(self, entries: list[CellClass]) -> QPushButton:
        made: QPushButton = named(QPushButton(Review.MORE), Review.MORE, Review.MORE_TIP)
        made.setAutoDefault(False)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        menu = QMenu(made)
        for entry in entries:
            menu.addAction(f"{entry.key}  {entry.display}", self._give(entry.name))
        made.setMenu(menu)
        return made

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Use the new width.

        Parameters
        ----------
        event : QResizeEvent
        """
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        width = self.fontMetrics().averageCharWidth() * BUTTON_CHARS
        room = max(1, self.width() // width)
        lines = -(-len(self._order) // max(4, room))
        # As few lines as there is room for, and those of the same length.
        columns = -(-len(self._order) // lines) if lines else 1
        if columns == self._columns:
            return
        self._columns = columns
        for button in self._order:
            self._grid.removeWidget(button)
        for i, button in enumerate(self._order):
            # Else the columns that there are would keep the dock from becoming narrower.
            button.setMinimumWidth(1)
            self._grid.addWidget(button, i // columns, i % columns)

    def _give(self, name: str) -> Callable[[], None]:
        return lambda *_: self.given.emit(name)

    def _take(self, name: str) -> Callable[[object], None]:
        return lambda cells: self.dropped.emit(name, cells)
