"""A scale that makes nuclei too small or too large is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.nuclei import (
    SCALE_IN_DOUBT,
    WARNING,
    nuclear_shares,
    nucleus_diameters,
    review_scale,
)
from napari_leukocls.types import Scale, Segmentation


def cell_of(nucleus_px: float, cell_px: float, side: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a leukocyte with a round nucleus on empty glass."""
    y, x = np.mgrid[:side, :side] - side / 2
    away = np.hypot(y, x)
    pixels = np.full((side, side, 3), 235, np.uint8)
    pixels[away < cell_px / 2] = (190, 170, 210)
    pixels[away < nucleus_px / 2] = (90, 60, 140)
    return pixels, (away < cell_px / 2).astype(np.int32)


def outlines(labels: np.ndarray, um_per_px: float, sure: bool = True) -> Segmentation:
    kinds = np.tile(np.array([[0.0, 1.0, 0.0]], np.float32), (int(labels.max()), 1))
    scale = Scale(um_per_px, 7.5 / um_per_px, "user", sure=sure)
    return Segmentation(labels, kinds, (235.0,) * 3, scale)


def reviewed(pixels, segmentation):
    table = build_cell_table(segmentation, None, [], "slide", segmentation.scale.um_per_px, ["lymphocyte"])
    table["class"] = "lymphocyte"
    table["needs_review"], table["review_reason"] = False, ""
    return table, review_scale(table, pixels, segmentation)


def test_the_nucleus_is_measured_within_its_outline():
    pixels, labels = cell_of(60, 90)
    own, shared = nucleus_diameters(pixels, labels, np.array([1]))
    assert own[0] == pytest.approx(60, rel=0.03)
    assert shared[0] == pytest.approx(60, rel=0.03)


@pytest.mark.parametrize("um_per_px", [0.06, 0.13, 0.3])
def test_believable_nuclei_need_no_review(um_per_px):
    pixels, labels = cell_of(60, 90)
    table, warnings = reviewed(pixels, outlines(labels, um_per_px))
    assert warnings == [] and not table["needs_review"].any()


@pytest.mark.parametrize("um_per_px", [0.02, 0.04, 0.36, 1.0])
def test_a_nucleus_below_3_or_above_20_um_is_warned_of_and_reviewed(um_per_px):
    pixels, labels = cell_of(60, 90)
    table, warnings = reviewed(pixels, outlines(labels, um_per_px))
    assert warnings == [WARNING]
    assert table["needs_review"].all()
    assert set(table["review_reason"]) == {SCALE_IN_DOUBT}


def test_one_nucleus_that_was_outlined_in_pieces_is_measured_whole():
    pixels, labels = cell_of(60, 90)
    pieces = labels.copy()
    pieces[:80, 80:][labels[:80, 80:] > 0] = 2
    pieces[80:, :80][labels[80:, :80] > 0] = 3
    pieces[80:, 80:][labels[80:, 80:] > 0] = 4
    own, shared = nucleus_diameters(pixels, pieces, np.array([1, 2, 3, 4]))
    assert (own < 40).all() and shared == pytest.approx(60, rel=0.03)
    table, warnings = reviewed(pixels, outlines(pieces, 0.5))
    assert warnings == [WARNING] and table["needs_review"].all()


def test_an_unsure_scale_sends_leukocytes_to_review_and_no_red_cells():
    pixels, labels = cell_of(60, 90)
    both = labels.copy()
    both[:20, :20] = 2
    segmentation = outlines(both, 0.13, sure=False)
    kinds = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    table, warnings = reviewed(pixels, replace(segmentation, kind_probabilities=kinds))
    assert warnings == []
    assert table["needs_review"].tolist() == [True, False]


def test_no_cells_and_flat_cells_are_borne():
    flat = np.full((40, 40, 3), 200, np.uint8)
    table, warnings = reviewed(flat, outlines(np.zeros((40, 40), np.int32), 0.1))
    assert warnings == [] and len(table) == 0
    labels = np.zeros((40, 40), np.int32)
    labels[5:30, 5:30] = 1
    assert reviewed(flat, outlines(labels, 0.1))[1] == []


def test_the_share_of_a_cell_that_its_nucleus_fills() -> None:
    y, x = np.mgrid[:90, :90]
    distance = np.hypot(y - 45, x - 45)
    labels = (distance < 30).astype(np.int32) * 7
    pixels = np.full((90, 90, 3), 230, np.uint8)
    pixels[distance < 30] = (180, 190, 220)
    pixels[distance < 24] = (90, 60, 140)
    found = nuclear_shares(pixels, labels, np.array([7, 9]))
    assert found[0] == pytest.approx((24 / 30) ** 2, abs=0.02)
    assert np.isnan(found[1])
