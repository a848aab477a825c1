"""Cells per litre: a given or estimated number of leukocytes, corrected for erythroblasts, shared out by class.

Of a number that the analyser or a person gives, only the scatter of the count under the microscope is in the limits:
how exact the analyser is, is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import gammainccinv, gammaincinv
from skimage.draw import polygon2mask

from napari_leukocls.measurement.differential import exact_limits, settled
from napari_leukocls.measurement.findings import short_number
from napari_leukocls.measurement.fine import leaf_rows, of_differential
from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.scheme import Scheme, whole_class
from napari_leukocls.types import Finding, FindingState, Segmentation, SlideResult

#: Columns that a count gets where the number of leukocytes per litre is known: 10^9/L, with 95 % limits.
ABSOLUTE_COLUMNS = ("absolute", "absolute_low", "absolute_high")
#: Key of `SlideResult.run`: the area that cells were counted in, mm².
AREA = "area_mm2"
PER_LITRE = "10*9/L"
ERYTHROBLAST = "erythroblast"
_ALPHA = 0.05


@dataclass(frozen=True)
class Counting:
    """How a laboratory comes from its counts to cells per litre.

    Attributes
    ----------
    correct_from : float
        Erythroblasts per 100 leukocytes from which a given number of leukocytes is corrected.
    wbc_factor : float
        10^9/L for each leukocyte per field of view, for the estimate; 0 makes none.
    field_area_mm2 : float
        Field of view that the factor was found with, mm²; 0 takes each image as one field.
    platelet_factor : float
        10^9/L for each platelet per field of a 100x objective, for the estimate; 0 makes none.
    platelet_field_mm2 : float
        That field, mm²; by default that of an eyepiece of field number 20, which is 0.2 mm across.
    least_fields : float
        Fields of view below which an estimate per litre is only possible.
    least_red_cells : float
        Red cells beside the platelets below which their estimate by the ratio is only possible.
    """

    correct_from: float = 5.0
    wbc_factor: float = 0.0
    field_area_mm2: float = 0.0
    platelet_factor: float = 15.0
    platelet_field_mm2: float = 0.0314
    least_fields: float = 10.0
    least_red_cells: float = 1000.0

    # Read by pydantic, which validates the file of the rules against this plain dataclass.
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in (
            *("correct_from", "wbc_factor", "field_area_mm2", "platelet_factor"),
            *("least_fields", "least_red_cells"),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is a number of at least 0")
        if not (math.isfinite(self.platelet_field_mm2) and self.platelet_field_mm2 > 0):
            raise ValueError("platelet_field_mm2 is a number above 0")


@dataclass(frozen=True)
class WhiteCells:
    """Leukocytes per litre, 10^9/L.

    Attributes
    ----------
    value, low, high : float
        With 95 % limits.
    source : {"given", "corrected", "estimated"}
    given : float
        The number that was given, before any correction; nan of an estimate.
    erythroblasts : int
        That were counted and are taken off, for ``corrected``; else 0.
    n_fields : float
        Fields of view that an estimate is from; else nan.
    """

    value: float
    low: float
    high: float
    source: Literal["given", "corrected", "estimated"]
    given: float = math.nan
    erythroblasts: int = 0
    n_fields: float = math.nan


def correct_for_erythroblasts(wbc: float, per_100: float) -> float:
    """Take erythroblasts off a number of leukocytes that holds them.

    Parameters
    ----------
    wbc : float
        Nucleated cells, in any unit.
    per_100 : float
        Erythroblasts per 100 leukocytes.

    Returns
    -------
    float
        Leukocytes, in the same unit: ``wbc * 100 / (100 + per_100)``.

    References
    ----------
    .. [1] CLSI H20-A2, Reference leukocyte (WBC) differential count (proportional) and evaluation of instrumental
           methods, 2007.
    """
    return wbc * 100 / (100 + per_100)


def class_count(counts: pd.DataFrame, names: Iterable[str], scheme: Scheme) -> int:
    """Count the cells of some classes and of their finer classes.

    Parameters
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.
    names : iterable of str
    scheme : Scheme

    Returns
    -------
    int
    """
    wanted = set(names)
    rows = leaf_rows(counts)
    mine = rows["class"].map(lambda name: scheme.coarsen(whole_class(str(name)), wanted) in wanted)
    return int(rows.loc[mine.astype(bool), "count"].sum())


def counted_leukocytes(counts: pd.DataFrame) -> int:
    """The number of leukocytes of a count.

    Parameters
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.

    Returns
    -------
    int
    """
    return int(counts.loc[counts["in_differential"].astype(bool), "count"].sum())


def white_cells(result: SlideResult, counting: Counting, scheme: Scheme) -> WhiteCells | None:
    """Leukocytes per litre: as given, corrected for erythroblasts, or estimated from the density of the field.

    Parameters
    ----------
    result : SlideResult
    counting : Counting
    scheme : Scheme

    Returns
    -------
    WhiteCells or None
        None if no number is given and none can be estimated.

    Notes
    -----
    Of n leukocytes and e erythroblasts that were counted, the corrected number is the share n / (n + e) of the given
    one, which is the same as `correct_for_erythroblasts`; its limits are those of that share (Clopper-Pearson).
    """
    sample = sample_of(result)
    n = counted_leukocytes(result.counts)
    if sample.wbc is None:
        return _estimated(result, counting, scheme)
    e = class_count(result.counts, [ERYTHROBLAST], scheme)
    if sample.wbc_corrected or not n or not e or 100 * e / n < counting.correct_from:
        return WhiteCells(sample.wbc, sample.wbc, sample.wbc, "given", sample.wbc)
    value = correct_for_erythroblasts(sample.wbc, 100 * e / n)
    ((low,), (high,)) = sample.wbc * exact_limits(np.array([n]), n + e)
    return WhiteCells(value, float(low), float(high), "corrected", sample.wbc, e)


def _estimated(result: SlideResult, counting: Counting, scheme: Scheme) -> WhiteCells | None:
    """From leukocytes per field; those that wait for review are in the estimate and in its upper limit alone."""
    area = result.run.get(AREA)
    if not counting.wbc_factor or not isinstance(area, (int, float)) or not area > 0:
        return None
    fields = result.run.get("fields")
    images = len(fields) if isinstance(fields, (list, tuple)) else 1
    n_fields = area / counting.field_area_mm2 if counting.field_area_mm2 else float(images)
    # All cells of the area, also those after a goal.
    corrected = result.cells["corrected_class"].fillna("").astype(str)
    names = result.cells["class"].astype(str).where(corrected == "", corrected)
    leukocytes = np.array([name in scheme and scheme[name].counted_in_differential for name in names], bool)
    known = settled(result.cells)
    sure, more = int((leukocytes & known).sum()), int((leukocytes & ~known).sum())
    low, high = poisson_limits(sure)[0], poisson_limits(sure + more)[1]
    factor = counting.wbc_factor / n_fields
    return WhiteCells((sure + more) * factor, low * factor, high * factor, "estimated", n_fields=n_fields)


def poisson_limits(count: int) -> tuple[float, float]:
    """Exact 95 % limits of a number of events.

    Parameters
    ----------
    count : int

    Returns
    -------
    low, high : float

    References
    ----------
    .. [1] Garwood, F. (1936). Fiducial limits for the Poisson distribution. Biometrika 28, 437-442.
    """
    low = 0.0 if count == 0 else float(gammaincinv(count, _ALPHA / 2))
    return low, float(gammainccinv(count + 1, _ALPHA / 2))


def with_absolute(counts: pd.DataFrame, white: WhiteCells | None) -> pd.DataFrame:
    """Add the absolute counts to a count.

    Parameters
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.
    white : WhiteCells or None

    Returns
    -------
    pandas.DataFrame
        With `ABSOLUTE_COLUMNS`, which are nan outside the differential; as it is if `white` is None.

    Notes
    -----
    The limits of a given number are those of the percentage. Of a corrected number, a class is x of n + e nucleated
    cells. Of an estimate, the lower limits of share and estimate are multiplied, and the upper ones: together they hold
    with at least 90 %.
    """
    if white is None:
        return counts
    inside = of_differential(counts)
    values = np.full((3, len(counts)), np.nan)
    percents = counts[["percent", "ci95_low", "ci95_high"]].to_numpy(float).T[:, inside] / 100
    if white.source == "corrected":
        total = counted_leukocytes(counts) + white.erythroblasts
        x = counts["count"].to_numpy()[inside]
        percents = np.stack([x / total, *exact_limits(x, total)])
        values[:, inside] = percents * white.given
    else:
        values[:, inside] = percents * np.array([[white.value], [white.low], [white.high]])
    table = counts.assign(**dict(zip(ABSOLUTE_COLUMNS, values, strict=True)))
    table.attrs = dict(counts.attrs)
    return table


def wbc_findings(white: WhiteCells | None, counts: pd.DataFrame, counting: Counting) -> list[Finding]:
    """Describe the number of leukocytes per litre.

    Parameters
    ----------
    white : WhiteCells or None
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.
    counting : Counting

    Returns
    -------
    list of Finding
        ``wbc_given``, and ``wbc_corrected`` if it was corrected; or ``wbc_estimated``.
    """
    if white is None:
        return []
    shown = f"{short_number(white.value)} × 10⁹/L"
    if white.source == "estimated":
        state: FindingState = "certain"
        source = "their density"
        if white.n_fields < counting.least_fields:
            state = "possible"
            source += f" in {too_few(white.n_fields, 'field', counting.least_fields)}"
        text = (
            f"Leukocytes estimated from {source}: {shown} ({short_number(white.low)} to "
            f"{short_number(white.high)}). An estimate does not replace a count."
        )
        return [Finding("wbc_estimated", white.value, white.low, white.high, PER_LITRE, state, "", text)]
    given = f"Leukocytes, given: {short_number(white.given)} × 10⁹/L."
    findings = [Finding("wbc_given", white.given, math.nan, math.nan, PER_LITRE, "certain", "", given)]
    if white.source == "corrected":
        per_100 = 100 * white.erythroblasts / counted_leukocytes(counts)
        text = (
            f"Leukocytes corrected for {short_number(per_100)} erythroblasts per 100 leukocytes: {shown} "
            f"({short_number(white.low)} to {short_number(white.high)})."
        )
        rule = f"erythroblasts >= {short_number(counting.correct_from)} per 100 leukocytes"
        findings.append(
            Finding("wbc_corrected", white.value, white.low, white.high, PER_LITRE, "certain", rule, text)
        )
    return findings


def too_few(number: float, noun: str, needed: float) -> str:
    """Write a number that is too small for an estimate, with the one that is needed.

    Parameters
    ----------
    number : float
    noun : str
        Singular.
    needed : float

    Returns
    -------
    str
        For example ``0.7 fields only (10 are needed)``.
    """
    return (
        f"{short_number(number)} {noun}{'' if number == 1 else 's'} only ({short_number(needed)} are needed)"
    )


def counted_area(
    segmentation: Segmentation,
    box: tuple[int, int, int, int] | None = None,
    polygons: Iterable[np.ndarray] = (),
) -> float | None:
    """The area of a field that cells are counted in.

    Parameters
    ----------
    segmentation : Segmentation
        The black around a field of view and heaps that are too thick to count belong to no area.
    box : tuple of int, optional
        y0, x0, y1, x1 of the part that was analysed; by default all.
    polygons : iterable of numpy.ndarray, (K, 2)
        Corners y, x of the part that was analysed, within the box; by default all of it.

    Returns
    -------
    float or None
        mm²; None if the size of a pixel is not known.
    """
    um = segmentation.scale.um_per_px
    if not (math.isfinite(um) and um > 0):
        return None
    height, width = segmentation.labels.shape
    y0, x0, y1, x1 = box or (0, 0, height, width)
    pixels = float((y1 - y0) * (x1 - x0))
    corners = [np.asarray(one, float) - (y0, x0) for one in polygons]
    if corners:
        inside = np.zeros((y1 - y0, x1 - x0), bool)
        for one in corners:
            inside |= polygon2mask(inside.shape, one)
        for heap in segmentation.heaps:
            inside &= ~polygon2mask(inside.shape, np.asarray(heap, float)[:, ::-1] - (y0, x0))
        pixels = float(inside.sum())
    if segmentation.light is not None:
        pixels *= 1 - segmentation.light.surround
    if not corners:
        pixels -= sum(_enclosed(heap) for heap in segmentation.heaps)
    return max(pixels, 0.0) * um * um / 1e6


def _enclosed(outline: np.ndarray) -> float:
    """Area within an outline, square pixels."""
    x, y = np.asarray(outline, float).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


__all__ = [
    "ABSOLUTE_COLUMNS",
    "AREA",
    "PER_LITRE",
    "Counting",
    "WhiteCells",
    "class_count",
    "correct_for_erythroblasts",
    "counted_area",
    "counted_leukocytes",
    "poisson_limits",
    "too_few",
    "wbc_findings",
    "white_cells",
    "with_absolute",
]
