"""Weights from files: whole networks, single branches, and files in another naming."""

from __future__ import annotations

import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from crops_for_training import settings
from safetensors.torch import save_file

from napari_leukocls import architectures
from napari_leukocls.architectures import introspection
from napari_leukocls.errors import ModelError
from napari_leukocls.training import pretrained
from napari_leukocls.training.network import start_network
from napari_leukocls.training.optimiser import make_optimiser, set_trainable


def finished(work: Generator[Any, None, Any]) -> tuple[Any, list[str]]:
    """What a generator returns, and its messages."""
    said = []
    while True:
        try:
            said.append(next(work).data.get("message", ""))
        except StopIteration as end:
            return end.value, said


def started(tmp_path: Path, arch: str, *weights: str, **more: Any) -> tuple[Any, list[str]]:
    config = settings(tmp_path, tmp_path / "out", arch=arch, weights=weights, side_px=64, **more)
    return finished(start_network(config, ["a", "b", "c"]))


def saved(tmp_path: Path, name: str, seed: int) -> Any:
    torch.manual_seed(seed)
    net = architectures.create(name, 1000)
    save_file(net.state_dict(), tmp_path / f"{name}.safetensors")
    return net


def test_each_branch_takes_its_own_file(tmp_path: Path) -> None:
    small, large = saved(tmp_path, "resnet18", 1), saved(tmp_path, "resnet34", 2)
    files = [f"{name}={tmp_path / name}.safetensors" for name in ("resnet18", "resnet34")]
    start, said = started(tmp_path, "cadbcnn", *files)
    torch.testing.assert_close(start.net.resnet18.conv1.weight, small.conv1.weight)
    torch.testing.assert_close(start.net.resnet34.layer4[2].conv2.weight, large.layer4[2].conv2.weight)
    assert start.note == "weights of resnet18=resnet18.safetensors, resnet34=resnet34.safetensors"
    assert not any("random" in line for line in said)
    start, said = started(tmp_path, "cadbcnn", files[1])
    assert any("resnet18 of cadbcnn starts with random weights" in line for line in said)


def test_a_file_of_one_branch_asks_for_the_branch(tmp_path: Path) -> None:
    for name in ("resnet18", "resnet34"):
        saved(tmp_path, name, 0)
        file = str(tmp_path / f"{name}.safetensors")
        with pytest.raises(
            ModelError, match=f"fits the branch {name} of cadbcnn alone: give --weights resnet18=FILE"
        ):
            started(tmp_path, "cadbcnn", file)
    with pytest.raises(ModelError, match="no branch 'resnet50'; its branches are resnet18, resnet34"):
        started(tmp_path, "cadbcnn", f"resnet50={file}")
    with pytest.raises(ModelError, match="tensors of resnet18: it is of another network"):
        started(tmp_path, "cadbcnn", f"resnet18={file}")


def test_a_network_with_one_backbone_needs_no_branch(tmp_path: Path) -> None:
    saved(tmp_path, "efficientnet_b0", 0)
    start, _ = started(tmp_path, "s1_efficientnet_b0", str(tmp_path / "efficientnet_b0.safetensors"))
    assert start.note == "weights of efficientnet_b0.safetensors"
    shared = {"backbones": ["customcnn", "resnet50"]}
    saved(tmp_path, "resnet50", 0)
    file = f"resnet50={tmp_path / 'resnet50.safetensors'}"
    start, _ = started(tmp_path, "shared_vit", file, arguments=shared)
    assert start.note == "weights of resnet50=resnet50.safetensors"


def test_other_names_are_matched_by_their_order(tmp_path: Path) -> None:
    net = saved(tmp_path, "resnet18", 5)
    other = {
        f"part{i}.{name.rpartition('.')[2]}": value
        for i, (name, value) in enumerate(net.state_dict().items())
    }
    wanted = architectures.create("resnet18", 7).state_dict()
    found = pretrained.matched(wanted, other)
    assert len(found) == sum("num_batches" not in name for name in wanted) - 2, "all but the last layer"
    torch.testing.assert_close(found["layer3.1.bn2.running_var"], net.layer3[1].bn2.running_var)
    turned = dict(reversed(list(other.items())))
    assert not pretrained.by_order(wanted, turned)
    missing = {name: value for i, (name, value) in enumerate(other.items()) if i != 20}
    assert not pretrained.by_order(wanted, missing)


def test_a_torch_file_is_read_without_running_anything(tmp_path: Path) -> None:
    net = saved(tmp_path, "resnet18", 5)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    start, _ = started(tmp_path, "resnet18", str(tmp_path / "net.pth"))
    torch.testing.assert_close(start.net.conv1.weight, net.conv1.weight)

    class Bad:
        def __reduce__(self) -> Any:
            return (print, ("run",))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(ModelError, match="not loaded"):
        started(tmp_path, "resnet18", str(tmp_path / "bad.pth"))


#: The non-trainable parameters in the paper's table 2; running statistics of all normalisations, which Keras counts;
#: and what the input's normalisation has there.
TABLE_2 = {
    "customcnn_vit": (0, 0),
    "resnet50_vit": (4_134_784, 53_120),
    "efficientnetb3_vit": (3_871_165, 87_296 + 7),
    "inceptionv3_vit": (6_998_496, 34_432),
}


@pytest.mark.parametrize("name", TABLE_2)
def test_frozen_parameters_are_those_of_the_papers_table(name: str) -> None:
    with torch.device("meta"):
        net = architectures.create(name, 8, variant="table")
    frozen = dict(net.named_parameters())
    names = introspection.frozen_parameters(architectures.entry(name), net)
    count = sum(frozen[one].numel() for one in names)
    modules = dict(net.named_modules())
    norms = [modules[one.rpartition(".")[0]] for one in names if one.endswith(".weight")]
    if name == "inceptionv3_vit":  # Keras's Inception has no scales
        count -= sum(part.num_features for part in norms if isinstance(part, torch.nn.BatchNorm2d))
    if name == "resnet50_vit":  # Keras's ResNet has biases before its norms
        count += sum(part.out_channels for part in norms if isinstance(part, torch.nn.Conv2d))
    stated, statistics = TABLE_2[name]
    assert count + statistics == stated


@pytest.mark.parametrize("name", [*TABLE_2, "shared_vit"])
def test_progressive_training_reaches_all_but_the_frozen_parameters(name: str, tmp_path: Path) -> None:
    entry = architectures.entry(name)
    with torch.device("meta"):
        net = architectures.create(name, 8)
    config = settings(tmp_path, tmp_path / "out", arch=name, freeze="progressive", unfreeze_every=1)
    set_trainable(net, entry, config, 99)
    frozen = {one for one, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == set(introspection.frozen_parameters(entry, net))
    assert not any("classifier" in one or "blocks.0.attention" in one for one in frozen)
    set_trainable(net, entry, config, 0)
    trained = {one for one, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained and not any(one.startswith("backbone") for one in trained)


def test_random_weights_are_never_frozen(tmp_path: Path) -> None:
    from crops_for_training import make_crops, train

    data = make_crops(tmp_path / "crops", each=6)
    _, events = train(settings(data, tmp_path / "out", epochs=1, freeze="progressive"))
    assert any("nothing is frozen" in event.data.get("message", "") for event in events)


def test_decay_of_all_parameters_is_a_setting(tmp_path: Path) -> None:
    net = architectures.create("resnet18", 3)
    for asked, expected in ((False, [0.01, 0.0]), (True, [0.01, 0.01])):
        config = settings(tmp_path, tmp_path / "out", weight_decay=0.01, decay_all=asked)
        groups = make_optimiser(net, config).param_groups
        assert [group["weight_decay"] for group in groups] == expected
