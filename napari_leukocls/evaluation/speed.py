"""How long classifiers take: warmed up, in turns, median and quartiles, at batch 1 and at the best batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from napari_leukocls.errors import ArgumentError

#: Batches among which the best is sought.
BATCHES = (1, 4, 8, 16, 32, 64)
REPEATS = 25

#: Fewest repeats, however slow a model is.
MIN_REPEATS = 7
#: Seconds that the repeats of all models may take together.
BUDGET_S = 40.0


@dataclass(frozen=True)
class Timing:
    """Time of one image at one batch size.

    Attributes
    ----------
    batch : int
    ms : float
        Median over repeats of milliseconds an image.
    quartiles : (float, float)
        First and third, milliseconds an image.
    """

    batch: int
    ms: float
    quartiles: tuple[float, float]

    @property
    def images_per_s(self) -> float:
        """At the median time."""
        return 1000 / self.ms


@dataclass(frozen=True)
class Speed:
    """A model's time one image at a time, and at the batch where it is quickest.

    Attributes
    ----------
    single, best : Timing
    repeats : int
    """

    single: Timing
    best: Timing
    repeats: int


def measure_speed(
    works: Mapping[str, Callable[[int, int], object]],
    batches: tuple[int, ...] | None = None,
    repeats: int | None = None,
    budget_s: float | None = None,
) -> dict[str, Speed]:
    """Time models against each other.

    Each is warmed up at every batch size and timed once to find its best one. Then they take turns, so that
    whatever else the machine does meets all alike.

    Parameters
    ----------
    works : mapping of str to callable
        Of each model: called with a batch size and the number of the call, it classifies so many images.
    batches : tuple of int, optional
        Must hold 1; by default `BATCHES`.
    repeats : int, optional
        At most, by default `REPEATS`; fewer where they would take more than `budget_s` together.
    budget_s : float, optional
        By default `BUDGET_S`.

    Returns
    -------
    dict of str to Speed
    """
    batches, repeats = batches or BATCHES, REPEATS if repeats is None else repeats
    budget_s = BUDGET_S if budget_s is None else budget_s
    if 1 not in batches or repeats < 1:
        raise ArgumentError("speed is measured at batch 1 among others, and at least once.")
    best, round_s = {}, 0.0
    for name, work in works.items():
        once = {}
        for batch in batches:
            work(batch, 0)
            once[batch] = _seconds(work, batch, 1)
        best[name] = min((seconds / batch, batch) for batch, seconds in once.items())[1]
        round_s += once[1] + once[best[name]]
    allowed = int(budget_s / max(round_s, 1e-9))
    repeats = max(min(repeats, allowed), min(repeats, MIN_REPEATS))
    times: dict[tuple[str, int], list[float]] = {}
    for turn in range(repeats):
        for name, work in works.items():
            for batch in dict.fromkeys((1, best[name])):
                times.setdefault((name, batch), []).append(_seconds(work, batch, turn))
    return {
        name: Speed(_timing(1, times[name, 1]), _timing(best[name], times[name, best[name]]), repeats)
        for name in works
    }


def _seconds(work: Callable[[int, int], object], batch: int, turn: int) -> float:
    start = time.perf_counter()
    work(batch, turn)
    return time.perf_counter() - start


def _timing(batch: int, seconds: list[float]) -> Timing:
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75]) * 1000 / batch
    return Timing(batch, float(middle), (float(low), float(high)))


def pareto(ms: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Models (M,) that no other is both as quick and as good as, and better in one of the two."""
    ms, score = np.asarray(ms, dtype=float), np.asarray(score, dtype=float)
    as_good = (ms[None, :] <= ms[:, None]) & (score[None, :] >= score[:, None])
    better = (ms[None, :] < ms[:, None]) | (score[None, :] > score[:, None])
    beaten: np.ndarray = np.any(as_good & better, axis=1)
    return ~beaten
