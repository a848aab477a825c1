"""What is said of the red cells of a slide: spread of sizes, pallor and shapes, each with limits and a grade."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.measurement.cells import LOW_CONFIDENCE, UNLIKE_TRAINING
from napari_leukocls.measurement.corrected import card_matrix, shares_with_limits
from napari_leukocls.measurement.differential import exact_limits
from napari_leukocls.measurement.findings import short_number, with_findings
from napari_leukocls.measurement.heaps import HEAPS
from napari_leukocls.measurement.red_cell_grades import (
    MEASURED,
    Grade,
    RedCellGrades,
    RedCellLimits,
    load_grades,
)
from napari_leukocls.measurement.red_cell_table import is_red_cell, polychromatic, with_shape_corrections
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import Finding, FindingState, ScaleSource, SlideResult

Result = TypeVar("Result", bound=SlideResult)

#: Resamples for the limits of the spread, and of shares that are corrected for errors of the model.
N_BOOT = 300
#: What the names of these findings begin with.
PREFIX = "red_cell_"
#: Scales that do not rest on the red cells themselves, so that diameters are true ones.
TRUE_SCALES: tuple[ScaleSource, ...] = ("user", "metadata")
#: Words of the grades.
GRADES = ("0", "1+ (few)", "2+ (moderate)", "3+ (many)")
#: Findings of sizes in micrometres, which need a scale that does not rest on the red cells.
OF_TRUE_SIZE = ("microcytes", "macrocytes")
NO_SIZE = (
    "Microcytes and macrocytes cannot be told: the size of a pixel was measured on the red cells themselves. Give the "
    "pixel size to have them graded."
)
UNSURE = (
    "Shapes are not graded: the model is not sure of the shape of {percent:.0f} % of the red cells. Stain, camera or "
    "film are unlike those that it knows, or the cells lie too close. Give the shapes by hand, or train the model on "
    "this laboratory."
)
#: Findings that no labelled set of this project could test: they are never certain.
UNTESTED = ("polychromatic", "inclusions")


@dataclass(frozen=True)
class Shares:
    """How often a model takes one shape for another.

    Attributes
    ----------
    classes : tuple of str
        Shapes of the model.
    matrix : list of list of float or None
        Confusion matrix on cells that were left out of the training: rows are the truth.
    """

    classes: tuple[str, ...]
    matrix: list[list[float]] | None = None

    def of(self, table: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
        """Shares of the shapes, %, with 95 % limits.

        Shapes that a person has given count as they are. Those of the model are corrected for its known errors, so
        that a shape which is often given by mistake is not found in every slide.

        Parameters
        ----------
        table : pandas.DataFrame
            Measured red cells, columns as in ``red_cells.csv``.

        Returns
        -------
        dict of str to tuple of float
            Share, low and high of each shape.
        """
        given = (table["reviewer"].fillna("") != "").to_numpy()
        shape = table["shape"].to_numpy(dtype=object)
        by_person = np.array([np.sum(shape[given] == name) for name in self.classes], float)
        by_model = np.array([np.sum(shape[~given] == name) for name in self.classes], float)
        n, n_model = max(len(table), 1), by_model.sum()
        plain = np.stack([by_model, *(exact_limits(by_model, max(int(n_model), 1)) * n_model)])
        if self.matrix is not None and n_model:
            inside = list(range(len(self.classes)))
            rows = np.asarray(self.matrix, float)
            plain = np.stack(shares_with_limits(by_model, rows, inside, N_BOOT)) * n_model
        shares = 100 * (by_person + plain) / n
        return {name: (shares[0, i], shares[1, i], shares[2, i]) for i, name in enumerate(self.classes)}


def with_red_cells(result: Result) -> Result:
    """Add the findings of the red cells to a result.

    Parameters
    ----------
    result : SlideResult
        If its `red_cells` is None, it is unchanged.

    Returns
    -------
    SlideResult
        Of the same type. Findings of red cells that it has already are made anew.
    """
    if result.red_cells is None:
        return result
    record = result.run.get("red_cells")
    try:
        matrix, classes = card_matrix(record)
        shares = Shares(tuple(classes), matrix.tolist())
    except LeukoclsError:
        # The model is gone, or is another one by now: its errors cannot be corrected.
        known = record.get("classes", []) if isinstance(record, Mapping) else []
        shares = Shares(tuple(str(name) for name in known))
    scale = result.run.get("scale") or {}
    scales = scale.values() if "fields" in result.run else [scale]
    true_sizes = all(isinstance(one, Mapping) and one.get("source") in TRUE_SCALES for one in scales)
    table = result.red_cells[is_red_cell(result.red_cells, default_scheme())]
    found = red_cell_findings(table, shares, true_sizes)
    # Heaps are found by the outlines, not among the measured cells.
    others = [one for one in result.findings if one.name == HEAPS or not one.name.startswith(PREFIX)]
    return with_findings(replace(result, findings=tuple(others)), found)


def with_given_shapes(result: Result, scheme: Scheme) -> Result:
    """Fill the shapes that a person has given into the red cells of a result, and make its findings anew.

    Parameters
    ----------
    result : SlideResult
        Of one field, with corrections in its cells.
    scheme : Scheme

    Returns
    -------
    SlideResult
        Of the same type; unchanged if the shapes are as they were.
    """
    before = result.red_cells
    if before is None or "field" in result.cells:
        return result
    after = with_shape_corrections(before, result.cells)
    changed = ["shape", "reviewer"]
    if before[changed].reset_index(drop=True).equals(after[changed].reset_index(drop=True)):
        return result
    return with_red_cells(replace(result, red_cells=after))


def red_cell_findings(
    table: pd.DataFrame, shares: Shares, true_sizes: bool, grades: RedCellGrades | None = None
) -> tuple[Finding, ...]:
    """Sum up the red cells of a slide.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in ``red_cells.csv``.
    shares : Shares
        Of the model of the shapes.
    true_sizes : bool
        Whether the size of a pixel is known from elsewhere than from the red cells: else they cannot be called too
        small or too large.
    grades : RedCellGrades, optional
        By default those of the laboratory.

    Returns
    -------
    tuple of Finding
        In the order of the grades. Where nothing can be graded, ``red_cell_not_graded`` says why.
    """
    grades = grades or load_grades()
    limits = grades.limits
    measured = table[table["measured"].to_numpy(dtype=bool)]
    found = [_how_many(table, measured)]
    reason = why_not_graded(table, measured, limits)
    if reason:
        found.append(_told("red_cell_not_graded", f"Red cells are not graded: {reason}."))
        return tuple(found)
    found.append(_diameter(measured) if true_sizes else _told("red_cell_sizes_not_graded", NO_SIZE))
    found.append(_spread(measured))
    unsure = unsure_share(measured)
    if unsure > limits.most_unsure:
        found.append(_told("red_cell_shapes_not_graded", UNSURE.format(percent=100 * unsure)))
    by_shape = {} if unsure > limits.most_unsure else shares.of(measured)
    for grade in grades.grades:
        if grade.of in by_shape:
            found.append(_of_shape(grade, measured, by_shape[grade.of]))
        elif grade.of in MEASURED and (true_sizes or grade.of not in OF_TRUE_SIZE):
            found.append(_of_measurement(grade, measured, limits))
    return tuple(found)


def unsure_share(measured: pd.DataFrame) -> float:
    """Share of the red cells whose shape the model is not sure of and nobody has given.

    Parameters
    ----------
    measured : pandas.DataFrame
        Measured red cells, columns as in ``red_cells.csv``.

    Returns
    -------
    float
        0-1.
    """
    if not len(measured):
        return 0.0
    doubtful = measured["review_reason"].isin([LOW_CONFIDENCE, UNLIKE_TRAINING]) & measured["needs_review"]
    return float(doubtful.mean())


def why_not_graded(table: pd.DataFrame, measured: pd.DataFrame, limits: RedCellLimits) -> str:
    """Say why the red cells of a slide cannot be graded.

    Parameters
    ----------
    table : pandas.DataFrame
        All red cells.
    measured : pandas.DataFrame
        Those that were measured.
    limits : RedCellLimits

    Returns
    -------
    str
        "" if they can.
    """
    if len(measured) < limits.least_cells:
        n = len(measured)
        return (
            f"{n} red {'cell' if n == 1 else 'cells'} could be measured, and {limits.least_cells} are needed: "
            "analyse more fields of the slide together"
        )
    share = len(measured) / len(table)
    if share < limits.least_share:
        return f"only {100 * share:.0f} % of the red cells lie singly: choose thinner places of the film"
    edge = float(measured["edge_um"].median())
    if edge > limits.blurred_um:
        return f"the red cells are out of focus (edges of {edge:.1f} µm): focus, and take the picture again"
    if not np.isfinite(edge):
        return "there is no empty glass to compare the red cells with"
    return ""


def _how_many(table: pd.DataFrame, measured: pd.DataFrame) -> Finding:
    share = 100 * len(measured) / len(table) if len(table) else np.nan
    waiting = int(measured["needs_review"].sum())
    text = f"{len(measured)} of {len(table)} red cells could be measured"
    if waiting:
        text += f"; {waiting} of them {'needs' if waiting == 1 else 'need'} review of the shape"
    return Finding("red_cell_measured", share, np.nan, np.nan, "%", "certain", "", text + ".")


def _diameter(measured: pd.DataFrame) -> Finding:
    values = measured["diameter_um"].to_numpy(float)
    middle = float(np.median(values))
    low, high = np.quantile(_draws(values, lambda rows: np.median(rows, axis=1)), [0.025, 0.975])
    text = f"The red cells are {middle:.2f} µm wide (median)."
    return Finding("red_cell_diameter", middle, float(low), float(high), "um", "certain", "", text)


def _spread(measured: pd.DataFrame) -> Finding:
    values = measured["area_um2"].to_numpy(float)

    def spread(rows: np.ndarray) -> np.ndarray:
        return np.asarray(100 * rows.std(axis=1, ddof=1) / rows.mean(axis=1))

    value = float(spread(values[None])[0])
    low, high = np.quantile(_draws(values, spread), [0.025, 0.975])
    text = (
        "Coefficient of variation of the areas of the red cells. It is like the RDW-CV of an analyser, but of areas on "
        "the film: do not compare the figures."
    )
    return Finding("red_cell_size_spread", value, float(low), float(high), "%", "certain", "", text)


def _draws(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.sort(values)[rng.integers(0, len(values), (N_BOOT, len(values)))]
    return np.asarray(statistic(rows))


def shapes_to_review(result: SlideResult) -> dict[str, tuple[int, float]]:
    """Count the red cells whose shape waits for review, by the finding that they may belong to.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    dict of str to tuple
        Number of cells, and their share of the measured red cells, %; findings without such cells are not there.
    """
    if result.red_cells is None:
        return {}
    table = result.red_cells[is_red_cell(result.red_cells, default_scheme())]
    measured = table[table["measured"].to_numpy(dtype=bool)]
    waiting = measured.loc[measured["needs_review"].to_numpy(dtype=bool), "shape"].value_counts()
    return {
        grade.name: (int(waiting[grade.of]), 100 * float(waiting[grade.of]) / len(measured))
        for grade in load_grades().grades
        if grade.of in waiting
    }


def cells_with(name: str, measured: pd.DataFrame, limits: RedCellLimits) -> np.ndarray:
    """Tell which measured red cells have a finding of the measurements.

    Parameters
    ----------
    name : str
        One of `napari_leukocls.measurement.red_cell_grades.MEASURED`.
    measured : pandas.DataFrame, N rows
        Measured red cells, columns as in ``red_cells.csv``.
    limits : RedCellLimits

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    diameter = measured["diameter_um"].to_numpy(float)
    middle = np.median(diameter) if len(diameter) else np.nan
    if name == "anisocytes":
        return np.asarray(np.abs(diameter / middle - 1) > limits.anisocyte)
    if name == "microcytes":
        return np.asarray(diameter < limits.microcyte_um)
    if name == "macrocytes":
        return np.asarray(diameter > limits.macrocyte_um)
    if name == "hypochromic":
        pale = measured["pallor"].to_numpy(float) >= limits.hypochromic_pallor
        return np.asarray(pale & (measured["pallor_diameter"].to_numpy(float) >= limits.hypochromic_diameter))
    if name == "polychromatic":
        return polychromatic(measured, limits)
    return np.asarray(measured["inclusions"].to_numpy() > 0)


def _of_measurement(grade: Grade, measured: pd.DataFrame, limits: RedCellLimits) -> Finding:
    n = int(cells_with(grade.of, measured, limits).sum())
    low, high = 100 * exact_limits(np.array([n]), len(measured))[:, 0]
    return _graded(grade, 100 * n / len(measured), float(low), float(high), n, len(measured))


def _of_shape(grade: Grade, measured: pd.DataFrame, share: tuple[float, float, float]) -> Finding:
    called = (measured["shape"] == grade.of).to_numpy()
    n, waiting = int(called.sum()), int((called & measured["needs_review"].to_numpy(dtype=bool)).sum())
    settled = 100 * (n - waiting) / len(measured)
    # Cells that wait for review are in no share, but they may be of the shape: only the upper limit holds them.
    value = min(share[0], settled)
    low = min(share[1], 100 * float(exact_limits(np.array([n - waiting]), len(measured))[0, 0]))
    # A bootstrap of no cell has no width: the upper limit is never below that of counting so many cells.
    counted = np.array([round(value * len(measured) / 100)])
    high = max(share[2], value, 100 * float(exact_limits(counted, len(measured))[1, 0]))
    return _graded(grade, value, low, high, n, len(measured), waiting)


def _graded(
    grade: Grade, value: float, low: float, high: float, n: int, total: int, waiting: int = 0
) -> Finding:
    limit = grade.moderate
    # Iterated shares end in tiny numbers that differ from machine to machine.
    value, low, high = (round(float(share), 4) for share in (value, low, high))
    state: FindingState = "absent"
    if low >= limit and grade.of not in UNTESTED:
        state = "certain"
    elif high >= limit and n:
        state = "possible"
    words = GRADES[grade.grade(value)]
    corrected = "" if grade.of in MEASURED else ", corrected for the known errors of the model"
    text = (
        f"{grade.text} {words}: {short_number(value)} % ({short_number(low)} to {short_number(high)}{corrected}); "
        f"{n} of {total} red cells {'was' if n == 1 else 'were'} called so"
    )
    if waiting:
        one = waiting == 1
        text += f"; {waiting} of these {'waits' if one else 'wait'} for review and {'is' if one else 'are'} left out"
    rule = f"{grade.text} >= {short_number(limit)} % (2+)"
    return Finding(grade.name, value, low, high, "%", state, rule, text + ".")


def _told(name: str, text: str) -> Finding:
    """A finding that only says something."""
    return Finding(name, np.nan, np.nan, np.nan, "", "certain", "", text)


__all__ = [
    "GRADES",
    "PREFIX",
    "TRUE_SCALES",
    "Shares",
    "cells_with",
    "red_cell_findings",
    "shapes_to_review",
    "why_not_graded",
    "with_given_shapes",
    "with_red_cells",
]
