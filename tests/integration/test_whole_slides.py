"""Whole slides: read in parts, analysed in tiles without seams, skipped where there is nothing to count."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.analysis.whole_slide import tiles
from napari_leukocls.batch import run_batch
from napari_leukocls.batch.whole_slide import write_whole_slide
from napari_leukocls.config import make_config
from napari_leukocls.errors import InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.io.slides import is_slide, open_slide
from napari_leukocls.io.slides.base import LazyPixels
from napari_leukocls.measurement.heaps import heap_area
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import drain
from napari_leukocls.results.hidden_parts import read_hidden
from napari_leukocls.results.reader import read_result, read_slide
from napari_leukocls.types import FieldResult

LEUKOCYTES = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
#: Where a heap is painted: rows and columns.
HEAP = (slice(500, 640), slice(520, 700))
APERIO = "Aperio Image Library v12\r\n{1}x{0} [0,0 {1}x{0}] (256x256) JPEG/RGB Q=90|AppMag = 40|MPP = 0.16"


@pytest.fixture(scope="module")
def smear() -> np.ndarray:
    """A smear of 0.16 um a pixel, (1100, 1300, 3)."""
    return read_image(sample_smear()).pixels[:1100, :1300]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(make_config(device="cpu"))


def write_svs(path: Path, pixels: np.ndarray) -> Path:
    """What an Aperio scanner writes: tiles in JPEG, and a level a quarter as large."""
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, description=APERIO.format(*pixels.shape), **options)
        tiff.write(pixels[::8, ::8].copy(), description="Aperio thumbnail", photometric="rgb", metadata=None)
        tiff.write(quarter(pixels), description=APERIO.format(*pixels.shape), **options)
    return path


def quarter(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)


def write_ome_tiff(path: Path, pixels: np.ndarray) -> Path:
    size = {"PhysicalSizeX": 0.16, "PhysicalSizeY": 0.16}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
        tiff.write(pixels, subifds=1, metadata={"axes": "YXS", **size}, **options)
        tiff.write(quarter(pixels), subfiletype=1, **options)
    return path


def write_tiff(path: Path, pixels: np.ndarray) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        size = {"resolution": (62500, 62500), "resolutionunit": "CENTIMETER"}
        options = {"tile": (256, 256), "photometric": "rgb", "metadata": None}
        tiff.write(pixels, subifds=1, **size, **options)
        tiff.write(quarter(pixels), subfiletype=1, **options)
    return path


def write_ome_zarr(path: Path, pixels: np.ndarray, version: int = 3) -> Path:
    zarr = pytest.importorskip("zarr", reason="needs the extra `wsi`")
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, level in (("0", pixels), ("1", quarter(pixels))):
        planes = np.ascontiguousarray(np.moveaxis(level, -1, 0))
        array = group.create_array(name, shape=planes.shape, chunks=(1, 256, 256), dtype="uint8")
        array[:] = planes
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [
        {"path": n, "coordinateTransformations": [{"type": "scale", "scale": [1, 0.16 * f, 0.16 * f]}]}
        for n, f in (("0", 1), ("1", 4))
    ]
    image = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    group.attrs.update({"ome": {"version": "0.5", **image}} if version == 3 else image)
    return path


WRITERS = {
    "slide.svs": write_svs,
    "slide.ome.tif": write_ome_tiff,
    "slide.tif": write_tiff,
    "slide.ome.zarr": write_ome_zarr,
}


@pytest.mark.parametrize("name", WRITERS)
def test_parts_of_a_slide_are_its_pixels(name: str, tmp_path: Path, smear: np.ndarray) -> None:
    if name.endswith(".svs"):
        pytest.importorskip("openslide", reason="needs the extra `wsi`")
    path = WRITERS[name](tmp_path / name, smear)
    assert is_slide(path)
    with open_slide(path) as slide:
        assert slide.shape == smear.shape
        assert slide.um_per_px == pytest.approx(0.16)
        assert [level.downsample for level in slide.levels] == pytest.approx([1, 4], rel=0.01)
        part = slide.read(200, 700, 900, 5000)
        allowed = 40 if name.endswith(".svs") else 0
        assert part.shape == (500, 400, 3)
        assert np.abs(part.astype(int) - smear[200:700, 900:]).max() <= allowed
        assert np.array_equal(LazyPixels(slide)[10:20, 30:50], slide.read(10, 20, 30, 50))
        coarse = slide.read(0, 100, 0, 100, 1)
        assert np.abs(coarse.astype(int) - quarter(smear)[:100, :100]).mean() < 4


def test_svs_is_read_without_openslide(
    tmp_path: Path, smear: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    # The module finds out once, when it is imported, whether OpenSlide is installed.
    monkeypatch.delitem(sys.modules, "napari_leukocls.io.slides.openslide", raising=False)
    with open_slide(write_svs(tmp_path / "a.svs", smear)) as slide:
        assert slide.um_per_px == pytest.approx(0.16) and slide.shape == smear.shape
    (tmp_path / "b.ndpi").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(InputError, match="needs OpenSlide"):
        open_slide(tmp_path / "b.ndpi")


def test_zarr_of_version_2_is_read(tmp_path: Path, smear: np.ndarray) -> None:
    with open_slide(write_ome_zarr(tmp_path / "a.zarr", smear, 2)) as slide:
        assert np.array_equal(slide.read(5, 90, 7, 80), smear[5:90, 7:80])


def test_sixteen_bits_and_separate_planes_become_rgb(tmp_path: Path, smear: np.ndarray) -> None:
    planes = np.moveaxis(smear[:600, :700].astype(np.uint16) * 16, -1, 0)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        tiff.write(planes, subifds=1, tile=(256, 256), photometric="minisblack", metadata={"axes": "CYX"})
        tiff.write(planes[:, ::4, ::4].copy(), subfiletype=1, tile=(256, 256), photometric="minisblack")
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert np.abs(slide.read(0, 600, 0, 700).astype(int) - smear[:600, :700]).max() <= 1
        assert "scaled" in slide.notes[0]


@pytest.mark.parametrize("name", ["slide.svs", "slide.ome.zarr"])
def test_a_slide_gives_the_files_of_a_field(name: str, tmp_path: Path, smear: np.ndarray) -> None:
    if name.endswith(".svs"):
        pytest.importorskip("openslide", reason="needs the extra `wsi`")
    WRITERS[name](tmp_path / name, smear[:500, :600])
    slides = expand_inputs([tmp_path])
    assert [slide.slide_id for slide in slides] == ["slide"]
    config = make_config(device="cpu")
    (outcome,) = run_batch(slides, tmp_path / "out", config)
    assert outcome.status == "done" and outcome.n_cells > 20
    folder = tmp_path / "out" / "slide"
    assert {path.name for path in folder.iterdir()} == {
        *("cells.csv", "counts.csv", "findings.csv", "labels.tif", "overlay.png", "red_cells.csv"),
        *("outlines.json", "regions.csv", "report.html", "run.json"),
    }
    cells, labels = pd.read_csv(folder / "cells.csv"), tifffile.imread(folder / "labels.tif")
    assert labels.shape == (500, 600) and list(cells["cell_id"]) == list(range(1, labels.max() + 1))
    assert np.array_equal(np.bincount(labels.ravel())[1:], cells["area_px"])
    regions = pd.read_csv(folder / "regions.csv")
    settled = cells[~cells["needs_review"]]
    assert regions.filter(like="n_").sum().sum() == len(settled)
    assert json.loads((folder / "run.json").read_text())["scale"]["source"] == "metadata"
    assert run_batch(slides, tmp_path / "out", config, resume=True)[0].resumed


@pytest.fixture(scope="module")
def with_seams(
    smear: np.ndarray, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FieldResult, Path]:
    """A smear with a heap too thick to count: as one field, and the folder of a slide of several tiles."""
    folder = tmp_path_factory.mktemp("seams")
    smear = smear.copy()
    smear[HEAP] = np.percentile(smear, 15, axis=(0, 1)).astype(np.uint8)
    path = write_tiff(folder / "slide.tif", smear)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "MAX_WINDOW_UM", 150.0)
        warnings = write_whole_slide(path, "s", str(path), folder / "out", engine)
    assert any("heaps of red cells too thick to count" in line for line in warnings)
    assert not any("has no outline" in line for line in warnings), (
        "cells of a neighbouring tile have outlines"
    )
    return drain(iter_analyze(read_image(path), engine)), folder / "out" / "s"


def test_cells_on_seams_come_out_once_and_whole(with_seams: tuple[FieldResult, Path]) -> None:
    whole, folder = with_seams
    cells, labels = pd.read_csv(folder / "cells.csv"), tifffile.imread(folder / "labels.tif")
    assert len(cells) == pytest.approx(len(whole.cells), rel=0.03)
    # A cell that a seam had cut, or that came out twice, would have no counterpart of its own size.
    same = 0
    for cell_id, area in zip(whole.cells["cell_id"], whole.cells["area_px"], strict=True):
        under = labels[whole.labels == cell_id]
        best = np.bincount(under[under > 0]).argmax() if (under > 0).any() else 0
        common = int((under == best).sum()) if best else 0
        same += common > 0.7 * max(area, int((labels == best).sum()) if best else 1)
    assert same >= 0.95 * len(whole.cells)


def test_overlaps_and_heaps_of_a_slide_are_those_of_a_field(with_seams: tuple[FieldResult, Path]) -> None:
    whole, folder = with_seams
    outlines, heaps = read_hidden(folder)
    cells = pd.read_csv(folder / "cells.csv").set_index("cell_id")
    assert len(outlines) == pytest.approx(len(whole.segmentation.outlines), abs=3) and len(outlines) > 8
    for cell, line in outlines.items():
        box = cells.loc[cell, ["bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]].to_numpy(float)
        # The outline holds what is seen of the cell.
        assert (line.min(axis=0) <= box[:2] + 3).all() and (line.max(axis=0) >= box[2:] - 3).all()
    painted = 140 * 180
    assert sum(map(heap_area, heaps)) == pytest.approx(painted, rel=0.15)
    for heap in heaps:
        assert (heap.min(axis=0) > (510, 490)).all() and (heap.max(axis=0) < (710, 650)).all()
    run = json.loads((folder / "run.json").read_text())
    counted = (1100 * 1300 - sum(map(heap_area, heaps))) * 0.16**2 / 1e6
    assert run["area_mm2"] == pytest.approx(counted, rel=1e-3)
    assert run["area_mm2"] == pytest.approx(whole.run["area_mm2"], rel=0.01)
    findings = pd.read_csv(folder / "findings.csv").set_index("name")
    share = 100 * sum(map(heap_area, heaps)) / (1100 * 1300)
    assert findings.at["red_cell_heaps", "value"] == pytest.approx(share, rel=1e-3)
    regions = pd.read_csv(folder / "regions.csv")
    leukocytes = regions[["n_" + name for name in LEUKOCYTES if "n_" + name in regions]].sum(axis=1)
    sides = (regions["y1"] - regions["y0"]) * (regions["x1"] - regions["x0"]) * 0.16**2 / 1e6
    dense = regions[(leukocytes > 0) & (leukocytes / regions["wbc_per_mm2"] < 0.999 * sides)]
    assert len(dense) <= 4, "the area of parts beside the heap is whole"


def test_glass_heaps_and_blur_are_skipped_and_said(tmp_path: Path, smear: np.ndarray, engine: Engine) -> None:
    glass = np.full_like(smear, np.percentile(smear, 98, axis=(0, 1)).astype(np.uint8))
    heap = cv2.GaussianBlur(np.minimum(smear, np.roll(smear, (19, 23), (0, 1))), (0, 0), 4)
    heap = np.minimum(heap, np.percentile(smear, 30, axis=(0, 1)).astype(np.uint8))
    blurred = cv2.GaussianBlur(smear, (0, 0), 5)
    slide = np.concatenate([np.concatenate([smear, glass], axis=1), np.concatenate([heap, blurred], axis=1)])
    path = write_tiff(tmp_path / "slide.tif", slide)
    warnings = write_whole_slide(path, "s", str(path), tmp_path / "out", engine)
    regions = pd.read_csv(tmp_path / "out" / "s" / "regions.csv")
    middle_y = (regions["y0"] + regions["y1"]) / 2
    middle_x = (regions["x0"] + regions["x1"]) / 2
    lower, right = middle_y > 1100, middle_x > 1300
    clear = (middle_y - 1100).abs().gt(400) & (middle_x - 1300).abs().gt(400)
    for state, here in (
        ("monolayer", ~lower & ~right),
        ("glass", ~lower & right),
        ("thick", lower & ~right),
        ("out_of_focus", lower & right),
    ):
        assert set(regions.loc[here & clear, "state"]) == {state}
    assert any("too thick" in line and "out of focus" in line for line in warnings)
    cells = pd.read_csv(tmp_path / "out" / "s" / "cells.csv")
    assert cells["centroid_y"].max() < 1100 + 700 and len(cells) > 100


def test_an_inverted_slide_is_said_and_nothing_of_it_is_counted(
    tmp_path: Path, smear: np.ndarray, engine: Engine
) -> None:
    path = write_svs(tmp_path / "slide.svs", np.subtract(255, smear))  # the file states its scale
    warnings = write_whole_slide(path, "s", str(path), tmp_path / "out", engine)
    assert any("the picture is inverted" in line for line in warnings)
    cells = pd.read_csv(tmp_path / "out" / "s" / "cells.csv")
    assert cells["needs_review"].all()


def test_a_slide_of_empty_glass_is_a_result(tmp_path: Path, engine: Engine) -> None:
    path = write_tiff(tmp_path / "slide.tif", np.full((900, 900, 3), (250, 240, 230), np.uint8))
    warnings = write_whole_slide(path, "s", str(path), tmp_path / "out", engine)
    assert any("no cell was found" in line for line in warnings)
    assert pd.read_csv(tmp_path / "out" / "s" / "cells.csv").empty
    assert tifffile.imread(tmp_path / "out" / "s" / "labels.tif").max() == 0


def test_a_slide_that_claims_too_much_or_ends_early_is_refused(tmp_path: Path, smear: np.ndarray) -> None:
    path = write_tiff(tmp_path / "cut.tif", smear)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        open_slide(path)
    zarr = pytest.importorskip("zarr", reason="needs the extra `wsi`")
    zarr.create_array(
        str(tmp_path / "bomb.zarr"), shape=(3, 10**7, 10**7), chunks=(3, 10**5, 10**5), dtype="uint8"
    )
    with pytest.raises(InputError, match="chunks"):
        open_slide(tmp_path / "bomb.zarr")
    zarr.create_array(
        str(tmp_path / "huge.zarr"), shape=(3, 10**7, 10**7), chunks=(3, 512, 512), dtype="uint8"
    )
    with pytest.raises(InputError, match="more than a slide can have"):
        open_slide(tmp_path / "huge.zarr")


def test_napari_opens_a_slide_and_its_labels_in_levels(
    tmp_path: Path, smear: np.ndarray, engine: Engine
) -> None:
    from napari_leukocls._reader import get_reader

    path = write_tiff(tmp_path / "slide.tif", smear)
    reader = get_reader(str(path))
    assert reader is not None
    ((levels, settings, kind),) = reader(str(path))
    assert kind == "image" and settings["multiscale"] and settings["scale"] == pytest.approx((0.16, 0.16))
    assert [level.shape for level in levels] == [(1100, 1300, 3), (275, 325, 3)]
    assert np.array_equal(np.asarray(levels[0][300:400, 1000:1300]), smear[300:400, 1000:1300])
    write_whole_slide(path, "s", str(path), tmp_path / "out", engine)
    reader = get_reader(tmp_path / "out" / "s")
    assert reader is not None
    ((levels, settings, kind),) = reader(tmp_path / "out" / "s")
    full = tifffile.imread(tmp_path / "out" / "s" / "labels.tif")
    assert kind == "labels" and np.array_equal(np.asarray(levels[0]), full)
    assert np.array_equal(np.asarray(levels[1]), full[::2, ::2])
    assert len(settings["features"]) == full.max() + 1
    slide = read_slide(tmp_path / "out" / "s")
    assert (slide.slide_id, slide.um_per_px) == ("s", pytest.approx(0.16))
    assert len(slide.cells) == full.max() and "size_px" in slide.run["slide"]
    written = pd.read_csv(tmp_path / "out" / "s" / "counts.csv")
    assert list(slide.counts["count"]) == list(written["count"])
    with pytest.raises(InputError, match="whole slide: open its labels.tif"):
        read_result(tmp_path / "out" / "s")


def test_the_api_reads_a_small_slide_at_once_and_says_where_large_ones_go(
    tmp_path: Path, smear: np.ndarray, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_leukocls
    from napari_leukocls.io import slides

    path = write_ome_zarr(tmp_path / "S1.ome.zarr", smear[:300, :400])
    result = napari_leukocls.analyze(path, engine=engine)
    assert result.slide_id == "S1" and result.labels.shape == (300, 400) and len(result.cells) > 5
    monkeypatch.setattr(slides, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="run_batch"):
        napari_leukocls.analyze(path, engine=engine)


def test_a_slide_is_exported_with_its_outlines(tmp_path: Path, smear: np.ndarray) -> None:
    for module in ("shapely", "openpyxl"):
        pytest.importorskip(module, reason="needs the extra `exports`")
    write_tiff(tmp_path / "slide.tif", smear[:400, :500])
    config = make_config(device="cpu", formats=("geojson", "xlsx", "ometiff"))
    (outcome,) = run_batch(expand_inputs([tmp_path / "slide.tif"]), tmp_path / "out", config)
    assert outcome.error is None
    folder = tmp_path / "out" / "slide"
    features = json.loads((folder / "cells.geojson").read_text())["features"]
    assert len(features) == outcome.n_cells > 10
    assert np.array_equal(tifffile.imread(folder / "labels.ome.tif"), tifffile.imread(folder / "labels.tif"))


def test_large_tiff_is_read_in_tiles_where_it_can_be(
    tmp_path: Path, smear: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_leukocls.io.slides import tiff as _slide_tiff

    monkeypatch.setattr(_slide_tiff, "FIELD_PIXELS", 10_000)
    part = smear[:300, :400]
    tifffile.imwrite(tmp_path / "strips.tif", part, rowsperstrip=7, compression="lzw", photometric="rgb")
    assert is_slide(tmp_path / "strips.tif")
    with open_slide(tmp_path / "strips.tif") as slide:
        assert np.array_equal(slide.read(3, 290, 11, 390), part[3:290, 11:390])
    ink = np.concatenate([255 - part, np.zeros_like(part[..., :1])], axis=-1)
    tifffile.imwrite(tmp_path / "cmyk.tif", ink, photometric="separated")
    tifffile.imwrite(
        tmp_path / "planes.tif", np.moveaxis(part, -1, 0), planarconfig="separate", photometric="rgb"
    )
    for name in ("cmyk.tif", "planes.tif"):
        assert not is_slide(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name).pixels, part)
