"""Heatmaps: the same as pytorch-grad-cam's, without a trace in the network, and back on the smear."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_leukocls import architectures
from napari_leukocls.architectures import introspection
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.crops import cut_window
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ArgumentError, LeukoclsError, ModelError
from napari_leukocls.explanation import cam, network
from napari_leukocls.explanation.network import CamNetwork
from napari_leukocls.models.card import ModelCard
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import find_model

CLASSES = 4
#: A network of each family, with the arguments that make it small.
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "mobilenetv2_100": (64, {"pad_type": "same"}),
    "resnet18": (64, {}),
    "efficientnetv2_b3_se": (64, {}),
    "convnext_tiny": (64, {}),
    "customcnn_vit": (64, {}),
    "qlvit": (64, {}),
    "cadbcnn": (64, {}),
    "cadbcnn_dual": (64, {}),
    "vit_tiny_patch16_224": (64, {"img_size": 64}),
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64, "window_size": 4}),
    "mvitv2_tiny": (64, {"img_size": 64}),
}


def make_classifier(net: nn.Module, architecture: str, side: int, **more: Any) -> Classifier:
    card = ModelCard(
        name="tiny",
        architecture=architecture,
        classes=[f"class_{place}" for place in range(CLASSES)],
        input_size=(side, side),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        crop={"side_um": 20.0, "side_px": side},
        **more,
    )
    return Classifier(card, net.eval(), {}, "", "cpu")


def family(name: str) -> Classifier:
    side, arguments = FAMILIES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = architectures.create(name, CLASSES, **arguments).eval()
    for module in net.modules():  # statistics unlike those of a fresh network, so that folding matters
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return make_classifier(net, name, side, arguments=arguments)


def crops_of(side: int, count: int = 3) -> np.ndarray:
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(side // 8, 1).repeat(side // 8, 2)


def theirs(classifier: Classifier, crops: np.ndarray, targets: np.ndarray, method: str) -> np.ndarray:
    """pytorch-grad-cam, one image at a time."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    entry = architectures.entry(classifier.card.architecture)
    net = copy.deepcopy(classifier.net)
    explainer = getattr(pytorch_grad_cam, network.CLASSES[method][0])
    layers = [introspection.cam_layer(entry, net)]
    with explainer(net, layers, reshape_transform=introspection.cam_reshape(entry)) as made:
        return np.stack(
            [
                made(classifier.tensor(crop[None]).contiguous(), [ClassifierOutputTarget(int(target))])[0]
                for crop, target in zip(crops, targets, strict=True)
            ]
        )


#: One of each kind runs by default: convolutions, tokens after them, two branches, tokens alone.
QUICK = ("mobilenetv2_100", "customcnn_vit", "cadbcnn", "vit_tiny_patch16_224")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_maps_equal_pytorch_grad_cams(name: str) -> None:
    classifier = family(name)
    crops, targets = crops_of(FAMILIES[name][0]), np.array([0, 3, 1])
    for method in ("gradcam", "gradcam++", "layercam", "hirescam", "eigencam"):
        mine = cam.heatmaps(classifier, crops, targets, method)
        assert mine.shape == crops.shape[:3] and mine.dtype == np.float32
        np.testing.assert_allclose(
            mine, theirs(classifier, crops, targets, method), atol=1e-4, err_msg=method
        )


def test_maps_of_several_layers_equal_pytorch_grad_cams() -> None:
    """Layers one behind the other, and side by side in two branches."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    for name, layers in (
        ("mobilenetv2_100", ["blocks.4", "conv_head"]),
        ("cadbcnn_dual", ["resnet18.layer3", "resnet34.layer3", "last_map"]),
    ):
        classifier, crops = family(name), crops_of(64, 2)
        net = copy.deepcopy(classifier.net)
        for method in ("gradcam", "hirescam"):
            explainer = getattr(pytorch_grad_cam, network.CLASSES[method][0])
            with explainer(net, [net.get_submodule(layer) for layer in layers]) as made:
                wanted = made(classifier.tensor(crops).contiguous(), [ClassifierOutputTarget(1)] * 2)
            mine = cam.heatmaps(classifier, crops, 1, method, layer=layers)
            np.testing.assert_allclose(mine, wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["customcnn_vit", "vit_tiny_patch16_224"])
def test_score_maps_equal_pytorch_grad_cams(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    classifier = family(name)
    crops, targets = crops_of(FAMILIES[name][0], 1), np.array([2])
    mine = cam.heatmaps(classifier, crops, targets, "scorecam")
    assert capfd.readouterr() == ("", ""), "a bar is drawn for every cell"
    np.testing.assert_allclose(mine, theirs(classifier, crops, targets, "scorecam"), atol=1e-4)


@pytest.fixture(scope="module")
def default() -> Classifier:
    return load_classifier(find_model("default").path, "cpu")


def test_batches_do_not_matter(default: Classifier) -> None:
    crops = crops_of(128, 5)
    together = cam.heatmaps(default, crops, 2, batch_size=5)
    np.testing.assert_allclose(together, cam.heatmaps(default, crops, [2] * 5, batch_size=2), atol=1e-4)
    best = default.predict(crops).probabilities.argmax(axis=1)
    sure = copy.copy(default)
    sure.card = default.card.model_copy(update={"second_look": 0.0})
    best = sure.predict(crops).probabilities.argmax(axis=1)
    np.testing.assert_allclose(cam.heatmaps(default, crops), cam.heatmaps(default, crops, best), atol=1e-5)
    assert cam.heatmaps(default, crops[:0]).shape == (0, 128, 128)


def _state(net: nn.Module) -> dict[str, Any]:
    return {
        "training": [module.training for module in net.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in net.modules()
        ],
        "wanted": [p.requires_grad for p in net.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "values": [value.clone() for value in net.state_dict().values()],
    }


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return len(a) == len(b) and all(map(_same, a, b)) if isinstance(a, list) else a == b


class _Plain(nn.Module):
    """Small, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Linear(8, CLASSES)
        self.fails = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.last(self.body(images))
        if self.fails:
            raise KeyError("no")
        return self.head(maps.relu().mean((2, 3)))


def test_a_network_in_training_does_not_notice() -> None:
    net = _Plain()
    net.body.requires_grad_(False)
    net.train()
    net.body.eval()
    images = torch.randn(4, 3, 32, 32)
    nn.functional.cross_entropy(net(images), torch.arange(4)).backward()
    before, noise = _state(net), torch.get_rng_state()
    maps = CamNetwork(net, ["last"]).maps(images, np.arange(4), "gradcam")
    assert maps.max() <= 1 and maps.any()
    after = _state(net)
    assert all(_same(before[key], after[key]) for key in before)
    assert torch.equal(noise, torch.get_rng_state()) and torch.is_grad_enabled()


def test_hooks_go_when_the_network_fails() -> None:
    net = _Plain().eval()
    source = CamNetwork(net, ["last"])
    source._net.fails = True
    with pytest.raises(KeyError):
        source.maps(torch.randn(1, 3, 32, 32), None, "gradcam")
    assert all(not module._forward_hooks for module in source._net.modules())
    assert torch.is_grad_enabled()
    source._net.fails = False
    assert source.maps(torch.randn(1, 3, 32, 32), None, "gradcam").shape == (1, 32, 32)


class _NoPlaces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.hidden(images.mean((2, 3)))

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return maps if pre_logits else self.head(maps)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.forward_features(images))


def test_a_network_without_places_is_refused_in_words() -> None:
    classifier = make_classifier(_NoPlaces(), "resnet18", 32, gradcam={"layer": "hidden"})
    with pytest.raises(ModelError, match="no height and width"):
        cam.heatmaps(classifier, crops_of(32))
    with pytest.raises(ModelError, match="'nowhere'"):
        cam.heatmaps(classifier, crops_of(32), layer="nowhere")
    # The architecture's own entry looks for a layer that this network lacks.
    with pytest.raises(ModelError, match="no layer"):
        cam.heatmaps(make_classifier(_NoPlaces(), "resnet18", 32), crops_of(32))


def test_wrong_questions_are_refused(default: Classifier) -> None:
    crops = crops_of(128, 2)
    with pytest.raises(ArgumentError, match="did you mean layercam"):
        cam.heatmaps(default, crops, method="layercm")
    with pytest.raises(ArgumentError, match="one class each"):
        cam.heatmaps(default, crops, [1, 2, 3])
    with pytest.raises(ArgumentError, match="basophil"):
        cam.heatmaps(default, crops, 99)
    assert cam.method_named("Grad-CAM++") == cam.method_named("GradCAMPlusPlus") == "gradcam++"


class _Corner(nn.Module):
    """Sees the upper left quarter alone: the first class is how red that is."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 4, 4)
        with torch.no_grad():
            self.maps.weight.zero_()
            self.maps.bias.zero_()
            self.maps.weight[0, 0] = 1 / 16
            self.maps.weight[1, 2] = 1 / 16

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.maps(images).relu()
        seen = torch.zeros_like(maps)
        seen[..., : maps.shape[2] // 2, : maps.shape[3] // 2] = 1
        return maps * seen

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        vectors = maps.sum((2, 3))
        return vectors if pre_logits else self.get_classifier()(vectors)

    def get_classifier(self) -> nn.Module:
        return nn.ZeroPad1d((0, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


@pytest.mark.parametrize("method", ["hirescam", "layercam"])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_planted_evidence_is_where_it_was_planted(corner: tuple[int, int], method: str) -> None:
    """Red everywhere, but the network sees one quarter: that quarter lights, whichever it is."""
    crops = np.zeros((1, 64, 64, 3), np.uint8)
    crops[..., 0] = 255
    turn = 2 * corner[0] if corner[0] == corner[1] else (1 if corner == (1, 0) else 3)
    net = _Turned(turn)
    maps = cam.heatmaps(make_classifier(net, "resnet18", 64, gradcam={"layer": "net.maps"}), crops, 0, method)
    quarters = maps[0].reshape(2, 32, 2, 32).sum((1, 3))
    assert quarters[corner] > 0.9 * quarters.sum()
    none = cam.heatmaps(make_classifier(net, "resnet18", 64, gradcam={"layer": "net.maps"}), crops, 1, method)
    assert not none.any(), "nothing speaks for blue"


class _Turned(nn.Module):
    """`_Corner` whose seen quarter is another one, with the maps in the image's own frame."""

    def __init__(self, turn: int) -> None:
        super().__init__()
        self.net, self.turn = _Corner(), turn

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.net.maps(images).relu()
        seen = torch.zeros_like(maps)
        seen[..., : maps.shape[2] // 2, : maps.shape[3] // 2] = 1
        return maps * seen.rot90(self.turn, (2, 3))

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return self.net.forward_head(maps, pre_logits)

    def get_classifier(self) -> nn.Module:
        return self.net.get_classifier()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


def test_both_branches_of_cadbcnn_are_in_its_maps() -> None:
    classifier = family("cadbcnn_dual")
    seen = CamNetwork(classifier.net, ["last_map"]).read(torch.zeros(1, 3, 64, 64), None, False)
    width = seen.activations[0].shape[1]
    assert width == 1024
    for branch in ("resnet18", "resnet34"):
        blinded = copy.deepcopy(classifier.net)
        for parameter in getattr(blinded, branch).parameters():
            parameter.data.zero_()
        other = make_classifier(blinded, "cadbcnn_dual", 64)
        crops = crops_of(64)
        assert np.abs(cam.heatmaps(classifier, crops, 0) - cam.heatmaps(other, crops, 0)).max() > 0.01


def test_maps_lie_where_the_crops_were_cut() -> None:
    """A crop is cut by the product's function and put back: its bright spot is where it was on the smear."""
    rule = CropRule(side_um=20.0, side_px=64)
    for um_per_px in (0.08, 0.1537, 0.45):
        smear = np.zeros((400, 500), np.uint8)
        spot = (180, 260)
        smear[spot[0] - 3 : spot[0] + 4, spot[1] - 3 : spot[1] + 4] = 255
        cells = pd.DataFrame(
            {"cell_id": [7], "bbox_y0": [150], "bbox_x0": [230], "bbox_y1": [200], "bbox_x1": [280]}
        )
        (window,) = cam.cell_windows(cells, um_per_px, rule)
        crop = cut_window(smear, (window.y, window.x), um_per_px, rule, [0.0])
        placed = cam.compose(smear.shape, crop[None] / 255, [window])
        y, x = np.average(np.indices(smear.shape).reshape(2, -1), axis=1, weights=placed.ravel())
        assert abs(y - spot[0]) < 0.5 and abs(x - spot[1]) < 0.5
        assert placed.dtype == np.float32 and placed.max() > 0.3


def test_overlaps_and_masks() -> None:
    maps = np.stack([np.full((8, 8), 0.25), np.full((8, 8), 0.75)]).astype(np.float32)
    windows = [cam.Window(9.5, 9.5, 20, 1), cam.Window(9.5, 19.5, 20, 2)]
    labels = np.zeros((20, 40), np.int32)
    labels[5:10, 5:18], labels[5:10, 18:25] = 1, 2
    largest = cam.compose((20, 40), maps, windows)
    mean = cam.compose((20, 40), maps, windows, how="mean")
    assert largest[10, 3] == 0.25 and largest[10, 15] == 0.75 and largest[10, 35] == 0
    assert mean[10, 3] == 0.25 and mean[10, 15] == 0.5 and mean[10, 25] == 0.75
    own = cam.compose((20, 40), maps, windows, labels)
    assert own[7, 15] == 0.25 and own[7, 20] == 0.75 and own[15, 15] == 0
    within = cam.compose((20, 40), maps, windows, labels > 0)
    assert within[7, 15] == 0.75 and within[15, 15] == 0
    with pytest.raises(LeukoclsError):
        cam.compose((20, 40), maps, windows, how="sum")


@settings(max_examples=50, deadline=None)
@given(st.floats(-50, 150), st.floats(-50, 150), st.floats(1, 300), st.sampled_from(["max", "mean"]))
def test_windows_may_lie_anywhere(y: float, x: float, side: float, how: str) -> None:
    maps = np.ones((1, 16, 16), np.float32)
    placed = cam.compose((60, 90), maps, [cam.Window(y, x, side)], how=how)
    assert placed.shape == (60, 90) and set(np.unique(placed)) <= {0, 1}
    inside = sum(abs(row - y) <= side / 2 for row in range(60)) * sum(
        abs(column - x) <= side / 2 for column in range(90)
    )
    assert placed.sum() == inside
