"""The files of an evaluation: predictions, metrics and figures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.evaluation.calibration import N_BINS, reliability_table
from napari_leukocls.io.atomic import atomic_bytes, atomic_text, make_folder
from napari_leukocls.io.results import plain, write_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_BLUE, _ORANGE = "#0072b2", "#d55e00"
_STYLE: Any = {"svg.hashsalt": "napari-leukocls", "svg.fonttype": "none", "font.size": 9.0}


def predictions_table(
    files: Sequence[str],
    truth: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    needs_review: np.ndarray,
    ood_score: np.ndarray,
) -> pd.DataFrame:
    """``predictions.csv``: one row a crop, sorted by file.

    Parameters
    ----------
    files, truth : sequence of str, length N
    probabilities : numpy.ndarray, (N, C)
    classes : sequence of str, length C
    needs_review : numpy.ndarray, (N,), bool
    ood_score : numpy.ndarray, (N,)
    """
    import pandas as pd

    scores = np.asarray(probabilities, dtype=float).reshape(len(files), len(classes))
    best = scores.argmax(axis=1)
    data: dict[str, Any] = {
        "file": list(files),
        "class": list(truth),
        "predicted_class": [classes[place] for place in best],
        "probability": scores[np.arange(len(best)), best],
        **{f"prob_{name}": scores[:, place] for place, name in enumerate(classes)},
        "needs_review": np.asarray(needs_review, dtype=bool),
        "ood_score": np.asarray(ood_score, dtype=float),
    }
    return pd.DataFrame(data).sort_values(["file", "class"], kind="stable", ignore_index=True)


def write_evaluation(
    out_dir: str | Path, predictions_df: pd.DataFrame, metrics: dict[str, Any]
) -> dict[str, Path]:
    """Write ``predictions.csv``, ``metrics.json``, and two figures as PNG and SVG.

    Parameters
    ----------
    out_dir : path-like
        Created where it does not exist.
    predictions_df : pandas.DataFrame
        As `predictions_table` gives it.
    metrics : dict
        As `napari_leukocls.evaluation.metrics.classification_metrics` gives it.

    Returns
    -------
    dict of str to Path
        Each file by its name.
    """
    import matplotlib

    folder = make_folder(out_dir)
    paths = {name: folder / name for name in ("predictions.csv", "metrics.json")}
    write_table(predictions_df, paths["predictions.csv"])
    text = json.dumps(plain(metrics), indent=2, ensure_ascii=True, allow_nan=False)
    atomic_text(paths["metrics.json"], text + "\n")
    with matplotlib.rc_context(_STYLE):
        figures = {
            "confusion_matrix": confusion_figure(np.array(metrics["confusion_matrix"]), metrics["classes"]),
            "reliability": reliability_figure(predictions_df, metrics),
        }
        for name, figure in figures.items():
            for kind in ("png", "svg"):
                paths[f"{name}.{kind}"] = folder / f"{name}.{kind}"
                atomic_bytes(paths[f"{name}.{kind}"], _rendered(figure, kind))
    return paths


def confusion_figure(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Confusion matrix: counts, shaded by the share of the true class.

    Parameters
    ----------
    matrix : numpy.ndarray, (C, C), int
        Rows are the truth.
    classes : sequence of str, length C
    """
    from matplotlib.figure import Figure

    size = len(classes)
    figure = Figure(figsize=(2.4 + 0.55 * size, 2.0 + 0.55 * size), layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    names = [name.replace("_", " ") for name in classes]
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def reliability_figure(predictions_df: pd.DataFrame, metrics: dict[str, Any]) -> Figure:
    """Reliability diagram of the best class, over crops of the model's classes, with their numbers below."""
    from matplotlib.figure import Figure

    classes = list(metrics["classes"])
    known = predictions_df[predictions_df["class"].isin(classes)]
    truth = known["class"].map({name: place for place, name in enumerate(classes)}).to_numpy(dtype=np.intp)
    figure = Figure(figsize=(4.2, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="perfect")
    if len(known):
        table = reliability_table(known[[f"prob_{name}" for name in classes]].to_numpy(dtype=float), truth)
        middle, width = (table["low"] + table["high"]) / 2, 1 / N_BINS
        upper.bar(
            middle, table["accuracy"].fillna(0), width=width * 0.9, color=_BLUE, alpha=0.6, label="accuracy"
        )
        upper.plot(
            table["confidence"], table["accuracy"], "o", color=_ORANGE, markersize=4, label="mean in bin"
        )
        lower.bar(middle, table["n"], width=width * 0.9, color="0.4")
        upper.set_title(f"ECE {metrics['ece']:.4f}, MCE {metrics['mce']:.3f}, n = {metrics['n']}")
        lower.set_yscale("log")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="probability of the predicted class", ylabel="crops")
    return figure


def _rendered(figure: Figure, kind: str) -> bytes:
    """The figure as a file of this kind, with no date in it, so that the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
