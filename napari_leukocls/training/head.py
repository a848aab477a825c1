"""Training of the last layer alone, on features that the frozen rest gives once."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from napari_leukocls.classification.fusion import fold_batch_norm
from napari_leukocls.classification.ood import features_and_logits
from napari_leukocls.progress import CancelToken
from napari_leukocls.training.augment import augment, generator_for
from napari_leukocls.training.batches import Normalisation, epoch_rows, to_unit
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.loss import class_weights, loss_of, targets_of
from napari_leukocls.training.measure import Measured, measure
from napari_leukocls.training.optimiser import make_optimiser, make_schedule

if TYPE_CHECKING:
    from napari_leukocls.training.batches import Material
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start


@dataclass(frozen=True)
class Cached:
    """Features (N x views, D) with their classes, as a head is trained on them."""

    features: torch.Tensor
    classes: np.ndarray


def last_layer(net: nn.Module) -> nn.Linear | None:
    """Return the one linear layer at the end of a network.

    Parameters
    ----------
    net : torch.nn.Module

    Returns
    -------
    torch.nn.Linear or None
        None if the network does not name one.
    """
    ask = getattr(net, "get_classifier", None)
    head = ask() if callable(ask) else None
    return head if isinstance(head, nn.Linear) else None


def frozen_copy(start: Start, backend: Backend) -> nn.Module:
    """Copy a network for its features alone, with its normalisations folded: the same numbers, faster.

    Parameters
    ----------
    start : Start
    backend : Backend

    Returns
    -------
    torch.nn.Module
    """
    side = start.rule.side_px
    net = fold_batch_norm(start.net.cpu().eval(), torch.zeros(1, 3, side, side))
    return net.to(backend.device).to(memory_format=torch.channels_last)


@torch.inference_mode()
def features_of(
    net: nn.Module,
    pixels: np.ndarray,
    normalisation: Normalisation,
    backend: Backend,
    config: TrainConfig,
    view: int = 0,
) -> torch.Tensor:
    """Compute the features of crops.

    Parameters
    ----------
    net : torch.nn.Module
    pixels : numpy.ndarray, (N, S, S, 3), uint8
    normalisation : Normalisation
    backend : Backend
    config : TrainConfig
    view : int
        0 is the crop as it is; others are random views of it.

    Returns
    -------
    torch.Tensor, (N, D)
    """
    net.eval()
    parts = []
    for begin in range(0, len(pixels), 64):
        images = to_unit(pixels[begin : begin + 64], backend.device)
        if view:
            generator = generator_for(config.seed, 3, view, begin)
            images = augment(images, config, generator, normalisation.outside)
        parts.append(features_and_logits(net, normalisation.normalise(images))[0].float().cpu())
    return torch.cat(parts) if parts else torch.zeros((0, 1))


def cache_features(
    start: Start, material: Material, config: TrainConfig, backend: Backend, cancel: CancelToken
) -> Generator[TrainEvent, None, tuple[Cached, torch.Tensor]]:
    """Run the frozen part once: over the views of the training part, and over the validation part.

    Parameters
    ----------
    start : Start
    material : Material
    config : TrainConfig
    backend : Backend
    cancel : CancelToken

    Yields
    ------
    TrainEvent
    """
    net = frozen_copy(start, backend)
    rows, parts = material.train, []
    total = config.feature_views + 1
    for view in range(config.feature_views):
        cancel.check()
        yield TrainEvent("progress", {"stage": "features", "done": view, "total": total})
        parts.append(features_of(net, material.pixels[rows], material.normalisation, backend, config, view))
    yield TrainEvent("progress", {"stage": "features", "done": total - 1, "total": total})
    validation = features_of(
        net, material.pixels[material.validation], material.normalisation, backend, config
    )
    classes = np.tile(material.labels[rows], config.feature_views)
    return Cached(torch.cat(parts), classes), validation


def train_head(
    start: Start, material: Material, config: TrainConfig, backend: Backend, cancel: CancelToken, seed: int
) -> Generator[TrainEvent, None, dict[str, Any]]:
    """Train the last layer on cached features; the network then holds the best one.

    Parameters
    ----------
    start : Start
    material : Material
    config : TrainConfig
    backend : Backend
    cancel : CancelToken
    seed : int

    Yields
    ------
    TrainEvent

    Returns
    -------
    dict
        ``why`` it ended, ``best_epoch`` and ``history``.
    """
    torch.manual_seed(seed)
    began = time.perf_counter()
    cached, validation = yield from cache_features(start, material, config, backend, cancel)
    head = last_layer(start.net)
    assert head is not None
    head = head.cpu().requires_grad_(True)
    truth = material.labels[material.validation]
    counts = np.bincount(material.labels[material.train], minlength=len(start.classes))
    weights = torch.tensor(class_weights(counts, config.class_weights), dtype=torch.float32)
    optimiser = make_optimiser(head, config)
    rows = np.arange(len(cached.classes))
    steps = len(epoch_rows(rows, cached.classes, config, seed, 0))
    schedule = make_schedule(optimiser, config, steps)
    best: tuple[tuple[float, float], int, dict[str, torch.Tensor]] = ((-1.0, 0.0), -1, {})
    history: list[dict[str, Any]] = []
    why = "all epochs are done"
    for epoch in range(config.epochs):
        batches = epoch_rows(rows, cached.classes, config, seed, epoch)
        loss = _epoch(head, cached, batches, config, weights, optimiser, schedule)
        with torch.no_grad():
            measured = measure(head(validation).numpy(), truth)
            right = float((head(cached.features).argmax(1).numpy() == cached.classes).mean())
        mark = (measured.macro_f1, -measured.loss)
        better = mark > best[0]
        if better:
            best = (mark, epoch, {k: v.detach().clone() for k, v in head.state_dict().items()})
        seconds = time.perf_counter() - began
        made = len(rows) * (epoch + 1) / seconds
        rate = optimiser.param_groups[0]["lr"]
        record = _record(epoch, config, loss, right, rate, measured, better, seconds, made)
        history.append(record)
        yield TrainEvent("epoch", record)
        late = config.minutes is not None and seconds > 60 * config.minutes
        if cancel.cancelled or late:
            why = "stopped"
            break
        if config.patience and epoch - best[1] >= config.patience:
            why = f"no better validation macro-F1 in {config.patience} epochs"
            break
    if best[2]:
        head.load_state_dict(best[2])
    start.net.cpu().eval()
    return {"why": why, "best_epoch": best[1], "history": history}


def _epoch(
    head: nn.Linear,
    cached: Cached,
    batches: list[np.ndarray],
    config: TrainConfig,
    weights: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    total = 0.0
    for rows in batches:
        classes = torch.from_numpy(cached.classes[rows])
        targets = targets_of(classes, head.out_features, config.label_smoothing)
        features = cached.features[torch.from_numpy(rows)]
        if config.dropout:
            features = functional.dropout(features, config.dropout)
        loss = loss_of(head(features), targets, config, weights if config.class_weights != "none" else None)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip:
            nn.utils.clip_grad_norm_(head.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        total += float(loss.detach())
    return total / max(len(batches), 1)


def _record(
    epoch: int,
    config: TrainConfig,
    loss: float,
    accuracy: float,
    rate: float,
    measured: Measured,
    better: bool,
    seconds: float,
    crops_per_s: float,
) -> dict[str, Any]:
    """One epoch as its event has it; the features are there, so that nothing is waited for."""
    return {
        "epoch": epoch + 1,
        "epochs": config.epochs,
        "loss": loss,
        "accuracy": accuracy,
        "lr": rate,
        **measured.as_dict(),
        "best": better,
        "seconds": round(seconds, 3),
        "crops_per_s": round(crops_per_s, 2),
        "busy": 1.0,
    }
