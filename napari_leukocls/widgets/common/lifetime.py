"""Dock base class: viewer, session, subscriptions, clean closing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_leukocls.widgets.common.jobs import Job
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.texts import Train


class CloseGuard(QObject):
    """Watches a window; lives as long as it does.

    Parameters
    ----------
    window : QWidget
    session : Session
    """

    def __init__(self, window: QWidget, session: Session) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask where a training would be lost."""
        # PySide6 empties the Python side of an object before Qt has let go of it.
        session: Session | None = getattr(self, "_session", None)
        training = None if session is None else session.training
        if event.type() != QEvent.Type.Close or session is None or training is None or not training.running:
            return False
        buttons = QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
        answer = QMessageBox.question(
            self._window, Train.CLOSE_TITLE, Train.CLOSE_TEXT, buttons, QMessageBox.StandardButton.No
        )
        if answer != QMessageBox.StandardButton.Yes:
            event.ignore()
            return True
        training.kill()
        session.training = None
        return False


def guard(widget: QWidget, session: Session) -> None:
    """Watch the window that a widget lies in; once a window."""
    window = widget.window()
    if window is not widget and not window.findChildren(CloseGuard):
        CloseGuard(window, session)


class Leaving(QObject):
    """Destroys a dock that napari has taken out of its window, which napari leaves to whoever made it.

    Parameters
    ----------
    owner : QWidget
    """

    def __init__(self, owner: QWidget) -> None:
        super().__init__(owner)
        self._owner = owner
        self._after = QTimer(self)
        self._after.setSingleShot(True)
        self._after.timeout.connect(self._destroy)
        owner.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Look at who holds the dock when that changes."""
        # PySide6 empties the Python side of an object before Qt has let go of it.
        after: QTimer | None = getattr(self, "_after", None)
        if event.type() == QEvent.Type.ParentChange and after is not None:
            # Not at once: napari is still at it, and a script may put the dock elsewhere.
            after.start()
        return False

    def _destroy(self) -> None:
        if self._owner.parent() is None:
            self._owner.deleteLater()


class Subscriptions:
    """Callbacks of one dock; all are disconnected, and its jobs abandoned, when Qt destroys it.

    Parameters
    ----------
    owner : QWidget
    """

    def __init__(self, owner: QWidget) -> None:
        self._signals: list[tuple[Any, Callable[..., Any]]] = []
        self._jobs: list[Job] = []
        # A function of its own holds on to this object for as long as the owner is there.
        owner.destroyed.connect(lambda *_: self.clear())

    def listen(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Connect a psygnal signal or a napari event."""
        signal.connect(callback)
        self._signals.append((signal, callback))

    def forget(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Disconnect one callback."""
        if (signal, callback) in self._signals:
            self._signals.remove((signal, callback))
            signal.disconnect(callback)

    def job(self, title: str) -> Job:
        """Make a job that is abandoned with the dock."""
        made = Job(title)
        self._jobs.append(made)
        return made

    def clear(self) -> None:
        """Disconnect everything."""
        for job in self._jobs:
            job.abandon()
        for signal, callback in self._signals:
            try:
                signal.disconnect(callback)
            except (ValueError, TypeError):
                # The other side has let go of it already.
                continue
        self._signals.clear()
