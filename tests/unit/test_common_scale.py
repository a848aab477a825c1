"""Images of one folder: one scale, unless they disagree; whatever their order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.segmentation.common_scale import (
    CommonScale,
    find_common_scales,
    in_fixed_order,
    measure_common_scale,
    pooled,
)
from napari_leukocls.segmentation.nuclear_scale import UNREAD, ScaleReading
from napari_leukocls.segmentation.red_cell_ruler import NOTHING
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.segmentation.scale import find_scale
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear
from napari_leukocls.types import SmearImage


def smear(seed: int) -> np.ndarray:
    """A field whose red cells are about 47 px across."""
    recipe = SmearRecipe(
        height=300,
        width=400,
        um_per_px=0.16,
        red_cells=RedCellRecipe(count=28),
        leukocytes={"segmented_neutrophil": 1},
        platelets=2,
    )
    return render_smear(recipe, seed=seed).pixels


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    return [smear(seed) for seed in (1, 2, 3, 4)]


READING = st.builds(ScaleReading, st.floats(5, 400), st.floats(0.05, 2))


@settings(max_examples=60)
@given(st.lists(READING, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_pooling_does_not_depend_on_the_order_and_stays_within_the_readings(readings, random):
    mixed = list(readings)
    random.shuffle(mixed)
    one, other = pooled(readings), pooled(mixed)
    assert one.diameter_px == pytest.approx(other.diameter_px, rel=1e-6)
    found = [reading.diameter_px for reading in readings]
    assert min(found) * 0.999 <= one.diameter_px <= max(found) * 1.001


def test_one_wrong_image_does_not_move_the_scale_of_a_folder():
    right = [ScaleReading(px, 0.2) for px in (46, 47, 48, 49, 50)]
    assert pooled([*right, ScaleReading(200, 0.2)]).diameter_px == pytest.approx(48, rel=0.06)
    sure = ScaleReading(60, 0.05)
    assert pooled([ScaleReading(40, 0.5), sure, ScaleReading(90, 0.5)]).diameter_px == pytest.approx(
        60, rel=0.05
    )
    assert pooled([UNREAD, sure]).diameter_px == pytest.approx(60)
    assert pooled([UNREAD]) == UNREAD


def test_which_images_are_measured_follows_from_their_names_alone():
    names = [f"{i}.png" for i in range(50)]
    backwards = names[::-1]
    first = [names[i] for i in in_fixed_order(names)]
    assert first == [backwards[i] for i in in_fixed_order(backwards)]
    assert sorted(first) == sorted(names)


def test_images_of_one_folder_are_measured_together_in_any_order(fields):
    names = ["a.png", "b.png", "c.png", "d.png"]
    ruler = compact("cpu")
    scales = find_common_scales(names, fields.__getitem__, ruler)
    backwards = find_common_scales(names[::-1], lambda i: fields[3 - i], ruler)
    common = scales.of(fields[0].shape)
    assert common == backwards.of(fields[0].shape)
    assert common.diameter_px == pytest.approx(7.5 / 0.16, rel=0.1)
    assert common.settled and common.n_images == 4
    # Images of another size are taken to be from the same microscope.
    assert scales.of((50, 60)) == common


def test_images_that_disagree_have_no_common_scale(fields):
    half = [cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for field in fields[:2]]
    common, agree = measure_common_scale([*fields[:2], *half], compact("cpu"))
    assert common is None or sum(agree) >= 3
    assert not all(agree)


def test_an_image_without_red_cells_takes_the_scale_of_the_others_and_says_so(fields):
    common = CommonScale(47.0, 0.04, 5, 90, 0.05)
    leukocyte = SmearImage(np.ascontiguousarray(_around_the_leukocyte()), "cell", "cell.png")
    found = find_scale(leukocyte, AnalyzeConfig(), compact("cpu"), common=common)
    assert found.scale.source == "other_images"
    assert found.scale.red_cell_diameter_px == 47.0 and found.scale.sure
    (note,) = found.warnings
    assert "5 images measured together" in note and "47 px" in note


def test_an_image_whose_red_cells_confirm_the_folder_is_measured_once_and_not_noted(fields):
    common = CommonScale(47.0, 0.04, 5, 90, 0.05)
    found = find_scale(SmearImage(fields[0], "a", "a.png"), AnalyzeConfig(), compact("cpu"), common=common)
    assert (found.scale.red_cell_diameter_px, found.warnings) == (47.0, ())
    # The outlines by which it was checked serve the analysis.
    assert found.outlines is not None


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_image_of_another_objective_keeps_its_own_scale_and_says_so(fields, factor):
    common = CommonScale(47.0, 0.04, 5, 90, 0.05)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    other = cv2.resize(fields[1], None, fx=factor, fy=factor, interpolation=way)
    found = find_scale(SmearImage(other, "b", "b.png"), AnalyzeConfig(), compact("cpu"), common=common)
    assert found.scale.red_cell_diameter_px == pytest.approx(47 * factor, rel=0.15)
    assert any("differs from the others" in warning for warning in found.warnings)


def test_nothing_in_view_gives_no_common_scale():
    empty = [np.full((60, 80, 3), 230, np.uint8)] * 3
    assert measure_common_scale(empty, compact("cpu"))[0] is None
    assert find_common_scales([], empty.__getitem__, compact("cpu")).of((60, 80)) is None
    assert NOTHING.n_cells == 0 and not NOTHING.sure


def _around_the_leukocyte() -> np.ndarray:
    recipe = SmearRecipe(
        height=100,
        width=100,
        um_per_px=0.16,
        red_cells=RedCellRecipe(count=0),
        leukocytes={"lymphocyte": 1},
        platelets=0,
        fringe_cells=False,
    )
    return render_smear(recipe, seed=3).pixels
