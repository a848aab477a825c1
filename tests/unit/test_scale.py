"""The red cell as a ruler, and what is said where it is unsure."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.config import AnalyzeConfig, check_um_per_px, make_config
from napari_leukocls.errors import ArgumentError, Cancelled
from napari_leukocls.io.images import read_image
from napari_leukocls.progress import CancelToken
from napari_leukocls.segmentation.red_cell_ruler import estimate_diameter, working_diameter
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.segmentation.scale import RED_CELL_UM, find_scale
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, SyntheticSmear, render_smear
from napari_leukocls.types import Scale, SmearImage


def smear(factor: float, count: int = 60, **changes: object) -> SyntheticSmear:
    """A field of 102 x 77 um, 640 x 480 pixels at a factor of 1."""
    recipe = SmearRecipe(
        height=round(480 * factor),
        width=round(640 * factor),
        um_per_px=0.16 / factor,
        red_cells=RedCellRecipe(count=count),
        leukocytes=changes.pop("leukocytes", {"lymphocyte": 1, "segmented_neutrophil": 1}),
        platelets=6,
        **changes,
    )
    return render_smear(recipe, seed=4)


def find(pixels: np.ndarray, metadata: float | None = None, **asked: object) -> tuple[Scale, list[str]]:
    """What analysis takes for the scale of a field."""
    image = SmearImage(pixels, "field", "test", metadata)
    found = find_scale(image, AnalyzeConfig(**asked), compact("cpu"))
    return found.scale, list(found.warnings)


@pytest.mark.parametrize("factor", [0.4, 0.6, 1.0, 1.6, 2.5])
def test_the_ruler_reads_red_cells_of_any_size(factor):
    field = smear(factor)
    truth = np.median([cell.diameter_um for cell in field.cells if cell.kind == "red_cell"]) / field.um_per_px
    scale, warnings = find(field.pixels)
    assert scale.source == "red_cell_ruler"
    assert scale.red_cell_diameter_px == pytest.approx(truth, rel=0.1)
    assert scale.um_per_px == pytest.approx(RED_CELL_UM / scale.red_cell_diameter_px)
    assert scale.n_cells >= 6
    assert scale.sure
    assert warnings == []


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.7, 2.5])
def test_a_picture_that_is_enlarged_or_reduced_is_read_and_outlined_as_before(factor):
    # Drawn large, so that the reduced picture still has all that the network sees.
    large = smear(2.0).pixels
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    other = cv2.resize(large, None, fx=factor, fy=factor, interpolation=method)
    own, changed = find(large)[0], find(other)[0]
    assert changed.red_cell_diameter_px / factor == pytest.approx(own.red_cell_diameter_px, rel=0.015)
    seen = [
        diameter / max(pixels.shape)
        for diameter, pixels in (
            (working_diameter(own.red_cell_diameter_px, large.shape[:2]), large),
            (working_diameter(changed.red_cell_diameter_px, other.shape[:2]), other),
        )
    ]
    assert seen[0] == pytest.approx(seen[1], rel=1e-3)


@settings(max_examples=100)
@given(
    diameter=st.floats(2, 500),
    shape=st.tuples(st.integers(20, 20_000), st.integers(20, 20_000)),
)
def test_the_diameter_to_outline_by_is_near_the_measured_one(diameter, shape):
    assert working_diameter(diameter, shape) == pytest.approx(diameter, rel=0.08)


def test_several_crops_of_one_camera_are_measured_together():
    field = smear(1.0)
    crops = [
        np.ascontiguousarray(field.pixels[y : y + 160, x : x + 200])
        for y in (0, 160, 320)
        for x in (0, 200, 400)
    ]
    reading = estimate_diameter(compact("cpu"), crops)
    assert reading.diameter_px == pytest.approx(7.5 / 0.16, rel=0.1)


@pytest.mark.parametrize("grey", [0, 240])
def test_a_field_without_red_cells_has_an_unknown_scale_and_a_warning(grey):
    noise = np.random.default_rng(0).normal(0, 2, (300, 400, 3))
    scale, warnings = find(np.clip(grey + noise, 0, 255).astype(np.uint8))
    assert scale.source == "unknown"
    assert not scale.sure
    assert scale.n_cells == 0
    assert len(warnings) == 1
    assert "give the diameter of a red cell or the pixel size" in warnings[0]


def test_few_red_cells_are_measured_and_called_unsure():
    field = smear(1.0, count=4, fringe_cells=False, leukocytes={})
    scale, warnings = find(field.pixels)
    assert scale.source == "red_cell_ruler"
    assert not scale.sure
    assert "unsure" in warnings[0]
    assert "give the diameter" in warnings[0]


def test_what_the_user_says_comes_before_the_file_and_the_file_before_the_ruler():
    field = smear(1.0)
    scale, warnings = find(field.pixels, metadata=0.2, diameter_px=33.0)
    assert (scale.source, scale.red_cell_diameter_px, warnings) == ("user", 33.0, [])
    assert scale.um_per_px == pytest.approx(7.5 / 33)
    scale, _ = find(field.pixels, metadata=0.2, pixel_size_um=0.1)
    assert (scale.source, scale.um_per_px) == ("user", 0.1)
    scale, _ = find(field.pixels, metadata=0.2)
    assert (scale.source, scale.um_per_px) == ("metadata", 0.2)
    assert scale.red_cell_diameter_px == pytest.approx(37.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (14, 14)])
def test_images_too_small_for_a_cell_are_borne(shape):
    scale, warnings = find(np.full((*shape, 3), 220, np.uint8))
    assert scale.source == "unknown"
    assert warnings


def test_a_given_scale_far_from_what_is_seen_is_doubted():
    pixels = smear(1.0).pixels
    for wrong in ({"pixel_size_um": 1.0}, {"diameter_px": 6.0}, {"pixel_size_um": 0.02}):
        scale, (warning,) = find(pixels, **wrong)
        assert "check it" in warning and not scale.sure
    for right in ({"pixel_size_um": 0.16}, {"diameter_px": 47.0}):
        assert find(pixels, **right)[1] == []


def test_grain_that_passes_for_small_cells_does_not_hide_a_wrong_scale(shared_data: Path) -> None:
    pixels = read_image(shared_data / "bccd" / "images" / "BloodImage_00000.jpg").pixels
    for wrong in (1.0, 0.8):
        scale, (warning,) = find(pixels, pixel_size_um=wrong)
        assert "red cells that were measured are about 89 px wide" in warning and not scale.sure
    assert find(pixels, pixel_size_um=0.082)[1] == []


@pytest.mark.parametrize("times", [0.4, 0.55, 1.8, 2.5])
def test_the_pixels_of_another_objective_are_doubted(times):
    scale, (warning,) = find(smear(1.0).pixels, metadata=0.16 * times)
    assert "red cells" in warning and "from the metadata" in warning and not scale.sure
    assert scale.um_per_px == pytest.approx(0.16 * times)


@pytest.mark.parametrize("times", [0.8, 1.0, 1.25])
def test_small_and_large_red_cells_are_no_doubt(times):
    assert find(smear(1.0).pixels, metadata=0.16 * times)[1] == []


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf"), 3.45, 1e-9])
def test_a_pixel_size_that_is_none_is_refused(size):
    from napari_leukocls.api import analyze

    with pytest.raises(ArgumentError, match=r"pixel size of .* um"):
        analyze(smear(0.4).pixels, um_per_px=size, device="cpu")
    with pytest.raises(ArgumentError, match=r"pixel size of .* um"):
        check_um_per_px(size)


def test_a_pixel_size_that_is_no_number_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'0,1' is no number"):
        check_um_per_px("0,1")  # type: ignore[arg-type]


@pytest.mark.parametrize("um_per_px", [0.325, 0.65, 1.2])
def test_a_large_field_at_low_magnification_is_not_doubted(um_per_px):
    shrunk = cv2.resize(
        smear(1.0).pixels, None, fx=0.16 / um_per_px, fy=0.16 / um_per_px, interpolation=cv2.INTER_AREA
    )
    times = [-(-length // size) for length, size in zip((3072, 4096), shrunk.shape[:2], strict=True)]
    wide = np.tile(shrunk, (*times, 1))
    assert find(wide, metadata=um_per_px)[1] == []


def test_looking_for_the_scale_stops_when_it_is_asked_to():
    token = CancelToken()
    token.cancel()
    for metadata in (None, 0.16):
        image = SmearImage(smear(1.0).pixels, "field", "test", metadata)
        with pytest.raises(Cancelled):
            find_scale(image, AnalyzeConfig(), compact("cpu"), cancel=token)


class Impatient(CancelToken):
    """A token that is set when it was asked a few times."""

    left = 1_000_000

    @property
    def cancelled(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("stage", "asked"), [("scale", 40), ("segment", 40)])
def test_an_analysis_stops_in_the_middle_of_a_long_step(stage, asked):
    token = Impatient()
    image = SmearImage(smear(1.0).pixels[:400, :500], "field", "test", 0.16)
    steps = iter_analyze(image, load_engine(make_config()), token)
    assert any(step.stage == stage for step in steps)
    token.left = asked
    with pytest.raises(Cancelled):
        next(steps)
