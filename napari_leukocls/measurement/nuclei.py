"""Sizes of nuclei: whether the scale of an image is believable."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_leukocls.measurement.cells import add_review
from napari_leukocls.types import CELL_KINDS, Segmentation

#: Diameters of the circle of a nucleus's area that are believed, micrometres. Nuclei of leukocytes are 5 to 15 um.
SMALLEST_UM, LARGEST_UM = 3.0, 20.0
#: The same of a nucleus that lies in several outlines, which may be the nuclei of touching cells.
LARGEST_SHARED_UM = 25.0
#: Why cells need review.
SCALE_IN_DOUBT = "scale in doubt"
WARNING = (
    f"at this scale nuclei are smaller than {SMALLEST_UM:.0f} um or larger than {LARGEST_UM:.0f} um: "
    "the scale is wrong, or these are no leukocytes; check it."
)
#: Smallest outline in which a nucleus is looked for, pixels.
MIN_PIXELS = 12


def nucleus_diameters(
    pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the nuclei of leukocytes: the darker part of each outline in red light.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
    ids : numpy.ndarray, (N,)
        Labels of the leukocytes.

    Returns
    -------
    own : numpy.ndarray, (N,)
        Diameter of the circle with the area of the nucleus within the outline, pixels; nan where there is none.
    shared : numpy.ndarray, (N,)
        The same of the connected nuclear stain that the outline has part in, which may reach into others.
    """
    own, shared = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    places = ndimage.find_objects(labels)
    nuclei = np.zeros(labels.shape, np.uint8)
    for i, label in enumerate(ids):
        where = places[int(label) - 1]
        if where is None:
            continue
        inside = labels[where] == label
        red = pixels[where][..., 0]
        if inside.sum() < MIN_PIXELS or np.ptp(red[inside]) < 2:
            continue
        nucleus = inside & (red <= threshold_otsu(red[inside]))
        own[i] = 2 * np.sqrt(nucleus.sum() / np.pi)
        nuclei[where] |= nucleus.astype(np.uint8)
    _, parts, found, _ = cv2.connectedComponentsWithStats(nuclei, connectivity=8)
    for i, label in enumerate(ids):
        if np.isfinite(own[i]):
            where = places[int(label) - 1]
            assert where is not None
            mine = np.unique(parts[where][(labels[where] == label) & (nuclei[where] > 0)])
            shared[i] = 2 * np.sqrt(found[mine, cv2.CC_STAT_AREA].max() / np.pi)
    return own, shared


def nuclear_shares(pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Measure which share of its outline the nucleus of each leukocyte fills: the ratio of nucleus to cell.

    Dark granules, as those of basophils, count as nucleus.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
    ids : numpy.ndarray, (N,)
        Labels of the leukocytes.

    Returns
    -------
    numpy.ndarray, (N,)
        0-1; nan where no nucleus is told apart.
    """
    found = np.full(len(ids), np.nan)
    places = ndimage.find_objects(labels)
    for i, label in enumerate(ids):
        near = places[int(label) - 1] if label <= len(places) else None
        if near is None:
            continue
        inside = labels[near] == label
        own, _ = nucleus_diameters(pixels[near], inside.astype(np.int32), np.array([1]))
        found[i] = np.pi * own[0] ** 2 / 4 / inside.sum()
    return found


def review_scale(cells: pd.DataFrame, pixels: np.ndarray, segmentation: Segmentation) -> list[str]:
    """Send the leukocytes of an image to review where its scale is unsure or their nuclei are not believable.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; ``needs_review`` and ``review_reason`` are changed in place.
    pixels : numpy.ndarray, (H, W, 3), uint8
    segmentation : Segmentation
        Of `pixels`.

    Returns
    -------
    list of str
        Warnings.
    """
    if len(cells) == 0:
        return []
    ids = cells["cell_id"].to_numpy()
    kinds = segmentation.kind_probabilities[ids - 1].argmax(axis=1)
    rows = np.flatnonzero(kinds == CELL_KINDS.index("leukocyte"))
    if len(rows) == 0:
        return []
    doubtful = np.zeros(len(cells), bool)
    um_per_px = segmentation.scale.um_per_px
    own, shared = (size * um_per_px for size in nucleus_diameters(pixels, segmentation.labels, ids[rows]))
    wrong = (own < SMALLEST_UM) | (own > LARGEST_UM) | (shared > LARGEST_SHARED_UM)
    doubtful[rows[wrong]] = True
    middle = np.nanmedian(own) if np.isfinite(own).any() else np.nan
    warnings = []
    if (own > LARGEST_UM).any() or middle < SMALLEST_UM or 2 * wrong.sum() > len(rows):
        warnings.append(WARNING)
        doubtful[rows] = True
    if not segmentation.scale.sure:
        doubtful[rows] = True
    # Red cells and platelets are counted by the segmenter, and are not looked at one by one.
    doubtful &= ~cells["class"].isin(["red_cell", "platelet"]).to_numpy()
    add_review(cells, doubtful, SCALE_IN_DOUBT)
    return warnings
