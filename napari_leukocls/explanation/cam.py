"""Heatmaps of crops, and their positions on the smear."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np

from napari_leukocls.architectures.introspection import cam_layer, cam_reshape
from napari_leukocls.architectures.registry import entry
from napari_leukocls.device import with_less_memory
from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.explanation.network import CamNetwork
from napari_leukocls.explanation.trust import METHODS, own_method
from napari_leukocls.models.card_parts import GradCam
from napari_leukocls.progress import Progress, Steps, drain

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn

    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.models.card import ModelCard
    from napari_leukocls.models.crop_rule import CropRule

log = logging.getLogger(__name__)

#: Methods that need seconds for each cell.
SLOW = ("scorecam",)
#: Copies of networks that heatmaps are read from, of each classifier.
_READERS: WeakKeyDictionary[Classifier, dict[tuple[Any, str], CamNetwork]] = WeakKeyDictionary()


def method_named(name: str) -> str:
    """Find the method of `METHODS` for a name as users write it ("Grad-CAM" is ``gradcam``).

    Parameters
    ----------
    name : str

    Returns
    -------
    str

    Raises
    ------
    ArgumentError
        If there is no such method.
    """
    short = name.lower().replace("-", "").replace("_", "").replace(" ", "").replace("plusplus", "++")
    if short in METHODS:
        return short
    near = difflib.get_close_matches(short, METHODS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}."
    raise ArgumentError(f"there is no heatmap method '{name}'; {hint}")


def default_method(card: ModelCard) -> str:
    """Return the heatmap method that a model's card names, else Grad-CAM.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    str
    """
    return own_method(card)


def target_layers(
    card: ModelCard, net: nn.Module, layer: str | Sequence[str] | None = None
) -> tuple[list[str], Callable[[torch.Tensor], torch.Tensor] | None]:
    """Find the layers that heatmaps are made from: those that are given, else the card's, else the architecture's.

    Parameters
    ----------
    card : ModelCard
        May hold ``gradcam: {layer, reshape, method}``; `layer` is a name or several.
    net : torch.nn.Module
        Of that card.
    layer : str or sequence of str, optional
        Dotted names of other layers.

    Returns
    -------
    names : list of str
    reshape : callable or None
        From a layer's output to (N, C, h, w).

    Raises
    ------
    ModelError
        If the architecture has no suitable layer, or the network has no layer of the given name.
    """
    known = entry(card.architecture)
    stated = card.gradcam or GradCam()
    wanted = layer or stated.layer
    if wanted:
        reshape = "auto" if layer else stated.reshape or "auto"
        found = [wanted] if isinstance(wanted, str) else list(wanted)
        existing = {name for name, _ in net.named_modules()}
        missing = [name for name in found if name not in existing]
        if missing:
            raise ModelError(f"{card.name} has no layer '{missing[0]}': name one that it has.")
        return found, cam_reshape(replace(known, cam_reshape=reshape))
    names = {module: name for name, module in net.named_modules()}
    try:
        return [names[cam_layer(known, net)]], cam_reshape(known)
    except (ModelError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"no layer of {card.architecture} with a height and width was found, so that heatmaps cannot be "
            "drawn: name one in the model's card under gradcam."
        ) from error


def reader(
    classifier: Classifier, layer: str | Sequence[str] | None = None, device: str | None = None
) -> CamNetwork:
    """Return the copy of a classifier's network that heatmaps are read from; it is made once and kept.

    Parameters
    ----------
    classifier : Classifier
    layer : str or sequence of str, optional
        Dotted names of other layers than the card's.
    device : str, optional
        By default the classifier's.

    Returns
    -------
    CamNetwork

    Raises
    ------
    ModelError
        If the network has no such layer.
    """
    device = device or classifier.device
    kept = _READERS.setdefault(classifier, {})
    key = (layer if isinstance(layer, str) else tuple(layer or ()), device)
    if key not in kept:
        names, reshape = target_layers(classifier.card, classifier.net, layer)
        kept[key] = CamNetwork(classifier.net, names, reshape, device)
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
        Column of the class that is explained; by default each crop's predicted class.
    method : str, optional
        One of `METHODS`; by default the card's own.
    batch_size : int
    layer : str or sequence of str, optional
        Dotted names of other layers than the card's; the maps of several are averaged.
    warn : callable
        Called with one line when memory runs out.

    Yields
    ------
    Progress
        Crops done, and how many there are.

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px), float32
        0 to 1; all zero where there is no evidence for the class.

    Raises
    ------
    ArgumentError
        If the method or a class does not exist.
    ModelError
        If the model has no layer with a height and width.
    """
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
        yield Progress("explain", start, len(crops))
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
    """Do the same as `iter_heatmaps`, without progress.

    Parameters
    ----------
    classifier : Classifier
    crops, targets, method, batch_size, layer
        As for `iter_heatmaps`.

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px), float32
        0 to 1.

    Raises
    ------
    ArgumentError, ModelError
        As `iter_heatmaps`.
    """
    return drain(iter_heatmaps(classifier, crops, targets, method, batch_size, layer))


def _targets(
    classifier: Classifier, count: int, targets: int | Sequence[int] | np.ndarray | None
) -> np.ndarray | None:
    if targets is None:
        return None
    given = np.asarray(targets)
    if given.ndim == 0:
        given = np.full(count, given)
    if given.shape != (count,) or not np.issubdtype(given.dtype, np.integer):
        raise ArgumentError(f"heatmaps of {count} crops need one class each, as integers.")
    if count and (given.min() < 0 or given.max() >= len(classifier.classes)):
        raise ArgumentError(
            f"classes are numbered 0 to {len(classifier.classes) - 1} in {classifier.card.name}: "
            f"{', '.join(classifier.classes)}."
        )
    return given


@dataclass(frozen=True)
class Window:
    """Where a crop was cut from a smear.

    Attributes
    ----------
    y, x : float
        Its centre, pixels of the smear.
    side : float
        Its width and height, pixels of the smear.
    cell_id : int
        Of its cell in the label image; 0 for none.
    """

    y: float
    x: float
    side: float
    cell_id: int = 0


def cell_windows(cells: pd.DataFrame, um_per_px: float, rule: CropRule) -> list[Window]:
    """Find where the crops of cells were cut, from their rows in ``cells.csv``.

    Parameters
    ----------
    cells : pandas.DataFrame
    um_per_px : float
        Of the smear.
    rule : CropRule

    Returns
    -------
    list of Window
    """
    side = rule.side_um / um_per_px
    rows = cells[["cell_id", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]].itertuples(index=False)
    return [Window((y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2, side, int(cell)) for cell, y0, x0, y1, x1 in rows]


def compose(
    shape: tuple[int, int],
    heatmaps: np.ndarray,
    windows: Sequence[Window],
    mask: np.ndarray | None = None,
    how: str = "max",
) -> np.ndarray:
    """Put the heatmaps of cells at the positions of their crops on the smear.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the smear.
    heatmaps : numpy.ndarray, (N, h, w)
    windows : sequence of Window, length N
    mask : numpy.ndarray, (H, W), optional
        A label image limits each map to its own cell; a boolean mask limits all maps.
    how : {"max", "mean"}
        How overlapping maps are combined.

    Returns
    -------
    numpy.ndarray, (H, W), float32
        Zero where there is no map.

    Raises
    ------
    ArgumentError
        If `how` is neither.
    """
    if how not in ("max", "mean"):
        raise ArgumentError(f"overlapping heatmaps are combined by max or mean, not '{how}'.")
    out = np.zeros(shape, np.float32)
    count = np.zeros(shape if how == "mean" else (0, 0), np.uint16)
    for one, window in zip(heatmaps, windows, strict=True):
        step = np.array([window.side / one.shape[0], window.side / one.shape[1]])
        middle = np.array([window.y, window.x])
        low = np.maximum(np.ceil(middle - window.side / 2), 0).astype(int)
        high = np.minimum(np.floor(middle + window.side / 2) + 1, shape).astype(int)
        if (high <= low).any():
            continue
        shift = (np.array(one.shape) - 1) / 2 + (low - middle) / step
        placement = np.array([[1 / step[1], 0, shift[1]], [0, 1 / step[0], shift[0]]])
        size = (int(high[1] - low[1]), int(high[0] - low[0]))
        patch = cv2.warpAffine(
            np.ascontiguousarray(one, np.float32),
            placement,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        here = (slice(low[0], high[0]), slice(low[1], high[1]))
        kept = np.ones(patch.shape, bool)
        if mask is not None:
            kept = mask[here] if mask.dtype == bool else mask[here] == window.cell_id
        if how == "max":
            out[here] = np.where(kept, np.maximum(out[here], patch), out[here])
        else:
            out[here] += np.where(kept, patch, 0)
            count[here] += kept
    return out / np.maximum(count, 1) if how == "mean" else out


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
