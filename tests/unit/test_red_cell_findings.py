"""Findings of red cells: shares, limits and grades against cases that were computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.measurement.red_cell_findings import Shares, cells_with, red_cell_findings
from napari_leukocls.measurement.red_cell_grades import load_grades
from napari_leukocls.measurement.red_cell_table import (
    BLUER,
    PLACE,
    RARE_SHAPE,
    RED_CELL_COLUMNS,
    RED_CELL_FILE,
    build_red_cell_table,
    is_red_cell,
    join_red_cells,
    polychromatic,
    read_red_cells,
    with_shape_corrections,
)
from napari_leukocls.measurement.red_cells import MEASURES
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import Finding

SHAPES = tuple(default_scheme().shapes())
#: A model that makes no mistake, tested on very many cells.
PERFECT = Shares(SHAPES, (np.eye(len(SHAPES)) * 1e6).astype(int).tolist())


def red_cells(n: int = 1000, **columns: object) -> pd.DataFrame:
    """Normal red cells of 7.5 um; columns may be given."""
    values: dict[str, object] = {
        **dict.fromkeys(RED_CELL_COLUMNS, 0.0),
        **{"slide_id": "s", "cell_id": np.arange(1, n + 1), "diameter_um": 7.5, "area_um2": 44.0},
        **{"pallor": 0.3, "pallor_diameter": 0.35, "blueness": 0.3, "edge_um": 0.6, "inclusions": 0},
        **{
            "measured": True,
            "left_out": "",
            "shape": "normal_red_cell",
            "predicted_shape": "normal_red_cell",
        },
        **{"needs_review": False, "review_reason": "", "reviewer": "", "probability": 0.9},
    }
    return pd.DataFrame({**values, **columns}, index=range(n))[list(RED_CELL_COLUMNS)]


def some(n: int, k: int, value: object, rest: object) -> np.ndarray:
    """A column whose first k of n values differ from the rest."""
    return np.array([value] * k + [rest] * (n - k), dtype=object if isinstance(rest, str) else float)


def found(table: pd.DataFrame, true_sizes: bool = True, shares: Shares = PERFECT) -> dict[str, Finding]:
    return {one.name: one for one in red_cell_findings(table, shares, true_sizes)}


@pytest.mark.parametrize(
    ("k", "grade", "state"),
    [
        (0, "0", "absent"),
        (1, "0", "absent"),  # 0.1 %; the upper limit of 1 in 1000 is 0.56 %
        (5, "1+", "possible"),  # 0.5 % (0.16 to 1.16)
        (10, "2+", "possible"),  # 1.0 % (0.48 to 1.83)
        (19, "2+", "certain"),  # 1.9 % (1.15 to 2.95)
        (21, "3+", "certain"),
    ],
)
def test_schistocytes_are_graded_from_one_percent_on(k, grade, state):
    shape = some(1000, k, "schistocyte", "normal_red_cell")
    one = found(red_cells(shape=shape, predicted_shape=shape))["red_cell_schistocytes"]
    assert one.value == pytest.approx(k / 10, abs=0.05)
    assert one.text.startswith(f"Schistocytes {grade}")
    assert one.state == state
    assert one.low <= one.value <= one.high
    assert f"{k} of 1000" in one.text


@pytest.mark.parametrize(
    ("name", "of", "value", "rest"),
    [
        ("red_cell_microcytes", "diameter_um", 5.9, 7.5),
        ("red_cell_macrocytes", "diameter_um", 8.6, 7.5),
        ("red_cell_anisocytosis", "diameter_um", 8.9, 7.5),
        ("red_cell_hypochromic", "pallor_diameter", 0.6, 0.35),
    ],
)
def test_measured_findings_are_shares_with_exact_limits(name, of, value, rest):
    table = red_cells(1000, **{of: some(1000, 150, value, rest), "pallor": 0.8})
    one = found(table)[name]
    assert one.value == pytest.approx(15.0)
    # Clopper-Pearson of 150 in 1000: 12.84 to 17.37 %.
    assert (one.low, one.high) == (pytest.approx(12.84, abs=0.01), pytest.approx(17.37, abs=0.01))
    assert "2+ (moderate)" in one.text
    assert one.state == "certain"


def test_the_limits_of_a_measurement_are_not_part_of_it():
    table = red_cells(diameter_um=6.0)
    limits = load_grades().limits
    assert not cells_with("microcytes", table, limits).any()
    assert cells_with("microcytes", red_cells(diameter_um=5.999), limits).all()
    assert not cells_with("macrocytes", red_cells(diameter_um=8.5), limits).any()


def test_the_spread_is_the_coefficient_of_variation_of_the_areas():
    areas = np.tile([36.0, 44.0, 52.0], 100)
    one = found(red_cells(300, area_um2=areas))["red_cell_size_spread"]
    assert one.value == pytest.approx(100 * np.std(areas, ddof=1) / 44.0)
    assert one.low < one.value < one.high
    assert one.value == pytest.approx(14.87, abs=0.01)


def test_sizes_are_not_called_small_or_large_where_the_scale_rests_on_the_red_cells():
    table = red_cells(diameter_um=5.0)
    names = found(table, true_sizes=False)
    assert "red_cell_microcytes" not in names
    assert "red_cell_diameter" not in names
    assert "Give the pixel size" in names["red_cell_sizes_not_graded"].text
    assert found(table)["red_cell_microcytes"].value == 100


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (red_cells(99), "99 red cells could be measured, and 100 are needed"),
        (red_cells(1), "1 red cell could be measured"),
        (
            red_cells(1000, measured=some(1000, 250, 1, 0).astype(bool)),
            "only 25 % of the red cells lie singly",
        ),
        (red_cells(edge_um=1.8), "out of focus"),
        (red_cells(edge_um=np.nan), "no empty glass"),
        (red_cells(0), "0 red cells"),
    ],
)
def test_what_is_not_believable_is_said_and_not_graded(table, words):
    names = found(table)
    assert set(names) == {"red_cell_measured", "red_cell_not_graded"}
    assert words in names["red_cell_not_graded"].text


def test_a_shape_that_the_model_often_gives_by_mistake_is_not_found_in_every_slide():
    # Of 1000 tested normal cells, 50 were called stomatocytes: so are 50 of these 1000.
    matrix = np.eye(len(SHAPES)) * 1000
    normal, stomatocyte = SHAPES.index("normal_red_cell"), SHAPES.index("stomatocyte")
    matrix[normal, [normal, stomatocyte]] = 950, 50
    shape = some(1000, 50, "stomatocyte", "normal_red_cell")
    table = red_cells(shape=shape, predicted_shape=shape)
    plain, known = found(table), found(table, shares=Shares(SHAPES, matrix.astype(int).tolist()))
    assert plain["red_cell_stomatocytes"].value == pytest.approx(5.0, abs=0.1)
    assert known["red_cell_stomatocytes"].value < 0.5
    assert known["red_cell_stomatocytes"].state == "absent"
    assert "50 of 1000" in known["red_cell_stomatocytes"].text


def test_shapes_that_a_person_gave_are_not_corrected():
    matrix = np.eye(len(SHAPES)) * 1000
    normal, stomatocyte = SHAPES.index("normal_red_cell"), SHAPES.index("stomatocyte")
    matrix[normal, [normal, stomatocyte]] = 950, 50
    shape = some(1000, 50, "stomatocyte", "normal_red_cell")
    table = red_cells(shape=shape, predicted_shape=shape, reviewer=some(1000, 50, "ada", ""))
    one = found(table, shares=Shares(SHAPES, matrix.astype(int).tolist()))["red_cell_stomatocytes"]
    assert one.value == pytest.approx(5.0, abs=0.1)


def test_shapes_that_wait_for_review_are_in_no_share_but_within_the_limits():
    shape = some(1000, 60, "schistocyte", "normal_red_cell")
    waits = some(1000, 60, 1, 0).astype(bool)
    why = some(1000, 60, "rare shape", "")
    one = found(red_cells(shape=shape, needs_review=waits, review_reason=why))["red_cell_schistocytes"]
    assert (one.value, one.low) == (0, 0)
    assert one.high > 6
    assert one.state == "possible"
    assert "60 of 1000 red cells were called so; 60 of these wait for review" in one.text
    table = red_cells(shape=shape, review_reason=why, reviewer=some(1000, 60, "ada", ""))
    seen = found(table)["red_cell_schistocytes"]
    assert seen.value == pytest.approx(6.0, abs=0.1)
    assert seen.state == "certain"


def test_shapes_are_not_graded_where_the_model_is_unsure_of_many():
    why = some(1000, 360, "low confidence", "")
    names = found(red_cells(review_reason=why, needs_review=why != ""))
    assert "36 % of the red cells" in names["red_cell_shapes_not_graded"].text
    assert "red_cell_schistocytes" not in names
    assert "red_cell_anisocytosis" in names
    few = some(1000, 340, "low confidence", "")
    assert "red_cell_schistocytes" in found(red_cells(review_reason=few, needs_review=few != ""))


def test_polychromasia_and_inclusions_are_never_certain():
    table = red_cells(blueness=some(1000, 300, 0.9, 0.3), inclusions=some(1000, 300, 1, 0))
    assert (
        polychromatic(table.assign(diameter_um=7.0 + 0.5 * (table.index >= 300)), load_grades().limits).sum()
        == 0
    )
    names = found(table)
    for name in ("red_cell_polychromatic", "red_cell_inclusions"):
        assert names[name].value == pytest.approx(30.0)
        assert names[name].state == "possible"


def test_a_laboratory_changes_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "ours.toml"
    file.write_text(
        "[limits]\nleast_cells = 20\n[[grades]]\nname = 'red_cell_target_cells'\nmoderate = 8\nmany = 30\n"
        "[[grades]]\nname = 'red_cell_normal'\ntext = 'Normal'\nof = 'normal_red_cell'\nmoderate = 50\nmany = 90\n"
    )
    grades = load_grades(file)
    assert grades.limits.least_cells == 20
    target = next(one for one in grades.grades if one.name == "red_cell_target_cells")
    assert (target.few, target.moderate, target.many) == (2, 8, 30)
    assert [target.grade(value) for value in (1.9, 2, 7.9, 8, 29.9, 30)] == [0, 1, 1, 2, 2, 3]
    monkeypatch.setenv("LEUKOCLS_RED_CELLS", str(file))
    assert found(red_cells(20))["red_cell_normal"].text.startswith("Normal 3+")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\nleast_cells = 'many'", "least_cells"),
        ("[limits]\nunheard_of = 1", "unheard_of"),
        ("[limits]\nmicrocyte_um = 9", "below macrocyte_um"),
        ("[limits]\nalways_review = ['monocyte']", "'monocyte' is no shape"),
        ("[[grades]]\nname = 'red_cell_x'\ntext = 'X'\nof = 'cube'\nmoderate = 1\nmany = 2", "'cube'"),
        ("[[grades]]\nname = 'red_cell_target_cells'\nmoderate = 30", "rise"),
        ("[[grades]]\ntext = 'X'", "needs a name"),
        ("[[rules]]\nname = 'x'", "'rules' is not known"),
        ("format_version = 7", "format_version 7"),
        ("this is no toml", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str):
    file = tmp_path / "ours.toml"
    file.write_text(text)
    with pytest.raises(ArgumentError) as caught:
        load_grades(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEUKOCLS_RED_CELLS", str(tmp_path / "none.toml"))
    with pytest.raises(ArgumentError, match="there is no file"):
        load_grades()


def corrections(**given: str) -> pd.DataFrame:
    cells = pd.DataFrame({"cell_id": [1, 2, 3], "corrected_class": "", "reviewer": ""})
    for cell, name in given.items():
        cells.loc[cells["cell_id"] == int(cell[1:]), ["corrected_class", "reviewer"]] = name, "ada"
    return cells


def test_a_persons_shape_takes_the_place_of_the_models_and_can_be_withdrawn():
    table = red_cells(3, review_reason="rare shape", needs_review=True)
    scheme = default_scheme()
    once = with_shape_corrections(table, corrections(c1="spherocyte", c2="platelet"))
    assert once["shape"].tolist() == ["spherocyte", "platelet", "normal_red_cell"]
    assert once["reviewer"].tolist() == ["ada", "ada", ""]
    assert once["needs_review"].tolist() == [False, False, True]
    assert is_red_cell(once, scheme).tolist() == [True, False, True]
    back = with_shape_corrections(once, corrections())
    pd.testing.assert_frame_equal(back, table, check_dtype=False)


def test_tables_are_read_as_they_were_written(tmp_path: Path):
    from napari_leukocls.io.serialise import table_bytes

    table = red_cells(4, shape=np.array(["", "spherocyte", "", "normal_red_cell"], object), pallor=np.nan)
    (tmp_path / RED_CELL_FILE).write_bytes(table_bytes(table))
    pd.testing.assert_frame_equal(read_red_cells(tmp_path), table, check_dtype=False)
    assert read_red_cells(tmp_path / "nowhere") is None
    (tmp_path / RED_CELL_FILE).write_bytes(b"cell_id\nx\n")
    with pytest.raises(InputError, match="analyse the slide again"):
        read_red_cells(tmp_path)


def test_fields_are_joined_and_fields_without_red_cells_are_passed_over():
    assert join_red_cells([None, None]) is None
    both = join_red_cells([red_cells(2), None, red_cells(3)])
    assert both is not None
    assert len(both) == 5


def test_a_shape_counts_as_a_red_cell():
    from napari_leukocls.measurement.differential import differential
    from tests.results import make_result

    result = make_result()
    cells = result.cells.copy()
    n = int((cells["class"] == "red_cell").sum())
    first = cells.index[cells["class"] == "red_cell"][0]
    cells.loc[first, ["class", "corrected_class", "reviewer"]] = "spherocyte", "spherocyte", "ada"
    counts = differential(cells, default_scheme(), result.run["classifier"]["classes"]).set_index("class")[
        "count"
    ]
    assert counts["red_cell"] == n
    assert "spherocyte" not in counts.index


def test_findings_are_unique_and_stable():
    table = red_cells(diameter_um=np.random.default_rng(0).normal(7.5, 0.5, 1000))
    first, again = red_cell_findings(table, PERFECT, True), red_cell_findings(table, PERFECT, True)
    assert first == again
    assert len({one.name for one in first}) == len(first)
    shuffled = red_cell_findings(table.sample(frac=1, random_state=1), PERFECT, True)
    assert [replace(one, low=0, high=0, value=round(one.value, 9)) for one in shuffled] == [
        replace(one, low=0, high=0, value=round(one.value, 9)) for one in first
    ]


def test_each_field_of_a_slide_has_its_own_blueness():
    table = pd.concat(
        [red_cells(200, blueness=0.2).assign(field="a"), red_cells(200, blueness=0.6).assign(field="b")]
    )
    assert not polychromatic(table, load_grades().limits).any()
    table.iloc[:10, table.columns.get_loc("blueness")] = 0.35
    assert polychromatic(table, load_grades().limits).sum() == 10


def test_who_waits_for_review_and_why():
    from napari_leukocls.classification.loading import load_classifier
    from napari_leukocls.models.registry import RED_CELLS, find_model
    from napari_leukocls.types import Predictions

    card = load_classifier(find_model(RED_CELLS).path, "cpu").card
    n = 6
    measures = red_cells(n, blueness=[0.3, 0.3, 0.3, 0.3, 0.9, 0.3], measured=[True] * 5 + [False])
    sure = np.full((5, len(SHAPES)), 0.001, np.float32)
    shapes = ["normal_red_cell", "schistocyte", "spherocyte", "normal_red_cell", "spherocyte"]
    for row, name in enumerate(shapes):
        sure[row, SHAPES.index(name)] = 0.99
    sure[3] = 1 / len(SHAPES)
    sure[3, SHAPES.index("macrocyte")] += 0.01
    predictions = Predictions(SHAPES, sure, np.array([0, 0, 9.0, 0, 0]), 5.0)
    cells = pd.DataFrame({"slide_id": "s", **dict.fromkeys(PLACE, 1.0)}, index=range(n))
    columns = ["cell_id", *MEASURES]
    table = build_red_cell_table(cells, measures[columns], predictions, card, load_grades().limits)
    assert table["shape"].tolist() == [*shapes[:3], "macrocyte", shapes[4], ""]
    assert table["review_reason"].tolist() == [
        *("", RARE_SHAPE, "unlike the training data", "low confidence", BLUER, ""),
    ]
    assert table["needs_review"].tolist() == [False, True, True, True, True, False]
    assert list(table.columns) == list(RED_CELL_COLUMNS)


def test_a_shape_that_no_cell_has_is_excluded_only_by_enough_cells() -> None:
    few, many = (found(red_cells(n))["red_cell_schistocytes"] for n in (150, 1000))
    # Clopper-Pearson of none: 1 - 0.025 ** (1 / n).
    assert few.high == pytest.approx(100 * (1 - 0.025 ** (1 / 150)), abs=1e-3)
    assert many.high == pytest.approx(100 * (1 - 0.025 ** (1 / 1000)), abs=1e-3)
    assert few.high > 1 > many.high
