"""Our numbers of a reproduction, by the names that the papers' numbers have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls.architectures.introspection import frozen_parameters
from napari_leukocls.architectures.registry import create, entry
from napari_leukocls.models.card import Figures, Training, read_card

#: Network, data set, class, metric.
Key = tuple[str, str, str, str]
#: Keys of ``metrics.json`` by the name of the metric in the papers' tables.
_PLAIN = (
    "accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "mcc",
    "kappa",
    "nmi",
    "auc_macro",
    "auc_micro",
    "average_precision_micro",
    "ece",
    "temperature",
)
_BEFORE = ("ece", "mce", "adaptive_ece", "brier_mean", "log_loss", "sharpness")
_OF_CLASS = ("precision", "recall", "f1", "auc", "partial_auc", "brier", "kl", "ici")
_MEANS = {
    "recall_at_fpr_0.01": "recall_at_fpr_0.01_mean",
    "js_divergence": "js_divergence_mean",
    "precision_at_recall": "precision_at_recall_mean",
    "best_f1_threshold": "best_f1_threshold_mean",
    "ece": "class_ece_mean",
}
_ERRORS = {
    "entropy": "error_entropy",
    "concentration": "error_concentration",
    "confidence_right": "confidence_right",
    "confidence_wrong": "confidence_wrong",
}
_COMPARED = ("ms_per_image_batch1", "images_per_s_batch1", "f1_per_ms_batch1", "parameters", "gmacs")


def measured(out: Path, names: Sequence[str]) -> dict[Key, float]:
    """Collect the numbers of a reproduction.

    Parameters
    ----------
    out : Path
        Its folder.
    names : sequence of str
        Of the trainings.

    Returns
    -------
    dict
        By network, data set (empty, or ``external``), class (empty for all) and metric.
    """
    compared = {row["model"]: row for row in _json(out / "comparison" / "compare.json").get("models", [])}
    found: dict[Key, Any] = {}
    for name in names:
        for data, folder in (("", "evaluations"), ("external", "external")):
            metrics = _json(out / folder / name / "metrics.json")
            if metrics:
                found |= {(name, data, *key): value for key, value in _of_metrics(metrics).items()}
        row = compared.get(name, {})
        of_model = {key: row.get(key) for key in _COMPARED} | _of_model(out / "models" / name / name)
        if row:
            of_model["mib"] = row["parameters"] * 4 / 2**20
        samples = _json(out / "explanations" / name / "samples.json")
        for key in ("randomisation_r", "occlusion_drop", "occlusion_random_drop"):
            of_model[key] = samples.get(key)
        minutes, accuracy = of_model.get("training_min"), found.get((name, "", "", "accuracy"))
        of_model["accuracy_per_min"] = accuracy / minutes if minutes and accuracy is not None else None
        found |= {(name, "", "", key): value for key, value in of_model.items()}
    _compare_with_vgg(found)
    return {key: float(value) for key, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _of_metrics(metrics: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Numbers of an evaluation, by class and metric."""
    before = metrics.get("before_temperature") or {}
    errors = metrics.get("errors") or {}
    found: dict[tuple[str, str], Any] = {("", name): metrics.get(name) for name in _PLAIN}
    found |= {("", f"{name}_before"): before.get(name) for name in _BEFORE}
    found |= {("", name): errors.get(key) for key, name in _ERRORS.items()}
    rows = {name: row for name, row in metrics["per_class"].items() if row.get("n")}
    for class_name, row in rows.items():
        found |= {(class_name, name): row.get(name) for name in _OF_CLASS}
        found[class_name, "class_temperature"] = row.get("temperature")
    for key, name in _MEANS.items():
        values = [row[key] for row in rows.values() if _is_number(row.get(key))]
        found["", name] = float(np.mean(values)) if values else None
    return found


def _of_model(folder: Path) -> dict[str, Any]:
    """Numbers of a training, from the model's card, and how many parameters its paper freezes."""
    if not (folder / "model.json").is_file():
        return {}
    card = read_card(folder)
    training = card.training if isinstance(card.training, Training) else Training()
    validation = card.validation or Figures()
    with torch.device("meta"):
        net = create(card.architecture, len(card.classes), **card.arguments)
    sizes = {name: value.numel() for name, value in net.named_parameters()}
    frozen = sum(sizes[name] for name in frozen_parameters(entry(card.architecture), net))
    return {
        "training_min": None if training.seconds is None else training.seconds / 60,
        "training_accuracy": training.accuracy,
        "epochs": training.epochs,
        "val_accuracy": validation.accuracy,
        "parameters_frozen": frozen,
    }


def _compare_with_vgg(found: dict[Key, Any]) -> None:
    vgg = found.get(("vgg16", "", "", "parameters"))
    for key in [key for key in found if key[3] == "parameters"]:
        found[(*key[:3], "share_of_vgg16")] = found[key] / vgg if vgg and found[key] else None
