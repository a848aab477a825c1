"""The figures of evaluations and comparisons: matplotlib without global state, safe for the colour-blind.

Colours are those of Okabe and Ito; lines differ in their dashes as well, points in their shapes.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from napari_leukocls.evaluation.calibration import N_BINS, ece, reliability_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_leukocls.evaluation.embedding import Embedding

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#7f7f7f"

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a7300")

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

_STYLE: Any = {
    "svg.hashsalt": "napari-leukocls",
    "svg.fonttype": "none",
    "font.size": 9.0,
}

_LOCK = threading.RLock()

_P = ParamSpec("_P")

_T = TypeVar("_T")


def _styled(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Draw in the project's style, whatever the user's own settings of matplotlib are."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        # The settings are the process's: two threads at once would put each other's back.
        with _LOCK, matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return draw(*args, **kwargs)

    return drawn


@_styled
def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg``, with no date in it, so that the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _new(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _names(classes: Sequence[str]) -> list[str]:
    return [_literal(str(name).replace("_", " ")) for name in classes]


def _literal(text: str) -> str:
    """Text that matplotlib shows as it is: "$x" is no formula, "_x" no entry to be left out of a legend."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _look(place: int) -> dict[str, Any]:
    """Colour and dashes of a line, no two alike among the first forty."""
    return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": _DASHES[place % len(_DASHES)]}


@_styled
def confusion_figure(matrix: np.ndarray, classes: Sequence[str], *, shares: bool = False) -> Figure:
    """Confusion matrix, shaded by the share of the true class.

    Parameters
    ----------
    matrix : numpy.ndarray, (C, C), int
        Rows are the truth.
    classes : sequence of str, length C
    shares : bool
        Write the percentage of the true class instead of the count.
    """
    size = len(classes)
    figure = _new(2.4 + 0.55 * size, 2.0 + 0.55 * size)
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{100 * share[row, column]:.1f}" if shares else str(matrix[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(size), _names(classes), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), _names(classes))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("per cent of the true class" if shares else "crops")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


@_styled
def reliability_figure(
    probabilities: np.ndarray, truth: np.ndarray, before: np.ndarray | None = None
) -> Figure:
    """Reliability diagram of the best class, with the number of crops below.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
        As the model gives them.
    truth : numpy.ndarray, (N,), int
    before : numpy.ndarray, (N, C), optional
        Without the model's temperature; drawn to the left.
    """
    panels = [("as the model gives them", probabilities)]
    if before is not None:
        panels.insert(0, ("without temperature", before))
    figure = _new(1.2 + 3.2 * len(panels), 4.8)
    grid = figure.subplots(2, len(panels), sharex=True, squeeze=False, height_ratios=(3, 1))
    for column, (title, values) in enumerate(panels):
        _reliability(grid[0, column], grid[1, column], values, truth, title)
    return figure


def _reliability(upper: Axes, lower: Axes, values: np.ndarray, truth: np.ndarray, title: str) -> None:
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="perfect")
    if len(truth):
        table, width = reliability_table(values, truth), 1 / N_BINS
        middle = (table["low"] + table["high"]) / 2
        upper.bar(
            middle, table["accuracy"].fillna(0), width=width * 0.9, color=_BLUE, alpha=0.6, label="accuracy"
        )
        upper.plot(
            table["confidence"], table["accuracy"], "o", color=_ORANGE, markersize=4, label="mean in bin"
        )
        lower.bar(middle, table["n"], width=width * 0.9, color="0.4")
        lower.set_yscale("log")
        title = f"{title}\nECE {ece(values, truth):.4f}, n = {len(truth)}"
    upper.set_title(title)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="probability of the predicted class", ylabel="crops")


@_styled
def roc_figure(probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> Figure:
    """ROC curve of each class against the rest, over probabilities (N, C) and truth (N,)."""
    figure = _new(6.4, 4.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for place, name in enumerate(_names(classes)):
        mine = truth == place
        if mine.any() and not mine.all():
            wrong, right, _ = roc_curve(mine, probabilities[:, place])
            axes.plot(wrong, right, label=f"{name} ({auc(wrong, right):.4f})", **_look(place))
    axes.set(xlabel="share of other cells called so", ylabel="share of the class found", title="ROC")
    _beside(axes, "class (area)")
    return figure


@_styled
def precision_recall_figure(probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> Figure:
    """Precision against recall of each class, over probabilities (N, C) and truth (N,)."""
    figure = _new(6.4, 4.4)
    axes = figure.add_subplot()
    for place, name in enumerate(_names(classes)):
        mine, score = truth == place, probabilities[:, place]
        if mine.any():
            precision, recall, _ = precision_recall_curve(mine, score)
            average = average_precision_score(mine, score)
            axes.step(recall, precision, where="post", label=f"{name} ({average:.4f})", **_look(place))
    axes.set(
        xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="precision and recall"
    )
    _beside(axes, "class (average precision)")
    return figure


@_styled
def recall_figure(per_class: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Recall of each class with its 95 % limits; `per_class` as in ``metrics.json``."""
    rows = [(name, row) for name, row in per_class.items() if row.get("n") and row.get("recall") is not None]
    figure = _new(6.0, 1.2 + 0.32 * max(len(rows), 1))
    axes = figure.add_subplot()
    for height, (_, row) in enumerate(rows):
        low, high = row.get("recall_ci95") or (row["recall"], row["recall"])
        axes.plot([low, high], [height, height], color=_BLUE, linewidth=2)
        axes.plot(row["recall"], height, "o", color=_BLUE, markersize=6)
    labels = [
        f"{name} (n = {row['n']})"
        for (name, row) in zip(_names([r[0] for r in rows]), (r[1] for r in rows), strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9")
    axes.set(xlabel="recall, with 95 % limits", xlim=(None, 1.005))
    return figure


@_styled
def pareto_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Macro F1 against time; models that no other beats in both are joined.

    Parameters
    ----------
    rows : sequence of mapping
        ``model``, ``ms_per_image``, ``ms_per_image_quartiles``, ``macro_f1``, ``macro_f1_ci95`` and ``pareto``
        of each model.
    """
    figure = _new(6.4, 4.2)
    axes = figure.add_subplot()
    best = sorted((row["ms_per_image"], row["macro_f1"]) for row in rows if row["pareto"])
    axes.plot(*zip(*best, strict=True), color=_GREY, linestyle="--", linewidth=1, zorder=1)
    for place, row in enumerate(rows):
        low, high = row["macro_f1_ci95"]
        first, third = row["ms_per_image_quartiles"]
        axes.errorbar(
            row["ms_per_image"],
            row["macro_f1"],
            xerr=[[max(0, row["ms_per_image"] - first)], [max(0, third - row["ms_per_image"])]],
            yerr=[[max(0, row["macro_f1"] - low)], [max(0, high - row["macro_f1"])]],
            fmt=_MARKERS[place % len(_MARKERS)],
            color=_COLOURS[place % len(_COLOURS)],
            capsize=3,
            label=_literal(str(row["model"])),
        )
    times = [row["ms_per_image"] for row in rows]
    if max(times) > 5 * min(times):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.set(
        xlabel="ms an image at each model's best batch, with quartiles", ylabel="macro F1, with 95 % limits"
    )
    _beside(axes, "model")
    return figure


@_styled
def embedding_figure(embedding: Embedding) -> Figure:
    """A map of cells, coloured by class."""
    figure = _new(6.4, 4.6)
    axes = figure.add_subplot()
    for place, name in enumerate(sorted(set(embedding.labels))):
        mine = embedding.labels == name
        axes.plot(
            *embedding.points[mine].T,
            linestyle="",
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=3.5,
            color=_COLOURS[place % len(_COLOURS)],
            label=_names([name])[0],
        )
    title = {"tsne": "t-SNE", "pca": "principal components"}[embedding.method]
    score = f", silhouette {embedding.silhouette:.2f}" if np.isfinite(embedding.silhouette) else ""
    axes.set_title(f"{title} of the features{score}")
    if embedding.explained:
        shares = [f"component {n} ({100 * share:.0f} %)" for n, share in enumerate(embedding.explained, 1)]
        axes.set_xlabel(shares[0])
        axes.set_ylabel(shares[-1])
    axes.set(xticks=[], yticks=[])
    _beside(axes, "class")
    return figure


def _beside(axes: Axes, title: str) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title=title)
