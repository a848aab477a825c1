"""Listening that ends with the dock: what a closed dock had subscribed to must not call it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_leukocls.widgets.jobs import Job


class Subscriptions:
    """Callbacks of one dock; all are disconnected, and its jobs abandoned, when Qt destroys it.

    Parameters
    ----------
    owner : QWidget
    """

    def __init__(self, owner: QWidget) -> None:
        self._signals: list[tuple[Any, Callable[..., Any]]] = []
        self._jobs: list[Job] = []
        owner.destroyed.connect(self.clear)

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

    def clear(self, _gone: object = None) -> None:
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
