"""``leukocls analyze --format``: every export of a real analysis, of a field and of a slide of fields."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from napari_leukocls.paths import sample_smear

ALL = "csv,geojson,coco,ometiff,anndata,xlsx,fhir,hl7,corrected,positions"
OF_CELLS = {"cells.geojson", "coco.json", "labels.ome.tif"}
OF_COUNTS = {"cells.h5ad", "slide.xlsx", "report.fhir.json", "report.hl7", "corrected.csv", "positions.csv"}


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts of the bundled smear, one with a name that means harm."""
    folder = tmp_path_factory.mktemp("fields")
    with Image.open(sample_smear()) as picture:
        picture.crop((480, 940, 800, 1180)).save(folder / "=1+1<b>.png")
        picture.crop((1440, 1240, 1760, 1480)).save(folder / "second.png")
    return folder


def analyze(fields: Path, out: Path, *words: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "napari_leukocls",
            "analyze",
            str(fields),
            "--out",
            str(out),
            "--format",
            ALL,
            *("--pixel-size-um", "0.16", *words),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_field_has_every_export(fields: Path, tmp_path: Path) -> None:
    analyze(fields, tmp_path / "out")
    for slide in ("=1+1_b_", "second"):
        folder = tmp_path / "out" / slide
        assert OF_CELLS | OF_COUNTS <= {path.name for path in folder.iterdir()}
        cells = pd.read_csv(folder / "cells.csv")
        features = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))["features"]
        assert [int(feature["properties"]["name"]) for feature in features] == list(cells["cell_id"])
        annotations = json.loads((folder / "coco.json").read_text(encoding="utf-8"))["annotations"]
        assert [one["area"] for one in annotations] == list(cells["area_px"])
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
        assert settings["formats"] == ALL.split(",")[1:]
    assert "<b>" not in (tmp_path / "out" / "=1+1_b_" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_slide_of_fields_has_its_count_once(fields: Path, tmp_path: Path) -> None:
    analyze(fields, tmp_path / "out", "--as-slide", "S1")
    slide = tmp_path / "out" / "S1"
    names = {path.name for path in slide.iterdir()}
    assert OF_COUNTS <= names and not OF_CELLS & names
    for field in (slide / "fields").iterdir():
        inside = {path.name for path in field.iterdir()}
        assert OF_CELLS <= inside and not OF_COUNTS & inside
