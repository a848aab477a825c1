"""A training that continues when its dock is closed. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_leukocls.training.events import LAST
from napari_leukocls.training.process import TrainProcess

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.events import TrainEvent


class TrainingRun:
    """One training in a process of its own, with all its events.

    Parameters
    ----------
    config : TrainConfig

    Attributes
    ----------
    happened : psygnal.Signal
        Emits each event that `poll` reads.
    events : list of TrainEvent
    """

    happened = Signal(object)

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.events: list[TrainEvent] = []
        self.process = TrainProcess(config)

    def start(self) -> None:
        """Start the process."""
        self.process.start()

    @property
    def running(self) -> bool:
        """Whether the last event of the training has not been read yet."""
        return not any(event.kind in LAST for event in self.events)

    def poll(self) -> None:
        """Read new events without waiting."""
        for event in self.process.poll():
            self.events.append(event)
            self.happened.emit(event)

    def stop(self) -> None:
        """Ask the training to stop and to keep the best model."""
        self.process.stop()

    def kill(self) -> None:
        """End the process immediately."""
        self.process.kill()

    @property
    def model(self) -> Path | None:
        """Folder of the model; None before there is one."""
        for event in self.events:
            if event.kind in ("finished", "stopped") and "model" in event.data:
                return Path(event.data["model"])
        return None
