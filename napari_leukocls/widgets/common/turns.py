"""Steps that are done one after the other, so that the window answers between them."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer


class Turns(QTimer):
    """Does one step in each turn of the event loop.

    Parameters
    ----------
    owner : QObject
        Steps that are left when it is destroyed are not done.
    """

    def __init__(self, owner: QObject) -> None:
        super().__init__(owner)
        self._steps: list[Callable[[], object]] = []
        self.setInterval(0)
        self.timeout.connect(self._do_next)

    def then(self, *steps: Callable[[], object]) -> None:
        """Do steps after those that are left.

        Parameters
        ----------
        *steps : callable
        """
        self._steps += steps
        self.start()

    def _do_next(self) -> None:
        step = self._steps.pop(0)
        if not self._steps:
            self.stop()
        step()
