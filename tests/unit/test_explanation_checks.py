"""The checks of heatmaps tell those that show what a model looks at from those that do not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from cards import card_values
from torch import nn

from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.explanation import badge, cam, checks, perturbation, randomisation, trust
from napari_leukocls.models.card import ModelCard, make_card, read_card
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain

SIDE = 32


class _Patch(nn.Module):
    """The first class is how dark the middle of the upper left quarter is, the second the rest."""

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        dark = 1 - maps[:, :, 4:14, 4:14].mean((1, 2, 3))
        vectors = torch.stack([12 * dark - 4, torch.zeros_like(dark)], 1)
        return vectors

    def get_classifier(self) -> nn.Module:
        return nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


@pytest.fixture(scope="module")
def patch() -> Classifier:
    card = ModelCard(
        name="patch",
        architecture="resnet18",
        classes=["dark", "light"],
        input_size=(SIDE, SIDE),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        crop={"side_um": 20.0, "side_px": SIDE},
    )
    return Classifier(card, _Patch().eval(), {}, "", "cpu")


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops with a dark patch where the network looks, true maps, and maps that point elsewhere."""
    random = np.random.default_rng(0)
    crops = random.integers(200, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
    crops[:, 4:14, 4:14] = random.integers(0, 60, (12, 10, 10, 3))
    true = np.zeros((12, SIDE, SIDE), np.float32)
    true[:, 4:14, 4:14] = 1
    return crops, true, true[:, ::-1, ::-1].copy()


def test_true_maps_pass_and_maps_that_point_elsewhere_do_not(patch: Any, planted: Any) -> None:
    crops, true, elsewhere = planted
    targets = np.zeros(len(crops), int)
    masks = true > 0
    good, per_cell = drain(checks.iter_check_cells(patch, crops, true, targets, masks))
    bad, _ = drain(checks.iter_check_cells(patch, crops, elsewhere, targets, masks))
    assert good["deletion"]["passed"] and good["insertion"]["passed"]
    assert good["occlusion"]["mean_colour"]["passed"]
    assert not bad["deletion"]["passed"] and not bad["insertion"]["passed"]
    assert not bad["occlusion"]["mean_colour"]["passed"]
    assert good["energy_in_cell"]["mean"] == 1 and bad["energy_in_cell"]["mean"] == 0
    assert good["deletion"]["auc"] < bad["deletion"]["auc"]
    assert all(len(values) == len(crops) and np.isfinite(values).all() for values in per_cell.values())


def test_where_random_regions_do_nothing_the_difference_decides() -> None:
    found = perturbation.Occlusion(np.full(8, 0.5) + np.arange(8) / 100, np.zeros((8, 10)))
    figures = checks.occlusion_figures(found)
    assert figures["ratio"] is None and figures["passed"] and figures["difference_ci95"][0] > 0.4
    nothing = checks.occlusion_figures(perturbation.Occlusion(np.zeros(8), np.zeros((8, 10))))
    assert nothing["ratio"] is None and not nothing["passed"]
    better = checks.occlusion_figures(perturbation.Occlusion(np.full(8, 0.6), np.full((8, 10), 0.2)))
    assert better["ratio"] == pytest.approx(3) and better["passed"]


def test_an_effect_of_float_noise_passes_no_check() -> None:
    noise = checks.occlusion_figures(perturbation.Occlusion(np.full(8, 2e-8), np.zeros((8, 10))))
    assert noise["difference_ci95"][0] > 0 and not noise["passed"]
    small = checks.occlusion_figures(perturbation.Occlusion(np.full(8, 0.004), np.full((8, 10), 0.002)))
    assert small["ratio"] == pytest.approx(2) and not small["passed"]
    gain = checks.auc_figures(np.full(8, 0.5), np.full(8, 0.5 + 1e-7), lower_is_better=True)
    assert gain["gain_ci95"][0] > 0 and not gain["passed"]


def test_an_untrained_network_fails_the_checks(planted: Any) -> None:
    torch.manual_seed(3)
    card = card_values("raw", architecture="resnet18")
    classifier = Classifier(make_card(card, ""), randomisation.create("resnet18", 3).eval(), {}, "", "cpu")
    crops = planted[0][:6].repeat(2, axis=1).repeat(2, axis=2)
    targets = classifier.predict(crops).probabilities.argmax(axis=1)
    found, _ = drain(checks.check_model(classifier, crops, targets, "gradcam", max_randomised=4))
    assert not found["randomisation"]["passed"] and found["state"] == "failed"
    assert found["randomisation"]["confidence"] < 0.6
    assert abs(found["randomisation"]["confidence"] - found["randomisation"]["whole"]["confidence"]) < 0.2


def test_deletion_goes_from_all_to_nothing_and_insertion_back(patch: Any, planted: Any) -> None:
    crops, true, _ = planted
    targets = np.zeros(len(crops), int)
    deleted = perturbation.deletion_curve(patch, crops, true, targets)
    whole = perturbation.class_probabilities(patch, crops, targets)
    np.testing.assert_allclose(deleted[:, 0], whole, atol=1e-6)
    inserted = perturbation.insertion_curve(patch, crops, true, targets)
    np.testing.assert_allclose(inserted[:, -1], whole, atol=1e-6)
    assert perturbation.area_under(np.ones((2, 13))) == pytest.approx([1, 1])


def test_maps_without_evidence_are_counted_and_left_out(patch: Any, planted: Any) -> None:
    crops, true, _ = planted
    maps = true.copy()
    maps[:5] = 0
    figures, per_cell = drain(checks.iter_check_cells(patch, crops, maps, np.zeros(12, int), maps > 0))
    assert figures["n"] == 7 and figures["n_without_evidence"] == 5
    assert np.isnan(per_cell["deletion_auc"][:5]).all() and np.isnan(per_cell["energy_in_cell"][:5]).all()
    none, _ = drain(checks.iter_check_cells(patch, crops, 0 * maps, np.zeros(12, int)))
    assert none["n"] == 0 and "occlusion" not in none


@pytest.fixture(scope="module")
def default() -> Classifier:
    return load_classifier(find_model("default").path, "cpu")


@pytest.fixture(scope="module")
def cells(default: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Leukocytes of the bundled smears, and their classes."""
    from scripts.check_explanations import synthetic_cells

    crops = np.stack(synthetic_cells(default.card.crop, 6)[0])
    return crops, default.predict(crops).probabilities.argmax(axis=1)


def _edges(classifier: Classifier, crops: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """A broken explainer: it never looks at the model."""
    maps = [np.abs(cv2.Laplacian(cv2.cvtColor(c, cv2.COLOR_RGB2GRAY), cv2.CV_32F)) for c in crops]
    return np.stack([one / one.max() for one in maps])


def test_an_edge_detector_fails_the_randomisation_check(default: Any, cells: Any) -> None:
    found = drain(randomisation.iter_randomisation(default, *cells, _edges, repeats=1))
    assert not found["passed"] and found["whole"]["pearson"] > 0.99 and found["whole"]["ssim"] > 0.99
    assert trust.state_of({"randomisation": found}) == "failed"


def test_the_bundled_classifier_passes_the_randomisation_check(default: Any, cells: Any) -> None:
    before = copy.deepcopy(default.net.state_dict())
    noise = torch.get_rng_state()
    found = drain(
        randomisation.iter_randomisation(default, *cells, lambda k, c, t: cam.heatmaps(k, c, t), repeats=1)
    )
    assert found["passed"] and found["whole"]["pearson"] < 0.5
    assert found["cascade"][0]["stages"] == 1 and len(found["cascade"]) == len(randomisation.stages(default))
    after = default.net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(noise, torch.get_rng_state())


def test_similarity_of_maps() -> None:
    random = np.random.default_rng(0)
    maps = random.random((3, 16, 16)).astype(np.float32)
    r, ssim = randomisation.similarity(maps, maps)
    assert r == pytest.approx([1] * 3) and ssim == pytest.approx([1] * 3)
    assert randomisation.similarity(maps, 1 - maps)[0] == pytest.approx([-1] * 3)
    assert randomisation.similarity(maps, np.zeros_like(maps))[0].tolist() == [0] * 3


def _found(**changes: Any) -> dict[str, Any]:
    passed = {"passed": True, "auc": 0.2, "random_auc": 0.5}
    occlusion = {"passed": True, "ratio": 4.0, "difference_ci95": [0.1, 0.2]}
    return {
        "n": 64,
        "randomisation": {"passed": True, "limit": 0.5, "whole": {"pearson": 0.2, "ssim": 0.2}},
        "occlusion": {"black": occlusion},
        "deletion": passed,
        "insertion": passed,
        "energy_in_cell": {"mean": 0.7},
        **changes,
    }


def test_the_badge_says_what_the_card_holds() -> None:
    def card(**more: Any) -> ModelCard:
        return make_card(card_values("mine", weights_sha256="a", gradcam={"method": "hirescam"}, **more), "")

    assert badge(card())[0] == "unchecked"

    def word(found: dict[str, Any], weights: str = "a", method: str = "hirescam") -> str:
        kept = {"weights_sha256": weights, "methods": {method: found}}
        return badge(card(explanation_checks=kept))[0]

    assert word(_found()) == "trusted"
    assert word(_found(), weights="b") == "unchecked", "checks of other weights"
    assert word(_found(), method="gradcam") == "unchecked", "checks of another method"
    assert word(_found(insertion={"passed": False, "auc": 0.5, "random_auc": 0.5})) == "weak"
    assert word(_found(randomisation={"passed": False, "limit": 0.5, "whole": {"pearson": 0.9}})) == "failed"
    kept = {"weights_sha256": "a", "methods": {"hirescam": _found()}}
    figures = badge(card(explanation_checks=kept))[1]
    assert "|r| 0.20" in figures and "4.0x" in figures and "70 %" in figures and "n = 64" in figures


def test_bundled_classifiers_carry_their_checks() -> None:
    state, figures = badge(read_card(find_model("default").path))
    if state == "unchecked":
        pytest.skip("needs checks of these weights: python -m scripts.check_explanations models/default ...")
    assert state == "trusted", figures


def test_badges_need_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from napari_leukocls.explanation import badge; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
