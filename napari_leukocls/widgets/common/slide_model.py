"""One analysed slide as the docks see it: cells, counts, corrections, selection. No Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    import pandas as pd

#: Half width of the limits that "count N more" aims at.
AIM = 0.03


@dataclass(frozen=True)
class CountRow:
    """One line of the table of counts; numbers that are not defined are None."""

    name: str
    display: str
    colour: str
    count: int
    percent: float | None
    low: float | None
    high: float | None
    per_100: float | None
    more: int | None


@dataclass(frozen=True)
class Totals:
    """The slide in one line."""

    cells: int
    leukocytes: int
    red_cells: int
    platelets: int
    to_review: int
    um_per_px: float
    scale_source: str


class SlideModel:
    """A slide's result with what people said of it, and who listens to that.

    Parameters
    ----------
    result : FieldResult
    key : str
        The slide's name in the review store.
    config : AnalyzeConfig
        With which it was analysed.

    Attributes
    ----------
    changed : psygnal.Signal
        Classes, counts or outlines are others.
    selected : psygnal.Signal
        Emits the ids of the chosen cells and who chose them.
    """

    changed = Signal()
    selected = Signal(object, str)

    def __init__(self, result: FieldResult, key: str, config: Any, scheme: Scheme | None = None) -> None:
        self.result = result
        self.key = key
        self.config = config
        self.scheme = scheme or default_scheme()
        self.selection: tuple[int, ...] = ()
        #: What the review store was given; see `widgets.common.analysed.Analysed`.
        self.added: FieldResult = result

    @property
    def slide_id(self) -> str:
        """Name of the slide within the viewer."""
        return self.result.slide_id

    @property
    def cells(self) -> pd.DataFrame:
        """One row a cell, as in ``cells.csv``."""
        return self.result.cells

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the model that the slide was analysed with."""
        return tuple(self.result.run["classifier"]["classes"])

    def show(self, result: FieldResult) -> None:
        """Replace the result, as after a new analysis or an edit of outlines."""
        self.result = result
        self.changed.emit()

    def with_cells(self, cells: pd.DataFrame) -> None:
        """Replace the table of cells, and count anew."""
        from napari_leukocls.measurement.differential import differential

        counts = differential(cells, self.scheme, self.classes, slide_id=self.slide_id)
        self.show(replace(self.result, cells=cells, counts=counts))

    def select(self, cell_ids: tuple[int, ...], origin: str) -> None:
        """Choose cells; `origin` tells listeners who did, so that they need not follow themselves."""
        if cell_ids != self.selection:
            self.selection = cell_ids
            self.selected.emit(cell_ids, origin)

    def row(self, cell_id: int) -> pd.Series | None:
        """Return the row of a cell; None where there is none of that number."""
        place = np.searchsorted(self.cells["cell_id"].to_numpy(), cell_id)
        if place >= len(self.cells) or self.cells["cell_id"].iat[place] != cell_id:
            return None
        return self.cells.iloc[place]

    @property
    def waiting(self) -> np.ndarray:
        """Whether each cell still waits for a person, (N,) bool."""
        corrected = self.cells["corrected_class"].fillna("").to_numpy() != ""
        return self.cells["needs_review"].to_numpy(bool) & ~corrected

    def visible(self, class_name: str | None, only_review: bool) -> list[int] | None:
        """Cells that a filter leaves; None where it leaves all."""
        if class_name is None and not only_review:
            return None
        keep = np.ones(len(self.cells), bool)
        if class_name is not None:
            keep &= self.cells["class"].to_numpy() == class_name
        if only_review:
            keep &= self.waiting
        return self.cells["cell_id"].to_numpy()[keep].tolist()

    def present(self) -> list[str]:
        """Classes that some cell has, in the scheme's order."""
        known = [name for name in self.cells["class"].unique() if name in self.scheme]
        return self.scheme.ordered(known)

    def totals(self) -> Totals:
        """Sum the slide up."""
        counts = self.result.counts
        by_class = dict(zip(counts["class"], counts["count"], strict=True))
        scale = self.result.segmentation.scale
        return Totals(
            len(self.cells),
            int(counts.loc[counts["in_differential"], "count"].sum()),
            int(by_class.get("red_cell", 0)),
            int(by_class.get("platelet", 0)),
            int(self.waiting.sum()),
            scale.um_per_px,
            scale.source,
        )

    def count_rows(self) -> list[CountRow]:
        """Return the table of counts, the differential first."""
        counts = self.result.counts
        total = int(counts.loc[counts["in_differential"], "count"].sum())
        rows = []
        for row in counts.to_dict("records"):
            entry = self.scheme[row["class"]]
            percent, low, high = (_number(row[name]) for name in ("percent", "ci95_low", "ci95_high"))
            more = None
            if percent is not None and low is not None and high is not None:
                wide = high - low > 200 * AIM
                more = max(0, _needed(round(percent / 100, 6)) - total) if wide else 0
            rows.append(
                CountRow(
                    entry.name,
                    entry.display,
                    entry.colour,
                    int(row["count"]),
                    percent,
                    low,
                    high,
                    _number(row["per_100_wbc"]),
                    more,
                )
            )
        inside = set(counts.loc[counts["in_differential"], "class"])
        return sorted(rows, key=lambda row: row.name not in inside)

    def more_to_count(self) -> int:
        """Leukocytes to count further until the limits of every class are within `AIM` of its share."""
        return max((row.more or 0 for row in self.count_rows()), default=0)


@lru_cache(maxsize=4096)
def _needed(share: float) -> int:
    """Cells to count for the limits that are aimed at; the same shares come back with every correction."""
    from napari_leukocls.measurement.differential import cells_needed

    return cells_needed(share, AIM)


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)
