"""Platelets: clumps, large and giant ones, those on red cells, and estimates per litre against published examples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.absolute import AREA, Counting
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.findings import shown_state, with_findings
from napari_leukocls.measurement.fine import count_cells
from napari_leukocls.measurement.flags import share_at
from napari_leukocls.measurement.heaps import HEAPS, heap_findings, mean_share
from napari_leukocls.measurement.judgement import judge
from napari_leukocls.measurement.platelet_estimate import (
    estimate_by_fields,
    estimate_by_ratio,
    platelet_estimates,
)
from napari_leukocls.measurement.platelets import (
    PlateletFigures,
    is_platelet_warning,
    measure_platelets,
    read_figures,
)
from napari_leukocls.measurement.samples import make_sample, with_sample
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import Scale, Segmentation, SlideResult

UM = 0.1
SHAPE = (400, 600)
RED, PLATELET = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


class Field:
    """Draws round cells; places and diameters are in micrometres."""

    def __init__(self) -> None:
        self.labels = np.zeros(SHAPE, np.int32)
        self.kinds: list[tuple[float, float, float]] = []

    def add(self, y: float, x: float, diameter: float, kind: tuple[float, float, float] = PLATELET) -> None:
        rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] * UM
        self.kinds.append(kind)
        self.labels[np.hypot(rows - y, columns - x) < diameter / 2] = len(self.kinds)

    def measured(self) -> PlateletFigures:
        scale = Scale(UM, 7.5 / UM, "user")
        found = Segmentation(self.labels, np.array(self.kinds, np.float32), (200.0,) * 3, scale)
        return measure_platelets(found, build_cell_table(found, None, [], "a", UM, ["platelet"]))


def test_sizes_follow_the_published_limits() -> None:
    field = Field()
    for i, diameter in enumerate((2.5, 3.9, 4.1, 6.5, 7.2)):
        field.add(10, 8 + 10 * i, diameter)
    found = field.measured()
    assert (found.count, found.measured, found.large, found.giant) == (5, 5, 3, 1)
    texts = {one.name: one for one in found.findings()}
    assert texts["platelet_large"].value == 60 and "wider than 4 µm" in texts["platelet_large"].text
    # Clopper-Pearson limits of 3 of 5 are 14.7 and 94.7 %.
    assert (texts["platelet_large"].low, texts["platelet_large"].high) == pytest.approx(
        (14.66, 94.73), abs=0.01
    )
    assert not any(shown_state(texts[name]) for name in ("platelet_large", "platelet_giant")), "figures alone"


@pytest.mark.parametrize(
    ("giant", "measured", "state", "text"),
    [
        (1, 5, "possible", "more platelets"),
        (0, 5, "possible", "more platelets"),
        (0, 40, "absent", ""),
        (11, 100, "possible", ""),
        (30, 100, "certain", ""),
    ],
)
def test_giant_platelets_are_certain_only_where_the_limits_clear_the_rule(
    giant: int, measured: int, state: str, text: str
) -> None:
    figures = PlateletFigures(count=measured, measured=measured, giant=giant, large=giant)
    result = with_findings(slide(measured, 1000), figures.findings())
    (flag,) = (one for one in judge(result).flags if one.finding.name == "flag_giant_platelets")
    assert flag.finding.state == state and text in flag.finding.text


def test_the_number_of_platelets_that_decides_does_decide() -> None:
    (found,) = (
        one
        for one in PlateletFigures(count=5, measured=5, giant=2).findings()
        if one.name == "platelet_giant"
    )
    at = share_at(found)
    assert at is not None and at(0) == pytest.approx((found.low, found.high))
    (flag,) = (
        one
        for one in judge(with_findings(slide(5, 1000), [found])).flags
        if one.finding.name == "flag_giant_platelets"
    )
    more = int(flag.finding.text.split("count ")[1].split(" more")[0])
    assert at(more)[0] >= 11 > at(more - 1)[0]


def test_a_platelet_larger_than_the_red_cells_of_the_slide_is_giant() -> None:
    field = Field()
    for i in range(4):
        field.add(30, 10 + 12 * i, 5.5, RED)
    field.add(10, 10, 6.0)
    field.add(10, 30, 5.0)
    assert field.measured().giant == 1


def test_platelets_that_hang_together_are_a_clump_and_warned_of() -> None:
    field = Field()
    for y, x in ((10, 10), (12.6, 10), (10, 12.6), (12.6, 12.6), (15, 12)):
        field.add(y, x, 2.5)
    field.add(30, 40, 2.5)
    found = field.measured()
    assert (found.clumps, found.in_clumps, found.measured) == (1, 5, 1)
    (warning,) = found.warnings()
    assert "too low" in warning and is_platelet_warning(warning)
    assert found.findings()[0].state == "certain"


def test_two_beside_each_other_are_no_clump() -> None:
    field = Field()
    field.add(10, 10, 2.5)
    field.add(10, 12.6, 2.5)
    found = field.measured()
    assert found.clumps == 0 and not found.warnings()
    assert found.findings()[0].state == "absent"


def test_one_large_ragged_outline_may_be_a_clump() -> None:
    field = Field()
    field.add(10, 10, 4.0)
    for y, x in ((13, 10), (10, 13), (13, 16), (16, 13)):
        rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] * UM
        field.labels[np.hypot(rows - y, columns - x) < 2] = 1
    found = field.measured()
    assert (found.suspected, found.giant, found.clumps) == (1, 0, 0)
    assert found.findings()[0].state == "possible" and "may be a clump" in found.warnings()[0]


def test_a_platelet_on_a_red_cell_is_told_from_one_beside_it() -> None:
    field = Field()
    field.add(15, 15, 8, RED)
    field.add(15, 15, 2.5)
    field.add(30, 30, 8, RED)
    field.add(30, 35.4, 2.5)
    assert field.measured().on_red_cells == 1


def test_figures_of_fields_are_added() -> None:
    one, other = (
        PlateletFigures(count=3, clumps=1, in_clumps=3),
        PlateletFigures(count=2, large=1, measured=2),
    )
    assert read_figures([one.record(), {}, other.record()]) == one + other
    assert (one + other).count == 5


def test_no_platelet_at_all() -> None:
    found = Field().measured()
    assert found == PlateletFigures()
    assert all(one.state == "absent" for one in found.findings())


def test_published_examples_of_both_estimates() -> None:
    # LabCE, platelet estimates: mean per field times 15 x 10^9/L; 100 in a field are 1500 x 10^9/L.
    assert estimate_by_fields(500, 5, 15.0)[0] == pytest.approx(1500)
    # Pathology Board Review, sample case 2103: 10 platelets a field, factor 20, are 200 x 10^9/L.
    assert estimate_by_fields(100, 10, 20.0)[0] == pytest.approx(200)
    # 1 platelet for every 20 red cells, 5 x 10^12 red cells per litre: 250 x 10^9/L.
    assert estimate_by_ratio(50, 1000, 5.0)[0] == pytest.approx(250)


def test_limits_hold_the_estimate_and_shrink_with_the_count() -> None:
    for few, many in (
        (estimate_by_fields(10, 1, 15), estimate_by_fields(1000, 100, 15)),
        (estimate_by_ratio(10, 200, 5), estimate_by_ratio(1000, 20000, 5)),
    ):
        assert few[1] < few[0] < few[2] and many[1] < many[0] < many[2]
        assert many[2] - many[1] < few[2] - few[1]
    assert estimate_by_ratio(0, 100, 5)[:2] == (0, 0)
    # Garwood's exact limits of 10 events are 4.80 and 18.39.
    assert np.allclose(estimate_by_fields(10, 1, 1.0)[1:], (4.795, 18.390), atol=0.001)


def slide(
    platelets: int, red_cells: int, figures: PlateletFigures | None = None, fields: float = 10.0
) -> SlideResult:
    names = ["platelet"] * platelets + ["red_cell"] * red_cells
    cells = pd.DataFrame({"class": names, "needs_review": False, "corrected_class": ""})
    counts = count_cells(cells, default_scheme(), ["platelet"], None, slide_id="a")
    run = {AREA: fields * 0.0314, **(figures or PlateletFigures()).record()}
    return SlideResult("a", "", 0.1, cells, counts, run)


def test_a_slide_is_estimated_in_the_ways_for_which_values_are_there() -> None:
    result = slide(100, 2000)
    (by_field,) = platelet_estimates(result, Counting(), default_scheme())
    assert by_field.name == "platelet_estimate_field" and by_field.value == pytest.approx(150)
    assert by_field.unit == "10*9/L" and by_field.state == "certain" and "estimate" in by_field.text
    both = platelet_estimates(with_sample(result, make_sample(rbc="5")), Counting(), default_scheme())
    assert [one.name for one in both] == ["platelet_estimate_field", "platelet_estimate_ratio"]
    assert both[1].value == pytest.approx(250)
    assert not platelet_estimates(result, Counting(platelet_factor=0), default_scheme())
    assert not platelet_estimates(replace(result, run={AREA: None}), Counting(), default_scheme()), (
        "no area, no estimate"
    )
    assert platelet_estimates(result, Counting(platelet_factor=20), default_scheme())[0].value == 200


def test_an_estimate_beside_clumps_is_not_certain() -> None:
    result = slide(100, 2000, PlateletFigures(count=100, clumps=1, in_clumps=4))
    (found,) = platelet_estimates(result, Counting(), default_scheme())
    assert found.state == "possible" and "clumped" in found.text


def test_an_estimate_from_few_fields_or_red_cells_says_how_many_are_needed() -> None:
    result = with_sample(slide(7, 150, fields=0.7), make_sample(rbc="5"))
    by_field, by_ratio = platelet_estimates(result, Counting(), default_scheme())
    assert "0.7 fields only (10 are needed)" in by_field.text and shown_state(by_field) == "possible"
    assert "150 red cells only (1000 are needed)" in by_ratio.text and shown_state(by_ratio) == "possible"
    assert by_field.low < by_field.value < by_field.high
    enough = platelet_estimates(result, Counting(least_fields=0.7, least_red_cells=150), default_scheme())
    assert [shown_state(one) for one in enough] == ["", ""] and "needed" not in enough[0].text


@pytest.mark.parametrize("rbc", ["0", "-4", "many", "4.6 mg/dL"])
def test_an_impossible_number_of_red_cells_is_refused_in_one_line(rbc: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make_sample(rbc=rbc)
    assert "\n" not in str(caught.value)


def test_a_field_of_view_of_no_size_is_refused() -> None:
    for value in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="platelet_field_mm2"):
            Counting(platelet_field_mm2=value)
    with pytest.raises(ValueError, match="least_fields"):
        Counting(least_fields=-1)


def test_heaps_of_several_fields_are_weighted_by_area() -> None:
    assert mean_share([{HEAPS: 10.0, AREA: 0.9}, {HEAPS: 0.0, AREA: 1.0}]) == pytest.approx(5)
    assert mean_share([{HEAPS: 10.0}, {}]) == pytest.approx(5)
    (found,) = heap_findings(5.0)
    assert found.value == 5 and "no density" in found.text
    assert heap_findings(0.0) == [] and mean_share([]) == 0
