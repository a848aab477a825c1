"""The report of a slide: one HTML file that holds its pictures and needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_leukocls.io.html import render
from napari_leukocls.measurement.differential import count_unsettled
from napari_leukocls.measurement.fine import (
    PART_OF,
    left_shift,
    of_differential,
    shown_classes,
    shown_probability,
)
from napari_leukocls.results.overlay import jpeg
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import FieldResult, Scale, SlideResult

if TYPE_CHECKING:
    import pandas as pd

MAX_CROPS = 60

_CROP_PX = 96

_PICTURE_WIDTH = 1400


def render_report(
    result: FieldResult, scheme: Scheme, overlay: Image.Image, heatmaps: dict[str, Any] | None = None
) -> str:
    """Render the report of a field or of a whole slide.

    Parameters
    ----------
    result : FieldResult
    scheme : Scheme
    overlay : PIL.Image.Image
        As `napari_leukocls.results.overlay.draw_overlay` gives it.
    heatmaps : dict, optional
        As `napari_leukocls.explanation.report_heatmaps` gives it.

    Returns
    -------
    str
        The page ``report.html``.
    """
    return render(
        "report",
        {},
        **_of_the_count(result, scheme),
        fields=[],
        picture=_embedded(_reduced(overlay)),
        crops=_gallery(result, scheme),
        heatmaps=_heatmaps(heatmaps, scheme),
        scale=_scale_text(result),
    )


def render_joint_report(result: SlideResult, scheme: Scheme, fields: Sequence[Mapping[str, Any]]) -> str:
    """Render the report of a slide of several fields: the joint count, and links to the fields' reports.

    Parameters
    ----------
    result : SlideResult
        Of all fields together.
    scheme : Scheme
    fields : sequence of mapping
        ``name``, ``link``, ``n_wbc``, ``n_review``, ``n_rbc`` and ``um_per_px`` of each.

    Returns
    -------
    str
        The page ``report.html``.
    """
    return render("report", {}, **_of_the_count(result, scheme), fields=fields, heatmaps=None)


def _of_the_count(result: SlideResult, scheme: Scheme) -> dict[str, Any]:
    """What the reports of a field and of several have in common."""
    counts = result.counts
    inside = counts["in_differential"].astype(bool)
    above = of_differential(counts)
    shift = left_shift(counts)
    return {
        "slide_id": result.slide_id,
        "source": result.source,
        "warnings": list(dict.fromkeys(result.warnings)),
        "counted": _count_rows(counts[above], scheme),
        "beside": _count_rows(counts[~above], scheme),
        "left_shift": "" if shift is None else shift.text,
        "n_wbc": int(counts.loc[inside, "count"].sum()),
        "n_review": count_unsettled(result.cells),
        "limits": counts.attrs.get("limits", ""),
        "run": _flat(result.run),
        "number": _number,
    }


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _count_rows(counts: pd.DataFrame, scheme: Scheme) -> list[dict[str, Any]]:
    return [
        {
            "display": scheme[row["class"]].display,
            "colour": scheme[row["class"]].colour,
            "count": int(row["count"]),
            "percent": float(row["percent"]),
            "low": float(row["ci95_low"]),
            "high": float(row["ci95_high"]),
            "per_100": float(row["per_100_wbc"]),
            "known": math.isfinite(row["percent"]),
            "part": bool(row.get(PART_OF)),
        }
        for row in counts.to_dict("records")
    ]


def _gallery(result: FieldResult, scheme: Scheme) -> list[dict[str, Any]]:
    """Crops of the nucleated cells and of those that need review, least certain first."""
    cells = result.cells.assign(shown=shown_classes(result.cells), sure=shown_probability(result.cells))
    names = cells["class"].astype(str)
    nucleated = names.map(lambda name: name in scheme and scheme[name].kind in ("leukocyte", "nucleated"))
    open_review = cells["needs_review"].astype(bool)
    shown = cells[nucleated.astype(bool) | open_review].sort_values(["probability", "cell_id"], kind="stable")
    return [
        {
            "id": int(row["cell_id"]),
            "picture": _embedded(_crop(result.image.pixels, row)),
            "display": scheme[row["shown"]].display if row["shown"] in scheme else row["shown"],
            "colour": scheme[row["shown"]].colour if row["shown"] in scheme else "#808080",
            "probability": float(row["sure"]),
            "reason": row["review_reason"],
            "corrected": row["corrected_class"],
        }
        for row in shown.head(MAX_CROPS).to_dict("records")
    ]


def _heatmaps(heatmaps: dict[str, Any] | None, scheme: Scheme) -> dict[str, Any] | None:
    """Heatmaps of the report, with the pictures inside the page."""
    if heatmaps is None:
        return None
    cells = [
        {
            **cell,
            "picture": _embedded(Image.fromarray(cell["picture"])),
            "display": scheme[cell["class"]].display if cell["class"] in scheme else cell["class"],
        }
        for cell in heatmaps["cells"]
    ]
    return {**heatmaps, "cells": cells}


def _crop(pixels: np.ndarray, row: dict[str, Any]) -> Image.Image:
    """A square around a cell with a quarter of its size as margin; what lies outside the image is white."""
    y0, x0, y1, x1 = (int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1"))
    half = max(4, math.ceil(0.625 * max(y1 - y0, x1 - x0)))
    top, left = (y0 + y1) // 2 - half, (x0 + x1) // 2 - half
    inner = pixels[max(top, 0) : top + 2 * half, max(left, 0) : left + 2 * half]
    square = np.full((2 * half, 2 * half, 3), 255, np.uint8)
    down, right = max(-top, 0), max(-left, 0)
    square[down : down + inner.shape[0], right : right + inner.shape[1]] = inner
    return Image.fromarray(square).resize((_CROP_PX, _CROP_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _reduced(picture: Image.Image) -> Image.Image:
    if picture.width <= _PICTURE_WIDTH:
        return picture
    size = (_PICTURE_WIDTH, max(1, round(picture.height * _PICTURE_WIDTH / picture.width)))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _embedded(picture: Image.Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode("ascii")


def _of_what(scale: Scale) -> str:
    if scale.n_cells:
        return f"by {scale.n_cells} red cells, taken to be 7.5 µm across"
    return f"by the nuclei of leukocytes, uncertain by {100 * (2**scale.octaves - 1):.0f} %"


def _scale_text(result: FieldResult) -> str:
    scale = result.segmentation.scale
    sources = {
        "user": "given by the user",
        "metadata": "from the file",
        "red_cell_ruler": f"from {scale.n_cells} red cells, taken to be 7.5 µm across",
        "other_images": f"from {scale.n_images} images that were measured together, {_of_what(scale)}",
        "nuclei": f"read from the nuclei of leukocytes, uncertain by {100 * (2**scale.octaves - 1):.0f} %",
        "model": "the classifier's own; not measured",
        "unknown": "not known",
    }
    if not math.isfinite(scale.um_per_px):
        return "not known"
    unsure = "" if scale.sure else "; unsure, please check"
    return f"{scale.um_per_px:.4g} µm per pixel ({sources[scale.source]}{unsure})"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of name and text, sorted by name at each level."""
    if isinstance(value, dict):
        return [
            row
            for key in sorted(value, key=str)
            for row in _flat(value[key], f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, (list, tuple)):
        return [(prefix, ", ".join(str(item) for item in value))]
    return [(prefix, "" if value is None else str(value))]
