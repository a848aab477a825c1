"""The one way in which a model is made: data, split, epochs, what is fitted afterwards, and the folder."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_leukocls.classification.dataset import Dataset
from napari_leukocls.classification.loading import second_opinion_folder
from napari_leukocls.errors import Cancelled, LeukoclsError, ModelError
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import find_model
from napari_leukocls.paths import bundled_dir
from napari_leukocls.progress import CancelToken
from napari_leukocls.training.adapt import adapt
from napari_leukocls.training.adapt_unlabelled import adapt_unlabelled
from napari_leukocls.training.crops import cut
from napari_leukocls.training.data import gather
from napari_leukocls.training.distributed import find_backend
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.model_folder import make_model
from napari_leukocls.training.network import rule_of, start_network
from napari_leukocls.training.repeats import repeated
from napari_leukocls.training.split import make_split
from napari_leukocls.training.trainer import fit_split

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start

log = logging.getLogger(__name__)

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
        The last is ``finished`` or ``stopped``; ``kept`` where an adaptation made nothing better; where nothing
        could be made, ``failed``, and the error is raised.

    Returns
    -------
    Path
        The model's folder, within ``config.out``; the old model's where that is kept.

    Raises
    ------
    LeukoclsError
        With one line.
    """
    new = not Path(config.out).exists()
    try:
        return (yield from _train(config, cancel or CancelToken()))
    except LeukoclsError as error:
        # Refused before anything was written: no empty folder stays.
        if new:
            with suppress(OSError):
                Path(config.out).rmdir()
        yield TrainEvent("failed", {"message": str(error), "exit_status": error.exit_status})
        raise


def _train(config: TrainConfig, cancel: CancelToken) -> Work:
    out = make_folder(config.out)
    used = config.from_model
    if config.rehearse:
        config = yield from of_what_judges(config)
    rule = rule_of(config)
    backend = find_backend(config)
    if config.without_labels:
        return (yield from adapt_unlabelled(config, backend, cancel, find_model(used).path))
    known = _known_classes(config)
    dataset = yield from gather(config, known)
    if backend.is_main:
        atomic_text(out / "config.json", config.model_dump_json(indent=1) + "\n")
    yield TrainEvent(
        "started",
        {
            "config": config.model_dump(mode="json"),
            "device": str(backend.device),
            "processes": backend.world,
            "classes": sorted(set(dataset.labels)),
            "crops": len(dataset),
        },
    )

    with backend.main_first():
        crops = yield from cut(dataset, config, rule, str(backend.device), cancel)
    if config.rehearse:
        return (yield from adapt(config, dataset, crops, backend, cancel, find_model(used).path))
    return (yield from _one_split(config, dataset, crops, backend, cancel))


def of_what_judges(config: TrainConfig) -> Generator[TrainEvent, None, TrainConfig]:
    """Adapt the model that judges unsure cells, where the model asks one about them.

    Adapted alone, the model would lose its second opinion, and be worse than before where it is needed most
    (``docs/training.md`` has the figures).

    Parameters
    ----------
    config : TrainConfig

    Yields
    ------
    TrainEvent
        A line that says so.

    Returns
    -------
    TrainConfig
        The name of the new model stays.
    """
    folder = find_model(config.from_model).path
    card = read_card(folder)
    other = second_opinion_folder(card, folder)
    if other is None:
        return config
    yield TrainEvent(
        "log",
        {
            "message": f"{card.name} asks {other.name} about cells that it is unsure of: {other.name} is adapted, and "
            "then judges every cell. A cell takes a few times as long to classify."
        },
    )
    named = other.name if other.parent == bundled_dir("models") else str(other)
    return config.model_copy(update={"name": config.model_name, "from_model": named})


def _known_classes(config: TrainConfig) -> tuple[str, ...]:
    if not config.from_model:
        return ()

    return tuple(read_card(find_model(config.from_model).path).classes)


def _one_split(
    config: TrainConfig, dataset: Dataset, crops: CutCrops, backend: Backend, cancel: CancelToken
) -> Work:
    start = yield from start_network(config, sorted(set(dataset.labels)))
    start.rule = crops.rule
    yield from _say_forgotten(start, dataset)
    split = yield from make_split(dataset, config, start.classes)
    repeats = yield from repeated(config, dataset, crops, backend, cancel)
    if repeats and cancel.cancelled:
        raise Cancelled(
            "stopped between repeats: those that are done are kept, and the same command goes on."
        )
    record = yield from fit_split(config, start, dataset, crops, split, backend, cancel, config.seed, True)
    if repeats:
        record["repeats"] = repeats
    if not record["history"] or record["best_epoch"] < 0:
        raise ModelError(f"nothing was learnt ({record['why']}): train again with a lower --lr.")
    if not backend.is_main:
        return Path(config.out) / config.model_name
    return (yield from make_model(config, start, dataset, crops, split, record, str(backend.device)))


def _say_forgotten(start: Start, dataset: Dataset) -> Generator[TrainEvent, None, None]:
    absent = [name for name in start.classes if name not in set(dataset.labels)]
    if absent:
        message = (
            f"the data has no crops of {', '.join(absent)}, which the model knows: it may forget them; use "
            "--preset adapt, or add crops of them."
        )
        yield TrainEvent("warning", {"message": message})
