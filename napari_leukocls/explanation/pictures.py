"""Pictures of heatmaps: the map in colours, the map over its crop, and the figure of many cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: matplotlib's colour map: stained cells are blue and purple, so that its dark end is not drawn over them.
COLOUR_MAP = "turbo"
#: How much of a crop the largest value of a map covers.
STRONGEST = 0.75
#: Colour of a crop without evidence.
_GREY = 0.5
_MARK = (20, 20, 20)


@dataclass(frozen=True)
class Explained:
    """One cell with the heatmap of a class.

    Attributes
    ----------
    name : str
        Of the image, or of the cell in its field.
    crop : numpy.ndarray, (h, w, 3), uint8
    heatmap : numpy.ndarray, (h, w), float32
    class_name : str
        That the heatmap is asked about.
    probability : float
        Of that class.
    mask : numpy.ndarray, (h, w), bool, or None
        Of the cell.
    words : str
        Morphology.
    figures : dict of str to float
        Checks of this cell.
    """

    name: str
    crop: np.ndarray
    heatmap: np.ndarray
    class_name: str
    probability: float
    mask: np.ndarray | None = None
    words: str = ""
    figures: dict[str, float] = field(default_factory=dict)


@lru_cache(maxsize=1)
def _colours() -> np.ndarray:
    from matplotlib import colormaps

    return (colormaps[COLOUR_MAP](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def coloured(heatmap: np.ndarray) -> np.ndarray:
    """Return a heatmap (h, w), 0 to 1, in colours: (h, w, 3) uint8."""
    return _colours()[(np.clip(heatmap, 0, 1) * 255).round().astype(np.uint8)]


def overlaid(crop: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Lay a heatmap over its crop, the more the larger it is, with a line at half of its largest value.

    Parameters
    ----------
    crop : numpy.ndarray, (h, w, 3), uint8
    heatmap : numpy.ndarray, (h, w)
        0 to 1.

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8
    """
    import cv2

    share = STRONGEST * np.clip(heatmap, 0, 1)[..., None]
    mixed = (crop * (1 - share) + coloured(heatmap) * share).round().astype(np.uint8)
    edges, _ = cv2.findContours((heatmap >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(mixed), edges, -1, _MARK, 1)


def strip(cell: Explained) -> np.ndarray:
    """Return crop, map and overlay side by side: (h, 3 w, 3) uint8."""
    return np.hstack([cell.crop, coloured(cell.heatmap), overlaid(cell.crop, cell.heatmap)])


def panel_figure(cells: Sequence[Explained], per_class: int, title: str = "") -> Figure:
    """Draw crop, map and overlay of up to `per_class` cells a class, one row a class, surest first.

    Parameters
    ----------
    cells : sequence of Explained
    per_class : int
    title : str
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    names = sorted({cell.class_name for cell in cells})
    rows = [
        sorted((cell for cell in cells if cell.class_name == name), key=lambda cell: -cell.probability)[
            :per_class
        ]
        for name in names
    ]
    columns = max((len(row) for row in rows), default=1)
    size = (0.9 + 4.2 * columns, 0.9 + 1.62 * max(1, len(rows)))
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=size, layout=tight)
    if title:
        figure.suptitle(title, fontsize=9)
    grid = figure.add_gridspec(max(1, len(rows)), columns)
    for place, row in enumerate(rows):
        for number, cell in enumerate(row):
            axes = figure.add_subplot(grid[place, number])
            axes.imshow(strip(cell), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{cell.name}   {cell.probability:.2f}", fontsize=7, pad=2)
            side = cell.crop.shape[1]
            for edge in (side, 2 * side):
                axes.axvline(edge - 0.5, color="white", linewidth=1.5)
            if number == 0:
                axes.set_ylabel(cell.class_name.replace("_", "\n"), fontsize=8)
            if place == len(rows) - 1 and number == 0:
                axes.set_xlabel("crop  |  heatmap  |  both (line: half of the largest value)", fontsize=7)
    if rows:
        from matplotlib.cm import ScalarMappable

        bar = figure.colorbar(
            ScalarMappable(cmap=COLOUR_MAP), ax=figure.axes, shrink=min(1.0, 2.0 / len(rows)), pad=0.01
        )
        bar.set_label("evidence for the class, each map by itself", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    return figure
