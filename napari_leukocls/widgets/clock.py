"""How much of long work is done, and how long the rest will take. No Qt."""

from __future__ import annotations

from time import monotonic

from napari_leukocls.types import Progress

#: Seconds of work before a time left is worth telling.
SETTLE_S = 1.5


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
        """Share done, 0-1; it never goes back."""
        start, width = self._spans.get(step.stage, (0.0, 1.0))
        self.share = max(self.share, min(1.0, start + width * step.done / max(step.total, 1)))
        return self.share

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the pace so far; None while it is too early to tell."""
        passed = monotonic() - self._started
        if passed < SETTLE_S or self.share < 0.05:
            return None
        return passed * (1 - self.share) / self.share
