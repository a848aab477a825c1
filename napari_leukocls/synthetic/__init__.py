"""Synthetic blood smears with exact truth, for teaching, for tests and for training the segmenter.

Nothing here is patient material: every cell is drawn from formulas. See `render_smear`.
"""

from __future__ import annotations

from napari_leukocls.synthetic.recipe import (
    LEUKOCYTE_CLASSES,
    CameraRecipe,
    RedCellRecipe,
    SmearRecipe,
    StainRecipe,
    random_recipe,
)
from napari_leukocls.synthetic.render import SyntheticCell, SyntheticSmear, render_smear

__all__ = [
    "LEUKOCYTE_CLASSES",
    "CameraRecipe",
    "RedCellRecipe",
    "SmearRecipe",
    "StainRecipe",
    "SyntheticCell",
    "SyntheticSmear",
    "random_recipe",
    "render_smear",
]
