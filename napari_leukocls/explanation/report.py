"""Figure, maps, table and page of an explanation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from tifffile import imwrite

from napari_leukocls.evaluation.figures import rendered
from napari_leukocls.io.html import render
from napari_leukocls.io.serialise import table_bytes, write_json
from napari_leukocls.results.summary import write_failures

#: matplotlib's colour map. Stained cells are blue and purple, so that small values are drawn transparent.
COLOUR_MAP = "turbo"
#: Opacity of the largest value of a map over its crop.
STRONGEST = 0.75
#: Colour of a crop without evidence.
_GREY = 0.5
_MARK = (20, 20, 20)

#: Cells of each class in the figure.
PER_CLASS = 3
#: Largest number of cells in the report.
MAX_SHOWN = 200


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
        That the heatmap explains.
    probability : float
        Of that class.
    mask : numpy.ndarray, (h, w), bool, or None
        Of the cell.
    words : str
        Morphology.
    figures : dict of str to float
        Results of the checks of this cell.
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
    colours = colormaps[COLOUR_MAP](np.linspace(0, 1, 256))[:, :3] * 255
    return np.asarray(colours.round().astype(np.uint8))


def coloured(heatmap: np.ndarray) -> np.ndarray:
    """Colour a heatmap.

    Parameters
    ----------
    heatmap : numpy.ndarray, (h, w)
        0 to 1.

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8
    """
    colours: np.ndarray = _colours()[(np.clip(heatmap, 0, 1) * 255).round().astype(np.uint8)]
    return colours


def overlaid(crop: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Draw a heatmap over its crop, more opaque for larger values, with a line at half of the largest value.

    Parameters
    ----------
    crop : numpy.ndarray, (h, w, 3), uint8
    heatmap : numpy.ndarray, (h, w)
        0 to 1.

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8
    """
    share = STRONGEST * np.clip(heatmap, 0, 1)[..., None]
    mixed = (crop * (1 - share) + coloured(heatmap) * share).round().astype(np.uint8)
    edges, _ = cv2.findContours((heatmap >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(mixed), edges, -1, _MARK, 1))


def strip(cell: Explained) -> np.ndarray:
    """Draw crop, map and overlay side by side.

    Parameters
    ----------
    cell : Explained

    Returns
    -------
    numpy.ndarray, (h, 3 w, 3), uint8
    """
    return np.hstack([cell.crop, coloured(cell.heatmap), overlaid(cell.crop, cell.heatmap)])


def panel_figure(cells: Sequence[Explained], per_class: int, title: str = "") -> Figure:
    """Draw crop, map and overlay of cells: one row a class, most probable cell first.

    Parameters
    ----------
    cells : sequence of Explained
    per_class : int
        Largest number of cells of each class.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
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
    for i, row in enumerate(rows):
        for number, cell in enumerate(row):
            axes = figure.add_subplot(grid[i, number])
            axes.imshow(strip(cell), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{cell.name}   {cell.probability:.2f}", fontsize=7, pad=2)
            side = cell.crop.shape[1]
            for edge in (side, 2 * side):
                axes.axvline(edge - 0.5, color="white", linewidth=1.5)
            if number == 0:
                axes.set_ylabel(cell.class_name.replace("_", "\n"), fontsize=8)
            if i == len(rows) - 1 and number == 0:
                axes.set_xlabel("crop  |  heatmap  |  both (line: half of the largest value)", fontsize=7)
    if rows:
        bar = figure.colorbar(
            ScalarMappable(cmap=COLOUR_MAP), ax=figure.axes, shrink=min(1.0, 2.0 / len(rows)), pad=0.01
        )
        bar.set_label("evidence for the class, each map scaled by itself", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    return figure


@dataclass(frozen=True)
class ExplainedImage:
    """One image with the heatmaps of its cells.

    Attributes
    ----------
    name : str
        Unique; names its files.
    source : str
    kind : str
        ``field`` or ``crop``.
    cells : list of Explained
    cell_ids : list of int
        Values in the field's labels; 0 for a crop.
    heatmap : numpy.ndarray, (H, W), float32
        Of the field, or of the crop.
    um_per_px : float
        Of `heatmap`.
    pixels : numpy.ndarray, (H, W, 3), uint8
        The image under `heatmap`.
    """

    name: str
    source: str
    kind: str
    cells: list[Explained]
    cell_ids: list[int]
    heatmap: np.ndarray
    um_per_px: float
    pixels: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """The result of ``leukocls explain``.

    Attributes
    ----------
    model : dict
        ``name``, ``sha256``, ``method``, ``layers``, ``badge`` and ``figures`` of the card's own checks.
    images : list of ExplainedImage
    checks : dict or None
        Figures of the checks of these cells, as a card holds them, with ``state``.
    notes : list of str
    run : dict
        Settings and versions.
    failures : list of dict
        Images that could not be read: ``slide_id``, ``source``, ``error``.
    """

    model: dict[str, Any]
    images: list[ExplainedImage]
    checks: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    @property
    def cells(self) -> list[Explained]:
        """All cells, image by image."""
        return [cell for image in self.images for cell in image.cells]


def explanations_table(explanation: Explanation) -> pd.DataFrame:
    """Return the table of ``explanations.csv``, one row a cell.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    pandas.DataFrame
    """
    rows = [
        {
            "image": image.name,
            "source": image.source,
            "cell_id": cell_id if cell_id else None,
            "class": cell.class_name,
            "probability": cell.probability,
            "method": explanation.model["method"],
            **cell.figures,
            "morphology": cell.words,
        }
        for image in explanation.images
        for cell_id, cell in zip(image.cell_ids, image.cells, strict=True)
    ]
    columns = ["image", "source", "cell_id", "class", "probability", "method", "morphology"]
    table = pd.DataFrame(rows, columns=None if rows else columns)
    table["cell_id"] = table["cell_id"].astype("Int64")
    return table


def write_explanation(explanation: Explanation, folder: Path) -> None:
    """Write an explanation into a folder.

    Parameters
    ----------
    explanation : Explanation
    folder : Path
        It exists and is empty: see `napari_leukocls.io.atomic.replacing_folder`.
    """
    if explanation.failures:
        write_failures(explanation.failures, folder / "failures.csv")
    (folder / "explanations.csv").write_bytes(table_bytes(explanations_table(explanation)))
    (folder / "heatmaps").mkdir()
    for image in explanation.images:
        _write_heatmap(image, folder / "heatmaps")
    if explanation.checks is not None:
        write_json(folder / "checks.json", explanation.checks, sort_keys=True)
    title = f"{explanation.model['name']}: {explanation.model['method']}"
    pictures = {}
    if explanation.cells:
        with matplotlib.rc_context({"svg.hashsalt": "napari-leukocls", "svg.fonttype": "none"}):
            figure = panel_figure(explanation.cells, PER_CLASS, title)
            for kind in ("png", "svg"):
                (folder / f"figure.{kind}").write_bytes(rendered(figure, kind))
        pictures["figure"] = (folder / "figure.png").read_bytes()
    page = _page(explanation, pictures)
    (folder / "report.html").write_text(page, encoding="utf-8", newline="\n")
    run = {"model": explanation.model, "notes": explanation.notes, **explanation.run}
    write_json(folder / "run.json", run, sort_keys=True)


def _write_heatmap(image: ExplainedImage, folder: Path) -> None:
    """The map as float TIFF with its resolution, and over the image as PNG."""
    per_cm = 1e4 / image.um_per_px
    known = bool(np.isfinite(per_cm))
    imwrite(
        folder / f"{image.name}.tif",
        image.heatmap.astype(np.float32),
        compression="zlib",
        photometric="minisblack",
        software="napari-leukocls",
        metadata=None,
        resolution=(per_cm, per_cm) if known else None,
        resolutionunit="CENTIMETER" if known else None,
    )
    Image.fromarray(overlaid(image.pixels, image.heatmap)).save(folder / f"{image.name}.png")


def _page(explanation: Explanation, pictures: Mapping[str, bytes]) -> str:
    shown = explanation.cells[:MAX_SHOWN]
    names = [image.name for image in explanation.images for _ in image.cells]
    strips = {f"cell_{i}": _png(strip(cell)) for i, cell in enumerate(shown)}
    return render(
        "explanation",
        {**pictures, **strips},
        model=explanation.model,
        checks=explanation.checks,
        notes=explanation.notes,
        cells=[
            {"picture": f"cell_{i}", "image": name, "cell": cell}
            for i, (name, cell) in enumerate(zip(names, shown, strict=False))
        ],
        n_cells=len(explanation.cells),
        columns=_columns(shown),
    )


def _columns(cells: Sequence[Explained]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.figures))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
