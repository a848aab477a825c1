"""Which step of a training runs, and how long it may still take. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

EPOCHS = "epochs"
#: Seconds of a step before a remaining time is estimated.
SETTLE_S = 2.0


def steps_of(config: TrainConfig) -> tuple[str, ...]:
    """List the steps of a training, by the names of its events.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    tuple of str
    """
    if config.without_labels:
        return ("cut", "features", "judge")
    if config.rehearse:
        return ("read", "scale", "cut", "features", "judge")
    if config.freeze == "head":
        return ("read", "scale", "cut", "split", "features", EPOCHS, "fit", "test")
    return ("read", "scale", "cut", "split", EPOCHS, "fit", "test")


@dataclass(frozen=True)
class Place:
    """Where a training is.

    Attributes
    ----------
    step : str
        Name of the step.
    number, of : int
        Its place among the steps, from 1; 0 if it is not one of the usual steps.
    done, total : int
        Parts of the step.
    seconds_left : float or None
        Of the step; None if it is too early to tell.
    """

    step: str
    number: int
    of: int
    done: int
    total: int
    seconds_left: float | None


class Pace:
    """Follows the steps of a training.

    Parameters
    ----------
    config : TrainConfig
    clock : callable, optional
        Gives the time in seconds.
    """

    def __init__(self, config: TrainConfig, clock: Callable[[], float] = monotonic) -> None:
        self._steps = steps_of(config)
        self._clock = clock
        self._step = ""
        self._began = 0.0
        self._first = 0

    def at(self, step: str, done: int, total: int) -> Place:
        """Take in how far a step is.

        Parameters
        ----------
        step : str
            Name of the step.
        done, total : int
            Parts of the step; of the epochs, those that are finished.

        Returns
        -------
        Place
        """
        now = self._clock()
        if step != self._step:
            self._step, self._began, self._first = step, now, done
            if step == EPOCHS:
                # The first news of the epochs comes when one is finished: its time is not known.
                self._first = min(done, 1)
        passed, since = now - self._began, done - self._first
        left = None
        if since > 0 and (passed >= SETTLE_S or step == EPOCHS) and total > done:
            left = passed / since * (total - done)
        number = self._steps.index(step) + 1 if step in self._steps else 0
        return Place(step, number, len(self._steps), done, total, left)
