"""Counts set against each other: of two slides or readers, of the fields of one, of parts of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# Its part `stats` takes half a second to load, and does so when it is first used.
import scipy

from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.serialise import table_bytes
from napari_leukocls.measurement.differential import exact_limits, settled
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult, SlideResult

#: Random tables with the same margins that a test of a whole table is made with.
N_TABLES = 9999
_ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two counts of leukocytes against each other.

    Attributes
    ----------
    table : pandas.DataFrame
        ``class, first, second, first_percent, second_percent, difference, p, p_holm, repeat_low, repeat_high``;
        a row a class. `p` is Fisher's, `p_holm` is for all classes together; the last two are the percents that
        a second count may show without being different from the first (5 %).
    p : float
        That both counts are of one population, all classes at once (exact by random tables).
    n_first, n_second : int
        Leukocytes counted.
    """

    table: pd.DataFrame
    p: float
    n_first: int
    n_second: int


def compare_counts(
    first: pd.DataFrame, second: pd.DataFrame, scheme: Scheme | None = None, seed: int = 0
) -> Comparison:
    """Compare two differentials: two slides of a patient, two readers, before and after a correction.

    Parameters
    ----------
    first, second : pandas.DataFrame
        Columns as in ``counts.csv``. Only classes of the differential are compared; one that a table does not
        have counts as none seen.
    scheme : Scheme, optional
        For the order of the classes.
    seed : int

    Raises
    ------
    InputError
        Where one of the counts has no leukocyte.

    References
    ----------
    .. [1] Fisher, R. A. (1935). The logic of inductive inference. J. R. Stat. Soc. 98, 39-54.
    .. [2] Ruemke, C. L. (1985). The imprecision of the ratio of two percentages observed in differential white
           blood cell counts. Blood Cells 11, 137-140.
    .. [3] Holm, S. (1979). Scand. J. Statist. 6, 65-70.
    """
    one, two = _inside(first), _inside(second)
    n_one, n_two = sum(one.values()), sum(two.values())
    if not n_one or not n_two:
        raise InputError("a count without leukocytes cannot be compared: count some, or leave the slide out.")
    names = (scheme or default_scheme()).ordered({*one, *two})
    pairs = np.array([[one.get(name, 0), two.get(name, 0)] for name in names])
    p = np.array([_fisher(a, n_one, b, n_two) for a, b in pairs])
    repeat = np.array([repeat_limits(int(a), n_one, n_two) for a, _ in pairs])
    percents = 100 * pairs / [n_one, n_two]
    table = pd.DataFrame(
        {
            "class": names,
            "first": pairs[:, 0],
            "second": pairs[:, 1],
            "first_percent": percents[:, 0],
            "second_percent": percents[:, 1],
            "difference": percents[:, 1] - percents[:, 0],
            "p": p,
            "p_holm": holm(p),
            "repeat_low": repeat[:, 0],
            "repeat_high": repeat[:, 1],
        }
    )
    return Comparison(table, independence_p(pairs, seed), int(n_one), int(n_two))


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Holm's adjustment of several p.

    Parameters
    ----------
    p_values : array_like, (N,)
        NaN stays NaN and does not count as a test.

    Returns
    -------
    list of float

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6, 65-70.
    """
    given = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(given), np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    # statsmodels computes the same, but runs Python's garbage collector on each call, which is slow.
    raised = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]


def repeat_limits(count: int, total: int, second_total: int) -> tuple[float, float]:
    """Percents of a class that a second count may show without differing from a first one.

    These are Ruemke's limits for two counts, which are wider than the confidence limits of the first, as the
    second one scatters too: the second counts whose Fisher's test against the first has p of 5 % or more.

    Parameters
    ----------
    count, total : int
        Cells of the class and leukocytes of the first count.
    second_total : int
        Leukocytes of the second.

    Returns
    -------
    low, high : float
        Percent.
    """
    if not 0 <= count <= total or total < 1 or second_total < 1:
        raise ArgumentError("give a count within its total, and totals of at least one cell.")
    middle = min(second_total, round(count * second_total / total))

    def differs(other: int) -> bool:
        return _fisher(count, total, other, second_total) < _ALPHA

    low = _last(middle, 0, differs)
    high = _last(middle, second_total, differs)
    return 100 * low / second_total, 100 * high / second_total


def independence_p(table: np.ndarray, seed: int = 0, n_tables: int = N_TABLES) -> float:
    """Chance of a table at least as uneven as this one if rows and columns had nothing to do with each other.

    Exact but for the number of random tables, and so right with few cells too.

    Parameters
    ----------
    table : array_like, (R, C), int
    seed : int
    n_tables : int
        Random tables with the same margins.

    Returns
    -------
    float
        NaN where there is nothing to compare.
    """
    counts = np.asarray(table)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    if min(counts.shape, default=0) < 2:
        return float("nan")
    drawn = scipy.stats.random_table(counts.sum(axis=1), counts.sum(axis=0)).rvs(
        n_tables, random_state=np.random.default_rng(seed)
    )
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    uneven = ((counts - expected) ** 2 / expected).sum()
    others = ((drawn - expected) ** 2 / expected).sum(axis=(1, 2))
    return float((1 + (others >= uneven * (1 - 1e-9)).sum()) / (1 + n_tables))


def share_by_position(
    cells: pd.DataFrame,
    shape: tuple[int, int] | None = None,
    grid: tuple[int, int] = (2, 3),
    scheme: Scheme | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of each class by place: parts of a slide, or the fields that it was made of.

    Monocytes and granulocytes gather at the edges and the feather of a smear: where the shares differ by place,
    a count of one place is none of the slide.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``. Where it has a column ``field``, that is the place.
    shape : tuple of int, optional
        Height and width of the image; by default as far as the cells reach.
    grid : tuple of int
        Parts from top to bottom and from left to right.
    scheme : Scheme, optional
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``place, class, count, leukocytes, percent, ci95_low, ci95_high, p, p_holm``: a row a place and class. `p`
        is the chance that the class is as uneven over the places by luck (random tables); Holm's is for all
        classes together.
    """
    scheme = scheme or default_scheme()
    final = cells["corrected_class"].fillna("").astype(str)
    final = cells["class"].astype(str).where(final == "", final)
    inside = final.map(lambda name: name in scheme and scheme[name].counted_in_differential).astype(bool)
    chosen = settled(cells) & inside.to_numpy(dtype=bool)
    places, order = _places(cells, shape, grid)
    names = scheme.ordered(set(final[chosen]))
    counts = np.zeros((len(order), len(names)), np.int64)
    row_of, column_of = ({name: at for at, name in enumerate(known)} for known in (order, names))
    np.add.at(
        counts,
        ([row_of[place] for place in places[chosen]], [column_of[name] for name in final[chosen]]),
        1,
    )
    total = counts.sum(axis=1)
    p, holm = _by_class(counts, total, seed)
    rows = []
    for at, place in enumerate(order):
        limits = exact_limits(counts[at], int(total[at])) if total[at] else np.full((2, len(names)), np.nan)
        for column, name in enumerate(names):
            percent = counts[at, column] / total[at] if total[at] else np.nan
            values = 100 * np.array([percent, *limits[:, column]])
            rows.append((place, name, counts[at, column], total[at], *values, p[column], holm[column]))
    head = ("place", "class", "count", "leukocytes", "percent", "ci95_low", "ci95_high", "p", "p_holm")
    return pd.DataFrame(rows, columns=list(head))


def write(result: SlideResult, path: Path) -> None:
    """Write ``positions.csv``: the shares by place, of a field, or of the fields of a slide.

    Parameters
    ----------
    result : SlideResult
    path : Path
        Within a folder that is being filled.
    """
    shape: tuple[int, int] | None = None
    if isinstance(result, FieldResult):
        height, width = result.labels.shape
        shape = (height, width)
    path.write_bytes(table_bytes(share_by_position(result.cells, shape)))


def _by_class(counts: np.ndarray, total: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    p = np.array(
        [independence_p(np.stack([column, total - column], axis=1), seed) for column in counts.T], float
    )
    return p, np.array(holm(p))


def _places(
    cells: pd.DataFrame, shape: tuple[int, int] | None, grid: tuple[int, int]
) -> tuple[np.ndarray, list[str]]:
    """Place of each cell, and all places in order."""
    if "field" in cells.columns:
        fields = cells["field"].astype(str).to_numpy(dtype=object)
        return fields, sorted(set(fields))
    if min(grid) < 1:
        raise ArgumentError(f"a grid of {grid[0]} x {grid[1]} has no parts: give two numbers of at least 1.")
    reach = shape or tuple(int(cells[f"bbox_{side}"].max()) if len(cells) else 1 for side in ("y1", "x1"))
    y, x = (
        np.clip((cells[f"centroid_{axis}"].to_numpy(float) * parts / length).astype(int), 0, parts - 1)
        for axis, parts, length in zip("yx", grid, reach, strict=True)
    )
    order = [f"row {row + 1}, column {column + 1}" for row in range(grid[0]) for column in range(grid[1])]
    return np.array(order, dtype=object)[y * grid[1] + x], order


def _inside(counts: pd.DataFrame) -> dict[str, int]:
    mine = counts[counts["in_differential"].astype(bool)]
    return dict(zip(mine["class"].astype(str), mine["count"].astype(int), strict=True))


def _fisher(count: int, total: int, other: int, other_total: int) -> float:
    return float(scipy.stats.fisher_exact([[count, total - count], [other, other_total - other]])[1])


def _last(start: int, end: int, differs: Callable[[int], bool]) -> int:
    """The number farthest from `start` towards `end` up to which nothing differs."""
    near, far = start, end
    if not differs(far):
        return far
    while abs(far - near) > 1:
        middle = (near + far) // 2
        near, far = (near, middle) if differs(middle) else (middle, far)
    return near
