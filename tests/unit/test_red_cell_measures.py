"""Red cells measured: drawn cells whose size, form, pallor and inclusions are known."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import disk, ellipse
from skimage.measure import perimeter_crofton, regionprops

from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.measurement.red_cells import (
    COVERED,
    EDGE,
    FRAGMENT,
    HEAP,
    UNCLEAR,
    axis_ratios,
    contact,
    measure_red_cells,
    perimeters,
)

GLASS = (200.0, 200.0, 200.0)
UM = 0.2


class Field:
    """A field on which cells are drawn by their density."""

    def __init__(self, height: int = 240, width: int = 400) -> None:
        self.labels = np.zeros((height, width), np.int32)
        self.density = np.zeros((height, width, 3))

    def cell(self, rows: np.ndarray, columns: np.ndarray, density: float, red: float = 0.1) -> int:
        number = int(self.labels.max()) + 1
        self.labels[rows, columns] = number
        self.paint(rows, columns, density, red)
        return number

    def paint(self, rows: np.ndarray, columns: np.ndarray, density: float, red: float = 0.1) -> None:
        self.density[rows, columns] = (red, density, density)

    def measure(self, um: float = UM, **options: object):
        pixels = np.clip(200 * np.exp(-self.density), 0, 255).round().astype(np.uint8)
        geometry = cell_geometry(self.labels)
        table = measure_red_cells(pixels, self.labels, geometry, GLASS, um, **options)
        return table.set_index("cell_id")


def test_a_disc_and_an_ellipse_have_their_sizes_and_forms():
    field = Field()
    disc = field.cell(*disk((60, 60), 20), 0.5)
    oval = field.cell(*ellipse(120, 200, 15, 30), 0.5)
    table = field.measure()
    # A disc of 20 pixels' radius is 8 um across, with an area of 16 pi um^2 and a perimeter of 8 pi um.
    assert table.loc[disc, "diameter_um"] == pytest.approx(8.0, rel=0.01)
    assert table.loc[disc, "area_um2"] == pytest.approx(16 * np.pi, rel=0.02)
    assert table.loc[disc, "perimeter_um"] == pytest.approx(8 * np.pi, rel=0.02)
    assert table.loc[disc, "circularity"] > 0.97
    assert table.loc[disc, "axis_ratio"] == pytest.approx(1.0, abs=0.02)
    assert table.loc[oval, "axis_ratio"] == pytest.approx(2.0, rel=0.02)
    # Ramanujan's perimeter of an ellipse of 3 x 6 um: 29.07 um; 4 pi 18 pi / 29.07^2 = 0.841.
    assert table.loc[oval, "circularity"] == pytest.approx(0.841, abs=0.02)
    assert (table["solidity"] > 0.97).all()
    assert table["measured"].all()


def test_perimeters_and_axes_are_those_of_scikit_image():
    rng = np.random.default_rng(0)
    labels = np.zeros((150, 200), np.int32)
    for number in range(1, 9):
        rows, columns = ellipse(*rng.uniform(20, 130, 2), *rng.uniform(6, 25, 2), shape=labels.shape)
        labels[rows, columns] = number  # later ones cover earlier ones: odd outlines
    geometry = cell_geometry(labels)
    ours, ratios = perimeters(labels), axis_ratios(labels, geometry)
    for row, one in enumerate(regionprops(labels)):
        alone = np.pad(labels == one.label, 1)
        assert ours[one.label] == pytest.approx(perimeter_crofton(alone, directions=4), rel=0.01)
        assert ratios[row] == pytest.approx(one.axis_major_length / one.axis_minor_length, rel=1e-3)


def test_pallor_is_that_of_the_middle_and_its_width_is_measured():
    field = Field()
    pale = field.cell(*disk((60, 60), 20), 0.5)
    field.paint(*disk((60, 60), 10), 0.2)  # the middle has two fifths of the rim's density
    even = field.cell(*disk((60, 160), 20), 0.5)
    table = field.measure()
    assert table.loc[pale, "pallor"] == pytest.approx(0.6, abs=0.02)
    assert table.loc[pale, "pallor_diameter"] == pytest.approx(0.5, abs=0.03)
    assert table.loc[even, "pallor"] == pytest.approx(0.0, abs=0.01)
    assert table.loc[even, "pallor_diameter"] == 0
    # A quarter of the area has 0.2, the rest 0.5.
    assert table.loc[pale, "density"] == pytest.approx(0.25 * 0.2 + 0.75 * 0.5, abs=0.01)
    assert table.loc[even, "blueness"] == pytest.approx(0.1 / 0.5, abs=0.02)


def test_grains_are_counted_and_platelets_are_none():
    field = Field()
    cell = field.cell(*disk((60, 60), 20), 0.4)
    field.paint(*disk((58, 52), 2.2), 0.9, red=0.8)
    field.paint(*disk((64, 68), 2.2), 0.9, red=0.8)
    under = field.cell(*disk((60, 160), 20), 0.4)
    field.paint(*disk((60, 160), 7), 0.9, red=0.8)  # 2.8 um: a platelet on the cell
    table = field.measure()
    assert table.loc[cell, "inclusions"] == 2
    assert table.loc[under, "inclusions"] == 0


def test_what_cannot_be_measured_is_left_out_with_its_reason():
    field = Field()
    for column in (60, 130, 200):
        field.cell(*disk((60, column), 20), 0.5)
    cut = field.cell(*disk((60, 395), 20, shape=(240, 400)), 0.5)
    heap = field.cell(*ellipse(170, 90, 22, 60), 0.5)
    dumbbell = field.labels.copy()
    rows, columns = (
        np.concatenate(part) for part in zip(disk((170, 230), 18), disk((170, 268), 18), strict=True)
    )
    pair = field.cell(rows, columns, 0.5)
    grain = field.cell(*disk((120, 350), 4), 0.5)
    ghost = field.cell(*disk((170, 340), 20), 0.01, red=0.0)
    assert dumbbell.max() == heap
    table = field.measure()
    reasons = table["left_out"].to_dict()
    assert reasons == {
        **dict.fromkeys((1, 2, 3), ""),
        **{cut: EDGE, heap: HEAP, pair: HEAP, grain: FRAGMENT, ghost: UNCLEAR},
    }
    assert table["measured"].sum() == 3


def test_edges_are_wider_out_of_focus():
    from scipy import ndimage

    field = Field()
    for column in (60, 130, 200):
        field.cell(*disk((60, column), 20), 0.5)
    sharp = field.measure()["edge_um"].median()
    field.density = ndimage.gaussian_filter(field.density, (6, 6, 0))
    blurred = field.measure()["edge_um"].median()
    assert sharp < 0.7
    assert blurred > 2.0


def test_a_field_without_glass_gives_sizes_alone():
    field = Field()
    field.cell(*disk((60, 60), 20), 0.5)
    pixels = np.full((240, 400, 3), 120, np.uint8)
    table = measure_red_cells(pixels, field.labels, cell_geometry(field.labels), (np.nan,) * 3, UM)
    assert table["diameter_um"].iloc[0] == pytest.approx(8.0, rel=0.01)
    assert table[["pallor", "density", "blueness", "edge_um"]].isna().all(axis=None)


def test_a_field_without_cells_gives_an_empty_table():
    table = Field().measure()
    assert len(table) == 0
    assert {"diameter_um", "measured", "left_out"} <= set(table.columns)


def test_the_same_cell_enlarged_has_the_same_measures():
    small, large = Field(), Field(480, 800)
    for field, k in ((small, 1), (large, 2)):
        field.cell(*disk((60 * k, 60 * k), 20 * k), 0.5)
        field.paint(*disk((60 * k, 60 * k), 9 * k), 0.25)
    a, b = small.measure(UM).iloc[0], large.measure(UM / 2).iloc[0]
    for name in (
        "diameter_um",
        "area_um2",
        "circularity",
        "axis_ratio",
        "pallor",
        "pallor_diameter",
        "density",
    ):
        assert a[name] == pytest.approx(b[name], rel=0.04, abs=0.01), name


def test_cells_that_touch_or_lie_under_others_have_not_their_own_shape():
    field = Field()
    single = field.cell(*disk((60, 60), 20), 0.5)
    under = field.cell(*disk((60, 160), 20), 0.5)
    upper = field.cell(*disk((60, 184), 20), 0.5)
    beside = field.cell(*disk((160, 60), 20), 0.5)
    point = field.cell(*disk((160, 100), 20), 0.5)  # they meet in one point
    named = field.cell(*disk((160, 250), 20), 0.5)
    share = contact(field.labels)
    assert share[single] == 0
    assert 0.25 < share[under] < 0.6
    assert share[beside] < 0.2
    reasons = field.measure(covered=[named])["left_out"].to_dict()
    assert reasons == {single: "", under: HEAP, upper: COVERED, beside: "", point: "", named: COVERED}
