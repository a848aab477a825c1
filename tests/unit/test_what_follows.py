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

MODEL = Path(__file__).parents[2] / "models" / "default"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(MODEL, tmp_path / "default")
    return tmp_path / "default"


def test_a_new_score_of_unknown_cells_keeps_replay_and_finer_classes(folder):
    stored = load_file(folder / "weights.safetensors")
    network = {name: value for name, value in stored.items() if not name.startswith("ood.")}
    assert what_follows.is_same_network(folder, network)
    old = read_replay(folder, read_card(folder).weights_sha256, 8)
    changed = stored | {"ood.neighbour": stored["ood.neighbour"] - 1}
    digest = write_model(folder, read_card(folder), changed, partial(what_follows.carry, folder))
    assert read_card(folder).weights_sha256 == digest
    assert (read_replay(folder, digest, 8).features == old.features).all()
    assert load_fine_head(folder, digest, tuple(read_card(folder).classes)) is not None
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in MODEL.iterdir())


def test_other_weights_are_another_network(folder):
    stored = load_file(folder / "weights.safetensors")
    network = {name: value for name, value in stored.items() if not name.startswith("ood.")}
    assert not what_follows.is_same_network(folder, network | {"classifier.bias": torch.zeros(8)})
    assert not what_follows.is_same_network(folder.parent / "none", network)
