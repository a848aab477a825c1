"""QLViT and its ablation: the paper's sizes, each part as its equation, eight bits, and what networks do."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from napari_leukocls.architectures import (  # noqa: E402
    create,
    entry,
    introspection,  # noqa: E402
)
from napari_leukocls.architectures.papers.qlvit.blocks import (  # noqa: E402
    CLAOptions,
    DynamicConv,
    linear_attention,
    softmax_attention,
)
from napari_leukocls.architectures.papers.qlvit.network import STEPS, QLViT  # noqa: E402
from napari_leukocls.architectures.papers.qlvit.quantisation import (  # noqa: E402
    Int8Linear,
    QuantLinear,
    convert,
    i_sigmoid,
    log2_softmax,
)
from napari_leukocls.errors import ArgumentError, ModelError  # noqa: E402

LADDER = [f"qlvit_v{step}" for step in range(5)]
QUANTISED = ["qlvit_v2", "qlvit_v3", "qlvit"]
SMALL: dict[str, Any] = {
    "widths": (16, 32, 48, 64),
    "depths": (1, 1, 2, 1),
    "heads": (1, 2, 2, 4),
    "stem_kernel": 7,
    "kan_groups": 4,
}


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(name: str, classes: int = 4, **arguments: Any) -> Any:
    """A small network that has seen data, ready to predict."""
    net = create(name, classes, **{**SMALL, **arguments})
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 64))
    return net.eval()


# --- the network as a whole ------------------------------------------------------------------------------


def test_facts_need_no_torch() -> None:
    code = (
        "import sys; from napari_leukocls.architectures import entry; "
        "assert entry('qlvit').paper_parameters == 9070000 and entry('mvitv2_tiny').paper == 'S4'; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_qlvit_has_the_papers_size() -> None:
    for classes in (4, 15):
        with torch.device("meta"):
            net = create("qlvit", classes).eval()
        assert introspection.count_parameters(net) == pytest.approx(entry("qlvit").paper_parameters, rel=0.03)
        assert introspection.count_macs(net, 224) == pytest.approx(entry("qlvit").paper_macs, rel=0.10)
    assert sum(len(stage) for stage in net.stages) == 10


def test_perceptrons_of_mvitv2_are_what_lies_between_the_papers_last_two_steps() -> None:
    """The reason for the widths and depths, as the docstring of the network gives it."""
    with torch.device("meta"):
        net = create("mvitv2_tiny", 4)
    perceptrons = sum(p.numel() for name, p in net.named_parameters() if ".mlp." in name)
    v3, v4 = entry("qlvit_v3").paper_parameters, entry("qlvit_v4").paper_parameters
    assert v3 is not None and v4 is not None
    assert perceptrons == pytest.approx(v3 - v4, rel=0.001)
    assert introspection.count_parameters(net) == pytest.approx(
        entry("mvitv2_tiny").paper_parameters, rel=0.01
    )


def test_v4_is_qlvit() -> None:
    assert repr(create("qlvit_v4", 3, **SMALL)) == repr(create("qlvit", 3, **SMALL))


def test_each_step_adds_to_the_one_before() -> None:
    added = [dataclasses.asdict(options) for options in STEPS.values()]
    for before, after in zip(added, added[1:], strict=False):
        changed = [name for name in before if before[name] != after[name]]
        assert len(changed) == 1 and after[changed[0]] is True


@pytest.mark.parametrize("name", LADDER)
def test_learns_sixteen_crops(name: str) -> None:
    net = create(name, 4, **SMALL)
    images, classes = torch.randn(16, 3, 64, 64), torch.arange(16) % 4
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(100):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(images), classes)
        loss.backward()
        if step == 0:
            still = [
                name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
            ]
            assert not still
        optimiser.step()
        if loss < 0.02:
            break
    assert loss < 0.02
    with torch.no_grad():
        assert nn.functional.cross_entropy(net.eval()(images), classes) < 0.05


@pytest.mark.parametrize("name", QUANTISED)
def test_rounding_does_not_depend_on_the_batch(name: str) -> None:
    """A value next to a rounding's edge would fall on the other side: the logits are the same bit for bit."""
    net = small(name)
    images = torch.randn(5, 3, 64, 96)
    for one in (net, convert(net)):
        with torch.no_grad():
            alone = torch.cat([one(image[None]) for image in images])
            assert torch.equal(one(images), alone)


def test_memory_order_does_not_matter() -> None:
    net, images = small("qlvit"), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = net(images)
        other = copy.deepcopy(net).to(memory_format=torch.channels_last)
        assert torch.equal(other(images.contiguous(memory_format=torch.channels_last)), plain)


@pytest.mark.parametrize("name", LADDER)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(name: str, dtype: torch.dtype) -> None:
    net, images = small(name), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = net(images)
        with torch.autocast("cpu", dtype):
            half = net(images).float()
    # What is rounded to eight bits in every layer falls on the next step here and there.
    room = 0.15 if name in ("qlvit_v0", "qlvit_v1") else 0.5
    assert (plain - half).abs().max() < room * max(1.0, float(plain.std()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = net.train()(images).square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_widths_may_be_equal() -> None:
    assert small("qlvit", widths=(16, 16, 32, 32))(torch.randn(1, 3, 64, 64)).shape == (1, 4)


def test_images_of_other_sizes() -> None:
    net = small("qlvit")
    with torch.no_grad():
        assert net(torch.randn(1, 3, 32, 96)).shape == (1, 4)
    with pytest.raises(ModelError, match="multiples of 32"):
        net(torch.randn(1, 3, 100, 64))


def test_head_is_like_timms() -> None:
    net, images = small("qlvit"), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = net.forward_features(images)
        pooled = net.forward_head(maps, pre_logits=True)
        assert maps.shape == (2, 64, 2, 2) and pooled.shape == (2, net.num_features)
        assert torch.equal(net.get_classifier()(pooled), net(images))
        net.reset_classifier(7)
        assert net(images).shape == (2, 7) and isinstance(net.head, QuantLinear)
        net.reset_classifier(0)
        assert torch.equal(net(images), pooled)
    with pytest.raises(ArgumentError, match="average"):
        net.reset_classifier(2, "max")


def test_drop_rates_act_in_training_alone() -> None:
    net = create("qlvit", 4, drop_rate=0.5, drop_path_rate=0.5, **SMALL)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(net.train()(images), net(images))
        assert torch.equal(net.eval()(images), net(images))


@pytest.mark.parametrize("name", ["qlvit", "qlvit_v0"])
def test_stages_hold_every_parameter_once(name: str) -> None:
    net = create(name, 4, **SMALL)
    stages = introspection.unfreezing_stages(entry(name), net)
    assert len(stages) == 6
    assert sorted(sum(stages, [])) == sorted(name for name, _ in net.named_parameters())
    assert stages[0][0].startswith("head") and stages[-1][0].startswith("stem")


def test_grad_cam_has_places() -> None:
    net = small("qlvit")
    facts = entry("qlvit")
    kept: list[torch.Tensor] = []
    introspection.cam_layer(facts, net).register_forward_hook(
        lambda module, args, output: kept.append(output)
    )
    net(torch.randn(1, 3, 128, 128))[0, 1].backward(inputs=kept)
    reshape = introspection.cam_reshape(facts)
    assert reshape is not None
    maps, slopes = reshape(kept[0]), reshape(kept[0].grad)
    assert maps.shape == (1, 64, 4, 4)
    assert (maps * slopes.mean((2, 3), keepdim=True)).sum(1).std() > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"widths": (16, 32, 48)}, "four stages"),
        ({"heads": (3, 2, 2, 4)}, "multiples of its heads"),
        ({"stem_kernel": 8}, "odd"),
        ({"kan_groups": 5}, "kan_groups"),
        ({"step": "v5"}, "no step"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        create("qlvit", 4, **{**SMALL, **arguments})


# --- its parts -------------------------------------------------------------------------------------------


def test_dynamic_convolution_is_one_convolution_an_image() -> None:
    conv = DynamicConv(6, CLAOptions(quantised=False, kernels=3)).eval()
    nn.init.normal_(conv.excite.weight, std=5)
    maps = torch.randn(4, 9, 7, 6)
    with torch.no_grad():
        ours, shares = conv(maps), conv.shares(maps)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        assert shares.std(0).max() > 0.05, "the images should differ in their kernels"
        for image in range(4):
            kernel = sum(shares[image, k] * conv.weight[k].view(6, 1, 3, 3) for k in range(3))
            bias = sum(shares[image, k] * conv.bias[k] for k in range(3))
            one = nn.functional.conv2d(maps[image].permute(2, 0, 1)[None], kernel, bias, padding=1, groups=6)
            torch.testing.assert_close(ours[image], one[0].permute(1, 2, 0))


def test_temperature_evens_the_shares() -> None:
    maps = torch.randn(3, 4, 4, 8)
    spread = []
    for temperature in (1.0, 30.0):
        torch.manual_seed(1)
        conv = DynamicConv(8, CLAOptions(quantised=False, temperature=temperature))
        nn.init.normal_(conv.excite.weight, std=3)
        with torch.no_grad():
            spread.append(float(conv.shares(maps).std(1).mean()))
    assert spread[1] < 0.1 * spread[0]


def test_linear_attention_is_its_equation() -> None:
    q, k, v = torch.randn(3, 2, 4, 30, 8).unbind()
    # Q and K first, as the equation reads from the left.
    expected = (i_sigmoid(q) @ i_sigmoid(k).transpose(-2, -1)) @ log2_softmax(v, -2) / 8**0.5
    torch.testing.assert_close(linear_attention(q, k, v), expected)


def macs(function: Callable[..., torch.Tensor], tokens: int) -> int:
    with FlopCounterMode(display=False) as counter:
        function(*torch.randn(3, 1, 2, tokens, 16).unbind())
    return counter.get_total_flops() // 2


def test_cost_of_linear_attention_is_linear_in_tokens() -> None:
    assert [macs(linear_attention, n) // 256 for n in (64, 128, 1024)] == [2 * 2 * n for n in (64, 128, 1024)]
    assert macs(lambda *qkv: softmax_attention(*qkv, log2=True), 1024) == 2 * 2 * 1024**2 * 16


@pytest.mark.parametrize("step", ["v3", "v4"])
def test_cost_of_the_network_is_linear_in_tokens(step: str) -> None:
    with torch.device("meta"):
        net = create("qlvit", 4, step=step, **SMALL).eval()
        counts = [introspection.count_macs(net, side) for side in (224, 448, 896)]
    assert counts[1] / counts[0] == pytest.approx(4, rel=0.01)
    assert counts[2] / counts[1] == pytest.approx(4, rel=0.01)


# --- int8 ------------------------------------------------------------------------------------------------


class InsideQuantised(TorchDispatchMode):
    """Notes what runs within the int8 layers of a network, and on what types."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.depth = 0
        self.ran: set[str] = set()
        for layer in net.modules():
            if isinstance(layer, Int8Linear):
                layer.register_forward_pre_hook(lambda *_: self._step(1))
                layer.register_forward_hook(lambda *_: self._step(-1))

    def _step(self, by: int) -> None:
        self.depth += by

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.depth:
            self.ran.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", QUANTISED)
def test_int8_network(name: str) -> None:
    net, images = small(name), torch.randn(3, 3, 64, 64)
    integer = convert(net)
    inside = InsideQuantised(integer)
    with torch.no_grad():
        expected = net(images)
        with inside:
            given = integer(images)
    # The training network's products are sums of the same whole numbers.
    assert torch.equal(given, expected)
    assert "_int_mm" in inside.ran
    assert not inside.ran & {"mm", "addmm", "bmm", "baddbmm", "convolution", "dot", "mv", "addmv"}
    assert not any(isinstance(layer, nn.Linear) for layer in integer.modules())
    dense = sum(layer.weight.numel() for layer in net.modules() if isinstance(layer, QuantLinear))
    assert dense == sum(value.numel() for value in integer.state_dict().values() if value.dtype == torch.int8)


def test_eight_bits_are_near_the_float_network() -> None:
    net, images = small("qlvit"), torch.randn(8, 3, 64, 64)
    options = dataclasses.replace(net.options, quantised=False)
    exact = QLViT(4, **{key: SMALL[key] for key in SMALL if key != "kan_groups"}, options=options).eval()
    exact.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        expected, given = exact(images), convert(net)(images)
    assert (given - expected).square().mean().sqrt() < 0.1 * expected.std()


@pytest.mark.parametrize("int8", [False, True])
def test_weights_come_back_bit_for_bit(int8: bool, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    net, images = small("qlvit"), torch.randn(2, 3, 64, 64)
    if int8:
        net = convert(net)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    again = create("qlvit", 4, int8=int8, **SMALL).eval()
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(again(images), net(images))


def test_baseline() -> None:
    net = create("mvitv2_tiny", 3).eval()
    with pytest.raises(ModelError, match="224 x 224 px alone"):
        net(torch.zeros(1, 3, 96, 96))
