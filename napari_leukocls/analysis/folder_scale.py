"""The scales that images from one microscope have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import LeukoclsError
from napari_leukocls.io.images import read_image
from napari_leukocls.segmentation.common_scale import CommonScales, find_common_scales
from napari_leukocls.segmentation.compact import CompactSegmenter
from napari_leukocls.segmentation.illumination import even_out, measure_light


def scales_of_images(
    images: Sequence[Path], config: AnalyzeConfig, compact: CompactSegmenter
) -> CommonScales:
    """Measure the scales of images that are taken to be from one microscope.

    Parameters
    ----------
    images : sequence of Path
        An image that cannot be read, or has a scale of its own, is left out.
    config : AnalyzeConfig
    compact : CompactSegmenter

    Returns
    -------
    CommonScales
    """

    def load(index: int) -> np.ndarray | None:
        try:
            image = read_image(images[index], plane=config.plane)
        except LeukoclsError:
            # Its own analysis says what is wrong with it.
            return None
        if image.um_per_px is not None:
            return None
        light = measure_light(image.pixels) if config.even_light else None
        return even_out(image.pixels, light)

    return find_common_scales([image.name for image in images], load, compact)
