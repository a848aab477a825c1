"""The plugin in a real napari window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from acting import pump


def test_the_bundled_smear_opens_and_is_drawn(plugin: None, make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer(show=True)
    (layer,) = viewer.open_sample("napari-leukocls", "synthetic_normal")
    assert layer.rgb
    shot = viewer.screenshot(canvas_only=True, flash=False)
    # A smear has bright glass and coloured cells: the canvas shows more than one flat colour.
    assert shot[..., :3].std() > 5
    assert (shot[..., 0].astype(int) - shot[..., 1]).max() > 20


def test_results_open_as_labels_with_the_cells_as_features(
    plugin: None, make_napari_viewer: Callable[..., Any], tmp_path: Path
) -> None:
    labels = np.zeros((40, 50), np.int32)
    labels[2:12, 3:13] = 1
    labels[20:30, 30:44] = 2
    folder = tmp_path / "slide"
    folder.mkdir()
    tifffile.imwrite(folder / "labels.tif", labels)
    cells = pd.DataFrame({"slide_id": "slide", "cell_id": [1, 2], "class": ["neutrophil", "red_cell"]})
    cells.to_csv(folder / "cells.csv", index=False)
    viewer = make_napari_viewer()
    (layer,) = viewer.open(folder / "labels.tif", plugin="napari-leukocls")
    np.testing.assert_array_equal(layer.data, labels)
    assert list(layer.features["index"]) == [0, 1, 2]
    assert list(layer.features["class"][1:]) == ["neutrophil", "red_cell"]
    # The status bar under the cursor names the cell's class.
    assert "neutrophil" in layer.get_status((5, 5), view_direction=None)["value"]


def test_smears_with_and_without_a_pixel_size_are_open_together_without_a_warning(
    viewer: Any, field: np.ndarray, dock: Callable[[str], Any], recwarn: pytest.WarningsRecorder
) -> None:
    from napari_leukocls.widgets.common.layer_geometry import pixel_size_um

    dock("Analyse")
    known = viewer.add_image(field, name="known", scale=(0.16, 0.16), units=("um", "um"))
    plain = viewer.add_image(field, name="plain")
    viewer.add_shapes([[[0, 0], [20, 20]]], shape_type="rectangle")
    pump(0.5)
    assert not [one for one in recwarn if "nconsistent units" in str(one.message)]
    assert viewer.layers.extent.units is not None
    # Neither gets a pixel size that it has not, nor loses its own.
    assert pixel_size_um(known) == pytest.approx(0.16) and pixel_size_um(plain) is None
    viewer.layers.remove(plain)
    viewer.layers.remove(viewer.layers[-1])
    pump(0.3)
    assert {str(unit) for unit in known.units} == {"micrometer"} and pixel_size_um(known) == pytest.approx(
        0.16
    )


def test_layers_that_are_replaced_at_once_do_not_end_the_process(
    viewer: Any, field: np.ndarray, dock: Callable[[str], Any]
) -> None:
    dock("Analyse")
    labels = np.zeros(field.shape[:2], np.uint16)
    labels[50:90, 50:90] = 1
    for _ in range(4):
        # As when a slide is closed and the next one is opened. In napari alone this ends the process.
        image = viewer.add_image(field.copy())
        pump(0.2)
        for layer in [one for one in viewer.layers if one is not image]:
            viewer.layers.remove(layer)
        pump(0.2)
        viewer.add_labels(labels)
        pump(0.2)
    assert len(viewer.layers) == 2
