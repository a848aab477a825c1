"""What the Review dock shows: groups of cells, and what is written on a cell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """One choice of what the gallery shows."""

    name: str
    text: str
    count: int


@dataclass(frozen=True)
class Tile:
    """What is written on a cell of the gallery."""

    class_name: str
    caption: str
    colour: str
    waiting: bool
    corrected: bool
