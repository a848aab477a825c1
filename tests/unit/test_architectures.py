"""The contract that every registered network keeps, on images that are small where the network allows it."""

from __future__ import annotations

import copy
import csv
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from napari_leukocls import architectures
from napari_leukocls.architectures import introspection
from napari_leukocls.classification.ood import features_and_logits
from napari_leukocls.errors import ModelError

CLASSES = 4


@dataclass(frozen=True)
class Case:
    """A network as the tests build it."""

    name: str
    side: int
    arguments: tuple[tuple[str, Any], ...] = ()

    def build(self) -> Any:
        torch.manual_seed(0)
        return architectures.create(self.name, CLASSES, **dict(self.arguments))


def _smallest(name: str) -> int:
    return architectures.entry(name).input.smallest


def _distinct() -> list[str]:
    """The registered names without those that stand for another's network."""
    seen: list[tuple[Any, Any]] = []
    names = []
    for name in architectures.list():
        what = (architectures.entry(name).build, dict(architectures.entry(name).arguments))
        if what not in seen:
            seen.append(what)
            names.append(name)
    return names


def _case(name: str) -> Case:
    fixed = architectures.entry(name).input.fixed  # of these, timm's can be built for smaller images
    return Case(name, 64, (("img_size", 64),)) if fixed else Case(name, 64 if _smallest(name) <= 64 else 128)


CASES = [_case(name) for name in (*_distinct(), "vit_tiny_patch16_224")] + [
    Case("customcnn_vit", 64, (("variant", "table"),)),
    Case("shared_vit", 64, (("backbones", ("customcnn", "resnet50")),)),
    Case("mobilenetv2_100", 64, (("pad_type", "same"),)),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join((case.name, *dict(case.arguments))))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def net(case: Case) -> Iterator[Any]:
    """The network with random weights, in evaluation; tests that change it take a copy."""
    yield case.build().eval()


def _images(case: Case, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, case.side, case.side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def crops(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Sixteen real crops of four classes, as small as a network takes them, and the classes."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "pbc"
    if not folder.is_dir():
        pytest.skip("needs the public data sets at ../shared/data")
    kinds = ("eosinophil", "lymphocyte", "monocyte", "platelet")
    with (folder / "labels.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["class"] in kinds]
    files = [row["file"] for kind in kinds for row in [r for r in rows if r["class"] == kind][:4]]
    smallest = case.side if dict(case.arguments).get("img_size") else _smallest(case.name)
    size = (smallest, smallest)
    pixels = np.stack([np.asarray(Image.open(folder / f).convert("RGB").resize(size)) for f in files])
    entry = architectures.entry(case.name)
    scaled = (pixels / 255 - np.array(entry.mean)) / np.array(entry.std)
    return torch.tensor(scaled, dtype=torch.float32).permute(0, 3, 1, 2), torch.arange(16) // 4


def test_logits_and_the_features_that_feed_them(case: Case, net: Any) -> None:
    images = _images(case)
    with torch.no_grad():
        logits = net(images)
        features, again = features_and_logits(net, images)
    assert logits.shape == (2, CLASSES) and torch.isfinite(logits).all()
    assert features.ndim == 2 and torch.allclose(logits, again, atol=1e-6)
    other = copy.deepcopy(net)
    other.reset_classifier(CLASSES + 3)
    with torch.no_grad():
        assert other(images).shape == (2, CLASSES + 3)


def test_the_same_in_batches_and_one_by_one(case: Case, net: Any) -> None:
    images = _images(case, 5)
    with torch.no_grad():
        together = net(images)
        alone = torch.cat([net(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5 * max(1.0, float(together.abs().max())))


def test_weights_come_back_bit_for_bit(case: Case, net: Any, tmp_path: Path) -> None:
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(5)
    other = architectures.create(case.name, CLASSES, **dict(case.arguments)).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = _images(case)
    with torch.no_grad():
        assert torch.equal(net(images), other(images))


def test_half_precision_and_channels_last(case: Case, net: Any) -> None:
    images = _images(case)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = net(images)
        reordered = last(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = net(images).float()
    assert torch.allclose(plain.softmax(1), reordered.softmax(1), atol=1e-4)
    # Networks that round to eight bits in every layer fall on the next step here and there.
    room = 0.25 if architectures.entry(case.name).onnx_refusal else 0.1
    assert torch.allclose(plain.softmax(1), half.softmax(1), atol=room)


def test_wrong_images_are_refused_in_words(case: Case, net: Any) -> None:
    with pytest.raises(ModelError, match="takes"):
        net(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ModelError, match="colour"):
        net(torch.zeros(1, 1, case.side, case.side))


def test_grad_cam_sees_places(case: Case, net: Any) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    entry = architectures.entry(case.name)
    with GradCAM(
        net, [introspection.cam_layer(entry, net)], reshape_transform=introspection.cam_reshape(entry)
    ) as explainer:
        maps = [explainer(_images(case, 1), [ClassifierOutputTarget(kind)])[0] for kind in range(CLASSES)]
    assert all(one.shape == (case.side, case.side) and np.isfinite(one).all() for one in maps)
    assert max(float(np.ptp(one)) for one in maps) > 0.1, "constant for every class"


def test_multiply_accumulates(case: Case, net: Any) -> None:
    """No fewer than the convolutions and linear layers have; attention adds its own."""
    counted = 0

    def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal counted
        weight = module.weight
        counted += output.numel() * weight[0].numel()  # type: ignore[index, operator]

    hooks = [
        module.register_forward_hook(note)
        for module in net.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        net(_images(case, 1))
    for hook in hooks:
        hook.remove()
    macs = introspection.count_macs(net, case.side)
    assert 0 < counted <= macs * 1.0001
    if all("Attention" not in type(module).__name__ for module in net.modules()) and "vit" not in case.name:
        assert counted == macs


def test_every_parameter_that_should_learn_gets_a_gradient(case: Case, net: Any) -> None:
    learner = copy.deepcopy(net).train()
    optimiser = torch.optim.AdamW(learner.parameters(), 1e-3)
    for _ in range(2):  # branches that start at zero have gradients from the second step on
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(learner(_images(case, 4)), torch.arange(4) % CLASSES)
        loss.backward()
        optimiser.step()
    # a shift of the keys is the same for every token, and softmax does not see it
    still = [
        name
        for name, parameter in learner.named_parameters()
        if (parameter.grad is None or not parameter.grad.any()) and not name.endswith("key.bias")
    ]
    assert not still


@pytest.mark.slow
def test_learns_sixteen_crops_by_heart(
    case: Case, net: Any, crops: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, classes = crops
    learner = copy.deepcopy(net).train()
    # As transformers are trained: the rate rises first, and falls in the end; low for what rounds to eight bits.
    rate = 1e-4 if case.name.startswith("qlvit") else 3e-4
    optimiser = torch.optim.AdamW(learner.parameters(), rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=101, pct_start=0.1, cycle_momentum=False
    )
    torch.manual_seed(0)
    for _ in range(100):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(learner(images), classes)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if loss < 0.05:
            break
    assert loss < 0.05


@pytest.mark.slow
def test_onnx_gives_the_same(case: Case, net: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    refusal = architectures.entry(case.name).onnx_refusal
    if refusal:
        pytest.skip(f"the entry says that it cannot be exported: {refusal}")
    path = tmp_path / "net.onnx"
    images = _images(case, 2)
    with warnings.catch_warnings():  # torch's own, about its exporter
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch")
        how: dict[str, Any] = {"dynamo": True, "optimize": False, "verbose": False}
        torch.onnx.export(net, (images,), path, dynamic_shapes=({0: batch},), **how)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    three = _images(case, 3)
    (given,) = session.run(None, {session.get_inputs()[0].name: three.numpy()})
    with torch.no_grad():
        assert np.abs(given - net(three).numpy()).max() < 1e-3
