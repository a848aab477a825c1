"""What a segmenter is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from napari_leukocls.progress import Steps

#: Networks that cellpose 4 knows by name. They are listed here, so that a list of choices does not import cellpose.
CELLPOSE_NAMES = ("cpsam_v2", "cpsam", "cpdino", "cpdino-vitb")


@dataclass(frozen=True)
class Outlines:
    """What a segmenter finds in one image.

    Attributes
    ----------
    labels : numpy.ndarray, (H, W), int32
        0 is background, cells are 1..N without gaps.
    kind_votes : numpy.ndarray or None, (N, 4), float32
        Mean class map of each cell: background, red cell, leukocyte, platelet; None where the segmenter
        has no class map.
    glass_colour : tuple of float
        Median RGB of what is no cell; nan where there is too little of it.
    warnings : tuple of str
        What the user should know of how it was done.
    doubtful : numpy.ndarray or None, (N,), bool
        Red cells that were found by a second look or told apart from another one: they are counted, but say nothing
        about the size of a red cell. None where there are none.
    """

    labels: np.ndarray
    kind_votes: np.ndarray | None
    glass_colour: tuple[float, float, float]
    warnings: tuple[str, ...] = ()
    doubtful: np.ndarray | None = None


class Segmenter(Protocol):
    """Finds the cells of a smear field."""

    @property
    def name(self) -> str:
        """The name that results record."""

    @property
    def weights_hash(self) -> str | None:
        """SHA-256 of the weights, or None where there are none."""

    def segment(self, pixels: np.ndarray, diameter_px: float) -> Steps[Outlines]:
        """Outline the cells of a field.

        Parameters
        ----------
        pixels : numpy.ndarray, (H, W, 3), uint8
        diameter_px : float
            Diameter of a red cell, pixels.

        Returns
        -------
        Outlines
        """
