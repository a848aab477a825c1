"""From an image of one cell to the crop for a classifier: outlined and scaled as in an analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.classification.crops import cut_crops, cut_window, whole_image, window_around
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.common_scale import (
    CommonScale,
    contradicts,
    in_fixed_order,
    measure_common_scale,
)
from napari_leukocls.segmentation.nuclear_scale import read_nuclei
from napari_leukocls.segmentation.scale import LOST_OCTAVES, RED_CELL_UM, count_images
from napari_leukocls.segmentation.stain_density import red_cell_density

if TYPE_CHECKING:
    from napari_leukocls.classification.labelled_crop import Colour, LabelledCrop
    from napari_leukocls.models.crop_rule import CropRule
    from napari_leukocls.segmentation.compact import CompactSegmenter
    from napari_leukocls.segmentation.nuclear_scale import ScaleReading

#: Most images of one size in which red cells are measured.
RULER_IMAGES = 40
#: Fewest images of one size that are taken to be from one camera, and measured apart from others.
ONE_CAMERA = 12
#: Side of the square in the middle of an image in which its cell is searched, micrometres.
CONTEXT_UM = 40.0
#: Difference of the sides of whole images, as a share, from which on they are cut to the side that a model knows.
OTHER_AREA = 0.15
#: Colour of what lies outside an image.
OUTSIDE = (235.0, 235.0, 235.0)
#: How far from the middle of an image its cell may begin, micrometres.
CENTRAL_REACH_UM = 6.0


@dataclass(frozen=True)
class CentralCell:
    """The cell in the middle of an image.

    Attributes
    ----------
    crop : numpy.ndarray, (side_px, side_px, 3), uint8
    found : bool
        False if no cell was outlined there and the middle itself was cut.
    kind : numpy.ndarray, (3,)
        Class-map vote for red cell, leukocyte, platelet; zeros if no cell was found.
    mask : numpy.ndarray, (side_px, side_px), bool
        Of the cell within its crop.
    """

    crop: np.ndarray
    found: bool
    kind: np.ndarray
    mask: np.ndarray


def central_window(pixels: np.ndarray, um_per_px: float) -> np.ndarray:
    """Cut the middle of an image.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    um_per_px : float

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8
        At most `CONTEXT_UM` high and wide.
    """
    reach = int(np.ceil(CONTEXT_UM / um_per_px))
    starts = [max(0, (length - reach) // 2) for length in pixels.shape[:2]]
    return np.ascontiguousarray(pixels[starts[0] : starts[0] + reach, starts[1] : starts[1] + reach])


def central_label(labels: np.ndarray, votes: np.ndarray, um_per_px: float) -> int:
    """Choose the cell that an image of one cell shows: near the middle, and preferably no red cell.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int
        1 to N without gaps.
    votes : numpy.ndarray, (N, 4)
        Class-map votes for background, red cell, leukocyte, platelet.
    um_per_px : float

    Returns
    -------
    int
        Its label; 0 if there is none near the middle.
    """
    if len(votes) == 0:
        return 0
    height, width = labels.shape
    y, x = np.nonzero(labels)
    ids = labels[y, x]
    away = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) * um_per_px
    nearest = np.full(len(votes) + 1, np.inf)
    np.minimum.at(nearest, ids, away)
    area = np.bincount(ids, minlength=len(votes) + 1) * um_per_px**2
    # A red cell over the middle loses to a leukocyte beside it; among equals the nearer and larger wins.
    cost = nearest[1:] + 8.0 * (votes.argmax(axis=1) == 1) - 0.02 * np.minimum(area[1:], 150)
    best = int(cost.argmin())
    return best + 1 if nearest[best + 1] <= CENTRAL_REACH_UM else 0


def cut_central(
    pixels: np.ndarray, um_per_px: float, segmenter: CompactSegmenter, rule: CropRule
) -> CentralCell:
    """Outline the cell in the middle of an image and cut it by the rule.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    um_per_px : float
        NaN if it is not known, for a model that takes whole images.
    segmenter : CompactSegmenter
    rule : CropRule

    Returns
    -------
    CentralCell
        For a model that takes whole images, `crop` is the resized image, and `kind` is zeros.
    """
    if rule.whole_image:
        return _whole_with_mask(pixels, um_per_px, segmenter, rule)
    return _cut_outlined(pixels, um_per_px, segmenter, rule)


def _cut_outlined(
    pixels: np.ndarray, um_per_px: float, segmenter: CompactSegmenter, rule: CropRule
) -> CentralCell:
    """The cell in the middle of an image, outlined and cut."""
    window = central_window(pixels, um_per_px)
    outlines = drain(segmenter.segment(window, RED_CELL_UM / um_per_px))
    votes = outlines.kind_votes
    assert votes is not None
    label = central_label(outlines.labels, votes, um_per_px)
    if label:
        y, x = np.nonzero(outlines.labels == label)
        box = np.array([[y.min(), x.min(), y.max() + 1, x.max() + 1]])
        kind = votes[label - 1, 1:]
    else:
        box = np.array([[0, 0, *window.shape[:2]]])
        kind = np.zeros(3)
    glass = outlines.glass_colour
    density = red_cell_density(window, outlines.labels, votes[:, 1], glass)
    ids = np.array([label or -1])
    crop = cut_crops(window, outlines.labels, ids, box, um_per_px, glass, rule, density)[0]
    mask = mask_in_crop(outlines.labels, label or -1, box[0].tolist(), um_per_px, rule)
    return CentralCell(crop, bool(label), kind, mask)


def _whole_with_mask(
    pixels: np.ndarray, um_per_px: float, segmenter: CompactSegmenter, rule: CropRule
) -> CentralCell:
    """The whole image, and the outline of its central cell if one is found at a known scale."""
    mask = np.zeros(pixels.shape[:2], np.uint8)
    if np.isfinite(um_per_px):
        outlines = drain(segmenter.segment(pixels, RED_CELL_UM / um_per_px))
        assert outlines.kind_votes is not None
        label = central_label(outlines.labels, outlines.kind_votes, um_per_px)
        mask[outlines.labels == (label or -1)] = 255
    return _whole(pixels, mask, rule)


def _whole(pixels: np.ndarray, mask: np.ndarray | None, rule: CropRule) -> CentralCell:
    """A whole image as the crop of a model that takes such images."""
    side = (rule.side_px, rule.side_px)
    inside = np.zeros(side, bool) if mask is None else whole_image(mask, rule) > 127
    return CentralCell(whole_image(pixels, rule), bool(inside.any()), np.zeros(3), inside)


def cut_labelled(
    crop: LabelledCrop, um_per_px: float, segmenter: CompactSegmenter, rule: CropRule
) -> CentralCell:
    """Cut a labelled crop by its own outline, or by the segmenter's if it has none.

    Parameters
    ----------
    crop : LabelledCrop
    um_per_px : float
        Of its image.
    segmenter : CompactSegmenter
    rule : CropRule

    Returns
    -------
    CentralCell
        `kind` is zeros if the crop has an outline, and for a model that takes whole images; a cell that is marked in
        an image of a field is cut for such a model as in an analysis.
    """
    mask = crop.cell_mask()
    pixels = crop.pixels()
    if rule.whole_image and crop.box is None and not shows_other_area(crop, pixels, rule):
        return _whole(pixels, mask, rule)
    if rule.whole_image and mask is None and crop.box is None:
        middle = ((pixels.shape[0] - 1) / 2, (pixels.shape[1] - 1) / 2)
        window = cut_window(pixels, middle, um_per_px, rule, OUTSIDE)
        return CentralCell(window, False, np.zeros(3), np.zeros(window.shape[:2], bool))
    if mask is None:
        return _cut_outlined(pixels, um_per_px, segmenter, rule)
    labels = (mask > 127).astype(np.int32)
    found = bool(labels.any())
    y, x = np.nonzero(labels) if found else np.indices(labels.shape).reshape(2, -1)
    box = np.array([[y.min(), x.min(), y.max() + 1, x.max() + 1]])
    glass, density = _stain_of(crop, pixels, um_per_px, segmenter, rule)
    ids = np.array([1])
    cut = cut_crops(pixels, labels, ids, box, um_per_px, glass, rule, density)[0]
    return CentralCell(cut, found, np.zeros(3), mask_in_crop(labels, 1, box[0].tolist(), um_per_px, rule))


def shows_other_area(crop: LabelledCrop, pixels: np.ndarray, rule: CropRule) -> bool:
    """Tell whether an image shows a larger or smaller part of a slide than a model of whole images knows.

    Parameters
    ----------
    crop : LabelledCrop
    pixels : numpy.ndarray, (H, W, 3), uint8
        Of the crop.
    rule : CropRule
        Of a model that takes whole images.

    Returns
    -------
    bool
        True if both sizes are known and differ by more than `OTHER_AREA`: the image is then cut to the model's.
    """
    if not rule.side_known or crop.um_per_px is None:
        return False
    side = float(np.sqrt(np.prod(pixels.shape[:2]))) * crop.um_per_px * rule.central_share
    return abs(side / rule.side_um - 1) > OTHER_AREA


def _stain_of(
    crop: LabelledCrop, pixels: np.ndarray, um_per_px: float, segmenter: CompactSegmenter, rule: CropRule
) -> tuple[Colour, Colour | None]:
    """Return the colour of a smear's glass and its red cells' density; measured in the image if not known."""
    glass, density = crop.glass, crop.red_cell_density
    if glass is not None and (density is not None or rule.red_cell is None):
        return glass, density
    window = central_window(pixels, um_per_px)
    outlines = drain(segmenter.segment(window, RED_CELL_UM / um_per_px))
    votes = outlines.kind_votes
    assert votes is not None
    if glass is None:
        glass = outlines.glass_colour
    if density is None:
        density = red_cell_density(window, outlines.labels, votes[:, 1], glass)
    return glass, density


def mask_in_crop(
    labels: np.ndarray, cell: int, box: Sequence[float], um_per_px: float, rule: CropRule
) -> np.ndarray:
    """Cut the mask of a cell as its crop is cut.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int32
    cell : int
    box : sequence of 4 float
        Half-open y0, x0, y1, x1 of the cell.
    um_per_px : float
        Pixel size of `labels`, micrometres.
    rule : CropRule

    Returns
    -------
    numpy.ndarray, (side_px, side_px), bool
    """
    centre = ((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2)
    reach = rule.side_um / um_per_px / 2 + 2
    near, local = window_around(centre, reach, labels.shape)
    mask = (labels[near] == cell).astype(np.uint8) * 255
    return cut_window(mask, local, um_per_px, rule, [0.0]) > 127


def common_scales(
    names: Sequence[str],
    sizes: Sequence[tuple[int, ...]],
    load: Callable[[int], np.ndarray],
    given: Sequence[float | None],
    fallback: float,
    segmenter: CompactSegmenter,
) -> tuple[list[float], list[str]]:
    """Find the pixel size of every image.

    It is the image's own if the data states it. Else images of one size are taken to be from one camera, and some of
    them are measured together: by their red cells, or where those are few by the nuclei of leukocytes. If some of these
    disagree with the rest, every image of this size is read alone, and those that differ keep their own scale.

    Parameters
    ----------
    names : sequence of str
        One for each image, as its file; which images are measured follows from them, in whatever order they are.
    sizes : sequence of (height, width)
    load : callable
        Called with an index; returns that image, (H, W, 3) uint8.
    given : sequence of float or None
        Micrometres per pixel, where the data states them.
    fallback : float
        Micrometres per pixel of images in which nothing can be read.
    segmenter : CompactSegmenter

    Returns
    -------
    um_per_px : list of float
        One for each image.
    notes : list of str
        One line for each group of images that was measured.
    """
    scales: list[float] = [fallback if value is None else value for value in given]
    notes = []
    for members in _cameras(sizes, [index for index, value in enumerate(given) if value is None]):
        order = [members[i] for i in in_fixed_order([names[index] for index in members])]
        some = [load(index) for index in order[:RULER_IMAGES]]
        common, agree = measure_common_scale(some, segmenter)
        height, width = sizes[members[0]]
        what = f"{count_images(len(members))} (first {width}x{height})"
        if common is not None:
            for index in members:
                scales[index] = RED_CELL_UM / common.diameter_px
            notes.append(f"{what}: {_how(common)}.")
        if common is None or not all(agree):
            found = {index: read_nuclei(load(index)) for index in members}
            notes.append(_each_alone(what, scales, found, common))
    return scales, notes


def _how(common: CommonScale) -> str:
    """How a common scale was measured."""
    size = f"red cells {common.diameter_px:.1f} px across"
    if common.n_cells:
        return f"{size} ({common.n_cells} measured, spread {100 * common.spread:.0f} %)"
    percent = 100 * (2**common.octaves - 1)
    check = "" if common.sure else "; check it, or give the pixel size"
    return (
        f"{size}, read from the nuclei of {count_images(common.n_images)}, "
        f"because too few red cells are in view (uncertain by {percent:.0f} %{check})"
    )


def _each_alone(
    what: str, scales: list[float], found: Mapping[int, ScaleReading], common: CommonScale | None
) -> str:
    """Give images a scale of their own that differ from the others, or all where those disagree; and say so."""
    changed = 0
    for index, reading in found.items():
        known = reading.diameter_px > 0 and reading.octaves <= LOST_OCTAVES
        if known and (common is None or contradicts(reading, common.diameter_px)):
            scales[index] = RED_CELL_UM / reading.diameter_px
            changed += 1
    if changed == 0 and common is None:
        return (
            f"nothing in {what} shows the scale: the model's own is used; give the pixel size if you know it."
        )
    kept = (
        "" if changed == len(found) or common is not None else "; the model's own scale is used for the rest"
    )
    return f"{changed} of {what} differ in scale and have been read one by one{kept}: check them."


def _cameras(sizes: Sequence[tuple[int, ...]], unknown: Sequence[int]) -> list[list[int]]:
    """Group images by size; images of rare sizes are one group."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index in unknown:
        groups[tuple(sizes[index])].append(index)
    cameras = [members for members in groups.values() if len(members) >= ONE_CAMERA]
    rest = sorted(index for members in groups.values() if len(members) < ONE_CAMERA for index in members)
    return [*cameras, rest] if rest else cameras
