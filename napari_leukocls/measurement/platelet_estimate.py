"""Platelets per litre, estimated from a smear in the two usual ways. An estimate does not replace a count.

Both ways are those of the laboratory bench: platelets of a field of view of a 100x objective times a factor that the
laboratory has found with its own counts, and platelets for each red cell times the red cells per litre.
"""

from __future__ import annotations

import math

import numpy as np

from napari_leukocls.measurement.absolute import (
    AREA,
    PER_LITRE,
    Counting,
    class_count,
    poisson_limits,
    too_few,
)
from napari_leukocls.measurement.differential import exact_limits
from napari_leukocls.measurement.findings import short_number
from napari_leukocls.measurement.platelets import PLATELET, RED_CELL, read_figures
from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Finding, FindingState, SlideResult

Estimate = tuple[float, float, float]


def estimate_by_fields(platelets: int, n_fields: float, factor: float) -> Estimate:
    """Estimate platelets per litre from the number in fields of view.

    Parameters
    ----------
    platelets : int
        Counted.
    n_fields : float
        Fields of a 100x objective that they were counted in.
    factor : float
        10^9/L for each platelet per field.

    Returns
    -------
    value, low, high : float
        10^9/L, with 95 % limits of the counting alone (Poisson).

    References
    ----------
    .. [1] LabCE, White cell and platelet disorders: platelet estimates (labce.com/spg970235_platelet_estimates.aspx):
           the mean per field at 1000x times 15 or 20 x 10^9/L, a factor that each laboratory establishes.
    """
    low, high = poisson_limits(platelets)
    scale = factor / n_fields
    return platelets * scale, low * scale, high * scale


def estimate_by_ratio(platelets: int, red_cells: int, rbc: float) -> Estimate:
    """Estimate platelets per litre from the number for each red cell.

    Parameters
    ----------
    platelets, red_cells : int
        Counted in the same fields; at least one red cell.
    rbc : float
        Red cells, 10^12/L.

    Returns
    -------
    value, low, high : float
        10^9/L, with 95 % limits of the counting alone (Clopper-Pearson, of the platelets among both).

    References
    ----------
    .. [1] Fonio, A. (1912). Über vergleichende Blutplättchenuntersuchungen. Deutsche Zeitschrift für Chirurgie 117,
           176-194: platelets per 1000 red cells, times the red cells.
    """
    (low,), (high,) = exact_limits(np.array([platelets]), platelets + red_cells)
    per_red = 1000 * rbc
    return (
        per_red * platelets / red_cells,
        per_red * float(low) / (1 - float(low)),
        per_red * float(high) / (1 - float(high)) if high < 1 else math.inf,
    )


def platelet_estimates(result: SlideResult, counting: Counting, scheme: Scheme) -> list[Finding]:
    """Estimate the platelets of a slide in the ways for which there is what is needed.

    Parameters
    ----------
    result : SlideResult
        Its ``run`` has the area, and the red cells per litre if they are known.
    counting : Counting
    scheme : Scheme

    Returns
    -------
    list of Finding
        ``platelet_estimate_field`` and ``platelet_estimate_ratio``; *possible* from few fields or red cells, and
        beside clumps.
    """
    platelets = class_count(result.counts, [PLATELET], scheme)
    red_cells = class_count(result.counts, [RED_CELL], scheme)
    clumps = _beside_clumps(result)
    found = []
    area, rbc = result.run.get(AREA), sample_of(result).rbc
    if isinstance(area, (int, float)) and area > 0 and counting.platelet_factor:
        n_fields = float(area) / counting.platelet_field_mm2
        rule = f"mean per field of {counting.platelet_field_mm2:g} mm² x {short_number(counting.platelet_factor)}"
        estimate = estimate_by_fields(platelets, n_fields, counting.platelet_factor)
        few = n_fields < counting.least_fields
        fields = (
            too_few(n_fields, "field", counting.least_fields) if few else f"{short_number(n_fields)} fields"
        )
        source = f"{platelets} in {fields} of a 100x objective"
        found.append(_finding("platelet_estimate_field", estimate, rule, source, few, clumps))
    if rbc is not None and red_cells:
        estimate = estimate_by_ratio(platelets, red_cells, rbc)
        few = red_cells < counting.least_red_cells
        beside = too_few(red_cells, "red cell", counting.least_red_cells) if few else f"{red_cells} red cells"
        source = f"{platelets} beside {beside}"
        rule = f"platelets per red cell x {short_number(rbc)} × 10¹²/L"
        found.append(_finding("platelet_estimate_ratio", estimate, rule, source, few, clumps))
    return found


def _beside_clumps(result: SlideResult) -> str:
    """What clumps do to an estimate; "" where there are none."""
    figures = read_figures([result.run])
    if figures.clumps:
        return " Platelets are clumped: there are more."
    return " If the suspected clumps are some, there are more." if figures.suspected else ""


def _finding(name: str, estimate: Estimate, rule: str, source: str, few: bool, clumps: str) -> Finding:
    value, low, high = estimate
    state: FindingState = "possible" if few or clumps else "certain"
    text = (
        f"Platelets estimated: {short_number(value)} × 10⁹/L ({short_number(low)} to {short_number(high)}), from "
        f"{source}.{clumps} An estimate does not replace a count."
    )
    return Finding(name, value, low, high, PER_LITRE, state, rule, text)
