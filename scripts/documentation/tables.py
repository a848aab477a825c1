"""Tables and figures of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def figure(value: float | None, digits: int = 3) -> str:
    """A share with three digits; empty if there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def limits(value: float | None, interval: Sequence[float | None] | None) -> str:
    """A figure with its 95 % limits."""
    if value is None or not interval or None in interval:
        return figure(value)
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _cell(value: Any) -> str:
    return (
        figure(value) if isinstance(value, float) else str("" if value is None else value).replace("|", "\\|")
    )
