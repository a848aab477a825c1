"""Pictures of cells for the store: a window with context, and the cell's mask within it, both as PNG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.classification.crops import CropRule, cut_window, window_around
from napari_leukocls.cutting import CONTEXT_UM
from napari_leukocls.errors import LeukoclsError
from napari_leukocls.segmentation.light import SeenPixels
from napari_leukocls.types import SmearResult

if TYPE_CHECKING:
    import pandas as pd

#: Side of the window where the scale is not known, pixels.
UNSCALED_PX = 256
#: Longest side of a stored picture, pixels.
MOST_PX = 640


def wanted(cells: pd.DataFrame) -> np.ndarray:
    """Cells whose picture is stored from the start: all but sure red cells and platelets, (N,) bool."""
    plain = cells["predicted_class"].isin(["red_cell", "platelet"]).to_numpy()
    return ~plain | cells["needs_review"].to_numpy(dtype=bool)


def pictures(result: SmearResult, cell_ids: Iterable[int]) -> list[dict[str, Any]]:
    """Cut the pictures of some cells, under the even light that the glass's colour is of.

    Returns
    -------
    list of dict
        ``cell_id``, ``um_per_px`` (of the picture; None where the scale is not known), ``image``, ``mask``.
    """
    table = result.cells.set_index("cell_id")
    scale = float(result.segmentation.scale.um_per_px)
    native = scale if math.isfinite(scale) and scale > 0 else None
    rule = _window_rule(native, _model_um_per_px(result))
    glass = np.asarray(result.segmentation.glass_colour, float)
    outside = list(glass) if np.isfinite(glass).all() else [235.0] * 3
    seen = SeenPixels(result.image.pixels, result.segmentation.light)
    found = []
    for cell_id in cell_ids:
        row = table.loc[cell_id]
        box = [int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1")]
        image, mask = _cut(seen, result.labels, int(cell_id), box, native or 1.0, rule, outside)
        found.append(
            {
                "cell_id": int(cell_id),
                "um_per_px": rule.um_per_px if native else None,
                "image": png(image),
                "mask": png(mask),
            }
        )
    return found


def png(pixels: np.ndarray) -> bytes:
    """Encode 8-bit grey or RGB as PNG."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def unpng(data: bytes) -> np.ndarray:
    """Decode a stored picture."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        return np.asarray(picture)


def _model_um_per_px(result: SmearResult) -> float:
    """Pixel size that the classifier wants its crops at; that of the usual rule where it is not at hand."""
    from napari_leukocls.resources import find_model

    entry = result.run.get("classifier")
    name = entry.get("name", "") if isinstance(entry, dict) else str(entry or "")
    try:
        crop = find_model(name).card()["crop"]
        return float(crop["side_um"]) / float(crop["side_px"])
    except (LeukoclsError, KeyError, TypeError, ValueError, ZeroDivisionError):
        # The model may have been taken away since; the picture is of use at any scale.
        return CropRule().um_per_px


def _window_rule(native: float | None, model: float) -> CropRule:
    """Window of `CONTEXT_UM`, at the model's scale, or the image's own where that is coarser."""
    if native is None:
        return CropRule(float(UNSCALED_PX), UNSCALED_PX, None, None)
    side = min(MOST_PX, max(16, round(CONTEXT_UM / max(native, model))))
    return CropRule(CONTEXT_UM, side, None, None)


def _cut(
    seen: SeenPixels,
    labels: np.ndarray,
    cell_id: int,
    box: list[int],
    um_per_px: float,
    rule: CropRule,
    outside: list[float],
) -> tuple[np.ndarray, np.ndarray]:
    centre = ((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2)
    reach = rule.side_um / um_per_px / 2 + 2
    near, local = window_around(centre, reach, labels.shape)
    pixels = seen[near]
    mask = (np.asarray(labels[near]) == cell_id).astype(np.uint8) * 255
    return (
        cut_window(pixels, local, um_per_px, rule, outside),
        cut_window(mask, local, um_per_px, rule, [0.0]),
    )
