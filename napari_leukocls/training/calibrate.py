"""From trained weights to a model folder: what is fitted on validation, the test, and the card."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, f1_score

from napari_leukocls.classification import ood
from napari_leukocls.classification.classifier import Classifier, join_kinds
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.calibration import ece, fit_temperature
from napari_leukocls.evaluation.metrics import classification_metrics
from napari_leukocls.models.card import ModelCard
from napari_leukocls.progress import drain

if TYPE_CHECKING:
    from napari_leukocls.classification.dataset import Dataset
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.network import Start
    from napari_leukocls.training.split import Split

#: Training cells of each class that the out-of-distribution score is fitted on.
OOD_CELLS = 400
#: Fewer validation cells than this give no threshold that could be trusted: all unsure cells go to review.
MIN_FOR_THRESHOLD = 20
_HEADLINE = ("n", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "auc_macro", "ece", "review_rate")


@dataclass(frozen=True)
class Fitted:
    """What is fitted on cells that were not trained on.

    Attributes
    ----------
    temperature, review_threshold : float
    ood_tensors : dict of numpy.ndarray
    ood_threshold : float
    validation : dict
        Figures for the card.
    """

    temperature: float
    review_threshold: float
    ood_tensors: dict[str, np.ndarray] = field(default_factory=dict)
    ood_threshold: float = float("inf")
    validation: dict[str, Any] = field(default_factory=dict)


def review_threshold(probabilities: np.ndarray, truth: np.ndarray, target_error: float) -> float:
    """Lowest probability from which on at most a share of `target_error` of the cells is wrong.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
    target_error : float

    Returns
    -------
    float
        0.5 to 0.99.
    """
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    for limit in np.arange(0.5, 0.99, 0.01):
        kept = best >= limit
        if kept.any() and 1 - right[kept].mean() <= target_error:
            return round(float(limit), 2)
    return 0.99


def fit_on_validation(
    training: tuple[np.ndarray, np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray, np.ndarray],
    config: TrainConfig,
) -> Fitted:
    """Fit temperature, review threshold and out-of-distribution score.

    Parameters
    ----------
    training, validation : tuple of numpy.ndarray
        Features (N, D), logits (N, C) and classes (N,) of the two parts.
    config : TrainConfig

    Returns
    -------
    Fitted
    """
    features, logits, truth = validation
    if not np.isfinite(logits).all():
        raise InputError("the trained network gives no finite numbers: train again with a lower --lr.")
    temperature = fit_temperature(logits, truth)
    scaled = softmax(np.asarray(logits, float) / temperature, axis=1)
    guess = scaled.argmax(axis=1)
    limit = review_threshold(scaled, truth, config.target_error)
    tensors = ood.fit(*training, (features, logits))
    score = ood.score(features, logits, tensors)
    figures = {
        "n": len(truth),
        "accuracy": float((guess == truth).mean()),
        "macro_f1": float(f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)),
        "ece": float(ece(scaled, truth)),
        "review_rate": float((scaled.max(axis=1) < limit).mean()),
    }
    return Fitted(
        float(temperature),
        limit if len(truth) >= MIN_FOR_THRESHOLD else max(limit, 0.9),
        tensors,
        float(np.quantile(score, 1 - config.ood_share)),
        figures,
    )


def outputs_of(classifier: Classifier, pixels: np.ndarray, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and features of crops, computed as in prediction.

    Parameters
    ----------
    classifier : Classifier
    pixels : numpy.ndarray, (N, S, S, 3), uint8
    batch : int

    Returns
    -------
    tuple of numpy.ndarray
        (N, C) and (N, D).
    """
    return drain(classifier.outputs(pixels, batch))


def some_of_each(rows: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the first rows of each class.

    Parameters
    ----------
    rows : numpy.ndarray, int
    labels : numpy.ndarray, (N,), int
    count : int
        Rows of each class, at most.

    Returns
    -------
    numpy.ndarray, int
    """
    return np.concatenate([rows[labels[rows] == k][:count] for k in np.unique(labels[rows])])


def base_card(start: Start, config: TrainConfig) -> dict[str, Any]:
    """Return what the card states before anything is fitted.

    Parameters
    ----------
    start : Start
    config : TrainConfig

    Returns
    -------
    dict
    """
    rule = start.rule
    old = start.card
    card: dict[str, Any] = {
        "format_version": 1,
        "name": config.model_name,
        "kind": "classifier",
        "architecture": start.entry.name,
        "arguments": start.arguments,
        "classes": list(start.classes),
        "input_size": [rule.side_px, rule.side_px],
        "mean": list(start.mean),
        "std": list(start.std),
        "crop": asdict(rule),
        "stain": start.stain,
        "second_look": config.second_look or (old.second_look if old is not None else 0.0),
        "start": start.note,
        "intended_use": "Sorting cells of stained smears for research and training; not for diagnosis.",
        "licence": f"as the training data's; architecture: {start.entry.licence}",
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
    }
    if isinstance(start.entry.cam_target, str) and start.entry.cam_target:
        card["gradcam"] = {"layer": start.entry.cam_target, "reshape": start.entry.cam_reshape or None}
    if old is not None:
        card |= {"licence": old.licence, "known_limits": old.known_limits}
        if old.gradcam is not None:
            card["gradcam"] = old.gradcam.model_dump()
    return card


def data_card(dataset: Dataset, split: Split, config: TrainConfig) -> dict[str, Any]:
    """Return the training data and the split, for the card; ``split.csv`` has the hashes of all files.

    Parameters
    ----------
    dataset : Dataset
    split : Split
    config : TrainConfig

    Returns
    -------
    dict
    """
    rows = split.rows("train")
    labels = np.array(dataset.labels)
    return {
        "training_data": {
            "sources": [source for source in (config.data, config.corrections) if source],
            "files_sha256": split.record["files_sha256"]["train"],
            "counts": dict(sorted(Counter(labels[rows].tolist()).items())),
            "left_out": len(dataset.left_out),
        },
        "split": {**split.record, "files": "split.csv"},
    }


def test_figures(
    classifier: Classifier,
    pixels: np.ndarray,
    kinds: np.ndarray,
    truth: list[str],
    groups: list[str],
) -> dict[str, Any]:
    """Measure the finished model on the test part, as ``leukocls evaluate`` does.

    Nothing else uses the test part; the card states when it was used.

    Parameters
    ----------
    classifier : Classifier
    pixels : numpy.ndarray, (N, S, S, 3), uint8
    kinds : numpy.ndarray, (N, 3)
        The segmenter's votes for red cell, leukocyte and platelet.
    truth : sequence of str
    groups : sequence of str
        Patient or slide of each crop.

    Returns
    -------
    dict
        For the card.
    """
    predictions = join_kinds(classifier.predict(pixels, 64), kinds)
    review = (predictions.probabilities.max(axis=1) < classifier.card.review_threshold) | (
        predictions.ood_score >= predictions.ood_threshold
    )
    metrics = classification_metrics(
        truth,
        predictions.probabilities,
        classifier.classes,
        predictions.ood_score,
        review,
        temperature=classifier.card.temperature,
        groups=np.array(groups) if groups and all(groups) else None,
    )
    figures = {name: metrics[name] for name in _HEADLINE if name in metrics}
    figures |= {f"{name}_ci95": metrics[f"{name}_ci95"] for name in _HEADLINE if f"{name}_ci95" in metrics}
    guess = predictions.probabilities.argmax(axis=1)
    return {
        "touched": f"once, on {finished_at()}, after everything else was fixed",
        **figures,
        "per_class": metrics["per_class"],
        "confusion": confusion(truth, [classifier.classes[k] for k in guess], classifier.classes),
    }


def add_test(
    card: dict[str, Any],
    start: Start,
    fitted: Fitted,
    dataset: Dataset,
    crops: CutCrops,
    split: Split,
    device: str,
) -> None:
    """Measure the model on the test part, and put the figures into the card; without a test part the card says so.

    Parameters
    ----------
    card : dict
        The content of ``model.json`` so far.
    start : Start
    fitted : Fitted
    dataset : Dataset
    crops : CutCrops
    split : Split
    device : str
    """
    rows = split.rows("test")
    if len(rows) == 0:
        card["test"] = {"touched": "never: no test part was set aside"}
        return
    ready = classifier_of(card, start.net, fitted, device)
    groups = [dataset.crops[row].patient or dataset.crops[row].slide for row in rows]
    truth = [dataset.crops[row].class_name for row in rows]
    card["test"] = test_figures(ready, crops.pixels[rows], crops.kinds[rows], truth, groups)
    card["confusion_matrix"] = card["test"].pop("confusion")


def confusion(truth: list[str], guess: list[str], classes: tuple[str, ...]) -> list[list[int]]:
    """Count true against predicted classes.

    Parameters
    ----------
    truth : sequence of str
    guess : sequence of str
    classes : sequence of str

    Returns
    -------
    list of list of int
        Rows are the truth, columns the prediction, in the order of the classes.
    """
    value: list[list[int]] = confusion_matrix(truth, guess, labels=list(classes)).tolist()
    return value


def finished_at() -> str:
    """Return the time in UTC, to the second.

    Returns
    -------
    str
    """
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def classifier_of(
    card: dict[str, Any], net: torch.nn.Module, fitted: Fitted | None, device: str
) -> Classifier:
    """Make a classifier of a network in memory.

    Parameters
    ----------
    card : dict
        The content of ``model.json`` so far.
    net : torch.nn.Module
    fitted : Fitted or None
    device : str

    Returns
    -------
    Classifier
    """
    tensors = {} if fitted is None else {k: torch.from_numpy(v) for k, v in fitted.ood_tensors.items()}
    return Classifier(ModelCard(**card), net.cpu().eval(), tensors, "", device)


def with_fitted(card: dict[str, Any], fitted: Fitted) -> dict[str, Any]:
    """Return the card with what was fitted.

    Parameters
    ----------
    card : dict
        The content of ``model.json`` so far.
    fitted : Fitted

    Returns
    -------
    dict
    """
    return card | {
        "temperature": fitted.temperature,
        "review_threshold": fitted.review_threshold,
        "ood": {"method": ood.method(fitted.ood_tensors), "threshold": fitted.ood_threshold},
        "validation": fitted.validation,
    }
