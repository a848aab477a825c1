"""Segmenters by name.

The embedded one is ready at once. Cellpose and scikit-image's watershed take long to import, so they are imported
when they are needed.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from napari_leukocls.errors import ModelError
from napari_leukocls.models.registry import find_model
from napari_leukocls.segmentation.base import CELLPOSE_NAMES, Segmenter
from napari_leukocls.segmentation.compact import CompactSegmenter, load_compact

COMPACT = "compact"

THRESHOLD = "threshold"


def compact(device: str) -> CompactSegmenter:
    """Load the embedded segmenter, which also reads the scale and the cells' kinds for the others.

    Parameters
    ----------
    device : str
        A torch device.

    Returns
    -------
    CompactSegmenter

    Raises
    ------
    ModelError
        Where the model is missing or damaged.
    """
    return load_compact(find_model(COMPACT).path, device)


def segmenter(name: str, device: str) -> Segmenter:
    """Load a segmenter by name, or a cellpose network by its file.

    Parameters
    ----------
    name : str
        ``compact``, ``threshold``, a name that cellpose 4 knows, or a path.
    device : str
        A torch device.

    Returns
    -------
    Segmenter

    Raises
    ------
    ModelError
        Where there is none of that name (the nearest is suggested), or its file is missing or not cellpose's.
    DeviceError
        Where it does not fit the memory of the device.
    """
    if name == COMPACT:
        return compact(device)
    if name == THRESHOLD:
        from napari_leukocls.segmentation.threshold import ThresholdSegmenter

        return ThresholdSegmenter()
    path = foreign_weights(name)
    if path.is_file():
        from napari_leukocls.segmentation.cellpose import CellposeSegmenter

        return CellposeSegmenter(path, path.name, device)
    known = (COMPACT, THRESHOLD, *CELLPOSE_NAMES)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"use one of {', '.join(known)}, or the path of a cellpose model."
    )
    raise ModelError(f"there is no segmenter {name!r}: {hint}")


def foreign_weights(name: str) -> Path:
    """Return the file of a segmenter that is not the project's own, without loading it.

    Parameters
    ----------
    name : str
        A name that cellpose 4 knows, or a path.

    Returns
    -------
    Path
        For a path, that path, whether or not there is a file.

    Raises
    ------
    ModelError
        Where a network that cellpose knows by name is not on this computer.
    """
    if name not in CELLPOSE_NAMES:
        return Path(name)
    from napari_leukocls.segmentation.cellpose import model_file

    return model_file(name)
