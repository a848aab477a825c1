"""Buttons of the classes: each assigns its class to the selected cells, and to cells that are dropped on it."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QIcon, QPalette
from qtpy.QtWidgets import QGridLayout, QMenu, QPushButton, QSizePolicy, QWidget

from napari_leukocls.scheme import CellClass, Scheme
from napari_leukocls.widgets.analyse.results import swatch
from napari_leukocls.widgets.common.controls import named
from napari_leukocls.widgets.common.texts import Review
from napari_leukocls.widgets.review.gallery import CELLS_MIME, dragged_cells

_COLUMNS = 4


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
    """The buttons of the classes of a slide, and a menu of all other classes."""

    given = Signal(str)
    dropped = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._names: list[str] = []
        self.buttons: dict[str, ClassButton] = {}

    def show_classes(self, names: list[str], scheme: Scheme) -> None:
        """Show the buttons of some classes.

        Parameters
        ----------
        names : list of str
            Names of the classes.
        scheme : Scheme
            The class scheme, with names and colours.
        """
        if names == self._names:
            return
        self._names = names
        while self._grid.count():
            old = self._grid.takeAt(0).widget()
            if old is not None:
                old.deleteLater()
        self.buttons = {}
        for i, name in enumerate(names):
            button = ClassButton(scheme[name])
            button.clicked.connect(self._give(name))
            button.dropped.connect(self._take(name))
            self.buttons[name] = button
            self._grid.addWidget(button, i // _COLUMNS, i % _COLUMNS)
        more = named(QPushButton(Review.MORE), Review.MORE, Review.MORE_TIP)
        more.setAutoDefault(False)
        more.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        menu = QMenu(more)
        for entry in scheme:
            if entry.name not in names:
                menu.addAction(f"{entry.key}  {entry.display}", self._give(entry.name))
        more.setMenu(menu)
        i = len(names)
        span = _COLUMNS - i % _COLUMNS
        self._grid.addWidget(more, i // _COLUMNS, i % _COLUMNS, 1, span)

    def _give(self, name: str) -> Callable[[], None]:
        return lambda *_: self.given.emit(name)

    def _take(self, name: str) -> Callable[[object], None]:
        return lambda cells: self.dropped.emit(name, cells)
