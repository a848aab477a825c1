"""The baseline segmenter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from napari_leukocls.progress import drain
from napari_leukocls.segmentation.registry import segmenter

DIAMETER = 40.0


def field(discs: list[tuple[int, int, int, tuple[int, int, int]]]) -> np.ndarray:
    """Discs (x, y, radius, colour) on glass with a little noise."""
    pixels = np.full((240, 320, 3), 232, np.uint8)
    for x, y, radius, colour in discs:
        cv2.circle(pixels, (x, y), radius, colour, -1)
    noise = np.random.default_rng(1).normal(0, 2, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


RED, NUCLEUS, PLATELET = (215, 150, 145), (95, 60, 130), (160, 120, 170)


def segment(pixels: np.ndarray):
    return drain(segmenter("threshold", "cpu").segment(pixels, DIAMETER))


def test_cells_are_outlined_and_sorted_by_size_and_darkness():
    discs = [(60, 60, 20, RED), (150, 60, 20, RED), (240, 70, 30, NUCLEUS), (80, 170, 7, PLATELET)]
    outlines = segment(field(discs))
    assert outlines.labels.dtype == np.int32
    assert outlines.labels.max() == 4
    kinds = {}
    for x, y, radius, colour in discs:
        cell = outlines.labels[y, x]
        assert (outlines.labels == cell).sum() == pytest.approx(np.pi * radius**2, rel=0.15)
        kinds[colour] = int(outlines.kind_votes[cell - 1].argmax())
    assert kinds == {RED: 1, NUCLEUS: 2, PLATELET: 3}
    assert outlines.glass_colour == pytest.approx((232, 232, 232), abs=2)


def test_touching_cells_are_parted():
    outlines = segment(field([(100, 100, 20, RED), (136, 100, 20, RED)]))
    assert outlines.labels.max() == 2
    assert outlines.labels[100, 95] != outlines.labels[100, 141]


def test_cells_at_the_edge_are_found():
    outlines = segment(field([(0, 100, 20, RED), (319, 239, 20, RED), (150, 0, 20, RED)]))
    assert outlines.labels.max() == 3
    assert outlines.labels[100, 2] and outlines.labels[237, 317] and outlines.labels[2, 150]


def test_a_hole_belongs_to_its_cell_and_grains_are_no_cells():
    outlines = segment(field([(100, 100, 20, RED), (100, 100, 8, (232, 232, 232)), (200, 100, 1, RED)]))
    assert outlines.labels.max() == 1
    assert outlines.labels[100, 100] == 1


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_even_field_has_no_cell(grey):
    outlines = segment(np.full((50, 60, 3), grey, np.uint8))
    assert outlines.labels.shape == (50, 60)
    assert not outlines.labels.any()
    assert outlines.kind_votes.shape == (0, 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 7)])
def test_tiny_images_are_borne(shape):
    pixels = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    outlines = segment(pixels)
    assert outlines.labels.shape == shape
    assert len(outlines.kind_votes) == outlines.labels.max()
