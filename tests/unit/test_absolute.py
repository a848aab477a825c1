"""Cells per litre against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_leukocls.measurement.absolute import (
    Counting,
    class_count,
    correct_for_erythroblasts,
    counted_area,
    poisson_limits,
    wbc_findings,
    white_cells,
    with_absolute,
)
from napari_leukocls.measurement.samples import make_sample, with_sample
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import Light, SlideResult
from tests.results import counted, make_result

SCHEME = default_scheme()
HUNDRED = {"neutrophil": 60, "lymphocyte": 30, "monocyte": 8, "eosinophil": 2}


def with_wbc(settled: dict[str, int], wbc: str, **values: object) -> SlideResult:
    return with_sample(counted(settled), make_sample(wbc=wbc, **values))


@pytest.mark.parametrize(
    ("wbc", "per_100", "corrected"),
    [
        (10.0, 25, 8.0),
        (12.0, 20, 10.0),
        (25.0, 100, 12.5),
        (7.5, 0, 7.5),
        # By the formula of CLSI H20: 100 x 20.0 / (100 + 50).
        (20.0, 50, 13.3333),
    ],
)
def test_the_correction_for_erythroblasts(wbc: float, per_100: float, corrected: float) -> None:
    assert correct_for_erythroblasts(wbc, per_100) == pytest.approx(corrected, rel=1e-4)


@pytest.mark.parametrize(("n", "source"), [(4, "given"), (5, "corrected"), (6, "corrected")])
def test_the_correction_begins_at_the_laboratorys_threshold(n: int, source: str) -> None:
    white = white_cells(with_wbc({**HUNDRED, "erythroblast": n}, "10"), Counting(), SCHEME)
    assert white is not None
    assert white.source == source
    assert white.value == pytest.approx(1000 / (100 + n) if source == "corrected" else 10)
    later = white_cells(with_wbc({**HUNDRED, "erythroblast": n}, "10"), Counting(correct_from=10), SCHEME)
    assert later is not None
    assert later.value == 10


def test_a_number_that_the_analyser_has_corrected_is_left_alone() -> None:
    result = with_wbc({**HUNDRED, "erythroblast": 30}, "10", wbc_corrected=True)
    white = white_cells(result, Counting(), SCHEME)
    assert white is not None
    assert (white.value, white.source) == (10, "given")


def test_absolute_counts_of_a_given_number() -> None:
    result = with_wbc(HUNDRED, "7.5")
    table = with_absolute(result.counts, white_cells(result, Counting(), SCHEME)).set_index("class")
    assert table.loc["neutrophil", "absolute"] == pytest.approx(4.5)
    # Clopper-Pearson of 60 of 100: 49.72 to 69.67 %; of 2 of 100: 0.243 to 7.04 %.
    assert table.loc["neutrophil", ["absolute_low", "absolute_high"]].tolist() == pytest.approx(
        [3.729, 5.225], abs=0.002
    )
    assert table.loc["eosinophil", "absolute"] == pytest.approx(0.15)
    assert table.loc["eosinophil", ["absolute_low", "absolute_high"]].tolist() == pytest.approx(
        [0.0182, 0.528], abs=0.001
    )
    assert np.isnan(table.loc["red_cell", "absolute"])
    assert with_absolute(result.counts, None) is result.counts


def test_absolute_counts_of_a_corrected_number() -> None:
    # 20 erythroblasts per 100 leukocytes: 12 becomes 10, and 60 % of that is 6 = 60 of 120 x 12.
    result = with_wbc({**HUNDRED, "erythroblast": 20}, "12")
    white = white_cells(result, Counting(), SCHEME)
    assert white is not None
    assert white.value == pytest.approx(10)
    # 100 of 120: 75.44 to 89.51 %.
    assert (white.low, white.high) == pytest.approx((12 * 0.7544, 12 * 0.8951), abs=0.01)
    table = with_absolute(result.counts, white).set_index("class")
    assert table.loc["neutrophil", "absolute"] == pytest.approx(6)
    # 60 of 120: 40.74 to 59.26 %.
    assert table.loc["neutrophil", ["absolute_low", "absolute_high"]].tolist() == pytest.approx(
        [12 * 0.4074, 12 * 0.5926], abs=0.01
    )
    given, corrected = wbc_findings(white, result.counts, Counting())
    assert (given.name, given.value) == ("wbc_given", 12)
    assert corrected.value == pytest.approx(10)
    assert corrected.text == (
        "Leukocytes corrected for 20 erythroblasts per 100 leukocytes: 10 × 10⁹/L (9.05 to 10.7)."
    )
    assert corrected.rule == "erythroblasts >= 5 per 100 leukocytes"


def test_an_estimate_from_the_density() -> None:
    # 100 leukocytes on 20 fields of 0.02 mm2 are 5 a field; with 2 x 10^9/L for each: 10.
    result = counted(HUNDRED, run={"area_mm2": 0.4})
    white = white_cells(result, Counting(wbc_factor=2, field_area_mm2=0.02), SCHEME)
    assert white is not None
    assert white.source == "estimated"
    assert white.value == pytest.approx(10)
    # Garwood's limits of 100: 81.36 and 121.63.
    assert (white.low, white.high) == pytest.approx((8.136, 12.163), abs=0.001)
    table = with_absolute(result.counts, white).set_index("class")
    assert table.loc["lymphocyte", "absolute"] == pytest.approx(3)
    # 30 of 100: 21.24 to 39.98 %.
    assert table.loc["lymphocyte", ["absolute_low", "absolute_high"]].tolist() == pytest.approx(
        [0.2124 * 8.136, 0.3998 * 12.163], abs=0.01
    )
    assert (
        "estimated from their density: 10 × 10⁹/L (8.14 to 12.2)"
        in wbc_findings(white, result.counts, Counting())[0].text
    )


def test_an_estimate_takes_images_as_fields_if_no_field_is_stated() -> None:
    result = counted(
        {"neutrophil": 30}, {"lymphocyte": 10}, run={"area_mm2": 0.1, "fields": ["a", "b", "c", "d"]}
    )
    white = white_cells(result, Counting(wbc_factor=1), SCHEME)
    assert white is not None
    assert white.value == pytest.approx(40 / 4), "also those that wait for review"
    assert white.low == pytest.approx(poisson_limits(30)[0] / 4), "but not for certain"
    assert white.high == pytest.approx(poisson_limits(40)[1] / 4)


@pytest.mark.parametrize(
    ("run", "counting"),
    [
        ({}, Counting(wbc_factor=2)),
        ({"area_mm2": 0.1}, Counting()),
        ({"area_mm2": None}, Counting(wbc_factor=2)),
    ],
)
def test_no_estimate_without_its_parts(run: dict[str, object], counting: Counting) -> None:
    assert white_cells(counted(HUNDRED, run=run), counting, SCHEME) is None


def test_a_given_number_comes_before_an_estimate() -> None:
    result = with_sample(counted(HUNDRED, run={"area_mm2": 0.4}), make_sample(wbc="7.5"))
    white = white_cells(result, Counting(wbc_factor=2), SCHEME)
    assert white is not None
    assert (white.source, white.value) == ("given", 7.5)


def test_limits_of_a_number_of_cells() -> None:
    # Garwood 1936: 0 to 3.689 and 5.425 to 16.96... of 0 and 10.
    assert poisson_limits(0) == pytest.approx((0, 3.6889), abs=1e-3)
    assert poisson_limits(10) == pytest.approx((4.7954, 18.3904), abs=1e-3)


def test_the_area_that_was_counted_in() -> None:
    found = replace(make_result().segmentation, light=Light((0,) * 6, 0.0, 0.25, (0, 0, 240, 360)))
    um = found.scale.um_per_px
    whole = 240 * 360 * um * um / 1e6
    assert counted_area(replace(found, light=None)) == pytest.approx(whole)
    assert counted_area(found) == pytest.approx(0.75 * whole), "without the black around the field of view"
    heap = np.array([[0, 0], [120, 0], [120, 120], [0, 120]], np.float32)
    assert counted_area(replace(found, light=None, heaps=(heap,))) == pytest.approx(whole * 5 / 6)
    half = np.array([[0, 0], [0, 360], [120, 360], [120, 0]])
    assert counted_area(replace(found, light=None), polygons=[half]) == pytest.approx(whole / 2, rel=0.02)
    assert counted_area(replace(found, light=None), box=(0, 0, 120, 360)) == pytest.approx(whole / 2)
    unknown = replace(found.scale, um_per_px=float("nan"))
    assert counted_area(replace(found, scale=unknown)) is None


def test_finer_classes_count_in_the_class_that_they_are_part_of() -> None:
    counts = counted({"immature_granulocyte": 2, "myelocyte": 3, "promyelocyte": 1, "neutrophil": 4}).counts
    assert class_count(counts, ["immature_granulocyte"], SCHEME) == 6
    assert class_count(counts, ["myelocyte"], SCHEME) == 3
    fine = make_result(depth="fine").counts
    rows = fine.set_index("class")["count"]
    for name in ("immature_granulocyte", "neutrophil"):
        assert class_count(fine, [name], SCHEME) == rows[name]


def test_a_goal_does_not_thin_out_the_estimate() -> None:
    """Counted up to 40 of 100 leukocytes, the density is still that of all."""
    result = counted(HUNDRED, run={"area_mm2": 0.4})
    part = counted({"neutrophil": 40}).counts
    counting = Counting(wbc_factor=2, field_area_mm2=0.02)
    white = white_cells(replace(result, counts=part), counting, SCHEME)
    assert white is not None
    assert white.value == pytest.approx(10)
