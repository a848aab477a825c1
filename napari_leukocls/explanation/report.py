"""The files of ``leukocls explain``: figure, heatmaps, table, checks and a report."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.explanation.pictures import Explained, overlaid, panel_figure, strip

if TYPE_CHECKING:
    import pandas as pd

#: Cells a class in the figure.
PER_CLASS = 3
#: Cells in the report.
MAX_SHOWN = 200


@dataclass(frozen=True)
class ExplainedImage:
    """One image with the heatmaps of its cells.

    Attributes
    ----------
    name : str
        Unique; of the files.
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
        What `heatmap` lies over.
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
    """What ``leukocls explain`` found.

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
    """``explanations.csv``: one row a cell."""
    import pandas as pd

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
    """Fill a folder.

    Parameters
    ----------
    explanation : Explanation
    folder : Path
        Exists and is empty: see `napari_leukocls.io.folder.replacing_folder`.
    """
    import matplotlib

    from napari_leukocls.evaluation.figures import rendered
    from napari_leukocls.io.results import plain, table_bytes, write_failures

    if explanation.failures:
        write_failures(explanation.failures, folder / "failures.csv")
    (folder / "explanations.csv").write_bytes(table_bytes(explanations_table(explanation)))
    (folder / "heatmaps").mkdir()
    for image in explanation.images:
        _write_heatmap(image, folder / "heatmaps")
    if explanation.checks is not None:
        _write_json(folder / "checks.json", explanation.checks)
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
    _write_json(folder / "run.json", plain(run))


def _write_json(path: Path, value: Any) -> None:
    from napari_leukocls.io.results import plain

    text = json.dumps(plain(value), indent=2, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _write_heatmap(image: ExplainedImage, folder: Path) -> None:
    """The map as float TIFF with its resolution, and over the image as PNG."""
    from PIL import Image
    from tifffile import imwrite

    per_cm = 1e4 / image.um_per_px
    imwrite(
        folder / f"{image.name}.tif",
        image.heatmap.astype(np.float32),
        compression="zlib",
        photometric="minisblack",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        software="napari-leukocls",
        metadata=None,
    )
    Image.fromarray(overlaid(image.pixels, image.heatmap)).save(folder / f"{image.name}.png")


def _page(explanation: Explanation, pictures: Mapping[str, bytes]) -> str:
    from napari_leukocls.evaluation.html import render

    shown = explanation.cells[:MAX_SHOWN]
    names = [image.name for image in explanation.images for _ in image.cells]
    strips = {f"cell_{place}": _png(strip(cell)) for place, cell in enumerate(shown)}
    return render(
        "explanation",
        {**pictures, **strips},
        model=explanation.model,
        checks=explanation.checks,
        notes=explanation.notes,
        cells=[
            {"picture": f"cell_{place}", "image": name, "cell": cell}
            for place, (name, cell) in enumerate(zip(names, shown, strict=False))
        ],
        n_cells=len(explanation.cells),
        columns=_columns(shown),
    )


def _columns(cells: Sequence[Explained]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.figures))


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
