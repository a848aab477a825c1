"""A network over an image larger than its tile: overlapping tiles, and their outputs blended.

The results are the same as those of ``cellpose.core.run_net`` for one image without resizing. Cellpose's module also
imports torchvision, which takes longer to import than torch.
"""

from __future__ import annotations

import numpy as np
import torch

from napari_leukocls.progress import stop_here
from napari_leukocls.segmentation.compact_net import CompactNet

#: Sides of what the network sees are multiples of this, pixels.
_MULTIPLE = 16
#: Where a tile's weight has fallen to a half, pixels from its edge, and how steeply it falls.
_TAPER, _STEEPNESS = 20, 7.5
#: Side for which the weights are computed; smaller tiles take the middle of them.
_TAPER_SIDE = 224


def run_in_tiles(
    net: CompactNet, image: np.ndarray, *, sides: tuple[int, int], overlap: float, batch_size: int
) -> np.ndarray:
    """Run a network over an image in overlapping tiles.

    Parameters
    ----------
    net : CompactNet
        In evaluation mode, on its device.
    image : numpy.ndarray, (h, w, channels), float32
        Zero is what surrounds it.
    sides : tuple of int
        Height and width of a tile, pixels; multiples of 16.
    overlap : float
        Share of a tile that its neighbour also covers, about.
    batch_size : int
        Tiles a batch.

    Returns
    -------
    numpy.ndarray, (outputs, h, w), float32
        Where tiles overlap, their mean with weights that fall towards the edges of a tile.
    """
    rows, columns = (_padding(length, side) for length, side in zip(image.shape[:2], sides, strict=True))
    padded = np.pad(image.transpose(2, 0, 1), ((0, 0), rows, columns))
    height, width = padded.shape[1:]
    tall, wide = sides
    corners = [(y, x) for y in _starts(height, tall, overlap) for x in _starts(width, wide, overlap)]
    weights = _taper(tall)[:, None] * _taper(wide)
    total = np.zeros((height, width))
    blended: np.ndarray | None = None
    for first in range(0, len(corners), batch_size):
        stop_here()
        batch = corners[first : first + batch_size]
        tiles = np.stack([padded[:, y : y + tall, x : x + wide] for y, x in batch])
        for (y, x), output in zip(batch, _outputs(net, tiles), strict=True):
            if blended is None:
                blended = np.zeros((len(output), height, width), np.float32)
            blended[:, y : y + tall, x : x + wide] += output * weights
            total[y : y + tall, x : x + wide] += weights
    assert blended is not None
    blended /= total
    inner = (slice(rows[0], height - rows[1]), slice(columns[0], width - columns[1]))
    return np.ascontiguousarray(blended[(slice(None), *inner)])


@torch.no_grad()
def _outputs(net: CompactNet, tiles: np.ndarray) -> np.ndarray:
    """Run a batch: (B, channels, h, w) to (B, outputs, h, w), float32."""
    images = torch.from_numpy(tiles).to(net.device, net.dtype)
    array: np.ndarray = net(images)[0].cpu().float().numpy()
    return array


def _padding(length: int, side: int) -> tuple[int, int]:
    """Pixels before and after an axis: it becomes a multiple of 16, has an edge, and is no shorter than a tile."""
    if length >= side:
        more = -length % _MULTIPLE
    else:
        more = max(0, side - length - _MULTIPLE)
    return _MULTIPLE // 2 + more // 2, _MULTIPLE // 2 + more - more // 2


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis, evenly."""
    count = 1 if length <= side else int(np.ceil((1 + 2 * overlap) * length / side))
    return [int(start) for start in np.linspace(0, length - side, count)]


def _taper(side: int) -> np.ndarray:
    """Weights along a side of a tile, (side,): 1 in the middle, and less towards its ends."""
    full = max(_TAPER_SIDE, side)
    from_middle = np.abs(np.arange(full) - (full - 1) / 2)
    along = 1 / (1 + np.exp((from_middle - (full / 2 - _TAPER)) / _STEEPNESS))
    first = full // 2 - side // 2
    array: np.ndarray = along[first : first + side]
    return array
