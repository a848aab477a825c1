"""The baseline that anybody would try first: Otsu's threshold and a watershed of the distance map."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import relabel_sequential, watershed

from napari_leukocls.progress import Progress, Steps
from napari_leukocls.segmentation.base import Outlines

#: Foreground share of a cell that must be as dark in red light as a nucleus for a leukocyte.
NUCLEAR_SHARE = 0.15
#: Area of a platelet at most, as a share of a red cell's.
PLATELET_AREA = 0.3


class ThresholdSegmenter:
    """`Segmenter` by scikit-image: Otsu in green, watershed, kinds by size and darkness in red."""

    name = "threshold"
    weights_hash = None

    def segment(self, pixels: np.ndarray, diameter_px: float) -> Steps[Outlines]:
        """Outline cells.

        Parameters
        ----------
        pixels : numpy.ndarray, (H, W, 3), uint8
        diameter_px : float

        Returns
        -------
        Outlines
        """
        yield Progress("segment", 0, 1)
        green = cv2.GaussianBlur(pixels[..., 1], (0, 0), max(0.5, diameter_px / 60))
        if int(green.max()) - int(green.min()) < 10:
            return Outlines(np.zeros(green.shape, np.int32), np.zeros((0, 4), np.float32), (np.nan,) * 3)
        cells = ndimage.binary_fill_holes(green < threshold_otsu(green))
        parts = ndimage.label(cells)[0]
        large = np.bincount(parts.ravel()) > max(4, int(0.02 * diameter_px**2))
        large[0] = False
        cells = large[parts]
        distance = cv2.distanceTransform(cells.astype(np.uint8), cv2.DIST_L2, 5)
        smooth = cv2.GaussianBlur(distance, (0, 0), max(0.5, diameter_px / 30))
        peaks = peak_local_max(
            smooth, min_distance=max(1, int(0.3 * diameter_px)), labels=ndimage.label(cells)[0]
        )
        markers = np.zeros(cells.shape, np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels = relabel_sequential(watershed(-smooth, markers, mask=cells))[0].astype(np.int32)
        glass = np.median(pixels[~cells], axis=0) if (~cells).any() else np.full(3, np.nan)
        return Outlines(
            labels, _kinds(pixels, labels, diameter_px), (float(glass[0]), float(glass[1]), float(glass[2]))
        )


def _kinds(pixels: np.ndarray, labels: np.ndarray, diameter_px: float) -> np.ndarray:
    """Vote (N, 4) on each cell by its size and by how much of it is as dark in red as a nucleus."""
    red = pixels[..., 0]
    inside = red[labels > 0]
    votes = np.zeros((int(labels.max()), 4), np.float32)
    if len(inside) == 0:
        return votes
    level = threshold_otsu(inside) if inside.min() < inside.max() else 0
    count = len(votes) + 1
    area = np.bincount(labels.ravel(), minlength=count)[1:]
    dark = np.bincount(labels.ravel(), (red < level).ravel(), count)[1:] / np.maximum(area, 1)
    small = area < PLATELET_AREA * np.pi / 4 * diameter_px**2
    kind = np.where(small, 3, np.where(dark > NUCLEAR_SHARE, 2, 1))
    votes[np.arange(len(votes)), kind] = 1
    return votes
