"""The sample of a case in the review store, and the last count of the same patient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_leukocls.measurement.samples import SampleValues, make_sample
from napari_leukocls.review import Case, ReviewStore, open_store
from napari_leukocls.review.audit import verify
from napari_leukocls.widgets.common.sample_model import as_texts, read_texts
from tests.results import make_result


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    with open_store(tmp_path / "review.sqlite3") as opened:
        yield opened


def signed_case(
    store: ReviewStore, seed: int, patient: str, name: str = "monocyte", in_field: bool = False
) -> Case:
    """A signed count; the cells that waited are all of one class."""
    key = store.add_slide(make_result(f"slide {seed}", seed=seed), patient=patient if in_field else "")
    case = store.case(key)
    case.rename(f"slide {seed}", f"S-{seed}")
    if not in_field:
        case.set_sample(make_sample(patient=patient))
    for slide, cell in case.offered():
        store.correct(slide, cell, name, "Ada")
    case.sign_off("Ada")
    return case


def test_the_values_of_a_sample_are_kept_and_lift_a_signature(store: ReviewStore) -> None:
    case = signed_case(store, 1, "P-1")
    assert case.signature().is_signed
    sample = make_sample("7.5", "4.6", "40", "f", patient="P-1")
    case.set_sample(sample, "Ben")
    assert store.open_case(case.key).sample() == sample
    lift = case.lifted()
    assert lift is not None
    assert "counts of the analyser" in lift.what
    assert lift.by == "Ben"
    case.sign_off("Ada")
    case.set_sample(sample, "Ben")
    assert case.signature().is_signed, "the same values change nothing"
    case.set_sample(None)
    assert case.sample() is None
    assert not case.signature().is_signed
    assert verify(store).whole


@pytest.mark.parametrize("in_field", [False, True])
def test_the_last_signed_count_of_the_same_patient_is_found(store: ReviewStore, in_field: bool) -> None:
    first = signed_case(store, 1, "P-1", "lymphocyte", in_field)
    second = signed_case(store, 2, "P-1", "monocyte", in_field)
    signed_case(store, 3, "P-2")
    now = store.case(store.add_slide(make_result("slide 4", seed=4)))
    assert now.earlier_count() is None, "nobody knows whose it is"
    now.set_sample(make_sample(patient="P-1"))
    found = now.earlier_count()
    assert found is not None
    assert found.slide_id == "S-2"
    assert len(found.when) == 10
    counts = dict(zip(found.counts["class"], found.counts["count"], strict=True))
    alone = [cell for cell in second.counted()]
    assert 0 < sum(counts.values()) <= len(alone)
    assert counts["monocyte"] > counts["lymphocyte"], "as it was reviewed"
    # An old count is not compared with a newer one.
    before = second.earlier_count()
    assert before is not None
    assert before.slide_id == "S-1"
    assert first.earlier_count() is None


def test_a_count_whose_signature_is_lifted_is_none(store: ReviewStore) -> None:
    signed_case(store, 1, "P-1").set_goal(5, "Ben")
    now = store.case(store.add_slide(make_result("slide 4", seed=4)))
    now.set_sample(make_sample(patient="P-1"))
    assert now.earlier_count() is None


def test_the_lines_of_a_form_keep_values_as_exact_as_they_were() -> None:
    before = SampleValues("S-1", "P-1", wbc=7.5432109876, rbc=4.6, age=8 / 365.25, source="x.csv")
    texts = as_texts(before)
    assert texts["wbc"] == "7.54321"
    assert read_texts(texts, before) == before
    changed = read_texts({**texts, "wbc": "7500 /uL"}, before)
    assert (changed.wbc, changed.identifier) == (7.5, "S-1")
    empty = dict.fromkeys(("wbc", "rbc", "patient", "age", "sex"), "")
    assert read_texts(empty, SampleValues()) == SampleValues()
    large = SampleValues(wbc=300.0)
    assert read_texts(as_texts(large), SampleValues()).wbc == 300
