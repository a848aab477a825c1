"""Several classifiers on the same labelled crops: the work behind ``leukocls compare``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.types import CancelToken, Progress

if TYPE_CHECKING:
    from napari_leukocls.assessment import Looks
    from napari_leukocls.classification.predict import Classifier
    from napari_leukocls.evaluation.comparison import Contestant
    from napari_leukocls.evaluation.ground import Ground
    from napari_leukocls.evaluation.speed import Speed
    from napari_leukocls.gathering import Gathered
    from napari_leukocls.resources import ModelEntry


def iter_compare(
    models: Sequence[str],
    data: str | Path,
    out_dir: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, dict[str, Any]]:
    """Show the same crops to every model, time and test them, and write what was found.

    Parameters
    ----------
    models : sequence of str
        Names or folders of models.
    data : path-like
        Labelled crops; of a CSV with a column ``split`` those of the test part alone.
    out_dir : path-like
        For ``compare.csv``, ``compare.json``, the Pareto figure and ``report.html``.
    device : str
    um_per_px : float, optional
        Of crops whose row does not say it.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    dict
        As ``compare.json``.

    Raises
    ------
    ArgumentError
        Where a model is named twice.
    InputError
        Where the models have fewer than two classes in common, or no crop is of one.
    """
    from napari_leukocls.assessment import predict_models
    from napari_leukocls.classification.checkpoint import load_classifier
    from napari_leukocls.compute import resolve_device
    from napari_leukocls.evaluation.comparison import write_comparison
    from napari_leukocls.gathering import gather
    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.resources import find_model
    from napari_leukocls.segmentation.catalogue import compact

    entries = [find_model(model) for model in models]
    names = distinct_names(entries)
    make_folder(out_dir)
    place = resolve_device(device)
    classifiers = [load_classifier(entry.path, place) for entry in entries]
    gathered = gather(data, test_only=True)
    token = cancel or CancelToken()
    looks = yield from predict_models(gathered, classifiers, compact(place), um_per_px, token)
    yield Progress("time", 0, 1, "timing the models")
    ground = common_ground(gathered, classifiers)
    speeds = timings(names, classifiers, looks)
    token.check()
    result = _compared(names, entries, classifiers, gathered, looks, ground, speeds)
    result |= {"data": str(data), "device": place}
    write_comparison(out_dir, result)
    return result


def _compared(
    names: Sequence[str],
    entries: Sequence[ModelEntry],
    classifiers: Sequence[Classifier],
    gathered: Gathered,
    looks: Looks,
    ground: Ground,
    speeds: dict[str, Speed],
) -> dict[str, Any]:
    """The models' figures on the crops that all can be asked for, and what of the data was left out."""
    from napari_leukocls.evaluation.comparison import compare

    contestants = [
        _contestant(name, entry, classifier, looks, number, ground, speeds[name])
        for number, (name, entry, classifier) in enumerate(zip(names, entries, classifiers, strict=True))
    ]
    groups = gathered.groups
    result = compare(ground, contestants, None if groups is None else groups[ground.rows])
    notes = [*looks.notes, *_left_out(gathered, ground)]
    return {**result, "notes": notes, "skipped": gathered.skipped}


def _left_out(gathered: Gathered, ground: Ground) -> list[str]:
    """What of the data no model was measured on, in words."""
    notes = []
    unknown = len(gathered.crops) - len(ground.rows)
    if unknown:
        notes.append(f"{unknown} crops are of classes that not every model knows and were left out.")
    if gathered.skipped:
        notes.append(f"{len(gathered.skipped)} files could not be read and were skipped.")
    return notes


def distinct_names(entries: Sequence[ModelEntry]) -> list[str]:
    """Names of models; of two that are called alike, the folder above is named as well."""
    folders = [entry.path.resolve() for entry in entries]
    for place, folder in enumerate(folders):
        if folder in folders[:place]:
            raise ArgumentError(f"the model '{entries[place].name}' is named twice; name each once.")
    plain = [entry.name for entry in entries]
    return [
        name
        if plain.count(name) == 1
        else f"{folder.parent.name}/{name}"
        if len({f.parent.name for f, n in zip(folders, plain, strict=True) if n == name}) == plain.count(name)
        else str(folder)
        for name, folder in zip(plain, folders, strict=True)
    ]


def common_ground(gathered: Gathered, classifiers: Sequence[Classifier]) -> Ground:
    """Crops and classes that all models can be asked for."""
    from napari_leukocls.evaluation.ground import common_classes, ground_of
    from napari_leukocls.scheme import default_scheme

    scheme = default_scheme()
    classes = common_classes([classifier.classes for classifier in classifiers], scheme.coarsen)
    if len(classes) < 2:
        raise InputError(
            "the models have fewer than two classes in common; compare models of the same cells."
        )
    ground = ground_of([crop.class_name for crop in gathered.crops], classes, scheme.coarsen)
    if len(ground.rows) == 0:
        raise InputError(f"no crop is of a class that the models share ({', '.join(classes)}); check DATA.")
    return ground


def timings(names: Sequence[str], classifiers: Sequence[Classifier], looks: Looks) -> dict[str, Speed]:
    """Time the models on crops of the data, from pixels to probabilities."""
    from napari_leukocls.evaluation.speed import measure_speed

    def work(classifier: Classifier, crops: np.ndarray) -> Callable[[int, int], object]:
        def run(batch: int, turn: int) -> object:
            rows = np.arange(turn * batch, (turn + 1) * batch) % len(crops)
            return classifier.predict(crops[rows], batch)

        return run

    return measure_speed(
        {
            name: work(classifier, crops)
            for name, classifier, crops in zip(names, classifiers, looks.samples, strict=True)
        }
    )


def _contestant(
    name: str,
    entry: ModelEntry,
    classifier: Classifier,
    looks: Looks,
    number: int,
    ground: Ground,
    speed: Speed,
) -> Contestant:
    from napari_leukocls.architectures.anatomy import count_macs, count_parameters
    from napari_leukocls.evaluation.comparison import Contestant
    from napari_leukocls.evaluation.ground import project
    from napari_leukocls.evaluation.repeats import read_repeats
    from napari_leukocls.scheme import default_scheme

    seen = looks.seen[number]
    coarsen = default_scheme().coarsen
    return Contestant(
        name,
        project(ground, seen.predictions.probabilities, classifier.classes, coarsen),
        seen.needs_review[ground.rows],
        seen.predictions.ood_score[ground.rows],
        speed,
        {
            "architecture": classifier.card.architecture,
            "parameters": count_parameters(classifier.net),
            "mb": entry.weights.stat().st_size / 1e6,
            "gmacs": count_macs(classifier.net, classifier.card.crop.side_px) / 1e9,
            "weights_sha256": classifier.digest,
        },
        read_repeats(entry.path),
    )
