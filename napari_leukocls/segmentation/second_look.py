"""Red cells that the first look leaves out: in heaps, pale, or cut by the edge of the picture.

Where the network is not certain of a cell, its flows are short, so that pixels do not reach a centre; their directions
are still right. The second look follows the directions alone, only where the first has found no cell, and takes what
is stained like the red cells of the same picture and has the shape of one. At last, a gap between cells that is stained
like them and not larger than one is the part that is seen of a covered cell.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from napari_leukocls.progress import stop_here
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX
from napari_leukocls.segmentation.dynamics import flow_agreement, masks_from_flows

#: Pixels of less evidence than this (logit of being in a cell) belong to none.
THRESHOLD = -3.0
#: Shortest flow whose direction is followed, as a share of a certain one.
SHORTEST = 0.05
#: Mean agreement of a cell's directions with the direction to its centre.
MIN_AGREEMENT = 0.4
#: Area of a cell, in units of a whole red cell.
LEAST_AREA, MOST_AREA = 0.1, 1.9
#: Least share of its convex hull that a cell fills.
LEAST_SOLID = 0.8
#: Density of the stain between that of glass (0) and that of the red cells of the picture (1): of pixels, of cells, and
#: of cells that the network is fairly certain of.
STAINED, DENSE, DENSE_IF_LIKELY = 0.5, 0.8, 0.6
#: Mean logit of a cell from which the network is fairly certain of it.
LIKELY = 0.5
#: Fewest pixels of red cells and of glass that say how dense they are.
FEWEST_PX = 100
#: Logit below which a pixel is certainly glass.
SURE_GLASS = -3.0
#: Of a gap that is a cell: density, area in units of a whole red cell, least share of its convex hull, and width in
#: pixels of the rims that do not count.
GAP_DENSE, GAP_AREA, GAP_SOLID, GAP_RIM = 0.7, (0.15, 1.5), 0.75, 7
#: Where two cells lie on each other it is dark, and the network is certain of a cell: least density and mean logit, and
#: largest area in units of a whole red cell. It is a part of one of the two.
OVERLAP_DENSE, OVERLAP_LIKELY, OVERLAP_AREA = 1.4, 9.0, 0.35
RED_CELL, LEUKOCYTE = 1, 2
#: Length of the flows that the dynamics expect.
_UNIT = 5.0
#: Euler steps, of one pixel each: more than half a red cell.
_STEPS = 48
_RED_AREA = np.pi / 4 * NETWORK_DIAMETER_PX**2


def look_again(
    labels: np.ndarray,
    votes: np.ndarray,
    flow: np.ndarray,
    cell: np.ndarray,
    kind: np.ndarray,
    stain: np.ndarray,
    device: str,
) -> np.ndarray:
    """Find more red cells where the first look has found none.

    Parameters
    ----------
    labels : numpy.ndarray, (h, w), int32
        Cells of the first look, 1..N.
    votes : numpy.ndarray, (N, 4), float32
        Mean class map of each.
    flow : numpy.ndarray, (2, h, w), float32
    cell : numpy.ndarray, (h, w), float32
        Logit of being in a cell.
    kind : numpy.ndarray, (4, h, w), float32
        Logits of background, red cell, leukocyte and platelet.
    stain : numpy.ndarray, (h, w), float32
        Mean absorbance.
    device : str
        A torch device.

    Returns
    -------
    numpy.ndarray, (h, w), int32
        The same cells with the same numbers, and further ones from N + 1 on.
    """
    density = relative_density(labels, votes, cell, stain)
    if density is None:
        return labels
    result = _along_directions(labels, flow, cell, kind, density, device)
    return _with_gaps(result, cell, kind, density)


def _along_directions(
    labels: np.ndarray,
    flow: np.ndarray,
    cell: np.ndarray,
    kind: np.ndarray,
    density: np.ndarray,
    device: str,
) -> np.ndarray:
    """Add the cells to whose middle the directions of the flows lead."""
    stained = ndimage.binary_opening(density > STAINED) | (cell > 0)
    free = (labels == 0) & stained & (cell > THRESHOLD) & (kind.argmax(axis=0) != LEUKOCYTE)
    if free.sum() < LEAST_AREA * _RED_AREA:
        return labels
    length = np.maximum(np.hypot(*flow) / _UNIT, SHORTEST)
    directions = (flow / length).astype(np.float32)
    found = masks_from_flows(
        directions,
        np.where(free, cell, THRESHOLD - 1).astype(np.float32),
        steps=_STEPS,
        threshold=THRESHOLD,
        min_area=int(LEAST_AREA * _RED_AREA),
        max_share=1.0,
        device=device,
    )
    return _with_believable(labels, found, directions, cell, kind, density)


def relative_density(
    labels: np.ndarray, votes: np.ndarray, cell: np.ndarray, stain: np.ndarray
) -> np.ndarray | None:
    """Measure the stain in units of the picture's own red cells.

    Parameters
    ----------
    labels : numpy.ndarray, (h, w), int32
    votes : numpy.ndarray, (N, 4), float32
    cell : numpy.ndarray, (h, w), float32
    stain : numpy.ndarray, (h, w), float32

    Returns
    -------
    numpy.ndarray, (h, w), float32, or None
        0 is glass and 1 the median of the red cells; None where there are too few of them, or no glass.
    """
    red = np.concatenate([[False], votes.argmax(axis=1) == RED_CELL]) if len(votes) else np.zeros(1, bool)
    inside, glass = red[labels], cell < SURE_GLASS
    if inside.sum() < FEWEST_PX:
        return None
    # In a field without a gap, the absorbance's own zero is the glass.
    zero = float(np.median(stain[glass])) if glass.sum() >= FEWEST_PX else 0.0
    one = float(np.median(stain[inside]))
    if one - zero < 1e-3:
        return None
    array: np.ndarray = (stain - zero) / (one - zero)
    return array


def _with_believable(
    labels: np.ndarray,
    found: np.ndarray,
    directions: np.ndarray,
    cell: np.ndarray,
    kind: np.ndarray,
    density: np.ndarray,
) -> np.ndarray:
    """Add the cells that are like red cells in stain, size and shape."""
    agreement = flow_agreement(found, directions)
    result, number = labels.copy(), int(labels.max(initial=0))
    for index, where in enumerate(ndimage.find_objects(found), start=1):
        stop_here()
        if where is None or agreement[index] < MIN_AGREEMENT:
            continue
        mask = _smooth(found[where] == index) & (labels[where] == 0)
        area = int(mask.sum())
        if not LEAST_AREA <= area / _RED_AREA <= MOST_AREA or _solidity(mask) < LEAST_SOLID:
            continue
        logits = kind[(slice(None), *where)][:, mask].mean(axis=1)
        dense, likely = density[where][mask].mean(), cell[where][mask].mean()
        if logits[RED_CELL] < logits[LEUKOCYTE:].max() or _is_overlap(result, where, mask, dense, likely):
            continue
        if dense >= DENSE or (likely >= LIKELY and dense >= DENSE_IF_LIKELY):
            number += 1
            result[where][mask & (result[where] == 0)] = number
    return result


def _with_gaps(labels: np.ndarray, cell: np.ndarray, kind: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Add gaps between cells that are stained like red cells and not larger than one."""
    free = (labels == 0) & (density > GAP_DENSE) & (kind.argmax(axis=0) < LEUKOCYTE)
    if free.sum() < GAP_AREA[0] * _RED_AREA:
        return labels
    rim = GAP_RIM
    padded = cv2.copyMakeBorder(free.astype(np.uint8), rim, rim, rim, rim, cv2.BORDER_REPLICATE)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim))
    wide = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)[rim:-rim, rim:-rim]
    count, parts, facts, _ = cv2.connectedComponentsWithStats(wide, connectivity=4)
    result, number = labels.copy(), int(labels.max(initial=0))
    for part in range(1, count):
        stop_here()
        x, y, width, height, area = (int(fact) for fact in facts[part])
        if not GAP_AREA[0] <= area / _RED_AREA <= GAP_AREA[1]:
            continue
        where = (slice(y, y + height), slice(x, x + width))
        mask = parts[where] == part
        dense, likely = density[where][mask].mean(), cell[where][mask].mean()
        if _solidity(mask) >= GAP_SOLID and not _is_overlap(result, where, mask, dense, likely):
            number += 1
            result[where][mask] = number
    return result


def _is_overlap(
    result: np.ndarray, where: tuple[slice, ...], mask: np.ndarray, dense: float, likely: float
) -> bool:
    """Whether a piece is where two cells lie on each other; if so, it is given to the cell that it borders on most."""
    if dense < OVERLAP_DENSE or likely < OVERLAP_LIKELY or mask.sum() > OVERLAP_AREA * _RED_AREA:
        return False
    around = tuple(
        slice(max(0, part.start - 2), min(side, part.stop + 2))
        for part, side in zip(where, result.shape, strict=True)
    )
    whole = np.zeros(result[around].shape, bool)
    whole[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(where, around, strict=True))] = (
        mask
    )
    near = result[around][ndimage.binary_dilation(whole, iterations=2) & ~whole]
    near = near[near > 0]
    if not len(near):
        return False
    inside = result[around]
    inside[whole & (inside == 0)] = np.bincount(near).argmax()
    return True


def _smooth(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask, without thin fringes."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 3, 3, 3, 3, cv2.BORDER_REPLICATE)
    padded = cv2.morphologyEx(padded, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    parts, numbers, facts, _ = cv2.connectedComponentsWithStats(padded[3:-3, 3:-3], connectivity=4)
    if parts < 2:
        return np.zeros(mask.shape, bool)
    array: np.ndarray = (numbers == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())) & mask
    return array


def _solidity(mask: np.ndarray) -> float:
    """Share of its convex hull that a mask fills."""
    contours, _ = cv2.findContours(np.pad(mask, 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return 0.0
    hull = cv2.convexHull(max(contours, key=len))
    drawn = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    cv2.fillConvexPoly(drawn, hull, 1)
    return float(mask.sum() / max(int(drawn.sum()), 1))
