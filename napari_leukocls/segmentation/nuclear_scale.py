"""The scale read from the nuclei of leukocytes, where there are too few red cells to measure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.filters import threshold_multiotsu, threshold_otsu

from napari_leukocls.segmentation.compact import MIN_RANGE, colour_range

#: Diameter of the circle with the area of a leukocyte's nuclear stain, red cells of 7.5 um: the geometric mean over the
#: medians of four laboratories, which lie within 10 % of it.
NUCLEUS_PER_RED_CELL = 8.66 / 7.5
#: Shorter side to which an image is brought, pixels.
SIDE = 128
#: Share of the image that nuclear stain takes in a picture of one leukocyte, and from which it is no nuclear stain.
ONE_CELL, TOO_MUCH = 0.02, 0.7
#: Smallest image in which a nucleus is looked for, pixels.
LEAST_PX = 24
#: Error of one reading, octaves: of a picture of one leukocyte, and of a wider one.
ONE_CELL_ERROR, WIDER_ERROR = 0.35, 0.5


@dataclass(frozen=True)
class ScaleReading:
    """The diameter of a red cell as it is read from nuclei.

    Attributes
    ----------
    diameter_px : float
        Pixels of the image; 0 where there is nothing to read.
    octaves : float
        Error that is expected, octaves (log2); infinite where there is nothing to read.
    """

    diameter_px: float
    octaves: float


#: Of an image in which nothing is stained.
UNREAD = ScaleReading(0.0, float("inf"))


def read_nuclei(pixels: np.ndarray) -> ScaleReading:
    """Read the scale of an image from the area of what is stained like a nucleus.

    Nuclei hold back most red light. Two thresholds are used, and the mean of the two diameters in octaves is taken:
    the upper one of Otsu's method with three classes, and the middle between this one and Otsu's with two classes.
    In a picture of one leukocyte all nuclear stain is its nucleus; in a wider one it is divided into nuclei.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    ScaleReading
    """
    if min(pixels.shape[:2]) < LEAST_PX:
        return UNREAD
    glass, dark = colour_range(pixels)
    if float((glass - dark).max()) <= MIN_RANGE:
        return UNREAD
    factor = SIDE / min(pixels.shape[:2])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    # A long picture is cut, so that its longer side does not set the cost.
    small = cv2.resize(_middle(pixels), None, fx=factor, fy=factor, interpolation=way)
    red = cv2.GaussianBlur(small, (0, 0), 1.0)[..., 0].astype(np.float32)
    density = -np.log(np.maximum(red, 1) / 255)
    if len(np.unique(density)) < 4:
        return UNREAD
    upper = float(threshold_multiotsu(density, 3)[1])
    found = [_nucleus(density > level) for level in (upper, (upper + float(threshold_otsu(density))) / 2)]
    if any(one is None for one in found):
        return UNREAD
    diameters, errors = zip(*(one for one in found if one is not None), strict=True)
    mean = float(np.exp(np.mean(np.log(diameters))))
    return ScaleReading(mean / factor / NUCLEUS_PER_RED_CELL, max(errors))


def _middle(pixels: np.ndarray) -> np.ndarray:
    longest = 2 * min(pixels.shape[:2])
    starts = [max(0, (n - longest) // 2) for n in pixels.shape[:2]]
    return pixels[starts[0] : starts[0] + longest, starts[1] : starts[1] + longest]


def _nucleus(stained: np.ndarray) -> tuple[float, float] | None:
    """Diameter of the circle with the area of a nucleus, and the error of this reading; None where there is none."""
    stained = cv2.morphologyEx(stained.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    area = int(stained.sum())
    if area < 20 or area > TOO_MUCH * stained.size:
        return None
    if area >= ONE_CELL * stained.size:
        return 2 * float(np.sqrt(area / np.pi)), ONE_CELL_ERROR
    # Lobes that lie close together are of one nucleus.
    _, parts = cv2.connectedComponents(cv2.dilate(stained, np.ones((5, 5), np.uint8)))
    areas = np.sort(np.bincount(parts[stained > 0])[1:])
    passed = np.cumsum(areas)
    middle = areas[int(np.searchsorted(passed, passed[-1] / 2))]
    return 2 * float(np.sqrt(middle / np.pi)), WIDER_ERROR
