"""Quality before result: focus, stain, cells that lie too thick, grains, smudges, and the laboratory's reference."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.api import analyze
from napari_leukocls.batch.run import run_batch
from napari_leukocls.cli import main
from napari_leukocls.config import make_config
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs, group_as_slide
from napari_leukocls.measurement.findings import read_findings
from napari_leukocls.measurement.quality import FieldQuality, measure_quality
from napari_leukocls.measurement.quality_grades import (
    Check,
    grade_quality,
    is_quality_warning,
    read_measured,
    review_quality,
)
from napari_leukocls.measurement.smudges import MAYBE_SMUDGE, smudge_finding
from napari_leukocls.measurement.stain_reference import make_reference, read_reference, write_reference
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import drain
from napari_leukocls.results.writer import write_result
from napari_leukocls.synthetic.recipe import CameraRecipe, RedCellRecipe, SmearRecipe
from napari_leukocls.synthetic.render import SyntheticSmear, render_smear
from napari_leukocls.types import FieldResult, Scale, Segmentation

LEUKOCYTES = {"segmented_neutrophil": 4, "lymphocyte": 4, "monocyte": 2, "eosinophil": 1}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(make_config(device="cpu"))


@cache
def smear(
    count: int = 130, defocus_um: float = 0.12, seed: int = 1, debris: int = 0, **leukocytes: int
) -> SyntheticSmear:
    recipe = SmearRecipe(
        red_cells=RedCellRecipe(count=count, refractile=0.0, overlap=0.6 if count > 200 else 0.1),
        leukocytes={**LEUKOCYTES, **leukocytes},
        camera=CameraRecipe(defocus_um=defocus_um),
        debris=debris,
    )
    return render_smear(recipe, seed)


def graded(result: FieldResult, name: str) -> str:
    return str(result.run["quality"]["checks"][name])


def test_good_field_is_green_and_gives_no_warning(engine: Engine) -> None:
    result = analyze(smear().pixels, engine=engine)
    assert result.run["quality"]["grade"] == "green", result.warnings
    assert not any(is_quality_warning(one) for one in result.warnings)
    assert {one.state for one in result.findings if one.name.startswith("quality_")} == {"absent"}


def test_blur_is_measured_in_micrometres_at_any_pixel_size() -> None:
    truth = smear()
    widths = {}
    for factor in (1.0, 2.0):
        pixels = cv2.resize(truth.pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        labels = cv2.resize(
            truth.labels.astype(np.int32), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST
        )
        um = 1 / 6 / factor
        for blur_um in (0.0, 0.3, 0.6):
            blurred = cv2.GaussianBlur(pixels, (0, 0), blur_um / um) if blur_um else pixels
            widths[factor, blur_um] = measure_quality(blurred, drawn(truth, labels, um)).focus_um
    for blur_um in (0.0, 0.3, 0.6):
        assert widths[1.0, blur_um] == pytest.approx(widths[2.0, blur_um], rel=0.2)
    assert widths[1.0, 0.0] < widths[1.0, 0.3] < widths[1.0, 0.6]


def drawn(truth: SyntheticSmear, labels: np.ndarray, um: float) -> Segmentation:
    """The truth as a segmentation."""
    order = ("red_cell", "leukocyte", "platelet")
    kinds = np.zeros((int(labels.max()), 3), np.float32)
    for cell in truth.cells:
        kinds[cell.cell_id - 1, order.index(cell.kind)] = 1
    return Segmentation(labels, kinds, (246.0, 232.0, 214.0), Scale(um, 7.5 / um, "user"))


def test_field_out_of_focus_is_said_and_its_leukocytes_go_to_review(engine: Engine) -> None:
    result = analyze(smear(defocus_um=0.8).pixels, engine=engine, um_per_px=1 / 6)
    assert graded(result, "focus") == "red"
    assert any("out of focus" in one and "take the picture again" in one for one in result.warnings)
    nucleated = ~result.cells["class"].isin(["red_cell", "platelet"])
    assert nucleated.any()
    assert result.cells.loc[nucleated, "needs_review"].all()
    assert result.cells.loc[nucleated, "review_reason"].str.contains("out of focus").all()
    counts = result.counts
    assert counts.loc[counts["in_differential"], "count"].sum() == 0


def test_thick_and_thin_fields_are_said(engine: Engine) -> None:
    thick = analyze(smear(count=330).pixels, engine=engine)
    assert graded(thick, "red_cell_coverage") in ("amber", "red")
    assert any("thin end" in one for one in thick.warnings)
    thin = analyze(smear(count=8).pixels, engine=engine, um_per_px=1 / 6)
    assert graded(thin, "red_cell_coverage") != "green"
    assert any("few" in one and "further from the thin end" in one for one in thin.warnings)


def test_grains_of_precipitate_are_counted_beside_the_cells(engine: Engine) -> None:
    truth = smear()
    pixels, rng = truth.pixels.copy(), np.random.default_rng(0)
    free = np.argwhere(cv2.erode((truth.labels == 0).astype(np.uint8), np.ones((15, 15))) > 0)
    n = 250
    for y, x in free[rng.choice(len(free), n, replace=False)]:
        cv2.circle(pixels, (int(x), int(y)), 2, (60, 20, 90), -1, cv2.LINE_AA)
    seg = drawn(truth, truth.labels, 1 / 6)
    clean, dirty = measure_quality(truth.pixels, seg), measure_quality(pixels, seg)
    per_1000 = n / clean.area_um2 * 1000
    # Grains that touch are one.
    assert 0.7 * per_1000 < dirty.grains - clean.grains <= 1.05 * per_1000
    assert {check.name: check.grade for check in grade_quality([dirty], 1 / 6).checks}[
        "precipitate"
    ] != "green"


def test_stained_area_without_outline_is_measured() -> None:
    truth = smear()
    labels = truth.labels.copy()
    red = [cell.cell_id for cell in truth.cells if cell.kind == "red_cell"]
    labels[np.isin(labels, red[::2])] = 0
    whole = measure_quality(truth.pixels, drawn(truth, truth.labels, 1 / 6))
    half = measure_quality(truth.pixels, drawn(truth, labels, 1 / 6))
    assert whole.not_outlined < 0.01
    assert 0.2 < half.not_outlined < 0.5


def test_area_in_heaps_is_not_called_forgotten() -> None:
    truth = smear()
    labels = truth.labels.copy()
    labels[:, :300] = 0
    seg = drawn(truth, labels, 1 / 6)
    heap = np.array([[0, 0], [300, 0], [300, 576], [0, 576]], np.float32)
    forgotten = measure_quality(truth.pixels, seg)
    said = measure_quality(truth.pixels, replace(seg, heaps=(heap,)))
    assert forgotten.not_outlined > 0.15 > said.not_outlined
    assert said.heaps == pytest.approx(300 / 768, abs=0.01)


def test_drying_artefacts_are_judged_on_ten_red_cells_or_more() -> None:
    truth = smear()
    red = [cell.cell_id for cell in truth.cells if cell.kind == "red_cell"]
    for n, judged in ((3, False), (60, True)):
        labels = np.where(np.isin(truth.labels, red[n:]), 0, truth.labels)
        assert math.isfinite(measure_quality(truth.pixels, drawn(truth, labels, 1 / 6)).drying) == judged


def test_smudge_cells_go_to_review_and_whole_cells_do_not(engine: Engine) -> None:
    found = wrong = smudges = others = 0
    for seed in (1, 2, 3):
        truth = smear(seed=seed, smudge_cell=4)
        result = analyze(truth.pixels, engine=engine, um_per_px=1 / 6)
        suspected = result.cells["review_reason"].str.contains(MAYBE_SMUDGE).to_numpy()
        at = dict(zip(result.cells["cell_id"], suspected, strict=True))
        for cell in truth.cells:
            y, x = (
                min(round(v), size - 1) for v, size in zip(cell.centroid, truth.labels.shape, strict=True)
            )
            label = int(result.labels[y, x])
            if cell.kind != "leukocyte" or not label or cell.visible_fraction < 0.9:
                continue
            smudge = cell.name == "smudge_cell"
            smudges, others = smudges + smudge, others + (not smudge)
            found, wrong = found + (smudge and at[label]), wrong + (not smudge and at[label])
        one = next(one for one in result.findings if one.name == "leukocyte_smudges")
        assert one.low < one.value < one.high or one.state == "absent"
    assert found >= 0.7 * smudges > 0
    assert wrong <= 0.05 * others


@pytest.mark.parametrize(("blue", "grade"), [(0.45, "green"), (-0.05, "green"), (1.1, "amber"), (1.6, "red")])
def test_nuclei_that_are_not_violet_are_no_nuclei(blue: float, grade: str) -> None:
    """A stained nucleus, one whose glass is dark in blue light, a grey image, and the eye of a cat."""
    field = FieldQuality(5000.0, 20, nuclear_density_r=1.1, nuclear_density_g=1.1, nuclear_density_b=blue)
    quality = grade_quality([field], 0.1)
    assert quality.grade == grade
    cells = pd.DataFrame(
        {"class": ["erythroblast", "red_cell"], "needs_review": False, "review_reason": ["", ""]}
    )
    review_quality(cells, quality)
    assert cells["needs_review"].tolist() == [grade == "red", False]


def test_exchanged_red_and_blue_are_said_and_leukocytes_go_to_review(engine: Engine) -> None:
    right = read_image(sample_smear())
    swapped = replace(right, pixels=np.ascontiguousarray(right.pixels[..., ::-1]))
    for image, exchanged in ((right, False), (swapped, True)):
        result = drain(iter_analyze(image, engine))
        assert any("red and blue may be exchanged" in line for line in result.warnings) == exchanged
        reasons = result.cells.loc[~result.cells["class"].isin(["red_cell", "platelet"]), "review_reason"]
        assert len(reasons) and reasons.str.contains("red and blue").all() == exchanged
        # Nobody is sent to the stain for it.
        assert not any("stain longer" in line for line in result.warnings)


def test_exchanged_colours_of_red_cells_are_possible_where_no_nucleus_is_in_view() -> None:
    def check(red: float, blue: float) -> Check:
        field = FieldQuality(5e4, 90, red_density_r=red, red_density_g=0.4, red_density_b=blue)
        return next(one for one in grade_quality([field], 0.1).checks if one.name == "order_of_colours")

    assert (
        check(0.2, 0.3).grade == "green"
        and check(0.2, 0.3).text == "red cells are paler in red than in blue light."
    )
    assert check(0.3, 0.2).grade == "amber" and "may be exchanged" in check(0.3, 0.2).text


def test_share_of_smudge_cells_by_hand(engine: Engine) -> None:
    result = analyze(smear().pixels, engine=engine, um_per_px=1 / 6)
    cells, counts = result.cells.copy(), result.counts.copy()
    cells["review_reason"] = ""
    inside = counts["in_differential"].to_numpy(bool)
    counts.loc[:, "count"] = 0
    counts.loc[np.flatnonzero(inside)[0], "count"] = 90
    rows = cells.index[:10]
    assert len(rows) == 10
    cells["class"] = "red_cell"
    cells.loc[rows, "class"] = "smudge_cell"
    found = smudge_finding(cells, counts)
    assert (found.value, found.state) == (pytest.approx(10.0), "certain")
    # Clopper-Pearson limits of 10 of 100, from published tables.
    assert (found.low, found.high) == (pytest.approx(4.90, abs=0.01), pytest.approx(17.62, abs=0.01))


def test_figures_come_back_from_the_record() -> None:
    known = FieldQuality(5000.0, 42, focus_um=0.51234, red_coverage=0.4)
    again = FieldQuality.read(json.loads(json.dumps(known.record())))
    assert (again.red_cells, again.focus_um, again.red_coverage) == (42, 0.5123, 0.4)
    assert math.isnan(again.drying)


def test_image_without_cells_is_no_error(engine: Engine) -> None:
    result = analyze(np.full((200, 300, 3), 240, np.uint8), engine=engine, um_per_px=0.1)
    assert result.run["quality"]["grade"] in ("green", "amber")
    assert len(result.cells) == 0


def test_quality_of_a_slide_is_that_of_all_its_fields(tmp_path: Path) -> None:
    paths = []
    for name, defocus in (("a", 0.12), ("b", 0.12), ("c", 0.9)):
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), smear(defocus_um=defocus, seed=ord(name)).pixels[..., ::-1])
        paths.append(path)
    config = make_config(device="cpu", pixel_size_um=1 / 6)
    run_batch([group_as_slide(expand_inputs(paths), "slide")], tmp_path / "out", config)
    folder = tmp_path / "out" / "slide"
    run = json.loads((folder / "run.json").read_text("utf-8"))
    assert len(read_measured(run)) == 3
    assert run["quality"]["checks"]["focus"] == "amber"
    text = next(one.text for one in read_findings(folder) if one.name == "quality_focus")
    assert "1 of 3 fields is out of focus" in text


def test_reference_of_the_laboratory(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEUKOCLS_DATA", str(tmp_path / "user"))
    for seed in range(5):
        result = analyze(smear(seed=seed).pixels, engine=engine, um_per_px=1 / 6, slide_id=f"s{seed}")
        write_result(result, tmp_path / "results")
    assert main(["quality", str(tmp_path / "results"), "--make-reference"]) == 0
    assert "5 slides" in capsys.readouterr().out
    assert read_reference() is not None
    same = analyze(smear(seed=9).pixels, engine=engine, um_per_px=1 / 6)
    assert graded(same, "red_cell_stain") == "green"
    pale = (255 - (255 - smear(seed=9).pixels.astype(float)) * 0.6).astype(np.uint8)
    other = analyze(pale, engine=engine, um_per_px=1 / 6)
    assert graded(other, "red_cell_stain") != "green"
    assert any("reference slides" in one for one in other.warnings)


def test_reference_needs_slides_and_a_whole_file(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least 5 slides"):
        make_reference([FieldQuality(1000.0, 10)])
    path = tmp_path / "reference.json"
    slide = FieldQuality(1000.0, 10, red_density_r=0.2, red_density_g=0.4)
    write_reference(make_reference([slide] * 5), path)
    again = read_reference(path)
    assert again is not None
    assert again.n_slides == 5
    path.write_text('{"format": 1}', "utf-8")
    with pytest.raises(InputError, match="no stain reference"):
        read_reference(path)
    with pytest.raises(InputError, match="there is no"):
        read_reference(tmp_path / "none.json")


def test_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality", str(tmp_path)]) != 0
    assert "no result" in capsys.readouterr().err
