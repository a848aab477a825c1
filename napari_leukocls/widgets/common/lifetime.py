"""What all docks share: `Dock`, its viewer, session and subscriptions, and how it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from napari.viewer import Viewer
from qtpy.QtCore import QChildEvent, QEvent, QObject, QTimer
from qtpy.QtWidgets import QDialog, QDockWidget, QLabel, QMessageBox, QWidget

from napari_leukocls.widgets.common.canvas import Canvas, canvas_of
from napari_leukocls.widgets.common.jobs import Job
from napari_leukocls.widgets.common.parent_watch import ParentWatch
from napari_leukocls.widgets.common.per_viewer import real_viewer
from napari_leukocls.widgets.common.session import Session, session_of
from napari_leukocls.widgets.common.slide_model import CellsModel
from napari_leukocls.widgets.common.workplace import Placing
from napari_leukocls.widgets.texts import Train


class Subscriptions:
    """Callbacks and jobs of one dock. When Qt destroys it, they are disconnected and abandoned.

    Parameters
    ----------
    owner : QWidget
    """

    def __init__(self, owner: QWidget) -> None:
        self._signals: list[tuple[Any, Callable[..., Any]]] = []
        self._jobs: list[Job] = []
        # The lambda keeps this object alive as long as the owner exists.
        owner.destroyed.connect(lambda *_: self.clear())

    def listen(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Connect a signal.

        Parameters
        ----------
        signal : psygnal.SignalInstance or napari event emitter
        callback : callable
        """
        signal.connect(callback)
        self._signals.append((signal, callback))

    def forget(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Disconnect one callback.

        Parameters
        ----------
        signal : psygnal.SignalInstance or napari event emitter
        callback : callable
            Nothing is done if it is not connected.
        """
        if (signal, callback) in self._signals:
            self._signals.remove((signal, callback))
            signal.disconnect(callback)

    def job(self, title: str) -> Job:
        """Make a job that is abandoned when the dock is destroyed.

        Parameters
        ----------
        title : str
            Shown in napari's activity dock.

        Returns
        -------
        Job
        """
        made = Job(title)
        self._jobs.append(made)
        return made

    def clear(self) -> None:
        """Abandon all jobs and disconnect all callbacks."""
        for job in self._jobs:
            job.abandon()
        for signal, callback in self._signals:
            try:
                signal.disconnect(callback)
            except (ValueError, TypeError):
                # The sender has disconnected it already.
                continue
        self._signals.clear()


class Leaving(ParentWatch):
    """Destroys a dock after napari has taken it out of its window: napari does not do so itself."""

    def parent_changed(self) -> None:
        """Destroy the dock if it has lost its parent."""
        if self._owner.parent() is None:
            self._owner.deleteLater()


class Dock:
    """Base of the docks, together with a QWidget: ``class AnalyseDock(Dock, Scrolling)``.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, or the proxy that napari gives to plugins.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer = real_viewer(napari_viewer)
        self._session = session_of(self._viewer)
        #: The `SlideModel` or `CaseModel` whose signals the dock listens to.
        self._slide: Any = None
        #: Whether the dock is seen: it is not behind another tab.
        self._front = True
        widget = cast("QWidget", self)
        self._subscriptions = Subscriptions(widget)
        Leaving(widget)
        Placing(widget, type(self).__name__.removesuffix("Dock"), self._on_placed)

    @property
    def _canvas(self) -> Canvas:
        """What the viewer shows of the current slide; created when a dock first needs it."""
        return canvas_of(self._viewer)

    def _on_placed(self, frame: QDockWidget) -> None:
        self._canvas.watch_keys(frame)
        frame.visibilityChanged.connect(self._on_visibility)

    def _on_visibility(self, front: bool) -> None:
        if front != self._front:
            self._front = front
            self._on_front(front)

    def _on_front(self, front: bool) -> None:
        """Called when the dock comes to the front of the tabs, and when it goes behind another."""

    def _follow(self, slide: CellsModel | None, **callbacks: Callable[..., Any]) -> None:
        """Listen to the signals of a slide, named as keywords, and no longer to those of the slide before."""
        if self._slide is not None:
            for name, callback in callbacks.items():
                self._subscriptions.forget(getattr(self._slide, name), callback)
        self._slide = slide
        if slide is not None:
            for name, callback in callbacks.items():
                self._subscriptions.listen(getattr(slide, name), callback)


class CloseGuard(QObject):
    """Asks once before a window is closed while a training runs, and ends the training only then.

    napari may ask too, and a person who says no there wants the training as little ended as the window closed. So
    this guard asks in the place of napari; where napari's question comes first (File > Exit), the guard adds the
    training to it. It exists as long as its window.

    Parameters
    ----------
    window : QWidget
    session : Session
    """

    def __init__(self, window: QWidget, session: Session) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        self._agreed = False
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        # Closed by the program and not by the window's frame, napari does not ask.
        self._again.timeout.connect(window.close)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask before the window is closed, if a training would be lost.

        Parameters
        ----------
        watched : QObject
        event : QEvent

        Returns
        -------
        bool
            Whether the event goes no further.
        """
        kind = event.type()
        # PySide6 removes the Python attributes of an object before Qt stops sending it events.
        session: Session | None = getattr(self, "_session", None)
        if session is None or kind not in (QEvent.Type.Close, QEvent.Type.ChildPolished):
            return False
        training = session.training
        if training is None or not training.running:
            return False
        if kind == QEvent.Type.ChildPolished:
            self._add_to_question(cast("QChildEvent", event).child())
            return False
        if not self._agreed:
            event.ignore()
            self._agreed = self._ask()
            if self._agreed:
                self._again.start()
            return True
        training.kill()
        session.training = None
        return False

    def _ask(self) -> bool:
        buttons = QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
        answer = QMessageBox.question(
            self._window, Train.CLOSE_TITLE, Train.CLOSE_TEXT, buttons, QMessageBox.StandardButton.No
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _add_to_question(self, child: QObject) -> None:
        """State the training in napari's own question, whose answer is then the answer to both."""
        if type(child).__name__ != "ConfirmCloseDialog" or not isinstance(child, QDialog):
            return
        for text in child.findChildren(QLabel):
            text.setText(f"{text.text()}\n\n{Train.CLOSE_TITLE}. {Train.CLOSE_TEXT}")
        child.accepted.connect(self._on_agreed)

    def _on_agreed(self) -> None:
        self._agreed = True


def guard(widget: QWidget, session: Session) -> None:
    """Ask before the window of a widget is closed while a training runs.

    Parameters
    ----------
    widget : QWidget
        If it has no window yet, nothing is done. A window is watched once.
    session : Session
    """
    window = widget.window()
    if window is not widget and not window.findChildren(CloseGuard):
        CloseGuard(window, session)
