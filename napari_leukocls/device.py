"""Compute devices: which one to use, and what to do when its memory runs out."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import cv2
import torch

from napari_leukocls.errors import DeviceError
from napari_leukocls.threads import cores

log = logging.getLogger(__name__)

S = TypeVar("S")

T = TypeVar("T")


def resolve_device(asked: str) -> str:
    """Choose the device to compute on.

    Parameters
    ----------
    asked : {"auto", "cpu", "cuda", "mps"}

    Returns
    -------
    str
        A torch device that this machine has.

    Raises
    ------
    DeviceError
        If a device was asked for by name and is not there: only ``auto`` chooses another.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(asked, False):
        raise DeviceError(
            f"no {asked} device was found by torch: use --device cpu, or auto to let it choose."
        )
    return asked


def use_threads(most: int | None = None) -> None:
    """Limit the threads of torch and OpenCV.

    Torch takes at least two: with a single thread it computes 1 x 1 convolutions of a large image in another way.
    With two or more the segmenter's maps are the same to the bit, so that a slide's tables are the same in one
    process and in many. A process that was forked keeps the one thread that `_in_forked_process` leaves it.

    Parameters
    ----------
    most : int, optional
        Threads to take; by default as many as torch and OpenCV take by themselves.
    """
    if _after_fork.is_set():
        return
    now = torch.get_num_threads()
    torch.set_num_threads(max(2, min(now, cores()) if most is None else min(most, now)))
    if most is not None:
        cv2.setNumThreads(max(1, min(most, cv2.getNumThreads())))


def side_by_side(work: Callable[[S], T], parts: Sequence[S]) -> Generator[T, None, None]:
    """Run the parts of some work of torch on as many threads as torch takes, each part on one thread.

    For small batches of a small network this is faster than one batch after the other with each on all threads, and
    a result does not depend on the number of threads. Closing the iterator drops the parts that have not begun.

    Parameters
    ----------
    work : callable
        Called with each part.
    parts : sequence

    Yields
    ------
    object
        What `work` returned, in the order of the parts.
    """
    pending = [_single_threads(torch.get_num_threads()).submit(work, part) for part in parts]
    try:
        for future in pending:
            yield future.result()
    finally:
        for future in pending:
            future.cancel()


@lru_cache
def _single_threads(count: int) -> ThreadPoolExecutor:
    """Start threads in each of which torch computes with that thread alone."""
    all_begun = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread takes the number of the others
        torch.set_num_threads(1)
        all_begun.wait()

    pool = ThreadPoolExecutor(count, "leukocls", begin)
    for _ in range(count):
        pool.submit(int)
    all_begun.wait()
    # What a thread sets for itself, torch also takes for threads to come.
    torch.set_num_threads(count)
    return pool


_after_fork = threading.Event()
#: Threads of OpenCV that a fork has stopped for a moment.
_stopped: list[int] = []


def _before_fork() -> None:
    """Stop OpenCV's threads: a forked process would wait for them when it ends them itself."""
    _stopped.append(cv2.getNumThreads())
    cv2.setNumThreads(1)


def _in_forking_process() -> None:
    """Let OpenCV have its threads back in the process that has forked another."""
    cv2.setNumThreads(_stopped.pop())


def _in_forked_process() -> None:
    """Compute with one thread in a forked process: threads are not copied by a fork, and waiting for them never ends.

    Sums of one thread differ from those of several in the last digits, so a cell at the edge of a class may differ.
    """
    _after_fork.set()
    _single_threads.cache_clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_in_forking_process, after_in_child=_in_forked_process
    )

#: What torch says where memory is full, of the CPU too, in lower case.
_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device's memory is full.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    bool
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY_WORDS)


def with_less_memory(
    work: Callable[[int, str], T], batch_size: int, device: str, warn: Callable[[str], None]
) -> T:
    """Run some work; if memory runs out, halve the batch, and at last go to the CPU.

    Parameters
    ----------
    work : callable
        Called with the batch size and the device.
    batch_size : int
    device : str
        A torch device.
    warn : callable
        Called with one line about what was changed.

    Returns
    -------
    object
        What `work` returns.

    Raises
    ------
    DeviceError
        If memory runs out on the CPU with a batch of one, or the device fails.
    """
    while True:
        try:
            return work(batch_size, device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise DeviceError(
                    f"computing on {device} failed ({error}): use --device cpu, or report it."
                ) from error
        if batch_size > 1:
            batch_size //= 2
            warn(f"the memory of {device} is full: batch halved to {batch_size}.")
        elif device != "cpu":
            device = "cpu"
            warn("the graphics card's memory is full even for one: going on with the CPU, which is slower.")
        else:
            raise DeviceError(
                "the computer's memory is full: close other programs or analyse a smaller image."
            )
