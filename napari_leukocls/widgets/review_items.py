"""What the Review dock shows: groups of cells, and what is written on a cell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_leukocls.widgets.slide_model import SlideModel


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


class Tiles:
    """What is written on the cells of a slide.

    Parameters
    ----------
    slide : SlideModel
    """

    def __init__(self, slide: SlideModel) -> None:
        self._slide = slide
        self._said: dict[int, tuple[str, float, bool, str]] = {}
        self._said_in: Any = None

    def of(self, cell_id: int, blind: bool) -> Tile | None:
        """Return what is written on a cell, for a blind reader nothing; None where there is no such cell."""
        said = self._all().get(cell_id)
        if said is None:
            return None
        if blind:
            return Tile("", "", "#888888", False, False)
        name, probability, review, correction = said
        entry = self._slide.scheme[name]
        corrected = bool(correction)
        waiting = review and not corrected
        sure = "" if corrected or not math.isfinite(probability) else f" {100 * probability:.0f}%"
        mark = "✓" if corrected else "?" if waiting else ""
        return Tile(entry.name, f"{entry.short}{mark}{sure}", entry.colour, waiting, corrected)

    def class_of(self, cell_id: int) -> str:
        """Return the name of a cell's class."""
        return self._slide.scheme[self._all()[cell_id][0]].display

    def _all(self) -> dict[int, tuple[str, float, bool, str]]:
        """Class, probability, need of review and correction by cell: a gallery asks for hundreds a second."""
        cells = self._slide.cells
        if self._said_in is not cells:
            columns = [cells[name].tolist() for name in ("class", "probability", "needs_review")]
            columns.append(cells["corrected_class"].fillna("").tolist())
            self._said = dict(zip(cells["cell_id"].tolist(), zip(*columns, strict=True), strict=True))
            self._said_in = cells
        return self._said
