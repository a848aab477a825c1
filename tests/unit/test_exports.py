"""Exports: each read back by another program's library, and safe to open."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.results.exports import FORMATS, parse_formats, write_exports
from napari_leukocls.results.writer import write_result
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult, Segmentation, SlideResult
from tests.results import make_result

HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> ^~\\& \x07 ../../x"

#: Those that need nothing of the model that made the result.
PLAIN = [name for name in FORMATS if name != "corrected"]


@pytest.fixture(scope="module")
def result() -> FieldResult:
    """A result with holes, a cell of two parts, a correction, and texts that mean harm."""
    made = make_result(HOSTILE, source="/home/ada/=1+1 & <b>.png")
    labels = made.labels.copy()
    y, x = np.nonzero(labels == 3)
    labels[int(y.mean()) - 2 : int(y.mean()) + 2, int(x.mean()) - 2 : int(x.mean()) + 2] = 0
    y, x = np.nonzero(labels == 5)
    labels[:, int(x.mean()) : int(x.mean()) + 3][labels[:, int(x.mean()) : int(x.mean()) + 3] == 5] = 0
    cells = made.cells.copy()
    area = np.bincount(labels.ravel())[1:]
    cells["area_px"] = area
    cells.loc[1, ["class", "corrected_class", "reviewer"]] = ["blast", "blast", "@SUM(A1)"]
    segmentation = replace(made.segmentation, labels=labels)
    return replace(made, cells=cells, segmentation=segmentation, warnings=("=1+1", "look & <see>|x"))


def write(result: FieldResult, folder: Path, name: str) -> Path:
    (path,) = write_exports(result, folder, [name])
    assert path == folder / FORMATS[name].file
    return path


def drawn(rings: list[list[list[float]]], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies within a polygon with holes."""
    from matplotlib.path import Path as Ring

    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = np.zeros(shape, bool)
    for ring in rings:
        inside ^= Ring(ring).contains_points(centres).reshape(shape)
    return inside


def test_geojson_draws_the_cells_again(result: FieldResult, tmp_path: Path) -> None:
    import geojson

    text = write(result, tmp_path, "geojson").read_text(encoding="utf-8")
    collection = geojson.loads(text)
    assert collection.is_valid, collection.errors()
    assert len(collection["features"]) == len(result.cells)
    scheme = default_scheme()
    again = np.zeros_like(result.labels)
    for feature in collection["features"]:
        properties, geometry = feature["properties"], feature["geometry"]
        cell = int(properties["name"])
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        assert (geometry["type"] == "MultiPolygon") == (cell == 5)
        for part in parts:
            again[drawn(part, again.shape)] = cell
        row = result.cells.set_index("cell_id").loc[cell]
        assert properties["objectType"] == "detection"
        assert properties["classification"] == {
            "name": scheme[row["class"]].display,
            "color": list(scheme[row["class"]].rgb),
        }
        assert properties["measurements"]["Area px"] == row["area_px"]
        assert all(np.isfinite(value) for value in properties["measurements"].values())
    assert np.array_equal(again, result.labels)
    assert len({feature["id"] for feature in collection["features"]}) == len(result.cells)
    assert text == write(result, tmp_path, "geojson").read_text(encoding="utf-8"), "the same every time"


@settings(max_examples=150, deadline=None)
@given(bits=st.lists(st.booleans(), min_size=30, max_size=30))
def test_any_mask_becomes_a_valid_polygon(bits: list[bool]) -> None:
    import shapely

    from napari_leukocls.results.exports.geojson import outline

    mask = np.array(bits).reshape(5, 6)
    if not mask.any():
        return
    geometry = outline(mask, (7, 11))
    shape = shapely.from_geojson(json.dumps(geometry))
    assert shape.is_valid and not shape.is_empty
    y, x = np.mgrid[:5, :6]
    inside = shapely.contains_xy(shape, x + 11.5, y + 7.5)
    assert np.array_equal(inside, mask)
    assert shape.equals_exact(shapely.orient_polygons(shape)), "outer rings run as the standard has it"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decoder
def test_coco_masks_are_the_labels(result: FieldResult, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(write(result, tmp_path, "coco")))
    names = {entry["id"]: entry["name"] for entry in coco.loadCats(coco.getCatIds())}
    rows = result.cells.set_index("cell_id")
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == len(rows)
    for annotation in annotations:
        cell = annotation["id"]
        mask = coco.annToMask(annotation).astype(bool)
        assert np.array_equal(mask, result.labels == cell)
        assert names[annotation["category_id"]] == rows.loc[cell, "class"]
        assert annotation["area"] == mask.sum()
        x, y, width, height = annotation["bbox"]
        assert [y, x, y + height, x + width] == rows.loc[
            cell, ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]
        ].tolist()
    (image,) = coco.loadImgs(coco.getImgIds())
    assert image["file_name"] == "=1+1 & <b>.png", "no folder of the user's"


def test_ome_tiff_states_its_scale(result: FieldResult, tmp_path: Path) -> None:
    import ome_types
    from PIL import Image

    path = write(result, tmp_path, "ometiff")
    pixels = ome_types.from_tiff(path).images[0].pixels
    assert (pixels.size_x, pixels.size_y, pixels.type.value) == (360, 240, "int32")
    assert pixels.physical_size_x == pytest.approx(result.um_per_px)
    assert pixels.physical_size_x_unit.value == "µm"
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), result.labels)
    before = path.read_bytes()
    assert write(result, tmp_path, "ometiff").read_bytes() == before, "the same every time"


def test_labels_that_are_not_in_memory_are_read_by_tiles(result: FieldResult, tmp_path: Path) -> None:
    """Whole slides have labels that are read from disk, a part at a time."""
    import tifffile

    class OnDisk:
        shape, dtype, ndim = (1100, 1300), np.dtype(np.int32), 2

        def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
            y, x = where
            assert (y.stop - y.start) * (x.stop - x.start) <= 512 * 512
            full = np.zeros(self.shape, np.int32)
            full[:240, :360] = result.labels
            return full[where]

    lazy = Segmentation(
        OnDisk(),  # type: ignore[arg-type]
        result.segmentation.kind_probabilities,
        result.segmentation.glass_colour,
        result.segmentation.scale,
    )
    write_exports(replace(result, segmentation=lazy), tmp_path, ["ometiff", "geojson", "coco"])
    read = tifffile.imread(tmp_path / "labels.ome.tif")
    assert read.shape == (1100, 1300) and np.array_equal(read[:240, :360], result.labels)


def test_anndata_is_hdf5_that_others_read(result: FieldResult, tmp_path: Path) -> None:
    import h5py

    path = write(result, tmp_path, "anndata")
    with h5py.File(path) as file:
        assert file.attrs["encoding-type"] == "anndata"
        names = [text.decode() for text in file["var"]["_index"][:]]
        columns = [f"prob_{name}" for name in names]
        assert np.allclose(file["X"][:], result.cells[columns].to_numpy(float), equal_nan=True, rtol=1e-6)
        assert np.allclose(file["obsm"]["spatial"][:], result.cells[["centroid_x", "centroid_y"]])
        codes, levels = file["obs"]["class"]["codes"][:], file["obs"]["class"]["categories"][:]
        assert [levels[code].decode() for code in codes] == list(result.cells["class"])
        run = json.loads(file["uns"]["leukocls"][()])
    assert run["classifier"]["name"] == "default"


def test_a_workbook_runs_nothing(result: FieldResult, tmp_path: Path) -> None:
    import openpyxl
    from python_calamine import CalamineWorkbook

    path = write(result, tmp_path, "xlsx")
    with zipfile.ZipFile(path) as archive:
        sheets = [archive.read(name).decode() for name in archive.namelist() if "worksheets/" in name]
    assert not any("<f>" in sheet or "<f " in sheet for sheet in sheets), "no formula"
    book = CalamineWorkbook.from_path(path)
    assert book.sheet_names == ["Report", "Counts", "Findings", "Cells", "Run"]
    counts = book.get_sheet_by_name("Counts").to_python()
    assert counts[0] == list(result.counts.columns)
    assert [row[2] for row in counts[1:]] == list(result.counts["count"])
    cells = book.get_sheet_by_name("Cells").to_python()
    assert len(cells) == len(result.cells) + 1
    reviewer = cells[0].index("reviewer")
    assert cells[2][reviewer] == "@SUM(A1)", "the text is kept as it is"
    cell = openpyxl.load_workbook(path)["Cells"].cell(3, reviewer + 1)
    assert (cell.data_type, cell.quotePrefix) == ("s", True)
    run = dict(row[:2] for row in book.get_sheet_by_name("Run").to_python())
    assert run["notice"].endswith("Not for diagnosis.")
    assert run["slide_id"] == HOSTILE.replace("\x07", "?")
    assert run["classifier.sha256"] == "cd" * 32


def test_fhir_is_read_by_another_library(result: FieldResult, tmp_path: Path) -> None:
    from fhirclient.models.bundle import Bundle

    data = json.loads(write(result, tmp_path, "fhir").read_text(encoding="utf-8"))
    bundle = Bundle(data)  # strict: it raises where something is not FHIR
    by_url = {entry.fullUrl: entry.resource for entry in bundle.entry}
    report = bundle.entry[0].resource
    assert (report.resource_type, report.status) == ("DiagnosticReport", "preliminary")
    assert "Not for diagnosis." in report.text.div
    assert "<script>" not in report.text.div
    observations = [by_url[reference.reference] for reference in report.result]
    by_code = {one.code.coding[-1].code: one for one in observations}
    percents = result.counts.dropna(subset=["percent"]).set_index("class")
    for name, row in percents.iterrows():
        one = by_code[name]
        assert one.valueQuantity.value == pytest.approx(row["percent"], abs=0.006)
        assert (one.valueQuantity.code, one.valueQuantity.system) == ("%", "http://unitsofmeasure.org")
        loinc = [code.code for code in one.code.coding if code.system == "http://loinc.org"]
        assert loinc == ([default_scheme()[name].loinc] if default_scheme()[name].loinc else [])
        low, high = (part.valueQuantity.value for part in one.component[1:])
        assert (low, high) == pytest.approx((row["ci95_low"], row["ci95_high"]), abs=0.006)
        assert by_url[one.specimen.reference].resource_type == "Specimen"
    assert by_code["erythroblast"].valueQuantity.code == "/100{WBCs}"
    assert by_code["immature_granulocyte"].code.coding[0].system == "urn:napari-leukocls:codes"
    assert not {"red_cell", "platelet", "artefact"} & by_code.keys()


def test_hl7_is_read_by_another_library(result: FieldResult, tmp_path: Path) -> None:
    import hl7

    text = write(result, tmp_path, "hl7").read_bytes().decode("utf-8")
    assert "\n" not in text and text.split("\r")[0].startswith("MSH|^~\\&|")
    message = hl7.parse(text)
    assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    lines = {str(line[3][0][3 if len(line[3][0]) == 6 else 0]): line for line in message.segments("OBX")}
    percents = result.counts.dropna(subset=["percent"]).set_index("class")
    for name, row in percents.iterrows():
        line = lines[str(name)]
        assert float(str(line[5])) == pytest.approx(row["percent"], abs=0.006)
        assert str(line[6][0][0]) == "%" and str(line[11]) == "P"
    assert str(lines["neutrophil"][3][0][0]) == "26511-6"
    slide = message.unescape(str(message.segment("OBR")[3]))
    assert slide == HOSTILE.replace("\x07", " "), "what the text holds does not become structure"
    notes = [message.unescape(str(note[3])) for note in message.segments("NTE")]
    assert notes[0].endswith("Not for diagnosis.") and "look & <see>|x" in notes


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    slide_id=st.text(min_size=1, max_size=30),
    source=st.text(st.characters(), max_size=30),
    warning=st.text(max_size=20),
    reviewer=st.text(max_size=10),
)
@example(slide_id="a\udcffb", source="/x/\udcff.png", warning="\udcff\0", reviewer="\ufffe")
def test_whatever_the_texts_are_the_files_are_read_back(
    tmp_path: Path, slide_id: str, source: str, warning: str, reviewer: str
) -> None:
    import h5py
    import hl7
    import ome_types
    from fhirclient.models.bundle import Bundle
    from pycocotools.coco import COCO
    from python_calamine import CalamineWorkbook

    made = make_result(slide_id, (80, 120), source=source)
    cells = made.cells.assign(reviewer=reviewer, slide_id=slide_id)
    wild = replace(made, cells=cells, warnings=(warning,))
    write_exports(wild, tmp_path, PLAIN)
    assert len(json.loads((tmp_path / "cells.geojson").read_text(encoding="utf-8"))["features"]) == len(cells)
    assert len(COCO(str(tmp_path / "coco.json")).getAnnIds()) == len(cells)
    assert ome_types.from_tiff(tmp_path / "labels.ome.tif").images[0].pixels.size_x == 120
    with h5py.File(tmp_path / "cells.h5ad") as file:
        assert len(file["obs"]["_index"]) == len(cells)
    book = CalamineWorkbook.from_path(tmp_path / "slide.xlsx")
    assert len(book.get_sheet_by_name("Cells").to_python()) == len(cells) + 1
    Bundle(json.loads((tmp_path / "report.fhir.json").read_text(encoding="utf-8")))
    message = hl7.parse((tmp_path / "report.hl7").read_bytes().decode("utf-8"))
    assert len(message.segments("OBR")) == len(message.segments("PID")) == 1


@pytest.mark.parametrize("name", PLAIN)
def test_a_field_without_cells_can_be_exported(name: str, tmp_path: Path) -> None:
    made = make_result()
    none = replace(
        made.segmentation,
        labels=np.zeros_like(made.labels),
        kind_probabilities=np.empty((0, 3), np.float32),
        scale=replace(made.segmentation.scale, um_per_px=float("nan")),
    )
    counts = made.counts.assign(
        count=0, percent=np.nan, ci95_low=np.nan, ci95_high=np.nan, per_100_wbc=np.nan
    )
    empty = replace(made, segmentation=none, cells=made.cells.iloc[:0], counts=counts)
    assert write(empty, tmp_path, name).stat().st_size > 0


def test_names_of_formats_are_checked() -> None:
    assert parse_formats(" CSV,xlsx, geojson,xlsx,") == ("geojson", "xlsx")
    assert parse_formats("csv") == ()
    with pytest.raises(ArgumentError, match="did you mean 'geojson'"):
        parse_formats("geojsn")
    with pytest.raises(ArgumentError, match="there are csv, geojson, coco"):
        parse_formats(["parquet"])


@pytest.mark.parametrize("name", [name for name, export in FORMATS.items() if export.needs])
def test_a_missing_library_is_named_with_its_extra(name: str) -> None:
    code = (
        "import sys\n"
        f"for name in {FORMATS[name].needs!r}: sys.modules[name] = None\n"
        "from napari_leukocls.results.exports import parse_formats\n"
        f"parse_formats({name!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"ArgumentError: --format {name} needs" in done.stderr
    assert f"pip install 'napari-leukocls[{FORMATS[name].extra}]'" in done.stderr


def test_a_slide_of_fields_has_a_count_and_no_outlines(result: FieldResult, tmp_path: Path) -> None:
    fields = pd.Series(["a", "b"] * len(result.cells))[: len(result.cells)]
    run, cells = result.run | {"fields": ["a", "b"]}, result.cells.assign(field=fields)
    joined = SlideResult("joined", result.source, result.um_per_px, cells, result.counts, run)
    written = write_exports(joined, tmp_path, PLAIN)
    assert {path.name for path in written} == {
        *("cells.h5ad", "slide.xlsx", "report.fhir.json", "report.hl7", "report.pdf", "positions.csv")
    }
    alone = write_exports(result, tmp_path, PLAIN, takes=FieldResult)
    assert {path.name for path in alone} == {"cells.geojson", "coco.json", "labels.ome.tif"}


def test_exports_join_the_folder_of_the_slide(tmp_path: Path) -> None:
    def more(result: FieldResult, folder: Path) -> None:
        write_exports(result, folder, ["hl7", "coco"])

    paths = write_result(make_result(), tmp_path, extra=[more])
    assert {"report.hl7", "coco.json", "counts.csv"} <= set(paths)


def test_the_folder_of_exports_is_made(tmp_path: Path) -> None:
    write(make_result(), tmp_path / "not" / "there", "geojson")
