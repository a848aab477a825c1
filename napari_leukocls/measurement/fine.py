"""Finer classes in the table of cells and in the differential: each counts in its own row and in that of its class.

A table with finer classes has further columns at its end: ``fine_class`` (the finest class that is known, or
``<class>_not_told_apart``), ``fine_probability``, ``fine_prob_<finer class>`` (these sum to ``prob_<class>``) and
``predicted_fine_class``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from napari_leukocls.measurement.differential import (
    ALWAYS_COUNTED,
    COUNT_COLUMNS,
    EXACT,
    differential,
    exact_limits,
    settled,
)
from napari_leukocls.scheme import NOT_TOLD_APART, RED_CELL, Scheme, whole_class
from napari_leukocls.types import FineShares, SlideResult

Result = TypeVar("Result", bound=SlideResult)

FINE_CLASS, FINE_PROBABILITY, PREDICTED_FINE = "fine_class", "fine_probability", "predicted_fine_class"
#: Start of the columns of probabilities; not ``prob_``, which sum to 1.
FINE_PREFIX = "fine_prob_"
#: Column of counts: the class whose row holds these cells already; "" for the classes that sum to all.
PART_OF = "part_of"

#: How finely classes are shown: those of the model, or their finer classes.
CLASSES, FINE = "classes", "fine"
DEPTHS = (CLASSES, FINE)

SEGMENTED, BAND = "segmented_neutrophil", "band_neutrophil"


def fine_columns(
    names: np.ndarray,
    probability: np.ndarray,
    joint: Mapping[str, np.ndarray],
    at: np.ndarray,
    finer: Sequence[str],
    fine: FineShares | None,
) -> dict[str, np.ndarray]:
    """Make the columns of the finer classes for a table of cells.

    Parameters
    ----------
    names : numpy.ndarray, (N,), str
        Predicted classes.
    probability : numpy.ndarray, (N,)
        Of the predicted classes.
    joint : mapping of str to numpy.ndarray, (N,)
        Probability of each class of the model; nan where the classifier did not see the cell.
    at : numpy.ndarray, (M,), int
        Rows of the cells that the classifier saw.
    finer : sequence of str
        The finer classes; each becomes a column.
    fine : FineShares or None
        Row i belongs to ``at[i]``; None if the classifier saw no cell.

    Returns
    -------
    dict of str to numpy.ndarray, (N,)
    """
    found, sure = names.copy(), probability.copy()
    columns = {name: np.full(len(names), np.nan) for name in finer}
    for parent in dict.fromkeys(fine.parents) if fine is not None else ():
        assert fine is not None
        mine = np.flatnonzero([one == parent for one in fine.parents])
        shares = fine.shares[:, mine].astype(float)
        for column, share in zip(mine, shares.T, strict=True):
            columns[fine.classes[column]][at] = joint[parent][at] * share
        best = shares.argmax(axis=1)
        told = shares.max(axis=1, initial=0) >= fine.thresholds[mine[0]]
        known = np.asarray(fine.classes, dtype=object)[mine][best]
        here = names[at] == parent
        found[at[here]] = np.where(told, known, parent + NOT_TOLD_APART)[here]
        sure[at[here & told]] *= shares[np.arange(len(at)), best][here & told]
    return {
        FINE_CLASS: found,
        FINE_PROBABILITY: sure,
        **{f"{FINE_PREFIX}{name}": columns[name] for name in finer},
        PREDICTED_FINE: found.copy(),
    }


def has_fine(cells: pd.DataFrame) -> bool:
    """Whether a table of cells has finer classes.

    Parameters
    ----------
    cells : pandas.DataFrame

    Returns
    -------
    bool
    """
    return FINE_CLASS in cells


def without_fine(cells: pd.DataFrame) -> pd.DataFrame:
    """Leave the columns of the finer classes out.

    Parameters
    ----------
    cells : pandas.DataFrame

    Returns
    -------
    pandas.DataFrame
    """
    mine = (FINE_CLASS, FINE_PROBABILITY, PREDICTED_FINE)
    return cells.drop(columns=[name for name in cells if name in mine or str(name).startswith(FINE_PREFIX)])


def at_depth(result: Result, depth: str, scheme: Scheme) -> Result:
    """Count a result at another depth. Its cells keep their columns.

    Parameters
    ----------
    result : SlideResult
    depth : {"classes", "fine"}
    scheme : Scheme

    Returns
    -------
    SlideResult
        Of the same type; its ``run`` states the depth.
    """
    run = {**result.run, "settings": {**(result.run.get("settings") or {}), "depth": depth}}
    classes = [str(name) for name in run["classifier"]["classes"]]
    counts = count_cells(result.cells, scheme, classes, fine_classes_of(run), slide_id=result.slide_id)
    return replace(result, counts=counts, run=run)


def as_counted(result: Result) -> Result:
    """Leave the finer classes out of the cells of a result that is counted by the classes of the model.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    SlideResult
        As it is written; of the same type.
    """
    if not has_fine(result.cells) or depth_of(result.run) == FINE:
        return result
    return replace(result, cells=without_fine(result.cells))


def with_corrections(cells: pd.DataFrame, scheme: Scheme) -> pd.DataFrame:
    """Fill the corrected classes into ``fine_class``; where there is no correction it is the predicted one.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``. Unchanged if it has no finer classes.
    scheme : Scheme

    Returns
    -------
    pandas.DataFrame
        A correction to a class that has finer ones is "not told apart".
    """
    if not has_fine(cells):
        return cells
    final = cells[PREDICTED_FINE].to_numpy(dtype=object).copy()
    corrected = cells["corrected_class"].fillna("").astype(str).to_numpy(dtype=object)
    parents = {scheme[name].parent for name in _finer(cells)}
    for i in np.flatnonzero(corrected != ""):
        final[i] = corrected[i] + (NOT_TOLD_APART if corrected[i] in parents else "")
    table = cells.assign(**{FINE_CLASS: final})
    table.attrs = dict(cells.attrs)
    return table


def _finer(cells: pd.DataFrame) -> list[str]:
    return [str(name).removeprefix(FINE_PREFIX) for name in cells if str(name).startswith(FINE_PREFIX)]


def shown_classes(cells: pd.DataFrame, depth: str = FINE) -> np.ndarray:
    """The class of each cell as it is shown.

    Parameters
    ----------
    cells : pandas.DataFrame, N rows
        Columns as in ``cells.csv``.
    depth : {"fine", "classes"}

    Returns
    -------
    numpy.ndarray, (N,), str
        The finest class that is known, if the table has finer classes and they are asked for; else the class.
    """
    array: np.ndarray = cells[FINE_CLASS if depth == FINE and has_fine(cells) else "class"].to_numpy(
        dtype=object
    )
    return array


def shown_probability(cells: pd.DataFrame, depth: str = FINE) -> np.ndarray:
    """The probability of the class that `shown_classes` gives.

    Parameters
    ----------
    cells : pandas.DataFrame, N rows
        Columns as in ``cells.csv``.
    depth : {"fine", "classes"}

    Returns
    -------
    numpy.ndarray, (N,)
    """
    name = FINE_PROBABILITY if depth == FINE and has_fine(cells) else "probability"
    array: np.ndarray = cells[name].to_numpy(dtype=float)
    return array


def depth_of(run: Mapping[str, Any]) -> str:
    """How finely the result of a run is counted.

    Parameters
    ----------
    run : mapping
        As in ``run.json``.

    Returns
    -------
    str
        One of `DEPTHS`.
    """
    return str((run.get("settings") or {}).get("depth") or CLASSES)


def fine_classes_of(run: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The finer classes that get a row in the counts of a run.

    Parameters
    ----------
    run : mapping
        As in ``run.json``.

    Returns
    -------
    tuple of str or None
        None if the result is counted by the classes of the model.
    """
    if depth_of(run) != FINE:
        return None
    return tuple(str(name) for name in run["classifier"].get("fine_classes") or ())


def count_cells(
    cells: pd.DataFrame,
    scheme: Scheme,
    classes: Iterable[str],
    finer: Sequence[str] | None = None,
    *,
    slide_id: str | None = None,
) -> pd.DataFrame:
    """Count the settled cells of a slide by class, at the depth that was asked for.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``, of one slide.
    scheme : Scheme
    classes : iterable of str
        The model's.
    finer : sequence of str or None
        The finer classes; None counts as `napari_leukocls.measurement.differential.differential` does.
    slide_id : str, optional
        By default that of the cells.

    Returns
    -------
    pandas.DataFrame
        Columns as in ``counts.csv``. With finer classes there is a column ``part_of``. A row that has one is counted
        in the row of that class too, so its ``in_differential`` is false, although it has a percentage; the parts of
        a class sum to it. ``<class>_not_told_apart`` are the cells of a class whose finer class is not known.
    """
    if finer is None:
        return differential(cells, scheme, classes, slide_id=slide_id)
    if slide_id is None:
        slide_id = str(cells["slide_id"].iloc[0]) if len(cells) else ""
    final = pd.Series([whole_class(str(name)) for name in _final(cells)], dtype=object)
    final = final.replace(dict.fromkeys(scheme.shapes(), RED_CELL))
    exact = {str(name): int(n) for name, n in final[settled(cells)].value_counts().items()}
    rows = _tree(scheme, [*classes, *ALWAYS_COUNTED, *finer, *exact], exact)
    names = [name for name, _, _ in rows]
    count = np.array([n for _, n, _ in rows], dtype=np.int64)
    part_of = [parent for _, _, parent in rows]
    inside = np.array([scheme[name].counted_in_differential for name in names], dtype=bool)
    beside = np.array([scheme[name].per_100_wbc for name in names], dtype=bool)
    whole = np.array([not parent for parent in part_of], dtype=bool)
    n_wbc = int(count[inside & whole].sum())
    percent, low, high, per_100 = (np.full(len(names), np.nan) for _ in range(4))
    if n_wbc:
        share = 100 * count / n_wbc
        percent[inside], per_100[beside] = share[inside], share[beside]
        low[inside], high[inside] = 100 * exact_limits(count[inside], n_wbc)
    columns = ([slide_id] * len(names), names, count, percent, low, high, inside & whole, per_100, part_of)
    table = pd.DataFrame(dict(zip((*COUNT_COLUMNS, PART_OF), columns, strict=True)))
    table.attrs["limits"] = EXACT
    return table


def _final(cells: pd.DataFrame) -> np.ndarray:
    """The finest class of each cell that is known, corrected where it was."""
    corrected = cells["corrected_class"].fillna("").astype(str).to_numpy(dtype=object)
    array: np.ndarray = np.where(corrected == "", shown_classes(cells), corrected)
    return array


def whole_of(name: str, scheme: Scheme) -> str:
    """The class whose row a class is a part of.

    Parameters
    ----------
    name : str
    scheme : Scheme

    Returns
    -------
    str
        "" if it has none, or if the two are not counted in the same way.
    """
    entry = scheme[name]
    if not entry.parent:
        return ""
    parent = scheme[entry.parent]
    same = (entry.counted_in_differential, entry.per_100_wbc) == (
        parent.counted_in_differential,
        parent.per_100_wbc,
    )
    return parent.name if same else ""


def _tree(scheme: Scheme, names: Iterable[str], exact: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Rows (name, count, part of) of classes and their parts, each class before its parts."""
    known: set[str] = set()
    for name in names:
        while name and name not in known:
            known.add(name)
            name = whole_of(name, scheme)
    parts: dict[str, list[str]] = {}
    for name in scheme.ordered(known):
        parts.setdefault(whole_of(name, scheme), []).append(name)

    def total(name: str) -> int:
        return exact.get(name, 0) + sum(map(total, parts.get(name, ())))

    def rows_of(whole: str) -> list[tuple[str, int, str]]:
        rows = []
        for name in parts.get(whole, ()):
            rows += [(name, total(name), whole), *rows_of(name)]
        if whole and rows:
            rows.append((whole + NOT_TOLD_APART, exact.get(whole, 0), whole))
        return rows

    return rows_of("")


def of_differential(counts: pd.DataFrame) -> np.ndarray:
    """Find the rows of the classes of the differential and of their parts.

    Parameters
    ----------
    counts : pandas.DataFrame, N rows
        Columns as in ``counts.csv``.

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    inside = counts["in_differential"].to_numpy(dtype=bool).copy()
    if PART_OF in counts:
        known = set(counts.loc[inside, "class"])
        # A class comes before its parts.
        for i, (name, whole) in enumerate(zip(counts["class"], counts[PART_OF], strict=True)):
            if whole in known:
                known.add(name)
                inside[i] = True
    array: np.ndarray = inside
    return array


def leaf_rows(counts: pd.DataFrame) -> pd.DataFrame:
    """The rows of a count that have no parts: each cell is in one of them.

    Parameters
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.

    Returns
    -------
    pandas.DataFrame
        All rows of a count without finer classes.
    """
    return counts[~counts["class"].isin(counts[PART_OF])] if PART_OF in counts else counts


@dataclass(frozen=True)
class LeftShift:
    """The share of band neutrophils.

    Attributes
    ----------
    bands, told_apart, not_told_apart : int
        Neutrophils: bands, bands and segmented ones together, and those that are neither for certain.
    percent, low, high : float
        Bands among those told apart, with 95 % limits (Clopper-Pearson).
    """

    bands: int
    told_apart: int
    not_told_apart: int
    percent: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """One line for reports."""
        nouns = "neutrophil" if self.told_apart == 1 else "neutrophils"
        line = (
            f"Left shift: {self.bands} of {self.told_apart} segmented and band {nouns} "
            f"{'is a band' if self.bands == 1 else 'are bands'}: {self.percent:.1f} % (95 % limits {self.low:.1f} to "
            f"{self.high:.1f})"
        )
        if self.not_told_apart:
            one = self.not_told_apart == 1
            line += f"; {self.not_told_apart} neutrophil{'' if one else 's'} {'is' if one else 'are'} not told apart"
        return line + "."


def left_shift(counts: pd.DataFrame) -> LeftShift | None:
    """Read the share of bands from a count.

    Parameters
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.

    Returns
    -------
    LeftShift or None
        None if the count has no finer classes, or no neutrophil was told apart.
    """
    if PART_OF not in counts:
        return None
    by_class = dict(zip(counts["class"], counts["count"].astype(int), strict=True))
    bands, segmented = by_class.get(BAND, 0), by_class.get(SEGMENTED, 0)
    told = bands + segmented
    if not told:
        return None
    ((low,), (high,)) = 100 * exact_limits(np.array([bands]), told)
    rest = by_class.get(f"neutrophil{NOT_TOLD_APART}", 0)
    return LeftShift(bands, told, rest, 100 * bands / told, float(low), float(high))
