"""The plugin in a real napari window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile


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
