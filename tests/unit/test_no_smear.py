"""Pictures that are no smear in bright field: inverted ones, dark ground, photographs. None is counted in silence."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.analysis.region import iter_analyze_region, region_of_box
from napari_leukocls.api import analyze
from napari_leukocls.batch.run import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs, group_as_slide
from napari_leukocls.measurement.absolute import AREA
from napari_leukocls.measurement.ground import bright_ground
from napari_leukocls.measurement.quality_grades import NO_GROUND
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.illumination import measure_light
from napari_leukocls.segmentation.negative import ground_level, read_negative
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear
from napari_leukocls.types import FieldResult, SmearImage

DATA = Path(__file__).parents[2].parent / "shared" / "data"
PICTURES = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(make_config(device="cpu"))


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    recipe = SmearRecipe(
        height=320,
        width=420,
        um_per_px=0.16,
        red_cells=RedCellRecipe(count=45),
        leukocytes={"lymphocyte": 1, "segmented_neutrophil": 1},
        platelets=4,
    )
    return render_smear(recipe, seed=2).pixels


def dark_field() -> np.ndarray:
    """Bright rims on black, as a dark-field condenser gives them."""
    rng = np.random.default_rng(0)
    drawn = np.full((320, 420, 3), 12, np.float32)
    for y, x in zip(rng.integers(0, 320, 35), rng.integers(0, 420, 35), strict=True):
        cv2.circle(drawn, (int(x), int(y)), 22, (230, 225, 210), 3)
    return np.clip(cv2.GaussianBlur(drawn, (0, 0), 1.5) + rng.normal(0, 3, drawn.shape), 0, 255).astype(
        np.uint8
    )


def fluorescence() -> np.ndarray:
    """Coloured discs on black."""
    rng = np.random.default_rng(0)
    drawn = np.zeros((320, 420, 3), np.float32)
    for _ in range(40):
        at = (int(rng.integers(0, 420)), int(rng.integers(0, 320)))
        colour = ((0, 0, 255), (0, 255, 0), (255, 60, 0))[rng.integers(3)]
        cv2.circle(drawn, at, int(rng.integers(8, 18)), colour, -1)
    return np.clip(cv2.GaussianBlur(drawn, (0, 0), 2) + rng.normal(8, 3, drawn.shape), 0, 255).astype(
        np.uint8
    )


def is_no_smear(result: FieldResult) -> bool:
    """Nothing is counted, no density is made, and the first words of the user's list say why."""
    return (
        result.run["quality"]["checks"]["bright_ground"] == "red"
        and bool(result.cells["needs_review"].all())
        and int(result.counts["count"].sum()) == 0
        and result.run[AREA] is None
        and any("does not look like a blood smear" in one for one in result.warnings)
    )


def test_a_smear_is_taken_for_one(engine: Engine, field: np.ndarray) -> None:
    result = analyze(field, engine=engine)
    assert result.run["quality"]["checks"]["bright_ground"] == "green"
    assert not result.cells["needs_review"].all() and result.run[AREA] > 0


@pytest.mark.parametrize("um_per_px", [None, 0.16])
def test_an_inverted_picture_is_said_and_nothing_of_it_is_counted(
    engine: Engine, field: np.ndarray, um_per_px: float | None
) -> None:
    result = analyze(255 - field, engine=engine, um_per_px=um_per_px)
    assert any("inverted" in one for one in result.warnings), result.warnings
    assert is_no_smear(result)
    assert set(result.cells["review_reason"].str.contains(NO_GROUND)) == {True}


def test_a_region_of_an_inverted_picture_is_said(engine: Engine, field: np.ndarray) -> None:
    image = SmearImage(np.subtract(255, field), "a", "a")
    region = region_of_box((10, 10, 300, 400), field.shape)
    assert is_no_smear(drain(iter_analyze_region(image, region, engine)))


def test_one_inverted_field_of_a_slide_is_named(field: np.ndarray, tmp_path: Path) -> None:
    for name, pixels in (("good", field), ("turned", 255 - field), ("fine", field[::-1])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels[..., ::-1])
    paths = [tmp_path / f"{name}.png" for name in ("good", "turned", "fine")]
    run_batch([group_as_slide(expand_inputs(paths), "slide")], tmp_path / "out", make_config(device="cpu"))
    run = json.loads((tmp_path / "out" / "slide" / "run.json").read_text("utf-8"))
    assert run["quality"]["checks"]["bright_ground"] == "amber" and run[AREA] is None
    assert any("turned: the picture is inverted" in one for one in run["warnings"])
    assert any("1 of 3 fields does not look like a smear" in one for one in run["warnings"])


@pytest.mark.parametrize("draw", [dark_field, fluorescence])
def test_cells_on_a_dark_ground_are_no_smear(engine: Engine, draw: object) -> None:
    pixels = draw()  # type: ignore[operator]
    light = measure_light(pixels)
    assert light is None or light.surround == 0, "a dark ground is not around a field of view"
    assert is_no_smear(analyze(pixels, engine=engine))


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "rocket.jpg", "coins.png"])
def test_photographs_are_no_smears(engine: Engine, name: str) -> None:
    pixels = read_image(PICTURES / name).pixels
    factor = 400 / max(pixels.shape)
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    assert is_no_smear(analyze(small, engine=engine))


def test_looking_for_cells_where_there_are_none_ends_soon(engine: Engine) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    started = time.process_time()
    result = analyze(noise, engine=engine)
    assert time.process_time() - started < 10
    assert len(result.cells) == 0 and any("no cell was found" in one for one in result.warnings)


@pytest.mark.skipif(not DATA.exists(), reason="needs the shared data")
@pytest.mark.parametrize(
    "path", ["bccd/images/BloodImage_00206.jpg", "chula/images/43.jpg", "krd/neutrophil/1092.jpg"]
)
def test_real_fields_are_told_from_their_negatives(path: str) -> None:
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not there")
    pixels = read_image(DATA / path).pixels
    assert read_negative(pixels, compact("cpu")) is None
    negative = np.subtract(255, pixels)
    assert ground_level(negative) < 0.5
    found = read_negative(negative, compact("cpu"))
    assert found is not None and found.n_cells > 0


def test_share_of_bright_ground_by_hand() -> None:
    pixels = np.full((200, 300, 3), 220, np.uint8)
    labels = np.zeros((200, 300), np.int32)
    pixels[:, :100] = 120  # ln(220 / 120) = 0.61: no glass
    pixels[:, 200:] = 180  # ln(220 / 180) = 0.20: glass
    assert bright_ground(pixels, labels) == pytest.approx(2 / 3, abs=0.01)
    labels[:, :100] = 1
    assert bright_ground(pixels, labels) == pytest.approx(1, abs=0.01)
    heap = np.array([[0, 0], [150, 0], [150, 199], [0, 199]], np.float32)
    assert bright_ground(pixels, np.zeros_like(labels), [heap]) == pytest.approx(1, abs=0.01)
    labels[:] = 1
    assert math.isnan(bright_ground(pixels, labels))
