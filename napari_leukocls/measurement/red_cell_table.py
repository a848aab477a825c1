"""The table of red cells: measurements, shape, and whether a person should look at it (``red_cells.csv``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import original_text
from napari_leukocls.measurement.cells import LOW_CONFIDENCE, UNLIKE_TRAINING
from napari_leukocls.measurement.red_cells import MEASURES
from napari_leukocls.scheme import RED_CELL, Scheme

if TYPE_CHECKING:
    from napari_leukocls.measurement.red_cell_grades import RedCellLimits
    from napari_leukocls.models.card import ModelCard
    from napari_leukocls.types import Predictions

#: Name of the file in the folder of a slide.
RED_CELL_FILE = "red_cells.csv"
#: Where a cell lies, as in ``cells.csv``.
PLACE = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "centroid_y", "centroid_x")
SHAPE_COLUMNS = ("shape", "predicted_shape", "probability", "needs_review", "review_reason", "reviewer")
RED_CELL_COLUMNS = ("slide_id", "cell_id", *PLACE, *MEASURES, *SHAPE_COLUMNS)
_TEXTS = ("slide_id", "left_out", "shape", "predicted_shape", "review_reason", "reviewer", "field")
#: Why a cell with a certain shape is shown to a person.
RARE_SHAPE = "rare shape"
BLUER = "bluer than the others"


def polychromatic(table: pd.DataFrame, limits: RedCellLimits) -> np.ndarray:
    """Tell which measured red cells are bluer than the others of their field, and not smaller.

    Parameters
    ----------
    table : pandas.DataFrame, N rows
        Measured red cells, columns as in ``red_cells.csv``; ``field`` names the field where there are several.
    limits : RedCellLimits

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    if not len(table):
        return np.zeros(0, bool)
    field = table["field"] if "field" in table else pd.Series("", index=table.index)
    blueness, diameter = table["blueness"].astype(float), table["diameter_um"].astype(float)
    above = blueness - blueness.groupby(field).transform("median")
    spread = 1.4826 * above.abs().groupby(field).transform("median")
    least = np.maximum(limits.polychromatic_blueness, limits.polychromatic_spread * spread)
    large = diameter >= diameter.groupby(field).transform("median")
    return np.asarray((above > least) & large, dtype=bool)


def build_red_cell_table(
    cells: pd.DataFrame,
    measures: pd.DataFrame,
    predictions: Predictions | None,
    card: ModelCard | None,
    limits: RedCellLimits,
) -> pd.DataFrame:
    """Join the measurements of red cells with their shapes.

    Parameters
    ----------
    cells : pandas.DataFrame
        Rows of ``cells.csv`` of the same cells, in the same order.
    measures : pandas.DataFrame
        As `napari_leukocls.measurement.red_cells.measure_red_cells` gives it.
    predictions : Predictions or None
        Row i belongs to the i-th measured cell; None if there is no model.
    card : ModelCard or None
        Of that model: a shape that is less probable than its review threshold needs review.
    limits : RedCellLimits
        Say which shapes a person always looks at, and which cells are polychromatic: such cells have no pallor, as
        spherocytes, and a person looks at what the model takes for one.

    Returns
    -------
    pandas.DataFrame
        Columns `RED_CELL_COLUMNS`, one row a red cell. A cell that was not measured has no shape.
    """
    table = pd.concat(
        [cells[["slide_id", *PLACE]].reset_index(drop=True), measures.reset_index(drop=True)], axis=1
    )
    measured = table["measured"].to_numpy(dtype=bool)
    n = len(table)
    shape, reason = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
    probability = np.full(n, np.nan)
    if predictions is not None and card is not None and measured.any():
        best = predictions.probabilities.argmax(axis=1)
        sure = predictions.probabilities.max(axis=1)
        names = np.array(predictions.classes, dtype=object)[best]
        own = card.review_thresholds or {}
        limit = np.array([own.get(name, card.review_threshold) for name in names])
        why = np.full(len(names), "", dtype=object)
        why[np.isin(names.astype(str), list(limits.always_review))] = RARE_SHAPE
        why[polychromatic(table[measured], limits) & (names == "spherocyte")] = BLUER
        why[predictions.ood_score >= predictions.ood_threshold] = UNLIKE_TRAINING
        why[sure < limit] = LOW_CONFIDENCE
        shape[measured], probability[measured], reason[measured] = names, sure, why
    table["shape"] = table["predicted_shape"] = shape
    table["probability"] = probability
    table["needs_review"] = reason != ""
    table["review_reason"] = reason
    table["reviewer"] = np.full(n, "", dtype=object)
    return table[list(RED_CELL_COLUMNS)]


def with_shape_corrections(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Fill the shapes that a person has given into the table of red cells.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `RED_CELL_COLUMNS`.
    cells : pandas.DataFrame
        Columns as in ``cells.csv``, with corrections.

    Returns
    -------
    pandas.DataFrame
        A copy. ``shape`` is the given class, and ``needs_review`` is false, where there is a correction; where one was
        withdrawn, the predicted shape stands again.
    """
    known = cells.set_index("cell_id")[["corrected_class", "reviewer"]]
    mine = known.reindex(table["cell_id"]).fillna("").astype(str)
    given = mine["corrected_class"].to_numpy(dtype=object)
    # "Red cell" says that it is one, and nothing of its shape.
    told = (given != "") & (given != RED_CELL)
    return table.assign(
        shape=np.where(told, given, table["predicted_shape"].to_numpy(dtype=object)),
        needs_review=(table["review_reason"].to_numpy(dtype=object) != "") & ~told,
        reviewer=np.where(told, mine["reviewer"].to_numpy(dtype=object), ""),
    )


def is_red_cell(table: pd.DataFrame, scheme: Scheme) -> np.ndarray:
    """Tell which rows are red cells: all but those that a person has given another class, as a platelet on one.

    Parameters
    ----------
    table : pandas.DataFrame, N rows
        Columns `RED_CELL_COLUMNS`.
    scheme : Scheme

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    return np.asarray(table["shape"].isin(["", RED_CELL, *scheme.shapes()]), dtype=bool)


def read_red_cells(folder: str | Path) -> pd.DataFrame | None:
    """Read ``red_cells.csv``.

    Parameters
    ----------
    folder : path-like
        Of a slide.

    Returns
    -------
    pandas.DataFrame or None
        None if the folder has no such file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = Path(folder) / RED_CELL_FILE
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(_TEXTS, str),
            keep_default_na=False,
            na_values=[""],
            encoding_errors="surrogateescape",
        )
        for name in (*_TEXTS[:-1], *(["field"] if "field" in table else [])):
            table[name] = table[name].fillna("").map(original_text).astype(object)
        return table.astype(
            {"cell_id": np.int64, "measured": bool, "needs_review": bool, "diameter_um": float}
        )
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"'{path}' cannot be read ({error}); analyse the slide again.") from error


def join_red_cells(tables: Iterable[pd.DataFrame | None]) -> pd.DataFrame | None:
    """Put the red cells of several fields into one table.

    Parameters
    ----------
    tables : iterable of pandas.DataFrame or None
        Of fields; None of fields whose red cells were not looked at.

    Returns
    -------
    pandas.DataFrame or None
        None if no field has a table.
    """
    known = [table for table in tables if table is not None]
    if not known:
        return None
    return pd.concat([table for table in known if len(table)] or known[:1], ignore_index=True)


__all__ = [
    "PLACE",
    "RARE_SHAPE",
    "RED_CELL_COLUMNS",
    "RED_CELL_FILE",
    "SHAPE_COLUMNS",
    "build_red_cell_table",
    "is_red_cell",
    "join_red_cells",
    "read_red_cells",
    "with_shape_corrections",
]
