"""The project's MobileNetV2 against timm's: the same names, weights, numbers and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from napari_leukocls import architectures
from napari_leukocls.architectures import introspection
from napari_leukocls.architectures._inverted_residuals import EfficientNetLite0
from napari_leukocls.architectures.mobilenet import MOBILENET, mobilenet_v2
from napari_leukocls.architectures.timm_networks import timm_entry, timm_stages
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import build_network, read_weights


def pair(num_classes: int = 8, **arguments: Any) -> tuple[Any, Any]:
    """The project's network and timm's, with the same weights and with statistics that are not 0 and 1."""
    torch.manual_seed(0)
    theirs = timm.create_model(MOBILENET, num_classes=num_classes, **arguments)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
    ours = mobilenet_v2(num_classes, **arguments)
    assert not type(ours).__module__.startswith("timm")
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("side", [32, 65, 128])
@pytest.mark.parametrize("padding", ["", "same"])
def test_logits_maps_and_vectors_are_those_of_timm(padding: str, side: int) -> None:
    ours, theirs = pair(pad_type=padding)
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        maps = theirs.forward_features(images)
        vectors = theirs.forward_head(maps, pre_logits=True)
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.forward_features(images), maps, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.forward_head(maps, pre_logits=True), vectors, rtol=0, atol=1e-6)
    assert ours.num_features == theirs.num_features == vectors.shape[1]


@pytest.mark.parametrize("side", [65, 128])
def test_maps_and_vectors_of_lite0_are_those_of_timm(side: int) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=5)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
    ours = EfficientNetLite0(5)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        maps = theirs.eval().forward_features(images)
        torch.testing.assert_close(ours.eval().forward_features(images), maps, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


def test_gradients_and_running_statistics_are_those_of_timm() -> None:
    networks = pair(pad_type="same")
    images = torch.randn(4, 3, 64, 64)
    grads = []
    for net in networks:
        net.train()
        given = images.clone().requires_grad_()
        kept: list[torch.Tensor] = []
        hook = net.blocks[4].register_forward_hook(
            lambda module, args, output, kept=kept: kept.append(output)
        )
        loss = net(given).square().sum()
        hook.remove()
        grads.append(torch.autograd.grad(loss, [given, kept[0], *net.parameters()]))
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    for (name, mine), (same, other) in zip(
        networks[0].named_buffers(), networks[1].named_buffers(), strict=True
    ):
        assert name == same
        torch.testing.assert_close(mine, other)


def test_first_weights_are_as_wide_as_timms() -> None:
    ours = architectures.create(MOBILENET, 400, drop_rate=0.2).state_dict()
    theirs = timm.create_model(MOBILENET, num_classes=400).state_dict()
    assert list(ours) == list(theirs)
    for name, mine in ours.items():
        assert mine.dtype == theirs[name].dtype
        width = theirs[name].float().std(correction=0)
        torch.testing.assert_close(mine.float().std(correction=0), width, rtol=0.25, atol=0, msg=name)


def test_dropout_acts_in_training_alone() -> None:
    net = mobilenet_v2(3, drop_rate=0.9)
    maps = torch.rand(2, 1280, 2, 2)
    assert (net.train().forward_head(maps, pre_logits=True) == 0).float().mean() > 0.7
    assert net.eval().forward_head(maps, pre_logits=True).all()


def test_the_entry_says_what_timm_says() -> None:
    ours, theirs = architectures.entry(MOBILENET), timm_entry(MOBILENET)
    assert theirs is not None
    assert (ours.mean, ours.std, ours.input, ours.pretrained) == (
        theirs.mean,
        theirs.std,
        theirs.input,
        theirs.pretrained,
    )
    net = ours.build(4)
    reference = timm.create_model(MOBILENET, num_classes=4)
    mine = introspection.unfreezing_stages(ours, net)
    assert mine == introspection.unfreezing_stages(theirs, reference)
    assert len(mine) == len(timm_stages(reference))
    names = dict(net.named_modules())
    assert introspection.cam_layer(ours, net) is names[reference.feature_info[-1]["module"]]


def test_other_arguments_are_timms() -> None:
    net = architectures.create(MOBILENET, 3, drop_path_rate=0.1)
    assert type(net).__module__.startswith("timm")
    with pytest.raises(architectures.registry.ModelError, match="takes images from 32 px"):
        net(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("name", ["default", "accurate"])
def test_a_bundled_model_gives_what_its_weights_give_in_timm(name: str) -> None:
    folder = find_model(name).path
    card = read_card(folder)
    tensors, _ = read_weights(folder)
    net = build_network(card, tensors, folder)
    count = card.arguments.get("count", 1)
    bodies = [timm.create_model(MOBILENET, num_classes=0, pad_type="same") for _ in range(count)]
    bodies += [timm.create_model(one["member"], num_classes=0) for one in card.arguments.get("others", ())]
    for i, body in enumerate(bodies):
        start = f"members.{i}." if name == "accurate" else ""
        wanted = body.state_dict()
        body.load_state_dict({key: tensors[start + key].to(wanted[key].dtype) for key in wanted})
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        vectors = torch.cat([body.eval()(images) for body in bodies], 1)
        logits = vectors @ tensors["classifier.weight"].float().T + tensors["classifier.bias"].float()
        torch.testing.assert_close(net(images), logits, rtol=0, atol=1e-5)
    stages = introspection.unfreezing_stages(architectures.entry(card.architecture), net)
    assert len(stages) >= 9 and sum(map(len, stages)) == len(list(net.parameters()))
