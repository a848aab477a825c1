"""Speed of classifiers: median and quartiles at batch size 1 and at the fastest batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from napari_leukocls.errors import ArgumentError

#: Batch sizes that are tried.
BATCHES = (1, 4, 8, 16, 32, 64)
#: Usual number of timed calls of each model.
REPEATS = 25
#: Fewest repeats, even of a slow model.
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
        Median over repeats, milliseconds per image.
    quartiles : (float, float)
        First and third, milliseconds per image.
    """

    batch: int
    ms: float
    quartiles: tuple[float, float]

    @property
    def images_per_s(self) -> float:
        """Images per second at the median time."""
        return 1000 / self.ms


@dataclass(frozen=True)
class Speed:
    """A model's time at batch size 1, and at its fastest batch size.

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
    """Time several models.

    Each is warmed up at every batch size and timed once to find its fastest one, from small to large, as long as
    half of its share of the budget lasts: so a slow model, or a busy machine, does not take minutes. Then the models
    are called in turns, so that other load of the machine affects all models equally.

    Parameters
    ----------
    works : mapping of str to callable
        One function a model; called with a batch size and the number of the call, it classifies a batch of
        that size.
    batches : tuple of int, optional
        Must include 1; by default `BATCHES`.
    repeats : int, optional
        Largest number, by default `REPEATS`; fewer where all models together would take longer than
        `budget_s`, but at least `MIN_REPEATS`.
    budget_s : float, optional
        Seconds, by default `BUDGET_S`.

    Returns
    -------
    dict of str to Speed

    Raises
    ------
    ArgumentError
        If `batches` lacks 1, or `repeats` is below 1.
    """
    batches, repeats = batches or BATCHES, REPEATS if repeats is None else repeats
    budget_s = BUDGET_S if budget_s is None else budget_s
    if 1 not in batches or repeats < 1:
        raise ArgumentError("the batch sizes must include 1, and the number of repeats must be at least 1.")
    best, round_s = {}, 0.0
    for name, work in works.items():
        once: dict[int, float] = {}
        began = time.perf_counter()
        for batch in sorted(batches):
            if once and time.perf_counter() - began > budget_s / 2 / len(works):
                break
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
    """Find the Pareto front of speed and score.

    A model is on it unless another one is at least as fast and as good, and better in one of the two.

    Parameters
    ----------
    ms : array_like, (M,)
        Smaller is better.
    score : array_like, (M,)
        Larger is better.

    Returns
    -------
    numpy.ndarray, (M,), bool
    """
    ms, score = np.asarray(ms, dtype=float), np.asarray(score, dtype=float)
    as_good = (ms[None, :] <= ms[:, None]) & (score[None, :] >= score[:, None])
    better = (ms[None, :] < ms[:, None]) | (score[None, :] > score[:, None])
    beaten: np.ndarray = np.any(as_good & better, axis=1)
    return ~beaten
