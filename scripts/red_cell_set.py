"""Chula-RBC-12 as this project uses it: its numbers of shapes, its scale, and its fields that are left out.

The numbers are those of the set's own README ("RBC Types": 0 Normal cell ... 12 Elliptocyte); galleries of each
number agree with them.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from napari_leukocls.analysis.engine import Engine
from napari_leukocls.analysis.field import outline, under_even_light
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.segmentation.scale import given_scale
from napari_leukocls.types import Segmentation, SmearImage

#: Classes of the numbers 0 to 12; None is "uncategorised", which is nothing to learn.
NAMES = (
    *("normal_red_cell", "macrocyte", "microcyte", "spherocyte", "target_cell", "stomatocyte", "ovalocyte"),
    *("teardrop_cell", "burr_cell", "schistocyte", "", "hypochromic_red_cell", "elliptocyte"),
)
#: Diameter of a typical red cell in the set, pixels (`scripts.segmentation_set.marks`), taken as 7.5 um.
DIAMETER_PX = 38.9
UM_PER_PX = 7.5 / DIAMETER_PX
#: Side of the stored windows, pixels of the set.
WINDOW = 96


def is_held_out(base_name: str) -> bool:
    """The project's hold-out rule: SHA-256 of the base name as a number, modulo 5, equal to 0."""
    return int(hashlib.sha256(base_name.encode()).hexdigest(), 16) % 5 == 0


@lru_cache(maxsize=1)
def _engine() -> Engine:
    segmenter = compact("cpu")
    return Engine(AnalyzeConfig(diameter_px=DIAMETER_PX), "cpu", segmenter, segmenter, None)


def outlined(field: SmearImage) -> Segmentation:
    """Outline a field at the set's scale."""
    engine = _engine()
    image, _ = under_even_light(field, engine)
    scale = given_scale(image, engine.config)
    assert scale is not None
    return drain(outline(image, engine, scale))
