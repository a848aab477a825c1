"""The files of a slide: whole or absent, the same bytes every time, safe to open."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_leukocls.errors import InputError, OutputError
from napari_leukocls.io.atomic import replacing_folder, sweep
from napari_leukocls.io.html import NOTICE
from napari_leukocls.io.serialise import table_bytes
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.differential import differential
from napari_leukocls.results.overlay import draw_overlay, paint_outlines
from napari_leukocls.results.reader import read_cells
from napari_leukocls.results.summary import summary_row, write_failures, write_summary
from napari_leukocls.results.writer import write_result
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult, Predictions, Scale, Segmentation, SmearImage
from tests.results import discs_on_a_grid

CLASSES = (
    "neutrophil eosinophil basophil lymphocyte monocyte immature_granulocyte erythroblast platelet".split()
)
FILES = {"cells.csv", "counts.csv", "findings.csv", "labels.tif", "overlay.png", "report.html", "run.json"}


def smear(slide_id: str = "field 1", shape: tuple[int, int] = (480, 640), pitch: int = 60) -> FieldResult:
    """Discs on a grid; every sixth is a leukocyte and the fifth of those is unsure."""
    labels = discs_on_a_grid(shape, pitch)
    n = int(labels.max())
    pixels = np.full((*shape, 3), 235, np.uint8)
    pixels[labels > 0] = (210, 150, 160)
    classified = np.arange(6, n + 1, 6)
    kinds = np.tile(np.array([0.98765432, 0.01, 0], np.float32), (n, 1))
    kinds[classified - 1] = (0.1, 0.9, 0)
    probabilities = np.full((len(classified), len(CLASSES)), 0.01, np.float32)
    probabilities[np.arange(len(classified)), np.arange(len(classified)) % len(CLASSES)] = 0.93
    probabilities[4::5] = 1 / len(CLASSES)
    predicted = Predictions(tuple(CLASSES), probabilities, np.full(len(classified), 0.1, np.float32), 1.0)
    found = Segmentation(labels, kinds, (235.0, 235.0, 235.0), Scale(7.5 / 47, 47, "red_cell_ruler", n, 0.01))
    cells = build_cell_table(found, predicted, classified, slide_id, 7.5 / 47, CLASSES, 0.5)
    counts = differential(cells, default_scheme(), CLASSES, slide_id=slide_id)
    run = {
        "version": "1.2",
        "seconds": 0.123456789,
        "segmenter": {"name": "compact", "sha256": "ab" * 32},
        "classifier": {"name": "default", "sha256": "cd" * 32},
        "settings": {"min_confidence": None, "bad": float("nan"), "n": np.int64(3), "where": Path("x")},
    }
    image = SmearImage(pixels, slide_id, "/data/<x>.png")
    return FieldResult(cells, counts, run, ("look & <see>",), image=image, segmentation=found)


def empty(slide_id: str = "empty") -> FieldResult:
    full = smear(slide_id)
    none = replace(
        full.segmentation,
        labels=np.zeros((480, 640), np.int32),
        kind_probabilities=np.empty((0, 3), np.float32),
        scale=Scale(float("nan"), float("nan"), "unknown", sure=False),
    )
    cells = build_cell_table(none, None, [], slide_id, None, CLASSES)
    counts = differential(cells, default_scheme(), CLASSES, slide_id=slide_id)
    return replace(full, segmentation=none, cells=cells, counts=counts)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_slide_has_its_files_and_they_are_the_same_every_time(tmp_path: Path) -> None:
    paths = write_result(smear(), tmp_path / "a" / "b")
    assert paths["folder"] == tmp_path / "a" / "b" / "field 1"
    assert set(paths) == FILES | {"folder"}
    first = contents(paths["folder"])
    assert set(first) == FILES
    assert contents(write_result(smear(), tmp_path / "other")["folder"]) == first
    assert contents(write_result(smear(), tmp_path / "a" / "b")["folder"]) == first, "replaced by itself"
    assert os.listdir(tmp_path / "a" / "b") == ["field 1"], "nothing hidden is left"


def test_the_tables_read_back(tmp_path: Path) -> None:
    result = smear()
    paths = write_result(result, tmp_path)
    cells = pd.read_csv(paths["cells.csv"], keep_default_na=True)
    assert list(cells.columns) == list(result.cells.columns)
    assert list(cells["cell_id"]) == sorted(cells["cell_id"])
    assert cells["probability"].to_numpy() == pytest.approx(result.cells["probability"].to_numpy(), rel=1e-5)
    assert cells["needs_review"].dtype == bool
    first = rows_of(paths["cells.csv"])[0]
    assert first["probability"] == "0.987654"
    assert first["prob_monocyte"] == ""
    counts = pd.read_csv(paths["counts.csv"])
    assert counts["count"].sum() + cells["needs_review"].sum() == len(cells)


def test_labels_keep_the_cell_ids_and_the_scale(tmp_path: Path) -> None:
    result = smear()
    with tifffile.TiffFile(write_result(result, tmp_path)["labels.tif"]) as file:
        page = file.pages[0]
        assert np.array_equal(page.asarray(), result.labels)
        assert page.dtype == np.int32
        across, unit = page.tags["XResolution"].value, page.tags["ResolutionUnit"].value
        assert across[0] / across[1] == pytest.approx(1e4 / (7.5 / 47), rel=1e-6)
        assert unit == 3, "centimetre"


def test_the_report_stands_alone_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    page = write_result(smear("<script>alert(1)<script>"), tmp_path)["report.html"].read_text(
        encoding="utf-8"
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "look &amp; &lt;see&gt;" in page
    assert "/data/&lt;x&gt;.png" in page
    assert page.count(NOTICE) == 1
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('src="') == page.count('src="data:image/')
    assert "Clopper-Pearson" in page
    assert "ab" * 32 in page
    leukocytes = page.split("least certain first</h4>")[1].split("<td")[1:]
    assert "low confidence" in leukocytes[0], "the least certain first"
    assert "low confidence" not in leukocytes[-1]


def test_the_run_is_plain_json(tmp_path: Path) -> None:
    run = json.loads(write_result(smear(), tmp_path)["run.json"].read_text(encoding="utf-8"))
    assert run["settings"] == {"min_confidence": None, "bad": None, "n": 3, "where": "x"}
    assert run["classifier"]["sha256"] == "cd" * 32
    assert run["warnings"] == ["look & <see>"]
    assert run["slide_id"] == "field 1"


def test_the_overlay_is_the_field_with_outlines_in_the_colours_of_the_classes() -> None:
    result, scheme = smear(), default_scheme()
    picture = np.asarray(draw_overlay(result, scheme))
    assert picture.shape[1:] == (640, 3)
    assert picture.shape[0] > 480, "the legend is below"
    cell = result.cells[result.cells["class"] == "eosinophil"].iloc[0]
    y, x = int(cell["centroid_y"]), int(cell["bbox_x0"])
    assert tuple(picture[y, x]) == tuple(picture[y, x + 1]) == scheme["eosinophil"].rgb
    assert tuple(picture[y, int(cell["centroid_x"])]) == (210, 150, 160), "the inside is left as it is"


def test_outlines_part_cells_that_touch() -> None:
    labels = np.zeros((8, 12), np.int32)
    labels[1:7, 1:6], labels[1:7, 6:11] = 1, 2
    pixels = np.zeros((8, 12, 3), np.uint8)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    paint_outlines(pixels, labels, colours, np.array([False, False, True]))
    assert pixels[4, 5, 0] == pixels[4, 6, 1] == pixels[4, 7, 1] == 255
    assert pixels[4, 4].sum() == pixels[0].sum() == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (480, 640)])
def test_a_field_with_no_cell_is_a_result(tmp_path: Path, shape: tuple[int, int]) -> None:
    full = empty()
    image = replace(full.image, pixels=full.image.pixels[: shape[0], : shape[1]])
    labels = full.segmentation.labels[: shape[0], : shape[1]]
    result = replace(full, image=image, segmentation=replace(full.segmentation, labels=labels))
    paths = write_result(result, tmp_path)
    counts = pd.read_csv(paths["counts.csv"])
    assert (counts["count"] == 0).all()
    assert counts["percent"].isna().all()
    assert len(pd.read_csv(paths["cells.csv"])) == 0
    assert "No leukocyte was counted" in paths["report.html"].read_text(encoding="utf-8")
    row = summary_row(result)
    assert (row["n_cells"], row["n_wbc"], row["n_review"]) == (0, 0, 0)
    poor = replace(result, run={**result.run, "quality": {"grade": "red"}})
    assert "quality_red" in summary_row(poor)["flags"].split() and "quality_red" not in row["flags"]
    assert np.isnan(row["pct_neutrophil"])
    assert json.loads(paths["run.json"].read_text(encoding="utf-8"))["slide_id"] == "empty"
    with Image.open(paths["overlay.png"]) as picture:
        assert picture.width == shape[1]


def test_text_that_a_spreadsheet_would_run_is_defused(tmp_path: Path) -> None:
    for name in ("=1+1", "+x", "-x", "@x", "\tx"):
        table = pd.DataFrame({"slide_id": [name], "n": [-5], "x": [-0.5], "y": [-0.0]})
        assert table_bytes(table).decode().splitlines()[1] == f"'{name},-5,-0.5,0"
    paths = write_result(smear("=cmd"), tmp_path)
    assert {row["slide_id"] for row in rows_of(paths["cells.csv"])} == {"'=cmd"}


@pytest.mark.parametrize("slide_id", ["", "..", "a/b", "a\\b", "a\0b"])
def test_a_slide_name_cannot_lead_out_of_the_folder(tmp_path: Path, slide_id: str) -> None:
    with pytest.raises(OutputError, match="cannot name a folder"):
        write_result(replace(smear(), image=replace(smear().image, slide_id=slide_id)), tmp_path)


def test_a_full_disk_leaves_the_older_result_and_nothing_half_written(tmp_path: Path) -> None:
    def full(result: FieldResult, folder: Path) -> None:
        assert (folder / "report.html").exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="disk is full"):
        write_result(smear(), tmp_path, extra=[full])
    assert os.listdir(tmp_path) == []
    before = contents(write_result(smear(), tmp_path)["folder"])
    with pytest.raises(OutputError, match="disk is full"):
        write_result(replace(smear(), warnings=("new",)), tmp_path, extra=[full])
    assert os.listdir(tmp_path) == ["field 1"]
    assert contents(tmp_path / "field 1") == before


def test_further_exports_join_the_folder_before_it_appears(tmp_path: Path) -> None:
    def more(result: FieldResult, folder: Path) -> None:
        assert not (tmp_path / "field 1").exists()
        (folder / "cells.geojson").write_text("{}", encoding="utf-8")

    assert write_result(smear(), tmp_path, extra=[more])["cells.geojson"].read_text(encoding="utf-8") == "{}"


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "field 1").mkdir()
    write_result(smear(), tmp_path)
    theirs = tmp_path / "field 2"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="does not hold earlier results"):
        write_result(smear("field 2"), tmp_path)
    assert contents(theirs) == {"thesis.txt": b"mine"}


def test_what_a_dead_run_left_is_swept(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "field 1") as hidden:
        (hidden / "run.json").write_text("{}", encoding="utf-8")
    hidden.mkdir()
    write_result(smear(), tmp_path)
    assert hidden.exists(), "another run may be at work on it"
    os.utime(hidden, (1, 1))
    write_result(smear(), tmp_path)
    assert os.listdir(tmp_path) == ["field 1"]


def test_what_a_process_that_is_gone_left_is_swept_at_once(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from napari_leukocls.io.atomic import replacing_folder, sweep\n"
        "with replacing_folder(pathlib.Path(sys.argv[1])) as hidden: os._exit(9)"
    )
    gone = subprocess.run([sys.executable, "-c", program, str(tmp_path / "field 1")], check=False)
    assert gone.returncode == 9 and len(os.listdir(tmp_path)) == 1
    with replacing_folder(tmp_path / "field 2") as hidden:
        (hidden / "run.json").write_text("{}", encoding="utf-8")
        sweep(tmp_path)
        assert hidden.exists()
    assert os.listdir(tmp_path) == ["field 2"]


def test_two_that_finish_the_same_folder_at_once_leave_one_whole(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(30):
            with replacing_folder(tmp_path / "field") as hidden:
                (hidden / "run.json").write_text(str(number), encoding="utf-8")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert os.listdir(tmp_path) == ["field"] and os.listdir(tmp_path / "field") == ["run.json"]


def test_long_and_foreign_names_become_folders(tmp_path: Path) -> None:
    for name in ("ø血 smear", "x" * 240):
        assert write_result(smear(name), tmp_path)["folder"].is_dir()


def test_the_summary_has_one_row_a_slide_in_order(tmp_path: Path) -> None:
    rows = [summary_row(result) for result in (smear("b"), empty("a"))]
    rows[0]["pct_blast"] = 12.345678
    table = pd.read_csv(write_summary(rows, tmp_path / "summary.csv"))
    assert list(table.columns) == [
        *("slide_id", "source", "status", "n_cells", "n_wbc", "n_rbc", "n_platelet", "n_review"),
        *(f"pct_{name}" for name in [*CLASSES[:6], "blast"]),
        *("segmenter", "classifier", "um_per_px", "seconds", "version", "state", "flags"),
    ]
    assert list(table["slide_id"]) == ["a", "b"]
    second = table.iloc[1]
    assert second["pct_blast"] == 12.3457
    assert second["seconds"] == 0.123457
    assert (second["segmenter"], second["classifier"]) == ("compact", "default")
    assert second["n_cells"] == second["n_rbc"] + 14
    assert second["n_wbc"] + second["n_platelet"] + second["n_review"] <= 14
    assert len(pd.read_csv(write_summary([], tmp_path / "none.csv"))) == 0


def test_failures_are_listed(tmp_path: Path) -> None:
    rows = [
        {"slide_id": "b", "source": "b.png", "error": "not an image, sorry"},
        {"slide_id": "a", "source": "-a.png", "error": "empty"},
    ]
    text = write_failures(rows, tmp_path / "failures.csv").read_text(encoding="utf-8")
    assert text == 'slide_id,source,error\na,\'-a.png,empty\nb,b.png,"not an image, sorry"\n'


def test_writing_takes_little_time(tmp_path: Path) -> None:
    small, large = smear(), smear("large", (3072, 4096), 80)
    write_result(small, tmp_path)
    taken = []
    for result in (small, large):
        start = time.perf_counter()
        write_result(result, tmp_path)
        taken.append(time.perf_counter() - start)
    assert taken[0] < 1.0, "0.1 s on an idle machine"
    assert taken[1] < 8.0, "1 s on an idle machine"


def deleted(result: FieldResult, cell_id: int) -> FieldResult:
    """The result after a person has deleted a cell: its id stays free."""
    labels = np.where(result.labels == cell_id, 0, result.labels)
    cells = result.cells[result.cells["cell_id"] != cell_id].reset_index(drop=True)
    return replace(result, cells=cells, segmentation=replace(result.segmentation, labels=labels))


def test_results_with_a_deleted_cell_open_in_napari(tmp_path: Path) -> None:
    from napari_leukocls._reader import get_reader

    result = deleted(smear(), 3)
    folder = write_result(result, tmp_path)["folder"]
    for path in (folder, folder / "labels.tif", folder / "cells.csv"):
        reader = get_reader(path)
        assert reader is not None
        # A folder is opened with its image, which is not there any more.
        told = pytest.warns(UserWarning, match="only the cells are shown: there is no file")
        with told if path == folder else nullcontext():
            ((labels, settings, kind),) = reader(path)
        np.testing.assert_array_equal(labels, result.labels)
        features = settings["features"]
        assert kind == "labels" and list(features["index"]) == list(range(result.labels.max() + 1))
        assert features.loc[3, "class"] is None, "the free id has an empty row"
        known = features.set_index("index").loc[result.cells["cell_id"], "class"]
        assert list(known) == list(result.cells["class"])


@pytest.mark.parametrize("name", ["NA", "null", "=1+1", "caf\udce9"])
def test_texts_are_read_as_they_were_written(name: str, tmp_path: Path) -> None:
    cells = smear(name).cells.assign(reviewer=name, review_reason="")
    folder = write_result(replace(smear(name), cells=cells), tmp_path)["folder"]
    again = read_cells(folder)
    for column in ("slide_id", "class", "reviewer", "review_reason", "predicted_class", "corrected_class"):
        assert list(again[column]) == list(cells[column]), column
    for column in ("cell_id", "needs_review", "bbox_y0", "area_px"):
        assert list(again[column]) == list(cells[column]), column


def test_cells_that_do_not_fit_the_labels_are_refused(tmp_path: Path) -> None:
    from napari_leukocls._reader import get_reader

    whole = smear()
    folder = write_result(replace(whole, cells=whole.cells[whole.cells["cell_id"] != 3]), tmp_path)["folder"]
    reader = get_reader(folder)
    assert reader is not None
    told = pytest.warns(UserWarning, match="only the cells are shown: the cells.csv")
    with told, pytest.raises(InputError, match="does not fit its labels"):
        reader(folder)
