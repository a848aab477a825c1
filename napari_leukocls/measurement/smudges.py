"""Smudge cells and bare nuclei among the classified cells: nuclei that are paler than the others of the slide.

A burst cell has spread its nucleus over the glass: it is large, and thinner than a whole nucleus. A classifier that was
not trained on such cells gives them a class, often with confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_leukocls.measurement.cells import add_review
from napari_leukocls.measurement.differential import exact_limits
from napari_leukocls.types import Finding, FindingState

if TYPE_CHECKING:
    from napari_leukocls.types import Segmentation

#: Why such cells need review.
MAYBE_SMUDGE = "may be a smudge cell or a bare nucleus"
#: A nucleus that has less than this share of the usual density of the field's nuclei is pale.
PALE = 0.6
#: Smallest area of a smudge, square micrometres: smaller pale objects are platelets and cells cut by the edge.
LEAST_UM2 = 45.0
#: Fewest nuclei whose usual density is believed.
FEWEST_NUCLEI = 6
#: Smallest outline that is looked at, pixels.
MIN_PIXELS = 30
_NOT_NUCLEATED = ("red_cell", "platelet", "artefact")
#: Name of the class, and of the finding.
SMUDGE, FINDING = "smudge_cell", "leukocyte_smudges"


def nuclear_density(
    pixels: np.ndarray, labels: np.ndarray, ids: Sequence[int] | np.ndarray, glass: float
) -> np.ndarray:
    """Measure the density of the nuclei of cells: of the darker part of each outline in red light.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
    ids : array_like of int, (N,)
        Labels of the cells.
    glass : float
        Red level of the empty glass, 0-255.

    Returns
    -------
    numpy.ndarray, (N,)
        Median natural optical density; nan where there is no nucleus.
    """
    places = ndimage.find_objects(labels)
    found = np.full(len(ids), np.nan)
    for i, label in enumerate(ids):
        where = places[int(label) - 1]
        if where is None:
            continue
        red = pixels[where][..., 0][labels[where] == label]
        if len(red) < MIN_PIXELS or np.ptp(red) < 2:
            continue
        nucleus = red[red <= threshold_otsu(red)]
        found[i] = -math.log(max(float(np.median(nucleus)), 1.0) / max(glass, 20.0))
    return found


def review_smudges(cells: pd.DataFrame, pixels: np.ndarray, segmentation: Segmentation) -> int:
    """Send cells with pale, large nuclei to review.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; ``needs_review`` and ``review_reason`` are changed in place.
    pixels : numpy.ndarray, (H, W, 3), uint8
    segmentation : Segmentation
        Of `pixels`.

    Returns
    -------
    int
        Number of such cells; 0 also if too few nuclei are in view to tell.
    """
    nucleated = ~cells["class"].isin(_NOT_NUCLEATED).to_numpy()
    if nucleated.sum() < FEWEST_NUCLEI or not math.isfinite(segmentation.glass_colour[0]):
        return 0
    density = np.full(len(cells), np.nan)
    density[nucleated] = nuclear_density(
        pixels, segmentation.labels, cells["cell_id"].to_numpy()[nucleated], segmentation.glass_colour[0]
    )
    if np.isfinite(density).sum() < FEWEST_NUCLEI:
        return 0
    area = cells["area_px"].to_numpy(float) * segmentation.scale.um_per_px**2
    pale = nucleated & (density < PALE * np.nanmedian(density)) & (area >= LEAST_UM2)
    pale &= (cells["class"] != SMUDGE).to_numpy()
    add_review(cells, pale, MAYBE_SMUDGE)
    return int(pale.sum())


def smudge_finding(cells: pd.DataFrame, counts: pd.DataFrame) -> Finding:
    """Count smudge cells apart from the leukocytes.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.

    Returns
    -------
    Finding
        Smudge cells, named or suspected, per 100 leukocytes and smudge cells, with 95 % limits.
    """
    named = (cells["class"] == SMUDGE).to_numpy()
    suspected = cells["review_reason"].str.contains(MAYBE_SMUDGE, regex=False).to_numpy()
    suspected = suspected & ~named & (cells["corrected_class"].fillna("") == "").to_numpy()
    n = int(named.sum() + suspected.sum())
    whole = int(counts.loc[counts["in_differential"].astype(bool), "count"].sum()) + n
    rule = "smudge cells and bare nuclei per 100 leukocytes and smudge cells"
    if not whole:
        nan = math.nan
        return Finding(FINDING, nan, nan, nan, "%", "absent", rule, "No leukocyte was counted.")
    low, high = 100 * exact_limits(np.array([n]), whole)[:, 0]
    waiting = int(suspected.sum())
    text = f"{n} {'smudge cell or bare nucleus' if n == 1 else 'smudge cells and bare nuclei'} beside the leukocytes"
    text += f", {waiting} of them suspected and sent to review." if waiting else "."
    state: FindingState = "absent" if not n else "possible" if waiting == n else "certain"
    return Finding(FINDING, 100 * n / whole, float(low), float(high), "%", state, rule, text)
