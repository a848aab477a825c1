"""Models and sample smears are found, in order, wherever the product is installed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from napari_leukocls.errors import ModelError
from napari_leukocls.io.images import read_image
from napari_leukocls.models.registry import (
    active_classifier,
    find_model,
    list_models,
    models_search_path,
    set_active_classifier,
)
from napari_leukocls.paths import sample_smear, sample_smears, user_data_dir


def _add(folder: Path, name: str, **card: object) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "model.json").write_text(json.dumps({"name": name, **card}))
    return folder / name


def test_the_environment_comes_before_the_user_before_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEUKOCLS_MODELS", os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")]))
    assert [origin for origin, _ in models_search_path()] == ["environment", "environment", "user", "bundled"]
    user = _add(user_data_dir() / "models", "shared")
    assert find_model("shared").path == user and find_model("shared").origin == "user"
    second = _add(tmp_path / "two", "shared")
    assert find_model("shared").path == second
    first = _add(tmp_path / "one", "shared")
    assert find_model("shared").path == first
    assert [entry.name for entry in list_models()].count("shared") == 1


def test_a_model_is_found_by_the_path_of_its_folder(tmp_path: Path) -> None:
    folder = _add(tmp_path, "mine", classes=["a", "b"])
    assert find_model(folder).card()["classes"] == ["a", "b"]
    with pytest.raises(ModelError, match="is a file, not a model; give the folder"):
        find_model(folder / "model.json")


def test_a_folder_that_holds_one_model_stands_for_it(tmp_path: Path) -> None:
    """Training writes the model into a folder of its own within the folder that it was given."""
    folder = _add(tmp_path / "out", "mine", classes=["a", "b"])
    _add(tmp_path / "out", ".leukocls-half-written")
    assert find_model(tmp_path / "out").path == folder and find_model(tmp_path / "out").name == "mine"
    _add(tmp_path / "out", "other")
    with pytest.raises(ModelError, match=r"holds several models \(mine, other\); give the folder of one"):
        find_model(tmp_path / "out")


def test_a_copy_that_is_not_whole_yet_is_not_listed() -> None:
    _add(user_data_dir() / "models", ".leukocls-0123.partial")
    assert not [entry for entry in list_models() if entry.name.startswith(".")]


def test_a_folder_of_models_that_may_not_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user does not own the folder; here nobody is refused who is root."""
    own = user_data_dir() / "models"
    own.mkdir(parents=True)
    listed = Path.iterdir

    def refuse(folder: Path) -> object:
        if folder == own:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelError, match="may not be read: change its rights, or name another data folder"):
        list_models()


def test_an_unknown_name_suggests_the_nearest() -> None:
    _add(user_data_dir() / "models", "convnext_tiny")
    with pytest.raises(ModelError, match="did you mean 'convnext_tiny'?"):
        find_model("convnext-tiny")
    with pytest.raises(ModelError, match="there are .*convnext_tiny"):
        find_model("zzz")


def test_the_active_classifier_is_the_users_choice_else_the_default() -> None:
    assert active_classifier() == "default"
    _add(user_data_dir() / "models", "mine")
    set_active_classifier("mine")
    assert active_classifier() == "mine"
    assert json.loads((user_data_dir() / "active.json").read_text()) == {"classifier": "mine"}
    with pytest.raises(ModelError, match="there is no model 'nix'"):
        set_active_classifier("nix")
    assert active_classifier() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"classifier": 3}', '{"classifier": ""}'])
def test_a_damaged_choice_is_said_with_the_way_out(content: str) -> None:
    user_data_dir().mkdir(parents=True, exist_ok=True)
    (user_data_dir() / "active.json").write_text(content)
    with pytest.raises(ModelError, match="delete it to use 'default' again"):
        active_classifier()


@pytest.mark.parametrize(("content", "words"), [("{", "is not valid JSON"), ("[]", "is not a JSON object")])
def test_a_damaged_card_is_said(content: str, words: str) -> None:
    folder = _add(user_data_dir() / "models", "mine")
    (folder / "model.json").write_text(content)
    with pytest.raises(ModelError, match=words):
        find_model("mine").card()


def test_the_bundled_smears_are_images_of_a_known_scale() -> None:
    smears = sample_smears()
    assert sample_smear() in smears.values() and len(smears) >= 8
    for name, path in smears.items():
        assert "synthetic" in name
        image = read_image(path)
        assert image.pixels.shape in {(1536, 2048, 3), (768, 1024, 3)}
        assert image.um_per_px is not None and 0.05 < image.um_per_px < 0.5
