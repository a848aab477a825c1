"""AnnData (.h5ad): a row a cell, a column a class; for scanpy and the like."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem

from napari_leukocls.io.serialise import to_plain
from napari_leukocls.types import SlideResult

if TYPE_CHECKING:
    from anndata import AnnData


def write(result: SlideResult, path: Path) -> None:
    """Write probabilities as ``X``, the rest of the table as ``obs``, places (x, y in pixels) as ``spatial``.

    Parameters
    ----------
    result : SlideResult
        Cells that no classifier saw have NaN in ``X``.
    path : Path
        Within a folder that is being filled.
    """
    with warnings.catch_warnings():
        # Its imports warn of what its own dependencies will change.
        warnings.simplefilter("ignore")

    cells = result.cells
    names = [column for column in cells.columns if column.startswith("prob_")]
    fields = cells["field"].astype(str) + "/" if "field" in cells.columns else ""
    index = (fields + cells["cell_id"].astype(str)).to_numpy(dtype=object)
    table = anndata.AnnData(
        X=cells[names].to_numpy(np.float32),
        obs=_storable(cells.drop(columns=names), index),
        var=pd.DataFrame(index=pd.Index([name[5:] for name in names], dtype=object)),
        obsm={"spatial": cells[["centroid_x", "centroid_y"]].to_numpy(float)},
        uns={
            "leukocls": json.dumps(to_plain(result.run), sort_keys=True),
            "counts": _storable(result.counts, result.counts["class"].to_numpy(dtype=object)),
            "notice": "For research and for training. Not for diagnosis.",
        },
    )
    path.write_bytes(_hdf5(table))


def _hdf5(table: AnnData) -> bytes:
    """The bytes of a table's file.

    They are made in memory: where HDF5 finds no room on a disk its errors do not tell that from another fault,
    and come again when its half-written file is given up.
    """
    with h5py.File("cells.h5ad", "w", driver="core", backing_store=False) as file:
        write_elem(file, "/", table, dataset_kwargs={"compression": "gzip"})
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _storable(table: pd.DataFrame, index: np.ndarray) -> pd.DataFrame:
    """A table as HDF5 can hold it: plain texts, and what UTF-8 does not know written out."""
    columns = {}
    for name in table.columns:
        column = table[name]
        if not (pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)):
            texts = [_text(value) for value in column]
            columns[name] = pd.Series(texts, index=index, dtype=object).astype("category")
            levels = columns[name].cat.categories.astype(object)
            columns[name] = columns[name].cat.set_categories(levels)
        else:
            columns[name] = pd.Series(column.to_numpy(), index=index)
    return pd.DataFrame(columns, index=pd.Index(index, dtype=object))


def _text(value: object) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")
