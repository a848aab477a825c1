"""Model folders: what is whole is loaded bit for bit, and each thing that is wrong has its line."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.classification.fusion import FusedConv, fold_batch_norm, fuse_for_processor
from napari_leukocls.classification.loading import load_classifier, verify
from napari_leukocls.errors import ModelError
from napari_leukocls.models.card import FORMAT_VERSION
from napari_leukocls.models.weights import read_weights

CLASSES = ["lymphocyte", "monocyte", "neutrophil"]
SIDE = 64


def random_network(name: str = "mobilenetv2_035", **arguments: Any) -> torch.nn.Module:
    """A network whose normalisations have statistics like those of training."""
    import timm

    torch.manual_seed(7)
    net = timm.create_model(name, num_classes=len(CLASSES), **arguments).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.1)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return net


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The folder of a small classifier with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    save_file(random_network(pad_type="same").state_dict(), folder / "weights.safetensors")
    card = {
        "format_version": FORMAT_VERSION,
        "name": "tiny",
        "architecture": "mobilenetv2_035",
        "arguments": {"pad_type": "same"},
        "classes": CLASSES,
        "input_size": [SIDE, SIDE],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": {"side_um": 22.4, "side_px": SIDE},
        "temperature": 1.7,
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def model(original, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def change(folder: Path, **fields: Any) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **fields}))


def refusal(folder: Path) -> str:
    """The line with which loading ends."""
    with pytest.raises(ModelError) as caught:
        load_classifier(folder, "cpu")
    line = str(caught.value)
    assert "\n" not in line
    assert folder.name in line
    return line


def crops(n: int = 5) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, SIDE, SIDE, 3)).astype(np.uint8)


def test_weights_come_back_bit_for_bit(model):
    classifier = load_classifier(model, "cpu")
    saved = load_file(model / "weights.safetensors")
    loaded = classifier.net.state_dict()
    assert loaded.keys() == saved.keys()
    for name, value in saved.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].numpy().tobytes() == value.numpy().tobytes()
    assert classifier.digest == hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()
    assert classifier.classes == tuple(CLASSES)


def test_predictions_are_the_networks_own_softened_by_the_temperature(model):
    classifier = load_classifier(model, "cpu")
    images = crops()
    with torch.no_grad():
        logits = classifier.net(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1)
    expected = torch.softmax(logits / 1.7, dim=1).numpy()
    predictions = classifier.predict(images, batch_size=2)
    assert predictions.probabilities == pytest.approx(expected, abs=1e-4)
    assert predictions.probabilities.dtype == np.float32
    assert predictions.ood_score.shape == (5,)
    whole = classifier.predict(images, batch_size=64)
    assert whole.probabilities == pytest.approx(predictions.probabilities, abs=1e-5)


def test_no_crops_give_no_predictions(model):
    predictions = load_classifier(model, "cpu").predict(np.zeros((0, SIDE, SIDE, 3), np.uint8))
    assert predictions.probabilities.shape == (0, 3)
    assert predictions.ood_score.shape == (0,)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mobilenetv2_035", {"pad_type": "same"}), ("resnet10t", {}), ("efficientnet_b0", {})],
)
def test_folding_normalisation_changes_nothing_but_the_time(name, arguments):
    net = random_network(name, **arguments)
    images = torch.randn(3, 3, SIDE, SIDE)
    folded = fold_batch_norm(net, images[:1])
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    with torch.no_grad():
        before, after = net(images), folded(images)
    assert torch.allclose(before, after, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mobilenetv2_035", {"pad_type": "same"}), ("resnet10t", {}), ("efficientnet_b0", {})],
)
def test_fusing_activations_changes_nothing_but_the_time(name, arguments):
    images = torch.randn(3, 3, SIDE, SIDE)
    folded = fold_batch_norm(random_network(name, **arguments), images[:1])
    fused = fuse_for_processor(folded, images[:1])
    if torch.backends.mkldnn.is_available():
        assert any(isinstance(module, FusedConv) for module in fused.modules())
    with torch.no_grad():
        before, after = folded(images), fused(images)
    assert torch.allclose(before, after, atol=1e-4, rtol=1e-4)


def test_a_network_that_looks_at_a_map_before_its_activation_too_is_not_fused():
    class Peeking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = self.conv(images)
            return (seen + self.act(seen)).mean((2, 3))

    net = Peeking().eval()
    assert fuse_for_processor(net, torch.zeros(1, 3, 16, 16)) is net


def test_a_full_memory_halves_the_batch_once_for_all_and_is_told(model):
    classifier = load_classifier(model, "cpu")
    images, told, seen = crops(10), [], []
    expected = classifier.predict(images)

    def little_memory(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    first = next(
        part
        for part in classifier.fast_network("cpu").modules()
        if isinstance(part, (torch.nn.Conv2d, FusedConv))
    )
    hook = first.register_forward_pre_hook(little_memory)
    steps = classifier.iter_predict(images, 8, told.append)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        predictions = end.value
    finally:
        hook.remove()
    # Two parts of five run beside each other; each goes on with the batch that memory sufficed for.
    assert sorted(seen) == [1, 1, 2, 2, 2, 2, 5, 5]
    assert told == ["the memory of cpu is full: batch halved to 2."]
    assert predictions.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_fewer_classes_in_the_card_than_in_the_weights(model):
    change(model, classes=CLASSES[:2])
    line = refusal(model)
    assert "2 classes" in line
    assert "do not fit" in line


def test_another_architecture_than_the_weights_are_of(model):
    change(model, architecture="resnet10t", arguments={})
    assert "do not fit" in refusal(model)


def test_an_unknown_architecture_brings_the_nearest(model):
    change(model, architecture="mobilnetv2_035")
    with pytest.raises(ModelError, match=r"no architecture.*mobilnetv2_035.*[Dd]id you mean mobilenetv2_035"):
        load_classifier(model, "cpu")


@pytest.mark.parametrize(
    "arguments", [{"pretrained": True}, {"checkpoint_path": "x.pth"}, {"pretrained_cfg": {"file": "x.pth"}}]
)
def test_a_card_cannot_have_other_weights_read(model, arguments):
    change(model, arguments=arguments)
    assert "weights.safetensors alone" in refusal(model)


@pytest.mark.parametrize("arguments", [{"no_such_thing": 1}, {"num_classes": 5}, {"pad_type": 3}])
def test_arguments_that_the_architecture_does_not_take(model, arguments):
    change(model, arguments=arguments)
    with pytest.raises(ModelError) as caught:
        load_classifier(model, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_under_the_name_of_safetensors_is_not_opened(model, tmp_path, protocol):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harmed"), "w"))

    (model / "weights.safetensors").write_bytes(pickle.dumps(Harmful(), protocol=protocol))
    assert "is a pickle" in refusal(model)
    assert not (tmp_path / "harmed").exists()


def test_a_torch_file_under_the_name_of_safetensors_is_not_opened(model):
    torch.save(random_network().state_dict(), model / "weights.safetensors")
    assert "is a pickle" in refusal(model)


def test_a_pickle_beside_a_card_without_weights_is_named_and_not_opened(model):
    (model / "weights.safetensors").rename(model / "weights.pth")
    line = refusal(model)
    assert "weights.pth is a pickle" in line
    assert "convert it to safetensors" in line


def test_missing_weights(model):
    (model / "weights.safetensors").unlink()
    assert "no readable weights.safetensors" in refusal(model)


@pytest.mark.parametrize("keep", [0, 6, 100, 5000, -1])
def test_damaged_weights(model, keep):
    raw = (model / "weights.safetensors").read_bytes()
    (model / "weights.safetensors").write_bytes(raw[:keep])
    assert "is damaged" in refusal(model)


def test_a_card_of_a_newer_format(model):
    change(model, format_version=FORMAT_VERSION + 1)
    assert "update napari-leukocls" in refusal(model)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": ["monocyte", "monocyte", "neutrophil"]}, "listed twice"),
        ({"classes": ["monocyte"]}, "classes"),
        ({"temperature": 0}, "temperature"),
        ({"crop": {"side_um": 22.4}}, "crop.side_px"),
        ({"input_size": [128, 128]}, "input_size"),
        ({"mean": [0.5]}, "mean"),
        ({"kind": "segmenter"}, "is a segmenter"),
    ],
)
def test_a_wrong_card_names_the_field(model, fields, says):
    change(model, **fields)
    assert says in refusal(model)


@pytest.mark.parametrize("text", ["", "{", "[]", '"card"', "\x00"])
def test_a_damaged_card(model, text):
    (model / "model.json").write_text(text)
    assert "copy the model again" in refusal(model)


def test_a_folder_without_a_card(model):
    (model / "model.json").unlink()
    assert "no model folder" in refusal(model)


def test_a_model_that_was_replaced_is_read_again(model):
    before = cached_classifier(model, "cpu")
    assert cached_classifier(model, "cpu") is before
    change(model, temperature=3.0)
    assert cached_classifier(model, "cpu").card.temperature == 3.0
    torch.manual_seed(8)
    weights = {name: value.clone() for name, value in load_file(model / "weights.safetensors").items()}
    weights["classifier.bias"] += 1
    save_file(weights, model / "weights.safetensors")
    assert cached_classifier(model, "cpu").digest != before.digest


def test_verify_says_what_was_checked(model):
    _, digest = read_weights(model)
    assert any(digest in line for line in verify(model))
    change(model, weights_sha256=digest)
    assert any("as the card says" in line for line in verify(model))


def test_verify_finds_weights_of_another_model_and_broken_numbers(model):
    change(model, weights_sha256="0" * 64)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        verify(model)
    # Weights that are not the card's own are not used either: figures, thresholds and limits are of others.
    with pytest.raises(ModelError, match="SHA-256 differs"):
        load_classifier(model, "cpu")
    change(model, weights_sha256=None)
    weights = dict(load_file(model / "weights.safetensors"))
    weights["classifier.bias"] = torch.full((3,), float("nan"))
    save_file(weights, model / "weights.safetensors")
    with pytest.raises(ModelError, match="no finite numbers"):
        verify(model)
