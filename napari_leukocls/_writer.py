"""Napari's writer hooks: cells and counts as CSV."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import write_table
from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.measurement.differential import differential
from napari_leukocls.measurement.fine import as_counted
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult


def write_cells(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the table of cells of a labels layer as CSV.

    Parameters
    ----------
    path : str
    data : array-like, (H, W), int
        The labels.
    meta : dict
        Attributes of the layer, as napari gives them.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    InputError
        If the layer has no classes.
    OutputError
        If the file cannot be written.
    """
    cells, _ = _tables(data, meta)
    return [str(write_table(cells, path))]


def write_counts(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write the counts by class of a labels layer as CSV.

    Parameters
    ----------
    path : str
    data : array-like, (H, W), int
        The labels.
    meta : dict
        Attributes of the layer, as napari gives them.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    InputError
        If the layer has no classes.
    OutputError
        If the file cannot be written.
    """
    _, counts = _tables(data, meta)
    return [str(write_table(counts, path))]


def _tables(data: Any, meta: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and counts of a labels layer: of the result that it shows, else of its features and its pixels."""
    if meta.get("metadata", {}).get("leukocls_blind"):
        raise InputError("a blind second read is open: finish or interrupt it, then save the layer.")
    result = meta.get("metadata", {}).get("leukocls")
    if isinstance(result, FieldResult):
        result = as_counted(result)
        return result.cells, result.counts
    features = pd.DataFrame(meta.get("features", {}))
    name = str(meta.get("name", "layer"))
    if "class" not in features or "index" not in features:
        raise InputError(
            f"the layer '{name}' has no classes: analyse the smear first, or give the layer features 'index' and "
            "'class'."
        )
    found = cell_geometry(np.asarray(data))
    known = features.set_index("index").reindex(found.ids)
    scheme = default_scheme()
    classes = [scheme.resolve(str(one)) or "not_classed" for one in known["class"]]
    cells = pd.DataFrame({"slide_id": name, "cell_id": found.ids, "class": classes})
    for i, column in enumerate(("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")):
        cells[column] = found.bbox[:, i]
    cells["centroid_y"], cells["centroid_x"] = found.centroid.T
    cells["area_px"] = found.area
    settled = cells.assign(needs_review=False, corrected_class="")
    return cells, differential(settled, scheme, sorted(set(classes)), slide_id=name)
