"""The randomisation check: heatmaps must differ from those of the same model with random weights.

References
----------
Adebayo et al. (2018). Sanity checks for saliency maps. NeurIPS.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import nn

from napari_leukocls.architectures.introspection import unfreezing_stages
from napari_leukocls.architectures.registry import create, entry
from napari_leukocls.classification.classifier import Classifier as Made
from napari_leukocls.errors import ArgumentError
from napari_leukocls.explanation.perturbation import class_probabilities
from napari_leukocls.explanation.trust import CONFIDENCE_FLOOR, RANDOMISATION_LIMIT
from napari_leukocls.progress import Progress, Steps

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier

#: From a classifier, crops (N, h, w, 3) and classes (N,) to maps (N, h, w).
Explainer = Callable[["Classifier", np.ndarray, np.ndarray], np.ndarray]
#: Networks that are random as a whole, with whose maps the model's are compared.
REPEATS = 3
#: Crops on which the batch normalisation statistics of a random network are measured.
MEASURED = 64


def fresh_network(classifier: Classifier, seed: int) -> nn.Module:
    """Build the classifier's architecture with new random weights.

    Parameters
    ----------
    classifier : Classifier
    seed : int

    Returns
    -------
    torch.nn.Module
    """
    card = classifier.card
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create(card.architecture, len(card.classes), **card.arguments).eval()


def stages(classifier: Classifier) -> list[list[str]]:
    """Names of the parameters of each stage, from the head to the stem.

    Parameters
    ----------
    classifier : Classifier

    Returns
    -------
    list of list of str
    """
    return unfreezing_stages(entry(classifier.card.architecture), classifier.net)


def randomised(classifier: Classifier, names: Sequence[str], crops: np.ndarray, seed: int) -> Classifier:
    """Copy a classifier with some of its parameters drawn anew.

    Batch normalisations with new parameters measure their statistics again on `crops`: with the old statistics,
    the activations of a deep random network would vanish.

    Parameters
    ----------
    classifier : Classifier
        It is not changed.
    names : sequence of str
        Parameters that are drawn anew.
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    seed : int

    Returns
    -------
    Classifier
    """
    net, fresh = copy.deepcopy(classifier.net), fresh_network(classifier, seed)
    own, other = dict(net.named_parameters()), dict(fresh.named_parameters())
    with torch.no_grad():
        for name in names:
            own[name].copy_(other[name])
    measured = [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{name}.weight" in set(names)
    ]
    for module in measured:
        module.reset_running_stats()
        module.momentum = None
        module.train()
    if measured:
        with torch.no_grad():
            net(classifier.tensor(crops[:MEASURED]))
    return Made(classifier.card, net.eval(), {}, "", classifier.device)


def similarity(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pearson correlation and structural similarity of maps.

    Parameters
    ----------
    first, second : numpy.ndarray, (N, h, w)
        0 to 1.

    Returns
    -------
    pearson, ssim : numpy.ndarray, (N,)
        The correlation with a constant map is 0.
    """
    a = first.reshape(len(first), -1).astype(np.float64)
    b = second.reshape(len(second), -1).astype(np.float64)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    pearson = np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 1e-9)
    measure: Callable[..., float] = structural_similarity
    ssim = [measure(x, y, data_range=1.0) for x, y in zip(first, second, strict=True)]
    return pearson, np.array(ssim)


def iter_randomisation(
    classifier: Classifier,
    crops: np.ndarray,
    targets: np.ndarray,
    explain: Explainer,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Steps[dict[str, Any]]:
    """Compare a model's maps with those of the same model with random weights.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    targets : numpy.ndarray, (N,), int
        Column of the class that is explained, the same for every network.
    explain : callable
        Draws the maps.
    repeats : int
        Networks that are random as a whole.
    seed : int

    Yields
    ------
    Progress

    Returns
    -------
    dict
        ``whole`` and ``cascade`` with mean |r| (``pearson``), mean SSIM and the mean probability of the class
        (``confidence``), the model's own ``confidence``, ``limit``, ``passed``: the mean |r| is below the limit for
        networks that are random as a whole, and on average over the cascade of stages; and the model is surer of the
        class than the random networks by `CONFIDENCE_FLOOR`.

    Raises
    ------
    ArgumentError
        If there are no crops.
    """
    if len(crops) == 0:
        raise ArgumentError("the randomisation check needs crops.")
    groups = stages(classifier)
    total = 1 + repeats + len(groups)
    yield Progress("check", 0, total)
    own = explain(classifier, crops, targets)
    everything = [name for group in groups for name in group]
    whole = []
    for repeat in range(repeats):
        yield Progress("check", 1 + repeat, total)
        whole.append(_similarity_to(classifier, own, crops, targets, explain, everything, seed + repeat))
    cascade: list[dict[str, Any]] = []
    for depth in range(1, len(groups) + 1):
        yield Progress("check", repeats + depth, total)
        names = [name for group in groups[:depth] for name in group]
        found = _similarity_to(classifier, own, crops, targets, explain, names, seed)
        cascade.append({"stages": depth, "down_to": _stage_name(groups[depth - 1]), **found})
    means = {name: float(np.mean([found[name] for found in whole])) for name in whole[0]}
    in_cascade = float(np.mean([step["pearson"] for step in cascade]))
    confidence = float(class_probabilities(classifier, crops, targets).mean())
    differ = max(means["pearson"], in_cascade) < RANDOMISATION_LIMIT
    return {
        "whole": {**means, "repeats": repeats},
        "cascade": cascade,
        "limit": RANDOMISATION_LIMIT,
        "confidence": confidence,
        "confidence_floor": CONFIDENCE_FLOOR,
        "passed": differ and confidence - means["confidence"] >= CONFIDENCE_FLOOR,
    }


def _similarity_to(
    classifier: Classifier,
    own: np.ndarray,
    crops: np.ndarray,
    targets: np.ndarray,
    explain: Explainer,
    names: Sequence[str],
    seed: int,
) -> dict[str, float]:
    other = randomised(classifier, names, crops, seed)
    pearson, ssim = similarity(own, explain(other, crops, targets))
    return {
        "pearson": float(np.abs(pearson).mean()),
        "ssim": float(ssim.mean()),
        "confidence": float(class_probabilities(other, crops, targets).mean()),
    }


def _stage_name(names: Sequence[str]) -> str:
    """Common part of the names of a stage's parameters: the name of a part of the network."""
    parts = [name.split(".")[:-1] for name in names]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common) or names[0].split(".")[0]
