"""Several slides at a time, in processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING

from napari_leukocls.batch.job import Job, SlideDone, failure
from napari_leukocls.batch.worker import do_job
from napari_leukocls.errors import ArgumentError, Cancelled
from napari_leukocls.progress import CancelToken

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

#: Seconds between two looks at whether the user has stopped the run.
_LOOK = 0.2
#: Why a slide failed whose process ended.
DIED = (
    "the process that analysed it was ended (its memory was full, or a library failed): analyse it alone "
    "with more memory, or save it smaller."
)

_NO_WORKER = (
    "no worker process could start. In a script, put the call under 'if __name__ == \"__main__\":': each worker "
    "imports the script. Else use one worker, or see the error above."
)

_stop: Event | None = None


def in_processes(jobs: Sequence[Job], workers: int, cancel: CancelToken) -> Iterator[SlideDone]:
    """Analyse slides in several processes, each with its own models; results come as they are done.

    If a process dies, the slides that were being analysed are analysed again one by one, so that only the slide that
    ends its process again fails.

    Parameters
    ----------
    jobs : sequence of Job
    workers : int
        Processes at a time.
    cancel : CancelToken

    Yields
    ------
    SlideDone

    Raises
    ------
    LeukoclsError
        As `napari_leukocls.batch.worker.do_job`.
    """
    left = deque(jobs)
    while left:
        suspects = yield from _in_pool(left, workers, cancel)
        for suspect in suspects:
            guilty = yield from _in_pool(deque([suspect]), 1, cancel)
            for job in guilty:
                yield failure(job.slide.slide_id, DIED)


def _in_pool(left: deque[Job], workers: int, cancel: CancelToken) -> Generator[SlideDone, None, list[Job]]:
    """Do slides until none is left or a process dies; returns those that were under way then."""
    lost: list[Job] = []
    running: dict[Future[SlideDone], Job] = {}
    with _pool(workers) as (pool, begun):
        while running or (left and not lost):
            while left and not lost and len(running) < workers:
                job = left.popleft()
                try:
                    running[pool.submit(_in_worker, job)] = job
                except BrokenProcessPool:
                    lost.append(job)
            for future in ready_of(running, cancel):
                job = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(job)
        if lost and not begun.is_set():
            raise ArgumentError(_NO_WORKER)
    return lost


@contextmanager
def _pool(workers: int) -> Iterator[tuple[ProcessPoolExecutor, Event]]:
    """Give a pool of processes, and an event that is set once one of them could start."""
    # Forked threads of torch may hang, so processes are started afresh.
    context = get_context("spawn")
    stop, begun = context.Event(), context.Event()
    pool = ProcessPoolExecutor(workers, context, _begin, (stop, begun))
    try:
        yield pool, begun
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def ready_of(running: dict[Future[SlideDone], Job], cancel: CancelToken) -> list[Future[SlideDone]]:
    """Wait a moment for results.

    Parameters
    ----------
    running : dict of Future to Job
    cancel : CancelToken

    Returns
    -------
    list of Future
        Those that are done.

    Raises
    ------
    Cancelled
        If the user has stopped the run.
    """
    ready, _ = wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED)
    cancel.check()
    return list(ready)


def _begin(stop: Event, begun: Event) -> None:
    """Set a worker process up: it hears of a stop from its parent, and ends when the parent is gone."""
    global _stop
    _stop = stop
    begun.set()
    # Ctrl-C reaches the whole group; the parent tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a worker whose parent was killed, so that it does not write beside the next run."""
    parent = parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _in_worker(job: Job) -> SlideDone:
    if _stop is None:
        raise Cancelled("this process was not set up to analyse slides.")
    return do_job(job, cancel=CancelToken(_stop))  # type: ignore[arg-type]
