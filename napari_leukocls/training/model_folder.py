"""The folder of a newly trained model: fitted on validation, tested once, and written whole or not at all."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_leukocls.io.serialise import write_json
from napari_leukocls.models.card import make_card
from napari_leukocls.models.install import write_model
from napari_leukocls.models.provenance import NAMES_NAME, PARTS, SPLIT_NAME, SplitRow, write_split
from napari_leukocls.models.registry import CARD_NAME, find_model
from napari_leukocls.models.weights import OOD_PREFIX
from napari_leukocls.training import calibrate
from napari_leukocls.training.checkpoint import FILE
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.feature_replay import FILE as REPLAY
from napari_leukocls.training.feature_replay import Replay, choose, save_replay

if TYPE_CHECKING:
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.training.calibrate import Fitted
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.network import Start
    from napari_leukocls.training.split import Split


def make_model(
    config: TrainConfig,
    start: Start,
    dataset: Dataset,
    crops: CutCrops,
    split: Split,
    record: dict[str, Any],
    device: str,
) -> Generator[TrainEvent, None, Path]:
    """Fit temperature and thresholds on validation, measure on the test part once, and write the model.

    Parameters
    ----------
    config : TrainConfig
    start : Start
        With the trained network.
    dataset : Dataset
    crops : CutCrops
        The pixels of the dataset's crops.
    split : Split
    record : dict
        Of the training: ``history``, ``best_epoch``, ``why`` it ended, and ``repeats`` if there were some.
    device : str
        A torch device.

    Yields
    ------
    TrainEvent
        The last is ``finished`` or ``stopped``.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    InputError
        If the network gives no finite numbers.
    OutputError
        If the folder cannot be written.
    """
    yield TrainEvent("progress", {"stage": "fit", "done": 0, "total": 2})
    card = calibrate.base_card(start, config) | calibrate.data_card(dataset, split, config)
    classifier = calibrate.classifier_of(card, start.net, None, device)
    labels = np.array([start.classes.index(name) for name in dataset.labels])
    parts = []
    for rows in (
        calibrate.some_of_each(split.rows("train"), labels, calibrate.OOD_CELLS),
        split.rows("validation"),
    ):
        logits, features = calibrate.outputs_of(classifier, crops.pixels[rows])
        parts.append((features, logits, labels[rows]))
    fitted = calibrate.fit_on_validation(parts[0], parts[1], config)
    card = calibrate.with_fitted(card, fitted)
    card["training"] = training_card(config, record, device)
    yield TrainEvent("progress", {"stage": "test", "done": 1, "total": 2})
    calibrate.add_test(card, start, fitted, dataset, crops, split, device)
    kept = choose((parts[0][0], parts[0][2]), (parts[1][0], parts[1][2]), config.seed)
    return (yield from save_model(config, card, start, fitted, dataset, split, record, kept))


def training_card(config: TrainConfig, record: dict[str, Any], device: str) -> dict[str, Any]:
    """Describe how the weights were made, for the card.

    Parameters
    ----------
    config : TrainConfig
    record : dict
        Of the training.
    device : str

    Returns
    -------
    dict
        Fields of `napari_leukocls.models.card.Training`.
    """
    history = record["history"]
    best = history[record["best_epoch"]] if 0 <= record["best_epoch"] < len(history) else {}
    return {
        **settings_card(config),
        "epochs": len(history),
        "best_epoch": record["best_epoch"] + 1,
        "ended_because": record["why"],
        "seconds": history[-1]["seconds"] if history else 0.0,
        "accuracy": best.get("accuracy"),
        "device": device,
        "finished": calibrate.finished_at(),
    } | ({"repeats": record["repeats"]} if "repeats" in record else {})


def settings_card(config: TrainConfig) -> dict[str, Any]:
    """List the settings that differ from the defaults, without the paths of this machine.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    dict
        Fields of `napari_leukocls.models.card.Training`.
    """
    paths = {"out", "data", "corrections", "restart", "weights", "from_model", "teacher"}
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude=paths)
    return {"preset": config.preset, "settings": settings, "seed": config.seed}


def save_model(
    config: TrainConfig,
    card: dict[str, Any],
    start: Start,
    fitted: Fitted,
    dataset: Dataset | None,
    split: Split | None,
    record: dict[str, Any],
    replay: Replay | None = None,
) -> Generator[TrainEvent, None, Path]:
    """Write the model's folder, remove the checkpoint, and report the end of the training.

    Parameters
    ----------
    config : TrainConfig
    card : dict
        Fields of `napari_leukocls.models.card.ModelCard`.
    start : Start
        With the trained network.
    fitted : Fitted
    dataset : Dataset or None
        None where no labelled crop was learnt from; there is no ``split.csv`` then.
    split : Split or None
    record : dict
        Of the training.
    replay : Replay, optional
        Stored features of known classes, for when the model is adapted.

    Yields
    ------
    TrainEvent
        ``finished`` or ``stopped``.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    target = Path(config.out) / config.model_name
    tensors = {**start.net.state_dict()}
    tensors |= {f"{OOD_PREFIX}{name}": torch.from_numpy(value) for name, value in fitted.ood_tensors.items()}

    def further(folder: Path, digest: str) -> None:
        if replay is not None:
            save_replay(folder / REPLAY, replay, digest)
        if dataset is not None and split is not None:
            write_split(folder / SPLIT_NAME, split_rows(dataset, split))
        if config.from_model:
            # What the model before has learnt from, this one has learnt from, too.
            names = find_model(config.from_model).path / NAMES_NAME
            if names.is_file():
                shutil.copy(names, folder)
        write_history(folder / "history.csv", record["history"])
        write_json(folder / "run.json", {"kind": "training", "config": config.model_dump(mode="json")})

    if (target / CARD_NAME).is_file():
        yield TrainEvent("warning", {"message": f"the earlier model in '{target}' is replaced."})
    digest = write_model(target, make_card(card, f"of {config.model_name}"), tensors, further)
    remove_checkpoint(Path(config.out) / "checkpoint")
    stopped = record["why"] == "stopped"
    figures = {
        "model": str(target),
        "name": card["name"],
        "why": record["why"],
        "best_epoch": record["best_epoch"] + 1,
        "validation": card["validation"],
        "test": card["test"],
        "weights_sha256": digest,
    }
    figures |= {key: card[key] for key in ("adaptation",) if key in card}
    yield TrainEvent("stopped" if stopped else "finished", figures)
    return target


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """Write ``history.csv``: one row for each epoch.

    Parameters
    ----------
    path : Path
    history : list of dict
        Empty for a model that was fitted without epochs.
    """
    with open(path, "w", encoding="utf-8", newline="") as file:
        if history:
            writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished training.

    Parameters
    ----------
    folder : Path
        Of the checkpoint; it is removed too if it is empty.
    """
    if (folder / FILE).is_file():
        (folder / FILE).unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def split_rows(dataset: Dataset, split: Split) -> list[SplitRow]:
    """Return the rows of ``split.csv``: all crops with their hashes and parts; left-out crops too.

    Parameters
    ----------
    dataset : Dataset
    split : Split

    Returns
    -------
    list of SplitRow
    """
    rows = [
        SplitRow(
            crop.file,
            digest,
            crop.class_name,
            PARTS[part] if part >= 0 else "",
            "" if part >= 0 else "it looks the same as a crop of a later part",
        )
        for crop, digest, part in zip(dataset.crops, dataset.hashes, split.part, strict=True)
    ]
    return [*rows, *(SplitRow(file, "", "", "", reason) for file, reason in dataset.left_out)]
