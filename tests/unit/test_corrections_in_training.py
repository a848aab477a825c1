"""What a person corrected reaches training: the class, the outline, and the stain of the slide."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from napari_leukocls import review
from napari_leukocls.analysis.region import find_edit
from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.review import open_store
from napari_leukocls.review.audit import verify
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.config import TrainConfig, make_train_config
from napari_leukocls.training.crops import cut
from napari_leukocls.training.data import gather
from napari_leukocls.training.network import rule_of
from napari_leukocls.types import FieldResult
from napari_leukocls.widgets.common.analysed import edited
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.train.data_model import Sources, gather_data, with_test_part
from tests.results import make_result

CELL = 12
#: Unlike the red cells that the shipped rules want, so that it shows whether the stain is evened out.
DENSITY = (0.1, 0.5, 0.3)


@pytest.fixture
def result() -> FieldResult:
    made = make_result()
    return replace(made, segmentation=replace(made.segmentation, red_cell_density=DENSITY))


def halved(labels: np.ndarray, cell: int) -> np.ndarray:
    """The left half of a cell alone is outlined."""
    changed = labels.copy()
    x = np.nonzero(labels == cell)[1]
    changed[:, (x.min() + x.max() + 1) // 2 :][changed[:, (x.min() + x.max() + 1) // 2 :] == cell] = 0
    return changed


def cut_for(config: TrainConfig, cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, Any]:
    monkeypatch.setenv("LEUKOCLS_CACHE", str(cache))
    dataset = drain(gather(config, ("lymphocyte", "neutrophil")))
    return drain(cut(dataset, config, rule_of(config), "cpu", CancelToken())).pixels, dataset


def as_analysed(result: FieldResult, cell: int, rule: CropRule, density: Any) -> np.ndarray:
    box = result.cells.set_index("cell_id").loc[[cell], ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]]
    found = result.segmentation
    return cut_crops(
        result.image.pixels,
        result.labels,
        np.array([cell]),
        box.to_numpy(),
        found.scale.um_per_px,
        found.glass_colour,
        rule,
        density,
    )[0]


def test_a_corrected_outline_is_what_the_train_dock_trains_on(
    result: FieldResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    slide = SlideModel(result, session.store.add_slide(result), AnalyzeConfig(device="cpu"))
    session.show(slide)
    labels = halved(result.labels, CELL)
    edit = find_edit(result.labels, labels)
    assert edit is not None
    found = drain(edited(session, slide, labels, edit, CancelToken()))
    slide.result, slide.added = after, _ = found.result, found.added
    session.store.correct(slide.key, CELL, "lymphocyte", "Ada")

    data = gather_data(session, Sources((slide.key,)), tmp_path / "dock")
    config = make_train_config(data=str(data), out=str(tmp_path / "out"), from_model="default")
    pixels, dataset = cut_for(config, tmp_path / "cache", monkeypatch)
    rule = rule_of(config)
    assert rule.red_cell is not None and dataset.labels == ["lymphocyte"]
    crop, middle = pixels[0], rule.side_px // 2
    # The half that is outlined is 1.9 um to either side of the middle; then comes the margin of 1 um.
    column = {um: middle + round(um / rule.um_per_px) for um in (-1.5, 1.5, 3.5, 5.0)}
    cell = crop[middle - 3 : middle + 3]
    assert (cell[:, column[-1.5] : column[1.5]].min(axis=2) < 215).all()
    assert (cell[:, column[3.5] : column[5.0]] == 235).all(), (
        "the half that the person took away is painted out"
    )
    inside = np.s_[middle - 3 : middle + 3, column[-1.5] : column[1.5]]
    analysed = as_analysed(after, CELL, rule, DENSITY)[inside].mean(axis=(0, 1))
    np.testing.assert_allclose(crop[inside].mean(axis=(0, 1)), analysed, atol=2)
    plain = as_analysed(after, CELL, rule, None)[inside].mean(axis=(0, 1))
    assert np.abs(plain - analysed).max() > 10, "the test can tell whether the stain was evened out"

    # Command line: the same crops, to the last bit.
    asked = make_train_config(corrections="default", out=str(tmp_path / "cli"), from_model="default")
    np.testing.assert_array_equal(cut_for(asked, tmp_path / "other", monkeypatch)[0], pixels)


def test_parts_and_other_sources_keep_the_outlines(result: FieldResult, tmp_path: Path) -> None:
    session = Session()
    key = session.store.add_slide(result)
    for cell in (2, 4, 6):
        session.store.correct(key, cell, "blast", "Ada")
    first = gather_data(session, Sources((key,)), tmp_path / "first")
    table = with_test_part(
        session, gather_data(session, Sources((key,), (first,)), tmp_path / "both"), tmp_path
    )
    crops = list_crops(table, default_scheme())
    assert len(crops) == 6 and all(crop.split for crop in crops)
    stored = {row.file.split("-")[-1]: row for row in session.store.crop_table()}
    for crop in crops:
        row = stored[crop.path.name.split("-")[-1]]
        mask = crop.cell_mask()
        assert mask is not None
        np.testing.assert_array_equal(mask, row.cell_mask())
        np.testing.assert_array_equal(crop.pixels(), row.pixels())
        assert (crop.um_per_px, crop.glass, crop.red_cell_density) == (row.um_per_px, row.glass, DENSITY)
    # The folder of corrections by itself: its masks are no crops.
    assert len(list_crops(first.parent, default_scheme())) == 3


def as_first_version(file: Path, target: Path) -> Path:
    """Copy what the first version of the store knew into a store that the first migration has made."""
    engine = sa.create_engine(f"sqlite:///{target}")
    config = Config()
    config.set_main_option("script_location", str(Path(review.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    base = sqlite3.connect(target)
    base.execute("ATTACH DATABASE ? AS now", (str(file),))
    tables = [row[0] for row in base.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = ", ".join(f'"{row[1]}"' for row in base.execute(f"PRAGMA main.table_info({table})"))
        if table != "alembic_version":
            base.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
    base.commit()
    base.close()
    return target


def test_a_store_of_an_earlier_version_is_trained_on(
    result: FieldResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old.sqlite3"
    with open_store(file) as store:
        store.correct(store.add_slide(result), CELL, "lymphocyte", "Ada")
    file = as_first_version(file, tmp_path / "first.sqlite3")
    with open_store(file) as store:
        assert verify(store).whole
        row = next(iter(store.crop_table()))
        assert row.red_cell_density is None and row.glass == (235.0, 235.0, 235.0)
        again = replace(result, run={**result.run, "settings": {"segmenter": "threshold"}})
        store.add_slide(again)
        assert next(iter(store.crop_table())).red_cell_density == DENSITY
        assert verify(store).whole
    config = make_train_config(corrections=str(file), out=str(tmp_path / "out"), from_model="default")
    assert len(cut_for(config, tmp_path / "cache", monkeypatch)[0]) == 1
