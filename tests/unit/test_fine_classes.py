"""Finer classes: sums that agree at every depth, corrections that count in both, files, and heads that are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.classification import fine as heads
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ModelError
from napari_leukocls.io.serialise import table_bytes
from napari_leukocls.measurement.differential import differential
from napari_leukocls.measurement.fine import (
    as_counted,
    at_depth,
    count_cells,
    leaf_rows,
    left_shift,
    whole_of,
    without_fine,
)
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.results.exports import write_exports
from napari_leukocls.results.reader import read_result, read_slide
from napari_leukocls.results.summary import summary_row
from napari_leukocls.results.writer import write_result
from napari_leukocls.review import open_store
from napari_leukocls.scheme import default_scheme, load_scheme
from napari_leukocls.types import FieldResult
from scripts import train_fine_classes as fitting
from tests.results import CLASSES, FINER, make_head, make_result

REST = "neutrophil_not_told_apart"
SCHEME = default_scheme()


@pytest.fixture(scope="module")
def fine() -> FieldResult:
    return make_result(depth="fine")


def counts_of(counts: pd.DataFrame) -> dict[str, int]:
    return dict(zip(counts["class"], counts["count"].astype(int), strict=True))


def parts_of(counts: pd.DataFrame, whole: str) -> dict[str, int]:
    return counts_of(counts[counts["part_of"] == whole])


def test_finer_classes_sum_to_their_class_in_cells_and_counts(fine: FieldResult) -> None:
    cells = fine.cells
    seen = cells["prob_neutrophil"].notna()
    for whole, parts in (("neutrophil", FINER[:2]), ("immature_granulocyte", FINER[2:])):
        total = sum(cells[f"fine_prob_{name}"] for name in parts)
        assert np.allclose(total[seen], cells.loc[seen, f"prob_{whole}"])
    plain = counts_of(make_result().counts)
    counts = fine.counts
    wholes = counts_of(counts[counts["part_of"] == ""])
    assert wholes == plain
    assert parts_of(counts, "neutrophil") == {"segmented_neutrophil": 1, "band_neutrophil": 1, REST: 1}
    assert parts_of(counts, "immature_granulocyte") == {
        "promyelocyte": 1,
        "myelocyte": 0,
        "metamyelocyte": 1,
        "immature_granulocyte_not_told_apart": 1,
    }
    for whole in ("neutrophil", "immature_granulocyte"):
        assert sum(parts_of(counts, whole).values()) == plain[whole]
    inside = counts[counts["in_differential"]]
    assert inside["percent"].sum() == pytest.approx(100) and set(inside["part_of"]) == {""}
    assert counts["part_of"].to_list()[: len(FINER)].count("neutrophil") == 3
    band = counts.set_index("class").loc["band_neutrophil"]
    assert not band["in_differential"] and 0 < band["ci95_low"] < band["percent"] < band["ci95_high"] < 100


def test_what_is_not_told_apart_is_shown_as_its_class_and_never_more_surely(fine: FieldResult) -> None:
    cells = fine.cells
    rest = cells[cells["fine_class"] == REST]
    assert len(rest) and set(rest["class"]) == {"neutrophil"}
    assert (rest["fine_probability"] == rest["probability"]).all()
    told = cells[cells["fine_class"].isin(FINER)]
    assert (told["fine_probability"] < told["probability"]).all()
    others = cells[~cells["class"].isin(["neutrophil", "immature_granulocyte"])]
    assert (others["fine_class"] == others["class"]).all()
    entry = SCHEME[REST]
    assert (entry.short, entry.display, entry.loinc) == ("NEU", "Neutrophil, not told apart", "")
    assert REST not in SCHEME.names and entry.key == ""


def test_at_the_depth_of_the_classes_files_keep_their_bytes(fine: FieldResult, tmp_path: Path) -> None:
    plain = make_result()
    assert table_bytes(without_fine(fine.cells)) == table_bytes(plain.cells)
    shown = at_depth(fine, "classes", SCHEME)
    assert table_bytes(shown.counts) == table_bytes(plain.counts)
    assert list(as_counted(shown).cells.columns) == list(plain.cells.columns)
    for result, folder in ((plain, tmp_path / "a"), (shown, tmp_path / "b")):
        write_result(result, folder)
    for name in ("cells.csv", "counts.csv", "labels.tif", "overlay.png"):
        same = [(tmp_path / place / "field 1" / name).read_bytes() for place in "ab"]
        assert same[0] == same[1], name


NAMES = st.sampled_from([*CLASSES, *FINER, "red_cell", "artefact", "blast", "not_classed"])


@given(st.lists(st.tuples(NAMES, st.sampled_from(["", "", *FINER, *CLASSES]), st.booleans()), max_size=40))
def test_every_depth_counts_the_same_cells(rows: list[tuple[str, str, bool]]) -> None:
    cells = pd.DataFrame(
        {
            "slide_id": "s",
            "class": pd.Series([corrected or name for name, corrected, _ in rows], dtype=object),
            "corrected_class": pd.Series([corrected for _, corrected, _ in rows], dtype=object),
            "needs_review": pd.Series([review for _, _, review in rows], dtype=bool),
        }
    )
    plain = differential(cells, SCHEME, CLASSES)
    fine = count_cells(cells, SCHEME, CLASSES, FINER)
    wanted: dict[str, int] = {}
    for name, n in counts_of(plain).items():
        whole = whole_of(name, SCHEME) or name
        wanted[whole] = wanted.get(whole, 0) + n
    assert counts_of(fine[fine["part_of"] == ""]) == wanted
    assert leaf_rows(fine)["count"].sum() == plain["count"].sum()
    for whole in set(fine["part_of"]) - {""}:
        assert sum(parts_of(fine, whole).values()) == counts_of(fine)[whole]
    inside = [table.loc[table["in_differential"], "count"].sum() for table in (plain, fine)]
    assert inside[0] == inside[1]
    assert fine["class"].is_unique


def test_a_correction_to_a_finer_class_counts_in_both_and_one_to_the_class_in_that_alone(
    fine: FieldResult,
) -> None:
    cells = fine.cells
    first = int(cells.loc[cells["fine_class"] == "segmented_neutrophil", "cell_id"].iloc[0])
    before = counts_of(fine.counts)
    with open_store() as store:
        key = store.add_slide(fine)
        store.correct(key, first, "band_neutrophil", "A. Reader")
        after = store.apply_to(key, fine)
        counts = counts_of(after.counts)
        assert counts["neutrophil"] == before["neutrophil"]
        assert counts["band_neutrophil"] == before["band_neutrophil"] + 1
        assert counts["segmented_neutrophil"] == before["segmented_neutrophil"] - 1
        row = after.cells.set_index("cell_id").loc[first]
        assert row["fine_class"] == row["class"] == "band_neutrophil"
        assert row["predicted_fine_class"] == "segmented_neutrophil"
        # At the depth of the classes it has a row of its own, as before.
        assert counts_of(at_depth(after, "classes", SCHEME).counts)["band_neutrophil"] == 1

        store.correct(key, first, "neutrophil", "A. Reader")
        counts = counts_of(store.apply_to(key, fine).counts)
        assert counts["neutrophil"] == before["neutrophil"] and counts[REST] == before[REST] + 1
        assert counts["band_neutrophil"] == before["band_neutrophil"]

        store.correct(key, first, "lymphocyte", "A. Reader")
        counts = counts_of(store.apply_to(key, fine).counts)
        assert counts["lymphocyte"] == before["lymphocyte"] + 1
        assert (
            sum(parts_of(store.apply_to(key, fine).counts, "neutrophil").values()) == before["neutrophil"] - 1
        )
        for _ in range(3):
            store.undo(key, "A. Reader")
        undone = store.apply_to(key, fine)
        assert table_bytes(undone.counts) == table_bytes(fine.counts)
        assert (undone.cells["fine_class"] == fine.cells["fine_class"]).all()


def test_the_depth_is_no_other_analysis(fine: FieldResult) -> None:
    with open_store() as store:
        key = store.add_slide(make_result())
        cell = int(fine.cells.loc[fine.cells["fine_class"] == REST, "cell_id"].iloc[0])
        store.correct(key, cell, "band_neutrophil", "A. Reader")
        assert store.add_slide(fine) == key
        assert store.undo(key, "A. Reader") is not None and store.redo(key, "A. Reader") is not None
        assert [one.action for one in store.history(key)] == ["correct", "undo", "redo"]


def test_files_are_read_back_at_their_depth(fine: FieldResult, tmp_path: Path) -> None:
    fine = replace(fine, run={**fine.run, "scale": asdict(fine.segmentation.scale)})
    folder = write_result(fine, tmp_path)["folder"]
    head = (folder / "cells.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    plain = list(make_result().cells.columns)
    assert head[: len(plain)] == plain
    assert head[len(plain) :] == [
        *("fine_class", "fine_probability"),
        *(f"fine_prob_{name}" for name in FINER),
        "predicted_fine_class",
    ]
    for found in (read_result(folder, fine.image), read_slide(folder)):
        assert table_bytes(found.counts) == table_bytes(fine.counts) == (folder / "counts.csv").read_bytes()
        assert table_bytes(found.cells) == table_bytes(fine.cells)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "Left shift: 1 of 2 segmented and band neutrophils is a band: 50.0 %" in report
    assert "1 neutrophil is not told apart" in report and report.count('part"><td') == 7
    row = summary_row(fine)
    assert row["n_wbc"] == int(fine.counts.loc[fine.counts["in_differential"], "count"].sum())
    assert row["pct_band_neutrophil"] * 3 == pytest.approx(row["pct_neutrophil"])


def test_exports_name_finer_classes_with_the_codes_of_the_scheme(fine: FieldResult, tmp_path: Path) -> None:
    write_exports(fine, tmp_path, ["fhir", "hl7", "geojson", "coco", "xlsx", "anndata"])
    bundle = json.loads((tmp_path / "report.fhir.json").read_text())
    codes = {}
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "Observation":
            coding = {one["system"]: one["code"] for one in entry["resource"]["code"]["coding"]}
            codes[coding["urn:napari-leukocls:codes"]] = coding.get("http://loinc.org")
    assert codes["band_neutrophil"] == "26508-2" and codes["neutrophil"] == "26511-6"
    assert codes[REST] is None and codes["immature_granulocyte"] is None
    assert "26505-8^Segmented neutrophil^LN" in (tmp_path / "report.hl7").read_text()
    shapes = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    names = {one["properties"]["classification"]["name"] for one in shapes}
    assert {"Segmented neutrophil", "Band neutrophil", "Neutrophil"} <= names
    categories = {
        one["name"]: one["supercategory"]
        for one in json.loads((tmp_path / "coco.json").read_text())["categories"]
    }
    assert categories["band_neutrophil"] == "neutrophil" and categories["neutrophil"] == "cell"


@pytest.mark.parametrize(
    ("bands", "segmented", "rest", "text"),
    [
        (0, 0, 4, None),
        (1, 3, 0, "Left shift: 1 of 4 segmented and band neutrophils is a band: 25.0 % (95 % limits 0.6 to 80.6)."),
        (0, 1, 1, "Left shift: 0 of 1 segmented and band neutrophil are bands: 0.0 % (95 % limits 0.0 to 97.5); "
         "1 neutrophil is not told apart."),
    ],
)  # fmt: skip
def test_the_left_shift_in_words(bands: int, segmented: int, rest: int, text: str | None) -> None:
    names = ["band_neutrophil"] * bands + ["segmented_neutrophil"] * segmented + ["neutrophil"] * rest
    cells = pd.DataFrame({"class": names, "corrected_class": "", "needs_review": False, "slide_id": "s"})
    found = left_shift(count_cells(cells, SCHEME, CLASSES, FINER))
    assert (found.text if found else None) == text
    assert left_shift(differential(cells, SCHEME, CLASSES)) is None


# The head of a model ---------------------------------------------------------------------------------------


def test_shares_sum_to_one_within_each_class(tmp_path: Path) -> None:
    head = heads.load_fine_head(make_head(tmp_path / "m", "abc"), "abc", tuple(CLASSES))
    found = head.shares(np.random.default_rng(1).normal(size=(9, 4)) * 50)
    assert found.classes == FINER and found.shares.shape == (9, 5)
    assert np.allclose(found.shares[:, :2].sum(axis=1), 1) and np.allclose(found.shares[:, 2:].sum(axis=1), 1)
    assert head.shares(np.zeros((0, 1))).shares.shape == (0, 5)
    with pytest.raises(ModelError, match="do not fit the network"):
        head.shares(np.zeros((2, 7)))


def test_a_head_that_does_not_belong_is_refused_in_one_line(tmp_path: Path) -> None:
    classes = tuple(CLASSES)
    folder = make_head(tmp_path / "m", "abc")
    with pytest.raises(ModelError, match="fitted on other weights"):
        heads.load_fine_head(folder, "abd", classes)
    own = tmp_path / "scheme.toml"
    own.write_text('[[classes]]\nname = "band_neutrophil"\nparent = ""\n')
    with pytest.raises(ModelError, match="band_neutrophil"):
        heads.load_fine_head(folder, "abc", classes, load_scheme(own))
    with pytest.raises(ModelError, match="segmented_neutrophil"):
        heads.load_fine_head(folder, "abc", classes[1:])
    make_head(folder, "abc", thresholds={"neutrophil": 0.7})
    with pytest.raises(ModelError, match="do not fit their card"):
        heads.read_fine_head(folder)
    for damage in (b"{}", b"[1]", b"\x00"):
        (folder / heads.CARD_NAME).write_bytes(damage)
        with pytest.raises(ModelError, match="damaged"):
            heads.read_fine_head(folder)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="'m' does not tell finer classes apart"):
        heads.read_fine_head(folder)


def test_the_default_tells_finer_classes_apart_better_than_guessing() -> None:
    folder = find_model("default").path
    if not (folder / heads.CARD_NAME).exists():
        pytest.skip("the default model has no finer classes: run scripts/train_fine_classes.py")
    classifier = load_classifier(folder, "cpu")
    head = heads.load_fine_head(folder, classifier.digest, classifier.classes)
    assert heads.offered_fine_classes(folder) == head.classes and set(head.classes) == set(FINER)
    side = classifier.card.crop.side_px
    crops = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    plain = classifier.predict(crops)
    assert plain.fine is None
    found = drain(classifier.iter_predict(crops, fine=head))
    assert np.array_equal(found.probabilities, plain.probabilities)
    assert found.fine is not None and found.fine.shares.shape == (3, 5)
    card = json.loads((folder / heads.CARD_NAME).read_text())
    for whole, figures in card["test"].items():
        matrix = np.array(figures["confusion"])
        guess = matrix.sum(axis=1).max() / matrix.sum()
        assert figures["accuracy_ci95"][0] > guess, whole
        assert figures["accuracy_told_apart"] > figures["accuracy"]


def test_a_model_that_has_no_head_offers_nothing(tmp_path: Path) -> None:
    assert heads.offered_fine_classes(tmp_path) == ()
    folder = make_head(tmp_path / "m", "abc")
    (folder / "model.json").write_text(json.dumps({"weights_sha256": "abd"}))
    assert heads.offered_fine_classes(folder) == ()
    (folder / "model.json").write_text(json.dumps({"weights_sha256": "abc"}))
    assert heads.offered_fine_classes(folder) == FINER


def test_a_correction_survives_cells_without_finer_classes(fine: FieldResult) -> None:
    plain = replace(make_result(), run=fine.run)
    shown = at_depth(plain, "fine", SCHEME)
    counts = counts_of(shown.counts)
    assert counts[REST] == counts["neutrophil"] and counts["band_neutrophil"] == 0


def test_the_fit_is_calibrated_and_does_not_guess_where_it_cannot_know() -> None:
    random = np.random.default_rng(0)
    names = np.array(FINER[2:])[random.integers(0, 3, 900)]
    centres = {name: 1.5 * random.normal(size=12) for name in FINER[2:]}
    views = np.array([centres[name] for name in names])[:, None] + 2 * random.normal(size=(900, 4, 12))
    part = random.integers(0, 10, 900)
    crops = fitting.Crops(names, views, np.ones(900, bool), part < 3, part == 9)
    weight, bias, how = fitting.fit_part(crops, FINER[2:])
    mine = np.flatnonzero(crops.heldout)
    logits = views[mine, 0] @ weight.T + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([FINER[2:].index(name) for name in names[mine]])
    found = fitting.measured(shares, truth, how["threshold"])
    assert found["accuracy"] > 0.6 and found["ece"] < 0.12
    assert found["accuracy_ci95"][0] <= found["accuracy"] <= found["accuracy_ci95"][1]
    assert found["accuracy_told_apart"] >= found["accuracy"] and 0.3 < found["told_apart"] <= 1
    assert np.sum(found["confusion"]) == np.sum(found["confusion_told_apart"]) == len(mine)


@pytest.mark.parametrize(("right", "told"), [([1, 1, 1, 1], 1.0), ([1, 0, 0, 0], 0.5), ([1, 1, 0, 0], 0.5)])
def test_the_least_share_keeps_the_cells_that_are_right(right: list[int], told: float) -> None:
    top = np.array([0.9, 0.8, 0.7, 0.6])
    truth = np.where(right, 0, 1)
    threshold, figures = fitting.least_share(np.stack([top, 1 - top], axis=1), truth)
    assert figures["told_apart"] == told == float((top >= threshold).mean())
