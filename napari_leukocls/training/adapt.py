"""A new laboratory from few crops."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn
from torch.nn import functional

from napari_leukocls.classification.stain import normalise
from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.models.provenance import PARTS
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import read_weights
from napari_leukocls.progress import CancelToken, Progress, Steps, staged
from napari_leukocls.training import calibrate
from napari_leukocls.training.events import TrainEvent, progress_events
from napari_leukocls.training.feature_replay import Replay, choose, read_replay
from napari_leukocls.training.head import features_of, frozen_copy, last_layer
from napari_leukocls.training.model_folder import save_model, settings_card
from napari_leukocls.training.network import start_network
from napari_leukocls.training.split import Split, assign, digest_of, given_part, owners, units_of
from napari_leukocls.training.trainer import normalisation_of

if TYPE_CHECKING:
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start

#: Parts of the cross-validation.
FOLDS = 5
#: Steps of a fit; each uses all features.
STEPS = 150
RATE = 3e-3
#: Pull of the old classes' weights back to where they started.
PULL = 1e-3
Layer = tuple[torch.Tensor, torch.Tensor]


def adapt(
    config: TrainConfig, dataset: Dataset, crops: CutCrops, backend: Backend, cancel: CancelToken
) -> Generator[TrainEvent, None, Path]:
    """Fit the last layer of a model on new crops and on stored features of the old ones.

    Parameters
    ----------
    config : TrainConfig
    dataset : Dataset
    crops : CutCrops
    backend : Backend
    cancel : CancelToken

    Yields
    ------
    TrainEvent

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        Where the model keeps no features of its classes.
    """
    began = time.perf_counter()
    start = yield from start_network(config, sorted(set(dataset.labels)))
    layer, replay, n_old = _what_is_known(config, start)
    split = yield from _split(dataset, config, start)
    rows = split.rows("train")
    labels = np.array([start.classes.index(name) for name in dataset.labels])
    views = yield from _views(start, normalise(crops.pixels[rows], start.stain), config, backend, cancel)
    cells = NewCells(views, labels[rows], split.units[rows])
    before: Layer = layer.weight.detach().clone(), layer.bias.detach().clone()
    judged = yield from _judge(cells, replay, before, n_old, config, cancel)
    after = fit_layer(cells.training(np.arange(len(rows))), replay, before, n_old)
    with torch.no_grad():
        layer.weight.copy_(after[0])
        layer.bias.copy_(after[1])
    fitted = _fit_rest(cells, judged, replay, after, config)
    card = calibrate.base_card(start, config) | calibrate.data_card(dataset, split, config)
    card = calibrate.with_fitted(card, fitted)
    card["training"] = _training_card(config, began, str(backend.device))
    card["adaptation"] = {
        "of": start.note,
        "crops": len(rows),
        "new_classes": list(start.new_classes),
        "rehearsed": int((~replay.check).sum()),
        "recall": recalls(cells, judged, replay, before, after, start.classes, n_old),
        "how": "this laboratory: each crop judged by a layer that was fitted without it; old classes: stored "
        "features of cells that neither model was trained on",
    }
    calibrate.add_test(card, start, fitted, dataset, crops, split, str(backend.device))
    kept = _next_replay(cells, replay)
    record = {"why": "fitted", "best_epoch": 0, "history": []}
    return (yield from save_model(config, card, start, fitted, dataset, split, record, kept))


def _what_is_known(config: TrainConfig, start: Start) -> tuple[nn.Linear, Replay, int]:
    layer = last_layer(start.net)
    if layer is None or start.card is None:
        raise ModelError(f"{start.entry.name} has no last layer to fit alone: use --no-rehearse.")
    folder = find_model(config.from_model).path
    _, digest = read_weights(folder)
    return layer, read_replay(folder, digest, len(start.card.classes)), len(start.card.classes)


def _split(dataset: Dataset, config: TrainConfig, start: Start) -> Generator[TrainEvent, None, Split]:
    """Everything is trained on and cross-validated, but for a test part that the table names."""
    units = units_of(dataset, config.group_by, config.near_duplicates)
    part = np.zeros(len(dataset), np.intp)
    if any(crop.split.strip() for crop in dataset.crops):
        # A validation part is learnt from: cross-validation takes its place.
        part = np.where(given_part(dataset) == 2, 2, 0)
        shared = np.isin(units, units[part == 2]) & (part == 0)
        if shared.any() and not config.allow_leakage:
            first = dataset.crops[int(np.flatnonzero(shared)[0])].file
            raise InputError(
                f"{shared.sum()} crops to learn from belong together with test crops (first {first}; same "
                "patient, slide or picture): correct the split, or accept it with --allow-leakage."
            )
    split = Split(part, units, {"method": "all are learnt from; cross-validated in whole units"})
    labels = np.array(dataset.labels)
    counts = {name: dict(Counter(labels[split.rows(name)].tolist())) for name in PARTS}
    grouped = owners(dataset, config.group_by)[1]
    split.record.update(
        seed=config.seed,
        grouped_by=grouped,
        counts=counts,
        files_sha256={name: digest_of(dataset, split.rows(name)) for name in PARTS},
        leakage={"allowed": config.allow_leakage, "on_both_sides": []},
    )
    if not counts["train"]:
        raise InputError("all crops are in the test part: leave some to learn from.")
    yield TrainEvent(
        "split",
        {
            "counts": counts,
            "classes": list(start.classes),
            "grouped_by": grouped,
            "units": len(np.unique(units)),
            "left_out": len(dataset.left_out),
            "leakage": [],
        },
    )
    return split


def _views(
    start: Start, pixels: np.ndarray, config: TrainConfig, backend: Backend, cancel: CancelToken
) -> Generator[TrainEvent, None, torch.Tensor]:
    """Features (V, N, D) of random views of the crops, the first being as they are."""
    net = frozen_copy(start, backend)
    views = []
    for view in range(config.feature_views):
        cancel.check()
        yield TrainEvent("progress", {"stage": "features", "done": view, "total": config.feature_views})
        views.append(features_of(net, pixels, normalisation_of(start), backend, config, view).clone())
    return torch.stack(views)


def _judge(
    cells: NewCells, replay: Replay, layer: Layer, n_old: int, config: TrainConfig, cancel: CancelToken
) -> Generator[TrainEvent, None, np.ndarray]:
    work = cross_validate(cells, replay, layer, n_old, config.seed)
    return (yield from progress_events(staged("judge", cancel, work)))


def _fit_rest(
    cells: NewCells, judged: np.ndarray, replay: Replay, layer: Layer, config: TrainConfig
) -> calibrate.Fitted:
    """Temperature, threshold and out-of-distribution score for both kinds of cells."""
    old, old_classes = replay.rehearse()
    checked, checked_classes = replay.checked()
    # The new laboratory is where the model will work: old cells are not to outvote it.
    some = np.unique(np.linspace(0, len(checked) - 1, min(len(checked), len(judged))).astype(np.intp))
    checked, checked_classes = checked[some], checked_classes[some]
    features = np.concatenate([cells.plain, old])
    training = features, logits_by(layer, features), np.concatenate([cells.classes, old_classes])
    held_back = (
        np.concatenate([cells.plain, checked]),
        np.concatenate([judged, logits_by(layer, checked)]).astype(np.float32),
        np.concatenate([cells.classes, checked_classes]),
    )
    fitted = calibrate.fit_on_validation(training, held_back, config)
    if len(judged) < calibrate.MIN_FOR_THRESHOLD:
        return fitted
    here = softmax(np.asarray(judged, float) / fitted.temperature, axis=1)
    limit = calibrate.review_threshold(here, cells.classes, config.target_error)
    return replace(fitted, review_threshold=max(limit, fitted.review_threshold))


def _next_replay(cells: NewCells, replay: Replay) -> Replay:
    """What the new model rehearses when it is adapted in its turn: the old cells and the new."""
    old, old_classes = replay.rehearse()
    trained = np.concatenate([cells.plain, old]), np.concatenate([cells.classes, old_classes])
    return choose(trained, replay.checked())


def _training_card(config: TrainConfig, began: float, device: str) -> dict[str, Any]:
    return {
        **settings_card(config),
        "seconds": round(time.perf_counter() - began, 1),
        "device": device,
        "finished": calibrate.finished_at(),
    }


@dataclass(frozen=True)
class NewCells:
    """Features of the new laboratory's crops.

    Attributes
    ----------
    views : torch.Tensor, (V, N, D)
        The first view is the crop as it is.
    classes : numpy.ndarray, (N,), int
    units : numpy.ndarray, (N,), int
        Crops of one unit are judged together.
    """

    views: torch.Tensor
    classes: np.ndarray
    units: np.ndarray

    @property
    def plain(self) -> np.ndarray:
        """Features (N, D) of the crops as they are."""
        return self.views[0].numpy()

    def training(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and classes of some crops, in all views.

        Parameters
        ----------
        rows : numpy.ndarray, int

        Returns
        -------
        tuple of torch.Tensor
            (V, D) and (V,).
        """
        features = self.views[:, torch.from_numpy(rows)].flatten(0, 1)
        return features, torch.from_numpy(np.tile(self.classes[rows], len(self.views)))


def fit_layer(new: tuple[torch.Tensor, torch.Tensor], replay: Replay, start: Layer, n_old: int) -> Layer:
    """Fit a last layer on new cells and rehearsed ones.

    Parameters
    ----------
    new : tuple of torch.Tensor
        Features (M, D) and classes (M,).
    replay : Replay
    start : tuple of torch.Tensor
        Weight (C, D) and bias (C,) to begin with.
    n_old : int
        Classes that the model knew: the first rows.

    Returns
    -------
    weight, bias : torch.Tensor
    """
    kept, kept_classes = (torch.from_numpy(values) for values in replay.rehearse())
    weight, bias = (values.clone().requires_grad_(True) for values in start)
    optimiser = torch.optim.Adam([weight, bias], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        # Both sides weigh the same however many cells each has.
        loss = functional.cross_entropy(new[0] @ weight.T + bias, new[1])
        loss = loss + functional.cross_entropy(kept @ weight.T + bias, kept_classes)
        loss = loss + PULL * ((weight[:n_old] - start[0][:n_old]) ** 2).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return weight.detach(), bias.detach()


def logits_by(layer: Layer, features: np.ndarray) -> np.ndarray:
    """Apply a linear layer.

    Parameters
    ----------
    layer : tuple of torch.Tensor
        Weights (C, D) and bias (C,).
    features : numpy.ndarray, (N, D)

    Returns
    -------
    numpy.ndarray, (N, C)
    """
    array: np.ndarray = features @ layer[0].numpy().T + layer[1].numpy()
    return array


def folds_of(cells: NewCells, seed: int) -> np.ndarray:
    """Choose the part of the cross-validation in which each crop is judged.

    Parameters
    ----------
    cells : NewCells
    seed : int

    Returns
    -------
    numpy.ndarray, (N,), int
        Units stay whole, and classes are spread over the parts.
    """
    count = min(FOLDS, len(np.unique(cells.units)))
    return assign(cells.units, cells.classes, [1 / count] * count, np.random.default_rng(seed))


def cross_validate(cells: NewCells, replay: Replay, start: Layer, n_old: int, seed: int) -> Steps[np.ndarray]:
    """Judge each crop by a layer that was fitted without it.

    Parameters
    ----------
    cells : NewCells
    replay : Replay
    start : tuple of torch.Tensor
        Weights and bias before.
    n_old : int
        Classes of the model before.
    seed : int

    Yields
    ------
    Progress
        Parts done, and how many there are.

    Returns
    -------
    numpy.ndarray, (N, C)
        Logits.
    """
    fold = folds_of(cells, seed)
    logits = np.zeros((len(cells.classes), len(start[1])), np.float32)
    for number in np.unique(fold):
        yield Progress("judge", int(number), int(fold.max()) + 1)
        inside = np.flatnonzero(fold != number)
        layer = fit_layer(cells.training(inside), replay, start, n_old) if len(inside) else start
        judged = np.flatnonzero(fold == number)
        logits[judged] = logits_by(layer, cells.plain[judged])
    return logits


def recalls(
    cells: NewCells,
    judged: np.ndarray,
    replay: Replay,
    before: Layer,
    after: Layer,
    classes: tuple[str, ...],
    n_old: int,
) -> dict[str, Any]:
    """Mean recall of the classes before and after, on old cells, on the new laboratory's, and on new classes.

    Parameters
    ----------
    cells : NewCells
    judged : numpy.ndarray, (N, C)
        Cross-validated logits of the new crops.
    replay : Replay
    before, after : tuple of torch.Tensor
        The last layer; before, new classes are not in question.
    classes : tuple of str
    n_old : int

    Returns
    -------
    dict
    """
    features, truth = replay.checked()
    known = cells.classes < n_old
    old_layer = before[0][:n_old], before[1][:n_old]
    sets = {
        "old_classes": (truth, logits_by(old_layer, features), logits_by(after, features)),
        "this_laboratory": (cells.classes[known], logits_by(old_layer, cells.plain[known]), judged[known]),
        "new_classes": (cells.classes[~known], None, judged[~known]),
    }
    result: dict[str, Any] = {}
    for name, (right, first, then) in sets.items():
        if len(right):
            result[name] = {
                "n": len(right),
                "before": None if first is None else float(np.mean(list(_by_class(right, first).values()))),
                "after": float(np.mean(list(_by_class(right, then).values()))),
                "per_class": {classes[k]: value for k, value in _by_class(right, then).items()},
            }
    return result


def _by_class(truth: np.ndarray, logits: np.ndarray) -> dict[int, float]:
    guess = logits.argmax(axis=1)
    return {int(k): float((guess[truth == k] == k).mean()) for k in np.unique(truth)}
