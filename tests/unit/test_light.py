"""Uneven light and round fields of view: measured, evened out, and never in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.analysis.field import under_even_light
from napari_leukocls.analysis.region import iter_analyze_region, region_of_box
from napari_leukocls.api import analyze
from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.config import make_config
from napari_leukocls.explanation.cells import crops_of
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import drain
from napari_leukocls.results.reader import read_result
from napari_leukocls.results.writer import write_result
from napari_leukocls.segmentation.illumination import EvenPixels, even_out, measure_light
from napari_leukocls.types import FieldResult, SmearImage

UM_PER_PX = 0.16


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(make_config(device="cpu"))


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    """A part of the bundled smear, 600 x 800 pixels, with about ten leukocytes."""
    return read_image(sample_smear()).pixels[:600, :800].copy()


def places(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """y and x from -1 to 1."""
    return np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]


def dimmed(pixels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Pixels under a light of which each place gets a share."""
    return (pixels * share[..., None]).astype(np.uint8)


def sideways(pixels: np.ndarray, fall: float) -> np.ndarray:
    y, x = places(pixels.shape)
    return dimmed(pixels, 1 - fall * (x + 1) / 2 + 0 * y)


def vignetted(pixels: np.ndarray, fall: float) -> np.ndarray:
    y, x = places(pixels.shape)
    return dimmed(pixels, 1 - fall * (y**2 + x**2) / 2)


def through_eyepiece(pixels: np.ndarray) -> np.ndarray:
    y, x = places(pixels.shape)
    height, width = pixels.shape[:2]
    return dimmed(pixels, ((y * height / width) ** 2 + x**2 < 0.6).astype(float))


def leukocytes(result: FieldResult) -> int:
    """How many cells are neither red cells nor platelets."""
    return int((~result.cells["predicted_class"].isin(["red_cell", "platelet", "artefact"])).sum())


@pytest.mark.parametrize("fall", [0.2, 0.4, 0.6])
@pytest.mark.parametrize(("dim", "share"), [(sideways, 0.95), (vignetted, 0.79)])
def test_the_fall_of_the_light_is_measured_and_taken_back(field, dim, share, fall):
    dark = dim(field, fall)
    light = measure_light(dark)
    assert light is not None
    # Of all that falls, what lies between the middles of the outermost blocks.
    assert light.fall == pytest.approx(share * fall, abs=0.06)
    assert (f"{100 * light.fall:.0f} %" in light.note) == (light.fall >= 0.25)
    back = even_out(dark, light).astype(float)
    off = np.abs(back - field)
    assert np.median(off) < 6
    assert np.percentile(off, 95) < 16


def test_even_light_is_left_alone(field):
    assert measure_light(field) is None
    assert even_out(field, None) is field


def test_a_heap_on_one_side_is_no_shadow(field):
    glass = np.percentile(field.reshape(-1, 3), 98, axis=0)
    heap = field.copy()
    # The density of red cells, as PBC's are.
    heap[:, 380:] = (np.exp([-0.2, -0.3, -0.19]) * glass).astype(np.uint8)
    light = measure_light(heap)
    assert light is None or light.fall < 0.12


@pytest.mark.parametrize("level", [0, 1, 3, 128, 255])
def test_an_empty_picture_has_no_light_to_even(level):
    assert measure_light(np.full((300, 400, 3), level, np.uint8)) is None


@settings(deadline=None, max_examples=80)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3)),
        elements=st.integers(0, 255),
        fill=st.integers(0, 255),
    )
)
def test_wild_pictures_are_borne(pixels):
    light = measure_light(pixels)
    seen = even_out(pixels, light)
    assert seen.shape == pixels.shape and seen.dtype == np.uint8


def test_a_window_is_evened_as_the_whole(field):
    dark = vignetted(field, 0.5)
    light = measure_light(dark)
    whole = even_out(dark, light)
    window = np.s_[130:420, 250:640]
    np.testing.assert_array_equal(EvenPixels(dark, light)[window], whole[window])


@pytest.mark.parametrize("spoil", [lambda field: vignetted(field, 0.6), through_eyepiece])
def test_cells_are_found_in_a_spoilt_field_and_the_user_is_told(engine, field, spoil):
    # The ruler once gave up with a traceback here: it took all that a dark ring surrounds for one cell.
    good, spoilt = analyze(field, engine=engine), analyze(spoil(field), engine=engine)
    scales = [one.segmentation.scale.red_cell_diameter_px for one in (good, spoilt)]
    assert scales[1] == pytest.approx(scales[0], rel=0.06)
    share = 0.9 if spoil is not through_eyepiece else 0.4
    assert share * leukocytes(good) <= leukocytes(spoilt) <= leukocytes(good)
    assert any("evened out" in one or "field of view" in one for one in spoilt.warnings)
    assert not any("evened out" in one or "field of view" in one for one in good.warnings)


def test_light_is_left_as_it_is_where_that_is_asked_for(engine, field):
    as_is = load_engine(make_config(device="cpu", even_light=False))
    image = SmearImage(vignetted(field, 0.5), "field", "test")
    assert under_even_light(image, as_is)[1] is None
    assert under_even_light(image, engine)[1] is not None


def same_crops(result: FieldResult, engine: Engine) -> None:
    """The crops that explanations are drawn on are those of the evened field."""
    rows = result.cells[~result.cells["predicted_class"].isin(["red_cell", "platelet"])]
    segmentation = result.segmentation
    seen = cut_crops(
        even_out(result.image.pixels, segmentation.light),
        result.labels,
        rows["cell_id"].to_numpy(),
        rows[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].to_numpy(),
        segmentation.scale.um_per_px,
        segmentation.glass_colour,
        engine.classifier.card.crop,
        segmentation.red_cell_density,
    )
    assert len(seen) > 1
    np.testing.assert_array_equal(crops_of(result, engine.classifier, rows), seen)


def test_explanations_and_reopened_results_see_what_analysis_saw(engine, field, tmp_path: Path):
    from PIL import Image

    Image.fromarray(vignetted(field, 0.5)).save(tmp_path / "dim.png")
    result = analyze(tmp_path / "dim.png", engine=engine)
    light = result.segmentation.light
    assert light is not None and result.run["light"]["fall"] == light.fall
    np.testing.assert_array_equal(result.image.pixels, vignetted(field, 0.5))
    same_crops(result, engine)
    again = read_result(write_result(result, tmp_path / "out")["folder"])
    assert again.segmentation.light == light
    assert again.segmentation.red_cell_density == pytest.approx(
        result.segmentation.red_cell_density, abs=0.03
    )


def test_a_region_keeps_its_own_light(engine, field):
    dark = sideways(field, 0.5)
    region = region_of_box((60, 100, 600, 780), dark.shape[:2])
    result = drain(iter_analyze_region(SmearImage(dark, "field", "test", UM_PER_PX), region, engine))
    light = result.segmentation.light
    assert light is not None and light.box == (60, 100, 600, 780) == tuple(result.run["light"]["box"])
    same_crops(result, engine)


def test_stored_pictures_are_of_the_evened_field(engine, field):
    import io

    from PIL import Image

    from napari_leukocls.review.crops import pictures

    def brightness(pixels: np.ndarray, result: FieldResult) -> list[float]:
        """Of the glass in the pictures of cells of the dark half."""
        cells = result.cells[result.cells["centroid_x"] > 0.6 * pixels.shape[1]]
        stored = pictures(result, cells["cell_id"].head(8))
        return [float(np.percentile(np.asarray(Image.open(io.BytesIO(one["image"]))), 90)) for one in stored]

    dim = sideways(field, 0.5)
    dark, even = analyze(dim, engine=engine), analyze(field, engine=engine)
    assert np.median(brightness(dim, dark)) == pytest.approx(np.median(brightness(field, even)), abs=8)


def test_an_eyepieces_rim_is_explained_as_it_was_classified(engine, field):
    round_field = through_eyepiece(field)
    result = analyze(round_field, engine=engine)
    assert result.segmentation.light is not None and result.segmentation.light.surround > 0.2
    same_crops(result, engine)
