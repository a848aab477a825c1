"""Keys that are pressed over the smear, taken before napari's own: there, 1 would arm the eraser."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QDockWidget, QWidget

#: Takes a key, and returns whether it is used up.
Taker = Callable[[QKeyEvent], bool]


class CanvasKeys(QObject):
    """Offers the keys over the smear to the docks, the newest first.

    Parameters
    ----------
    window : QWidget
        The part of napari's window with the canvas.
    canvas : QWidget
        The canvas, which has the keyboard after a click.
    last : callable
        Takes the keys that no dock has taken.
    """

    def __init__(self, window: QWidget, canvas: QWidget, last: Taker) -> None:
        super().__init__(window)
        self._takers: list[tuple[weakref.ref[QObject], Taker]] = []
        self._last = last
        for widget in (window, canvas, window.window(), *window.window().findChildren(QDockWidget)):
            widget.installEventFilter(self)

    def watch(self, part: QWidget) -> None:
        """Take the keys that a part of the window does not use.

        Parameters
        ----------
        part : QWidget
        """
        part.installEventFilter(self)

    def offer_to(self, owner: QObject, taker: Taker) -> None:
        """Offer keys to a dock, until it is destroyed.

        Parameters
        ----------
        owner : QObject
        taker : callable
        """
        self._takers.insert(0, (weakref.ref(owner), taker))
        owner.destroyed.connect(lambda *_: self._forget(taker))

    def _forget(self, taker: Taker) -> None:
        self._takers = [one for one in self._takers if one[1] is not taker]

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Offer a key to the docks before napari gets it.

        Parameters
        ----------
        watched : QObject
        event : QEvent

        Returns
        -------
        bool
            Whether the key is used up.
        """
        # PySide6 removes the Python attributes of an object before Qt stops sending it events.
        takers: list[Any] = getattr(self, "_takers", [])
        if event.type() != QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return False
        for owner, taker in takers:
            if owner() is not None and taker(event):
                return True
        return bool(getattr(self, "_last", lambda _: False)(event))


def parts_of(viewer: Any) -> tuple[QWidget, QWidget] | None:
    """Return the part of napari's window with the canvas, and the canvas.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Returns
    -------
    tuple of QWidget or None
        None if the viewer has no window.
    """
    window = getattr(viewer, "window", None)
    # napari has no public name for these parts; the docks work without them.
    part = getattr(window, "_qt_viewer", None)
    native = getattr(getattr(part, "canvas", None), "native", None)
    if not isinstance(part, QWidget) or not isinstance(native, QWidget):
        return None
    return part, native


def keys_of(viewer: Any, last: Taker) -> CanvasKeys | None:
    """Watch the keys of a viewer's canvas.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    last : callable
        See `CanvasKeys`.

    Returns
    -------
    CanvasKeys or None
        None if the viewer has no window.
    """
    parts = parts_of(viewer)
    return None if parts is None else CanvasKeys(*parts, last)
