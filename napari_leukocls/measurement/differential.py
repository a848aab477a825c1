"""The differential count with its confidence limits, and how many cells a count needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.special import betainccinv, betaincinv, gammaincinv

from napari_leukocls.errors import ArgumentError
from napari_leukocls.scheme import RED_CELL, Scheme
from napari_leukocls.types import Signature

_NO_CELL = "no cell was found: check that this is a stained smear in focus."
_NO_LEUKOCYTE = "no settled leukocyte was found: percentages are empty."


def count_warnings(cells: pd.DataFrame, counts: pd.DataFrame) -> list[str]:
    """Warn if a result has no cell, or no leukocyte.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.

    Returns
    -------
    list of str
    """
    if len(cells) == 0:
        return [_NO_CELL]
    if int(counts.loc[counts["in_differential"], "count"].sum()) == 0:
        return [_NO_LEUKOCYTE]
    return []


def recounted_warnings(
    warnings: tuple[str, ...], cells: pd.DataFrame, counts: pd.DataFrame
) -> tuple[str, ...]:
    """Renew the warnings of a result about its count, after the count has changed.

    Parameters
    ----------
    warnings : tuple of str
        All warnings of the result.
    cells, counts : pandas.DataFrame
        As for `count_warnings`.

    Returns
    -------
    tuple of str
        The others stay.
    """
    kept = [line for line in warnings if line not in (_NO_CELL, _NO_LEUKOCYTE)]
    return (*kept, *count_warnings(cells, counts))


COUNT_COLUMNS = (
    "slide_id",
    "class",
    "count",
    "percent",
    "ci95_low",
    "ci95_high",
    "in_differential",
    "per_100_wbc",
)

#: What the segmenter tells apart by itself, so that it is counted whatever the classifier.
ALWAYS_COUNTED = ("platelet", "red_cell")
EXACT = "Clopper-Pearson exact, each class alone"

SIMULTANEOUS = "Goodman, all classes at once"

_ALPHA = 0.05


def settled(cells: pd.DataFrame) -> np.ndarray:
    """Whether each cell counts: it needs no review, or a person has given its class.

    Parameters
    ----------
    cells : pandas.DataFrame, N rows
        Columns as in ``cells.csv``.

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    corrected = cells["corrected_class"].fillna("").astype(str).to_numpy() != ""
    array: np.ndarray = ~cells["needs_review"].to_numpy(dtype=bool) | corrected
    return array


def count_unsettled(cells: pd.DataFrame) -> int:
    """Count the cells that wait for review.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    int
    """
    return int((~settled(cells)).sum())


def left_out(cells: pd.DataFrame) -> dict[str, int]:
    """Count the cells that wait for review, and so are in no count, by the class that the classifier gave.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    dict of str to int
        The most frequent class first.
    """
    waiting = cells.loc[~settled(cells), "predicted_class"].astype(str).value_counts()
    return {str(name): int(n) for name, n in waiting.items()}


def unsigned(cells: pd.DataFrame) -> Signature:
    """Describe the state of a count that nobody has signed: reviewed or not, and which cells it leaves out.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    Signature
        ``provisional`` if a person has given a class to a cell, else ``unreviewed``.
    """
    reviewed = bool((cells["corrected_class"].fillna("").astype(str) != "").any())
    return Signature("provisional" if reviewed else "unreviewed", left_out=left_out(cells))


def differential(
    cells: pd.DataFrame,
    scheme: Scheme,
    classes: Iterable[str],
    *,
    slide_id: str | None = None,
    simultaneous: bool = False,
) -> pd.DataFrame:
    """Count the settled cells of a slide by class, with 95 % limits.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``, of one slide.
    scheme : Scheme
        Says which classes are counted in the differential and which are reported per 100 leukocytes.
    classes : iterable of str
        The model's. These and `ALWAYS_COUNTED` get a row whether or not a cell has them; any other class that
        a settled cell has gets one too.
    slide_id : str, optional
        By default that of the cells.
    simultaneous : bool
        Goodman's limits, which hold for all classes at once and are wider; by default each class has its own
        Clopper-Pearson limits.

    Returns
    -------
    pandas.DataFrame
        Columns `COUNT_COLUMNS`, in the scheme's order; percents are 0-100 and NaN where there are none.
        ``attrs["limits"]`` says which limits they are.

    References
    ----------
    .. [1] Clopper, C. J. & Pearson, E. S. (1934). Biometrika 26, 404-413.
    .. [2] Goodman, L. A. (1965). Technometrics 7, 247-254.
    """
    if slide_id is None:
        slide_id = str(cells["slide_id"].iloc[0]) if len(cells) else ""
    corrected = cells["corrected_class"].fillna("").astype(str)
    final = cells["class"].where(corrected == "", corrected)
    # A red cell whose shape a person has given is counted as a red cell.
    shapes = scheme.shapes()
    counted: Counter[str] = Counter()
    for name, n in final[settled(cells)].value_counts().items():
        counted[RED_CELL if name in shapes else str(name)] += int(n)
    names = scheme.ordered([*classes, *ALWAYS_COUNTED, *counted])
    count = np.array([counted[name] for name in names], dtype=np.int64)
    inside = np.array([scheme[name].counted_in_differential for name in names], dtype=bool)
    beside = np.array([scheme[name].per_100_wbc for name in names], dtype=bool)
    n_wbc = int(count[inside].sum())
    percent, low, high, per_100 = (np.full(len(names), np.nan) for _ in range(4))
    if n_wbc:
        share = 100 * count / n_wbc
        percent[inside] = share[inside]
        per_100[beside] = share[beside]
        limits = goodman_limits(count[inside]) if simultaneous else exact_limits(count[inside], n_wbc)
        low[inside], high[inside] = 100 * limits
    columns = ([slide_id] * len(names), names, count, percent, low, high, inside, per_100)
    table = pd.DataFrame(dict(zip(COUNT_COLUMNS, columns, strict=True)))
    table.attrs["limits"] = SIMULTANEOUS if simultaneous else EXACT
    return table


def exact_limits(count: np.ndarray, total: float) -> np.ndarray:
    """Clopper-Pearson 95 % limits of ``count / total``.

    Parameters
    ----------
    count : numpy.ndarray, (N,)
    total : float

    Returns
    -------
    numpy.ndarray, (2, N)
        Low and high, as shares 0-1.

    References
    ----------
    .. [1] Clopper, C. J. & Pearson, E. S. (1934). Biometrika 26, 404-413.
    """
    count = np.atleast_1d(np.asarray(count, float))
    with np.errstate(invalid="ignore"):
        low = np.where(count == 0, 0.0, betaincinv(count, total - count + 1, _ALPHA / 2))
        high = np.where(count == total, 1.0, betainccinv(count + 1, total - count, _ALPHA / 2))
    array: np.ndarray = np.clip(np.stack([low, high]), 0, 1)
    return array


def per_100_limits(count: float, leukocytes: float) -> tuple[float, float]:
    """Exact 95 % limits of a number of cells per 100 leukocytes, which these cells are not part of.

    Parameters
    ----------
    count, leukocytes : float
        Cells, and leukocytes beside them; at least one leukocyte.

    Returns
    -------
    low, high : float
        Those of the share of the cells among both (`exact_limits`), as cells per 100 leukocytes.
    """
    ((low,), (high,)) = exact_limits(np.array([count]), leukocytes + count)
    return float(100 * low / (1 - low)), float(100 * high / (1 - high))


def goodman_limits(counts: np.ndarray) -> np.ndarray:
    """Goodman's simultaneous 95 % limits of the shares of `counts`.

    Parameters
    ----------
    counts : numpy.ndarray, (N,)
        Cells of each class. One class alone gets the limits of `exact_limits`.

    Returns
    -------
    numpy.ndarray, (2, N)
        Low and high, as shares 0-1.

    References
    ----------
    .. [1] Goodman, L. A. (1965). Technometrics 7, 247-254.
    """
    counts = np.asarray(counts, float)
    total = counts.sum()
    if len(counts) < 2:
        # One class alone is no multinomial.
        return exact_limits(counts, int(total))
    # The quantile of chi squared with one degree of freedom.
    chi2 = 2 * gammaincinv(0.5, 1 - _ALPHA / len(counts))
    share = counts / total
    reach = np.sqrt(chi2**2 + 4 * total * share * chi2 * (1 - share))
    middle = 2 * total * share + chi2
    limits = np.stack([middle - reach, middle + reach]) / (2 * (chi2 + total))
    array: np.ndarray = np.clip(limits, 0, 1)
    return array


def cells_needed(p: float, half_width: float) -> int:
    """Cells to count so that the 95 % limits of a class of share `p` span at most twice `half_width`.

    Parameters
    ----------
    p : float
        Share of the class, 0-1.
    half_width : float
        Half the wanted width of its Clopper-Pearson limits, 0-1.
    """
    if not 0 <= p <= 1 or not 0 < half_width < 1:
        raise ArgumentError("give the share (0 to 1) and the half width (between 0 and 1) as fractions.")

    def too_wide(n: int) -> bool:
        x = p * n
        low = 0.0 if x <= 0 else betaincinv(x, n - x + 1, _ALPHA / 2)
        high = 1.0 if x >= n else betaincinv(x + 1, n - x, 1 - _ALPHA / 2)
        return bool(high - low > 2 * half_width)

    enough = 1
    while too_wide(enough):
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (enough + short) // 2
        short, enough = (middle, enough) if too_wide(middle) else (short, middle)
    return enough
