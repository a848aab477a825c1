"""The same training over folds or repeated shuffles, to see how far its figures depend on the split."""

from __future__ import annotations

import csv
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn import metrics

from napari_leukocls.classification.stain import normalise
from napari_leukocls.io.atomic import atomic_write
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.provenance import PARTS
from napari_leukocls.progress import CancelToken
from napari_leukocls.training.checkpoint import FREE
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.measure import logits_of
from napari_leukocls.training.network import start_network
from napari_leukocls.training.split import Split, assign, digest_of, units_of
from napari_leukocls.training.trainer import fit_split, normalisation_of

if TYPE_CHECKING:
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.distributed import Backend

FILE = "repeats.csv"

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "kappa")


def fold_parts(
    units: np.ndarray, labels: np.ndarray, config: TrainConfig
) -> Generator[np.ndarray, None, None]:
    """Choose the parts of each repeat: folds in turn, or shuffles of whole units.

    Parameters
    ----------
    units : numpy.ndarray, (N,), int
    labels : numpy.ndarray, (N,), int
    config : TrainConfig

    Yields
    ------
    numpy.ndarray, (N,), int
        Part of each crop.
    """
    if config.protocol == "kfold":
        fold = assign(units, labels, [1 / config.folds] * config.folds, np.random.default_rng(config.seed))
        share = config.validation_share / (1 - 1 / config.folds)
        for number in range(config.folds):
            part = np.full(len(labels), 2)
            rows = np.flatnonzero(fold != number)
            random = np.random.default_rng([config.seed, number])
            part[rows] = assign(units[rows], labels[rows], (1 - share, share), random)
            yield part
        return
    test = config.test_share or 0.2
    shares = (1 - config.validation_share - test, config.validation_share, test)
    for number in range(config.repeats):
        yield assign(units, labels, shares, np.random.default_rng([config.seed, number]))


def repeated(
    config: TrainConfig, dataset: Dataset, crops: CutCrops, backend: Backend, cancel: CancelToken
) -> Generator[TrainEvent, None, dict[str, Any]]:
    """Train and test over all repeats; write ``repeats.csv`` beside the model, one row for each repeat.

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
    dict
        Mean and standard deviation of each metric, for the card; empty where no repeats are asked for.
    """
    if config.protocol == "single":
        return {}
    units = units_of(dataset, config.group_by, config.near_duplicates, config.allow_unknown_patients)
    names = sorted(set(dataset.labels))
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index[name] for name in dataset.labels])
    before = [] if config.restart else _done_before(config)
    rows: list[dict[str, Any]] = []
    for number, part in enumerate(fold_parts(units, labels, config)):
        if number < len(before) and before[number]["test_sha256"] == digest_of(
            dataset, np.flatnonzero(part == 2)
        ):
            rows.append(before[number])
            continue
        if cancel.cancelled:
            break
        row = yield from _one(config, dataset, crops, backend, cancel, part, number)
        if cancel.cancelled:
            break
        rows.append(row)
        if backend.is_main:
            _write(config, rows)
    if not rows:
        return {}
    figures = {
        name: {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
        for name in METRICS
        if (values := [float(row[name]) for row in rows])
    }
    return {"protocol": config.protocol, "n": len(rows), "seed": config.seed, **figures, "file": FILE}


def _one(
    config: TrainConfig,
    dataset: Dataset,
    crops: CutCrops,
    backend: Backend,
    cancel: CancelToken,
    part: np.ndarray,
    number: int,
) -> Generator[TrainEvent, None, dict[str, Any]]:
    start = yield from start_network(config, sorted(set(dataset.labels)))
    split = Split(part, part)
    hashes = {name: digest_of(dataset, split.rows(name)) for name in PARTS}
    split.record["files_sha256"] = hashes
    work = fit_split(config, start, dataset, crops, split, backend, cancel, config.seed + 1 + number, False)
    try:
        while True:
            event = next(work)
            yield TrainEvent(event.kind, {**event.data, "repeat": number + 1})
    except StopIteration as end:
        record = end.value
    tested = split.rows("test")
    truth = np.array([start.classes.index(dataset.crops[row].class_name) for row in tested])
    pixels = normalise(crops.pixels[tested], start.stain)
    logits = logits_of(start.net, pixels, normalisation_of(start), _cpu(), config)
    return {
        "repeat": number + 1,
        "seed": config.seed + 1 + number,
        "n_train": int((part == 0).sum()),
        "n_test": len(tested),
        "epochs": len(record["history"]),
        **scores(truth, logits.argmax(axis=1)),
        "test_sha256": hashes["test"],
        "settings": _settings(config),
    }


def _cpu() -> Any:
    return torch.device("cpu")


def scores(truth: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Return the metrics of one repeat; macro-F1 is over the classes that occur in its test part.

    Parameters
    ----------
    truth : numpy.ndarray, (N,), int
    guess : numpy.ndarray, (N,), int

    Returns
    -------
    dict of str to float
    """
    there = np.unique(truth)
    recalls = metrics.recall_score(truth, guess, labels=there, average="macro", zero_division=0)
    return {
        "accuracy": float(metrics.accuracy_score(truth, guess)),
        "balanced_accuracy": float(recalls),
        "macro_f1": float(metrics.f1_score(truth, guess, labels=there, average="macro", zero_division=0)),
        "mcc": float(metrics.matthews_corrcoef(truth, guess)),
        "kappa": float(metrics.cohen_kappa_score(truth, guess)) if len(there) > 1 else float("nan"),
    }


def _write(config: TrainConfig, rows: list[dict[str, Any]]) -> None:
    with atomic_write(Path(config.out) / FILE, "w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _settings(config: TrainConfig) -> str:
    """What repeats must agree in to be counted together: a hash of the settings that matter."""
    return sha256_of(config.model_dump_json(exclude=set(FREE)).encode())[:12]


def _done_before(config: TrainConfig) -> list[dict[str, Any]]:
    """Repeats that an interrupted run of the same settings has finished."""
    file = Path(config.out) / FILE
    if not file.is_file():
        return []
    with open(file, encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row.get("settings") == _settings(config)]
