"""Models on the same crops: which is better by more than chance, and what a point of F1 costs in time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.evaluation import significance
from napari_leukocls.evaluation.figures import pareto_figure
from napari_leukocls.evaluation.ground import Ground
from napari_leukocls.evaluation.metrics import classification_metrics
from napari_leukocls.evaluation.repeats import compare_repeats
from napari_leukocls.evaluation.resampled import weighted_metrics
from napari_leukocls.evaluation.speed import Speed, pareto
from napari_leukocls.evaluation.statistics import interval, resample_weights

if TYPE_CHECKING:
    import pandas as pd

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
        As `napari_leukocls.evaluation.ground.project` gives them.
    needs_review : numpy.ndarray, (N,), bool
    ood_score : numpy.ndarray, (N,)
    speed : Speed
    facts : dict
        Of the model: ``architecture``, ``parameters``, ``mb``, ``gmacs``, ``weights_sha256``.
    repeats : dict
        As `napari_leukocls.evaluation.repeats.read_repeats` gives them.
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
    import pandas as pd

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
    from napari_leukocls.evaluation.html import render
    from napari_leukocls.evaluation.report import write_figures
    from napari_leukocls.io.atomic import atomic_text, make_folder
    from napari_leukocls.io.results import plain, write_table

    folder = make_folder(out_dir)
    paths = {name: folder / name for name in ("compare.csv", "compare.json", "report.html")}
    write_table(comparison_table(result), paths["compare.csv"])
    shown = plain(result)
    atomic_text(paths["compare.json"], json.dumps(shown, indent=2, ensure_ascii=True, allow_nan=False) + "\n")
    pictures = write_figures(folder, {"pareto": pareto_figure(result["models"])}, paths)
    atomic_text(paths["report.html"], render("comparison", pictures, result=shown))
    return paths
