"""A model learns a new laboratory from few crops, new classes too, without forgetting what it knows.

The network but for its last layer stays as it is, so that stored features of the old classes can be rehearsed
while the last layer learns the new crops. Few crops cannot spare a validation part: they are cross-validated,
each crop being judged by a layer that was fitted without it, and the layer that ships is fitted on all.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_leukocls.classification.stain import normalise
from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.training import finish
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.rehearsal import (
    Layer,
    NewCells,
    cross_validate,
    fit_layer,
    logits_by,
    recalls,
)
from napari_leukocls.training.replay import Replay, choose, read_replay
from napari_leukocls.training.split import PARTS, Split, digest_of, given_part, owners, units_of
from napari_leukocls.types import CancelToken

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.cutting import CutCrops
    from napari_leukocls.training.dataset import Collection
    from napari_leukocls.training.network import Start
    from napari_leukocls.training.place import Place


def adapt(
    config: TrainConfig, collection: Collection, crops: CutCrops, place: Place, cancel: CancelToken
) -> Generator[TrainEvent, None, Path]:
    """Fit the last layer of a model on new crops and on stored features of the old ones.

    Yields
    ------
    TrainEvent

    Raises
    ------
    ModelError
        Where the model keeps no features of its classes.
    """
    from napari_leukocls.training.folder import write_model
    from napari_leukocls.training.network import start_network

    began = time.perf_counter()
    start = yield from start_network(config, sorted(set(collection.labels)))
    layer, replay, n_old = _what_is_known(config, start)
    split = yield from _split(collection, config, start)
    rows = split.rows("train")
    labels = np.array([start.classes.index(name) for name in collection.labels])
    views = yield from _views(start, normalise(crops.pixels[rows], start.stain), config, place, cancel)
    cells = NewCells(views, labels[rows], split.units[rows])
    before: Layer = layer.weight.detach().clone(), layer.bias.detach().clone()
    judged = yield from _judge(cells, replay, before, n_old, config, cancel)
    after = fit_layer(cells.training(np.arange(len(rows))), replay, before, n_old)
    with torch.no_grad():
        layer.weight.copy_(after[0])
        layer.bias.copy_(after[1])
    fitted = _fit_rest(cells, judged, replay, after, config)
    card = finish.base_card(start, config) | finish.data_card(collection, split, config)
    card = finish.with_fitted(card, fitted)
    card["training"] = _training_card(config, began, str(place.device))
    card["adaptation"] = {
        "of": start.note,
        "crops": len(rows),
        "new_classes": list(start.new_classes),
        "rehearsed": int((~replay.check).sum()),
        "recall": recalls(cells, judged, replay, before, after, start.classes, n_old),
        "how": "this laboratory: each crop judged by a layer that was fitted without it; old classes: stored "
        "features of cells that neither model was trained on",
    }
    finish.add_test(card, start, fitted, collection, crops, split, str(place.device))
    kept = _next_replay(cells, replay)
    record = {"why": "fitted", "best_epoch": 0, "history": []}
    return (yield from write_model(config, card, start, fitted, collection, split, record, kept))


def _what_is_known(config: TrainConfig, start: Start) -> tuple[nn.Linear, Replay, int]:
    from napari_leukocls.classification.checkpoint import read_weights
    from napari_leukocls.resources import find_model
    from napari_leukocls.training.heads import last_layer

    layer = last_layer(start.net)
    if layer is None or start.card is None:
        raise ModelError(f"{start.entry.name} has no last layer to fit alone: use --no-rehearse.")
    folder = find_model(config.from_model).path
    _, digest = read_weights(folder)
    return layer, read_replay(folder, digest, len(start.card.classes)), len(start.card.classes)


def _split(collection: Collection, config: TrainConfig, start: Start) -> Generator[TrainEvent, None, Split]:
    """Everything is trained on and cross-validated, but for a test part that the table names."""
    units = units_of(collection, config.group_by, config.near_duplicates)
    part = np.zeros(len(collection), np.intp)
    if any(crop.split.strip() for crop in collection.crops):
        # A validation part is learnt from: cross-validation takes its place.
        part = np.where(given_part(collection) == 2, 2, 0)
        shared = np.isin(units, units[part == 2]) & (part == 0)
        if shared.any() and not config.allow_leakage:
            first = collection.crops[int(np.flatnonzero(shared)[0])].file
            raise InputError(
                f"{shared.sum()} crops to learn from belong together with test crops (first {first}; same "
                "patient, slide or picture): correct the split, or accept it with --allow-leakage."
            )
    split = Split(part, units, {"method": "all are learnt from; cross-validated in whole units"})
    labels = np.array(collection.labels)
    counts = {name: dict(Counter(labels[split.rows(name)].tolist())) for name in PARTS}
    grouped = owners(collection, config.group_by)[1]
    split.record.update(
        seed=config.seed,
        grouped_by=grouped,
        counts=counts,
        files_sha256={name: digest_of(collection, split.rows(name)) for name in PARTS},
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
            "left_out": len(collection.left_out),
            "leakage": [],
        },
    )
    return split


def _views(
    start: Start, pixels: np.ndarray, config: TrainConfig, place: Place, cancel: CancelToken
) -> Generator[TrainEvent, None, torch.Tensor]:
    """Features (V, N, D) of random views of the crops, the first being as they are."""
    from napari_leukocls.training.heads import features_of, frozen_copy
    from napari_leukocls.training.loop import look_of

    net = frozen_copy(start, place)
    views = []
    for view in range(config.feature_views):
        cancel.check()
        yield TrainEvent("progress", {"stage": "features", "done": view, "total": config.feature_views})
        views.append(features_of(net, pixels, look_of(start), place, config, view).clone())
    return torch.stack(views)


def _judge(
    cells: NewCells, replay: Replay, layer: Layer, n_old: int, config: TrainConfig, cancel: CancelToken
) -> Generator[TrainEvent, None, np.ndarray]:
    work = cross_validate(cells, replay, layer, n_old, config.seed)
    while True:
        try:
            done, total = next(work)
        except StopIteration as end:
            return end.value
        cancel.check()
        yield TrainEvent("progress", {"stage": "judge", "done": done, "total": total})


def _fit_rest(
    cells: NewCells, judged: np.ndarray, replay: Replay, layer: Layer, config: TrainConfig
) -> finish.Fitted:
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
    fitted = finish.fit_on_validation(training, held_back, config)
    if len(judged) < finish.MIN_FOR_THRESHOLD:
        return fitted
    here = finish.softmax(judged / fitted.temperature)
    limit = finish.review_threshold(here, cells.classes, config.target_error)
    return replace(fitted, review_threshold=max(limit, fitted.review_threshold))


def _next_replay(cells: NewCells, replay: Replay) -> Replay:
    """What the new model rehearses when it is adapted in its turn: the old cells and the new."""
    old, old_classes = replay.rehearse()
    trained = np.concatenate([cells.plain, old]), np.concatenate([cells.classes, old_classes])
    return choose(trained, replay.checked())


def _training_card(config: TrainConfig, began: float, device: str) -> dict[str, Any]:
    from napari_leukocls.training.folder import settings_card

    return {
        **settings_card(config),
        "seconds": round(time.perf_counter() - began, 1),
        "device": device,
        "finished": finish.now(),
    }
