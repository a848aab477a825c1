"""The table of cells: positions against scikit-image, classes and reasons for review."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops_table

from napari_leukocls.measurement.cells import ReviewThresholds, build_cell_table, cell_geometry
from napari_leukocls.types import Predictions, Scale, Segmentation

CLASSES = ("neutrophil", "lymphocyte", "platelet")
COLUMNS = (
    "slide_id cell_id class probability prob_neutrophil prob_lymphocyte prob_platelet needs_review "
    "review_reason ood_score centroid_y centroid_x bbox_y0 bbox_x0 bbox_y1 bbox_x1 area_px area_um2 "
    "touches_border predicted_class corrected_class reviewer"
).split()


def field() -> Segmentation:
    """Five cells: a red cell at the border, a platelet, three that look nucleated."""
    labels = np.zeros((40, 60), np.int32)
    labels[0:10, 0:10] = 1
    labels[20:24, 20:24] = 2
    labels[20:32, 40:50] = 3
    labels[5:15, 20:30] = 4
    labels[5:15, 40:50] = 5
    kinds = np.array([[0.9, 0.1, 0], [0.1, 0.2, 0.7], [0, 1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0]], np.float32)
    return Segmentation(labels, kinds, (240.0, 240.0, 240.0), Scale(0.5, 15, "user"))


def predictions() -> Predictions:
    probabilities = np.array([[0.1, 0.85, 0.05], [0.5, 0.3, 0.2]], np.float32)
    return Predictions(CLASSES, probabilities, np.array([0.2, 3.0], np.float32), ood_threshold=3.0)


@given(arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 6)))
def test_geometry_is_that_of_scikit_image(labels: np.ndarray) -> None:
    expected = regionprops_table(labels, properties=("label", "bbox", "centroid", "area"))
    found = cell_geometry(labels)
    assert np.array_equal(found.ids, expected["label"])
    assert np.array_equal(found.area, expected["area"])
    for side in range(4):
        assert np.array_equal(found.bbox[:, side], expected[f"bbox-{side}"])
    for axis in range(2):
        assert found.centroid[:, axis] == pytest.approx(np.asarray(expected[f"centroid-{axis}"], float))
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    assert np.array_equal(found.touches_border, np.isin(found.ids, edge))


def test_the_table_has_the_columns_and_the_classes_of_both_sides() -> None:
    table = build_cell_table(field(), predictions(), [3, 5], "s", 0.5, CLASSES, 0.6)
    assert list(table.columns) == COLUMNS
    assert list(table["cell_id"]) == [1, 2, 3, 4, 5]
    assert list(table["class"]) == ["red_cell", "platelet", "lymphocyte", "not_classed", "neutrophil"]
    assert list(table["predicted_class"]) == list(table["class"])
    assert table["probability"].to_numpy() == pytest.approx([0.9, 0.7, 0.85, 0.8, 0.5])
    assert table.loc[[0, 1, 3], ["prob_neutrophil", "prob_platelet", "ood_score"]].isna().all(axis=None)
    assert list(table["needs_review"]) == [False, False, False, True, True]
    assert list(table["review_reason"]) == [
        "",
        "",
        "",
        "not classified",
        "low confidence; unlike the training data",
    ]
    third = table.iloc[2]
    assert tuple(third[["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]]) == (20, 40, 32, 50), "half-open"
    assert (third["centroid_y"], third["centroid_x"]) == (25.5, 44.5)
    assert (third["area_px"], third["area_um2"]) == (120, 30.0)
    assert list(table["touches_border"]) == [True, False, False, False, False]
    assert set(table["corrected_class"]) == set(table["reviewer"]) == {""}


def test_thresholds_by_class_and_reasons_one_by_one() -> None:
    strict = ReviewThresholds(0.4, {"lymphocyte": 0.9})
    table = build_cell_table(field(), predictions(), [3, 5], "s", None, CLASSES, strict)
    assert table.loc[2, "review_reason"] == "low confidence"
    assert table.loc[4, "review_reason"] == "unlike the training data"
    assert table["area_um2"].isna().all()


def test_a_probability_that_is_no_number_needs_review() -> None:
    broken = Predictions(CLASSES, np.full((1, 3), np.nan, np.float32), np.array([np.nan], np.float32), 1.0)
    table = build_cell_table(field(), broken, [3], "s", 0.5, CLASSES, 0.0)
    assert table.loc[2, "needs_review"]


def test_an_empty_field_and_one_without_a_classifier() -> None:
    nothing = Segmentation(
        np.zeros((5, 5), np.int32), np.empty((0, 3), np.float32), (1, 1, 1), Scale(1, 7, "user")
    )
    table = build_cell_table(nothing, None, [], "s", 1.0, CLASSES)
    assert list(table.columns) == COLUMNS
    assert len(table) == 0
    assert list(build_cell_table(field(), None, [], "s", 1.0, CLASSES)["class"][2:]) == ["not_classed"] * 3


@pytest.mark.parametrize(("ids", "classes"), [([3], CLASSES), ([3, 9], CLASSES), ([3, 5], CLASSES[::-1])])
def test_what_does_not_fit_is_refused(ids: list[int], classes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"probabilities|not in the label image|not the model's"):
        build_cell_table(field(), predictions(), ids, "s", 1.0, classes)


def test_twelve_megapixels_and_thousands_of_cells_take_seconds_at_most() -> None:
    rows, columns = np.arange(3072) // 40, np.arange(4096) // 40
    labels = (rows[:, None] * 103 + columns + 1).astype(np.int32)
    labels[::40] = labels[:, ::40] = 0
    start = time.perf_counter()
    found = cell_geometry(labels)
    assert time.perf_counter() - start < 5
    assert len(found.ids) == 77 * 103
