"""Our numbers of a reproduction, by the names that the papers' numbers have."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from napari_leukocls.architectures.introspection import frozen_parameters
from napari_leukocls.architectures.registry import create, entry
from napari_leukocls.models.card import read_card
from napari_leukocls.models.card_parts import Figures, Training

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
_OF_CLASS = (
    "precision",
    "recall",
    "f1",
    "auc",
    "average_precision",
    "partial_auc",
    "recall_at_fpr_0.01",
    "recall_at_fpr_0.05",
    "precision_at_recall",
)
#: Of a class before the temperature, as the papers give them.
_OF_CLASS_BEFORE = {
    "brier": "brier_before",
    "kl": "kl_before",
    "ici": "ici_before",
    "ece": "class_ece_before",
    "temperature": "class_temperature_before",
}
_MEANS = {
    "recall_at_fpr_0.01": "recall_at_fpr_0.01_mean",
    "js_divergence": "js_divergence_mean",
    "precision_at_recall": "precision_at_recall_mean",
    "best_f1_threshold": "best_f1_threshold_mean",
}
_PARTS_BEFORE = {"reliability": "brier_reliability_before", "resolution": "brier_resolution_before"}
#: Validation macro F1 that a training is timed to.
F1_GOAL = 0.9
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
    found |= {("", name): _mean(row.get(key) for row in rows.values()) for key, name in _MEANS.items()}
    return found | _of_classes_before(before)


def _of_classes_before(before: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Calibration class by class without the model's temperature; the parts of Brier's score as a mean over classes."""
    rows = before.get("per_class") or {}
    found: dict[tuple[str, str], Any] = {
        (class_name, name): row.get(key)
        for class_name, row in rows.items()
        for key, name in _OF_CLASS_BEFORE.items()
    }
    found["", "class_ece_mean_before"] = _mean(row.get("ece") for row in rows.values())
    parts = before.get("brier_parts") or {}
    for key, name in _PARTS_BEFORE.items():
        found["", name] = parts[key] / len(rows) if rows and _is_number(parts.get(key)) else None
    return found


def _mean(values: Iterable[Any]) -> float | None:
    """Mean of those that are numbers; None if there are none."""
    numbers = [value for value in values if _is_number(value)]
    return float(np.mean(numbers)) if numbers else None


def _of_history(file: Path) -> dict[str, float | None]:
    """How a training went: distance of the accuracies, steadiness of the loss, and how soon it was good."""
    if not file.is_file():
        return {}
    history = pd.read_csv(file)
    good = history.loc[history["val_macro_f1"] > F1_GOAL, "epoch"]
    return {
        "accuracy_gap": float((history["accuracy"] - history["val_accuracy"]).abs().mean()),
        "val_loss_change_sd": float(history["val_loss"].diff().std()) if len(history) > 2 else None,
        "val_macro_f1_epoch_1": float(history["val_macro_f1"].iloc[0]) if len(history) else None,
        "epochs_to_f1_0.9": int(good.iloc[0]) if len(good) else None,
    }


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
        **_of_history(folder / "history.csv"),
    }


def _compare_with_vgg(found: dict[Key, Any]) -> None:
    vgg = found.get(("vgg16", "", "", "parameters"))
    for key in [key for key in found if key[3] == "parameters"]:
        found[(*key[:3], "share_of_vgg16")] = found[key] / vgg if vgg and found[key] else None
