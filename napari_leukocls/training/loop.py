"""The one way in which a model is made: data, split, epochs, what is fitted afterwards, and the folder."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.errors import Cancelled, LeukoclsError, ModelError
from napari_leukocls.training.dataset import Collection, gather
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.types import CancelToken

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.cutting import CutCrops
    from napari_leukocls.training.network import Start
    from napari_leukocls.training.place import Place
    from napari_leukocls.training.split import Split

log = logging.getLogger(__name__)
#: Crops by which folded normalisations are given their statistics.
UNFOLD_CROPS = 256

Work = Generator[TrainEvent, None, Path]


def iter_train(config: TrainConfig, cancel: CancelToken | None = None) -> Work:
    """Train a model.

    Parameters
    ----------
    config : TrainConfig
    cancel : CancelToken, optional
        A soft stop: the best weights so far become the model. Before the first epoch it ends the training.

    Yields
    ------
    TrainEvent
        The last is ``finished`` or ``stopped``; where nothing could be made, ``failed``, and the error is
        raised.

    Returns
    -------
    Path
        The model's folder, within ``config.out``.

    Raises
    ------
    LeukoclsError
        With one line.
    """
    try:
        return (yield from _train(config, cancel or CancelToken()))
    except LeukoclsError as error:
        yield TrainEvent("failed", {"message": str(error), "exit_status": error.exit_status})
        raise


def _train(config: TrainConfig, cancel: CancelToken) -> Work:
    from napari_leukocls.io.atomic import atomic_text, make_folder
    from napari_leukocls.training.network import rule_of
    from napari_leukocls.training.place import find_place

    out = make_folder(config.out)
    rule = rule_of(config)
    place = find_place(config)
    known = _known_classes(config)
    collection = yield from gather(config, known)
    if place.is_main:
        atomic_text(out / "config.json", config.model_dump_json(indent=1) + "\n")
    yield TrainEvent(
        "started",
        {
            "config": config.model_dump(mode="json"),
            "device": str(place.device),
            "processes": place.world,
            "classes": sorted(set(collection.labels)),
            "crops": len(collection),
        },
    )
    from napari_leukocls.training.cutting import cut

    with place.main_first():
        crops = yield from cut(collection, config, rule, str(place.device), cancel)
    if config.rehearse:
        from napari_leukocls.training.adapt import adapt

        return (yield from adapt(config, collection, crops, place, cancel))
    return (yield from _one_split(config, collection, crops, place, cancel))


def _known_classes(config: TrainConfig) -> tuple[str, ...]:
    if not config.from_model:
        return ()
    from napari_leukocls.classification.card import read_card
    from napari_leukocls.resources import find_model

    return tuple(read_card(find_model(config.from_model).path).classes)


def _one_split(
    config: TrainConfig, collection: Collection, crops: CutCrops, place: Place, cancel: CancelToken
) -> Work:
    from napari_leukocls.training.folder import make_model
    from napari_leukocls.training.network import start_network
    from napari_leukocls.training.repeats import repeated
    from napari_leukocls.training.split import make_split

    start = yield from start_network(config, sorted(set(collection.labels)))
    yield from _say_forgotten(start, collection)
    split = yield from make_split(collection, config, start.classes)
    repeats = yield from repeated(config, collection, crops, place, cancel)
    if repeats and cancel.cancelled:
        raise Cancelled(
            "stopped between repeats: those that are done are kept, and the same command goes on."
        )
    record = yield from fit_split(config, start, collection, crops, split, place, cancel, config.seed, True)
    if repeats:
        record["repeats"] = repeats
    if not record["history"] or record["best_epoch"] < 0:
        raise ModelError(f"nothing was learnt ({record['why']}): train again with a lower --lr.")
    if not place.is_main:
        return Path(config.out) / config.model_name
    return (yield from make_model(config, start, collection, crops, split, record, str(place.device)))


def _say_forgotten(start: Start, collection: Collection) -> Generator[TrainEvent, None, None]:
    absent = [name for name in start.classes if name not in set(collection.labels)]
    if absent:
        message = (
            f"the data has no crops of {', '.join(absent)}, which the model knows: it may forget them; use "
            "--preset adapt, or add crops of them."
        )
        yield TrainEvent("warning", {"message": message})


def fit_split(
    config: TrainConfig,
    start: Start,
    collection: Collection,
    crops: CutCrops,
    split: Split,
    place: Place,
    cancel: CancelToken,
    seed: int,
    keep: bool,
) -> Generator[TrainEvent, None, dict[str, Any]]:
    """Train on one split; the network of `start` then holds the best weights, on the CPU.

    Parameters
    ----------
    keep : bool
        Whether checkpoints are written, and one that is there is gone on from.

    Returns
    -------
    dict
        ``why`` it ended, ``best_epoch`` (from 0) and ``history``.
    """
    from napari_leukocls.classification.stain import fit_reference, normalise
    from napari_leukocls.training.distil import Teacher
    from napari_leukocls.training.fit import Fit, Material
    from napari_leukocls.training.heads import last_layer, train_head
    from napari_leukocls.training.state import FILE

    labels = np.array([start.classes.index(name) for name in collection.labels])
    if config.stain_normalisation != "none" and not start.stain:
        # The reference is the training part's alone.
        start.stain = fit_reference(crops.pixels[split.rows("train")], config.stain_normalisation)
    pixels = normalise(crops.pixels, start.stain)
    material = Material(pixels, labels, split.rows("train"), split.rows("validation"), look_of(start))
    folder = Path(config.out) / "checkpoint" if keep else None
    if folder is not None and place.is_main:
        folder.mkdir(exist_ok=True)
        if config.restart:
            (folder / FILE).unlink(missing_ok=True)
    if start.folded:
        _unfold(start, material)
    cached = config.freeze == "head" and config.cache_features and not (config.mixup or config.cutmix)
    if cached and not config.teacher and place.world == 1 and last_layer(start.net) is not None:
        return (yield from train_head(start, material, config, place, cancel, seed))
    teacher = Teacher(config.teacher, start.classes, place.device) if config.teacher else None
    fit = Fit(start, material, config, place, folder, fingerprint(config, start, split), seed, teacher)
    progress = yield from fit.run(cancel)
    start.net.to("cpu")
    return {"why": progress.why, "best_epoch": progress.best_epoch, "history": progress.history}


def look_of(start: Start) -> Any:
    """How crops become this network's input."""
    from napari_leukocls.training.feed import Look

    outside = 235.0 if start.rule.white is None else start.rule.white
    return Look(start.mean, start.std, outside / 255)


def _unfold(start: Start, material: Any) -> None:
    from napari_leukocls.training.feed import to_unit
    from napari_leukocls.training.folded import unfold_batch_norm

    rows = material.train[:: max(1, len(material.train) // UNFOLD_CROPS)][:UNFOLD_CROPS]
    import torch

    images = to_unit(material.pixels[rows], torch.device("cpu"))
    unfold_batch_norm(start.net, material.look.normalise(images))


def fingerprint(config: TrainConfig, start: Start, split: Split) -> dict[str, Any]:
    """What a checkpoint must agree with to be gone on from."""
    return {
        **config.model_dump(mode="json"),
        "architecture": start.entry.name,
        "start": start.note,
        "classes": list(start.classes),
        "split": split.record["files_sha256"],
    }


def drain(work: Work, tell: Any = None) -> Path:
    """Run a training to its end; `tell` is called with each event."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            return end.value
        if tell is not None:
            tell(event)


__all__ = ["drain", "fit_split", "iter_train"]
