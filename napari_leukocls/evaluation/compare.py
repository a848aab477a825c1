"""Several models on the same crops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_leukocls.architectures.introspection import count_macs, count_parameters
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.device import resolve_device
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.evaluation import significance
from napari_leukocls.evaluation.bootstrap import interval, resample_weights, weighted_metrics
from napari_leukocls.evaluation.figures import pareto_figure
from napari_leukocls.evaluation.metrics import classification_metrics
from napari_leukocls.evaluation.predict import predict_models, read_crops
from napari_leukocls.evaluation.report import write_figures
from napari_leukocls.evaluation.shared_classes import Ground, common_classes, ground_of, project
from napari_leukocls.evaluation.significance import compare_repeats, read_repeats
from napari_leukocls.evaluation.speed import Speed, measure_speed, pareto
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.io.html import render
from napari_leukocls.io.serialise import to_plain, write_json, write_table
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.evaluation.predict import Looks
    from napari_leukocls.models.registry import ModelEntry


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
    entries = [find_model(model) for model in models]
    names = distinct_names(entries)
    make_folder(out_dir)
    place = resolve_device(device)
    classifiers = [load_classifier(entry.path, place) for entry in entries]
    dataset = yield from read_crops(data)
    token = cancel or CancelToken()
    looks = yield from predict_models(dataset, classifiers, compact(place), um_per_px, token)
    yield Progress("time", 0, 1, "timing the models")
    ground = common_ground(dataset, classifiers)
    speeds = timings(names, classifiers, looks)
    token.check()
    result = _compared(names, entries, classifiers, dataset, looks, ground, speeds)
    result |= {"data": str(data), "device": place}
    write_comparison(out_dir, result)
    return result


def _compared(
    names: Sequence[str],
    entries: Sequence[ModelEntry],
    classifiers: Sequence[Classifier],
    dataset: Dataset,
    looks: Looks,
    ground: Ground,
    speeds: dict[str, Speed],
) -> dict[str, Any]:
    """The models' figures on the crops that all can be asked for, and what of the data was left out."""
    contestants = [
        _contestant(name, entry, classifier, looks, number, ground, speeds[name])
        for number, (name, entry, classifier) in enumerate(zip(names, entries, classifiers, strict=True))
    ]
    groups = dataset.groups
    result = compare(ground, contestants, None if groups is None else groups[ground.rows])
    notes = [*looks.notes, *_left_out(dataset, ground)]
    return {**result, "notes": notes, "skipped": dataset.skipped}


def _left_out(dataset: Dataset, ground: Ground) -> list[str]:
    """What of the data no model was measured on, in words."""
    notes = []
    unknown = len(dataset.crops) - len(ground.rows)
    if unknown:
        notes.append(f"{unknown} crops are of classes that not every model knows and were left out.")
    if dataset.skipped:
        notes.append(f"{len(dataset.skipped)} files could not be read and were skipped.")
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


def common_ground(dataset: Dataset, classifiers: Sequence[Classifier]) -> Ground:
    """Crops and classes that all models can be asked for."""
    scheme = default_scheme()
    classes = common_classes([classifier.classes for classifier in classifiers], scheme.coarsen)
    if len(classes) < 2:
        raise InputError(
            "the models have fewer than two classes in common; compare models of the same cells."
        )
    ground = ground_of([crop.class_name for crop in dataset.crops], classes, scheme.coarsen)
    if len(ground.rows) == 0:
        raise InputError(f"no crop is of a class that the models share ({', '.join(classes)}); check DATA.")
    return ground


def timings(names: Sequence[str], classifiers: Sequence[Classifier], looks: Looks) -> dict[str, Speed]:
    """Time the models on crops of the data, from pixels to probabilities."""

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


N_BOOT = 1000

LEVEL = 0.05

_SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "mcc",
    "auc_macro",
    "ece",
    "brier",
    "review_rate",
    "accuracy_not_reviewed",
)


@dataclass(frozen=True)
class Contestant:
    """A model on common ground.

    Attributes
    ----------
    name : str
    probabilities : numpy.ndarray, (N, C + 1)
        As `napari_leukocls.evaluation.shared_classes.project` gives them.
    needs_review : numpy.ndarray, (N,), bool
    ood_score : numpy.ndarray, (N,)
    speed : Speed
    facts : dict
        Of the model: ``architecture``, ``parameters``, ``mb``, ``gmacs``, ``weights_sha256``.
    repeats : dict
        As `napari_leukocls.evaluation.significance.read_repeats` gives them.
    """

    name: str
    probabilities: np.ndarray
    needs_review: np.ndarray
    ood_score: np.ndarray
    speed: Speed
    facts: dict[str, Any]
    repeats: dict[str, dict[str, float]] = field(default_factory=dict)


def compare(
    ground: Ground, contestants: Sequence[Contestant], groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure and test models on common ground.

    Parameters
    ----------
    ground : Ground
    contestants : sequence of Contestant
    groups : numpy.ndarray, (N,), optional
        Patient or slide of each crop of the ground; the bootstrap draws these whole.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        As ``compare.json``: ``n``, ``classes``, ``models`` (one entry each) and ``pairs``.
    """
    models = [_measured(ground, model, groups, seed) for model in contestants]
    front = pareto(
        np.array([row["ms_per_image"] for row in models]), np.array([row["macro_f1"] for row in models])
    )
    for row, best in zip(models, front, strict=True):
        row["pareto"] = bool(best)
    return {
        "n": len(ground.rows),
        "classes": list(ground.classes),
        "models": models,
        "pairs": _pairs(ground, contestants, groups, seed),
        "bootstrap": {"n": N_BOOT, "seed": seed, "by_group": groups is not None},
    }


def _measured(ground: Ground, model: Contestant, groups: np.ndarray | None, seed: int) -> dict[str, Any]:
    names = np.array(ground.columns, dtype=object)[ground.truth]
    outside = bool(model.probabilities[:, -1].any())
    columns = ground.columns if outside else ground.classes
    found = classification_metrics(
        names,
        model.probabilities[:, : len(columns)],
        columns,
        model.ood_score,
        model.needs_review,
        N_BOOT,
        seed,
        groups=groups,
    )
    speed = model.speed
    row: dict[str, Any] = {"model": model.name, "n": found["n"]}
    for name in _SHOWN:
        row[name] = found[name]
        row[f"{name}_ci95"] = found[f"{name}_ci95"]
    return row | {
        "ms_per_image_batch1": speed.single.ms,
        "ms_per_image_batch1_quartiles": list(speed.single.quartiles),
        "best_batch": speed.best.batch,
        "ms_per_image": speed.best.ms,
        "ms_per_image_quartiles": list(speed.best.quartiles),
        "images_per_s": speed.best.images_per_s,
        "timing_repeats": speed.repeats,
        "f1_per_ms": found["macro_f1"] / speed.best.ms,
        **model.facts,
        "per_class": {name: found["per_class"][name] for name in ground.classes},
    }


def _pairs(
    ground: Ground, contestants: Sequence[Contestant], groups: np.ndarray | None, seed: int
) -> list[dict[str, Any]]:
    pairs = []
    drawn = [_drawn(ground, model, groups, seed) for model in contestants]
    right = [model.probabilities.argmax(axis=1) == ground.truth for model in contestants]
    for first, second in itertools.combinations(range(len(contestants)), 2):
        differing = significance.discordant(right[first], right[second])
        row: dict[str, Any] = {
            "first": contestants[first].name,
            "second": contestants[second].name,
            "n": differing.n,
            "only_first_right": differing.lost,
            "only_second_right": differing.gained,
            "accuracy_difference": differing.difference,
            "accuracy_difference_ci95": list(significance.difference_interval(differing)),
            "p_mcnemar": significance.mcnemar(differing),
        }
        for name in ("macro_f1", "auc_macro"):
            change = drawn[second][name] - drawn[first][name]
            # The first draw is the crops themselves.
            row[f"{name}_difference"] = float(change[0])
            row[f"{name}_difference_ci95"] = list(interval(change[1:]))
        row["auc"] = _areas(ground, contestants[first], contestants[second])
        row["repeats"] = compare_repeats(contestants[first].repeats, contestants[second].repeats)
        pairs.append(row)
    for row, p in zip(pairs, significance.holm([row["p_mcnemar"] for row in pairs]), strict=True):
        row["p_holm"] = p
        row["better"] = _better(row, p)
    repeated = [row["repeats"] for row in pairs if row["repeats"]]
    for name in ("p_wilcoxon", "p_corrected_t"):
        for one, p in zip(repeated, significance.holm([one[name] for one in repeated]), strict=True):
            one[f"{name}_holm"] = p
    return pairs


def _better(row: Mapping[str, Any], p: float) -> str | None:
    """Name of the model that errs less by more than chance; None where neither does."""
    if p >= LEVEL:
        return None
    return str(row["second"] if row["accuracy_difference"] > 0 else row["first"])


def _drawn(ground: Ground, model: Contestant, groups: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
    """Metrics of the crops, and of resamples; the same for each model, so that differences are paired."""
    once = np.ones((1, len(ground.truth)), np.float32)
    blocks = [
        weighted_metrics(ground.truth, model.probabilities, weights)
        for weights in (once, *resample_weights(len(ground.truth), N_BOOT, seed, groups))
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in ("macro_f1", "auc_macro")}


def _areas(ground: Ground, first: Contestant, second: Contestant) -> dict[str, dict[str, float]]:
    """DeLong's test for each class against the rest, with Holm's adjustment over the classes."""
    tests = [
        significance.delong(
            ground.truth == place, first.probabilities[:, place], second.probabilities[:, place]
        )
        for place in range(len(ground.classes))
    ]
    adjusted = significance.holm([test.p for test in tests])
    return {
        name: {"first": test.first, "second": test.second, "p_delong": test.p, "p_holm": p}
        for name, test, p in zip(ground.classes, tests, adjusted, strict=True)
    }


def comparison_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """``compare.csv``: one row a model; limits and quartiles in columns of their own."""
    rows = []
    for model in result["models"]:
        row: dict[str, Any] = {}
        for key, value in model.items():
            if key == "per_class":
                row |= {f"recall_{name}": one["recall"] for name, one in value.items()}
            elif key.endswith("_ci95"):
                row[f"{key}_low"], row[f"{key}_high"] = value
            elif key.endswith("_quartiles"):
                row[key.replace("quartiles", "q1")], row[key.replace("quartiles", "q3")] = value
            else:
                row[key] = value
        rows.append(row)
    return pd.DataFrame(rows)


def write_comparison(out_dir: str | Path, result: dict[str, Any]) -> dict[str, Path]:
    """Write ``compare.csv``, ``compare.json``, the Pareto figure as PNG and SVG, and ``report.html``.

    Returns
    -------
    dict of str to Path
        Each file by its name.
    """
    folder = make_folder(out_dir)
    paths = {name: folder / name for name in ("compare.csv", "compare.json", "report.html")}
    write_table(comparison_table(result), paths["compare.csv"])
    shown = to_plain(result)
    write_json(paths["compare.json"], shown)
    pictures = write_figures(folder, {"pareto": pareto_figure(result["models"])}, paths)
    atomic_text(paths["report.html"], render("comparison", pictures, result=shown))
    return paths
