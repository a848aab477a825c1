"""The red cell as a ruler: its diameter in pixels, measured on the red cells in view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.segmentation.compact import absorbance
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX

if TYPE_CHECKING:
    from napari_leukocls.segmentation.base import Outlines
    from napari_leukocls.segmentation.compact import CompactSegmenter

#: Diameters (pixels) at which the coarse pass looks; the network bears half to double of what it expects.
CANDIDATES_PX = (15.0, 25.0, 42.0, 71.0, 120.0, 202.0, 340.0)
#: Smallest diameter that is looked for, pixels: smaller cells cannot be classified, and grain looks like them.
LEAST_PX = 12.0
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
#: Fewest cells that border on no other and are measured without the rest.
FEWEST_ALONE = 2 * MIN_RED_CELLS
#: Share of a cell's edge that may border on other cells.
MAX_CONTACT = 0.12
#: Relative spread of diameters above which the ruler is unsure.
MAX_SPREAD = 0.25


@dataclass(frozen=True)
class Reading:
    """Red cells measured in one pass: their middle diameter (pixels), spread, number and quality."""

    diameter_px: float
    spread: float
    n_cells: int
    quality: float

    @property
    def sure(self) -> bool:
        """Whether there are enough red cells, alike, found with certainty."""
        return self.n_cells >= MIN_RED_CELLS and self.spread <= MAX_SPREAD and self.quality >= GOOD_QUALITY


#: No red cell was found.
NOTHING = Reading(0.0, 1.0, 0, 0.0)


def whole_red_cells(outlines: Outlines) -> tuple[np.ndarray, np.ndarray]:
    """Measure the whole, single red cells.

    Parameters
    ----------
    outlines : Outlines

    Returns
    -------
    diameters : numpy.ndarray, (n,)
        Of the circle of equal area, pixels, of red cells that are not doubtful, do not touch the image's edge, fill
        their convex neighbourhood as a disc does, and are not twice as long as wide.
    contact : numpy.ndarray, (n,)
        Share of the edge of each that borders on other cells.
    """
    labels, votes = outlines.labels, outlines.kind_votes
    assert votes is not None
    doubtful = np.zeros(len(votes), bool) if outlines.doubtful is None else outlines.doubtful
    areas = np.bincount(labels.ravel(), minlength=len(votes) + 1)[1:]
    touching = contact_of(labels)
    diameters, contact = [], []
    for index, where in enumerate(ndimage.find_objects(labels)):
        if where is None or votes[index].argmax() != 1 or doubtful[index]:
            continue
        height, width = (part.stop - part.start for part in where)
        inside = all(
            part.start > 0 and part.stop < size for part, size in zip(where, labels.shape, strict=True)
        )
        fill = areas[index] / (height * width)
        if inside and 0.6 <= height / width <= 1.67 and 0.6 <= fill <= 0.9:
            diameters.append(2 * np.sqrt(areas[index] / np.pi))
            contact.append(touching[index + 1])
    return np.array(diameters), np.array(contact)


def _alone(measured: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Leave out cells that border on others, which may cover a part of them, if enough are left."""
    alone: np.ndarray = measured[contact <= MAX_CONTACT]
    return alone if len(alone) >= FEWEST_ALONE else measured


def contact_of(labels: np.ndarray) -> np.ndarray:
    """Measure how much of the edge of each cell borders on other cells.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int
        Cells 1..N.

    Returns
    -------
    numpy.ndarray, (N + 1,)
        Share, by label; entry 0 is of no cell.
    """
    count = int(labels.max(initial=0)) + 1
    edges, shared = np.zeros(count), np.zeros(count)
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        differ = one != other
        first, second = one[differ], other[differ]
        touch = (first > 0) & (second > 0)
        for side in (first, second):
            edges += np.bincount(side, minlength=count)
            shared += np.bincount(side[touch], minlength=count)
    array: np.ndarray = shared / np.maximum(edges, 1)
    return array


def _reading(diameters: np.ndarray, quality: float) -> Reading:
    """Middle and spread of diameters, once fragments and debris, which pull them down, are left out."""
    if len(diameters) == 0:
        return NOTHING
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


def _between(one: Reading, one_px: float, other: Reading, other_px: float) -> Reading:
    """Where expected and measured diameter would be one, by a line through two looks in octaves."""
    excess = [np.log2(reading.diameter_px / px) for reading, px in ((one, one_px), (other, other_px))]
    share = excess[0] / (excess[0] - excess[1]) if excess[0] != excess[1] else 0.5
    middle = one_px * (other_px / one_px) ** float(np.clip(share, 0, 1))
    return replace(one if share < 0.5 else other, diameter_px=middle)


class RedCellRuler:
    """Measures the red cells of images of one scale, and keeps what it has outlined.

    Parameters
    ----------
    segmenter : CompactSegmenter
    images : sequence of numpy.ndarray, (H, W, 3), uint8
        One field, or crops from one camera.
    cancel : CancelToken, optional
        Asked between the tiles that are looked at.
    """

    def __init__(
        self, segmenter: CompactSegmenter, images: Sequence[np.ndarray], cancel: CancelToken | None = None
    ) -> None:
        self._segmenter = segmenter
        self._images = images
        self._cancel = cancel or CancelToken()
        self._looks: dict[float, Reading] = {}
        self._by_image: dict[float, list[np.ndarray]] = {}
        self._outlines: dict[float, Outlines] = {}

    def outlines(self, diameter_px: float) -> Outlines | None:
        """Return the outlines of the whole of a single image, if it was looked at with this diameter.

        Parameters
        ----------
        diameter_px : float
            Of a red cell.

        Returns
        -------
        Outlines or None
        """
        return self._outlines.get(diameter_px)

    def of_each_image(self, expected: float) -> list[Reading]:
        """Measure the red cells of each image apart, at a diameter at which all were looked at.

        Parameters
        ----------
        expected : float
            Diameter of a red cell, pixels.

        Returns
        -------
        list of Reading
            Their quality is that of all images together.
        """
        together = self.look(expected)
        return [_reading(found, together.quality) for found in self._by_image[expected]]

    def look(self, expected: float, *, briefly: bool = False) -> Reading:
        """Look at a few windows of each image as if red cells were this large.

        Parameters
        ----------
        expected : float
            Diameter of a red cell, pixels.
        briefly : bool
            At that window of each image alone which has the most contrast.

        Returns
        -------
        Reading
            Of quality 0 where fewer than two red cells were found.
        """
        if expected not in self._looks:
            if briefly:
                return self._look(expected, briefly=True)
            self._looks[expected] = self._look(expected)
        return self._looks[expected]

    def _look(self, expected: float, *, briefly: bool = False) -> Reading:
        side = int(WINDOW * expected / NETWORK_DIAMETER_PX)
        by_image: list[np.ndarray] = []
        certainties, area, covered = [], 0.0, 0.0
        for pixels in self._images:
            diameters = []
            windows = _windows(pixels.shape[:2], side)
            if briefly:
                windows = [max(windows, key=lambda window: pixels[window][::4, ::4].std())]
            for window in windows:
                part = np.ascontiguousarray(pixels[window])
                whole_image = part.shape == pixels.shape
                tiles = self._segmenter.segment(part, expected, once=not whole_image)
                outlines = drain(tiles, lambda _: self._cancel.check())
                if len(self._images) == 1 and whole_image:
                    self._outlines[expected] = outlines
                whole, contact = whole_red_cells(outlines)
                diameters.append(_alone(whole, contact))
                # Those that border on others are as good a sign of the right size.
                covered += float((np.pi / 4 * whole**2).sum())
                if outlines.kind_votes is not None and len(outlines.kind_votes):
                    sure = slice(None) if outlines.doubtful is None else ~outlines.doubtful
                    certainties.append(outlines.kind_votes[sure].max(axis=1))
                area += part.shape[0] * part.shape[1]
            by_image.append(np.concatenate(diameters))
        self._by_image[expected] = by_image
        measured = np.concatenate(by_image)
        if len(measured) < 2:
            return Reading(0.0, 1.0, len(measured), 0.0)
        reading = _reading(measured, 0.0)
        fit = np.exp(-2.0 * np.log2(reading.diameter_px / expected) ** 2 - 2 * reading.spread)
        return replace(
            reading, quality=covered / area * float(np.concatenate(certainties).mean()) * float(fit)
        )

    def settle(self, start: float) -> Reading:
        """Find the diameter that measures itself.

        What is measured depends a little on the diameter that is expected. So the images are looked at on a row of
        sizes that follows from their own side (one camera's field, enlarged, gives the same looks), until one
        measures more than was expected and the next measures less; between the two lies the reading.

        Parameters
        ----------
        start : float
            Diameter of a red cell to begin with, pixels.

        Returns
        -------
        Reading
            Of quality 0 where there is no such diameter near the start.
        """
        side = max(max(pixels.shape[:2]) for pixels in self._images)
        row: dict[int, Reading] = {}
        index = _size_index(max(start, LEAST_PX), side)
        for _ in range(MAX_LOOKS):
            expected = _diameter_at(index, side)
            if expected < LEAST_PX / STEP:
                break
            reading = row[index] = self.look(expected)
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
        return max(good, key=lambda reading: reading.quality, default=NOTHING)

    def search(self) -> Reading:
        """Find the diameter without a start.

        The images are looked at briefly as if their red cells had each of a row of sizes. The size wins at which most
        of the window is covered by certain, alike red cells of about the expected size; it is looked at in full. Where
        no size shows red cells, that is the end.

        Returns
        -------
        Reading
            `n_cells` is 0 where no red cell was found at any size.
        """
        longest = max(max(pixels.shape[:2]) for pixels in self._images)
        candidates = [candidate for candidate in CANDIDATES_PX if candidate < longest]
        brief = [self.look(candidate, briefly=True).quality for candidate in candidates]
        if not any(brief):
            return NOTHING
        best = self.look(candidates[int(np.argmax(brief))])
        if best.quality == 0:
            return NOTHING
        settled = self.settle(best.diameter_px)
        return settled if settled.quality >= best.quality else best


def estimate_diameter(segmenter: CompactSegmenter, images: Sequence[np.ndarray]) -> Reading:
    """Find the red cell's diameter in images of one unknown scale by the red cells alone.

    A guess from the width of what is stained is measured, and what was measured is measured again until the
    diameter is found that measures itself. Where that comes to nothing good, all sizes are searched.

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
    guesses = [guess for guess in map(guess_diameter, images) if guess is not None]
    if not guesses:
        return NOTHING
    ruler = RedCellRuler(segmenter, images)
    reading = ruler.settle(float(np.median(guesses)))
    if reading.quality >= GOOD_QUALITY:
        return reading
    return max(ruler.search(), reading, key=lambda one: one.quality)
