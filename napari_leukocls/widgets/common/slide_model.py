"""One analysed field for the docks: cells, counts, corrections and selection. No Qt."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult, Scale, SlideResult
from napari_leukocls.widgets.texts import Analyse

if TYPE_CHECKING:
    import pandas as pd

#: Half width of the limits for which "count N more" is computed.
AIM = 0.03


def awaiting_review(cells: pd.DataFrame) -> np.ndarray:
    """Find the cells that need review and have no correction.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    from napari_leukocls.measurement.differential import settled

    return ~settled(cells)


@dataclass(frozen=True)
class CountRow:
    """One row of the table of counts. Numbers that are not defined are None."""

    name: str
    display: str
    colour: str
    count: int
    percent: float | None
    low: float | None
    high: float | None
    per_100: float | None
    more: int | None
    #: Whether it is a finer class, which the row of its class counts too.
    part: bool = False


@dataclass(frozen=True)
class Totals:
    """The totals of a slide."""

    cells: int
    leukocytes: int
    red_cells: int
    platelets: int
    to_review: int
    um_per_px: float
    scale_source: str


@dataclass(frozen=True)
class _Columns:
    """What the docks ask for at each key, of one table of cells at one depth, as arrays of N cells."""

    cells: pd.DataFrame
    depth: str
    shown: np.ndarray
    probability: np.ndarray
    waiting: np.ndarray
    #: The classes that are shown, and the index into them for each cell.
    names: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, cells: pd.DataFrame, depth: str) -> _Columns:
        import pandas as pd

        from napari_leukocls.measurement.fine import shown_classes, shown_probability

        shown = shown_classes(cells, depth)
        codes, names = pd.factorize(shown)
        probability = shown_probability(cells, depth)
        waiting = awaiting_review(cells)
        return cls(cells, depth, shown, probability, waiting, tuple(map(str, names)), codes)

    def among(self, wanted: Collection[str]) -> np.ndarray:
        """Whether each cell is of one of some classes."""
        array: np.ndarray = np.array([name in wanted for name in (*self.names, "")], bool)[self.codes]
        return array


class CellsModel:
    """Cells and counts as the docks show them: of a field (`SlideModel`), or of all fields of a case (`CaseModel`).

    Attributes
    ----------
    changed : psygnal.Signal
        Emitted after classes, counts or outlines have changed.
    selected : psygnal.Signal
        Emits the numbers of the selected cells, and the name of the part that selected them.
    scheme : Scheme
    selection : tuple of int
        Numbers of the selected cells.
    """

    changed = Signal()
    selected = Signal(object, str)

    def __init__(self, scheme: Scheme | None = None) -> None:
        self.scheme = scheme or default_scheme()
        self.selection: tuple[int, ...] = ()
        self._kept: _Columns | None = None

    @property
    def _columns(self) -> _Columns:
        """Columns of the table; made again when there is another table, as after each correction."""
        cells, depth = self.cells, self.depth
        if self._kept is None or self._kept.cells is not cells or self._kept.depth != depth:
            self._kept = _Columns.of(cells, depth)
        return self._kept

    @property
    def result(self) -> SlideResult:
        """Cells, counts and run."""
        raise NotImplementedError

    @property
    def slide_id(self) -> str:
        """Name of the slide within the viewer."""
        return self.result.slide_id

    @property
    def cells(self) -> pd.DataFrame:
        """The table of cells, with one row per cell, as in ``cells.csv``."""
        return self.result.cells

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the model that the slide was analysed with."""
        return tuple(self.result.run["classifier"]["classes"])

    @property
    def finer(self) -> tuple[str, ...]:
        """The finer classes that the model tells apart."""
        return tuple(self.result.run["classifier"].get("fine_classes") or ())

    @property
    def depth(self) -> str:
        """How finely classes are shown and counted: ``classes`` or ``fine``."""
        from napari_leukocls.measurement.fine import depth_of

        return depth_of(self.result.run)

    @property
    def shown(self) -> np.ndarray:
        """The class of each cell as it is shown, (N,) str."""
        return self._columns.shown

    @property
    def shown_probability(self) -> np.ndarray:
        """The probability of the class that is shown, (N,)."""
        return self._columns.probability

    @property
    def scale(self) -> Scale:
        """The pixel size; of several fields that of the last one."""
        raise NotImplementedError

    def in_class(self, class_name: str) -> np.ndarray:
        """Find the cells of a class; at the depth of finer classes, also those of its parts.

        Parameters
        ----------
        class_name : str

        Returns
        -------
        numpy.ndarray, (N,), bool
        """
        columns = self._columns
        return columns.among({name for name in columns.names if class_name in self._chain(name)})

    def of_classes(self, class_names: Collection[str]) -> np.ndarray:
        """Find the cells that are shown as one of some classes.

        Parameters
        ----------
        class_names : collection of str

        Returns
        -------
        numpy.ndarray, (N,), bool
        """
        return self._columns.among(set(class_names))

    def _chain(self, name: str) -> list[str]:
        """Return a class and, at the depth of finer classes, those that it is a part of."""
        from napari_leukocls.measurement.fine import FINE, whole_of

        chain = [name]
        while self.depth == FINE and chain[-1] in self.scheme and whole_of(chain[-1], self.scheme):
            chain.append(whole_of(chain[-1], self.scheme))
        return chain

    def is_part(self, class_name: str) -> bool:
        """Say whether a class is shown below the class that it is a part of.

        Parameters
        ----------
        class_name : str

        Returns
        -------
        bool
            False at the depth of the model's classes.
        """
        return len(self._chain(class_name)) > 1

    def select(self, cell_ids: tuple[int, ...], origin: str) -> None:
        """Select cells.

        Parameters
        ----------
        cell_ids : tuple of int
            Numbers of the cells, as in ``cells.csv``.
        origin : str
            The part that selects them, so that it need not react to its own selection.
        """
        if cell_ids != self.selection:
            self.selection = cell_ids
            self.selected.emit(cell_ids, origin)

    def row(self, cell_id: int) -> pd.Series | None:
        """Return the row of a cell.

        Parameters
        ----------
        cell_id : int
            Number of the cell, as in ``cells.csv``.

        Returns
        -------
        pandas.Series or None
            None if there is no such cell.
        """
        i = np.searchsorted(self.cells["cell_id"].to_numpy(), cell_id)
        if i >= len(self.cells) or self.cells["cell_id"].iat[i] != cell_id:
            return None
        return self.cells.iloc[i]

    @property
    def waiting(self) -> np.ndarray:
        """Whether each cell needs review and has no correction, (N,) bool."""
        return self._columns.waiting

    def visible(self, class_name: str | None, only_review: bool) -> list[int] | None:
        """Return the cells that pass a filter.

        Parameters
        ----------
        class_name : str or None
            None for all classes.
        only_review : bool
            Only cells that need review.

        Returns
        -------
        list of int or None
            None if all cells pass.
        """
        if class_name is None and not only_review:
            return None
        keep = np.ones(len(self.cells), bool)
        if class_name is not None:
            keep &= self.in_class(class_name)
        if only_review:
            keep &= self.waiting
        value: list[int] | None = self.cells["cell_id"].to_numpy()[keep].tolist()
        return value

    def present(self) -> list[str]:
        """Return the classes of the cells as they are shown, in the order of the scheme, each before its parts."""
        known = {name for one in self._columns.names if one in self.scheme for name in self._chain(one)}
        return self.scheme.ordered(known)

    def totals(self) -> Totals:
        """Return the totals of the slide."""
        counts = self.result.counts
        by_class = dict(zip(counts["class"], counts["count"], strict=True))
        scale = self.scale
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
        """Return the rows of the table of counts; the classes of the differential are first."""
        counts = self.result.counts
        total = int(counts.loc[counts["in_differential"], "count"].sum())
        rows = []
        for row in counts.to_dict("records"):
            entry = self.scheme[row["class"]]
            percent, low, high = (_number(row[name]) for name in ("percent", "ci95_low", "ci95_high"))
            more = None
            part = bool(row.get("part_of"))
            if percent is not None and low is not None and high is not None and not part:
                wide = high - low > 200 * AIM
                # Two cells more of the class and two of others: one cell of one does not make all cells of its class
                # (the estimate of Agresti and Coull, American Statistician 1998).
                share = (percent / 100 * total + 2) / (total + 4)
                more = max(0, _needed(round(share, 6)) - total) if wide else 0
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
                    part,
                )
            )
        inside = set(counts.loc[counts["in_differential"], "class"])
        return sorted(rows, key=lambda row: inside.isdisjoint(self._chain(row.name)))

    def fine_note(self) -> str:
        """Return a line on the finer classes: the left shift, or that there is nothing to show; "" at other depths."""
        from napari_leukocls.measurement.fine import FINE, left_shift

        if self.depth != FINE:
            return ""
        if not self.finer:
            return Analyse.NO_FINER.format(model=self.result.run["classifier"]["name"])
        shift = left_shift(self.result.counts)
        return Analyse.NO_SHIFT if shift is None else shift.text

    def more_to_count(self) -> int:
        """Return how many more leukocytes give limits within `AIM` of the share of every class."""
        return max((row.more or 0 for row in self.count_rows()), default=0)


class SlideModel(CellsModel):
    """The result of one field with its corrections, and signals for its changes.

    Parameters
    ----------
    result : FieldResult
    key : str
        Key of the slide in the review store.
    config : AnalyzeConfig
        The settings of the analysis.
    scheme : Scheme, optional
    """

    def __init__(self, result: FieldResult, key: str, config: Any, scheme: Scheme | None = None) -> None:
        super().__init__(scheme)
        self._result = result
        self.key = key
        self.config = config
        #: The result as it was given to the review store; see `widgets.common.analysed.Analysed`.
        self.added: FieldResult = result

    @property
    def result(self) -> FieldResult:
        """The result with corrections."""
        return self._result

    @result.setter
    def result(self, result: FieldResult) -> None:
        self._result = result

    @property
    def scale(self) -> Scale:
        """The pixel size of the field."""
        return self.result.segmentation.scale

    def set_depth(self, depth: str) -> None:
        """Show and count the classes of the model, or their finer classes too.

        Parameters
        ----------
        depth : {"classes", "fine"}
        """
        from napari_leukocls.measurement.fine import at_depth

        if depth != self.depth:
            self.show(at_depth(self.result, depth, self.scheme))

    def show(self, result: FieldResult) -> None:
        """Replace the result, for example after a new analysis.

        Parameters
        ----------
        result : FieldResult
        """
        self.result = result
        self.changed.emit()

    def with_cells(self, cells: pd.DataFrame) -> None:
        """Replace the table of cells, and count again.

        Parameters
        ----------
        cells : pandas.DataFrame
            Columns as in ``cells.csv``.
        """
        from napari_leukocls.measurement.differential import recounted_warnings, unsigned
        from napari_leukocls.measurement.fine import count_cells, fine_classes_of
        from napari_leukocls.measurement.red_cell_findings import with_given_shapes

        finer = fine_classes_of(self.result.run)
        counts = count_cells(cells, self.scheme, self.classes, finer, slide_id=self.slide_id)
        warnings = recounted_warnings(self.result.warnings, cells, counts)
        recounted = replace(self.result, cells=cells, counts=counts, warnings=warnings)
        self.show(with_given_shapes(replace(recounted, signature=unsigned(cells)), self.scheme))


@lru_cache(maxsize=4096)
def _needed(share: float) -> int:
    """Return the number of cells for limits of `AIM`; cached, since most shares occur many times."""
    from napari_leukocls.measurement.differential import cells_needed

    return cells_needed(share, AIM)


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)
