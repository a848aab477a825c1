"""Cellpose's flow dynamics in two dimensions: pixels follow the flow, and those that meet are one cell.

The results are the same as those of ``cellpose.dynamics.compute_masks`` without its check of the flows. Cellpose's
module also imports torchvision, which takes longer to import than torch.

References
----------
.. [1] Stringer, C., Wang, T., Michaelos, M. & Pachitariu, M. (2021). Cellpose: a generalist algorithm for cellular
   segmentation. Nature Methods 18, 100-106.
.. [2] Cellpose, https://github.com/MouseLand/cellpose, BSD-3-Clause.
"""

from __future__ import annotations

import fastremap
import fill_voids
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from napari_leukocls.progress import stop_here

#: Width of the border around the histogram of end points, pixels.
_BORDER = 20
#: More pixels than this must end at a point for a cell to start there.
_SEED_PIXELS = 10
#: More pixels than this must end at a point for a cell to grow over it.
_GROW_PIXELS = 2
#: How far a cell grows from its start, pixels in the histogram.
_GROW_STEPS = 5


def masks_from_flows(
    flow: np.ndarray,
    cell: np.ndarray,
    *,
    steps: int,
    threshold: float,
    min_area: int,
    max_share: float,
    device: str,
) -> np.ndarray:
    """Find cells from flows and cell probabilities.

    Parameters
    ----------
    flow : numpy.ndarray, (2, h, w), float32
        Along y and x; five times the unit vectors that lead to the cell's centre.
    cell : numpy.ndarray, (h, w), float32
        Logit of being in a cell.
    steps : int
        Euler steps, of one pixel each.
    threshold : float
        Pixels whose logit is above this belong to cells.
    min_area : int
        Smaller cells are left out, pixels.
    max_share : float
        Cells that cover more than this share of the image are left out.
    device : str
        A torch device.

    Returns
    -------
    numpy.ndarray, (h, w), int32
        0 is background, cells are 1..N without gaps.
    """
    inside = cell > threshold
    pixels = np.nonzero(inside)
    labels = np.zeros(cell.shape, np.int32)
    if len(pixels[0]) == 0:
        return labels
    ends = follow_flows(flow * inside / 5.0, pixels, steps, device).int()
    if device == "mps":
        ends = ends.cpu()  # Apple's graphics cards lack some of what follows
    labels[pixels] = _group(ends, cell.shape)
    sizes = np.bincount(labels.ravel())
    too_large = np.flatnonzero(sizes > labels.size * max_share)
    if too_large.any():
        labels = fastremap.mask(labels, too_large)
    # Cells are numbered in the order of their first pixels.
    fastremap.renumber(labels, in_place=True)
    return _whole_cells(labels, min_area)


def follow_flows(
    flow: np.ndarray, pixels: tuple[np.ndarray, ...], steps: int, device: str = "cpu"
) -> torch.Tensor:
    """Let pixels follow a flow by Euler's method, with the flow interpolated between pixels.

    Parameters
    ----------
    flow : numpy.ndarray, (2, h, w), float32
        Along y and x, in pixels.
    pixels : tuple of numpy.ndarray, each (N,)
        y and x of the pixels that move.
    steps : int
    device : str
        A torch device.

    Returns
    -------
    torch.Tensor, (2, N), float32
        y and x where the pixels end.
    """
    height, width = flow.shape[1:]
    extent = (float(width - 1), float(height - 1))
    # grid_sample wants x before y, and the image from -1 to 1.
    field = torch.empty((1, 2, height, width), dtype=torch.float32, device=device)
    at = torch.empty((1, 1, len(pixels[0]), 2), dtype=torch.float32, device=device)
    for axis, (part, position) in enumerate(zip(flow[::-1], pixels[::-1], strict=True)):
        field[0, axis] = torch.from_numpy(np.ascontiguousarray(part)).to(device, torch.float32)
        field[0, axis] *= 2.0 / extent[axis]
        at[..., axis] = torch.from_numpy(position).to(device, torch.float32)
        at[..., axis] /= extent[axis]
    at *= 2
    at -= 1
    for _ in range(steps):
        stop_here()
        step = functional.grid_sample(field, at, align_corners=False)
        for axis in range(2):
            at[..., axis] += step[:, axis]
            at[..., axis].clamp_(-1.0, 1.0)
    at += 1
    at *= 0.5
    for axis in range(2):
        at[..., axis] *= extent[axis]
    return at[0, 0].flip(1).T


def flow_agreement(labels: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Measure how well the flows of each cell lead to its centre.

    Parameters
    ----------
    labels : numpy.ndarray, (h, w), int32
        Cells 1..N.
    flow : numpy.ndarray, (2, h, w), float32
        Along y and x; five times the unit vectors.

    Returns
    -------
    numpy.ndarray, (N + 1,), float64
        Mean cosine of the angle between flow and direction to the centre, times the length of the flow; entry 0
        is of no cell, and 0.
    """
    count = int(labels.max(initial=0)) + 1
    y, x = np.nonzero(labels)
    ids = labels[y, x]
    area = np.maximum(np.bincount(ids, minlength=count), 1)
    to_y = (np.bincount(ids, y, count) / area)[ids] - y
    to_x = (np.bincount(ids, x, count) / area)[ids] - x
    away = np.maximum(np.hypot(to_y, to_x), 1e-6)
    # The network's flows are five times the unit vectors, as cellpose's are.
    along = (to_y * flow[0][y, x] + to_x * flow[1][y, x]) / (5 * away)
    array: np.ndarray = np.bincount(ids, along, count) / area
    return array


def _group(ends: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Give pixels that end at the same peak one label: (N,), int32, of the end points (2, N)."""
    height, width = (side + 2 * _BORDER for side in shape)
    y, x = ((part + _BORDER).clamp(0, side + _BORDER - 1) for part, side in zip(ends, shape, strict=True))
    index = y.long() * width + x
    count = torch.bincount(index, minlength=height * width).int()
    histogram = count.view(height, width)
    highest = functional.max_pool2d(histogram.float()[None], 5, 1, 2)[0]
    peaks = torch.nonzero((histogram == highest) & (histogram > _SEED_PIXELS))
    if len(peaks) == 0:
        return np.zeros(len(index), np.int32)
    # Where two cells would grow over one point, the one with the higher peak takes it.
    peaks = peaks[histogram[peaks[:, 0], peaks[:, 1]].argsort()]
    near = torch.arange(-_GROW_STEPS, _GROW_STEPS + 1, device=ends.device)
    around = (near[:, None] * width + near).flatten() + (peaks[:, 0] * width + peaks[:, 1])[:, None]
    side = len(near)
    crowded = (count[around] > _GROW_PIXELS).view(-1, side, side)
    grown = torch.zeros(crowded.shape, device=ends.device)
    grown[:, _GROW_STEPS, _GROW_STEPS] = 1
    for _ in range(_GROW_STEPS):
        grown = functional.max_pool2d(grown, 3, 1, 1) * crowded
    owner, within = torch.nonzero(grown.flatten(1)).T
    labels = torch.zeros(height * width, dtype=torch.int32, device=ends.device)
    labels.scatter_reduce_(0, around[owner, within], owner.int() + 1, reduce="amax", include_self=False)
    return labels[index].cpu().numpy()


def _whole_cells(labels: np.ndarray, min_area: int) -> np.ndarray:
    """Fill the holes of cells, and leave out cells that are small before or after."""
    labels = _without_small(labels, min_area)
    for index, where in enumerate(ndimage.find_objects(labels)):
        stop_here()
        assert where is not None  # labels have no gaps
        labels[where][fill_voids.fill(labels[where] == index + 1)] = index + 1
    return _without_small(labels, min_area)


def _without_small(labels: np.ndarray, min_area: int) -> np.ndarray:
    areas = np.bincount(labels.ravel())
    # A cell that another one covers has no pixels left, and is no label.
    small = 1 + np.flatnonzero((areas[1:] < min_area) & (areas[1:] > 0))
    if len(small):
        labels = fastremap.mask(labels, small)
    fastremap.renumber(labels, in_place=True)
    return labels
