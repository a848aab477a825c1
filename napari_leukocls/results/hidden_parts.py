"""What a label image cannot hold, in ``outlines.json``: whole outlines of covered cells, and heaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.types import Segmentation

#: Name of the file in the folder of a slide; only written where there is something to say.
FILE = "outlines.json"


def write_hidden(folder: Path, segmentation: Segmentation) -> None:
    """Write the outlines that overlap and the heaps, if there are any.

    Parameters
    ----------
    folder : Path
        Within a folder that is being filled.
    segmentation : Segmentation
    """
    if not segmentation.outlines and not segmentation.heaps:
        return
    data = {
        "unit": "pixel",
        "outlines": {str(cell): _rounded(line) for cell, line in sorted(segmentation.outlines.items())},
        "heaps": [_rounded(heap) for heap in segmentation.heaps],
    }
    (folder / FILE).write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def read_hidden(folder: str | Path) -> tuple[Mapping[int, np.ndarray], tuple[np.ndarray, ...]]:
    """Read ``outlines.json``.

    Parameters
    ----------
    folder : path-like
        Of a slide.

    Returns
    -------
    outlines : dict of int to numpy.ndarray, (M, 2), float32
    heaps : tuple of numpy.ndarray, (M, 2), float32
        Both empty if there is no such file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = Path(folder) / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        outlines = {int(cell): _polygon(line) for cell, line in data["outlines"].items()}
        return outlines, tuple(_polygon(heap) for heap in data["heaps"])
    except FileNotFoundError:
        return {}, ()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' is damaged: analyse the slide again.") from error


def _rounded(line: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in line]


def _polygon(points: list[list[float]]) -> np.ndarray:
    polygon = np.array(points, np.float32).reshape(-1, 2)
    if len(polygon) < 3 or not np.isfinite(polygon).all():
        raise ValueError("no polygon")
    return polygon
