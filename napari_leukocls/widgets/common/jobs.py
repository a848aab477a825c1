"""Work in a thread, with progress, remaining time and cancelling."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from napari.qt.threading import create_worker
from napari.utils import progress as activity
from qtpy.QtCore import QObject, QThreadPool, Signal

from napari_leukocls.errors import Cancelled, LeukoclsError
from napari_leukocls.progress import CancelToken, Progress, Steps
from napari_leukocls.widgets.common.wording import in_dock_words

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds of work before a remaining time is estimated.
SETTLE_S = 1.5
#: Seconds between two steps of a stage that are shown.
SHOW_EVERY_S = 0.15
#: Steps of a bar in napari's activity dock.
_PARTS = 1000
#: Longest time that the end of the program waits for work in threads, ms.
WAIT_AT_EXIT_MS = 120_000
#: Tokens of the work that was given to threads and has not ended, whether its dock still wants the result or not.
_at_work: list[CancelToken] = []


class Clock:
    """Share done and time left of work in stages.

    Parameters
    ----------
    weights : dict of str to float
        Share of the time that each stage is expected to take, in order.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        total = sum(weights.values())
        self._spans: dict[str, tuple[float, float]] = {}
        start = 0.0
        for stage, weight in weights.items():
            self._spans[stage] = (start, weight / total)
            start += weight / total
        self._started = monotonic()
        self.share = 0.0

    def at(self, step: Progress) -> float:
        """Return the share of the work that is done.

        Parameters
        ----------
        step : Progress

        Returns
        -------
        float
            0 to 1; it never decreases.
        """
        start, width = self._spans.get(step.stage, (0.0, 1.0))
        self.share = max(self.share, min(1.0, start + width * step.done / max(step.total, 1)))
        return self.share

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining time in seconds; None if it is too early for an estimate."""
        passed = monotonic() - self._started
        if passed < SETTLE_S or self.share < 0.05:
            return None
        return passed * (1 - self.share) / self.share


def keep_triton_out() -> bool:
    """Make ``import triton`` an ImportError if it would end the process, and return whether this was needed."""
    if sys.platform != "linux" or "triton" in sys.modules:
        return False
    try:
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if "libLLVM" not in loaded:
        return False
    # With None in sys.modules, Python raises ImportError for this module.
    sys.modules["triton"] = None  # type: ignore[assignment]
    log.info("triton is left out: it cannot be loaded together with Mesa's LLVM.")
    return True


def guarded(steps: Steps[T]) -> Steps[T]:
    """Turn every error of some work into an error of the project: napari's workers hide some others.

    Parameters
    ----------
    steps : generator
        The work.

    Yields
    ------
    Progress

    Returns
    -------
    T
        What the work returns.

    Raises
    ------
    LeukoclsError
        If the work fails.
    """
    # This work may be the first that imports torch.
    keep_triton_out()
    try:
        return (yield from steps)
    except LeukoclsError:
        raise
    except OSError as error:
        raise LeukoclsError(
            f"{error.strerror or error}: check the disk and the folder, then try again."
        ) from error
    except Exception as error:  # every other error is a fault of the program, and the dock must show it
        log.exception("a job of a dock failed")
        raise LeukoclsError(
            f"{type(error).__name__}: {error}; this is a fault of the program: please report it with the image."
        ) from error


@dataclass(frozen=True)
class Failure:
    """The error that ended some work. A worker would raise an error that is returned without this class."""

    error: LeukoclsError


def outcome(steps: Steps[T]) -> Steps[T | Failure]:
    """Run some work and return its error instead of raising it: napari's error handler fails with PySide6.

    Parameters
    ----------
    steps : generator
        The work.

    Yields
    ------
    Progress

    Returns
    -------
    T or Failure
        What the work returns, or its error.
    """
    try:
        return (yield from guarded(steps))
    except LeukoclsError as error:
        return Failure(error)


@atexit.register
def end_all_work() -> None:
    """Cancel all work in threads, and wait until the threads have ended.

    Python calls it before it destroys its objects: a thread that reports to an object that is gone ends the
    process with "Aborted". With an event loop napari waits for its workers itself; a script may have none.
    """
    for token in tuple(_at_work):
        token.cancel()
    # Also where no token is left: a thread whose work has ended still has to report it.
    QThreadPool.globalInstance().waitForDone(WAIT_AT_EXIT_MS)


def in_thread(steps: Steps[T], token: CancelToken) -> Steps[T | Failure]:
    """Run some work as `outcome` does, unless it was cancelled before its thread began, and note its end.

    Parameters
    ----------
    steps : generator
        The work.
    token : CancelToken
        Of the work.

    Yields
    ------
    Progress

    Returns
    -------
    T or Failure
    """
    try:
        token.check()
        return (yield from outcome(steps))
    except LeukoclsError as error:
        return Failure(error)
    finally:
        _at_work[:] = [one for one in _at_work if one is not token]


class Job(QObject):
    """One piece of work at a time, in a thread.

    Signals are emitted on the main thread. `cancel` emits `stopped` immediately, and no other signal of that work
    follows: the thread ends at its next step, and its result is discarded.

    Parameters
    ----------
    title : str
        Shown in napari's activity dock.
    parent : QObject, optional
    """

    progressed = Signal(object, float, object)  # Progress, share, seconds left or None
    done = Signal(object)
    failed = Signal(str)
    stopped = Signal()
    ended = Signal()

    def __init__(self, title: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self._token: CancelToken | None = None
        self._bar: Any = None
        self._clock = Clock({"work": 1.0})
        #: Stage and time of the step that was shown last.
        self._shown = ("", 0.0)

    @property
    def running(self) -> bool:
        """Whether work is running that was not cancelled."""
        return self._token is not None

    def start(
        self,
        make: Callable[[CancelToken], Steps[Any]],
        weights: dict[str, float] | None = None,
        show_activity: bool = True,
    ) -> None:
        """Run ``make(token)`` in a thread. Earlier work of this job is cancelled.

        Parameters
        ----------
        make : callable
            Returns the generator. It is called here; the generator runs in the thread.
        weights : dict of str to float, optional
            Expected share of the time of each stage; see `Clock`.
        show_activity : bool
            Whether napari's activity dock shows a bar.
        """
        self.cancel()
        token = CancelToken()
        self._token = token
        self._shown = ("", 0.0)
        self._clock = Clock(weights or {"work": 1.0})
        if show_activity:
            self._bar = activity(total=_PARTS, desc=self._title)
        _at_work.append(token)
        worker = create_worker(in_thread, make(token), token)
        worker.yielded.connect(lambda step: self._on_step(token, step))
        worker.returned.connect(lambda value: self._on_returned(token, value))
        worker.start()

    def cancel(self) -> None:
        """Ask the work to stop, and ignore its result."""
        if self._token is None:
            return
        self._token.cancel()
        self._close()
        self.stopped.emit()
        self.ended.emit()

    def abandon(self) -> None:
        """Cancel without emitting signals, because the dock has been closed."""
        if self._token is not None:
            self._token.cancel()
            self._close()

    def _on_step(self, token: CancelToken, step: Progress) -> None:
        if token is not self._token:
            return
        share = self._clock.at(step)
        # Each step redraws the window: a few steps per second are enough.
        now = monotonic()
        if step.stage == self._shown[0] and now - self._shown[1] < SHOW_EVERY_S:
            return
        self._shown = (step.stage, now)
        if self._bar is not None:
            self._bar.update(round(share * _PARTS) - self._bar.n)
        self.progressed.emit(step, share, self._clock.seconds_left)

    def _on_returned(self, token: CancelToken, value: Any) -> None:
        if token is not self._token:
            return
        self._close()
        if not isinstance(value, Failure):
            self.done.emit(value)
        elif isinstance(value.error, Cancelled):
            self.stopped.emit()
        else:
            self.failed.emit(in_dock_words(str(value.error)))
        self.ended.emit()

    def _close(self) -> None:
        self._token = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None
