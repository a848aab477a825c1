"""Several models compared on the same crops."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from napari_leukocls.evaluation.shared_classes import SharedCrops, common_classes, project, shared_crops
from napari_leukocls.evaluation.significance import compare_repeats, read_repeats
from napari_leukocls.evaluation.speed import Speed, measure_speed, pareto
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.io.html import render
from napari_leukocls.io.serialise import to_plain, write_json, write_table
from napari_leukocls.measurement.comparison import holm
from napari_leukocls.models.card_parts import Training
from napari_leukocls.models.provenance import note_seen
from napari_leukocls.models.registry import find_model
from napari_leukocls.plurals import count_text, first_names
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.evaluation.predict import DatasetOutputs
    from napari_leukocls.models.registry import ModelEntry


#: Resamples of the bootstrap.
N_BOOT = 1000
#: Level of the tests between two models.
LEVEL = 0.05
#: Metrics that are shown of each model.
_SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_precision",
    "mcc",
    "auc_macro",
    "ece",
    "brier",
    "review_rate",
    "accuracy_not_reviewed",
)


@dataclass(frozen=True)
class ComparedModel:
    """A model's outputs on the crops that all compared models are measured on.

    Attributes
    ----------
    name : str
    probabilities : numpy.ndarray, (N, C + 1)
        As `napari_leukocls.evaluation.shared_classes.project` gives them.
    needs_review : numpy.ndarray, (N,), bool
    ood_score : numpy.ndarray, (N,)
    speed : Speed
    facts : dict
        Of the model: ``architecture``, ``parameters``, ``mb``, ``gmacs``, ``weights_sha256``, ``training_s``,
        ``training_accuracy``.
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


def iter_compare(
    models: Sequence[str],
    data: str | Path,
    out_dir: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    cancel: CancelToken | None = None,
    batches: tuple[int, ...] | None = None,
    budget_s: float | None = None,
) -> Generator[Progress, None, dict[str, Any]]:
    """Classify the same crops with every model, time and test the models, and write the results.

    Parameters
    ----------
    models : sequence of str
        Names or folders.
    data : path-like
        Labelled crops. Of a CSV file with a column ``split``, the rows of the test part alone are used.
    out_dir : path-like
        For ``compare.csv``, ``compare.json``, the Pareto figure and ``report.html``.
    device : str
    um_per_px : float, optional
        Pixel size of the crops whose row states none.
    cancel : CancelToken, optional
    batches, budget_s : optional
        As `napari_leukocls.evaluation.speed.measure_speed` takes them.

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
        If a model is named twice.
    InputError
        If the models have fewer than two classes in common, or no crop is of such a class.
    """
    entries = [find_model(model) for model in models]
    names = distinct_names(entries)
    make_folder(out_dir)
    device = resolve_device(device)
    classifiers = [load_classifier(entry.path, device) for entry in entries]
    dataset = yield from read_crops(data)
    seen = [note for entry in entries for note in note_seen(entry, dataset.crops)]
    dataset = replace(dataset, notes=(*dataset.notes, *seen))
    token = cancel or CancelToken()
    outputs = yield from predict_models(dataset, classifiers, compact(device), um_per_px, token)
    yield Progress("time", 0, 1, "timing the models")
    shared = comparable_crops(dataset, classifiers)
    speeds = timings(names, classifiers, outputs, batches, budget_s)
    token.check()
    result = _result(names, entries, classifiers, dataset, outputs, shared, speeds)
    result |= {"data": str(data), "device": device}
    write_comparison(out_dir, result)
    return result


def _result(
    names: Sequence[str],
    entries: Sequence[ModelEntry],
    classifiers: Sequence[Classifier],
    dataset: Dataset,
    outputs: DatasetOutputs,
    shared: SharedCrops,
    speeds: dict[str, Speed],
) -> dict[str, Any]:
    """Compare the models on the crops of their common classes, and note what was left out."""
    models = [
        _compared_model(name, entry, classifier, outputs, number, shared, speeds[name])
        for number, (name, entry, classifier) in enumerate(zip(names, entries, classifiers, strict=True))
    ]
    groups = dataset.groups
    result = compare(shared, models, None if groups is None else groups[shared.rows])
    notes = [*dataset.notes, *outputs.notes, *_left_out(dataset, shared)]
    return {**result, "notes": notes, "data_notes": list(dataset.notes), "skipped": dataset.skipped}


def _left_out(dataset: Dataset, shared: SharedCrops) -> list[str]:
    """Notes on the crops and files that were left out."""
    notes = []
    kept = set(shared.rows.tolist())
    unknown = Counter(crop.class_name for row, crop in enumerate(dataset.crops) if row not in kept)
    if unknown:
        crops = count_text(unknown.total(), "crop was", "crops were")
        named = first_names((f"{name} {number}" for name, number in unknown.most_common()), 8)
        notes.append(f"{crops} left out: not every model knows the class ({named}).")
    if dataset.skipped:
        unread = "files could not be read and were"
        files = count_text(len(dataset.skipped), "file could not be read and was", unread)
        notes.append(f"{files} skipped.")
    return notes


def distinct_names(entries: Sequence[ModelEntry]) -> list[str]:
    """Return a distinct name of each model; models of the same name get their parent folder's name as well.

    Parameters
    ----------
    entries : sequence of ModelEntry

    Returns
    -------
    list of str

    Raises
    ------
    ArgumentError
        If a model is given twice.
    """
    folders = [entry.path.resolve() for entry in entries]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            raise ArgumentError(f"the model '{entries[i].name}' is named twice; name each once.")
    plain = [entry.name for entry in entries]
    return [
        name
        if plain.count(name) == 1
        else f"{folder.parent.name}/{name}"
        if len({f.parent.name for f, n in zip(folders, plain, strict=True) if n == name}) == plain.count(name)
        else str(folder)
        for name, folder in zip(plain, folders, strict=True)
    ]


def comparable_crops(dataset: Dataset, classifiers: Sequence[Classifier]) -> SharedCrops:
    """Find the classes that all models know, and the crops of these classes.

    Parameters
    ----------
    dataset : Dataset
    classifiers : sequence of Classifier

    Returns
    -------
    SharedCrops

    Raises
    ------
    InputError
        If the models have fewer than two classes in common, or no crop is of such a class.
    """
    scheme = default_scheme()
    classes = common_classes([classifier.classes for classifier in classifiers], scheme.coarsen)
    if len(classes) < 2:
        raise InputError(
            "the models have fewer than two classes in common; compare models of the same kind of cells."
        )
    shared = shared_crops([crop.class_name for crop in dataset.crops], classes, scheme.coarsen)
    if len(shared.rows) == 0:
        raise InputError(f"no crop is of a class that all models know ({', '.join(classes)}); check DATA.")
    return shared


def timings(
    names: Sequence[str],
    classifiers: Sequence[Classifier],
    outputs: DatasetOutputs,
    batches: tuple[int, ...] | None = None,
    budget_s: float | None = None,
) -> dict[str, Speed]:
    """Time the models on crops of the data, from pixels to probabilities.

    Parameters
    ----------
    names : sequence of str
    classifiers : sequence of Classifier
    outputs : DatasetOutputs
        Its samples are classified.
    batches, budget_s : optional
        As `napari_leukocls.evaluation.speed.measure_speed` takes them.

    Returns
    -------
    dict of str to Speed
    """

    def work(classifier: Classifier, crops: np.ndarray) -> Callable[[int, int], object]:
        def run(batch: int, turn: int) -> object:
            rows = np.arange(turn * batch, (turn + 1) * batch) % len(crops)
            return classifier.predict(crops[rows], batch)

        return run

    return measure_speed(
        {
            name: work(classifier, crops)
            for name, classifier, crops in zip(names, classifiers, outputs.samples, strict=True)
        },
        batches,
        budget_s=budget_s,
    )


def _compared_model(
    name: str,
    entry: ModelEntry,
    classifier: Classifier,
    outputs: DatasetOutputs,
    number: int,
    shared: SharedCrops,
    speed: Speed,
) -> ComparedModel:
    own = outputs.models[number]
    coarsen = default_scheme().coarsen
    return ComparedModel(
        name,
        project(shared, own.predictions.probabilities, classifier.classes, coarsen),
        own.needs_review[shared.rows],
        own.predictions.ood_score[shared.rows],
        speed,
        {
            "architecture": classifier.card.architecture,
            "parameters": count_parameters(classifier.net),
            "mb": entry.weights.stat().st_size / 1e6,
            "gmacs": count_macs(classifier.net, classifier.card.crop.side_px) / 1e9,
            "weights_sha256": classifier.digest,
            **_training_facts(classifier),
        },
        read_repeats(entry.path),
    )


def _training_facts(classifier: Classifier) -> dict[str, float | None]:
    """How long a model was trained, and how right it was on its training crops, as its card states it."""
    training = classifier.card.training
    stated = training if isinstance(training, Training) else Training()
    return {"training_s": stated.seconds, "training_accuracy": stated.accuracy}


def compare(
    shared: SharedCrops, models: Sequence[ComparedModel], groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure and test models on the crops of their common classes.

    Parameters
    ----------
    shared : SharedCrops
    models : sequence of ComparedModel
    groups : numpy.ndarray, (N,), optional
        Patient or slide of each of these crops; the bootstrap draws whole groups.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        As ``compare.json``: ``n``, ``classes``, ``models`` (one entry each) and ``pairs``.
    """
    rows = [_measured(shared, model, groups, seed) for model in models]
    front = pareto(
        np.array([row["ms_per_image"] for row in rows]), np.array([row["macro_f1"] for row in rows])
    )
    for row, best in zip(rows, front, strict=True):
        row["pareto"] = bool(best)
    return {
        "n": len(shared.rows),
        "classes": list(shared.classes),
        "models": rows,
        "pairs": _pairs(shared, models, groups, seed),
        "bootstrap": {"n": N_BOOT, "seed": seed, "by_group": groups is not None},
    }


def _measured(
    shared: SharedCrops, model: ComparedModel, groups: np.ndarray | None, seed: int
) -> dict[str, Any]:
    names = np.array(shared.columns, dtype=object)[shared.truth]
    outside = bool(model.probabilities[:, -1].any())
    columns = shared.columns if outside else shared.classes
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
        "images_per_s_batch1": speed.single.images_per_s,
        "f1_per_ms": found["macro_f1"] / speed.best.ms,
        "f1_per_ms_batch1": found["macro_f1"] / speed.single.ms,
        **model.facts,
        "per_class": {name: found["per_class"][name] for name in shared.classes},
    }


def _pairs(
    shared: SharedCrops, models: Sequence[ComparedModel], groups: np.ndarray | None, seed: int
) -> list[dict[str, Any]]:
    pairs = []
    drawn = [_resampled_metrics(shared, model, groups, seed) for model in models]
    right = [model.probabilities.argmax(axis=1) == shared.truth for model in models]
    for first, second in itertools.combinations(range(len(models)), 2):
        differing = significance.discordant(right[first], right[second])
        row: dict[str, Any] = {
            "first": models[first].name,
            "second": models[second].name,
            "n": differing.n,
            "only_first_right": differing.lost,
            "only_second_right": differing.gained,
            "accuracy_difference": differing.difference,
            "accuracy_difference_ci95": list(significance.difference_interval(differing)),
            "p_mcnemar": significance.mcnemar(differing),
        }
        for name in ("macro_f1", "auc_macro"):
            change = drawn[second][name] - drawn[first][name]
            # The first row is the crops themselves, without resampling.
            row[f"{name}_difference"] = float(change[0])
            row[f"{name}_difference_ci95"] = list(interval(change[1:]))
        row["auc"] = _areas(shared, models[first], models[second])
        row["repeats"] = compare_repeats(models[first].repeats, models[second].repeats)
        pairs.append(row)
    for row, p in zip(pairs, holm([row["p_mcnemar"] for row in pairs]), strict=True):
        row["p_holm"] = p
        row["better"] = _better(row, p)
    repeated = [row["repeats"] for row in pairs if row["repeats"]]
    for name in ("p_wilcoxon", "p_corrected_t"):
        for one, p in zip(repeated, holm([one[name] for one in repeated]), strict=True):
            one[f"{name}_holm"] = p
    return pairs


def _better(row: Mapping[str, Any], p: float) -> str | None:
    """Name of the model that has significantly fewer errors; None where neither has."""
    if p >= LEVEL:
        return None
    return str(row["second"] if row["accuracy_difference"] > 0 else row["first"])


def _resampled_metrics(
    shared: SharedCrops, model: ComparedModel, groups: np.ndarray | None, seed: int
) -> dict[str, np.ndarray]:
    """Metrics of the crops and of resamples, which are the same for each model, so that differences are paired."""
    once = np.ones((1, len(shared.truth)), np.float32)
    blocks = [
        weighted_metrics(shared.truth, model.probabilities, weights)
        for weights in (once, *resample_weights(len(shared.truth), N_BOOT, seed, groups))
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in ("macro_f1", "auc_macro")}


def _areas(shared: SharedCrops, first: ComparedModel, second: ComparedModel) -> dict[str, dict[str, float]]:
    """DeLong's test for each class against the rest, with Holm's adjustment over the classes."""
    tests = [
        significance.delong(shared.truth == i, first.probabilities[:, i], second.probabilities[:, i])
        for i in range(len(shared.classes))
    ]
    adjusted = holm([test.p for test in tests])
    return {
        name: {"first": test.first, "second": test.second, "p_delong": test.p, "p_holm": p}
        for name, test, p in zip(shared.classes, tests, adjusted, strict=True)
    }


def comparison_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table of ``compare.csv``, one row a model, with limits and quartiles in their own columns.

    Parameters
    ----------
    result : mapping
        As `compare` gives it.

    Returns
    -------
    pandas.DataFrame
    """
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

    Parameters
    ----------
    out_dir : path-like
    result : dict
        As `iter_compare` returns it.

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
