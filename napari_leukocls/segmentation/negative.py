"""Inverted pictures: in bright field the glass is bright and cells are darker than it; here it is the other way round.

The network finds "cells" in such a picture too, in the gaps between the cells: it must be said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_leukocls.progress import CancelToken
from napari_leukocls.segmentation.red_cell_ruler import (
    GOOD_QUALITY,
    NOTHING,
    Reading,
    RedCellRuler,
    guess_diameter,
)

if TYPE_CHECKING:
    from napari_leukocls.segmentation.compact import CompactSegmenter

#: Side that a picture is reduced to, and of the neighbourhood whose smoothness is measured, pixels.
SMALL_SIDE, AROUND = 512, 7
#: Share of the pixels that are taken for the smoothest, %: empty glass is smoother than cells.
SMOOTHEST = 15
#: Where they are darker than this (0: the darkest, 1: the brightest of the picture), the negative is looked at too.
#: Fields of BCCD, BCISC, Chula, Raabin and PBC have 0.6 to 1.0, their negatives 0.0 to 0.5, fields of KRD 0.2 to 0.9.
DARK = 0.55


def ground_level(pixels: np.ndarray) -> float:
    """Measure how bright the smoothest parts of a picture are.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    float
        Median, from 0 (as dark as the darkest parts of the picture) to 1 (as bright as the brightest). 1 of a picture
        of one colour.
    """
    factor = min(1.0, SMALL_SIDE / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    level = cv2.GaussianBlur(small.astype(np.float32).mean(axis=2), (0, 0), 1.2)
    across, down = (cv2.Sobel(level, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    rough = cv2.blur(np.hypot(across, down), (AROUND, AROUND))
    dark, bright = np.percentile(level, [2, 98])
    if bright - dark < 1:
        return 1.0
    smooth = rough <= np.percentile(rough, SMOOTHEST)
    return float((np.median(level[smooth]) - dark) / (bright - dark))


def read_negative(
    pixels: np.ndarray, segmenter: CompactSegmenter, cancel: CancelToken | None = None
) -> Reading | None:
    """Tell whether a picture is inverted: whether its negative shows red cells, and better than it does itself.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        Under even light.
    segmenter : CompactSegmenter
    cancel : CancelToken, optional
        Asked between the tiles that are looked at.

    Returns
    -------
    Reading or None
        Of the red cells of the negative; None of a picture that is not inverted, and where that cannot be told.
    """
    if ground_level(pixels) > DARK:
        return None
    negative = np.subtract(255, pixels)
    found = _read(negative, segmenter, cancel)
    if found.quality < GOOD_QUALITY:
        return None
    return found if found.quality > _read(pixels, segmenter, cancel).quality else None


def _read(pixels: np.ndarray, segmenter: CompactSegmenter, cancel: CancelToken | None) -> Reading:
    guess = guess_diameter(pixels)
    return NOTHING if guess is None else RedCellRuler(segmenter, [pixels], cancel).settle(guess)
