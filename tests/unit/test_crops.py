"""Crops: one physical scale and one glass, whatever the camera, and the cell alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from napari_leukocls.classification.crops import cut_crops, white_balance
from napari_leukocls.models.crop_rule import CropRule

RULE = CropRule()
GLASS = np.array([228.0, 214.0, 205.0])
CYTOPLASM = (190, 170, 205)
NUCLEUS = (105, 60, 140)
RED_CELL = (225, 150, 140)


def draw(um_per_px: float, neighbours: bool = True, side_um: float = 36.0) -> tuple[np.ndarray, np.ndarray]:
    """A leukocyte of two lobes at (18, 18) um with red cells around it, drawn finely and averaged to pixels.

    Returns
    -------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
        1 is the leukocyte.
    """
    side = round(side_um / um_per_px)
    fine = round(um_per_px / 0.0125) + 1
    pixels = np.full((side * fine, side * fine, 3), GLASS, np.uint8)
    labels = np.zeros(pixels.shape[:2], np.uint8)

    def disc(y: float, x: float, radius: float, colour: tuple[int, int, int], label: int) -> None:
        centre = (round(x / um_per_px * fine), round(y / um_per_px * fine))
        cv2.circle(pixels, centre, round(radius / um_per_px * fine), colour, -1)
        cv2.circle(labels, centre, round(radius / um_per_px * fine), label, -1)

    if neighbours:
        for number, (y, x) in enumerate([(18, 28.5), (9, 12), (26, 10)], start=2):
            disc(y, x, 3.7, RED_CELL, number)
    disc(18, 18, 6.0, CYTOPLASM, 1)
    disc(16.5, 16, 2.6, NUCLEUS, 1)
    disc(20, 20, 2.8, NUCLEUS, 1)
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return small, labels[fine // 2 :: fine, fine // 2 :: fine][:side, :side].astype(np.int32)


def crop_of(
    pixels: np.ndarray, labels: np.ndarray, um_per_px: float, rule: CropRule = RULE, glass=GLASS
) -> np.ndarray:
    y, x = np.nonzero(labels == 1)
    box = np.array([[y.min(), x.min(), y.max() + 1, x.max() + 1]])
    crops = cut_crops(pixels, labels, np.array([1]), box, um_per_px, glass, rule)
    assert crops.shape == (1, rule.side_px, rule.side_px, 3)
    assert crops.dtype == np.uint8
    return crops[0]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("um_per_px", [0.05, 0.08, 0.13, 0.25])
def test_a_cell_gives_the_same_crop_at_any_resolution(um_per_px):
    reference = crop_of(*draw(RULE.um_per_px), RULE.um_per_px)
    crop = crop_of(*draw(um_per_px), um_per_px)
    assert difference(crop, reference) < 2
    # The nucleus has one size, in pixels of the crop, and one place.
    nuclei = [(part[..., 1] < 115).astype(np.uint8) for part in (reference, crop)]
    assert nuclei[1].sum() == pytest.approx(nuclei[0].sum(), rel=0.04)
    centres = [np.argwhere(nucleus).mean(axis=0) for nucleus in nuclei]
    assert np.abs(centres[0] - centres[1]).max() < 0.6


def test_the_cell_has_its_physical_size_in_the_middle_of_the_crop():
    crop = crop_of(*draw(0.1), 0.1)
    cell = (crop.astype(int).sum(axis=2) < 3 * 225).astype(float)
    assert cell.sum() * RULE.um_per_px**2 == pytest.approx(np.pi * 6.0**2, rel=0.03)
    assert np.argwhere(cell).mean(axis=0) == pytest.approx([63.5, 63.5], abs=0.6)


def test_reduction_averages_instead_of_skipping_pixels():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (900, 900, 1)).repeat(3, axis=2).astype(np.uint8)
    labels = np.ones((900, 900), np.int32)
    crop = crop_of(noise, labels, 0.025, CropRule(margin_um=None, white=None))
    # Of 49 pixels each, noise of standard deviation 74 keeps about a seventh.
    assert crop.std() < 16
    assert crop.mean() == pytest.approx(127.5, abs=2)


def test_light_and_tint_of_the_glass_are_taken_out():
    pixels, labels = draw(0.1)
    dim = (pixels * np.array([0.92, 0.8, 0.7])).round().astype(np.uint8)
    crop = crop_of(dim, labels, 0.1, glass=GLASS * [0.92, 0.8, 0.7])
    assert difference(crop, crop_of(pixels, labels, 0.1)) < 1.5
    assert crop[2, 2].tolist() == [235, 235, 235]


def test_unknown_glass_leaves_the_colours_alone():
    pixels, labels = draw(0.1)
    assert np.array_equal(white_balance(pixels, (np.nan,) * 3, 235.0), pixels)
    assert np.array_equal(white_balance(pixels, GLASS, None), pixels)
    crop = crop_of(pixels, labels, 0.1, glass=(np.nan,) * 3)
    assert crop[64, 64 + 24].tolist() == pytest.approx(CYTOPLASM, abs=3)


def test_neighbours_are_painted_out_and_the_cell_is_not():
    with_neighbours = crop_of(*draw(0.1), 0.1)
    alone = crop_of(*draw(0.1, neighbours=False), 0.1)
    assert difference(with_neighbours, alone) < 0.6
    kept = crop_of(*draw(0.1), 0.1, CropRule(margin_um=None))
    assert difference(kept, alone) > 2
    y, x = np.mgrid[:128, :128]
    inside = np.hypot(y - 63.5, x - 63.5) * RULE.um_per_px < 5.5
    assert difference(with_neighbours[inside], kept[inside]) == 0


@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (0, 1)])
def test_beyond_the_image_there_is_glass(corner):
    pixels, labels = draw(0.1, neighbours=False)
    # Keep the quarter in which the cell is cut by two edges of the image.
    middle = 180
    where = tuple(slice(0, middle) if low else slice(middle, None) for low in corner)
    crop = crop_of(np.ascontiguousarray(pixels[where]), np.ascontiguousarray(labels[where]), 0.1)
    glass = np.abs(crop.astype(int) - 235).max(axis=2) <= 2
    # A quarter of the cell and its margin is left; all the rest of the crop is glass.
    assert 0.15 * np.pi * 6**2 < (~glass).sum() * RULE.um_per_px**2 < 0.3 * np.pi * 7.5**2
    assert glass[[0, 0, -1, -1], [0, -1, 0, -1]].all()


def test_no_cells_give_no_crops():
    pixels, labels = draw(0.1)
    crops = cut_crops(pixels, labels, np.zeros(0, int), np.zeros((0, 4), int), 0.1, GLASS, RULE)
    assert crops.shape == (0, 128, 128, 3)
