"""The scale that images have in common: those of one folder come from one microscope, unless they disagree."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_leukocls.segmentation.compact import CompactSegmenter
from napari_leukocls.segmentation.nuclear_scale import UNREAD, ScaleReading, read_nuclei
from napari_leukocls.segmentation.red_cell_ruler import (
    MIN_RED_CELLS,
    NOTHING,
    Reading,
    RedCellRuler,
    guess_diameter,
    working_diameter,
)

#: Images of a folder that are measured first, and at most where those disagree or are unsure.
FIRST_IMAGES, MOST_IMAGES = 5, 20
#: Readings agree within this many octaves (a factor of 1.15).
AGREE_OCTAVES = 0.2
#: Red cells from which an image can speak for itself, and how well so few agree (a factor of 1.3).
FEW_RED_CELLS, FEW_AGREE_OCTAVES = 2, 0.38
#: From this on (a factor of 2.8), nuclei speak against six to eleven red cells: lobes of a nucleus in a tight crop
#: may pass for so many.
FAR_OCTAVES = 1.5
#: Share of the images that must agree.
AGREE_SHARE = 0.7
#: What readings of nuclei in one laboratory's images have wrong in common, octaves.
LABORATORY_ERROR = 0.12
#: Expected error from which a common scale is unsure, octaves.
UNSURE_OCTAVES = 0.3


@dataclass(frozen=True)
class CommonScale:
    """The scale of images of one microscope.

    Attributes
    ----------
    diameter_px : float
        Of a red cell.
    octaves : float
        Error that is expected, octaves.
    n_images : int
        Images that were measured.
    n_cells : int
        Red cells that were measured; 0 where it was read from nuclei.
    spread : float
        Relative spread of their diameters.
    """

    diameter_px: float
    octaves: float
    n_images: int
    n_cells: int = 0
    spread: float = 0.0

    @property
    def sure(self) -> bool:
        """Whether it is known well enough to count by."""
        return self.octaves <= UNSURE_OCTAVES

    @property
    def settled(self) -> bool:
        """Whether enough red cells were measured, so that further images need not be."""
        return self.n_cells > 0 and self.octaves < LABORATORY_ERROR


@dataclass(frozen=True)
class CommonScales:
    """The common scales of a folder: one, or one for each size of image where cameras differ.

    Attributes
    ----------
    by_size : mapping of (height, width) to CommonScale or None
        None where images of this size disagree.
    others : CommonScale or None
        Of images of other sizes.
    """

    by_size: Mapping[tuple[int, int], CommonScale | None] = field(default_factory=dict)
    others: CommonScale | None = None

    def of(self, shape: tuple[int, ...]) -> CommonScale | None:
        """Return the common scale of images of a shape.

        Parameters
        ----------
        shape : tuple of int
            (H, W) or (H, W, 3).

        Returns
        -------
        CommonScale or None
            None where images disagree, or too few were measured.
        """
        return self.by_size.get((shape[0], shape[1]), self.others)


def pooled(readings: Sequence[ScaleReading]) -> ScaleReading:
    """Join what is read from nuclei in images of one scale: a mean in octaves, robust and weighted by certainty.

    Parameters
    ----------
    readings : sequence of ScaleReading

    Returns
    -------
    ScaleReading
        Its error does not fall below what images of one laboratory have wrong in common.
    """
    known = [one for one in readings if one.diameter_px]
    if not known:
        return UNREAD
    logs = np.log2([one.diameter_px for one in known])
    errors = np.array([one.octaves for one in known])
    weight = 1 / errors**2
    order = np.argsort(logs, kind="stable")
    passed = np.cumsum(weight[order])
    mean = float(logs[order][int(np.searchsorted(passed, passed[-1] / 2))])
    for _ in range(5):
        now = weight / (1 + ((logs - mean) / (1.5 * errors)) ** 2)
        mean = float((now * logs).sum() / now.sum())
    return ScaleReading(2.0**mean, float(np.sqrt(1 / weight.sum() + LABORATORY_ERROR**2)))


def in_fixed_order(names: Sequence[str]) -> list[int]:
    """Order images by a hash of their names, so that a sample of them does not depend on how they are listed.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    list of int
        Indices.
    """
    keys = [(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest(), name) for name in names]
    return sorted(range(len(names)), key=lambda i: keys[i])


def measure_common_scale(
    images: Sequence[np.ndarray], segmenter: CompactSegmenter
) -> tuple[CommonScale | None, list[bool]]:
    """Measure the scale of images that are taken to be from one microscope.

    Parameters
    ----------
    images : sequence of numpy.ndarray, (H, W, 3), uint8
    segmenter : CompactSegmenter

    Returns
    -------
    common : CommonScale or None
        None where nothing can be read, or the images disagree.
    agree : list of bool
        Whether each image agrees, as far as it can be read.
    """
    alone = [read_nuclei(pixels) for pixels in images]
    together = pooled(alone)
    guesses = [guess for guess in map(guess_diameter, images) if guess is not None]
    if not guesses and not together.diameter_px:
        return None, [True] * len(images)
    ruler = RedCellRuler(segmenter, images)
    reading = ruler.settle(float(np.median(guesses))) if guesses else NOTHING
    if not reading.sure and together.diameter_px:
        reading = max(reading, ruler.settle(together.diameter_px), key=lambda one: one.quality)
    if believable(reading, together):
        shape = max((pixels.shape[:2] for pixels in images), key=max)
        apart = ruler.of_each_image(working_diameter(reading.diameter_px, shape))
        octaves = float(np.hypot(0.03, reading.spread / np.sqrt(reading.n_cells)))
        common = CommonScale(reading.diameter_px, octaves, len(images), reading.n_cells, reading.spread)
        agree = [_agrees(own, net, common.diameter_px) for own, net in zip(apart, alone, strict=True)]
    elif together.diameter_px:
        common = CommonScale(together.diameter_px, together.octaves, len(images))
        agree = [not contradicts(net, common.diameter_px) for net in alone]
    else:
        return None, [True] * len(images)
    return (common if np.mean(agree) >= AGREE_SHARE else None), agree


def believable(reading: Reading, nuclei: ScaleReading) -> bool:
    """Tell whether measured red cells are enough, and nuclei are not far from them.

    Parameters
    ----------
    reading : Reading
    nuclei : ScaleReading

    Returns
    -------
    bool
    """
    if not reading.sure or not nuclei.diameter_px or reading.n_cells >= 2 * MIN_RED_CELLS:
        return reading.sure
    return bool(abs(np.log2(nuclei.diameter_px / reading.diameter_px)) <= FAR_OCTAVES)


def contradicts(reading: ScaleReading, diameter_px: float) -> bool:
    """Tell whether what is read from the nuclei of an image excludes a scale.

    Parameters
    ----------
    reading : ScaleReading
    diameter_px : float
        Of a red cell.

    Returns
    -------
    bool
        False where nothing was read.
    """
    if not reading.diameter_px:
        return False
    return bool(abs(np.log2(reading.diameter_px / diameter_px)) > max(0.7, 3 * reading.octaves))


def _agrees(own: Reading, net: ScaleReading, diameter_px: float) -> bool:
    """Whether an image's own red cells, or where there are none its nuclei, allow a scale."""
    if own.n_cells >= FEW_RED_CELLS:
        limit = AGREE_OCTAVES if own.n_cells >= MIN_RED_CELLS else FEW_AGREE_OCTAVES
        return bool(abs(np.log2(own.diameter_px / diameter_px)) <= limit)
    return not contradicts(net, diameter_px)


def find_common_scales(
    names: Sequence[str],
    load: Callable[[int], np.ndarray | None],
    segmenter: CompactSegmenter,
) -> CommonScales:
    """Measure a few images of a folder, and more where those disagree or are unsure.

    Parameters
    ----------
    names : sequence of str
        Names of the files; which images are measured follows from them, in whatever order they are.
    load : callable
        Called with an index; returns that image, (H, W, 3) uint8, or None where it cannot be read or has a scale of
        its own.
    segmenter : CompactSegmenter

    Returns
    -------
    CommonScales
    """
    groups: dict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
    found: dict[tuple[int, int], CommonScale | None] = {}
    order = in_fixed_order(names)
    for first, last in ((0, FIRST_IMAGES), (FIRST_IMAGES, MOST_IMAGES)):
        fresh = [pixels for i in order[first:last] if (pixels := load(i)) is not None]
        for pixels in fresh:
            groups[pixels.shape[0], pixels.shape[1]].append(pixels)
        large = {size: members for size, members in groups.items() if len(members) >= 3}
        rest = [pixels for size, members in groups.items() if size not in large for pixels in members]
        found = {
            size: measure_common_scale(members[:MOST_IMAGES], segmenter)[0] for size, members in large.items()
        }
        others = measure_common_scale(rest, segmenter)[0] if len(rest) > 1 else None
        scales = [*found.values(), *([others] if rest else [])]
        if all(one is not None and one.settled for one in scales):
            break
    known = [one for one in found.values() if one is not None]
    if others is None and len(found) == 1 and known:
        others = known[0]
    return CommonScales(found, others)
