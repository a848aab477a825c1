"""What the docks do, without a window: slides, review, data of a training, batches, results opened again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_leukocls.analysis.region import Region, find_edit, region_of_box, region_of_polygons
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.progress import Progress
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult
from napari_leukocls.widgets.batch import model as batch_model
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.result_layers import cell_features, label_colormap, result_layers
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.review import model as review_model
from napari_leukocls.widgets.review.model import ReviewModel
from napari_leukocls.widgets.train import data_model as train_model
from napari_leukocls.widgets.train import form as train_settings
from tests.results import make_result


@pytest.fixture
def result() -> FieldResult:
    return make_result()


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    made = Session()
    made.reviewer = "A. Reader"
    return made


@pytest.fixture
def slide(session: Session, result: FieldResult) -> SlideModel:
    made = SlideModel(result, session.store.add_slide(result), AnalyzeConfig())
    session.show(made)
    return made


@pytest.fixture
def review(session: Session, slide: SlideModel) -> ReviewModel:
    assert session.case is not None
    return ReviewModel(session, session.case)


def test_the_models_of_the_docks_need_no_qt() -> None:
    names = (
        "analyse.model batch.model explain.model review.model train.data_model train.preview_model train.results_model "
        "common.session common.slide_model common.training_run"
    )
    code = "; ".join(f"import napari_leukocls.widgets.{name}" for name in names.split())
    code += "; import sys; assert not {'qtpy', 'PyQt6', 'PySide6', 'napari', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_opening_a_dock_imports_no_heavy_library(tmp_path: Path) -> None:
    code = """
import sys
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
application = QApplication([])
viewer = ViewerModel()
before = set(sys.modules)
from napari_leukocls import widgets
docks = [getattr(widgets, name)(viewer) for name in widgets.__all__]
heavy = "torch torchvision timm cellpose sklearn scipy.stats statsmodels matplotlib sqlalchemy alembic"
found = (set(heavy.split()) | {"pytorch_grad_cam"}) & (set(sys.modules) - before)
assert len(docks) == 6 and not found, found
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)


def test_features_have_a_row_for_every_label_and_for_the_background(result: FieldResult) -> None:
    cells = result.cells[result.cells["cell_id"] != 5]
    features = cell_features(cells, 60)
    assert list(features["index"]) == list(range(61))
    # What is empty is None, which the status bar leaves out.
    assert features["class"][0] is None and features["class"][5] is None and features["class"][60] is None
    assert features["class"][4] == cells.set_index("cell_id")["class"][4]


def test_labels_have_the_colours_of_their_classes_and_hidden_ones_none(result: FieldResult) -> None:
    made = label_colormap(result.cells, default_scheme(), shown=[2, 3])
    table = {label: made.map(label) for label in (0, 2, 4)}
    # What napari sends to the graphics card for labels of 16 bits.
    sent = made._get_mapping_from_cache(np.dtype(np.uint16))
    for label, colour in table.items():
        np.testing.assert_allclose(sent[label], colour)
    np.testing.assert_allclose(sent[60_000], made.default_color)
    rows = result.cells.set_index("cell_id")
    np.testing.assert_allclose(
        np.array(table[2][:3]) * 255, default_scheme()[rows["class"][2]].rgb, atol=1e-6
    )
    assert table[4][3] == 0 and table[0][3] == 0
    ((labels, options, kind),) = result_layers(result, "field")
    assert kind == "labels" and options["name"] == "field cells"
    assert labels is not result.labels


def test_regions_are_clipped_and_too_small_ones_refused() -> None:
    assert region_of_box((-5, 10.2, 200, 900), (100, 300)) == Region((0, 10, 100, 300))
    with pytest.raises(ArgumentError, match="smaller than"):
        region_of_box((0, 0, 10, 10), (100, 300))
    with pytest.raises(ArgumentError, match="no closed shape"):
        region_of_polygons([], (100, 300))


def test_an_edit_names_the_cells_that_changed() -> None:
    before = np.zeros((30, 40), np.int32)
    before[2:8, 2:8], before[10:20, 10:20] = 1, 2
    assert find_edit(before, before.copy()) is None
    after = before.copy()
    after[5:12, 7:12] = 7
    edit = find_edit(before, after)
    assert edit is not None and edit.cell_ids == (1, 2, 7) and edit.box == (5, 7, 12, 12)


def test_counts_say_how_many_more_to_count(slide: SlideModel) -> None:
    rows = {row.name: row for row in slide.count_rows()}
    assert rows["red_cell"].percent is None
    assert (rows["neutrophil"].more or 0) > 100
    assert slide.more_to_count() >= (rows["neutrophil"].more or 0)
    assert slide.totals().to_review == int(slide.result.cells["needs_review"].sum())


def test_the_header_says_that_other_fields_of_a_slide_are_not_open(session: Session) -> None:
    results = [make_result(f"field {i}", seed=i) for i in (1, 2, 3)]
    first = session.store.add_slide(results[0])
    key = session.store.case(first).key
    for result in results[1:]:
        session.store.add_slide(result, case=key)
    case = session.new_case("field 1")
    case.set_slide(case.add_field("field 1", None), SlideModel(results[0], first, AnalyzeConfig()))
    assert case.progress_words().endswith("to review in 3 fields, 2 of them not open")
    for result in results[1:]:
        slide = SlideModel(result, session.store.add_slide(result, case=key), AnalyzeConfig())
        case.set_slide(case.add_field(result.slide_id, None), slide)
    assert case.progress_words().endswith("to review")


def test_one_cell_of_one_class_does_not_make_a_few_more_enough(slide: SlideModel) -> None:
    cells = slide.result.cells
    settled = cells[(cells["class"] == "neutrophil") & ~cells["needs_review"]]
    slide.with_cells(settled.head(1))
    rows = {row.name: row for row in slide.count_rows()}
    assert (rows["neutrophil"].percent, slide.totals().leukocytes) == (100, 1)
    # About the thousand that a class of any share may need, and not the sixty of a class that all cells have.
    assert 900 < slide.more_to_count() < 1_100


def test_the_gallery_is_ordered_and_grouped(review: ReviewModel, slide: SlideModel) -> None:
    groups = {group.name: group.count for group in review.groups()}
    assert groups[review_model.WAITING] == slide.totals().to_review
    assert groups["red_cell"] == int((slide.cells["class"] == "red_cell").sum())
    rows = slide.cells.set_index("cell_id")
    everyone = review.order(review_model.NUCLEATED, review_model.BY_DOUBT)
    assert not set(rows["class"][everyone]) & {"red_cell", "platelet"}
    # What waits comes first, then each class under its heading with its count and share.
    first, *classes = review.sections(review_model.NUCLEATED, review_model.BY_DOUBT)
    assert len(first.ids) == groups[review_model.WAITING] and first.name == ""
    names = [section.name for section in classes]
    assert sorted(names, key=default_scheme().names.index) == names
    for section in classes:
        assert set(rows["class"][list(section.ids)]) == {section.name}
        assert section.figures.split()[0] == str(len(section.ids))
    assert "%" in classes[0].figures
    # Erythroblasts always go to review; once one is confirmed, it is counted per 100 leukocytes.
    assert "erythroblast" not in names
    sure = rows.index[(rows["class"] == "erythroblast") & (rows["probability"] > 0.9)]
    assert set(sure) <= set(first.ids) and set(rows["review_reason"][sure]) == {
        "class that is always reviewed"
    }
    review.confirm([int(sure[0])])
    sections = {one.name: one for one in review.sections(review_model.NUCLEATED, review_model.BY_DOUBT)}
    assert sections["erythroblast"].ids == (int(sure[0]),) and "per 100" in sections["erythroblast"].figures
    by_place = review.order("red_cell", review_model.BY_PLACE)
    assert list(by_place) == sorted(by_place)


def test_corrections_are_kept_counted_undone_and_redone(review: ReviewModel, slide: SlideModel) -> None:
    cells = list(review.order(review_model.WAITING, review_model.BY_DOUBT))
    review.correct(cells[:3], "monocyte")
    kept = review.session.store.corrections(slide.key)
    assert {kept[cell].corrected_class for cell in cells[:3]} == {"monocyte"}
    assert slide.totals().to_review == len(cells) - 3
    # Three were done at once, and three are undone at once.
    assert sorted(review.undo()) == sorted(cells[:3])
    assert slide.totals().to_review == len(cells)
    assert (slide.cells["corrected_class"] == "").all()
    assert sorted(review.redo()) == sorted(cells[:3])
    assert slide.totals().to_review == len(cells) - 3
    assert review.class_of_key("5") == "monocyte" and review.class_of_key(" ") is None


def test_a_correction_needs_a_name(review: ReviewModel) -> None:
    review.session.reviewer = ""
    with pytest.raises(ArgumentError, match="name"):
        review.correct([2], "monocyte")


def test_what_a_blind_reader_sees_says_nothing(review: ReviewModel) -> None:
    review.start_reading("B. Second")
    cells = review.order(review_model.NUCLEATED, review_model.BY_DOUBT)
    tile = review.tile(int(cells[0]))
    assert tile is not None and (tile.class_name, tile.caption) == ("", "")
    for cell in cells:
        review.correct([int(cell)], "neutrophil")
    assert "agree on" in review.finish_reading()


def test_results_open_again_as_they_were(tmp_path: Path, field_result: FieldResult) -> None:
    from napari_leukocls.results.reader import read_result
    from napari_leukocls.results.writer import write_result

    folder = write_result(field_result, tmp_path)["folder"]
    again = read_result(folder)
    np.testing.assert_array_equal(again.labels, field_result.labels)
    assert list(again.cells["class"]) == list(field_result.cells["class"])
    assert list(again.counts["count"]) == list(field_result.counts["count"])
    assert again.segmentation.scale == field_result.segmentation.scale
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"has no run\.json"):
        read_result(folder)
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(field_result.source)


@pytest.fixture
def field_result(tmp_path: Path) -> FieldResult:
    """A result whose image lies on the disk, and whose scale is in its record."""
    from dataclasses import asdict, replace

    path = tmp_path / "field.png"
    made = make_result("field", source=str(path))
    Image.fromarray(made.image.pixels).save(path)
    return replace(made, run={**made.run, "scale": asdict(made.segmentation.scale)})


def test_results_with_a_deleted_cell_open_again(tmp_path: Path, field_result: FieldResult) -> None:
    from dataclasses import replace

    from napari_leukocls.results.reader import read_result, read_slide
    from napari_leukocls.results.writer import write_result

    labels = np.where(field_result.labels == 2, 0, field_result.labels)
    cells = field_result.cells[field_result.cells["cell_id"] != 2].reset_index(drop=True)
    edited = replace(
        field_result, cells=cells, segmentation=replace(field_result.segmentation, labels=labels)
    )
    folder = write_result(edited, tmp_path)["folder"]
    again = read_result(folder)
    np.testing.assert_array_equal(again.labels, labels)
    assert list(again.cells["cell_id"]) == list(cells["cell_id"])
    slide = read_slide(folder)
    assert (slide.slide_id, slide.source) == (edited.slide_id, edited.source)
    assert slide.um_per_px == edited.um_per_px and slide.warnings == edited.warnings
    pd.testing.assert_frame_equal(slide.counts, again.counts)


def test_an_image_that_is_another_one_is_refused(tmp_path: Path, field_result: FieldResult) -> None:
    from napari_leukocls.results.reader import read_result
    from napari_leukocls.results.writer import write_result

    folder = write_result(field_result, tmp_path)["folder"]
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(field_result.source)
    with pytest.raises(InputError, match="not the one of the results"):
        read_result(folder)


def crops(folder: Path, counts: dict[str, int]) -> Path:
    for name, n in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_corrections_and_folders_become_one_table(
    review: ReviewModel, slide: SlideModel, tmp_path: Path
) -> None:
    from napari_leukocls.classification.dataset import list_crops

    session = review.session
    cells = [int(cell) for cell in review.order(review_model.WAITING, review_model.BY_DOUBT)]
    review.correct(cells[:2], "monocyte")
    folder = crops(tmp_path / "crops", {"lymphocyte": 3})
    sources = train_model.Sources((slide.key,), (folder,))
    assert train_model.class_counts(session, sources) == {"lymphocyte": 3, "monocyte": 2}
    table = train_model.gather_data(session, sources, tmp_path / "out")
    found = list_crops(table, default_scheme())
    assert sorted(crop.class_name for crop in found) == ["lymphocyte"] * 3 + ["monocyte"] * 2
    assert all(crop.path.is_file() for crop in found)
    # Crops of one slide stay together when they are split.
    assert len({crop.slide for crop in found if crop.class_name == "monocyte"}) == 1
    with pytest.raises(ArgumentError, match="choose data first"):
        train_model.gather_data(session, train_model.Sources(), tmp_path / "none")


def test_few_crops_keep_a_third_for_the_comparison(session: Session, tmp_path: Path) -> None:
    from napari_leukocls.classification.dataset import list_crops

    folder = crops(tmp_path / "crops", {"lymphocyte": 6, "monocyte": 7})
    table = train_model.with_test_part(session, folder, tmp_path / "out")
    found = list_crops(table, default_scheme())
    kept = [crop.class_name for crop in found if crop.split == "test"]
    assert sorted(kept) == ["lymphocyte"] * 2 + ["monocyte"] * 2
    # A table that names its parts is left as it is.
    assert train_model.with_test_part(session, table, tmp_path / "other") == table


def test_all_settings_of_a_training_have_a_control() -> None:
    from napari_leukocls.training.config import TrainConfig

    settings = {setting.name: setting for setting in train_settings.advanced_settings()}
    assert set(settings) | train_settings.PLAIN == set(TrainConfig.model_fields)
    assert settings["optimiser"].choices == ("adamw", "sgd")
    assert settings["near_duplicates"].choices == (False, True)
    assert train_settings.parsed(settings["leave_out"], "platelet, red_cell") == ("platelet", "red_cell")


def test_a_batch_shows_what_is_at_work_and_what_failed(tmp_path: Path) -> None:
    from napari_leukocls.batch import SlideOutcome

    for name in "ab":
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / f"{name}.png")
    slides = batch_model.find_slides(tmp_path)
    table = batch_model.Table()
    table.begin(batch_model.rows_of(slides, tmp_path / "out"), tmp_path / "out")
    table.on_progress(Progress("slides", 0, 2, "a"))
    assert [row.state for row in table.rows] == ["working", "waiting"]
    table.on_progress(Progress("segment", 0, 2))
    table.on_progress(Progress("slides", 1, 2, "b"))
    assert [row.state for row in table.rows] == ["failed", "working"]
    table.on_outcomes(
        [SlideOutcome("a", "failed", "broken", 0, 0, 0, 0), SlideOutcome("b", "done", None, 1, 9, 2, 1)]
    )
    assert [(row.state, row.leukocytes, row.note) for row in table.rows] == [
        ("failed", 0, "broken"),
        ("done", 2, ""),
    ]
    with pytest.raises(InputError, match="contains no image"):
        (tmp_path / "empty").mkdir()
        batch_model.find_slides(tmp_path / "empty")


def test_the_time_left_shrinks_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_leukocls.widgets.common.jobs import Clock

    now = [0.0]
    monkeypatch.setattr("napari_leukocls.widgets.common.jobs.monotonic", lambda: now[0])
    clock = Clock({"a": 1.0, "b": 3.0})
    assert clock.at(Progress("a", 1, 1)) == 0.25 and clock.seconds_left is None
    now[0] = 10.0
    assert clock.seconds_left == pytest.approx(30)
    assert clock.at(Progress("b", 1, 2)) == pytest.approx(0.625)
    assert clock.at(Progress("a", 0, 1)) == pytest.approx(0.625)


# Finer classes ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Settings of a new user: those of whoever runs the tests stay as they are."""
    fresh = SimpleNamespace(analyse=SimpleNamespace(depth="classes"), review=SimpleNamespace(reviewer=""))
    monkeypatch.setattr(preferences, "_settings", lambda: fresh)
    return fresh


@pytest.fixture
def finer(stored: SimpleNamespace, session: Session) -> SlideModel:
    found = make_result(depth="fine")
    made = SlideModel(found, session.store.add_slide(found), AnalyzeConfig(depth="fine"))
    session.show(made)
    return made


def test_the_depth_is_changed_at_any_time_and_remembered(
    session: Session, finer: SlideModel, stored: SimpleNamespace
) -> None:
    # The session shows the classes of the model, however finely the slide was analysed.
    plain = [(row.name, row.count) for row in finer.count_rows()]
    assert finer.depth == "classes" and not any(row.part for row in finer.count_rows())
    assert finer.fine_note() == "" and "finer" not in cell_features(finer.cells, 60, finer.depth)
    said: list[str] = []
    session.depth_changed.connect(said.append)
    session.set_depth("fine")
    assert said == [stored.analyse.depth] == [finer.depth] == ["fine"] == [Session().depth]
    rows = finer.count_rows()
    assert [(row.name, row.count) for row in rows if not row.part] == plain
    names = [row.name for row in rows]
    at = names.index("neutrophil")
    assert names[at + 1 : at + 4] == ["segmented_neutrophil", "band_neutrophil", "neutrophil_not_told_apart"]
    assert finer.fine_note().startswith("Left shift: 1 of 2")
    features = cell_features(finer.cells, 60, finer.depth)
    assert {"band_neutrophil", "neutrophil_not_told_apart"} <= set(features["finer"].dropna())
    whole = set(finer.visible("neutrophil", False) or ())
    parts = [finer.visible(name, False) or [] for name in names[at + 1 : at + 4]]
    assert whole == {cell for part in parts for cell in part} and len(whole) == sum(map(len, parts))
    of_part = label_colormap(finer.cells, finer.scheme, depth="fine").map(np.array([one[0] for one in parts]))
    assert not np.array_equal(of_part[0], of_part[1])
    np.testing.assert_array_equal(of_part[2], label_colormap(finer.cells, finer.scheme).map(parts[2][0]))
    session.set_depth("classes")
    assert [(row.name, row.count) for row in finer.count_rows()] == plain


def test_finer_classes_are_shown_given_and_confirmed(session: Session, finer: SlideModel) -> None:
    assert session.case is not None
    review = ReviewModel(session, session.case)
    assert "band_neutrophil" not in review.classes()
    session.set_depth("fine")
    assert {"neutrophil", "segmented_neutrophil", "band_neutrophil", "promyelocyte"} <= set(review.classes())
    groups = {group.name: group for group in review.groups()}
    assert groups["band_neutrophil"].text == "– Band neutrophil" and groups["neutrophil"].text == "Neutrophil"
    rest = review.order("neutrophil_not_told_apart", review_model.BY_DOUBT)
    band = int(review.order("band_neutrophil", review_model.BY_DOUBT)[0])
    assert len(rest) == groups["neutrophil_not_told_apart"].count > 0
    tile = review.tile(band)
    assert tile is not None and tile.caption.startswith("BAND") and tile.class_name == "band_neutrophil"
    shown = review.tile(int(rest[0]))
    assert shown is not None and shown.caption.startswith("NEU")
    titles = [section.title for section in review.sections(review_model.NUCLEATED, review_model.BY_DOUBT)]
    assert "– Neutrophil, not told apart" in titles and "– Band neutrophil" in titles
    # Return saves what is shown: the finer class where it is known, else the class.
    review.confirm([band, int(rest[0])])
    saved = finer.cells.set_index("cell_id")["corrected_class"]
    assert (saved[band], saved[int(rest[0])]) == ("band_neutrophil", "neutrophil")
    before = {row.name: row.count for row in finer.count_rows()}
    assert review.class_of_key("d") == "band_neutrophil" and review.class_of_key("1") == "neutrophil"
    review.correct([int(rest[0])], "band_neutrophil")
    after = {row.name: row.count for row in finer.count_rows()}
    assert after["neutrophil"] == before["neutrophil"]
    assert after["band_neutrophil"] == before["band_neutrophil"] + 1
    review.undo()
    assert {row.name: row.count for row in finer.count_rows()} == before


def test_a_slide_without_finer_classes_says_so(session: Session, slide: SlideModel) -> None:
    session.set_depth("fine")
    assert slide.fine_note() == (
        "The model 'default' gave no finer classes for this slide: only corrections to a finer class are shown as one."
    )
    assert not any(row.part for row in slide.count_rows())
    assert session.case is not None
    review = ReviewModel(session, session.case)
    first = int(review.order("neutrophil", review_model.BY_DOUBT)[0])
    review.correct([first], "band_neutrophil")
    parts = {row.name: row.count for row in slide.count_rows() if row.part}
    assert parts["band_neutrophil"] == 1 and parts["neutrophil_not_told_apart"] >= 1
