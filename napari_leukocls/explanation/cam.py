"""Heatmaps of crops; `compose` puts them back on the smear."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.explanation.placing import Window, cell_windows, compose
from napari_leukocls.explanation.trust import own_method
from napari_leukocls.types import Steps, finish

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_leukocls.classification.card import ModelCard
    from napari_leukocls.classification.predict import Classifier
    from napari_leukocls.explanation.network import CamNetwork

__all__ = [
    "METHODS",
    "SLOW",
    "Window",
    "cell_windows",
    "compose",
    "default_method",
    "heatmaps",
    "iter_heatmaps",
    "method_named",
    "reader",
    "target_layers",
]

log = logging.getLogger(__name__)
METHODS = ("gradcam", "gradcam++", "layercam", "hirescam", "eigencam", "scorecam")
#: Methods that take seconds a cell.
SLOW = ("scorecam",)
_READERS: WeakKeyDictionary[Classifier, dict[tuple[Any, str], CamNetwork]] = WeakKeyDictionary()


def method_named(name: str) -> str:
    """Return the one of `METHODS` that is meant ("Grad-CAM" is ``gradcam``).

    Raises
    ------
    ArgumentError
    """
    short = name.lower().replace("-", "").replace("_", "").replace(" ", "").replace("plusplus", "++")
    if short in METHODS:
        return short
    near = difflib.get_close_matches(short, METHODS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}."
    raise ArgumentError(f"there is no heatmap method '{name}'; {hint}")


def default_method(card: ModelCard) -> str:
    """Return the method that a model's card asks for, else Grad-CAM."""
    return own_method(card.model_extra or {})


def target_layers(
    card: ModelCard, net: nn.Module, layer: str | Sequence[str] | None = None
) -> tuple[list[str], Callable[[torch.Tensor], torch.Tensor] | None]:
    """Find the layers that heatmaps are made of: those asked for, the card's, else the architecture's.

    Parameters
    ----------
    card : ModelCard
        May hold ``gradcam: {layer, reshape, method}``; `layer` is a name or several.
    net : torch.nn.Module
        Of that card.
    layer : str or sequence of str, optional
        Dotted names.

    Returns
    -------
    names : list of str
    reshape : callable or None
        From a layer's output to (N, C, h, w).

    Raises
    ------
    ModelError
        Where no layer is named, or the network has none of that name.
    """
    from napari_leukocls.architectures.anatomy import cam_layer, cam_reshape
    from napari_leukocls.architectures.registry import entry

    known = entry(card.architecture)
    said: dict[str, Any] = (card.model_extra or {}).get("gradcam") or {}
    wanted = layer or said.get("layer")
    if wanted:
        reshape = "auto" if layer else said.get("reshape") or "auto"
        found = [wanted] if isinstance(wanted, str) else list(wanted)
        places = {name for name, _ in net.named_modules()}
        missing = [name for name in found if name not in places]
        if missing:
            raise ModelError(
                f"{card.name} has no layer '{missing[0]}' to make heatmaps of: name one that it has."
            )
        return found, cam_reshape(replace(known, cam_reshape=reshape))
    names = {module: name for name, module in net.named_modules()}
    try:
        return [names[cam_layer(known, net)]], cam_reshape(known)
    except (ModelError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"{card.architecture} has no layer with places that could be found, so that heatmaps cannot be "
            "drawn: name one in the model's card under gradcam."
        ) from error


def reader(
    classifier: Classifier, layer: str | Sequence[str] | None = None, device: str | None = None
) -> CamNetwork:
    """Return the copy of a classifier's network that heatmaps are read from; made once, then kept."""
    from napari_leukocls.explanation.network import CamNetwork

    place = device or classifier.device
    kept = _READERS.setdefault(classifier, {})
    key = (layer if isinstance(layer, str) else tuple(layer or ()), place)
    if key not in kept:
        names, reshape = target_layers(classifier.card, classifier.net, layer)
        kept[key] = CamNetwork(classifier.net, names, reshape, place)
    return kept[key]


def iter_heatmaps(
    classifier: Classifier,
    crops: np.ndarray,
    targets: int | Sequence[int] | np.ndarray | None = None,
    method: str | None = None,
    batch_size: int = 32,
    layer: str | Sequence[str] | None = None,
    warn: Callable[[str], None] = log.warning,
) -> Steps[np.ndarray]:
    """Draw heatmaps, batch by batch.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
        Cut by the card's rule.
    targets : int or array of int, (N,), optional
        Place of the class in question among the classifier's; by default each crop's best class.
    method : str, optional
        One of `METHODS`; by default the card's own.
    batch_size : int
    layer : str or sequence of str, optional
        Dotted names of other layers than the card's; the maps of several are averaged.
    warn : callable
        Told in one line where memory ran out.

    Yields
    ------
    tuple of int
        Crops done, and how many there are.

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px), float32
        0 to 1; all nought where nothing speaks for the class.

    Raises
    ------
    ArgumentError
        For a method or a class that there is not.
    ModelError
        Where the model has no layer with places.
    """
    from napari_leukocls.compute import with_less_memory

    named = default_method(classifier.card) if method is None else method_named(method)
    chosen = _targets(classifier, len(crops), targets)
    done: list[np.ndarray] = []
    start, size, device = 0, batch_size, classifier.device

    def work(size: int, device: str) -> tuple[np.ndarray, int, str]:
        part = slice(start, start + size)
        source = reader(classifier, layer, device)
        images = classifier.tensor(crops[part])
        return source.maps(images, None if chosen is None else chosen[part], named), size, device

    while start < len(crops):
        yield start, len(crops)
        maps, size, device = with_less_memory(work, size, device, warn)
        done.append(maps)
        start += len(maps)
    side = classifier.card.crop.side_px
    return np.concatenate(done) if done else np.zeros((0, side, side), np.float32)


def heatmaps(
    classifier: Classifier,
    crops: np.ndarray,
    targets: int | Sequence[int] | np.ndarray | None = None,
    method: str | None = None,
    batch_size: int = 32,
    layer: str | Sequence[str] | None = None,
) -> np.ndarray:
    """Do what `iter_heatmaps` does, in one go."""
    return finish(iter_heatmaps(classifier, crops, targets, method, batch_size, layer))


def _targets(
    classifier: Classifier, count: int, targets: int | Sequence[int] | np.ndarray | None
) -> np.ndarray | None:
    if targets is None:
        return None
    given = np.asarray(targets)
    if given.ndim == 0:
        given = np.full(count, given)
    if given.shape != (count,) or not np.issubdtype(given.dtype, np.integer):
        raise ArgumentError(f"heatmaps of {count} crops need one class each, as whole numbers.")
    if count and (given.min() < 0 or given.max() >= len(classifier.classes)):
        raise ArgumentError(
            f"classes are numbered 0 to {len(classifier.classes) - 1} in {classifier.card.name}: "
            f"{', '.join(classifier.classes)}."
        )
    return given
