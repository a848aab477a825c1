"""Heatmaps of crops, put back at the cells' places on the smear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.errors import ArgumentError

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.classification.crops import CropRule


@dataclass(frozen=True)
class Window:
    """Where a crop was cut from a smear.

    Attributes
    ----------
    y, x : float
        Its middle, pixels of the smear.
    side : float
        Its side, pixels of the smear.
    cell_id : int
        Value of its cell in the label image; 0 for none.
    """

    y: float
    x: float
    side: float
    cell_id: int = 0


def cell_windows(cells: pd.DataFrame, um_per_px: float, rule: CropRule) -> list[Window]:
    """Return where the crops of cells were cut, from their rows in ``cells.csv``.

    Parameters
    ----------
    cells : pandas.DataFrame
    um_per_px : float
        Of the smear.
    rule : CropRule
    """
    side = rule.side_um / um_per_px
    rows = cells[["cell_id", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].itertuples(index=False)
    return [Window((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2, side, int(cell)) for cell, y0, x0, y1, x1 in rows]


def compose(
    shape: tuple[int, int],
    heatmaps: np.ndarray,
    windows: Sequence[Window],
    mask: np.ndarray | None = None,
    how: str = "max",
) -> np.ndarray:
    """Put the heatmaps of cells at their places on the smear.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the smear.
    heatmaps : numpy.ndarray, (N, h, w)
    windows : sequence of Window, length N
    mask : numpy.ndarray, (H, W), optional
        Label image: each map is kept within its own cell; or bool: all are kept within it.
    how : {"max", "mean"}
        What counts where windows overlap.

    Returns
    -------
    numpy.ndarray, (H, W), float32
        Nought where there is no map.
    """
    import cv2

    if how not in ("max", "mean"):
        raise ArgumentError(f"overlapping heatmaps are joined by max or mean, not '{how}'.")
    out = np.zeros(shape, np.float32)
    count = np.zeros(shape if how == "mean" else (0, 0), np.uint16)
    for one, window in zip(heatmaps, windows, strict=True):
        step = np.array([window.side / one.shape[0], window.side / one.shape[1]])
        middle = np.array([window.y, window.x])
        low = np.maximum(np.ceil(middle - window.side / 2), 0).astype(int)
        high = np.minimum(np.floor(middle + window.side / 2) + 1, shape).astype(int)
        if (high <= low).any():
            continue
        shift = (np.array(one.shape) - 1) / 2 + (low - middle) / step
        placement = np.array([[1 / step[1], 0, shift[1]], [0, 1 / step[0], shift[0]]])
        size = (int(high[1] - low[1]), int(high[0] - low[0]))
        patch = cv2.warpAffine(
            np.ascontiguousarray(one, np.float32),
            placement,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        here = (slice(low[0], high[0]), slice(low[1], high[1]))
        kept = np.ones(patch.shape, bool)
        if mask is not None:
            kept = mask[here] if mask.dtype == bool else mask[here] == window.cell_id
        if how == "max":
            out[here] = np.where(kept, np.maximum(out[here], patch), out[here])
        else:
            out[here] += np.where(kept, patch, 0)
            count[here] += kept
    return out / np.maximum(count, 1) if how == "mean" else out
