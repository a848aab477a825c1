"""Asks before napari's window closes over a training that runs."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_leukocls.widgets.session import Session
from napari_leukocls.widgets.texts_of_long_work import Train


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
