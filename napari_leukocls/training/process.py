"""A training in a process of its own: the window stays quick, and memory is free when it ends. No Qt here."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.errors import InputError
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.training.events import LAST, TrainEvent

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

#: What the process understands on its standard input.
STOP = "stop"
_LINES_KEPT = 20


class TrainProcess:
    """One training; started, asked for news, and stopped from any thread.

    Parameters
    ----------
    config : TrainConfig
    launcher : sequence of str, optional
        Put before ``-m napari_leukocls.training``; by default this Python. For several graphics cards:
        ``["accelerate", "launch", "--multi_gpu"]``.

    Examples
    --------
    >>> process = TrainProcess(config)  # doctest: +SKIP
    >>> process.start()  # doctest: +SKIP
    >>> while process.running:  # doctest: +SKIP
    ...     for event in process.poll():
    ...         print(event.kind, event.data)
    """

    def __init__(self, config: TrainConfig, launcher: list[str] | None = None) -> None:
        self.config = config
        self._launcher = launcher or [sys.executable]
        self._process: subprocess.Popen[str] | None = None
        self._events: queue.Queue[TrainEvent] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._errors: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ended = False

    def start(self) -> None:
        """Start the training."""
        self._folder = tempfile.TemporaryDirectory(prefix="leukocls-train-")
        file = Path(self._folder.name) / "config.json"
        atomic_text(file, self.config.model_dump_json())
        command = [*self._launcher, "-m", "napari_leukocls.training", str(file)]
        # The package may be run from a checkout that is not installed.
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )
        for work in (self._read_events, self._read_errors):
            thread = threading.Thread(target=work, name="leukocls-train-reader", daemon=True)
            thread.start()
            self._threads.append(thread)

    def poll(self) -> list[TrainEvent]:
        """Return what has happened since the last call; never waits.

        A process that ended without saying why is reported as ``failed``, once.

        Returns
        -------
        list of TrainEvent
        """
        over = self._process is not None and not self.running
        if over:
            # What it wrote last is still on its way through the readers.
            for thread in self._threads:
                thread.join(5)
        events: list[TrainEvent] = []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        self._ended = self._ended or any(event.kind in LAST for event in events)
        if over and not self._ended:
            self._ended = True
            events.append(TrainEvent("failed", {"message": self._last_words()}))
        return events

    def stop(self) -> None:
        """Ask for a soft stop: the best weights so far become the model."""
        process = self._process
        if process is None or process.poll() is not None or process.stdin is None:
            return
        try:
            process.stdin.write(f"{STOP}\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError, OSError):
            # It ended in this moment: there is nothing left to stop.
            return

    def kill(self) -> None:
        """End the process at once; its last checkpoint stays, and the same settings go on from it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
            for thread in self._threads:
                thread.join(5)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status; None while it runs."""
        return None if self._process is None else self._process.poll()

    def _read_events(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None and process.stdin is not None
        with process.stdout as lines:
            for line in lines:
                if line.strip():
                    self._events.put(_event(line))
        # Commands that it did not read any more are lost with it.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        assert self._folder is not None
        self._folder.cleanup()

    def _read_errors(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._errors.append(line.rstrip())

    def _last_words(self) -> str:
        code = self.returncode
        how = (
            f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        )
        last_line = next((line for line in reversed(self._errors) if line.strip()), "")
        return f"the training process {how}; the last checkpoint is whole. {last_line}".strip()


def _event(line: str) -> TrainEvent:
    """An event, or what else a library prints, as a log line."""
    try:
        return TrainEvent.from_json(line)
    except InputError:
        return TrainEvent("log", {"message": line.strip()[:500]})


def listen(cancel: Any, stream: Any) -> None:
    """Read commands from a stream until it ends; ``stop`` cancels. An end of the stream stops nothing.

    Parameters
    ----------
    cancel : CancelToken
    stream : iterable of str
    """
    for line in stream:
        if line.strip() == STOP:
            cancel.cancel()
