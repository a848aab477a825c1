"""Places the docks: as tabs with short names, whichever way they are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QScreen
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_leukocls.widgets.common.parent_watch import ParentWatch

if TYPE_CHECKING:
    from collections.abc import Callable

#: Property of the frames that hold a dock of this plugin.
MARK = "leukocls_dock"
#: Views of a dock: narrow beside the smear, wide beside it, or in a window of its own.
VIEWS = ("narrow", "wide", "window")
#: Height of a screen below which napari's own docks are tabs, too, pixels: 1280 x 800 at 150 % has 533.
LOW_SCREEN = 700
#: Share of napari's window that a wide dock takes at most, and that is left to the smear.
WIDE, SMEAR = 0.62, 0.28


class Placing(ParentWatch):
    """Places a dock once napari has put it into its window: with a short name, as a tab beside the other docks.

    Parameters
    ----------
    owner : QWidget
        The dock.
    title : str
        The short name.
    placed : callable
        Called with the frame, after the dock was placed.
    """

    def __init__(self, owner: QWidget, title: str, placed: Callable[[QDockWidget], None]) -> None:
        super().__init__(owner)
        self._title = title
        self._placed = placed

    def parent_changed(self) -> None:
        """Place the dock."""
        frame = frame_of(self._owner)
        if frame is None or frame.property(MARK):
            return
        frame.setProperty(MARK, True)
        frame.setWindowTitle(self._title)
        window = frame.parentWidget()
        if isinstance(window, QMainWindow) and not frame.isFloating():
            others = [one for one in docks_in(window) if one is not frame and not one.isFloating()]
            if others:
                window.tabifyDockWidget(others[0], frame)
            frame.show()
            frame.raise_()
            fit(window)
        self._placed(frame)


def frame_of(dock: QWidget) -> QDockWidget | None:
    """Return the frame in which napari has put a dock.

    Parameters
    ----------
    dock : QWidget

    Returns
    -------
    QDockWidget or None
        None if it is in none.
    """
    parent = dock.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def docks_in(window: QMainWindow) -> list[QDockWidget]:
    """Return the frames of the docks of this plugin in a window.

    Parameters
    ----------
    window : QMainWindow

    Returns
    -------
    list of QDockWidget
    """
    return [one for one in window.findChildren(QDockWidget) if one.property(MARK)]


def fit(window: QMainWindow) -> None:
    """On a low screen, put napari's layer list in front of its layer controls: below each other they are too high.

    Parameters
    ----------
    window : QMainWindow
        Of napari.
    """
    if window.screen().availableGeometry().height() >= LOW_SCREEN:
        return
    frames = {one.objectName(): one for one in window.findChildren(QDockWidget)}
    controls, layers = frames.get("layer controls"), frames.get("layer list")
    if controls is None or layers is None or controls.isFloating() or layers.isFloating():
        return
    if layers not in window.tabifiedDockWidgets(controls):
        window.tabifyDockWidget(controls, layers)


def show_as(dock: QWidget, view: str) -> None:
    """Show a dock narrow or wide beside the smear, or in a window of its own.

    The window is as large as the screen, and on another screen than napari's where there is one.

    Parameters
    ----------
    dock : QWidget
    view : {"narrow", "wide", "window"}
    """
    frame = frame_of(dock)
    if frame is None:
        return
    window = frame.parentWidget()
    if view == "window":
        frame.setFloating(True)
        frame.setGeometry(_screen_for(window).availableGeometry().adjusted(0, 30, 0, 0))
        frame.show()
        return
    frame.setFloating(False)
    if isinstance(window, QMainWindow):
        width = dock.sizeHint().width()
        if view == "wide":
            width = max(width, _wide(window))
        window.resizeDocks([frame], [width], Qt.Orientation.Horizontal)
    frame.raise_()


def _wide(window: QMainWindow) -> int:
    """Width of a wide dock: as much as leaves some of the smear beside napari's own docks."""
    area = Qt.DockWidgetArea.LeftDockWidgetArea
    left = [one for one in window.findChildren(QDockWidget) if one.isVisible() and not one.isFloating()]
    taken = max((one.width() for one in left if window.dockWidgetArea(one) == area), default=0)
    width: int = round(min(WIDE * window.width(), (1 - SMEAR) * window.width() - taken))
    return width


def _screen_for(window: QWidget | None) -> QScreen:
    """Return a screen other than that of a window, or its own."""
    own: QScreen = window.screen() if window is not None else QApplication.primaryScreen()
    return next((one for one in QApplication.screens() if one is not own), own)
