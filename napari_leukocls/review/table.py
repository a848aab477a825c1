"""Corrections in the table of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.errors import ReviewError
from napari_leukocls.review.records import Correction

if TYPE_CHECKING:
    import pandas as pd

_BOX = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]


def fill(
    cells: pd.DataFrame, found: Mapping[int, Correction], places: Mapping[int, np.ndarray]
) -> pd.DataFrame:
    """A copy of a table of cells with corrections filled in.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    found : mapping of int to Correction
        By ``cell_id``. Cells that it does not have go back to their prediction.
    places : mapping of int to numpy.ndarray
        Boxes that the corrections were made for.

    Raises
    ------
    ReviewError
        Where a corrected cell is not at its place in the table.
    """
    table = cells.copy()
    table.attrs = dict(cells.attrs)
    ids = table["cell_id"].to_numpy()
    rows = {int(cell_id): place for place, cell_id in enumerate(ids)}
    boxes = table[_BOX].to_numpy(float)
    for cell_id in found:
        at = rows.get(cell_id)
        if at is None or not np.array_equal(boxes[at], places[cell_id]):
            raise ReviewError(
                f"cell {cell_id} of the table is not the one that was corrected: its outlines are of another "
                "analysis; add that result to the review store first."
            )
    names = {column: table[column].to_numpy(dtype=object).copy() for column in _TEXTS}
    before = names["corrected_class"].astype(str) != ""
    names["class"][before] = names["predicted_class"][before]
    names["corrected_class"][before] = names["reviewer"][before] = ""
    needs_review = table["needs_review"].to_numpy(dtype=bool).copy()
    for cell_id, said in found.items():
        at = rows[cell_id]
        names["class"][at] = names["corrected_class"][at] = said.corrected_class
        names["reviewer"][at] = said.reviewer
        names["review_reason"][at] = ""
        needs_review[at] = False
    for column, values in names.items():
        table[column] = values
    table["needs_review"] = needs_review
    return table


_TEXTS = ("class", "corrected_class", "reviewer", "review_reason", "predicted_class")


def model_classes(cells: pd.DataFrame) -> list[str]:
    """Classes of the model that a table of cells is of."""
    return [str(name)[5:] for name in cells.columns if str(name).startswith("prob_")]
