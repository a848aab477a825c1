"""``leukocls explain`` and ``analyze --heatmaps``, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tifffile import TiffFile, imread

from napari_leukocls.cli import main
from napari_leukocls.paths import sample_smears


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small field of a bundled smear, and one of its leukocytes as a crop."""
    folder = tmp_path_factory.mktemp("images")
    name, path = sorted(sample_smears().items())[0]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    truth = pd.read_csv(path.with_name(f"{name}_truth.csv"))
    labels = imread(path.with_name(f"{name}_labels.tif"))
    kinds = truth[truth["class"].isin(["eosinophil", "neutrophil", "segmented_neutrophil", "lymphocyte"])]
    height, width = labels.shape
    for cell in kinds.to_dict("records"):
        y, x = (int(part.mean()) for part in np.nonzero(labels == cell["cell_id"]))
        if 200 < y < height - 200 and 250 < x < width - 250:
            break
    Image.fromarray(pixels[y - 190 : y + 190, x - 240 : x + 240]).save(folder / "field.png")
    Image.fromarray(pixels[y - 100 : y + 100, x - 100 : x + 100]).save(folder / "crop.png")
    return folder


def _um_per_px() -> str:
    """Of the bundled smears."""
    return "0.19"


def test_fields_and_crops_to_heatmaps(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    (tmp_path / "broken.png").write_text("no image")
    words = ["explain", "default", str(images), str(tmp_path / "broken.png"), "--out", str(out)]
    assert main([*words, "--pixel-size-um", _um_per_px(), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["kind"] for row in said["images"]} == {"field": "field", "crop": "crop"}
    assert said["failures"][0]["slide_id"] == "broken"
    table = pd.read_csv(out / "explanations.csv")
    assert set(table["image"]) == {"field", "crop"}
    assert table["probability"].between(0, 1).all() and table["class"].notna().all()
    field = imread(out / "heatmaps" / "field.tif")
    assert field.shape == (380, 480) and field.dtype == np.float32 and 0 < field.max() <= 1
    with TiffFile(out / "heatmaps" / "field.tif") as tiff:
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e4 / float(_um_per_px()), rel=1e-3)
    with Image.open(out / "heatmaps" / "field.png") as placed, Image.open(out / "figure.png") as figure:
        assert placed.size == (480, 380) and figure.width > 300
    assert (out / "figure.svg").is_file()
    page = (out / "report.html").read_text(encoding="utf-8")
    # With the colon: a picture in the page may by chance hold the letters alone.
    outside = page.replace("http://www.w3.org", "")
    assert "What default looks at" in page and "http:" not in outside and "https:" not in outside
    run = json.loads((out / "run.json").read_text())
    assert run["model"]["method"] == said["model"]["method"]
    # The folder is replaced as a whole, and a folder of somebody else's is not.
    assert main([*words[:2], str(images / "crop.png"), "--out", str(out), "--kind", "crop"]) == 0
    assert len(pd.read_csv(out / "explanations.csv")) == 1 and not (out / "failures.csv").exists()
    assert main([*words[:2], str(images / "crop.png"), "--out", str(images), "--kind", "crop"]) == 2
    assert sorted(path.name for path in images.iterdir()) == ["crop.png", "field.png"]


@pytest.mark.slow
def test_checks_are_written(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["explain", "default", str(images), "--out", str(out), "--pixel-size-um", _um_per_px(), "--check"]
    assert main([*words, "--method", "Grad-CAM"]) == 0
    checks = json.loads((out / "checks.json").read_text())
    assert checks["randomisation"]["passed"] and checks["state"] in ("trusted", "weak")
    table = pd.read_csv(out / "explanations.csv")
    assert (table["method"] == "gradcam").all()
    assert {"deletion_auc", "insertion_auc", "energy_in_cell", "occlusion_drop_black"} <= set(table)
    assert "The same model with random weights" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("default", "a.png", "--method", "gradcm"), "did you mean gradcam"),
        (("defalt", "a.png"), "did you mean 'default'"),
        (("compact", "a.png"), "not a classifier"),
    ],
)
def test_wrong_words_are_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, words: tuple[str, ...], says: str
) -> None:
    out = tmp_path / "out"
    assert main(["explain", *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error
    assert not out.exists()


def test_heatmaps_in_the_report_of_an_analysis(images: Path, tmp_path: Path) -> None:
    words = ["analyze", str(images / "field.png"), "--pixel-size-um", _um_per_px()]
    assert main([*words, "--out", str(tmp_path / "with"), "--heatmaps", "2"]) == 0
    assert main([*words, "--out", str(tmp_path / "without")]) == 0
    page, plain = (
        (tmp_path / name / "field" / "report.html").read_text(encoding="utf-8")
        for name in ("with", "without")
    )
    assert "Heatmaps: where the model finds its evidence" in page and "crop, heatmap and both" in page
    assert "Heatmaps: where the model finds its evidence" not in plain
    assert (tmp_path / "with/field/counts.csv").read_bytes() == (
        tmp_path / "without/field/counts.csv"
    ).read_bytes()


def test_images_that_cannot_be_read_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert main(["explain", "default", str(tmp_path / "nothere.png"), "--out", str(out)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "there is no file" in error and "unexpected" not in error
    assert not out.exists()
