"""What is to be done soon after a dock has got another parent, or has lost it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QWidget


class ParentWatch(QObject):
    """Calls `parent_changed` soon after a widget has got another parent.

    Parameters
    ----------
    owner : QWidget
    """

    def __init__(self, owner: QWidget) -> None:
        super().__init__(owner)
        self._owner = owner
        # Not at once: napari is still using the widget, and a script may put it into another window.
        self._after = QTimer(self)
        self._after.setSingleShot(True)
        self._after.timeout.connect(self.parent_changed)
        owner.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Wait for another parent.

        Parameters
        ----------
        watched : QObject
        event : QEvent

        Returns
        -------
        bool
            False: the event goes on.
        """
        # PySide6 removes the Python attributes of an object before Qt stops sending it events.
        after: QTimer | None = getattr(self, "_after", None)
        if event.type() == QEvent.Type.ParentChange and after is not None:
            after.start(0)
        return False

    def parent_changed(self) -> None:
        """Do what is to be done; subclasses say what."""
        raise NotImplementedError
