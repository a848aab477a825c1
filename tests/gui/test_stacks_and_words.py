"""Stacks, grey images, the status bar, and messages that go with their slide, as a person sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from acting import click, control, is_there, pick, says, until
from napari.layers import Labels
from scipy.ndimage import gaussian_filter

from napari_leukocls.widgets.common.result_layers import cell_features
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.common.smear_layers import projection_of, smear_of
from tests.results import make_result

Opens = Callable[[str], Any]


def test_of_a_stack_the_plane_shown_is_analysed_or_a_projection(
    viewer: Any, dock: Opens, field: np.ndarray
) -> None:
    blurred = gaussian_filter(field, (4, 4, 0))
    window = dock("Analyse")
    layer = viewer.add_image(np.stack([blurred, field, blurred]), name="stack", rgb=True)
    viewer.dims.set_point(0, 1)
    np.testing.assert_array_equal(smear_of(layer, viewer.dims.point).pixels, field)
    assert is_there(window, "Plane")
    shown = window.form.request(layer)
    np.testing.assert_array_equal(shown.image.pixels, field)
    assert shown.config.plane == 2
    viewer.dims.set_point(0, 0)
    pick(window, "Plane", "the sharpest plane")
    sharpest = window.form.request(layer)
    np.testing.assert_array_equal(sharpest.image.pixels, field)
    assert sharpest.config.plane == "sharpest"
    assert any("sharpest one (number 2)" in note for note in sharpest.image.notes)
    focus = projection_of(layer, "focus")
    assert np.abs(focus.pixels.astype(int) - field).mean() < 1
    # Of one picture there is no plane to choose.
    viewer.add_image(field, name="single")
    assert not is_there(window, "Plane")


def test_a_grey_image_is_warned_of_openly_and_messages_go_with_their_slide(
    viewer: Any, dock: Opens, field: np.ndarray
) -> None:
    window = dock("Analyse")
    viewer.add_image(field[..., 1].copy(), name="grey", scale=(0.16, 0.16), units=("um", "um"))
    click(window, "Run analysis")
    until(lambda: says(window).startswith("Done"), 300)
    assert window.results.warning_text.isVisible()
    assert "grey image" in window.results.warning_text.text()
    # The status bar speaks in words.
    cells = viewer.layers["grey cells"]
    label = int(cells.data.max())
    places = np.argwhere(cells.data == label)
    text = str(cells.get_status(cells.data_to_world(places[len(places) // 2]), world=True))
    assert "µm across" in text and "area_um2" not in text
    viewer.add_image(field, name="next")
    until(lambda: says(window) == "", 10)
    assert control(window, "Smear").currentText() == "next"


def test_classes_in_the_status_bar_are_in_words_and_keep_their_names() -> None:
    features = cell_features(make_result().cells, 60)
    name = next(one for one in features["class"] if one == "immature_granulocyte")
    assert f"{name}" == str(name) == "Immature granulocyte"
    result = make_result()
    cells = Labels(result.labels, features=cell_features(result.cells, int(result.cells["cell_id"].max())))
    red_cell = np.argwhere(result.labels == 1)[0]
    assert "class: Red cell, " in cells.get_status(red_cell)["value"]


def test_a_warning_of_no_leukocyte_goes_when_one_is_settled() -> None:
    result = make_result()
    slide = SlideModel(result, "key", None)
    nothing = result.cells.assign(needs_review=True)
    slide.with_cells(nothing)
    assert any("no settled leukocyte" in line for line in slide.result.warnings)
    slide.with_cells(result.cells)
    assert not any("no settled leukocyte" in line for line in slide.result.warnings)
