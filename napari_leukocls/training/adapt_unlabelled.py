"""A new laboratory from images without labels: its cells are outlined as in an analysis, and compared with the old."""

from __future__ import annotations

import csv
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.analysis.field import candidates, outline, under_even_light
from napari_leukocls.analysis.folder_scale import scales_of_images
from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.classification.stain import normalise
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import InputError
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.io.images import IMAGE_SUFFIXES, read_image
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.io.serialise import json_text, sha256_of
from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import OOD_PREFIX, read_weights
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.segmentation.common_scale import CommonScales
from napari_leukocls.segmentation.scale import INVERTED, count_images, find_scale, steady_diameter
from napari_leukocls.training import calibrate
from napari_leukocls.training.adapt import RECORD, training_card, what_is_known
from napari_leukocls.training.calibrate import Fitted
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.head import features_of, frozen_copy
from napari_leukocls.training.model_folder import save_model
from napari_leukocls.training.network import start_network
from napari_leukocls.training.site_layer import Layer
from napari_leukocls.training.site_shift import Moved, learn_unlabelled
from napari_leukocls.training.trainer import normalisation_of
from napari_leukocls.types import CELL_KINDS

if TYPE_CHECKING:
    from napari_leukocls.analysis.engine import Engine
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start

#: Leukocytes after which no further image is read.
ENOUGH = 500


def adapt_unlabelled(
    config: TrainConfig, backend: Backend, cancel: CancelToken, old: Path
) -> Generator[TrainEvent, None, Path]:
    """Adapt a model to the leukocytes of images without labels, if that can be done.

    Parameters
    ----------
    config : TrainConfig
        ``data`` is a folder of images, with those of its subfolders, a table with a column ``file``, or one image.
    backend : Backend
    cancel : CancelToken
    old : Path
        Folder of the model that is in use now: it is kept if the images do not tell a change.

    Yields
    ------
    TrainEvent
        The last is ``finished``, or ``kept`` if the model is left as it is.

    Returns
    -------
    Path
        Folder of the new model, or of the old one if that is kept.

    Raises
    ------
    InputError
        If there is no image.
    ModelError
        If the model keeps no features of its classes.
    """
    began = time.perf_counter()
    start = yield from start_network(config, ())
    head, replay, _ = what_is_known(config, start)
    assert start.card is not None
    crops, found = yield from cells_of_images(config, start, cancel)
    yield TrainEvent("progress", {"stage": "features", "done": 0, "total": 1})
    net = frozen_copy(start, backend)
    plain = features_of(net, normalise(crops, start.stain), normalisation_of(start), backend, config)
    before = Layer(head.weight.detach().double().numpy(), head.bias.detach().double().numpy())
    yield TrainEvent("progress", {"stage": "judge", "done": 0, "total": 1})
    moved = learn_unlabelled(plain.numpy(), before, replay, start.card.temperature, config.seed)
    record = {"of": start.note, "without_labels": True, **found, "check": moved.figures}
    if moved.layer is None:
        return (yield from _keep(config, moved, record, old))
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(moved.layer.bias))
    limits = limits_of(config, start)
    made = calibrate.with_fitted(_card(start, config), limits)
    made["ood"] = start.card.ood.model_dump(mode="json")
    made["training"] = training_card(config, began, str(backend.device))
    made["adaptation"] = record | {
        "changed": "biases of the last layer",
        "how": sureness(moved.figures, found),
    }
    ended = {"why": "fitted", "best_epoch": 0, "history": []}
    return (yield from save_model(config, made, start, limits, None, None, ended, replay))


def limits_of(config: TrainConfig, start: Start) -> Fitted:
    """Return temperature, thresholds and out-of-distribution score of the model that is adapted.

    Parameters
    ----------
    config : TrainConfig
    start : Start

    Returns
    -------
    Fitted
    """
    assert start.card is not None
    card = start.card
    tensors, _ = read_weights(find_model(config.from_model).path)
    score = {
        name.removeprefix(OOD_PREFIX): value.float().numpy()
        for name, value in tensors.items()
        if name.startswith(OOD_PREFIX)
    }
    limit = float("inf") if card.ood.threshold is None else card.ood.threshold
    figures = {} if card.validation is None else card.validation.model_dump(mode="json")
    figures["of"] = "the model before, on cells of the laboratories that it was trained on"
    return Fitted(card.temperature, card.review_threshold, score, limit, figures)


def sureness(figures: dict[str, Any], found: dict[str, Any]) -> str:
    """State what was done, and how sure that is.

    Parameters
    ----------
    figures : dict
        The checks of the shift.
    found : dict
        Counts of cells and images.

    Returns
    -------
    str
        One line.
    """
    changed = figures["classes_changed"]
    return (
        f"The stain and camera of {found['cells']} cells in {count_images(found['images'])} were taken into account. "
        f"Two halves of the cells agree on the change by {100 * figures['agreement']:.0f} %, and it brings the cells "
        f"{100 * figures['nearer']:.1f} % nearer to those that the model knows. {changed} of the cells get another "
        "class. Without labels it cannot be told how many of these are right: check some of them, or adapt with about "
        "a hundred labelled cells."
    )


def _keep(
    config: TrainConfig, moved: Moved, record: dict[str, Any], folder: Path
) -> Generator[TrainEvent, None, Path]:
    message = f"the model is kept as it is: {moved.why}; labelled cells help more."
    atomic_text(Path(config.out) / RECORD, json_text({"kept": True, "message": message, **record}))
    yield TrainEvent("kept", {"model": str(folder), "message": message, "adaptation": record})
    return folder


def _card(start: Start, config: TrainConfig) -> dict[str, Any]:
    """The card of the old model, with what differs: its own test was of another laboratory."""
    assert start.card is not None
    old = start.card.model_dump(mode="json")
    names = ("training_data", "split", "prior", "softening", "familiarity")
    inherited = {name: old[name] for name in names if old.get(name) is not None}
    return (
        calibrate.base_card(start, config)
        | inherited
        | {"test": {"touched": "never: the images have no labels"}}
    )


def images_of(data: str) -> list[Path]:
    """List the images of a folder and its subfolders, of a table with a column ``file``, or one image.

    Parameters
    ----------
    data : str

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        If there is none.
    """
    folder = Path(data)
    if folder.suffix.lower() == ".csv":
        try:
            with folder.open(encoding="utf-8-sig", newline="") as stream:
                return [folder.parent / row["file"] for row in csv.DictReader(stream)]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{data} is no table of images: it needs a column named file.") from error
    if not folder.is_dir():
        return [field for slide in expand_inputs([data]) for field in slide.fields]
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise InputError(f"{data} holds no image: give a folder of images of this laboratory.")
    return files


def cells_of_images(
    config: TrainConfig, start: Start, cancel: CancelToken
) -> Generator[TrainEvent, None, tuple[np.ndarray, dict[str, Any]]]:
    """Outline the leukocytes of images as an analysis does, and cut their crops.

    Parameters
    ----------
    config : TrainConfig
    start : Start
    cancel : CancelToken

    Yields
    ------
    TrainEvent

    Returns
    -------
    crops : numpy.ndarray, (N, S, S, 3), uint8
    found : dict
        Images and cells, and the SHA-256 of the images.
    """
    settings = AnalyzeConfig(
        classifier=config.from_model, device=config.device, pixel_size_um=config.um_per_px
    )
    engine = load_engine(settings)
    files = images_of(config.data)
    scales = scales_of_images(files, engine.config, engine.compact)
    # Of many images some from everywhere, and not the first slide's alone.
    files = [files[i] for i in np.random.default_rng(config.seed).permutation(len(files))]
    parts: list[np.ndarray] = []
    digests: list[str] = []
    unread: list[str] = []
    for number, file in enumerate(files):
        cancel.check()
        yield TrainEvent("progress", {"stage": "cut", "done": number, "total": len(files)})
        try:
            crops = leukocytes_of(file, engine, start, scales)
            digests.append(sha256_of(file))
        except (InputError, OSError):
            unread.append(file.name)
            continue
        parts.append(crops)
        if sum(map(len, parts)) >= ENOUGH:
            break
    if unread:
        message = f"{count_images(len(unread))} cannot be read, or inverted, and left out: first {unread[0]}."
        yield TrainEvent("warning", {"message": message})
    cells = int(sum(map(len, parts)))
    yield TrainEvent("log", {"message": f"Leukocytes found: {cells}; images: {len(parts)}."})
    empty = np.zeros((0, start.rule.side_px, start.rule.side_px, 3), np.uint8)
    named = sha256_of("\n".join(sorted(digests)).encode())
    return np.concatenate([empty, *parts]), {"images": len(parts), "cells": cells, "files_sha256": named}


def leukocytes_of(file: Path, engine: Engine, start: Start, scales: CommonScales) -> np.ndarray:
    """Cut the crops of the leukocytes of one image.

    Parameters
    ----------
    file : Path
    engine : Engine
    start : Start
    scales : CommonScales
        Of the images of the same microscope.

    Returns
    -------
    numpy.ndarray, (N, S, S, 3), uint8

    Raises
    ------
    InputError
        If the image cannot be read, or is inverted.
    """
    image = read_image(file)
    even, _ = under_even_light(image, engine)
    found = find_scale(even, engine.config, engine.compact, common=scales.of(even.pixels.shape))
    if found.inverted:
        raise InputError(f"'{file}': {INVERTED}")
    diameter = steady_diameter(image, found.scale)
    segmentation = drain(outline(even, engine, found.scale, diameter, found.outlines))
    geometry = cell_geometry(segmentation.labels)
    chosen = candidates(segmentation, geometry.area)
    if len(chosen):
        chosen &= segmentation.kind_probabilities.argmax(axis=1) == CELL_KINDS.index("leukocyte")
    return cut_crops(
        even.pixels,
        segmentation.labels,
        geometry.ids[chosen],
        geometry.bbox[chosen],
        segmentation.scale.um_per_px,
        segmentation.glass_colour,
        start.rule,
        segmentation.red_cell_density,
    )
