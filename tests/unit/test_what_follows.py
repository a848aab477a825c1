"""What hangs on a model's weights stays with it while the network is the same."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from napari_leukocls.classification.fine import load_fine_head
from napari_leukocls.models.card import read_card
from napari_leukocls.models.install import write_model
from napari_leukocls.training.feature_replay import read_replay
from scripts import what_follows

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def copied(tmp_path):
    return lambda name: Path(shutil.copytree(MODELS / name, tmp_path / name))


@pytest.mark.parametrize("name", ["default", "accurate"])
def test_a_new_score_of_unknown_cells_keeps_what_belongs_to_the_network(copied, name):
    folder = copied(name)
    stored = load_file(folder / "weights.safetensors")
    network = {name: value for name, value in stored.items() if not name.startswith("ood.")}
    assert what_follows.is_same_network(folder, network)
    first = read_card(folder).weights_sha256
    changed = stored | {"ood.neighbour": stored["ood.neighbour"] - 1}
    digest = write_model(folder, read_card(folder), changed, partial(what_follows.carry, folder))
    assert read_card(folder).weights_sha256 == digest != first
    if name == "accurate":
        replay, old = read_replay(folder, digest, 8), read_replay(MODELS / name, first, 8)
        assert (replay.features == old.features).all()
    else:
        assert load_fine_head(folder, digest, tuple(read_card(folder).classes)) is not None
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        file.name for file in (MODELS / name).iterdir()
    )


def test_other_weights_are_another_network(copied):
    folder = copied("default")
    stored = load_file(folder / "weights.safetensors")
    network = {name: value for name, value in stored.items() if not name.startswith("ood.")}
    assert not what_follows.is_same_network(folder, network | {"classifier.bias": torch.zeros(8)})
    assert not what_follows.is_same_network(folder.parent / "none", network)
