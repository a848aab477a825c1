"""What is written into a model's folder is what is read from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from cards import SIDE, card_values
from crops_for_training import make_crops, settings, train
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from napari_leukocls.errors import ModelError, OutputError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import make_card, read_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.install import install_folder, write_card, write_model
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import read_weights
from napari_leukocls.results.exports import write_exports
from tests.results import make_result

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "ood.mean": torch.zeros(2, dtype=torch.float16)}


def undeclared(part: BaseModel) -> list[str]:
    """Names in a card that `ModelCard` does not state."""
    found = sorted(part.model_extra or {})
    for value in (getattr(part, name) for name in type(part).model_fields):
        if isinstance(value, BaseModel):
            found += undeclared(value)
    return found


share = st.floats(0, 1)
number = st.floats(-1e6, 1e6) | st.none()
text = st.text(max_size=20)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
matrix = st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), min_size=3, max_size=3)
figures = st.fixed_dictionaries(
    {},
    optional={
        "touched": text,
        "n": st.integers(0),
        "accuracy": number,
        "confusion_matrix": matrix,
        "theirs": plain,
    },
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.01, 100),
        "second_look": share,
        "review_threshold": share,
        "known_limits": st.lists(text, max_size=3),
        "ood": st.fixed_dictionaries({}, optional={"method": text, "threshold": number}),
        "split": text | st.fixed_dictionaries({}, optional={"method": text, "seed": st.integers(0, 9)}),
        "gradcam": st.fixed_dictionaries({"layer": text | st.lists(text), "reshape": st.none() | text}),
        "training": st.fixed_dictionaries(
            {}, optional={"seed": st.integers(0, 9), "settings": st.just({"a": 1})}
        ),
        "confusion_matrix": matrix,
        "test": figures,
        "validation": figures,
        "versions": st.dictionaries(text, text, max_size=2),
        "theirs": plain,
    },
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(fields, st.floats(1.5, 100), st.none() | st.floats(0, 50))
def test_every_card_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], side_um: float, margin_um: float | None
) -> None:
    folder = tmp_path_factory.mktemp("model") / "mine"
    crop = {"side_um": side_um, "side_px": SIDE, "margin_um": margin_um}
    card = make_card(card_values("mine", **{**values, "crop": crop}), "mine")
    digest = write_model(folder, card, TENSORS)
    back = read_card(folder)
    assert back == card.model_copy(update={"weights_sha256": digest})
    assert back.crop == CropRule(side_um, SIDE, margin_um)
    # What was not stated is not made up, and what others add is kept.
    stored = json.loads((folder / "model.json").read_text())
    assert ("test" in stored) == ("test" in values) and stored.get("theirs") == values.get("theirs")


def test_a_model_folder_is_written_whole_with_the_hash_of_its_weights(tmp_path: Path) -> None:
    def further(folder: Path, digest: str) -> None:
        (folder / "split.csv").write_text(f"file,sha256\n{digest},\n")

    card = make_card(card_values("mine", weights_sha256="0" * 64), "mine")
    digest = write_model(tmp_path / "mine", card, TENSORS, further)
    tensors, found = read_weights(tmp_path / "mine")
    assert found == digest == sha256_of(tmp_path / "mine" / "weights.safetensors")
    assert read_card(tmp_path / "mine").weights_sha256 == digest and card.weights_sha256 == "0" * 64
    assert torch.equal(tensors["a"], TENSORS["a"])
    assert digest in (tmp_path / "mine" / "split.csv").read_text()

    def full(folder: Path, digest: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="the disk is full"):
        write_model(tmp_path / "mine", card.model_copy(update={"temperature": 9.0}), {}, full)
    assert read_card(tmp_path / "mine").temperature == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["default", "accurate"])
def test_reading_and_writing_a_bundled_card_changes_nothing(name: str, tmp_path: Path) -> None:
    folder = find_model(name).path
    card = read_card(folder)
    assert undeclared(card) == []
    write_card(tmp_path, card)
    assert json.loads((tmp_path / "model.json").read_text()) == json.loads(
        (folder / "model.json").read_text()
    )
    rows = card.tested_matrix
    assert rows is not None and len(rows) == len(card.classes) and card.test is not None
    assert sum(map(sum, rows)) == card.test.n


def test_an_installed_model_has_its_new_name_and_all_else_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEUKOCLS_DATA", str(tmp_path))
    source = find_model("default").path
    installed = install_folder(source, "mine")
    assert read_card(installed) == read_card(source).model_copy(update={"name": "mine"})
    for file in source.iterdir():
        if file.name != "model.json":
            assert (installed / file.name).read_bytes() == file.read_bytes()
    (installed / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="SHA-256 differs"):
        install_folder(installed, "other")


def test_a_matrix_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    rows = [[5, 0, 1], [0, 7, 0], [2, 0, 9]]
    old = {"of": "test", "rows": rows}
    (tmp_path / "model.json").write_text(json.dumps(card_values("old", confusion_matrix=old)))
    assert read_card(tmp_path).tested_matrix == rows


@pytest.mark.parametrize("where", ["confusion_matrix", "test"])
def test_a_matrix_that_is_none_names_the_field(where: str) -> None:
    wrong: Any = [["many"]]
    values = {where: wrong if where == "confusion_matrix" else {"confusion_matrix": wrong}}
    with pytest.raises(ModelError, match=rf"the card of mine is wrong at {where}\b.*0\.0"):
        make_card(card_values("mine", **values), "of mine")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of seconds, with a test part."""
    data = make_crops(tmp_path_factory.mktemp("crops"))
    return train(settings(data, tmp_path_factory.mktemp("out"), epochs=2, test_share=0.2))[0]


def test_the_card_of_a_training_states_every_field(trained: Path) -> None:
    card = read_card(trained)
    assert undeclared(card) == []
    assert card.test is not None and card.training is not None and not isinstance(card.training, str)
    assert card.training.epochs == 2 and card.weights_sha256 == sha256_of(trained / "weights.safetensors")


def test_the_differential_is_corrected_by_the_matrix_that_a_training_wrote(
    trained: Path, tmp_path: Path
) -> None:
    card = read_card(trained)
    cells = pd.DataFrame(
        {
            "slide_id": "s",
            "predicted_class": (names := ["neutrophil"] * 6 + ["lymphocyte"] * 3 + ["eosinophil"]),
            "class": names,
            "corrected_class": "",
            "needs_review": False,
            "review_reason": "",
            **{f"prob_{name}": 1 / 3 for name in card.classes},
        }
    )
    made = make_result()
    run = made.run | {"classifier": {"name": str(trained), "sha256": card.weights_sha256}}
    (path,) = write_exports(replace(made, cells=cells, run=run), tmp_path, ["corrected"])
    table = pd.read_csv(path).set_index("class")
    assert table["predicted_count"].to_dict() == {"neutrophil": 6, "lymphocyte": 3, "eosinophil": 1}
    assert table["corrected_percent"].sum() == pytest.approx(100, abs=0.01)
    # A row is a true class: its sum is how many test cells of that class there were.
    counts = card.split.counts["test"]
    assert table["n_test"].to_dict() == {name: counts[name] for name in card.classes}
