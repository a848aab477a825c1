"""The picture of a whole slide: its overview with the cells, and what was skipped tinted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.io.overlay import MAX_WIDTH, draw_overlay
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Segmentation, SmearImage, SmearResult
from napari_leukocls.wholeslide.survey import BLURRED, THICK, overview
from napari_leukocls.wholeslide.tiles import Ground

if TYPE_CHECKING:
    from PIL.Image import Image

#: Tints of what was not analysed, RGB.
_TINTS = {THICK: (120, 60, 160), BLURRED: (60, 120, 200)}
_STRENGTH = 0.35


def slide_overlay(ground: Ground, result: SmearResult, scheme: Scheme) -> Image:
    """Draw the cells of a slide on its overview, with a legend and a scale bar.

    Parameters
    ----------
    ground : Ground
    result : SmearResult
        Of the whole slide.
    scheme : Scheme
    """
    pixels, step = overview(ground.slide, MAX_WIDTH)
    for state, tint in _TINTS.items():
        pixels = _tinted(pixels, ground.states == state, tint)
    labels = ground.labels.sampled(pixels.shape[:2])
    cells = result.cells.assign(
        **{name: result.cells[name] / step for name in ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")}
    )
    scale = replace(
        ground.scale,
        um_per_px=ground.scale.um_per_px * step,
        red_cell_diameter_px=ground.scale.red_cell_diameter_px / step,
    )
    image = SmearImage(pixels, result.image.slide_id, result.image.source)
    small = Segmentation(labels, result.segmentation.kind_probabilities, ground.survey.glass_colour, scale)
    return draw_overlay(replace(result, image=image, segmentation=small, cells=cells), scheme)


def _tinted(pixels: np.ndarray, parts: np.ndarray, tint: tuple[int, int, int]) -> np.ndarray:
    """Blend a colour over the parts of a grid that are true."""
    if not parts.any():
        return pixels
    rows = np.arange(pixels.shape[0]) * parts.shape[0] // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * parts.shape[1] // pixels.shape[1]
    where = parts[rows[:, None], columns]
    blended = pixels.copy()
    blended[where] = (pixels[where] * (1 - _STRENGTH) + np.array(tint) * _STRENGTH).astype(np.uint8)
    return blended
