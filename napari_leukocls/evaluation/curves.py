"""Figures of curves: calibration class by class, all decisions pooled, several models at once, and a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_curve

from napari_leukocls.evaluation.bootstrap import resample_weights
from napari_leukocls.evaluation.figures import class_names, legend_right, line_style, new_figure, styled
from napari_leukocls.evaluation.reliability import class_curve

#: Resamples from which the limits of pooled curves are drawn.
N_BOOT = 200
#: Places of a pooled curve at which its limits are computed.
PLACES = 201
#: Columns of panels.
COLUMNS = 4


@styled
def class_reliability_figure(
    probabilities: np.ndarray,
    truth: np.ndarray,
    classes: Sequence[str],
    per_class: Mapping[str, Mapping[str, Any]],
) -> Figure:
    """Draw how often each class is true against its probability, one panel a class.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    classes : sequence of str, length C
    per_class : mapping
        ``brier``, ``ece`` and ``temperature`` of each class, as in ``metrics.json``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(COLUMNS, len(classes))
    rows = -(-len(classes) // columns)
    figure = new_figure(2.3 * columns, 2.5 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(classes) :]:
        axes.set_visible(False)
    for number, (axes, name) in enumerate(zip(grid.flat, class_names(classes), strict=False)):
        curve = class_curve(probabilities[:, number], truth == number)
        axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
        size = 3 + 2 * np.log10(1 + curve["n"])
        axes.plot(curve["predicted"].dropna(), curve["observed"].dropna(), **line_style(0))
        axes.scatter(curve["predicted"], curve["observed"], s=size**2 / 2, color=line_style(0)["color"])
        found = per_class[classes[number]]
        words = [f"{word} {found[key]:.3f}" for key, word in _SHOWN if found.get(key) is not None]
        axes.set_title("\n".join([name, ", ".join(words)]), fontsize=8)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.supxlabel("probability of the class")
    figure.supylabel("share of crops of the class")
    return figure


_SHOWN = (("brier", "Brier"), ("ece", "ECE"), ("temperature", "T"))


@styled
def pooled_curves_figure(
    probabilities: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> Figure:
    """Draw the ROC curve and precision against recall of all decisions pooled, with 95 % limits.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    groups : numpy.ndarray, (N,), optional
        Patient or slide of each crop; the bootstrap draws whole groups.
    seed : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    curves = pooled_curves(probabilities, truth, groups, seed)
    figure = new_figure(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    style = line_style(0)
    for axes, name, across, upward in (
        (left, "roc", "false positive rate", "true positive rate (recall)"),
        (right, "precision_recall", "recall", "precision"),
    ):
        x, middle, low, high = curves[name]
        axes.plot(x, middle, **style)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.25, linewidth=0)
        axes.set(xlabel=across, ylabel=upward, xlim=(0, 1), ylim=(0, 1.02))
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    figure.suptitle("all decisions pooled, with 95 % limits")
    return figure


def pooled_curves(
    probabilities: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Compute the ROC curve and precision against recall of all decisions pooled, with 95 % limits.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    groups : numpy.ndarray, (N,), optional
        Patient or slide of each crop; the bootstrap draws whole groups.
    seed : int

    Returns
    -------
    dict
        ``roc`` and ``precision_recall``, each with the places along x, the curve, and its lower and upper limit.
    """
    n_classes = probabilities.shape[1]
    positive = (truth[:, None] == np.arange(n_classes)).ravel()
    order = np.argsort(-np.asarray(probabilities, float).ravel(), kind="stable")
    ranked, hit = np.asarray(probabilities).ravel()[order], positive[order]
    # Decisions with the same score pass a threshold together: only the last of them is a point of the curve.
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    places = np.linspace(0, 1, PLACES)

    def both(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drawn = np.repeat(weights, n_classes)[order]
        right = np.cumsum(drawn * hit)[last]
        wrong = np.cumsum(drawn * ~hit)[last]
        recall, fall_out = right / right[-1], wrong / wrong[-1]
        passed = right + wrong
        precision = np.divide(right, passed, out=np.ones_like(passed), where=passed > 0)
        return (
            np.interp(places, np.r_[0, fall_out], np.r_[0, recall]),
            np.interp(places, np.r_[0, recall], np.r_[precision[0], precision]),
        )

    curve = both(np.ones(len(truth)))
    resampled = [
        both(row)
        for block in resample_weights(len(truth), N_BOOT, seed, groups)
        for row in block.astype(float)
    ]
    made = {}
    for number, name in enumerate(("roc", "precision_recall")):
        low, high = np.quantile([pair[number] for pair in resampled], (0.025, 0.975), axis=0)
        made[name] = (places, curve[number], low, high)
    return made


@styled
def overlaid_roc_figure(models: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw the pooled ROC curves of several models in one figure.

    Parameters
    ----------
    models : mapping of str to tuple
        Probabilities (N, C) and the columns of the true classes (N,), by model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for number, (name, (probabilities, truth)) in enumerate(models.items()):
        is_class = truth[:, None] == np.arange(probabilities.shape[1])
        wrong, right, _ = roc_curve(is_class.ravel(), probabilities.ravel())
        label = f"{class_names([name])[0]} ({auc(wrong, right):.4f})"
        axes.plot(wrong, right, label=label, **line_style(number))
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, all decisions pooled")
    legend_right(axes, "model (area)")
    return figure


@styled
def history_figure(history: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Draw the course of a training: loss, accuracy and macro F1, and the learning rate.

    Parameters
    ----------
    history : sequence of mapping
        Rows of ``history.csv``.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    epochs = [int(row["epoch"]) for row in history]
    figure = new_figure(9.6, 3.2)
    panels = figure.subplots(1, 3)
    lines = (
        (panels[0], "loss", (("loss", "training"), ("val_loss", "validation"))),
        (
            panels[1],
            "share",
            (
                ("accuracy", "training accuracy"),
                ("val_accuracy", "validation accuracy"),
                ("val_macro_f1", "validation macro F1"),
            ),
        ),
        (panels[2], "learning rate", (("lr", "learning rate"),)),
    )
    for axes, upward, shown in lines:
        for number, (key, label) in enumerate(shown):
            if history and history[0].get(key) not in (None, ""):
                axes.plot(epochs, [float(row[key]) for row in history], label=label, **line_style(number))
        axes.set(xlabel="epoch", ylabel=upward)
        if len(shown) > 1:
            axes.legend(frameon=False)
    best = [int(row["epoch"]) for row in history if str(row.get("best")) == "True"]
    if best:
        panels[1].axvline(best[-1], color="0.6", linewidth=1, linestyle=":")
    figure.suptitle(class_names([title])[0] if title else "")
    return figure
