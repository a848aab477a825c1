"""Proficiency rounds: blind, kept, and set against the reference by published statistics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smears
from napari_leukocls.review import ReviewStore, open_store
from napari_leukocls.review.audit import verify
from napari_leukocls.review.certificate import certificate_html, verdict
from napari_leukocls.review.proficiency import Proficiency, Round, classes_to_give
from napari_leukocls.review.proficiency_outcome import compare_with_reference, ruemke_limits
from napari_leukocls.review.slides import array_key
from napari_leukocls.scheme import default_scheme
from tests.results import make_result

SCHEME = default_scheme()
#: Ruemke's table (Blood Cells 11, 1985, 137-140; CLSI H20-A2): percentage, and its limits for 100 and 200 cells.
RUEMKE = {
    0: ((0, 4), (0, 2)),
    1: ((0, 6), (0, 4)),
    2: ((0, 8), (0, 6)),
    3: ((0, 9), (1, 7)),
    4: ((1, 10), (1, 8)),
    5: ((1, 12), (2, 10)),
    6: ((2, 13), (3, 11)),
    7: ((2, 14), (3, 12)),
    8: ((3, 16), (4, 13)),
    10: ((4, 18), (6, 16)),
    15: ((8, 24), (10, 21)),
    20: ((12, 30), (14, 27)),
    25: ((16, 35), (19, 32)),
    30: ((21, 40), (23, 37)),
    40: ((30, 51), (33, 48)),
    50: ((39, 61), (42, 58)),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with open_store(tmp_path / "review.sqlite3") as opened:
        yield opened


@pytest.mark.parametrize("percent", RUEMKE)
def test_the_limits_are_those_of_ruemkes_table(percent: int) -> None:
    for total, published in zip((100, 200), RUEMKE[percent], strict=True):
        found = ruemke_limits(percent * total // 100, total)
        # The table has whole numbers, rounded outwards.
        assert (math.floor(found[0]), math.ceil(found[1])) == published


def test_kappa_and_its_limits_are_those_of_the_textbook() -> None:
    # Fleiss, Levin & Paik (2003), Statistical Methods for Rates and Proportions, table 18.1: kappa 0.68, error 0.087.
    table = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
    names = ("neutrophil", "lymphocyte", "monocyte")
    reference = [names[i] for i in range(3) for j in range(3) for _ in range(table[i][j])]
    answers = [names[j] for i in range(3) for j in range(3) for _ in range(table[i][j])]
    found = compare_with_reference(reference, answers, SCHEME, learner="B", by="A").agreement
    assert found.kappa == pytest.approx(0.68, abs=0.005)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(0.087, abs=0.001)
    assert found.observed == pytest.approx(0.89)


def test_an_outcome_counts_classes_and_says_what_it_cannot_judge() -> None:
    reference = ["neutrophil"] * 60 + ["lymphocyte"] * 30 + ["monocyte"] * 8 + ["artefact"] * 2
    answers: list[str | None] = [*reference]
    answers[60:90] = ["monocyte"] * 20 + ["lymphocyte"] * 10
    answers[0] = None
    outcome = compare_with_reference(reference, answers, SCHEME, learner="B", by="A", required=0.8)
    classes = outcome.classes.set_index("class")
    assert classes.loc["lymphocyte", ["reference", "learner", "both"]].tolist() == [30, 10, 10]
    assert classes.loc["lymphocyte", "found"] == pytest.approx(1 / 3)
    assert (outcome.asked, outcome.answered, outcome.leukocytes) == (100, 99, 97)
    assert set(outcome.outside) == {"lymphocyte", "monocyte"}
    assert outcome.reached is False and "not reached" in verdict(outcome)
    text = " ".join(outcome.words())
    assert "79 of 99 cells agree" in text and "1 of 100 cells was left unanswered" in text
    assert "Fewer than 10 cells to judge by: monocyte, artefact" in text


def test_finer_classes_count_as_their_class_unless_the_round_is_of_finer_classes() -> None:
    reference, answers = ["segmented_neutrophil", "band_neutrophil"], ["neutrophil", "segmented_neutrophil"]
    coarse = compare_with_reference(reference, answers, SCHEME, learner="B", by="A")
    assert coarse.agreement.observed == 1
    fine = compare_with_reference(reference, answers, SCHEME, learner="B", by="A", depth="fine")
    assert fine.agreement.observed == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["neutrophil", "lymphocyte", "artefact", "erythroblast", "own class"]),
            st.sampled_from(["neutrophil", "monocyte", "artefact", None]),
        ),
        max_size=30,
    )
)
def test_any_answers_have_an_outcome(pairs: list[tuple[str, str | None]]) -> None:
    known = [(one, other) for one, other in pairs if one in SCHEME]
    outcome = compare_with_reference(
        [one for one, _ in known], [other for _, other in known], SCHEME, learner="B", by="A", required=0.5
    )
    assert outcome.words() and outcome.answered <= outcome.asked
    assert 0 <= outcome.classes["both"].sum() <= outcome.answered


def answer_all(round_: Round, wrong: int = 0) -> None:
    """Give every cell its reference, but some neutrophils the class of monocytes."""
    for place, question in enumerate(round_.questions):
        name = question.reference
        if wrong and "neutrophil" in name:
            name, wrong = "monocyte", wrong - 1
        round_.answer(place, name)


def test_a_round_on_a_teaching_smear_is_kept_with_its_answers(tmp_path: Path) -> None:
    with open_store(tmp_path / "r.sqlite3") as store:
        rounds = Proficiency(store)
        (key, *_) = [one.key for one in rounds.references() if "normal" in one.name]
        begun = rounds.begin(" Bo  Learner ", [key], n=20, required=0.8, seed=3)
        assert len(begun.questions) == 20 and begun.learner == "Bo Learner"
        picture = begun.picture(0)
        assert picture is not None and picture.shape == (256, 256, 3) and picture.std() > 10
        begun.answer(0, "basophil")
        answer_all(begun, wrong=2)
    with open_store(tmp_path / "r.sqlite3") as again:
        rounds = Proficiency(again)
        (open_one,) = rounds.records("Bo Learner")
        assert open_one.outcome is None
        carried_on = rounds.open(open_one.id)
        assert all(carried_on.answers())
        outcome = carried_on.finish()
        assert outcome.agreement.observed == pytest.approx(18 / 20)
        with pytest.raises(ReviewError, match="finished"):
            carried_on.answer(0, "monocyte")
        assert verify(again).whole
        (record,) = rounds.records()
        assert rounds.learners() == ["Bo Learner"]
        page = certificate_html(record, SCHEME, [record])
        assert "Bo Learner" in page and "18 of 20 cells agree" in page and "Rümke" in page
        assert len(re.findall("<td>Monocyte</td><td>Neutrophil</td>", page)) == 2


def test_answers_that_somebody_changed_are_found(tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "r.sqlite3"
    with open_store(file) as store:
        rounds = Proficiency(store)
        begun = rounds.begin("Bo", [rounds.references()[0].key], n=3)
        answer_all(begun)
    with sqlite3.connect(file) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            connection.execute("UPDATE proficiency_answers SET class = 'monocyte'")
        connection.execute("DROP TRIGGER proficiency_answers_no_update")
        connection.execute("UPDATE proficiency_answers SET class = 'basophil'")
    with open_store(file) as store:
        assert any("proficiency" in fault for fault in verify(store).faults)


def sign(store: ReviewStore, who: str) -> str:
    """Add a slide, and settle and sign it."""
    slide = store.add_slide(make_result())
    for cell in store.offered(slide):
        store.correct(slide, cell, "lymphocyte", who)
    store.sign_off(slide, who)
    return slide


def test_a_signed_slide_is_a_reference_until_it_is_changed(store: ReviewStore) -> None:
    rounds = Proficiency(store)
    assert all(one.is_teaching for one in rounds.references())
    slide = sign(store, "Ada")
    (reference,) = [one for one in rounds.references() if not one.is_teaching]
    assert (reference.key, reference.by) == (slide, "Ada")
    begun = rounds.begin("Bo", [slide])
    assert {one.cell_id for one in begun.questions} <= set(store.counted(slide))
    assert all(begun.picture(i) is not None for i in range(len(begun.questions)))
    # Who knows the classes is no learner of this slide.
    with pytest.raises(ReviewError, match="Ada has signed or corrected"):
        rounds.begin("Ada", [slide])
    answer_all(begun)
    # A later correction changes no earlier reference.
    store.correct(slide, begun.questions[0].cell_id, "basophil", "Cy")
    assert begun.finish().agreement.observed == 1
    assert all(one.is_teaching for one in rounds.references())
    with pytest.raises(ReviewError, match="no cell with a known class"):
        rounds.begin("Bo", [slide])


def test_who_has_signed_a_teaching_smear_that_was_opened_is_not_its_learner(store: ReviewStore) -> None:
    rounds = Proficiency(store)
    key = next(one.key for one in rounds.references() if "normal" in one.name)
    pixels = read_image(sample_smears()[key.removeprefix("teaching:")]).pixels
    made = make_result(shape=pixels.shape[:2], pitch=200)
    slide = store.add_slide(replace(made, image=replace(made.image, pixels=pixels)))
    for cell in store.offered(slide):
        store.correct(slide, cell, "lymphocyte", "Ada")
    store.sign_off(slide, "Cy")
    for who in ("Ada", "Cy"):
        with pytest.raises(ReviewError, match=f"{who} has signed or corrected"):
            rounds.begin(who, [key])
    assert rounds.begin("Bo", [key]).questions


def test_the_slides_of_a_round_are_kept_from_its_learner_until_it_is_finished(store: ReviewStore) -> None:
    rounds = Proficiency(store)
    slide = sign(store, "Ada")
    normal = next(one.key for one in rounds.references() if "normal" in one.name)
    opened = array_key(read_image(sample_smears()[normal.removeprefix("teaching:")]).pixels)
    begun = rounds.begin("Bo", [slide, normal], n=20, seed=1)
    for key in (slide, opened):
        with pytest.raises(ReviewError, match="Bo has an unfinished proficiency round"):
            rounds.check_blind(key, {"Cy", "Bo"})
        rounds.check_blind(key, {"Ada", "Cy"})
        with pytest.raises(ReviewError, match="close it first"):
            rounds.check_seen([normal, slide], {key})
    rounds.check_blind("another slide", {"Bo"})
    rounds.check_seen([normal, slide], {"another slide"})
    answer_all(begun)
    begun.finish()
    rounds.check_blind(slide, {"Bo"})


def test_rounds_that_cannot_be_begun_say_why(store: ReviewStore) -> None:
    rounds = Proficiency(store)
    key = rounds.references()[0].key
    with pytest.raises(ArgumentError, match="at least one slide"):
        rounds.begin("Bo", [])
    with pytest.raises(ReviewError, match="name is missing"):
        rounds.begin(" ", [key])
    with pytest.raises(ArgumentError, match="at least one cell"):
        rounds.begin("Bo", [key], n=0)
    begun = rounds.begin("Bo", [key], n=2)
    with pytest.raises(ReviewError, match="no cell has an answer"):
        begun.finish()
    with pytest.raises(ArgumentError, match="no number 3"):
        begun.answer(2, "monocyte")
    with pytest.raises(ArgumentError, match="not a class"):
        begun.answer(0, "elephant")
    with pytest.raises(ReviewError, match="no proficiency round 99"):
        rounds.open(99)
    offered = classes_to_give(SCHEME, "classes", begun.questions)
    assert "segmented_neutrophil" not in offered and {"neutrophil", "basophil", "artefact"} <= set(offered)
