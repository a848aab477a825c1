"""A new laboratory from few labelled crops: the last layer, the thresholds, and whether they are better at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_leukocls.classification.stain import normalise
from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.io.serialise import json_text
from napari_leukocls.models.provenance import PARTS
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import read_weights
from napari_leukocls.plurals import count_text
from napari_leukocls.progress import CancelToken, Steps, staged
from napari_leukocls.training import calibrate
from napari_leukocls.training.events import TrainEvent, progress_events
from napari_leukocls.training.feature_replay import Replay, choose, read_replay
from napari_leukocls.training.head import features_of, frozen_copy, last_layer
from napari_leukocls.training.model_folder import save_model, settings_card
from napari_leukocls.training.network import start_network
from napari_leukocls.training.site_calibration import fit_on_site
from napari_leukocls.training.site_familiarity import with_laboratory
from napari_leukocls.training.site_layer import PULLS, Judged, Layer, SiteCells, fit_layers, judge
from napari_leukocls.training.split import Split, digest_of, given_part, owners, units_of
from napari_leukocls.training.trainer import normalisation_of

if TYPE_CHECKING:
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.training.calibrate import Fitted
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start

#: File of the record of an adaptation that changed nothing.
RECORD = "adaptation.json"


@dataclass(frozen=True)
class Learnt:
    """What was learnt of a laboratory's cells.

    Attributes
    ----------
    judged : Judged
        The cross-validation, and the choice.
    layer : Layer or None
        The new last layer; None where the old one is kept.
    fitted : Fitted or None
        Temperature, thresholds and out-of-distribution score of the new layer.
    """

    judged: Judged
    layer: Layer | None = None
    fitted: Fitted | None = None


def adapt(
    config: TrainConfig, dataset: Dataset, crops: CutCrops, backend: Backend, cancel: CancelToken, old: Path
) -> Generator[TrainEvent, None, Path]:
    """Fit the last layer of a model on new crops and on stored features of the old ones, if that makes it better.

    Parameters
    ----------
    config : TrainConfig
    dataset : Dataset
    crops : CutCrops
    backend : Backend
    cancel : CancelToken
    old : Path
        Folder of the model that is in use now: it is kept if nothing makes it better.

    Yields
    ------
    TrainEvent
        The last is ``finished``, or ``kept`` if the model is better left as it is.

    Returns
    -------
    Path
        Folder of the new model, or of the old one if that is kept.

    Raises
    ------
    ModelError
        Where the model keeps no features of its classes.
    """
    began = time.perf_counter()
    start = yield from start_network(config, sorted(set(dataset.labels)))
    head, replay, n_old = what_is_known(config, start)
    split = yield from _split(dataset, config, start)
    rows = split.rows("train")
    labels = np.array([start.classes.index(name) for name in dataset.labels])
    views = yield from site_views(start, crops.pixels[rows], config, backend, cancel)
    cells = SiteCells(views, labels[rows], split.units[rows])
    before = Layer(head.weight.detach().double().numpy(), head.bias.detach().double().numpy())
    assert start.card is not None
    learning = staged("judge", cancel, learn(cells, replay, before, n_old, config, start.card.temperature))
    learnt = yield from progress_events(learning)
    record = {
        "of": start.note,
        "crops": len(rows),
        "units": len(np.unique(cells.units)),
        "new_classes": list(start.new_classes),
        "rehearsed": int((~replay.check).sum()),
        "check": asdict(learnt.judged.check),
    }
    if learnt.layer is None or learnt.fitted is None:
        return (yield from _keep(config, learnt, record, old))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(learnt.layer.weight))
        head.bias.copy_(torch.from_numpy(learnt.layer.bias))
    card = calibrate.base_card(start, config) | calibrate.data_card(dataset, split, config)
    folder, name = find_model(config.from_model).path, Path(config.data or "corrections").name
    tensors, test = with_laboratory(folder, crops.pixels[rows], learnt.layer, name)
    fitted = replace(learnt.fitted, ood_tensors=learnt.fitted.ood_tensors | tensors)
    card = calibrate.with_fitted(card, fitted) | ({} if test is None else {"familiarity": test})
    card["training"] = training_card(config, began, str(backend.device))
    card["adaptation"] = record | {
        "changed": what_changed(learnt.judged),
        "recall": recalls(cells, learnt, replay, before, start.classes, n_old),
        "how": "this laboratory: each crop judged by a layer that was fitted without its unit; old classes: stored "
        "features of cells that neither model was trained on",
    }
    calibrate.add_test(card, start, fitted, dataset, crops, split, str(backend.device))
    kept = _next_replay(cells, replay)
    ended = {"why": "fitted", "best_epoch": 0, "history": []}
    return (yield from save_model(config, card, start, fitted, dataset, split, ended, kept))


def learn(
    cells: SiteCells, replay: Replay, start: Layer, n_old: int, config: TrainConfig, temperature: float
) -> Steps[Learnt]:
    """Learn a laboratory from features: the layer, whether it is better, and the thresholds.

    Parameters
    ----------
    cells : SiteCells
    replay : Replay
    start : Layer
        Of all classes; rows of classes that the model did not know count as zero.
    n_old : int
        Classes that the model knew: the first rows.
    config : TrainConfig
    temperature : float
        Of the model before.

    Yields
    ------
    Progress

    Returns
    -------
    Learnt
    """
    judged = yield from judge(cells, replay, start, n_old, config.seed)
    if judged.chosen is None:
        return Learnt(judged)
    layer = fit_layers(cells, replay, start, n_old)[judged.chosen]
    logits = judged.logits[judged.chosen]
    fitted = fit_on_site(cells, judged.fold, logits, layer, replay, config, temperature)
    return Learnt(judged, layer, fitted)


def _keep(
    config: TrainConfig, learnt: Learnt, record: dict[str, Any], folder: Path
) -> Generator[TrainEvent, None, Path]:
    """Write why the old model is kept, and report it."""
    check = learnt.judged.check
    found = (
        f"no change made it better (accuracy {100 * check.accuracy_before:.1f} % before, "
        f"{100 * check.accuracy_after:.1f} % after)"
        if np.isfinite(check.gain)
        else "there are too few to tell"
    )
    message = (
        f"the model is kept as it is: on crops that it did not learn from, {found}. Give more crops, of more "
        "patients."
    )
    atomic_text(Path(config.out) / RECORD, json_text({"kept": True, "message": message, **record}))
    yield TrainEvent("kept", {"model": str(folder), "message": message, "adaptation": record})
    return folder


def what_changed(judged: Judged) -> str:
    """State in words what was changed.

    Parameters
    ----------
    judged : Judged

    Returns
    -------
    str
    """
    if judged.chosen is None:
        return "nothing"
    pull = PULLS[judged.chosen]
    return "biases of the last layer" if np.isinf(pull) else f"last layer (pull to the old weights {pull:g})"


def adaptation_lines(figures: dict[str, Any]) -> list[str]:
    """State in lines what an adaptation changed and gains.

    Parameters
    ----------
    figures : dict
        ``adaptation`` of a model's card; may be empty.

    Returns
    -------
    list of str
    """
    if "check" not in figures:
        return []
    if figures.get("without_labels"):
        return [str(figures["how"])]
    check = figures["check"]
    low, high = check["gain_ci95"]
    crops = count_text(figures["crops"], "crop")
    units = count_text(figures["units"], "patient, slide", "patients, slides")
    return [
        f"Changed: {figures['changed']}; learnt from {crops} of {units} or single pictures.",
        f"On cells of patients, slides or pictures that were not learnt from: accuracy "
        f"{100 * check['accuracy_before']:.1f} % before, {100 * check['accuracy_after']:.1f} % after (gain "
        f"{100 * check['gain']:.1f} points, 95 % limits {100 * low:.1f} to {100 * high:.1f}).",
    ]


def what_is_known(config: TrainConfig, start: Start) -> tuple[nn.Linear, Replay, int]:
    """Return what an adaptation starts from.

    Parameters
    ----------
    config : TrainConfig
    start : Start

    Returns
    -------
    layer : torch.nn.Linear
        The last layer.
    replay : Replay
    n_old : int
        Classes of the model.

    Raises
    ------
    ModelError
        If the network has no last layer of its own, or the model keeps no features of its classes.
    """
    layer = last_layer(start.net)
    if layer is None or start.card is None:
        raise ModelError(f"{start.entry.name} has no last layer to fit alone: use --no-rehearse.")
    folder = find_model(config.from_model).path
    _, digest = read_weights(folder)
    return layer, read_replay(folder, digest, len(start.card.classes)), len(start.card.classes)


def _split(dataset: Dataset, config: TrainConfig, start: Start) -> Generator[TrainEvent, None, Split]:
    """Everything is trained on and cross-validated, but for a test part that the table names."""
    unknown = config.allow_unknown_patients
    units = units_of(dataset, config.group_by, config.near_duplicates, unknown)
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
    grouped = owners(dataset, config.group_by, unknown)[1]
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


def site_views(
    start: Start, pixels: np.ndarray, config: TrainConfig, backend: Backend, cancel: CancelToken
) -> Generator[TrainEvent, None, np.ndarray]:
    """Compute features of random views of the crops, the first being as they are.

    Parameters
    ----------
    start : Start
    pixels : numpy.ndarray, (N, S, S, 3), uint8
    config : TrainConfig
    backend : Backend
    cancel : CancelToken

    Yields
    ------
    TrainEvent

    Returns
    -------
    numpy.ndarray, (V, N, D)
    """
    net = frozen_copy(start, backend)
    crops = normalise(pixels, start.stain)
    views = []
    for view in range(config.feature_views):
        cancel.check()
        yield TrainEvent("progress", {"stage": "features", "done": view, "total": config.feature_views})
        views.append(features_of(net, crops, normalisation_of(start), backend, config, view).numpy().copy())
    return np.stack(views)


def _next_replay(cells: SiteCells, replay: Replay) -> Replay:
    """What the new model rehearses when it is adapted in its turn: the old cells and the new."""
    old, old_classes = replay.rehearse()
    trained = np.concatenate([cells.plain, old]), np.concatenate([cells.classes, old_classes])
    return choose(trained, replay.checked())


def training_card(config: TrainConfig, began: float, device: str) -> dict[str, Any]:
    """Describe how an adapted model was made, for the card.

    Parameters
    ----------
    config : TrainConfig
    began : float
        Time, by `time.perf_counter`.
    device : str

    Returns
    -------
    dict
        Fields of `napari_leukocls.models.card.Training`.
    """
    return {
        **settings_card(config),
        "seconds": round(time.perf_counter() - began, 1),
        "device": device,
        "finished": calibrate.finished_at(),
    }


def recalls(
    cells: SiteCells, learnt: Learnt, replay: Replay, before: Layer, classes: tuple[str, ...], n_old: int
) -> dict[str, Any]:
    """Mean recall of the classes before and after, on old cells, on the new laboratory's, and on new classes.

    Parameters
    ----------
    cells : SiteCells
    learnt : Learnt
        With a new layer.
    replay : Replay
    before : Layer
        New classes are not in question.
    classes : tuple of str
    n_old : int

    Returns
    -------
    dict
    """
    assert learnt.layer is not None and learnt.judged.chosen is not None
    features, truth = replay.checked()
    judged = learnt.judged.logits[learnt.judged.chosen]
    known = cells.classes < n_old
    old = Layer(before.weight[:n_old], before.bias[:n_old])
    sets = {
        "old_classes": (truth, old.logits(features), learnt.layer.logits(features)),
        "this_laboratory": (cells.classes[known], learnt.judged.before[known], judged[known]),
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
