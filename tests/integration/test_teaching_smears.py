"""The teaching smears show what they are named after, and the analysis finds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.config import make_config
from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import drain
from napari_leukocls.types import FieldResult, Finding


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(make_config(device="cpu"))


def analysed(engine: Engine, name: str) -> tuple[FieldResult, dict[str, Finding], pd.DataFrame]:
    path = sample_smear(f"synthetic_teaching_{name}")
    result = drain(iter_analyze(read_image(path), engine))
    truth = pd.read_csv(path.with_name(f"{path.stem}_truth.csv"), keep_default_na=False)
    return result, {one.name: one for one in result.findings}, truth


def called(result: FieldResult, truth: pd.DataFrame, shape: str) -> pd.Series:
    """What the measured red cells that were drawn as a shape are called."""
    drawn = truth[truth["kind"] == "red_cell"]
    table = result.red_cells
    assert table is not None
    table = table[table["measured"]]
    places = ["centroid_y", "centroid_x"]
    far, nearest = cKDTree(drawn[places]).query(table[places])
    mine = (far < 2 / result.um_per_px) & (drawn["shape"].to_numpy()[nearest] == shape)
    return table.loc[mine, "shape"]


def test_spherocytes(engine: Engine):
    result, findings, truth = analysed(engine, "spherocytes")
    spherocytes = findings["red_cell_spherocytes"]
    assert spherocytes.state == "certain"
    assert "3+" in spherocytes.text
    share = (
        100 * (truth.loc[(truth["kind"] == "red_cell") & ~truth["fringe"], "shape"] == "spherocyte").mean()
    )
    assert abs(spherocytes.value - share) < 15
    assert (called(result, truth, "spherocyte") == "spherocyte").mean() > 0.8
    assert findings["red_cell_polychromatic"].state == "possible"
    erythroblasts = result.counts.set_index("class").loc["erythroblast", "count"]
    waiting = result.cells.loc[result.cells["needs_review"], "predicted_class"]
    assert erythroblasts + (waiting == "erythroblast").sum() >= 2


def test_schistocytes_are_shown_to_a_person_before_they_are_graded(engine: Engine):
    result, findings, truth = analysed(engine, "schistocytes")
    schistocytes = findings["red_cell_schistocytes"]
    assert schistocytes.state == "possible"
    assert schistocytes.high > 5
    names = called(result, truth, "fragment")
    assert (names == "schistocyte").mean() > 0.5
    table = result.red_cells
    assert table is not None
    assert table.loc[table["shape"] == "schistocyte", "needs_review"].all()


def test_target_cells_and_pale_cells(engine: Engine):
    result, findings, truth = analysed(engine, "targets_and_teardrops")
    assert findings["red_cell_target_cells"].state == "certain"
    assert (called(result, truth, "target") == "target_cell").mean() > 0.6
    assert findings["red_cell_hypochromic"].value > 4
    # Drawn teardrops have a shorter tail than real ones: they are called other shapes, but never normal in most.
    assert (called(result, truth, "teardrop") != "normal_red_cell").mean() > 0.5


def test_cells_in_rouleaux_and_heaps_are_not_graded(engine: Engine):
    result, findings, truth = analysed(engine, "rouleaux_and_heaps")
    assert set(truth["group"].str.split().str[0]) >= {"rouleau", "heap"}
    assert findings["red_cell_measured"].value < 60
    assert not [name for name in findings if "schistocyte" in name and findings[name].state == "certain"]
    assert any("heap" in name for name in findings)


def test_clumps_of_platelets(engine: Engine):
    result, findings, truth = analysed(engine, "platelet_clumps")
    assert truth.loc[truth["kind"] == "platelet", "group"].str.startswith("clump").sum() > 20
    assert findings["platelet_clumps"].value >= 1
    assert np.isfinite(findings["red_cell_size_spread"].value)


def test_red_cells_are_left_alone_where_nobody_asks_for_them():
    engine = load_engine(make_config(device="cpu", red_cells=False))
    image = read_image(sample_smear("synthetic_teaching_platelet_clumps"))
    part = replace(image, pixels=np.ascontiguousarray(image.pixels[:300, :300]))
    result = drain(iter_analyze(part, engine))
    assert result.red_cells is None
    assert not [one for one in result.findings if one.name.startswith("red_cell_")]
    assert "red_cells" not in result.run


def test_a_model_of_leukocytes_is_no_model_of_shapes():
    with pytest.raises(ArgumentError, match="which is no red cell"):
        load_engine(make_config(device="cpu", red_cell_model="default"))
    with pytest.raises(ArgumentError, match="choose a classifier of leukocytes"):
        load_engine(make_config(device="cpu", classifier="red_cells"))
