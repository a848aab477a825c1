"""The review store: corrections that last, come back, can be taken back, and never overwrite another's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError, ReviewConflict, ReviewError
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.review import ReviewStore, open_store
from napari_leukocls.review.audit import verify
from napari_leukocls.review.second_read import compare, kappa_of
from tests.results import CLASSES, make_result


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with open_store(tmp_path / "review.sqlite3") as opened:
        yield opened


def test_a_correction_is_there_when_the_slide_is_opened_again(tmp_path: Path) -> None:
    result = make_result()
    with open_store(tmp_path / "r.sqlite3") as store:
        slide = store.add_slide(result)
        said = store.correct(slide, 2, "monocyte", " Ada  Reader ", "folded nucleus")
        assert (said.from_class, said.corrected_class, said.predicted_class) == (
            "neutrophil",
            "monocyte",
            "neutrophil",
        )
    with open_store(tmp_path / "r.sqlite3") as again:
        assert again.add_slide(make_result()) == slide
        found = again.corrections(slide)
        assert list(found) == [2]
        assert (found[2].reviewer, found[2].reason) == ("Ada Reader", "folded nucleus")
        assert [record.slide_id for record in again.slides()] == ["field 1"]
        assert again.slides()[0].n_corrections == 1


def test_the_default_store_is_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEUKOCLS_DATA", str(tmp_path / "mine"))
    with open_store():
        assert (tmp_path / "mine" / "review.sqlite3").is_file()


def test_corrected_tables_keep_the_prediction_and_are_counted_again(store: ReviewStore) -> None:
    result = make_result()
    slide = store.add_slide(result)
    unsure = int(result.cells.loc[result.cells["needs_review"], "cell_id"].iloc[0])
    store.correct(slide, unsure, "blast", "Ada")
    store.correct(slide, 2, "artefact", "Ada")
    reviewed = store.apply_to(slide, result)
    rows = reviewed.cells.set_index("cell_id")
    assert rows.loc[2, ["class", "predicted_class", "corrected_class", "reviewer"]].tolist() == [
        *("artefact", "neutrophil", "artefact", "Ada")
    ]
    assert not rows.loc[unsure, "needs_review"]
    assert list(reviewed.cells.columns) == list(result.cells.columns)
    assert reviewed.run["review"]["reviewers"] == ["Ada"] and reviewed.run["review"]["signed_by"] is None
    before = result.counts.set_index("class")["count"]
    after = reviewed.counts.set_index("class")["count"]
    assert after["blast"] == after["artefact"] == 1
    assert after["neutrophil"] == before["neutrophil"] - 1
    assert (result.cells["corrected_class"] == "").all(), "the caller's table is left alone"
    store.undo(slide, "Ada")
    back = store.apply(slide, reviewed.cells).set_index("cell_id")
    assert back.loc[2, ["class", "corrected_class", "reviewer"]].tolist() == ["neutrophil", "", ""]


def test_undo_and_redo_are_each_reviewers_own(store: ReviewStore) -> None:
    slide = store.add_slide(make_result())
    assert store.undo(slide, "Ada") is None and store.redo(slide, "Ada") is None
    store.correct(slide, 2, "monocyte", "Ada")
    store.correct(slide, 4, "basophil", "Ben")
    store.correct(slide, 2, "blast", "Ada")
    assert store.undo(slide, "Ada").corrected_class == "monocyte"  # type: ignore[union-attr]
    assert store.undo(slide, "Ada").corrected_class == ""  # type: ignore[union-attr]
    assert list(store.corrections(slide)) == [4]
    assert store.undo(slide, "Ada") is None
    assert store.redo(slide, "Ada").corrected_class == "monocyte"  # type: ignore[union-attr]
    assert store.redo(slide, "Ada").corrected_class == "blast"  # type: ignore[union-attr]
    assert store.redo(slide, "Ada") is None
    store.undo(slide, "Ada")
    store.correct(slide, 6, "blast", "Ada")
    assert store.redo(slide, "Ada") is None, "a new correction ends what could be redone"
    assert {cell: said.corrected_class for cell, said in store.corrections(slide).items()} == {
        2: "monocyte",
        4: "basophil",
        6: "blast",
    }
    assert len(store.history(slide)) == 9, "nothing is ever taken out of the history"
    assert verify(store).whole


def test_two_stations_on_one_slide_lose_nothing(tmp_path: Path) -> None:
    result = make_result()
    with open_store(tmp_path / "r.sqlite3") as one, open_store(tmp_path / "r.sqlite3") as two:
        slide = one.add_slide(result)
        assert two.add_slide(result) == slide
        one.correct(slide, 2, "monocyte", "Ada")
        two.correct(slide, 4, "basophil", "Ben")
        with pytest.raises(ReviewConflict, match="Ada has chosen monocyte") as caught:
            two.correct(slide, 2, "blast", "Ben", "nucleoli")
        assert (caught.value.mine.corrected_class, caught.value.theirs.corrected_class) == (
            "blast",
            "monocyte",
        )
        assert one.corrections(slide)[2].corrected_class == "monocyte"
        kept = [said for said in one.history(slide) if said.action == "contested"]
        assert [(said.reviewer, said.corrected_class, said.reason) for said in kept] == [
            ("Ben", "blast", "nucleoli")
        ]
        assert two.correct(slide, 2, "blast", "Ben").revision == 2, "said again, it stands"
        with pytest.raises(ReviewConflict, match="changed to 'blast' by Ben"):
            one.undo(slide, "Ada")
        assert set(one.corrections(slide)) == {2, 4}
        assert verify(one).whole


def test_the_same_opinion_twice_is_no_conflict(tmp_path: Path) -> None:
    result = make_result()
    with open_store(tmp_path / "r.sqlite3") as one, open_store(tmp_path / "r.sqlite3") as two:
        slide = one.add_slide(result)
        two.add_slide(result)
        one.correct(slide, 2, "monocyte", "Ada")
        two.correct(slide, 2, "monocyte", "Ben")
        assert one.corrections(slide)[2].reviewer == "Ben"


def test_corrections_come_along_to_another_analysis_of_the_slide(store: ReviewStore) -> None:
    first = make_result()
    slide = store.add_slide(first)
    store.correct(slide, 2, "blast", "Ada", "nucleoli")
    store.correct(slide, 4, "artefact", "Ada")
    labels = first.labels.copy()
    labels[labels == 1] = 0
    labels[labels == 4] = 0
    labels[labels > 0] -= 1  # cell 2 is cell 1 now, and cell 4 is gone
    _, inverse = np.unique(labels, return_inverse=True)
    labels = inverse.reshape(labels.shape).astype(np.int32)
    n = int(labels.max())
    found = replace(first.segmentation, labels=labels, kind_probabilities=np.full((n, 3), 1 / 3, np.float32))
    cells = build_cell_table(found, None, [], "field 1", 0.2, CLASSES)
    second = replace(first, segmentation=found, cells=cells)
    with open_store(store.database.url.database) as elsewhere:
        elsewhere.add_slide(first)
        assert store.add_slide(second) == slide
        with pytest.raises(ReviewError, match="analysed again"):
            elsewhere.correct(slide, 2, "monocyte", "Ben")
    carried = store.corrections(slide)
    assert {cell: (said.corrected_class, said.reviewer) for cell, said in carried.items()} == {
        1: ("blast", "Ada")
    }
    assert carried[1].action == "carry"
    with pytest.raises(ReviewError, match="another analysis"):
        store.apply(slide, first.cells)
    store.correct(slide, 1, "lymphocyte", "Ben")
    store.add_slide(first)
    assert {cell: said.corrected_class for cell, said in store.corrections(slide).items()} == {
        2: "lymphocyte",
        4: "artefact",
    }
    assert verify(store).whole


def test_undo_reaches_across_another_analysis(store: ReviewStore) -> None:
    first = make_result()
    second = replace(first, run={**first.run, "classifier": {"name": "other", "sha256": "ef" * 32}})
    slide = store.add_slide(first)
    store.correct(slide, 6, "blast", "Ada")
    store.correct(slide, 2, "monocyte", "Ben")
    store.correct(slide, 2, "basophil", "Ada")
    store.correct(slide, 4, "artefact", "Ada")

    def classes() -> dict[int, str]:
        return {cell: said.corrected_class for cell, said in store.corrections(slide).items()}

    store.add_slide(second)
    assert classes() == {2: "basophil", 4: "artefact", 6: "blast"}
    taken_back = [store.undo(slide, "Ada") for _ in range(3)]
    assert [said.cell_id for said in taken_back if said] == [4, 2, 6], "the last one said comes first"
    assert classes() == {2: "monocyte"}, "what Ben said before stands again"
    assert store.undo(slide, "Ada") is None
    assert store.redo(slide, "Ada").cell_id == 6  # type: ignore[union-attr]
    # Back to the first analysis: what was undone in the second is not there either, and can be undone further.
    store.add_slide(first)
    assert classes() == {2: "monocyte", 6: "blast"}
    assert store.undo(slide, "Ada").cell_id == 6  # type: ignore[union-attr]
    assert store.undo(slide, "Ada") is None
    assert store.undo(slide, "Ben").cell_id == 2  # type: ignore[union-attr]
    assert classes() == {}
    assert verify(store).whole


def test_the_same_field_from_another_folder_is_the_same_slide(store: ReviewStore) -> None:
    slide = store.add_slide(make_result(source="/a/x.png"))
    assert store.add_slide(make_result(source="/b/y.png")) == slide
    assert store.add_slide(make_result(seed=1)) != slide
    assert len(store.slides()) == 2


def test_signing_waits_for_the_counted_cells(store: ReviewStore) -> None:
    result = make_result()
    slide = store.add_slide(result)
    waiting = store.offered(slide)
    assert set(waiting) == set(result.cells.loc[result.cells["needs_review"], "cell_id"])
    with pytest.raises(ReviewError, match=f"{len(waiting)} counted cells of field 1 need review"):
        store.sign_off(slide, "Ada")
    for cell in waiting:
        store.correct(slide, cell, "not_classed", "Ada")
    assert store.progress(slide).met and store.offered(slide) == []
    signature = store.sign_off(slide, "Ada")
    assert signature.n_counted == len(store.counted(slide))
    assert store.signed(slide) == signature
    assert store.slides()[0].signed_by == "Ada"
    store.correct(slide, 2, "blast", "Ben")
    assert store.signed(slide) is None, "what was signed has changed"


def test_a_goal_stops_the_offer_when_it_is_met(store: ReviewStore) -> None:
    result = make_result()
    slide = store.add_slide(result)
    everything = store.counted(slide)
    store.set_goal(slide, 4, "Ada")
    some = store.counted(slide)
    assert some == everything[: len(some)]
    progress = store.progress(slide)
    assert (progress.goal, progress.leukocytes, progress.to_review) == (4, 4, 0)
    assert progress.met and store.offered(slide) == []
    store.correct(slide, some[0], "artefact", "Ada")
    assert store.counted(slide)[: len(some)] == some
    assert not store.progress(slide).met, "the next one in line is unsure"
    assert len(store.offered(slide)) == 1
    for cell in store.offered(slide):
        store.correct(slide, cell, "lymphocyte", "Ada")
    counted = store.apply_to(slide, result, to_goal=True)
    assert counted.counts.loc[counted.counts["in_differential"], "count"].sum() == 4
    assert len(counted.cells) == len(result.cells) and counted.run["review"]["goal"] == 4
    store.set_goal(slide, None)
    assert store.counted(slide) == everything
    with pytest.raises(ArgumentError, match="counting goal"):
        store.set_goal(slide, 0)


def test_a_second_read_is_blind_and_measured(store: ReviewStore) -> None:
    result = make_result()
    slide = store.add_slide(result)
    store.correct(slide, 2, "monocyte", "Ada")
    with pytest.raises(ReviewError, match="another person"):
        store.second_read(slide, "Ada")
    with pytest.raises(ReviewError, match="no second read"):
        store.agreement(slide)
    session = store.second_read(slide, "Ben")
    assert sorted(session.cell_ids) == store.counted(slide)
    assert session.cell_ids == store.second_read(slide, "Ben").cell_ids, "it is gone on with"
    assert not any("class" in name for name in vars(session)), "it holds nobody's classes"
    with pytest.raises(ReviewError, match="left to read"):
        session.finish()
    standing = store.apply(slide, result.cells).set_index("cell_id")["class"]
    for cell in session.cell_ids:
        session.classify(cell, "basophil" if cell == 4 else str(standing[cell]))
    session.classify(6, "lymphocyte")
    assert session.pending() == []
    found = session.finish()
    assert found.n == len(session.cell_ids)
    assert set(found.disagreements["cell_id"]) == {4, 6}
    assert found.observed == pytest.approx(1 - 2 / found.n)
    from sklearn.metrics import cohen_kappa_score

    answers = session.answers()
    expected = cohen_kappa_score([standing[cell] for cell in answers], list(answers.values()))
    assert found.kappa == pytest.approx(expected)
    assert -1 <= found.low < found.kappa < found.high <= 1
    assert store.agreement(slide).kappa == found.kappa
    with pytest.raises(ReviewError, match="finished"):
        session.classify(2, "blast")
    assert store.corrections(slide)[2].corrected_class == "monocyte", "a reading changes no class"
    # What both settle afterwards is no agreement of two readers who did not know of each other.
    store.correct(slide, 4, "basophil", "Ada")
    assert store.signature(slide).kappa == pytest.approx(found.kappa)
    assert set(store.agreement(slide).disagreements["cell_id"]) == {6}
    assert verify(store).whole


@pytest.mark.parametrize("seed", range(8))
def test_kappa_and_its_variance_are_those_of_statsmodels(seed: int) -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 7))
    table = random.integers(0, 9, (classes, classes)) + 12 * np.eye(classes, dtype=int)
    found = cohens_kappa(table)
    kappa, variance = kappa_of(table)
    assert kappa == pytest.approx(found.kappa, abs=1e-12)
    assert variance == pytest.approx(found.var_kappa, rel=1e-9)
    again = compare(list(range(2)), ["a", "b"], ["a", "a"], "A", "B")
    assert np.isnan(again.low) or -1 <= again.low <= again.kappa <= again.high <= 1


def test_kappa_says_nothing_where_there_is_one_class() -> None:
    found = compare([1, 2], ["blast", "blast"], ["blast", "blast"], "a", "b")
    assert np.isnan(found.kappa) and found.observed == 1


def test_corrections_are_training_data(store: ReviewStore, tmp_path: Path) -> None:
    from napari_leukocls.classification.dataset import list_crops

    result = make_result()
    slide = store.add_slide(result, patient="P1")
    store.correct(slide, 2, "blast", "Ada")
    store.correct(slide, 1, "monocyte", "Ben")  # a red cell: its picture is taken now
    store.correct(slide, 4, "not_classed", "Ada")
    table = store.crop_table()
    assert table.class_counts() == {"blast": 1, "monocyte": 1}
    crop = next(row for row in table if row.class_name == "blast")
    pixels, mask = crop.pixels(), crop.cell_mask()
    assert pixels.shape[:2] == mask.shape and pixels.dtype == np.uint8
    assert crop.um_per_px == pytest.approx(7.5 / 32, rel=0.01), "the image's own where the model's is finer"
    area = (mask > 127).sum() * crop.um_per_px**2
    truth = result.cells.set_index("cell_id").loc[2, "area_um2"]
    assert area == pytest.approx(truth, rel=0.05)
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    assert middle.tolist() == [210, 150, 160]
    file = table.write(tmp_path / "crops")
    read = list_crops(file, store.scheme)
    assert [(one.class_name, one.patient) for one in read] == [("blast", "P1"), ("monocyte", "P1")]
    assert all(one.path.is_file() for one in read)
    assert store.crop_table(reviewers=["Ben"]).class_counts() == {"monocyte": 1}
    assert len(store.crop_table(slides=["nothing"])) == 0
    for cell in store.offered(slide):
        store.correct(slide, cell, "artefact", "Ada")
    store.sign_off(slide, "Ada")
    signed = store.crop_table(signed=True)
    assert len(signed) == len(store.counted(slide)) - 1, "all but the cell that nobody could class"
    assert len({row.file for row in signed}) == len(signed)


def test_hostile_texts_are_only_texts(tmp_path: Path) -> None:
    name = "Robert'); DROP TABLE corrections;--"
    result = make_result("../../etc/passwd", source="<script>alert(1)</script>\udcff\0")
    with open_store(tmp_path / "r.sqlite3") as store:
        slide = store.add_slide(result, patient="' OR 1=1 --", group="../..")
        store.correct(slide, 2, "blast", name, '=HYPERLINK("http://x")')
        assert store.corrections(slide)[2].reviewer == name
        assert store.slides()[0].slide_id == "../../etc/passwd"
        file = store.crop_table().write(tmp_path / "crops")
        assert {path.parent.name for path in file.parent.rglob("*.png")} == {"blast"}
        assert set(tmp_path.iterdir()) >= {file.parent}
        assert not list(tmp_path.parent.glob("etc"))
        assert verify(store).whole


@pytest.mark.parametrize("reviewer", ["", "  ", "a\0b", "x" * 201, "\udcff", "\x1b[31m"])
def test_a_correction_has_a_person(store: ReviewStore, reviewer: str) -> None:
    slide = store.add_slide(make_result())
    with pytest.raises(ReviewError, match="reviewer's name"):
        store.correct(slide, 2, "blast", reviewer)
    assert store.history(slide) == []


def test_wrong_arguments_are_said(store: ReviewStore, tmp_path: Path) -> None:
    slide = store.add_slide(make_result())
    with pytest.raises(ArgumentError, match="did you mean 'monocyte'"):
        store.correct(slide, 2, "monocyt", "Ada")
    with pytest.raises(ReviewError, match="no cell 99999"):
        store.correct(slide, 99999, "blast", "Ada")
    with pytest.raises(ReviewError, match="no slide"):
        store.correct("ab" * 32, 2, "blast", "Ada")
    with pytest.raises(ArgumentError, match="mysql"):
        open_store("mysql://x/y")
    with pytest.raises(ArgumentError, match="cannot be read"):
        open_store("postgresql://x:port/y")


def test_damaged_and_newer_stores_are_refused_in_a_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sqlite3"
    bad.write_bytes(b"this is no database at all, however long it may be" * 100)
    with pytest.raises(ReviewError, match="damaged or not a review store"):
        open_store(bad)
    newer = tmp_path / "newer.sqlite3"
    open_store(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ReviewError, match="newer version"):
        open_store(newer)
    foreign = tmp_path / "places.sqlite3"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    connection.close()
    with pytest.raises(ReviewError, match="another program .*'bookmarks'"):
        open_store(foreign)
    with pytest.raises(ReviewError, match="server does not answer"):
        open_store("postgresql://nobody@127.0.0.1:1/none")


def test_the_migrations_make_the_tables_that_the_program_uses(store: ReviewStore) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from napari_leukocls.review.schema import metadata

    with store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_corrections_from_many_threads_are_all_there(store: ReviewStore) -> None:
    from concurrent.futures import ThreadPoolExecutor

    result = make_result(shape=(480, 480), every=1)
    slide = store.add_slide(result)
    ids = [int(cell) for cell in result.cells["cell_id"]][:60]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda cell: store.correct(slide, cell, "blast", f"R{cell % 6}"), ids))
    assert set(store.corrections(slide)) == set(ids)
    assert verify(store).whole
    store.set_goal(slide, 100)
    assert store.anchor is not None
    assert store.anchor.read_text().strip() == str(verify(store).head), "the end is noted outside the store"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["correct", "undo", "redo"]),
            st.sampled_from(["Ada", "Ben"]),
            st.integers(1, 5),
            st.sampled_from(["blast", "monocyte", "artefact"]),
        ),
        max_size=25,
    )
)
def test_undo_and_redo_go_through_any_path(tmp_path: Path, steps: list[tuple[str, str, int, str]]) -> None:
    """Against a plain model in which each reviewer's undo is refused once another has changed the cell."""
    import secrets

    with open_store(tmp_path / f"{secrets.token_hex(4)}.sqlite3") as store:
        slide = store.add_slide(make_result(shape=(120, 120)))
        now: dict[int, tuple[str, int]] = {}
        done: dict[str, list[tuple[int, tuple[str, int] | None, tuple[str, int]]]] = {"Ada": [], "Ben": []}
        undone: dict[str, list[tuple[int, tuple[str, int] | None, tuple[str, int]]]] = {"Ada": [], "Ben": []}
        for number, (what, who, cell, name) in enumerate(steps):
            if what == "correct":
                store.correct(slide, cell, name, who)
                done[who].append((cell, now.get(cell), (name, number)))
                undone[who].clear()
                now[cell] = (name, number)
                continue
            source, sink = (done, undone) if what == "undo" else (undone, done)
            step = store.undo if what == "undo" else store.redo
            if not source[who]:
                assert step(slide, who) is None
                continue
            cell, before, after = source[who][-1]
            expected, becomes = (after, before) if what == "undo" else (before, after)
            if now.get(cell) != expected:
                with pytest.raises(ReviewConflict):
                    step(slide, who)
                continue
            step(slide, who)
            sink[who].append(source[who].pop())
            if becomes is None:
                now.pop(cell)
            else:
                now[cell] = becomes
        standing = {cell: said.corrected_class for cell, said in store.corrections(slide).items()}
        assert standing == {cell: name for cell, (name, _) in now.items()}
        assert verify(store).whole


def test_a_full_disk_is_said_and_costs_nothing_that_was_saved(tmp_path: Path) -> None:
    """SQLite is given no more pages than it has: what it meets then is what it meets on a full disk."""
    import sqlalchemy as sa

    with open_store(tmp_path / "r.sqlite3") as store:
        slide = store.add_slide(make_result())
        store.correct(slide, 2, "monocyte", "Ada")

        @sa.event.listens_for(store.database.engine, "begin")
        def _full(connection: sa.Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(ReviewError, match="the disk is full"):
            store.add_slide(make_result(seed=1))
        with pytest.raises(ReviewError, match="the disk is full"):
            for _ in range(200):
                store.correct(slide, 4, "blast", "Ada", "x" * 2000)
    with open_store(tmp_path / "r.sqlite3") as again:
        assert again.corrections(slide)[2].corrected_class == "monocyte"
        assert len(again.slides()) == 1
        assert verify(again).whole


def test_an_empty_field_can_be_signed(store: ReviewStore) -> None:
    full = make_result()
    none = replace(
        full.segmentation,
        labels=np.zeros_like(full.labels),
        kind_probabilities=np.empty((0, 3), np.float32),
    )
    cells = build_cell_table(none, None, [], "empty", None, CLASSES)
    slide = store.add_slide(replace(full, segmentation=none, cells=cells))
    assert store.sign_off(slide, "Ada").n_counted == 0
    with pytest.raises(ReviewError, match="no cell to read"):
        store.second_read(slide, "Ben")
    assert isinstance(store.apply(slide, cells), pd.DataFrame)
