"""Splits: stratified, nothing parted that belongs together, and the same again for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from crops_for_training import disc
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.classification.dataset import Dataset
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.errors import InputError
from napari_leukocls.progress import drain
from napari_leukocls.training.config import make_train_config
from napari_leukocls.training.data import THUMB, join, near_pairs, same_pictures
from napari_leukocls.training.repeats import fold_parts
from napari_leukocls.training.split import PARTS, assign, chain_pairs, crossing_owners, make_split

CONFIG = make_train_config(data="d", out="o", arch="resnet18", near_duplicates=False)


def collection(classes, patients=None, slides=None, splits=None, hashes=None):
    n = len(classes)
    crops = tuple(
        LabelledCrop(
            f"{k}.png",
            Path(f"{k}.png"),
            classes[k],
            patient=patients[k] if patients else "",
            slide=slides[k] if slides else "",
            split=splits[k] if splits else "",
        )
        for k in range(n)
    )
    names = tuple(hashes or (f"{k:064x}" for k in range(n)))
    return Dataset(crops, names, ((32, 32),) * n, np.zeros((n, THUMB, THUMB, 3), np.uint8))


def split_of(data, config=CONFIG):
    work = make_split(data, config, sorted(set(data.labels)))
    events = []
    return drain(work, events.append), events


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=120),
    st.lists(st.floats(0.05, 1), min_size=2, max_size=4),
    st.integers(0, 2**31),
)
def test_units_stay_whole_and_the_same_seed_gives_the_same(rows, raw, seed):
    classes, units = (np.array(column) for column in zip(*rows, strict=True))
    shares = np.array(raw) / sum(raw)
    part = assign(units, classes, shares, np.random.default_rng(seed))
    assert ((part >= 0) & (part < len(shares))).all()
    for unit in np.unique(units):
        assert len(set(part[units == unit].tolist())) == 1
    np.testing.assert_array_equal(part, assign(units, classes, shares, np.random.default_rng(seed)))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=60, max_size=300), st.integers(0, 1000))
def test_single_crops_meet_the_shares_in_every_class(rows, seed):
    classes = np.array(rows)
    part = assign(np.arange(len(rows)), classes, (0.7, 0.15, 0.15), np.random.default_rng(seed))
    for k in np.unique(classes):
        n = (classes == k).sum()
        for index, share in enumerate((0.7, 0.15, 0.15)):
            assert abs((part[classes == k] == index).sum() - share * n) <= 1.01


def test_a_share_of_nothing_gets_nothing():
    part = assign(np.arange(50), np.zeros(50, int), (0.8, 0.2, 0.0), np.random.default_rng(0))
    assert not (part == 2).any()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 15)), min_size=24, max_size=80))
def test_a_patient_is_never_on_both_sides(rows):
    patients = [f"P{number}" for _, number in rows]
    if len(set(patients)) < 8 or len({name for name, _ in rows}) < 2:
        return
    data = collection([name for name, _ in rows], patients)
    split, events = split_of(data)
    assert crossing_owners(data, split) == []
    assert split.record["grouped_by"] == "patient"
    said = events[-1].data
    assert said["leakage"] == [] and sum(sum(c.values()) for c in said["counts"].values()) == len(rows)


def test_slides_are_kept_whole_where_no_patient_is_known():
    data = collection(list("ab") * 40, slides=[f"S{k // 4}" for k in range(80)])
    split, _ = split_of(data)
    assert split.record["grouped_by"] == "slide" and crossing_owners(data, split) == []


def test_the_same_file_and_its_copies_stay_together():
    hashes = [f"{k // 2:064x}" for k in range(80)]
    data = collection(["a"] * 40 + ["b"] * 40, hashes=hashes)
    split, _ = split_of(data)
    assert all(split.part[k] == split.part[k + 1] for k in range(0, 80, 2))


def test_pictures_that_look_the_same_are_found_turned_mirrored_and_recompressed():
    import cv2

    random = np.random.default_rng(0)
    large = [cv2.resize(disc((90, 60, 150), random), (96, 96)) for _ in range(30)]
    copies = [
        large[0][:, ::-1],
        np.rot90(large[1]),
        cv2.imdecode(cv2.imencode(".jpg", large[2], [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1),
        np.clip(large[3] * 1.05, 0, 255).astype(np.uint8),
    ]
    thumbs = np.stack(
        [
            cv2.resize(np.ascontiguousarray(p), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
            for p in large + copies
        ]
    )
    assert near_pairs(thumbs).tolist() == [[0, 30], [1, 31], [2, 32], [3, 33]]
    groups = same_pictures([str(k) for k in range(34)], thumbs)
    assert len(set(groups.tolist())) == 30
    assert len(set(same_pictures([str(k) for k in range(34)], thumbs, near=False).tolist())) == 34


def test_empty_pictures_are_not_all_the_same():
    thumbs = np.full((4, THUMB, THUMB, 3), 200, np.uint8)
    assert len(near_pairs(thumbs)) == 0


def test_joining_is_transitive():
    groups = join(np.array([0, 1, 2, 3, 4]), np.array([[0, 1], [1, 2]]))
    assert groups[0] == groups[1] == groups[2] != groups[3] != groups[4]
    assert chain_pairs(["a", "", "b", "a", "", "a"]).tolist() == [[0, 3], [3, 5]]


def test_a_split_that_the_table_gives_is_kept():
    words = ["Train", "val", "TEST", "training"] * 10
    split, _ = split_of(collection(["a", "b"] * 20, splits=words))
    assert [PARTS[k] for k in split.part] == ["train", "validation", "test", "train"] * 10
    assert split.record["method"] == "as the table gives it"


def test_a_given_split_without_validation_takes_it_from_training():
    split, _ = split_of(collection(["a", "b"] * 20, splits=["train", "train", "train", "test"] * 10))
    assert len(split.rows("test")) == 10 and 4 <= len(split.rows("validation")) <= 8


@pytest.mark.parametrize("words", [["train", "vaildation"], ["train", ""]])
def test_a_given_split_that_is_not_understood_is_refused(words):
    with pytest.raises(InputError, match="write train, validation or test"):
        split_of(collection(["a", "b"], splits=words))


def test_a_patient_in_two_parts_of_the_table_is_refused_unless_accepted():
    data = collection(
        ["a", "b"] * 20, ["P1"] * 4 + [f"Q{k}" for k in range(36)], splits=["train", "validation"] * 20
    )
    with pytest.raises(InputError, match="patient P1.*--allow-leakage"):
        split_of(data)
    split, events = split_of(data, CONFIG.model_copy(update={"allow_leakage": True}))
    assert split.record["leakage"] == {"allowed": True, "on_both_sides": ["patient P1"]}
    assert any("figures are too good" in event.data.get("message", "") for event in events)


def test_a_copy_of_a_test_crop_leaves_the_training_part():
    data = collection(["a", "b"] * 20, splits=["train", "validation", "test", "train"] * 10)
    same = list(data.hashes)
    same[0] = same[2]
    split, events = split_of(replace(data, hashes=tuple(same)))
    assert split.part[0] == -1 and PARTS[split.part[2]] == "test"
    assert any("look the same" in event.data.get("message", "") for event in events)


def test_grouping_by_what_the_data_has_not():
    with pytest.raises(InputError, match="40 of 40 crops have no patient"):
        split_of(collection(["a", "b"] * 20), CONFIG.model_copy(update={"group_by": "patient"}))
    with pytest.raises(InputError, match="no column slide"):
        split_of(collection(["a", "b"] * 20), CONFIG.model_copy(update={"group_by": "slide"}))


def test_unknown_patients_are_accepted_only_when_asked_for_and_the_record_says_so():
    asked = CONFIG.model_copy(update={"group_by": "patient", "allow_unknown_patients": True})
    split, events = split_of(collection(["a", "b"] * 20), asked)
    assert split.record["unknown_patients"] == 40 and split.record["grouped_by"] == "none"
    assert any("have no patient" in event.data.get("message", "") for event in events)
    some = collection(["a", "b"] * 20, patients=[str(i // 4) if i < 36 else "" for i in range(40)])
    with pytest.raises(InputError, match="4 of 40 crops have no patient"):
        split_of(some, CONFIG.model_copy(update={"group_by": "patient"}))
    assert split_of(some, asked)[0].record["grouped_by"] == "patient"


def test_folds_test_every_crop_once_and_shuffles_differ():
    units, labels = np.arange(60) // 2, np.arange(60) % 3
    folds = list(fold_parts(units, labels, CONFIG.model_copy(update={"protocol": "kfold", "folds": 4})))
    assert len(folds) == 4
    np.testing.assert_array_equal(sum((part == 2).astype(int) for part in folds), 1)
    shuffles = list(
        fold_parts(units, labels, CONFIG.model_copy(update={"protocol": "monte-carlo", "repeats": 5}))
    )
    assert len({part.tobytes() for part in shuffles}) == 5
    for part in [*folds, *shuffles]:
        assert all(len(set(part[units == unit].tolist())) == 1 for unit in np.unique(units))
