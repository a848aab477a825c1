"""Long work: `Progress` says how far it is, `CancelToken` stops it, and `drain` runs it to its end.

Long work is a generator. It yields its steps, where it can be stopped, and returns its result. Within a long step,
`stop_here` stops it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from napari_leukocls.errors import Cancelled

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One step of long work.

    Attributes
    ----------
    stage : str
        Name of the part of the work.
    done, total : int
        Steps of this stage that are finished, and how many it has.
    message : str
    """

    stage: str
    done: int
    total: int
    message: str = ""


ProgressCallback = Callable[[Progress], None]

#: Long work: it yields a `Progress` between its steps and returns its result.
Steps = Generator[Progress, None, T]


def drain(steps: Generator[S, None, T], progress: Callable[[S], object] | None = None) -> T:
    """Run long work to its end.

    Parameters
    ----------
    steps : generator
    progress : callable, optional
        Called with each step.

    Returns
    -------
    object
        What the generator returns.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        if progress is not None:
            progress(step)


def staged(stage: str, token: CancelToken, steps: Steps[T]) -> Steps[T]:
    """Give the steps of some work the name of a stage, and stop between them when the user asks for it.

    Parameters
    ----------
    stage : str
    token : CancelToken
    steps : generator of Progress

    Yields
    ------
    Progress

    Returns
    -------
    object
        What the work returns.

    Raises
    ------
    Cancelled
        If the token is set.
    """
    while True:
        token.check()
        try:
            with stoppable(token):
                step = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        yield replace(step, stage=stage)


@dataclass
class CancelToken:
    """A request to stop: long work checks it between its steps, and any thread can set it."""

    _event: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Stop the work here, if that was asked for.

        Raises
        ------
        Cancelled
            If the work is to stop.
        """
        if self.cancelled:
            raise Cancelled("stopped by the user; nothing of this smear was written.")


#: What may stop the work of this thread at the moment.
_asked: ContextVar[CancelToken | None] = ContextVar("_asked", default=None)


@contextmanager
def stoppable(token: CancelToken) -> Iterator[None]:
    """Make a context in which `stop_here` asks a token. Nothing may be yielded in it.

    Parameters
    ----------
    token : CancelToken
    """
    before = _asked.set(token)
    try:
        yield
    finally:
        _asked.reset(before)


def beside(work: Callable[..., R], *values: Any) -> Future[R]:
    """Run some work in a thread of its own, while this one goes on.

    Parameters
    ----------
    work : callable
        What stops this thread's work stops it too.
    *values
        Its arguments.

    Returns
    -------
    concurrent.futures.Future
        Of what `work` returns. If nobody asks for it, the work ends by itself.
    """
    pool = ThreadPoolExecutor(1, "leukocls-beside")
    try:
        return pool.submit(copy_context().run, work, *values)
    finally:
        pool.shutdown(wait=False)


def stop_here() -> None:
    """Stop the work of this thread here, if that was asked for. Long steps call it between their parts.

    Raises
    ------
    Cancelled
        If the token of `stoppable` is set; elsewhere nothing is done.
    """
    token = _asked.get()
    if token is not None:
        token.check()
