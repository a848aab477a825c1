"""Red cells that lie on each other: told apart, outlined whole, exported; and heaps that are too thick to count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_leukocls.analysis import region
from napari_leukocls.analysis.region import Region, find_edit, iter_analyze_region
from napari_leukocls.errors import InputError
from napari_leukocls.measurement.heaps import heap_area, heap_within
from napari_leukocls.progress import Progress, Steps, drain
from napari_leukocls.results.exports import write_exports
from napari_leukocls.results.hidden_parts import FILE, read_hidden, write_hidden
from napari_leukocls.results.overlay import draw_overlay
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.covered import whole_outlines
from napari_leukocls.segmentation.second_look import look_again
from napari_leukocls.segmentation.splitting import split_merged
from napari_leukocls.segmentation.thick_heaps import thick_heaps
from napari_leukocls.types import FieldResult, SmearImage
from tests.results import make_result


def disc(shape: tuple[int, int], y: float, x: float, radius: float, stretch: float = 1.0) -> np.ndarray:
    """An upright ellipse whose height is `stretch` times its width."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    array: np.ndarray = np.hypot((rows - y) / stretch, columns - x) < radius
    return array


def row_of_discs(n: int) -> np.ndarray:
    """Single round cells, 30 px across, at the top of a picture of 160 x 300 pixels."""
    labels = np.zeros((160, 300), np.int32)
    for i in range(n):
        labels[disc(labels.shape, 25, 25 + 45 * i, 15)] = i + 1
    return labels


@pytest.mark.parametrize("apart", [16, 20, 25])
def test_two_cells_outlined_as_one_become_two(apart: int) -> None:
    labels = row_of_discs(5)
    two = [disc(labels.shape, 100, 100, 15), disc(labels.shape, 100, 100 + apart, 15)]
    labels[two[0] | two[1]] = 6
    found = split_merged(labels, np.ones(6, bool))
    assert found.max() == 7
    assert np.array_equal(found > 0, labels > 0), "no pixel comes or goes"
    middles = sorted(np.nonzero(found == cell)[1].mean() for cell in (6, 7))
    assert abs(middles[1] - middles[0] - apart) < 12


@pytest.mark.parametrize(
    "odd",
    [
        disc((160, 300), 100, 150, 16),
        disc((160, 300), 100, 150, 12, stretch=1.5),
        disc((160, 300), 100, 150, 14, stretch=1.3),
    ],
)
def test_a_single_cell_stays_one(odd: np.ndarray) -> None:
    labels = row_of_discs(5)
    labels[odd] = 6
    assert split_merged(labels, np.ones(6, bool)).max() == 6


def test_a_leukocyte_is_not_split() -> None:
    labels = row_of_discs(5)
    labels[disc(labels.shape, 100, 100, 15) | disc(labels.shape, 100, 120, 15)] = 6
    red = np.array([True] * 5 + [False])
    assert split_merged(labels, red) is labels


@pytest.mark.parametrize("scale", [1, 3])
def test_the_outline_of_a_covered_cell_is_whole(scale: int) -> None:
    shape = (100 * scale, 160 * scale)
    whole = disc(shape, 50 * scale, 60 * scale, 18 * scale)
    upper = disc(shape, 50 * scale, 85 * scale, 18 * scale)
    labels = whole.astype(np.int32)
    labels[upper] = 2
    (line,) = [whole_outlines(labels, np.ones(2, bool), 36.0 * scale)[1]]
    # Area by the corners (Gauss's formula): that of the disc, of which a sixth is hidden.
    x, y = line.T.astype(float)
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert (labels == 1).sum() < 0.92 * whole.sum()
    assert area == pytest.approx(whole.sum(), rel=0.05)


def test_cells_apart_and_cells_beside_leukocytes_have_no_second_outline() -> None:
    labels = row_of_discs(4)
    assert not whole_outlines(labels, np.ones(4, bool), 30.0)
    labels[disc(labels.shape, 25, 45, 12) & (labels == 0)] = 5
    assert not whole_outlines(labels, np.array([True] * 4 + [False]), 30.0)


def test_the_second_look_takes_what_is_stained_like_red_cells_and_nothing_else() -> None:
    first = row_of_discs(4)
    shape = first.shape
    faint, texture = disc(shape, 110, 80, 15), disc(shape, 110, 200, 15)
    cells = (first > 0) | faint | texture
    cell = np.where(first > 0, 6.0, np.where(cells, -1.0, -8.0)).astype(np.float32)
    flow = np.zeros((2, *shape), np.float32)
    for mask in [first == i for i in range(1, 5)] + [faint, texture]:
        y, x = np.nonzero(mask)
        away = np.stack([y.mean() - y, x.mean() - x])
        length = 5.0 if (first[y, x] > 0).any() else 0.5
        flow[:, y, x] = length * away / np.maximum(np.hypot(*away), 1e-6)
    kind = np.zeros((4, *shape), np.float32)
    kind[0] = 1
    kind[1, cells] = 2
    votes = np.tile(np.float32([0, 1, 0, 0]), (4, 1))
    stain = np.where(first > 0, 0.5, np.where(faint, 0.48, np.where(texture, 0.28, 0.0)))
    found = look_again(first, votes, flow, cell, kind, stain.astype(np.float32), "cpu")
    assert np.array_equal(np.where(found <= 4, found, 0), first), "what was found first stays"
    new = found == 5
    assert found.max() == 5 and (new & faint).sum() > 0.8 * faint.sum() and not (new & texture).any()


def test_where_two_cells_lie_on_each_other_is_no_third_one() -> None:
    first = row_of_discs(4)
    shape = first.shape
    one, other = disc(shape, 100, 100, 15), disc(shape, 100, 118, 15)
    lens = one & other
    first[one & ~lens], first[other & ~lens] = 5, 6
    cell = np.where((first > 0) | lens, 12.0, -8.0).astype(np.float32)
    kind = np.zeros((4, *shape), np.float32)
    kind[0], kind[1, (first > 0) | lens] = 1, 2
    votes = np.tile(np.float32([0, 1, 0, 0]), (6, 1))
    flow = np.zeros((2, *shape), np.float32)
    dark = np.where(lens, 1.0, np.where(first > 0, 0.5, 0.0)).astype(np.float32)
    found = look_again(first, votes, flow, cell, kind, dark, "cpu")
    assert found.max() == 6 and set(np.unique(found[lens])) <= {0, 5, 6}
    assert (found[lens] > 0).mean() > 0.5
    # The same piece, no darker than a cell, is the part that is seen of a third cell.
    pale = np.where(lens | (first > 0), 0.5, 0.0).astype(np.float32)
    assert look_again(first, votes, flow, cell, kind, pale, "cpu").max() == 7


def field_with_heap() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, labels and mask of a heap: four cells of 36 px, and a heap of about three."""
    shape = (200, 300)
    labels = np.zeros(shape, np.int32)
    for i in range(4):
        labels[disc(shape, 40, 40 + 60 * i, 18)] = i + 1
    heap = disc(shape, 140, 120, 28) | disc(shape, 150, 160, 26)
    pixels = np.full((*shape, 3), 220, np.uint8)
    pixels[(labels > 0) | heap] = (190, 130, 140)
    return pixels, labels, heap


def test_a_heap_without_cells_is_outlined() -> None:
    pixels, labels, heap = field_with_heap()
    density = tuple(np.log(220 / np.array([190.0, 130, 140])))
    found = thick_heaps(pixels, labels, (220.0,) * 3, density, 36.0)
    assert len(found) == 1
    assert sum(map(heap_area, found)) == pytest.approx(heap.sum(), rel=0.2)
    labels[heap] = 5
    assert not thick_heaps(pixels, labels, (220.0,) * 3, density, 36.0)
    assert not thick_heaps(pixels, labels * 0, (220.0,) * 3, None, 36.0)


def test_a_heap_is_cut_at_a_box() -> None:
    heap = np.array([(0, 0), (10, 0), (10, 8), (5, 8), (5, 4), (0, 4)], np.float32)  # an L of 60 pixels
    assert heap_area(heap_within(heap, (0, 0, 20, 20))) == 60
    assert heap_area(heap_within(heap, (0, 0, 4, 4))) == 16
    assert heap_area(heap_within(heap, (4, 0, 8, 10))) == 20
    assert heap_area(heap_within(heap, (5, 0, 9, 5))) == 0
    corners = heap_within(heap, (2, 3, 6, 7))
    assert heap_area(corners) == 2 * 4 + 2 * 2
    assert corners.min(axis=0).tolist() == [3, 2] and corners.max(axis=0).tolist() == [7, 6]


@pytest.fixture
def covered() -> FieldResult:
    """A result in which cell 1 goes on under its neighbour, and a heap lies in a corner."""
    made = make_result("covered")
    row = made.cells.iloc[0]
    y0, x0, y1, x1 = (float(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1"))
    wider = np.array([[x0, y0], [x1 + 6, y0], [x1 + 6, y1], [x0, y1]], np.float32)
    heap = np.array([[2, 2], [22, 2], [22, 12], [2, 12]], np.float32)
    segmentation = replace(made.segmentation, outlines={int(row["cell_id"]): wider}, heaps=(heap,))
    return replace(made, segmentation=segmentation)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decoder
def test_overlaps_and_heaps_are_in_geojson_and_coco(covered: FieldResult, tmp_path: Path) -> None:
    from pycocotools import mask as runs
    from shapely.geometry import shape

    geojson, coco = write_exports(covered, tmp_path, ["geojson", "coco"])
    features = json.loads(geojson.read_text())["features"]
    row = covered.cells.iloc[0]
    first = next(one for one in features if one["properties"]["name"] == str(row["cell_id"]))
    assert shape(first["geometry"]).bounds[2] == row["bbox_x1"] + 6
    (heap,) = [one for one in features if one["properties"]["objectType"] == "annotation"]
    assert shape(heap["geometry"]).area == 200
    assert "heap" in heap["properties"]["classification"]["name"].lower()
    data = json.loads(coco.read_text())
    (crowd,) = [one for one in data["annotations"] if one["iscrowd"]]
    assert runs.decode(crowd["segmentation"]).sum() == crowd["area"] == 200
    wide = next(one for one in data["annotations"] if one["id"] == row["cell_id"])
    assert wide["area"] > int(row["area_px"])
    assert len({one["id"] for one in data["annotations"]}) == len(data["annotations"])


def test_overlaps_and_heaps_are_read_back(covered: FieldResult, tmp_path: Path) -> None:
    write_hidden(tmp_path, covered.segmentation)
    outlines, heaps = read_hidden(tmp_path)
    assert outlines.keys() == covered.segmentation.outlines.keys()
    for cell, line in outlines.items():
        assert np.allclose(line, covered.segmentation.outlines[cell], atol=0.01)
    assert np.allclose(heaps[0], covered.segmentation.heaps[0])
    (tmp_path / FILE).write_text('{"outlines": {"1": [[0, 0]]}, "heaps": []}')
    with pytest.raises(InputError, match="damaged"):
        read_hidden(tmp_path)
    (tmp_path / FILE).unlink()
    assert read_hidden(tmp_path) == ({}, ())


def test_the_overlay_shows_them(covered: FieldResult) -> None:
    plain = replace(covered, segmentation=replace(covered.segmentation, outlines={}, heaps=()))
    before, after = (np.asarray(draw_overlay(one, default_scheme())) for one in (plain, covered))
    assert before.shape == after.shape and (before[:14, :24] != after[:14, :24]).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_the_window_draws_them_over_the_outlines(covered: FieldResult, dtype: type) -> None:
    from napari.layers import Labels

    from napari_leukocls.widgets.common.outlines import HEAP, outlines_of

    layer = Labels(covered.labels.astype(dtype))
    outlines_of(layer).start(1, replace(covered.segmentation, outlines={}, heaps=()))
    everything = (slice(0, 240), slice(0, 360))
    before = layer._calculate_contour(layer.data, everything)
    outlines_of(layer).overlap(covered.segmentation)
    after = layer._calculate_contour(layer.data, everything)
    ((cell, line),) = covered.segmentation.outlines.items()
    x = int(line[:, 0].max()) - 1
    right = slice(x, x + 2)
    assert not (before == cell)[:, right].any() and (after == cell)[:, right].sum() >= 20
    assert not (before == HEAP).any() and (after == HEAP).sum() >= 2 * (18 + 8)
    assert (layer.data == covered.labels).all(), "a click finds the owner of the pixel"
    # What a person paints elsewhere leaves them as they are.
    part = layer._calculate_contour(layer.data, (slice(0, 60), slice(10, 60)))
    np.testing.assert_array_equal(part, after[0:60, 10:60])
    outlines_of(layer).overlap(replace(covered.segmentation, outlines={}, heaps=()))
    np.testing.assert_array_equal(layer._calculate_contour(layer.data, everything), before)


def test_a_field_that_is_shown_is_outlined_once(
    covered: FieldResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Labels

    from napari_leukocls.widgets.common import outlines

    computed = []
    real = outlines.outline
    monkeypatch.setattr(outlines, "outline", lambda *args: computed.append(args) or real(*args))
    layer = Labels(covered.labels.astype(np.uint16))
    outlines.outlines_of(layer).start(1, covered.segmentation)
    outlines.outlines_of(layer).overlap(covered.segmentation)
    assert len(computed) == 1


def test_a_region_keeps_its_overlaps_and_heaps(covered: FieldResult, monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(*_args: Any, **_options: Any) -> Steps[FieldResult]:
        yield Progress("count", 0, 1)
        return covered

    monkeypatch.setattr(region, "iter_analyze", ready)
    image = SmearImage(np.zeros((300, 500, 3), np.uint8), "field 1", "field 1.png")
    box = (30, 50, 270, 410)
    found = drain(iter_analyze_region(image, Region(box), None))
    ((cell, line),) = found.segmentation.outlines.items()
    np.testing.assert_array_equal(line, covered.segmentation.outlines[cell] + np.float32([50, 30]))
    np.testing.assert_array_equal(
        found.segmentation.heaps[0], covered.segmentation.heaps[0] + np.float32([50, 30])
    )
    um = covered.um_per_px
    assert found.run["area_mm2"] == pytest.approx((240 * 360 - 200) * um**2 / 1e6)
    (heaps,) = [one for one in found.findings if one.name == "red_cell_heaps"]
    assert heaps.value == pytest.approx(100 * 200 / (240 * 360))
    assert sum("heaps of red cells" in line for line in found.warnings) == 1
    # A polygon to the right of the heap and of the covered cell.
    right = np.array([[30, 250], [30, 410], [270, 410], [270, 250]], float)
    found = drain(iter_analyze_region(image, Region(box, (right,)), None))
    assert not found.segmentation.outlines and not found.segmentation.heaps
    assert not any(one.name == "red_cell_heaps" for one in found.findings)
    assert not any("heaps of red cells" in line for line in found.warnings)
    assert found.run["area_mm2"] == pytest.approx(240 * 160 * um**2 / 1e6, rel=0.01)
    inside = covered.cells[covered.cells["centroid_x"] > 200]
    assert len(found.cells) == len(inside)
    assert found.run["platelets"]["count"] == (inside["class"] == "platelet").sum()


def test_an_edited_cell_is_what_the_person_drew(covered: FieldResult) -> None:
    labels = covered.labels.copy()
    cell = int(covered.cells.iloc[0]["cell_id"])
    labels[labels == cell] = 0
    edit = find_edit(covered.labels, labels)
    assert edit is not None and edit.cell_ids == (cell,)
