"""The field on which cells are drawn: dye densities, and the label of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Planes of dye density; the last one is dirt, which is dark in every colour.
DYES = ("nucleus", "basophilia", "eosin", "haemoglobin", "azure", "dirt")
NUCLEUS, BASOPHILIA, EOSIN, HAEMOGLOBIN, AZURE, DIRT = range(len(DYES))


@dataclass
class Drawing:
    """One cell (or other object) before it is added to the field.

    Attributes
    ----------
    y0, x0 : int
        Position of its window in the field.
    dyes : dict of int to numpy.ndarray, (h, w)
        Density of each of its dyes.
    coverage : numpy.ndarray, (h, w)
        0..1; the cell's mask is where it is above one half.
    displaces : float
        Share of the density below that it replaces; 0 for objects that are transparent.
    """

    y0: int
    x0: int
    dyes: dict[int, np.ndarray]
    coverage: np.ndarray
    displaces: float = 0.0


class Canvas:
    """Dye densities of a field and its instance labels.

    Parameters
    ----------
    height, width : int
        Pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.density = np.zeros((len(DYES), height, width), np.float32)
        self.labels = np.zeros((height, width), np.int32)

    def _windows(self, drawing: Drawing) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        height, width = self.labels.shape
        h, w = drawing.coverage.shape
        top, left = max(drawing.y0, 0), max(drawing.x0, 0)
        bottom, right = min(drawing.y0 + h, height), min(drawing.x0 + w, width)
        if top >= bottom or left >= right:
            return None
        here = (slice(top, bottom), slice(left, right))
        there = (
            slice(top - drawing.y0, bottom - drawing.y0),
            slice(left - drawing.x0, right - drawing.x0),
        )
        return here, there

    def lay(self, drawing: Drawing, label: int = 0) -> int:
        """Add a drawing to the field; its densities add to those below.

        Parameters
        ----------
        drawing : Drawing
        label : int
            Label of its pixels; 0 does not change the labels (dirt is not a cell).

        Returns
        -------
        int
            Pixels of its whole mask, including those outside the field.
        """
        whole = int((drawing.coverage > 0.5).sum())
        windows = self._windows(drawing)
        if windows is None:
            return whole
        here, there = windows
        if drawing.displaces:
            self.density[:, here[0], here[1]] *= 1 - drawing.displaces * drawing.coverage[there]
        for dye, density in drawing.dyes.items():
            self.density[dye, here[0], here[1]] += density[there]
        if label:
            self.labels[here][drawing.coverage[there] > 0.5] = label
        return whole
