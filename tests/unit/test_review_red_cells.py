"""Red cells by shape in review: shown, given by a person, kept in the store, and in the findings."""

from __future__ import annotations

import pandas as pd
import pytest

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.red_cell_table import RED_CELL_FILE, read_red_cells
from napari_leukocls.results.writer import write_result
from napari_leukocls.scheme import default_scheme
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.review.model import NUCLEATED, ReviewModel
from napari_leukocls.widgets.review.red_cells import ALL, UNMEASURED, WAITING, RedCells, red_cells_of
from tests.results import make_result, with_shapes


@pytest.fixture
def session() -> Session:
    made = Session()
    made.reviewer = "A. Reader"
    return made


@pytest.fixture
def slide(session: Session) -> SlideModel:
    result = with_shapes(make_result(every=3))
    assert result.red_cells is not None
    assert len(result.red_cells) >= 8
    made = SlideModel(result, session.store.add_slide(result), AnalyzeConfig())
    session.show(made)
    return made


@pytest.fixture
def kind(session: Session, slide: SlideModel) -> RedCells:
    assert session.case is not None
    made = red_cells_of(session, session.case)
    assert made is not None
    return made


def test_the_gallery_shows_what_waits_first_and_then_each_shape(kind: RedCells):
    counts = {group.name: group.count for group in kind.groups()}
    table = kind.table()
    assert counts[ALL] == int(table["measured"].sum())
    assert counts[WAITING] == counts["schistocyte"] == int(table["needs_review"].sum())
    assert counts[UNMEASURED] == int((~table["measured"]).sum())
    sections = kind.sections(ALL, "doubt")
    assert [section.name for section in sections] == ["", "normal_red_cell", "spherocyte"]
    ids = [cell for section in sections for cell in section.ids]
    assert sorted(ids) == sorted(table.loc[table["measured"], "cell_id"])
    sure = table.set_index("cell_id")["probability"]
    assert sure[list(sections[1].ids)].is_monotonic_increasing
    (only,) = kind.sections(UNMEASURED, "place")
    assert len(only.ids) == counts[UNMEASURED]


def test_every_shape_has_a_button_with_a_key_of_its_own(kind: RedCells):
    buttons = kind.buttons()
    assert [one.name for one in buttons] == default_scheme().shapes()
    keys = [one.key for one in buttons]
    assert len(set(keys)) == len(keys) == 12
    assert kind.class_of_key(keys[3]) == buttons[3].name
    assert kind.class_of_key("q") is None


def test_a_shape_that_a_person_gives_is_kept_and_can_be_undone(
    session: Session, slide: SlideModel, kind: RedCells
):
    before = slide.result.counts
    first = kind.sections(WAITING, "doubt")[0].ids[0]
    kind.correct([first], "burr_cell")
    tile = kind.tile(first)
    assert tile is not None
    assert (tile.class_name, tile.corrected, tile.waiting) == ("burr_cell", True, False)
    assert kind.progress()[0] == 1
    pd.testing.assert_frame_equal(slide.result.counts, before)  # still a red cell
    stored = session.store.apply_to(slide.key, slide.added)
    assert stored.red_cells is not None
    row = stored.red_cells.set_index("cell_id").loc[first]
    assert (row["shape"], row["reviewer"]) == ("burr_cell", "A. Reader")
    assert kind.undo() == [first]
    again = kind.tile(first)
    assert again is not None and again.class_name == "schistocyte" and again.waiting
    assert kind.redo() == [first]
    assert kind.tile(first) == tile


def test_confirmed_shapes_no_longer_wait(kind: RedCells):
    ids = list(kind.sections(WAITING, "doubt")[0].ids)
    kind.confirm(ids)
    assert kind.sections(WAITING, "doubt") == []
    assert kind.progress()[:2] == (len(ids), len(ids))


def test_a_platelet_on_a_red_cell_is_taken_out_of_the_shapes_and_counted(slide: SlideModel, kind: RedCells):
    n = slide.totals().platelets
    first = kind.sections("spherocyte", "doubt")[0].ids[0]
    kind.correct([first], "platelet")
    assert slide.totals().platelets == n + 1
    text = next(one.text for one in slide.result.findings if one.name == "red_cell_measured")
    assert f"of {len(kind.table()) - 1} red cells" in text


def test_corrected_red_cells_are_not_among_the_leukocytes(session: Session, kind: RedCells):
    assert session.case is not None
    review = ReviewModel(session, session.case)
    n = next(group.count for group in review.groups() if group.name == NUCLEATED)
    kind.correct([kind.table()["cell_id"].iloc[0]], "target_cell")
    assert next(group.count for group in review.groups() if group.name == NUCLEATED) == n
    names = {entry.name for entry in (*review.buttons(), *review.more())}
    assert not names & set(default_scheme().shapes())


def test_a_person_must_be_named(session: Session, kind: RedCells):
    session.reviewer = ""
    with pytest.raises(ArgumentError):
        kind.correct([kind.table()["cell_id"].iloc[0]], "target_cell")


def test_a_slide_without_a_table_of_red_cells_has_no_such_kind(session: Session):
    result = make_result()
    session.show(SlideModel(result, session.store.add_slide(result), AnalyzeConfig()))
    assert session.case is not None
    assert red_cells_of(session, session.case) is None


def test_given_shapes_are_written(slide: SlideModel, kind: RedCells, tmp_path):
    first = kind.sections(WAITING, "doubt")[0].ids[0]
    kind.correct([first], "burr_cell")
    folder = write_result(slide.result, tmp_path)["folder"]
    assert (folder / RED_CELL_FILE).is_file()
    table = read_red_cells(folder)
    assert table is not None
    assert table.set_index("cell_id").loc[first, "shape"] == "burr_cell"


def test_given_shapes_are_training_data_of_their_own(session: Session, slide: SlideModel, kind: RedCells):
    first, second = kind.table()["cell_id"].iloc[[0, 2]]
    kind.correct([first], "burr_cell")
    kind.correct([second], "target_cell")
    leukocyte = int(slide.result.cells.loc[slide.result.cells["class"] == "lymphocyte", "cell_id"].iloc[0])
    session.store.correct(slide.key, leukocyte, "monocyte", "A. Reader")
    crops = session.store.crop_table(shapes=True)
    assert sorted(crop.class_name for crop in crops) == ["burr_cell", "target_cell"]
    assert all(crop.pixels().ndim == 3 for crop in crops)
    assert [crop.class_name for crop in session.store.crop_table()] == ["monocyte"]
