"""The red cell as a ruler: how large a pixel is, read from the image itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_leukocls.progress import drain
from napari_leukocls.segmentation.compact import absorbance
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX
from napari_leukocls.types import Scale, SmearImage

if TYPE_CHECKING:
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.segmentation.base import Outlines
    from napari_leukocls.segmentation.compact import CompactSegmenter

#: Diameter of a red cell on a dried film, micrometres (normal 6.7-7.7); a convention, stated in results.
RED_CELL_UM = 7.5
#: Diameters (pixels) at which the coarse pass looks; the network bears half to double of what it expects.
CANDIDATES_PX = (15.0, 25.0, 42.0, 71.0, 120.0, 202.0, 340.0)
#: Side that an image is reduced to for the first guess, pixels.
GUESS_SIDE = 512
#: Largest pale middle of a cell there, pixels: a disc of 64.
MAX_HOLE = 3200
#: Ratio between the sizes at which an image is looked at. The network bears several times as much.
STEP = 1.15
#: A look measures what it expected within this many octaves.
AGREES = 0.25
#: Looks at most before a guess is given up.
MAX_LOOKS = 5
#: Quality from which a reading is taken at once: held-out fields read 0.05 to 0.3, wrong sizes under 0.03.
GOOD_QUALITY = 0.04
#: Side of the windows that the coarse pass looks at, network pixels.
WINDOW = 256
#: Whole red cells below which the ruler is unsure.
MIN_RED_CELLS = 6
#: Relative spread of diameters above which the ruler is unsure.
MAX_SPREAD = 0.25
#: A given scale is doubted where red cells measure this many times more or less than it says. Red cells of people
#: are 6.7 to 7.7 um across, of microcytosis down to 5.5: far from this factor.
DOUBTED = 1.6
#: The same where no red cell can be measured, and only the width of what is stained is known.
DOUBTED_BY_STAIN = 3.5
#: Red cells side by side in the part of a field that is measured for that.
DOUBT_CELLS = 40


def find_scale(
    image: SmearImage,
    config: AnalyzeConfig,
    compact: CompactSegmenter,
    fields: Callable[[], Sequence[np.ndarray]] | None = None,
) -> tuple[Scale, list[str]]:
    """Take the scale from the user, else the file, else the red cells; say so where it is unsure.

    Parameters
    ----------
    image : SmearImage
    config : AnalyzeConfig
        Its ``diameter_px`` and ``pixel_size_um`` are the user's scale.
    compact : CompactSegmenter
        Outlines the red cells that are measured.
    fields : callable, optional
        Gives the fields whose red cells are measured, where that is needed; by default the image itself.

    Returns
    -------
    scale : Scale
    warnings : list of str
    """
    given = None
    if config.diameter_px is not None:
        given = Scale(RED_CELL_UM / config.diameter_px, config.diameter_px, "user")
    elif config.pixel_size_um is not None:
        given = Scale(config.pixel_size_um, RED_CELL_UM / config.pixel_size_um, "user")
    elif image.um_per_px is not None:
        given = Scale(image.um_per_px, RED_CELL_UM / image.um_per_px, "metadata")
    if given is not None:
        return (given, []) if fields is not None else _doubts(given, image, compact)
    reading = estimate_diameter(compact, [image.pixels] if fields is None else fields())
    scale = scale_of(reading, min(80.0, max(15.0, 0.12 * min(image.pixels.shape[:2]))))
    if scale.source == "unknown":
        return scale, ["the scale is unknown (no red cell found): give --diameter-px or --pixel-size-um."]
    if not scale.sure:
        note = (
            f"the scale is unsure (red cells {scale.red_cell_diameter_px:.0f} px from {scale.n_cells} cells, "
            f"spread {100 * scale.spread:.0f} %): check it, or give --diameter-px."
        )
        return scale, [note]
    return scale, []


def _doubts(given: Scale, image: SmearImage, compact: CompactSegmenter) -> tuple[Scale, list[str]]:
    """Compare a given scale with the red cells; where they differ much it is unsure, with a warning."""
    expected = given.red_cell_diameter_px
    # The middle of a large field is enough, and keeps cells of the given size large enough for the first guess.
    side = int(np.ceil(DOUBT_CELLS * expected))
    rows, columns = (slice(max(0, (n - side) // 2), (n + side) // 2 + 1) for n in image.pixels.shape[:2])
    part = np.ascontiguousarray(image.pixels[rows, columns])
    guess = guess_diameter(part)
    if guess is None:
        return given, []
    reading = _measured(compact, part, expected)
    if reading is not None:
        found, limit, what = (
            reading.diameter_px,
            DOUBTED,
            f"the {reading.n_cells} red cells that were measured are",
        )
    else:
        found, limit, what = guess, DOUBTED_BY_STAIN, "what is stained here is"
    if 1 / limit < found / expected < limit:
        return given, []
    warning = (
        f"the scale ({given.um_per_px:.3g} um a pixel, from the {given.source}) makes red cells "
        f"{expected:.0f} px across, but {what} about {found:.0f} px wide: check it."
    )
    return replace(given, sure=False), [warning]


def _measured(compact: CompactSegmenter, pixels: np.ndarray, expected: float) -> Reading | None:
    """Measure the red cells of a field whose scale is given; None where they do not give a sure reading."""
    reading = _look(compact, [pixels], expected)
    octaves = abs(np.log2(reading.diameter_px / expected)) if reading.diameter_px else np.inf
    if reading.quality < GOOD_QUALITY or octaves > AGREES:
        reading = estimate_diameter(compact, [pixels])
    sure = (
        reading.n_cells >= MIN_RED_CELLS and reading.spread <= MAX_SPREAD and reading.quality >= GOOD_QUALITY
    )
    return reading if sure else None


def steady_diameter(image: SmearImage, scale: Scale) -> float:
    """Return the diameter of a red cell with which a field is segmented.

    Parameters
    ----------
    image : SmearImage
    scale : Scale
        If it was measured on the red cells, its diameter is rounded to one of a fixed series.

    Returns
    -------
    float
        Pixels.
    """
    if scale.source != "red_cell_ruler":
        return scale.red_cell_diameter_px
    return working_diameter(scale.red_cell_diameter_px, image.pixels.shape[:2])


@dataclass(frozen=True)
class Reading:
    """Red cells measured in one pass: their middle diameter (pixels), spread, number and quality."""

    diameter_px: float
    spread: float
    n_cells: int
    quality: float


def red_cell_diameters(outlines: Outlines) -> np.ndarray:
    """Measure the whole, single red cells.

    Parameters
    ----------
    outlines : Outlines

    Returns
    -------
    numpy.ndarray, (n,)
        Diameter of the circle of equal area, pixels, of red cells that do not touch the image's edge,
        fill their convex neighbourhood as a disc does, and are not twice as long as wide.
    """
    labels, votes = outlines.labels, outlines.kind_votes
    assert votes is not None
    areas = np.bincount(labels.ravel(), minlength=len(votes) + 1)[1:]
    diameters = []
    for index, where in enumerate(ndimage.find_objects(labels)):
        if where is None or votes[index].argmax() != 1:
            continue
        height, width = (part.stop - part.start for part in where)
        inside = all(
            part.start > 0 and part.stop < size for part, size in zip(where, labels.shape, strict=True)
        )
        fill = areas[index] / (height * width)
        if inside and 0.6 <= height / width <= 1.67 and 0.6 <= fill <= 0.9:
            diameters.append(2 * np.sqrt(areas[index] / np.pi))
    return np.array(diameters)


def _reading(diameters: np.ndarray, quality: float) -> Reading:
    """Middle and spread of diameters, once fragments and debris, which pull them down, are left out."""
    if len(diameters) == 0:
        return Reading(0.0, 1.0, 0, 0.0)
    middle = float(np.median(diameters))
    kept = diameters[(diameters > 0.6 * middle) & (diameters < 1.6 * middle)]
    # The mean of the middle: with few cells, the median jumps when one of them comes or goes.
    centre = float(np.exp(_middle_mean(np.log(kept), 0.2)))
    spread = float(1.4826 * np.median(np.abs(kept - middle)) / middle)
    return Reading(centre, spread, len(kept), quality)


def _middle_mean(values: np.ndarray, share: float) -> float:
    """Mean of what is left of values when `share` of them was cut off at each end."""
    cut = int(share * len(values))
    end = len(values) - cut
    return float(np.mean(np.partition(values, (cut, end - 1))[cut:end]))


def _windows(shape: tuple[int, int], side: int) -> list[tuple[slice, slice]]:
    """Up to three windows of at most `side` pixels: the middle, and two on a diagonal of a large image."""
    spans: list[tuple[slice, slice]] = []
    shares = (0.5, 0.15, 0.85) if min(shape) > 2 * side else (0.5,)
    for share in shares:
        starts = [int(np.clip(share * length - side / 2, 0, max(0, length - side))) for length in shape]
        spans.append(
            (
                slice(starts[0], min(shape[0], starts[0] + side)),
                slice(starts[1], min(shape[1], starts[1] + side)),
            )
        )
    return spans


def _look(segmenter: CompactSegmenter, images: Sequence[np.ndarray], candidate: float) -> Reading:
    """Look at a few windows of each image as if red cells were `candidate` pixels across."""
    side = int(WINDOW * candidate / NETWORK_DIAMETER_PX)
    diameters, certainties, area = [], [], 0.0
    for pixels in images:
        for window in _windows(pixels.shape[:2], side):
            part = np.ascontiguousarray(pixels[window])
            outlines = drain(segmenter.segment(part, candidate))
            diameters.append(red_cell_diameters(outlines))
            if outlines.kind_votes is not None and len(outlines.kind_votes):
                certainties.append(outlines.kind_votes.max(axis=1))
            area += part.shape[0] * part.shape[1]
    measured = np.concatenate(diameters)
    if len(measured) < 2:
        return Reading(0.0, 1.0, len(measured), 0.0)
    reading = _reading(measured, 0.0)
    covered = float((np.pi / 4 * measured**2).sum() / area)
    fit = np.exp(-2.0 * np.log2(reading.diameter_px / candidate) ** 2 - 2 * reading.spread)
    return replace(reading, quality=covered * float(np.concatenate(certainties).mean()) * float(fit))


def _without_pallor(stained: np.ndarray) -> np.ndarray:
    """Fill the pale middles of cells; a field within the dark ring of an eyepiece is no hole."""
    _, parts, found, _ = cv2.connectedComponentsWithStats((~stained).astype(np.uint8), connectivity=4)
    hole = found[:, cv2.CC_STAT_AREA] <= MAX_HOLE
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        hole[edge] = False
    array: np.ndarray = stained | hole[parts]
    return array


def guess_diameter(pixels: np.ndarray) -> float | None:
    """Guess the diameter of a red cell from the width of the stained objects.

    Groups of cells make it too large, and central pallor too small, but not by more than the network tolerates.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    float or None
        Pixels; None if nothing is stained.
    """
    factor = min(1.0, GUESS_SIDE / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    stain = cv2.GaussianBlur(absorbance(small).mean(axis=2), (0, 0), 1.5)
    stained = _without_pallor(stain > threshold_otsu(stain))
    if stained.all():
        return None
    depth = cv2.distanceTransform(stained.astype(np.uint8), cv2.DIST_L2, 5)
    ridge = np.sort(depth[(depth == cv2.dilate(depth, np.ones((7, 7)))) & (depth > 2)])
    if len(ridge) == 0:
        return None
    # Weighted by area: there are many more specks than cells.
    weight = np.cumsum(ridge**2)
    return float(2 * ridge[np.searchsorted(weight, weight[-1] / 2)] / factor)


def working_diameter(diameter_px: float, shape: tuple[int, int]) -> float:
    """Return the nearest diameter of the row at which an image of this shape is looked at.

    A red cell's measured diameter moves by a per cent or two when a picture is enlarged or reduced, which makes
    cells that are hardly cells come and go. With a row of sizes that follows from the image's own side, the
    network sees the same picture in both cases.

    Parameters
    ----------
    diameter_px : float
        Of a red cell.
    shape : tuple of int
        (H, W) of the image.
    """
    side = max(shape)
    return _diameter_at(_size_index(diameter_px, side), side)


def _size_index(diameter_px: float, side: int) -> int:
    return round(float(np.log(side / diameter_px) / np.log(STEP)))


def _diameter_at(index: int, side: int) -> float:
    return side / STEP**index


def _settle(segmenter: CompactSegmenter, images: Sequence[np.ndarray], start: float) -> Reading:
    """Find the diameter that measures itself; quality 0 where there is none near the start.

    What is measured depends a little on the diameter that is expected. So the images are looked at on a row of
    sizes that follows from their own side (one camera's field, enlarged, gives the same looks), until one
    measures more than was expected and the next measures less; between the two lies the reading.
    """
    side = max(max(pixels.shape[:2]) for pixels in images)
    row: dict[int, Reading] = {}
    index = _size_index(start, side)
    for _ in range(MAX_LOOKS):
        expected = _diameter_at(index, side)
        reading = row[index] = _look(segmenter, images, expected)
        if reading.quality == 0:
            break
        # A larger diameter lies at a smaller index: fewer pixels for the network.
        step = -1 if reading.diameter_px >= expected else 1
        if index + step in row:
            return _between(reading, expected, row[index + step], _diameter_at(index + step, side))
        settled = _size_index(reading.diameter_px, side)
        index = settled if settled not in row and (settled - index) * step > 1 else index + step
    # Nothing on one side: a look that measured about what it expected will do.
    good = [
        reading
        for at, reading in row.items()
        if reading.quality and abs(np.log2(reading.diameter_px / _diameter_at(at, side))) < AGREES
    ]
    return max(good, key=lambda reading: reading.quality, default=Reading(0.0, 1.0, 0, 0.0))


def _between(one: Reading, one_px: float, other: Reading, other_px: float) -> Reading:
    """Where expected and measured diameter would be one, by a line through two looks in octaves."""
    excess = [np.log2(reading.diameter_px / px) for reading, px in ((one, one_px), (other, other_px))]
    share = excess[0] / (excess[0] - excess[1]) if excess[0] != excess[1] else 0.5
    middle = one_px * (other_px / one_px) ** float(np.clip(share, 0, 1))
    return replace(one if share < 0.5 else other, diameter_px=middle)


def estimate_diameter(segmenter: CompactSegmenter, images: Sequence[np.ndarray]) -> Reading:
    """Find the red cell's diameter in images of one unknown scale.

    A guess from the width of what is stained is measured, and what was measured is measured again until the
    diameter is found that measures itself. Where that comes to nothing good, the images are looked at as if
    their red cells had each of a row of sizes, and the size wins at which most of the field is covered by
    certain, alike red cells of about the expected size.

    Parameters
    ----------
    segmenter : CompactSegmenter
    images : sequence of numpy.ndarray, (H, W, 3), uint8
        One field, or crops from one camera.

    Returns
    -------
    Reading
        `n_cells` is 0 where no red cell was found at any size.
    """
    nothing = Reading(0.0, 1.0, 0, 0.0)
    guesses = [guess for guess in map(guess_diameter, images) if guess is not None]
    if not guesses:
        return nothing
    reading = _settle(segmenter, images, float(np.median(guesses)))
    if reading.quality >= GOOD_QUALITY:
        return reading
    longest = max(max(pixels.shape[:2]) for pixels in images)
    readings = [_look(segmenter, images, candidate) for candidate in CANDIDATES_PX if candidate < longest]
    best = max([*readings, reading], key=lambda reading: reading.quality)
    if best.quality == 0:
        return nothing
    settled = _settle(segmenter, images, best.diameter_px)
    return settled if settled.quality >= best.quality else best


def scale_of(reading: Reading, fallback_px: float) -> Scale:
    """Make a `Scale` of a reading.

    Parameters
    ----------
    reading : Reading
    fallback_px : float
        Diameter that is used, and marked as not sure, if there are no red cells.

    Returns
    -------
    Scale
    """
    if reading.n_cells == 0:
        return Scale(RED_CELL_UM / fallback_px, fallback_px, "unknown", 0, 1.0, sure=False)
    sure = reading.n_cells >= MIN_RED_CELLS and reading.spread <= MAX_SPREAD
    return Scale(
        RED_CELL_UM / reading.diameter_px,
        reading.diameter_px,
        "red_cell_ruler",
        reading.n_cells,
        reading.spread,
        sure,
    )
