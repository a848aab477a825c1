"""Labels as OME-TIFF: tiled, compressed, with the size of a pixel."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tifffile import TiffWriter

from napari_leukocls.results.exports._laboratory import report_id
from napari_leukocls.types import FieldResult

TILE = 512


def write(result: FieldResult, path: Path) -> None:
    """Write the label image; the value of a pixel is its ``cell_id``.

    Parameters
    ----------
    result : FieldResult
    path : Path
        Within a folder that is being filled.
    """
    scale = float(result.um_per_px)
    metadata: dict[str, object] = {
        "axes": "YX",
        "Name": _xml_text(result.slide_id),
        # The writer's own would be another one every time.
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{report_id(result)} labels")),
    }
    if math.isfinite(scale) and scale > 0:
        metadata |= {
            "PhysicalSizeX": scale,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": scale,
            "PhysicalSizeYUnit": "µm",
        }
    with TiffWriter(path, ome=True, bigtiff=math.prod(result.labels.shape) > 2**29) as file:
        file.write(
            _tiles(result),
            shape=result.labels.shape,
            dtype=np.int32,
            tile=(TILE, TILE),
            compression="zlib",
            photometric="minisblack",
            software="napari-leukocls",
            metadata=metadata,
        )


def _tiles(result: FieldResult) -> Iterator[np.ndarray]:
    """Tiles from left to right and top to bottom; the labels may be larger than memory."""
    height, width = result.labels.shape
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            part = np.asarray(result.labels[y : y + TILE, x : x + TILE], dtype=np.int32)
            tile = np.zeros((TILE, TILE), np.int32)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _xml_text(text: str) -> str:
    """`text` without what XML cannot hold."""
    kept = (sign if sign.isprintable() else "?" for sign in text)
    return "".join(kept)
