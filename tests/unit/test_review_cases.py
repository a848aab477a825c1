"""Cases: several fields that make one count, and a signature that holds only for what was signed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import Case, ReviewStore, open_store
from napari_leukocls.review.audit import verify
from napari_leukocls.review.counting import classes_digest, state
from tests.results import make_result


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with open_store(tmp_path / "review.sqlite3") as opened:
        yield opened


def three_fields(store: ReviewStore) -> tuple[Case, list[str]]:
    """A slide of three fields in the store."""
    case = store.new_case("slide 7", "S-0815")
    return case, [store.add_slide(make_result(seed=seed), case=case.key) for seed in range(3)]


def settle(store: ReviewStore, case: Case, who: str = "Ada") -> None:
    """Give every cell that waits a class."""
    for slide, cell in case.offered():
        store.correct(slide, cell, "lymphocyte", who)


def test_the_fields_of_a_slide_make_one_count(store: ReviewStore) -> None:
    case, slides = three_fields(store)
    alone = store.case(store.add_slide(make_result(seed=9)))
    assert alone.record.fields != case.record.fields == tuple(slides)
    assert (case.record.name, case.record.identifier) == ("slide 7", "S-0815")
    parts = [[cell for key, cell in case.counted() if key == slide] for slide in slides]
    assert parts == [store.counted(slide) for slide in slides] and all(parts)
    n = case.progress().leukocytes
    assert n > max(len(part) for part in parts) / 2
    # A goal that is reached within the second field leaves the third out.
    case.set_goal(len(parts[0]) + 1, "Ada")
    assert {key for key, _ in case.counted()} <= set(slides[:2])
    assert store.progress(slides[2]) == case.progress()
    # The same pixels come back into their case, whatever the name.
    assert store.add_slide(make_result(seed=1)) == slides[1]
    assert store.case(slides[1]).key == case.key
    assert [record.name for record in store.cases()] == ["slide 7", "field 1"]


def test_a_field_may_move_to_another_slide(store: ReviewStore) -> None:
    case, slides = three_fields(store)
    other = store.new_case("slide 8")
    settle(store, case)
    case.sign_off("Ada")
    other.add(slides[2], "Ben")
    assert other.record.fields == (slides[2],) and case.record.fields == tuple(slides[:2])
    lift = case.lifted()
    assert lift is not None and "moved to slide 8" in lift.what and lift.by == "Ben"


def test_undo_goes_over_all_fields_and_takes_back_ones_own_entries_only(store: ReviewStore) -> None:
    case, slides = three_fields(store)
    store.correct(slides[0], 2, "monocyte", "Ada")
    store.correct(slides[1], 2, "blast", "Ben")
    store.correct(slides[2], 4, "basophil", "Ada")
    undone = [case.undo("Ada"), case.undo("Ada"), case.undo("Ada")]
    assert [step and (step.slide, step.cell_id) for step in undone] == [(slides[2], 4), (slides[0], 2), None]
    assert store.corrections(slides[1])[2].reviewer == "Ben"
    again = case.redo("Ada")
    assert again is not None and again.slide == slides[0]
    assert verify(store).whole


CHANGES: dict[str, tuple[Callable[[ReviewStore, Case, list[str]], object], str]] = {
    "a class": (
        lambda store, case, slides: store.correct(slides[1], 2, "blast", "Ben"),
        "cell 2 of field 1 changed from",
    ),
    "a review state": (
        lambda store, case, slides: store.correct(
            slides[1], 2, make_result(seed=1).cells.set_index("cell_id")["predicted_class"][2], "Ben"
        ),
        "confirmed as",
    ),
    "the goal": (lambda store, case, slides: case.set_goal(2, "Ben"), "the goal was all and is 2"),
    "the identifier": (lambda store, case, slides: case.rename("slide 7", "S-1", "Ben"), "renamed from"),
    "an outline": (
        lambda store, case, slides: store.add_slide(smaller_cell(), actor="Ben"),
        "the outlines",
    ),
    "the model": (
        lambda store, case, slides: store.add_slide(other_model(), actor="Ben"),
        "the models",
    ),
    "a field": (
        lambda store, case, slides: store.add_slide(make_result(seed=5), case=case.key, actor="Ben"),
        "field field 1 added",
    ),
    "an undo": (lambda store, case, slides: case.undo("Ada"), "changed from lymphocyte to"),
}


def smaller_cell() -> object:
    result = make_result(seed=2)
    labels = result.labels.copy()
    rows, columns = np.nonzero(labels == 2)
    labels[rows[0], columns[0]] = 0
    return replace(result, segmentation=replace(result.segmentation, labels=labels))


def other_model() -> object:
    result = make_result(seed=2)
    run = {**result.run, "classifier": {**result.run["classifier"], "name": "other", "sha256": "ef"}}
    return replace(result, run=run)


@pytest.mark.parametrize("name", list(CHANGES))
def test_whatever_changes_what_was_signed_lifts_the_signature_and_is_told(
    store: ReviewStore, name: str
) -> None:
    case, slides = three_fields(store)
    settle(store, case)
    case.sign_off("Ada")
    assert case.signature().is_signed and case.lifted() is None
    change, words = CHANGES[name]
    change(store, case, slides)
    lift = case.lifted()
    assert case.signed() is None and lift is not None
    assert words in lift.what and lift.signed_by == "Ada" and lift.at
    assert lift.by == ("Ada" if name == "an undo" else "Ben")
    assert "signature of Ada lifted by" in case.signature().words()
    assert verify(store).whole
    # What was lifted stays lifted: another change that puts the old state back does not sign.
    if name == "the goal":
        case.set_goal(None, "Ada")
        assert case.signed() is None


def test_signing_asks_about_a_short_count_and_about_artefacts(store: ReviewStore) -> None:
    case, slides = three_fields(store)
    settle(store, case)
    assert case.doubts() == []
    case.set_goal(400, "Ada")
    n = case.progress().leukocytes
    store.correct(slides[0], 2, "artefact", "Ada")
    short, artefacts = case.doubts()
    assert short == f"{n - 1} of 400 leukocytes are counted."
    assert "1 of the" in artefacts and "(1 artefact)" in artefacts


def test_before_signing_the_count_says_what_it_leaves_out(store: ReviewStore) -> None:
    case, _ = three_fields(store)
    state = case.signature()
    assert state.state == "unreviewed" and sum(state.left_out.values()) == len(case.offered())
    slide, cell = case.offered()[0]
    store.correct(slide, cell, "blast", "Ada")
    assert case.signature().words().startswith(f"provisional: {len(case.offered())} cells are left out (")


def test_a_second_read_of_all_fields_is_blind_and_own_answers_can_be_mended(store: ReviewStore) -> None:
    case, slides = three_fields(store)
    settle(store, case)
    with pytest.raises(ReviewError, match="another person"):
        case.second_read("Ada")
    read = case.second_read("Ben")
    assert {slide for slide, _ in read.cells} == set(slides) and len(read.cells) == len(case.counted())
    first, second = read.cells[:2]
    read.classify(*first, "blast")
    read.classify(*second, "blast")
    read.classify(*second, "monocyte")
    assert read.undo() == second and read.answers()[second] == "blast"
    assert read.undo() == second and second not in read.answers()
    assert read.undo() == first and read.undo() is None and read.answers() == {}
    assert store.corrections(slides[0])[first[1]].reviewer == "Ada" if first in case.offered() else True
    for cell in read.pending():
        read.classify(*cell, "lymphocyte")
    found = read.finish()
    assert found.n == len(read.cells) and set(found.disagreements["slide"]) <= set(slides)
    case.sign_off("Ada")
    state = case.signature()
    assert (state.second_reader, state.kappa) == ("Ben", pytest.approx(found.kappa, nan_ok=True))
    assert case.agreement().n == found.n
    # A field that comes later was not read.
    store.add_slide(make_result(seed=4), case=case.key)
    with pytest.raises(ReviewError, match="no second read"):
        case.agreement()


def test_a_store_from_before_cases_keeps_goals_and_signatures(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite3"
    with open_store(file) as store:
        case = store.case(store.add_slide(make_result()))
        settle(store, case)
        case.set_goal(50, "Ada")
        case.sign_off("Ada")
        with store.database.read() as connection:
            number = int(connection.exec_driver_sql("SELECT max(id) FROM analyses").scalar_one())
            # Then a signature was a hash of the classes alone.
            old = classes_digest(state(connection, number, store.scheme))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in (
            f"UPDATE sign_offs SET state = '{old}'",
            "ALTER TABLE slides ADD COLUMN goal INTEGER",
            "UPDATE slides SET goal = 50",
            "DROP TABLE case_samples",
            "DROP TABLE case_fields",
            "DROP TABLE cases",
            "DROP TABLE lifts",
            "DROP TABLE bench_presses",
            "DROP TABLE bench_counts",
            "ALTER TABLE sign_offs DROP COLUMN case_id",
            "ALTER TABLE sign_offs DROP COLUMN covers",
            "ALTER TABLE analyses DROP COLUMN labels_sha256",
            "UPDATE alembic_version SET version_num = '0003'",
        ):
            connection.execute(statement)
        for name, sql in triggers:
            if not name.startswith(("lifts", "bench_presses")):
                connection.execute(sql)
    with open_store(file) as store:
        case = store.case(store.slides()[0].key)
        assert case.record.goal == 50 and case.record.name == "field 1"
        signature = case.signed()
        assert signature is not None and signature.reviewer == "Ada"
        store.correct(case.record.fields[0], 2, "blast", "Ben")
        assert case.signed() is None and "cell 2" in case.signature().lifted
