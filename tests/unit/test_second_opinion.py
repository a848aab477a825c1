"""Networks that decide together, and a model that asks another one where it is unsure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import card_values

from napari_leukocls import architectures
from napari_leukocls.architectures._ensemble import join_members
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ModelError
from napari_leukocls.models.card import ModelCard, make_card
from napari_leukocls.models.install import write_model

CLASSES = ["lymphocyte", "monocyte", "neutrophil"]


def card(name: str, architecture: str, **more: Any) -> ModelCard:
    return make_card(card_values(name, architecture=architecture, **more), name)


def members(count: int) -> list[dict[str, torch.Tensor]]:
    states = []
    for seed in range(count):
        torch.manual_seed(seed)
        states.append(architectures.create("mobilenetv2_035", 3).state_dict())
    return states


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``one``, which asks ``three`` about all that it is not wholly sure of."""
    states = members(3)
    arguments = {"member": "mobilenetv2_035", "count": 3, "member_arguments": {}}
    three = card("three", "ensemble", arguments=arguments)
    digest = write_model(tmp_path / "three", three, join_members(states))
    asks = {"model": "three", "sha256": digest}
    write_model(
        tmp_path / "one", card("one", "mobilenetv2_035", second_look=1.0, second_opinion=asks), states[0]
    )
    write_model(tmp_path / "alone", card("alone", "mobilenetv2_035"), states[0])
    return tmp_path


def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)


def test_an_ensembles_logits_are_its_members_mean() -> None:
    states = members(3)
    net = architectures.create("ensemble", 3, member="mobilenetv2_035", count=3, member_arguments={})
    net.load_state_dict(join_members(states))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        apart = []
        for state in states:
            single = architectures.create("mobilenetv2_035", 3)
            single.load_state_dict(state)
            apart.append(single.eval()(images))
        assert torch.allclose(net.eval()(images), torch.stack(apart).mean(0), atol=1e-5)


def test_networks_of_two_kinds_are_joined_by_their_shares() -> None:
    torch.manual_seed(1)
    kinds = ("mobilenetv2_035", "mobilenetv2_050")
    states = [architectures.create(kind, 3).state_dict() for kind in kinds]
    others = [{"member": "mobilenetv2_050"}]
    net = architectures.create(
        "ensemble", 3, member="mobilenetv2_035", count=1, member_arguments={}, others=others
    )
    net.load_state_dict(join_members(states, shares=[1, 3]))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        apart = []
        for kind, state in zip(kinds, states, strict=True):
            single = architectures.create(kind, 3)
            single.load_state_dict(state)
            apart.append(single.eval()(images))
        assert torch.allclose(net.eval()(images), 0.25 * apart[0] + 0.75 * apart[1], atol=1e-5)
    stages = architectures.entry("ensemble").stages
    assert callable(stages)
    prefixes = tuple(name for stage in stages(net) for name in stage)
    assert all(name.startswith(prefixes) for name, _ in net.named_parameters())


def test_a_member_without_a_linear_end_is_refused() -> None:
    with pytest.raises(ModelError, match="no linear layer"):
        join_members([{"fc.weight": torch.zeros(3, 4)}])


def test_unsure_cells_are_judged_by_the_other_model(folder: Path) -> None:
    one, three, alone = (load_classifier(folder / name, "cpu") for name in ("one", "three", "alone"))
    asked = one.predict(crops()).probabilities
    assert np.allclose(asked, three.predict(crops()).probabilities, atol=1e-5)
    assert not np.allclose(asked, alone.predict(crops()).probabilities, atol=1e-3)


def test_the_other_model_looks_at_mirror_images_of_what_it_is_unsure_of(folder: Path) -> None:
    path = folder / "three" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "second_look": 1.0}))
    one = load_classifier(folder / "one", "cpu")
    asked, mirrored = one.predict(crops()).probabilities, one.predict(crops()[:, :, ::-1]).probabilities
    # A network of random weights may be wholly sure of a crop and not look again.
    unsure = (asked.max(axis=1) < 0.999) & (mirrored.max(axis=1) < 0.999)
    assert unsure.sum() > 2 and np.allclose(asked[unsure], mirrored[unsure], atol=1e-5)


def test_sure_cells_are_not(folder: Path) -> None:
    path = folder / "one" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "second_look": 0.0}))
    one, alone = (load_classifier(folder / name, "cpu") for name in ("one", "alone"))
    assert np.array_equal(one.predict(crops()).probabilities, alone.predict(crops()).probabilities)


def test_the_other_model_must_be_there_and_be_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEUKOCLS_DATA", str(folder / "data"))
    write_model(
        folder / "three",
        card(
            "three", "ensemble", arguments={"member": "mobilenetv2_035", "count": 2, "member_arguments": {}}
        ),
        join_members(members(2)),
    )
    with pytest.raises(ModelError, match="another one: copy both again"):
        load_classifier(folder / "one", "cpu")
    (folder / "three" / "model.json").unlink()
    with pytest.raises(ModelError, match="asks the model three about unsure cells"):
        load_classifier(folder / "one", "cpu")
