"""The cells of the bundled teaching smears: drawn, so that the class of each is known exactly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from napari_leukocls.classification.crops import cut_window, window_around
from napari_leukocls.classification.single_cell import CONTEXT_UM
from napari_leukocls.errors import InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.paths import sample_smear, sample_smears
from napari_leukocls.review.slides import array_key
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import SmearImage

#: Side of a picture of a cell, pixels.
SIDE_PX = 256
#: A cell of which less is seen, at the edge or under others, is no fair question.
LEAST_SEEN = 0.8
_OUTSIDE = [235.0] * 3


def teaching_smears() -> list[str]:
    """Return the names of the bundled smears that state the class of each cell."""
    return [name for name, path in sample_smears().items() if path.with_name(f"{name}_truth.csv").is_file()]


@lru_cache(maxsize=16)
def teaching_key(name: str) -> str:
    """Return the key that the review store gives to a teaching smear which is opened as an image.

    Parameters
    ----------
    name : str
        Of the smear.

    Returns
    -------
    str
    """
    return array_key(read_image(sample_smear(name)).pixels)


def teaching_cells(name: str, scheme: Scheme) -> list[tuple[int, str]]:
    """List the leukocytes and other nucleated cells of a teaching smear.

    Parameters
    ----------
    name : str
        Of the smear.
    scheme : Scheme

    Returns
    -------
    list of tuple
        Number and class of each cell.
    """
    table = _truth(name)
    seen = table["kind"].eq("leukocyte") & table["class"].isin(scheme.names)
    if "visible_fraction" in table.columns:
        seen &= table["visible_fraction"] >= LEAST_SEEN
    chosen = table[seen]
    return [(int(cell), str(kind)) for cell, kind in zip(chosen["cell_id"], chosen["class"], strict=True)]


def teaching_picture(name: str, cell_id: int) -> np.ndarray:
    """Cut the picture of a cell, with its surroundings.

    Parameters
    ----------
    name : str
        Of the smear.
    cell_id : int

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8

    Raises
    ------
    InputError
        If the smear has no such cell.
    """
    table = _truth(name)
    rows = table[table["cell_id"] == cell_id]
    if rows.empty:
        raise InputError(f"the teaching smear '{name}' has no cell {cell_id}.")
    image = _smear(name)
    um_per_px = image.um_per_px or 0.16
    centre = (float(rows["centroid_y"].iloc[0]), float(rows["centroid_x"].iloc[0]))
    rule = CropRule(CONTEXT_UM, SIDE_PX, None, None)
    near, local = window_around(centre, rule.side_um / um_per_px / 2 + 2, image.pixels.shape[:2])
    return cut_window(image.pixels[near], local, um_per_px, rule, _OUTSIDE)


@lru_cache(maxsize=8)
def _truth(name: str) -> pd.DataFrame:
    smear = sample_smear(name)
    return pd.read_csv(smear.with_name(f"{name}_truth.csv"))


@lru_cache(maxsize=2)
def _smear(name: str) -> SmearImage:
    return read_image(sample_smear(name))
