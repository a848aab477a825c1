"""The networks of the papers have the papers' sizes; pruning and sharing do what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_leukocls import architectures
from napari_leukocls.architectures import introspection
from napari_leukocls.architectures.papers import pruning
from napari_leukocls.architectures.papers._hybrid import Block
from napari_leukocls.errors import ModelError


def _meta(name: str, classes: int, **arguments: Any) -> Any:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return architectures.create(name, classes, **arguments)


@pytest.mark.parametrize("name", ["s1_efficientnet_b0", "s1_convnext_tiny"])
def test_single_backbones_have_the_papers_size(name: str) -> None:
    """Parameters as the paper rounds them, and its megabytes, which are 2**20 bytes."""
    net = _meta(name, 5)
    stated = {"s1_efficientnet_b0": (4.8, 18.30), "s1_convnext_tiny": (28.2, 107.64)}[name]
    count = introspection.count_parameters(net)
    assert (round(count / 1e6, 1), round(count * 4 / 2**20, 2)) == pytest.approx(stated, abs=0.006)
    dropouts = [part.p for part in net.modules() if isinstance(part, torch.nn.Dropout) and part.p]
    assert dropouts and set(dropouts) == {0.4}


#: What Keras counts and torch does not: running statistics, biases before norms, the input's normalisation;
#: and, with the other sign, scales that Keras's Inception lacks.
KERAS = {
    "customcnn_vit": 0,
    "resnet50_vit": 53_120 + 26_560,
    "efficientnetb3_vit": 87_296 + 7,
    "inceptionv3_vit": 34_432 - 17_216,
}


@pytest.mark.parametrize("name", KERAS)
def test_table_variants_have_the_papers_size(name: str) -> None:
    net = _meta(name, 8, variant="table")
    count = introspection.count_parameters(net)
    stated = architectures.entry(name).paper_parameters
    assert stated is not None and abs(count / stated - 1) < 0.01
    assert count + KERAS[name] == stated
    assert net(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("customcnn_vit", (256, 14, 14)),
        ("resnet50_vit", (2048, 7, 7)),
        ("efficientnetb3_vit", (1536, 7, 7)),
        ("inceptionv3_vit", (2048, 5, 5)),
    ],
)
def test_text_variants_are_as_the_text_says(name: str, shape: tuple[int, int, int]) -> None:
    net = _meta(name, 8)
    maps, tokens = net.forward_features(torch.empty(1, 3, 224, 224, device="meta"))
    assert maps.shape[1:] == shape and tokens.shape[1:] == (shape[1] * shape[2], 256)
    assert len(net.blocks) == 2 and net.blocks[0].attention.heads == 8
    assert net.blocks[0].feed[0].out_features == 256 and net.blocks[0].norm1.eps == 1e-6
    assert net.classifier.in_features == 256 + shape[0], "pooled map and pooled tokens"


def test_channel_attention_is_far_smaller_than_vgg16() -> None:
    assert 0.89 < 1 - introspection.count_parameters(_meta("efficientnetv2_b3_se", 2)) / 138_357_544 < 0.92


def test_both_branches_ask_the_other() -> None:
    net = architectures.create("cadbcnn", 4).eval()
    images = torch.randn(1, 3, 64, 64)
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []
    for part in (net.small_asks, net.large_asks):
        part.register_forward_pre_hook(lambda _, inputs: asked.append(inputs))
    with torch.no_grad():
        net(images)
        small, large = net.resnet18.forward_features(images), net.resnet34.forward_features(images)
    small, large = small.flatten(2).transpose(1, 2), large.flatten(2).transpose(1, 2)
    for (tokens, context), (own, other) in zip(asked, [(small, large), (large, small)], strict=True):
        assert torch.equal(tokens, own) and torch.equal(context, other)
    without = architectures.create("cadbcnn_dual", 4)
    difference = introspection.count_parameters(net) - introspection.count_parameters(without)
    assert difference == 2 * (4 * (512 * 512 + 512) + 2 * 512)


def test_attention_weights_are_those_that_are_used() -> None:
    block = Block(32, heads=4, head_width=8, hidden=64, dropout=0.2).eval()
    tokens = torch.randn(2, 9, 32)
    attention = block.attention
    weights = attention.weights(tokens)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 9))
    values = attention.value(tokens).view(2, 9, 4, 8).transpose(1, 2)
    by_hand = attention.out((weights @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(tokens), by_hand, atol=1e-6)


def test_heads_that_look_at_one_token_go_first() -> None:
    torch.manual_seed(0)
    net = architectures.create("customcnn_vit", 4).eval()
    images = torch.randn(2, 3, 64, 64)
    attention = net.blocks[1].attention
    with torch.no_grad():  # head 5 of the second block: sharp, and of no weight in what follows
        rows = slice(5 * attention.head_width, 6 * attention.head_width)
        attention.query.weight[rows] *= 200
        attention.out.weight[:, rows] = 0
    entropy = pruning.attention_entropy(net, images)
    assert [len(block) for block in entropy] == [8, 8]
    assert all(0 <= value <= 1.0001 for block in entropy for value in block)
    assert min(entropy[0] + entropy[1]) == entropy[1][5]
    pruned, arguments = pruning.prune(net, images, heads=1)
    assert arguments == {"heads": [8, 7]}
    assert (
        introspection.count_parameters(pruned)
        == introspection.count_parameters(net) - 3 * 32 * 257 - 256 * 32
    )
    with torch.no_grad():
        assert torch.allclose(net(images), pruned(images), atol=1e-5)
    rebuilt = architectures.create("customcnn_vit", 4, **arguments).eval()
    rebuilt.load_state_dict(pruned.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(images), pruned(images))


def test_blocks_go_and_the_rest_still_works() -> None:
    net = architectures.create("customcnn_vit", 4).eval()
    images = torch.randn(2, 3, 64, 64)
    means = [sum(block) / 8 for block in pruning.attention_entropy(net, images)]
    pruned, arguments = pruning.prune(net, images, blocks=1, heads=3)
    assert arguments == {"heads": [5]} and pruned(images).shape == (2, 4)
    kept = net.blocks[means.index(max(means))]
    assert torch.equal(pruned.blocks[0].feed[0].weight, kept.feed[0].weight)
    assert introspection.count_macs(pruned, 64) < introspection.count_macs(net, 64)
    for wrong in ({"blocks": 2}, {"heads": 15}, {"heads": -1}):
        with pytest.raises(ModelError, match="cannot be removed"):
            pruning.prune(net, images, **wrong)
    with pytest.raises(ModelError, match="hybrids"):
        pruning.prune(architectures.create("resnet18", 4), images)


def test_a_shared_transformer_costs_less_than_one_for_each() -> None:
    shared = introspection.count_parameters(_meta("shared_vit", 8))
    single = [
        introspection.count_parameters(_meta(name, 8)) for name in ("resnet50_vit", "efficientnetb3_vit")
    ]
    blocks = 2 * (4 * (256 * 256 + 256) + 4 * 256 + 2 * (256 * 256 + 256))
    assert sum(single) - shared > 0.9 * blocks


@pytest.mark.parametrize("name", [*architectures.list("*_vit"), "cadbcnn", "s1_*", "mobilenetv2_100"])
def test_unfreezing_stages_hold_every_parameter_once(name: str) -> None:
    for each in architectures.list(name) or (name,):
        entry = architectures.entry(each)
        net = architectures.create(each, 4)
        stages = introspection.unfreezing_stages(entry, net)
        together = [parameter for stage in stages for parameter in stage]
        assert len(stages) > 1 and sorted(together) == sorted(dict(net.named_parameters()))
        head = next(name for name, part in net.named_modules() if part is net.get_classifier())
        assert f"{head}.weight" in stages[0]
