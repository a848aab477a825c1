"""Segmenters by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from napari_leukocls.errors import ModelError
from napari_leukocls.models.registry import find_model
from napari_leukocls.segmentation.base import CELLPOSE_NAMES, Segmenter
from napari_leukocls.segmentation.cellpose import CellposeSegmenter, model_file
from napari_leukocls.segmentation.compact import CompactSegmenter, load_compact
from napari_leukocls.segmentation.threshold import ThresholdSegmenter

COMPACT = "compact"

THRESHOLD = "threshold"


def compact(device: str) -> CompactSegmenter:
    """Load the embedded segmenter, which also reads the scale and the cells' kinds for the others."""
    return load_compact(find_model(COMPACT).path, device)


def segmenter(name: str, device: str) -> Segmenter:
    """Load a segmenter by name, or a cellpose network by its file.

    Parameters
    ----------
    name : str
        ``compact``, ``threshold``, a name that cellpose 4 knows, or a path.
    device : str

    Raises
    ------
    ModelError
        Where there is none of that name; the nearest is suggested.
    """
    if name == COMPACT:
        return compact(device)
    if name == THRESHOLD:
        return ThresholdSegmenter()
    if name in CELLPOSE_NAMES:
        return CellposeSegmenter(model_file(name), name, device)
    path = Path(name)
    if path.is_file():
        return CellposeSegmenter(path, path.name, device)
    known = (COMPACT, THRESHOLD, *CELLPOSE_NAMES)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"use one of {', '.join(known)}, or the path of a cellpose model."
    )
    raise ModelError(f"there is no segmenter {name!r}: {hint}")
