"""Platelets of a field: large and giant ones, those on red cells, and clumps.

Platelets in a clump cannot be counted one by one, so that a count beside clumps is too low. They are looked for among
the outlines of platelets: several that touch or nearly touch, or one that is larger than a platelet and not round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scipy import ndimage

from napari_leukocls.measurement.differential import exact_limits
from napari_leukocls.measurement.findings import short_number
from napari_leukocls.types import Finding, FindingState, Segmentation

#: Key of `SlideResult.run` under which the figures of a field are kept, so that those of several can be added.
KEY = "platelets"
PLATELET, RED_CELL = "platelet", "red_cell"
#: Diameters above which a platelet is large, and giant, micrometres [1]_.
LARGE_UM, GIANT_UM = 4.0, 7.0
#: Gap between outlines up to which platelets hang together, micrometres.
GAP_UM = 0.7
#: Fewest platelets of a clump, and its least area in square micrometres: four usual platelets of 2.5 um.
CLUMP_CELLS, CLUMP_UM2 = 4, 20.0
#: A single outline that fills less of its convex hull, and is larger than a large platelet, may be a clump.
CLUMP_SOLID = 0.88
#: Share of what is around a platelet that is one red cell, from which the platelet lies on it.
ON_RED_CELL = 0.6
#: Fewest pixels of a platelet whose shape says anything.
_FEWEST_PX = 40


@dataclass(frozen=True)
class PlateletFigures:
    """What the outlines of platelets say; the figures of several fields can be added.

    Attributes
    ----------
    count : int
        Outlines of platelets, clumps of one outline among them.
    measured : int
        Those that are whole and lie in no clump.
    large : int
        Of those measured, wider than 4 um, the giant ones among them.
    giant : int
        Of those measured, wider than 7 um or than the usual red cell of the field.
    on_red_cells : int
    clumps : int
        Groups of platelets that hang together.
    in_clumps : int
        Platelets in them.
    suspected : int
        Single outlines that may be clumps.
    red_cells : int
    """

    count: int = 0
    measured: int = 0
    large: int = 0
    giant: int = 0
    on_red_cells: int = 0
    clumps: int = 0
    in_clumps: int = 0
    suspected: int = 0
    red_cells: int = 0

    def __add__(self, other: PlateletFigures) -> PlateletFigures:
        names = [one.name for one in fields(self)]
        return PlateletFigures(*(getattr(self, name) + getattr(other, name) for name in names))

    def record(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps."""
        return {KEY: asdict(self)}

    def warnings(self) -> list[str]:
        """Say that a count beside clumps is too low; nothing where there are none."""
        if self.clumps:
            clumps = "1 clump" if self.clumps == 1 else f"{self.clumps} clumps"
            return [f"there {_is(self.clumps)} {clumps} of platelets: their count is too low."]
        if self.suspected:
            what = "object" if self.suspected == 1 else "objects"
            return [
                f"{self.suspected} {what} may be a clump of platelets: if so, the count of platelets is too low."
            ]
        return []

    def findings(self) -> list[Finding]:
        """Return clumps, large and giant platelets, and platelets on red cells, as findings."""
        return [
            self._clump_finding(),
            self._share("platelet_large", self.large, f"large: wider than {LARGE_UM:g} µm"),
            self._share(
                "platelet_giant",
                self.giant,
                f"giant: wider than {GIANT_UM:g} µm, or than the usual red cell",
            ),
            _number(
                "platelet_on_red_cells",
                self.on_red_cells,
                f"{_platelets(self.on_red_cells)} on red cells: not inclusions.",
            ),
        ]

    def _clump_finding(self) -> Finding:
        state: FindingState = "certain" if self.clumps else "possible" if self.suspected else "absent"
        text = "No clump of platelets was found."
        if self.clumps:
            groups = "1 clump" if self.clumps == 1 else f"{self.clumps} clumps"
            text = f"{groups} with {self.in_clumps} platelets that can be told apart: the count is too low."
        elif self.suspected:
            what = "outline" if self.suspected == 1 else "outlines"
            text = f"{self.suspected} large, ragged {what}: look for clumps."
        value = float(self.clumps or self.suspected)
        rule = f"{CLUMP_CELLS} or more platelets that hang together"
        return Finding("platelet_clumps", value, math.nan, math.nan, "{clumps}", state, rule, text)

    def _share(self, name: str, number: int, what: str) -> Finding:
        """A figure without a rule of its own: what it means is for the rules of the laboratory."""
        if not self.measured:
            text = "No platelet was measured."
            return Finding(name, math.nan, math.nan, math.nan, "%", "absent", "", text)
        low, high = (float(share) for share in 100 * exact_limits(np.array([number]), self.measured)[:, 0])
        text = (
            f"{number} of {_platelets(self.measured)} ({short_number(low)} to {short_number(high)} %) "
            f"{_is(number)} {what}."
        )
        state: FindingState = "certain" if number else "absent"
        return Finding(name, 100 * number / self.measured, low, high, "%", state, "", text)


def measure_platelets(segmentation: Segmentation, cells: pd.DataFrame) -> PlateletFigures:
    """Measure the platelets of a field.

    Parameters
    ----------
    segmentation : Segmentation
    cells : pandas.DataFrame
        Columns as in ``cells.csv``, of the same field.

    Returns
    -------
    PlateletFigures

    References
    ----------
    .. [1] Scordino, T. (2016). Giant platelets. ASH Image Bank 60930: large platelets are wider than 4 um, giant ones
           than 7 um (larger than a normal red cell).
    """
    names = cells["class"].astype(str)
    red = cells[(names == RED_CELL) & ~cells["touches_border"].astype(bool)]
    n_red = int((names == RED_CELL).sum())
    mine = cells[names == PLATELET]
    um = segmentation.scale.um_per_px
    if len(mine) == 0 or not (math.isfinite(um) and um > 0):
        return PlateletFigures(count=len(mine), red_cells=n_red)
    labels = np.asarray(segmentation.labels)
    group = _groups(labels, mine, um)
    clumped = np.isin(group, _clumps(group, mine, um))
    ragged = np.array([_may_be_clump(labels, row, um) for row in mine.itertuples()], bool) & ~clumped
    diameter = 2 * np.sqrt(mine["area_px"].to_numpy(float) / np.pi) * um
    usual = 2 * math.sqrt(float(red["area_px"].median()) / math.pi) * um if len(red) else math.inf
    whole = ~mine["touches_border"].to_numpy(bool) & ~clumped & ~ragged
    on_red = _on_red_cells(labels, mine, cells[names == RED_CELL]["cell_id"].to_numpy(), um)
    return PlateletFigures(
        count=len(mine),
        measured=int(whole.sum()),
        large=int((whole & (diameter > LARGE_UM)).sum()),
        giant=int((whole & (diameter > min(GIANT_UM, usual))).sum()),
        on_red_cells=int((on_red & ~clumped).sum()),
        clumps=len(np.unique(group[clumped])),
        in_clumps=int(clumped.sum()),
        suspected=int(ragged.sum()),
        red_cells=n_red,
    )


def read_figures(runs: Iterable[Mapping[str, Any]]) -> PlateletFigures:
    """Add the figures that fields have in their ``run.json``.

    Parameters
    ----------
    runs : iterable of mapping

    Returns
    -------
    PlateletFigures
        All zero where no field has any.
    """
    known = {one.name for one in fields(PlateletFigures)}
    total = PlateletFigures()
    for run in runs:
        held = run.get(KEY)
        if isinstance(held, Mapping):
            total += PlateletFigures(**{name: int(value) for name, value in held.items() if name in known})
    return total


def is_platelet_warning(warning: str) -> bool:
    """Whether a warning is one of `PlateletFigures.warnings`: those of a slide are made of all its fields.

    Parameters
    ----------
    warning : str

    Returns
    -------
    bool
    """
    return "platelets" in warning and warning.endswith("too low.")


def _groups(labels: np.ndarray, mine: pd.DataFrame, um: float) -> np.ndarray:
    """Number of the group of outlines that hang together, for each platelet."""
    mask = np.isin(labels, mine["cell_id"].to_numpy()).astype(np.uint8)
    reach = max(1, round(GAP_UM / um / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    _, parts = cv2.connectedComponents(cv2.dilate(mask, disc))
    return _at_cells(parts, labels, mine)


def _at_cells(parts: np.ndarray, labels: np.ndarray, mine: pd.DataFrame) -> np.ndarray:
    """The value of `parts` at the first pixel of each cell."""
    found = np.zeros(len(mine), np.int64)
    for i, (cell, y0, x0, x1) in enumerate(mine[["cell_id", "bbox_y0", "bbox_x0", "bbox_x1"]].to_numpy(int)):
        row = np.flatnonzero(labels[y0, x0:x1] == cell)
        found[i] = parts[y0, x0 + row[0]] if len(row) else -1 - i
    return found


def _clumps(group: np.ndarray, mine: pd.DataFrame, um: float) -> np.ndarray:
    """Numbers of the groups that are clumps."""
    numbers, inverse, size = np.unique(group, return_inverse=True, return_counts=True)
    area = np.bincount(inverse, mine["area_px"].to_numpy(float)) * um**2
    array: np.ndarray = numbers[(size >= CLUMP_CELLS) & (area >= CLUMP_UM2)]
    return array


def _may_be_clump(labels: np.ndarray, row: Any, um: float) -> bool:
    """Whether one outline is too large and too ragged for a platelet."""
    if row.area_px < _FEWEST_PX or row.area_px * um**2 < CLUMP_UM2:
        return False
    mask = labels[row.bbox_y0 : row.bbox_y1, row.bbox_x0 : row.bbox_x1] == row.cell_id
    contours, _ = cv2.findContours(np.pad(mask, 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(list(contours))), 1)
    return bool(mask.sum() < CLUMP_SOLID * hull.sum())


def _on_red_cells(labels: np.ndarray, mine: pd.DataFrame, red: np.ndarray, um: float) -> np.ndarray:
    """Whether what is around each platelet is mostly one red cell."""
    reach = max(2, round(0.5 / um))
    found = np.zeros(len(mine), bool)
    boxes = mine[["cell_id", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].to_numpy(int)
    for i, (cell, y0, x0, y1, x1) in enumerate(boxes):
        window = labels[max(0, y0 - reach) : y1 + reach, max(0, x0 - reach) : x1 + reach]
        mask = window == cell
        ring = ndimage.binary_dilation(mask, iterations=reach) & ~mask
        values, number = np.unique(window[ring], return_counts=True)
        if len(values):
            best = int(number.argmax())
            found[i] = values[best] in red and number[best] >= ON_RED_CELL * ring.sum()
    return found


def _number(name: str, value: int, text: str) -> Finding:
    state: FindingState = "certain" if value else "absent"
    return Finding(name, float(value), math.nan, math.nan, "{cells}", state, "", text)


def _platelets(n: int) -> str:
    return "1 platelet" if n == 1 else f"{n} platelets"


def _is(n: int) -> str:
    return "is" if n == 1 else "are"
