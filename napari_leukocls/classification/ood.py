"""How unlike the training data a cell is: fitted when a model is trained, stored in its weights.

The score is the sum of what several views of a network say, each on the scale of held-back training cells (0 is their
median, 1 their 95th percentile). A model has those parts whose scale it stores:

- energy: the free energy of the logits [2]_;
- residual: which share of the features lies outside the principal directions of the training features, as a sine
  (the virtual logit of [3]_ without its unit);
- stage: the cosine distance to the nearest of a set of training cells (k nearest neighbours [1]_) in the channel means
  of an earlier stage of the network, where cells are not yet pressed into the known classes;
- distance: the same in the features, in the place of residual and stage where there are few training cells or narrow
  features: their principal directions hold every cell. Models that were made before have energy and distance.

With few crops two things change. The number of the neighbour depends on the smallest class: the fifth nearest cell
of a class of four is a cell of another class, and every known cell would get a high score. And a few held-back cells
give no reliable scale: training cells, each compared with the others, are added to them.

References
----------
.. [1] Sun, Y. et al. (2022). Out-of-distribution detection with deep nearest neighbors. ICML.
.. [2] Liu, W. et al. (2020). Energy-based out-of-distribution detection. NeurIPS.
.. [3] Wang, H. et al. (2022). ViM: Out-of-distribution with virtual-logit matching. CVPR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_leukocls.models.card_parts import Softening

#: Training cells kept for the neighbour search, per class.
KEPT_PER_CLASS = 180
#: Principal directions kept.
DIRECTIONS = 64
#: Number of the neighbour whose distance counts, if all classes are large enough; also of models that do not state it.
NEIGHBOUR = 5
#: With fewer held-back cells than this, training cells are added when the scale is set.
FEW_HELD_BACK = 50
#: How many times as many training cells and features as principal directions there are, for the residual to mean much.
PLENTY = 4
_DISTANCE = "cosine distance to the 5th nearest of the training cells (fewer in small classes)"
#: The parts in words.
WORDS = {
    "energy": "free energy",
    "residual": "share of the features outside the principal directions of the training cells",
    "stage": f"{_DISTANCE} in an earlier stage",
    "distance": _DISTANCE,
}


def method(tensors: dict[str, np.ndarray]) -> str:
    """Say in words what a score is the sum of.

    Parameters
    ----------
    tensors : dict of numpy.ndarray
        From `fit`.

    Returns
    -------
    str
    """
    return " + ".join(words for name, words in WORDS.items() if f"{name}_scale" in tensors)


def features_and_logits(net: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the features that the last layer takes, and the logits.

    The networks of timm give both. Of others, the features are the input of the last layer whose output has as many
    values as the logits; a map is averaged over its pixels.

    Parameters
    ----------
    net : torch.nn.Module
    batch : torch.Tensor, (N, 3, h, w)

    Returns
    -------
    features : torch.Tensor, (N, D)
    logits : torch.Tensor, (N, C)
    """
    if _has_parts(net, batch):
        features = net.forward_head(net.forward_features(batch), pre_logits=True)  # type: ignore[operator]
        return features, net.get_classifier()(features)  # type: ignore[operator]
    return _watched(net, batch)


def _has_parts(net: nn.Module, batch: torch.Tensor) -> bool:
    """Whether features and head, one after the other, give what the network gives; tried once for each network."""
    known = net.__dict__.get("_has_parts")
    if known is None:
        asked = all(hasattr(net, name) for name in ("forward_features", "forward_head", "get_classifier"))
        known = asked and _agree(net, batch[:1])
        net.__dict__["_has_parts"] = known
    return known


def _agree(net: nn.Module, batch: torch.Tensor) -> bool:
    head = net.get_classifier()  # type: ignore[operator]
    if not callable(head):
        return False
    features = net.forward_head(net.forward_features(batch), pre_logits=True)  # type: ignore[operator]
    whole = net(batch)
    parts = head(features) if features.ndim == 2 else features
    return parts.shape == whole.shape and bool(((parts - whole).abs() <= 1e-3 * (1 + whole.abs())).all())


def _watched(net: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a network and note what goes into its last layer."""
    recorded: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if inputs and hasattr(output, "flatten") and len(output) == len(batch) and hasattr(module, "weight"):
            recorded.append((inputs[0], output))

    leaves = [module for module in net.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    try:
        logits = net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    size = logits[0].numel()
    fitting = (given for given, output in reversed(recorded) if output[0].numel() == size)
    features = next(fitting, logits)
    return features.flatten(2).mean(2) if features.ndim > 2 else features, logits


def _space(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and principal directions (D, k) of training cells."""
    centre = values.mean(axis=0)
    _, _, axes = np.linalg.svd(values - centre, full_matrices=False)
    return centre, axes[:DIRECTIONS].T


def _unit(projected: np.ndarray) -> np.ndarray:
    array: np.ndarray = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)
    return array


def _distance(projected: np.ndarray, kept: np.ndarray, neighbour: int) -> np.ndarray:
    """Cosine distance (N,) to the k-th nearest of the kept training cells."""
    return _nearest(_unit(projected) @ kept.T, neighbour)


def _neighbour(tensors: dict[str, np.ndarray]) -> int:
    return int(tensors["neighbour"][0]) if "neighbour" in tensors else NEIGHBOUR


def _nearest(similarity: np.ndarray, neighbour: int) -> np.ndarray:
    rank = similarity.shape[1] - min(neighbour, similarity.shape[1])
    return 1 - np.partition(similarity, rank, axis=1)[:, rank]


def _among_themselves(kept: np.ndarray, neighbour: int) -> np.ndarray:
    """Distance (K,) of each kept training cell to the others."""
    similarity = kept @ kept.T
    others = ~np.eye(len(similarity), dtype=bool)
    return _nearest(similarity[others].reshape(len(similarity), -1), neighbour)


def fit(
    features: np.ndarray,
    logits: np.ndarray,
    classes: np.ndarray,
    held_back: tuple[np.ndarray, ...],
    stage: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Fit the score on training cells and put it on the scale of cells that were held back from training.

    Parameters
    ----------
    features : numpy.ndarray, (N, D)
        Of training cells.
    logits : numpy.ndarray, (N, C)
        Of the same cells.
    classes : numpy.ndarray, (N,), int
        True class of each.
    held_back : tuple of numpy.ndarray
        Features (M, D) and logits (M, C) of validation cells, and their `stage` if there is one.
    stage : numpy.ndarray, (N, E), optional
        Channel means of an earlier stage, of the same cells.

    Returns
    -------
    dict of numpy.ndarray
        Stored as ``ood.*`` in the weights.
    """
    kept = [np.flatnonzero(classes == k)[:KEPT_PER_CLASS] for k in np.unique(classes)]
    rows = np.concatenate(kept)
    neighbour = int(np.clip(min(len(one) for one in kept) // 2, 1, NEIGHBOUR))
    tensors = {"neighbour": np.array([neighbour])}
    tensors["centre"], tensors["directions"] = _space(features)
    plenty = min(features.shape) >= PLENTY * DIRECTIONS
    if plenty and stage is not None and stage.shape[1]:
        tensors["stage_centre"], tensors["stage_directions"] = _space(stage)
        tensors["stage_kept"] = _unit((stage[rows] - tensors["stage_centre"]) @ tensors["stage_directions"])
    if not plenty:
        tensors["kept"] = _unit((features[rows] - tensors["centre"]) @ tensors["directions"])
    names = ["energy", "residual" if plenty else "distance", *(["stage"] if "stage_kept" in tensors else [])]
    scale = {name: _part(name, *held_back, tensors=tensors) for name in names}
    if len(held_back[0]) < FEW_HELD_BACK and len(rows) > 1:
        known = features[rows], logits[rows]
        for name, stored in (("distance", "kept"), ("stage", "stage_kept")):
            if name in scale:
                scale[name] = np.append(scale[name], _among_themselves(tensors[stored], neighbour))
        for name in scale.keys() & {"energy", "residual"}:
            scale[name] = np.append(scale[name], _part(name, *known, tensors=tensors))
    for name, values in scale.items():
        low, high = np.quantile(values, [0.5, 0.95])
        tensors[f"{name}_scale"] = np.array([low, max(high - low, 1e-6)])
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}


def _part(
    name: str,
    features: np.ndarray,
    logits: np.ndarray,
    stage: np.ndarray | None = None,
    *,
    tensors: dict[str, np.ndarray],
) -> np.ndarray:
    """One part of the score, not yet scaled."""
    if name == "energy":
        array: np.ndarray = -logsumexp(logits, axis=1)
        return array
    if name == "stage":
        if stage is None or stage.shape[1] != len(tensors["stage_centre"]):
            raise ModelError(
                "the card does not name the layer that the model's score of unknown cells needs."
            )
        projected = (stage - tensors["stage_centre"]) @ tensors["stage_directions"]
        return _distance(projected, tensors["stage_kept"], _neighbour(tensors))
    centred = features - tensors["centre"]
    projected = centred @ tensors["directions"]
    if name == "distance":
        return _distance(projected, tensors["kept"], _neighbour(tensors))
    whole = np.maximum((centred**2).sum(axis=1), 1e-12)
    outside: np.ndarray = np.sqrt(np.clip(1 - (projected**2).sum(axis=1) / whole, 0, 1))
    return outside


def score(
    features: np.ndarray,
    logits: np.ndarray,
    tensors: dict[str, np.ndarray],
    stage: np.ndarray | None = None,
) -> np.ndarray:
    """Score cells; larger is less like the training data.

    Parameters
    ----------
    features : numpy.ndarray, (N, D)
    logits : numpy.ndarray, (N, C)
        Before temperature.
    tensors : dict of numpy.ndarray
        From `fit`; if the model has none, the score is minus the largest probability.
    stage : numpy.ndarray, (N, E), optional
        Channel means of the layer that the card names at ``ood.layer``.

    Returns
    -------
    numpy.ndarray, (N,)

    Raises
    ------
    ModelError
        If the score was fitted with an earlier stage and `stage` is not given.
    """
    if len(logits) == 0:
        return np.zeros(0)
    names = [name for name in WORDS if f"{name}_scale" in tensors]
    if not names:
        array: np.ndarray = -np.exp(logits.max(axis=1) - logsumexp(logits, axis=1))
        return array
    total = np.zeros(len(logits))
    for name in names:
        low, width = tensors[f"{name}_scale"]
        total += (_part(name, features, logits, stage, tensors=tensors) - low) / width
    return total


def softening_factor(score: np.ndarray, softening: Softening | None) -> np.ndarray:
    """Return what the temperature of each cell is multiplied with.

    A network is too sure of cells that are unlike its training cells. So their probabilities are made softer: the
    factor is 1 up to the score `start`, `most` from the score `end` on, and on a straight line between.

    Parameters
    ----------
    score : numpy.ndarray, (N,)
        As `score` returns it.
    softening : Softening or None
        Of the card; None leaves the temperature alone.

    Returns
    -------
    numpy.ndarray, (N,)
    """
    if softening is None:
        return np.ones(len(score))
    array: np.ndarray = np.interp(score, [softening.start, softening.end], [1.0, softening.most])
    return array
