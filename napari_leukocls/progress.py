"""Progress, CancelToken and drain(): the one protocol of long work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar

from napari_leukocls.errors import Cancelled

T = TypeVar("T")


def drain(steps: Generator[Progress, None, T], progress: ProgressCallback | None = None) -> T:
    """Run a generator of progress to its end and return what it returns."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(step)


def staged(stage: str, token: CancelToken, steps: Steps[T]) -> Generator[Progress, None, T]:
    """Name the steps of some work after a stage, and stop between them where that was asked for."""
    while True:
        token.check()
        try:
            done, total = next(steps)
        except StopIteration as end:
            return end.value
        yield Progress(stage, done, total)


@dataclass(frozen=True)
class Progress:
    """One step of long work: ``done`` of ``total`` in a named stage."""

    stage: str
    done: int
    total: int
    message: str = ""


ProgressCallback = Callable[[Progress], None]

#: Work that yields (done, total) between its steps, where it can be stopped, and returns its result.
Steps = Generator[tuple[int, int], None, T]


def finish(steps: Steps[T]) -> T:
    """Run work to its end without looking at its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@dataclass
class CancelToken:
    """Asked between steps by long work; set from any thread."""

    _event: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if a stop was asked for."""
        if self.cancelled:
            raise Cancelled("stopped by the user; nothing of this smear was written.")
