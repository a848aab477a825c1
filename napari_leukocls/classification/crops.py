"""Crops of cells at one physical scale: training, evaluation and analysis all cut them with these functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.progress import stop_here

if TYPE_CHECKING:
    from napari_leukocls.segmentation.illumination import EvenPixels

#: Half-width of the soft edge where a neighbour is painted out, micrometres.
SOFT_EDGE_UM = 0.35


def stain_power(red_cells: Sequence[float] | None, rule: CropRule) -> np.ndarray:
    """Compute the factor on each channel's optical density that brings red cells to the rule's stain.

    Red cells are in every smear and take up only eosin. Their density shows a strong or pale stain and a camera
    with other filters, as the colour of empty glass shows the light.

    Parameters
    ----------
    red_cells : sequence of 3 float or None
        Optical density of the smear's red cells; None or nan if they were not measured.
    rule : CropRule

    Returns
    -------
    numpy.ndarray, (3,)
        Between 0.6 and 1.7; ones if the rule or the smear has no density of red cells.
    """
    if rule.red_cell is None or red_cells is None or not np.isfinite(np.asarray(red_cells)).all():
        return np.ones(3)
    ratio = np.asarray(rule.red_cell) / np.maximum(np.asarray(red_cells, dtype=np.float64), 0.02)
    return np.clip(ratio**rule.red_cell_share, 0.6, 1.7)


def white_balance(
    pixels: np.ndarray,
    glass: Sequence[float],
    white: float | None,
    power: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """Bring the colour of empty glass to one grey level, and the stain's density to another strength.

    Parameters
    ----------
    pixels : numpy.ndarray, (..., 3), uint8
    glass : sequence of 3 float
        RGB of empty glass, 0-255; nan leaves the pixels as they are.
    white : float or None
        That grey level, 0-255; None leaves the pixels as they are.
    power : sequence of 3 float, optional
        Factor of each channel's optical density; by default 1.

    Returns
    -------
    numpy.ndarray, (..., 3), uint8
    """
    glass_array = np.asarray(glass, dtype=np.float64)
    if white is None or not np.isfinite(glass_array).all():
        return pixels
    passed = np.arange(256)[:, None] / np.maximum(glass_array, 20.0)
    levels = white * passed ** np.asarray(1.0 if power is None else power)
    lookup = np.clip(levels, 0, 255).round().astype(np.uint8)
    return np.stack([lookup[pixels[..., c], c] for c in range(3)], axis=-1)


def _placement(centre: tuple[float, float], um_per_px: float, rule: CropRule) -> np.ndarray:
    """Map crop pixels (x, y) to image pixels, as cv2.warpAffine's inverse map wants it."""
    step = rule.um_per_px / um_per_px
    half = (rule.side_px - 1) / 2
    return np.array([[step, 0, centre[1] - half * step], [0, step, centre[0] - half * step]])


def window_around(
    centre: tuple[float, float], reach: float, shape: Sequence[int]
) -> tuple[tuple[slice, slice], tuple[float, float]]:
    """Find the part of an image around a point.

    Parameters
    ----------
    centre : tuple of float
        y, x in pixels.
    reach : float
        Largest distance from the point along each axis, pixels.
    shape : sequence of int
        Height and width of the image.

    Returns
    -------
    window : tuple of slice
        Rows and columns.
    local : tuple of float
        y, x of the point within that part.
    """
    rows, columns = (
        slice(max(0, int(middle - reach)), min(length, int(middle + reach) + 1))
        for middle, length in zip(centre, shape, strict=True)
    )
    return (rows, columns), (centre[0] - rows.start, centre[1] - columns.start)


def cut_window(
    image: np.ndarray, centre: tuple[float, float], um_per_px: float, rule: CropRule, outside: Sequence[float]
) -> np.ndarray:
    """Cut one square around a point and bring it to the rule's scale.

    Parameters
    ----------
    image : numpy.ndarray, (H, W) or (H, W, 3), uint8
    centre : tuple of float
        y, x in pixels of `image`.
    um_per_px : float
        Pixel size of `image`, micrometres.
    rule : CropRule
    outside : sequence of float
        Value of pixels outside the image.

    Returns
    -------
    numpy.ndarray, (side_px, side_px[, 3]), uint8
    """
    step = rule.um_per_px / um_per_px
    if step <= 1.0:
        return _warp(image, _placement(centre, um_per_px, rule), rule.side_px, outside)
    # A reduction: averaged over an integer number of pixels first, since sampling alone would alias.
    fine = max(1, int(np.ceil(step)))
    larger = CropRule(rule.side_um, rule.side_px * fine, None, None)
    window = _warp(image, _placement(centre, um_per_px, larger), larger.side_px, outside)
    return cv2.resize(window, (rule.side_px, rule.side_px), interpolation=cv2.INTER_AREA)


def _warp(image: np.ndarray, placement: np.ndarray, side: int, outside: Sequence[float]) -> np.ndarray:
    return cv2.warpAffine(
        image,
        placement,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(float(v) for v in outside),
    )


def paint_out(crop: np.ndarray, mask: np.ndarray, rule: CropRule) -> np.ndarray:
    """Paint over what is farther than the rule's margin from the cell.

    Parameters
    ----------
    crop : numpy.ndarray, (h, w, 3), uint8
        White-balanced.
    mask : numpy.ndarray, (h, w), uint8
        255 inside the cell, 0 outside.
    rule : CropRule

    Returns
    -------
    numpy.ndarray, (h, w, 3), uint8
    """
    if rule.margin_um is None or not mask.any():
        return crop
    distance = cv2.distanceTransform((mask < 128).astype(np.uint8), cv2.DIST_L2, 3) * rule.um_per_px
    keep = np.clip((rule.margin_um + SOFT_EDGE_UM - distance) / (2 * SOFT_EDGE_UM), 0, 1)[..., None]
    white = 235.0 if rule.white is None else rule.white
    array: np.ndarray = (crop * keep + white * (1 - keep)).round().astype(np.uint8)
    return array


def whole_image(pixels: np.ndarray, rule: CropRule) -> np.ndarray:
    """Resize an image of one cell for a model that takes whole images.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W) or (H, W, 3), uint8
    rule : CropRule
        Its `central_share` of each side is kept, in the middle.

    Returns
    -------
    numpy.ndarray, (side_px, side_px[, 3]), uint8
        An image that is not square is stretched.
    """
    kept = [max(1, round(rule.central_share * length)) for length in pixels.shape[:2]]
    top, left = ((length - part) // 2 for length, part in zip(pixels.shape[:2], kept, strict=True))
    middle = np.ascontiguousarray(pixels[top : top + kept[0], left : left + kept[1]])
    side = rule.side_px
    if middle.shape[:2] == (side, side):
        return middle
    way = cv2.INTER_AREA if max(middle.shape[:2]) > side else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(middle, (side, side), interpolation=way)
    return resized


def cut_crops(
    pixels: np.ndarray | EvenPixels,
    labels: np.ndarray,
    cell_ids: np.ndarray,
    boxes: np.ndarray,
    um_per_px: float,
    glass: Sequence[float],
    rule: CropRule,
    red_cells: Sequence[float] | None = None,
) -> np.ndarray:
    """Cut the crops of outlined cells.

    Parameters
    ----------
    pixels : numpy.ndarray or EvenPixels, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
    cell_ids : numpy.ndarray, (N,)
        Labels to cut.
    boxes : numpy.ndarray, (N, 4)
        Half-open y0, x0, y1, x1 of those cells.
    um_per_px : float
        Pixel size of `pixels`, micrometres.
    glass : sequence of 3 float
        Colour of empty glass; see `white_balance`.
    rule : CropRule
    red_cells : sequence of 3 float, optional
        Optical density of the smear's red cells; see `stain_power`.

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px, 3), uint8

    Raises
    ------
    InputError
        If the model takes whole images of one cell, and nobody knows how large a part of a slide they show.
    """
    if rule.whole_image and not rule.side_known:
        raise InputError(
            "the model takes whole images of one cell, and the size of these images on the slide is not known: train "
            "it with images that show red cells, or state the size (side_um)."
        )
    crops = np.empty((len(cell_ids), rule.side_px, rule.side_px, 3), np.uint8)
    fill = [235.0] * 3 if not np.isfinite(np.asarray(glass, float)).all() else list(glass)
    reach = rule.side_um / um_per_px / 2 + 2
    power = stain_power(red_cells, rule)
    for i, (cell, box) in enumerate(zip(cell_ids, boxes, strict=True)):
        stop_here()
        centre = ((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2)
        near, local = window_around(centre, reach, labels.shape)
        window = cut_window(np.ascontiguousarray(pixels[near]), local, um_per_px, rule, fill)
        mask = (labels[near] == cell).astype(np.uint8) * 255
        mask = cut_window(mask, local, um_per_px, rule, [0.0])
        crops[i] = paint_out(white_balance(window, glass, rule.white, power), mask, rule)
    return crops
