"""The figures of evaluations and comparisons, in colours that colour-blind readers can distinguish.

Colours are those of Okabe and Ito; lines differ in their dashes as well, points in their shapes. matplotlib's
global state is not changed.
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


def styled(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Draw in the project's style, independent of the user's own matplotlib settings.

    Parameters
    ----------
    draw : callable

    Returns
    -------
    callable
    """

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        # matplotlib's settings are those of the whole process, so that only one thread may change them at a time.
        with _LOCK, matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return draw(*args, **kwargs)

    return drawn


@styled
def rendered(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of an image file.

    No date is written, so that the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    kind : {"png", "svg"}

    Returns
    -------
    bytes
    """
    FigureCanvasAgg(figure)
    layout = figure.get_layout_engine()
    if layout is not None:
        # Once; saving would draw the whole figure for it, for each kind of file again.
        layout.execute(figure)
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Make a figure whose parts do not overlap.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return Figure(figsize=(width, height), layout="constrained")


def class_names(classes: Sequence[str]) -> list[str]:
    """Write names of classes or models as matplotlib shows them unchanged.

    Parameters
    ----------
    classes : sequence of str

    Returns
    -------
    list of str
    """
    return [_literal(str(name).replace("_", " ")) for name in classes]


def _literal(text: str) -> str:
    """Escape a text so that matplotlib shows it unchanged: no "$" formula, and no "_" that hides a legend entry."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def line_style(i: int) -> dict[str, Any]:
    """Colour and dashes of a line; the first forty differ.

    Parameters
    ----------
    i : int
        Its number, from 0.

    Returns
    -------
    dict
        As ``plot`` takes it.
    """
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)]}


@styled
def confusion_figure(matrix: np.ndarray, classes: Sequence[str], *, shares: bool = False) -> Figure:
    """Confusion matrix, shaded by the share of the true class.

    Parameters
    ----------
    matrix : numpy.ndarray, (C, C), int
        Rows are the truth.
    classes : sequence of str, length C
    shares : bool
        Write the percentage of the true class instead of the count.

    Returns
    -------
    matplotlib.figure.Figure
    """
    size = len(classes)
    figure = new_figure(2.4 + 0.55 * size, 2.0 + 0.55 * size)
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{100 * share[row, column]:.1f}" if shares else str(matrix[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(size), class_names(classes), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), class_names(classes))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("per cent of the true class" if shares else "crops")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


@styled
def reliability_figure(
    probabilities: np.ndarray, truth: np.ndarray, before: np.ndarray | None = None
) -> Figure:
    """Reliability diagram of the predicted class, with the number of crops below.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
        As the model gives them.
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    before : numpy.ndarray, (N, C), optional
        Without the model's temperature; drawn to the left.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = [("as the model gives them", probabilities)]
    if before is not None:
        panels.insert(0, ("without temperature", before))
    figure = new_figure(1.2 + 3.2 * len(panels), 4.8)
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


@styled
def roc_figure(probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> Figure:
    """ROC curve of each class against the rest.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    classes : sequence of str, length C

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for i, name in enumerate(class_names(classes)):
        is_class = truth == i
        if is_class.any() and not is_class.all():
            wrong, right, _ = roc_curve(is_class, probabilities[:, i])
            axes.plot(wrong, right, label=f"{name} ({auc(wrong, right):.4f})", **line_style(i))
    axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)", title="ROC")
    legend_right(axes, "class (area)")
    return figure


@styled
def precision_recall_figure(probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> Figure:
    """Precision against recall of each class.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    classes : sequence of str, length C

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    for i, name in enumerate(class_names(classes)):
        is_class, score = truth == i, probabilities[:, i]
        if is_class.any():
            precision, recall, _ = precision_recall_curve(is_class, score)
            average = average_precision_score(is_class, score)
            axes.step(recall, precision, where="post", label=f"{name} ({average:.4f})", **line_style(i))
    axes.set(
        xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="precision and recall"
    )
    legend_right(axes, "class (average precision)")
    return figure


@styled
def recall_figure(per_class: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Recall of each class with its 95 % limits.

    Parameters
    ----------
    per_class : mapping
        ``n``, ``recall`` and ``recall_ci95`` of each class, as in ``metrics.json``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = [(name, row) for name, row in per_class.items() if row.get("n") and row.get("recall") is not None]
    figure = new_figure(6.0, 1.2 + 0.32 * max(len(rows), 1))
    axes = figure.add_subplot()
    for height, (_, row) in enumerate(rows):
        low, high = row.get("recall_ci95") or (row["recall"], row["recall"])
        axes.plot([low, high], [height, height], color=_BLUE, linewidth=2)
        axes.plot(row["recall"], height, "o", color=_BLUE, markersize=6)
    labels = [
        f"{name} (n = {row['n']})"
        for (name, row) in zip(class_names([r[0] for r in rows]), (r[1] for r in rows), strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9")
    axes.set(xlabel="recall, with 95 % limits", xlim=(None, 1.005))
    return figure


@styled
def pareto_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Macro F1 against time; the models of the Pareto front are joined by a line.

    Parameters
    ----------
    rows : sequence of mapping
        ``model``, ``ms_per_image``, ``ms_per_image_quartiles``, ``macro_f1``, ``macro_f1_ci95`` and ``pareto``
        of each model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    best = sorted((row["ms_per_image"], row["macro_f1"]) for row in rows if row["pareto"])
    axes.plot(*zip(*best, strict=True), color=_GREY, linestyle="--", linewidth=1, zorder=1)
    for i, row in enumerate(rows):
        low, high = row["macro_f1_ci95"]
        first, third = row["ms_per_image_quartiles"]
        axes.errorbar(
            row["ms_per_image"],
            row["macro_f1"],
            xerr=[[max(0, row["ms_per_image"] - first)], [max(0, third - row["ms_per_image"])]],
            yerr=[[max(0, row["macro_f1"] - low)], [max(0, high - row["macro_f1"])]],
            fmt=_MARKERS[i % len(_MARKERS)],
            color=_COLOURS[i % len(_COLOURS)],
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
        xlabel="ms per image at each model's fastest batch size, with quartiles",
        ylabel="macro F1, with 95 % limits",
    )
    legend_right(axes, "model")
    return figure


@styled
def embedding_figure(embedding: Embedding) -> Figure:
    """A map of cells, coloured by class.

    Parameters
    ----------
    embedding : Embedding

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 4.6)
    axes = figure.add_subplot()
    for i, name in enumerate(sorted(set(embedding.labels))):
        is_class = embedding.labels == name
        axes.plot(
            *embedding.points[is_class].T,
            linestyle="",
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=3.5,
            color=_COLOURS[i % len(_COLOURS)],
            label=class_names([name])[0],
        )
    title = {"tsne": "t-SNE", "pca": "principal components"}[embedding.method]
    score = f", silhouette {embedding.silhouette:.2f}" if np.isfinite(embedding.silhouette) else ""
    axes.set_title(f"{title} of the features{score}")
    if embedding.explained:
        shares = [f"component {n} ({100 * share:.0f} %)" for n, share in enumerate(embedding.explained, 1)]
        axes.set_xlabel(shares[0])
        axes.set_ylabel(shares[-1])
    axes.set(xticks=[], yticks=[])
    legend_right(axes, "class")
    return figure


def legend_right(axes: Axes, title: str) -> None:
    """Add a legend to the right of the axes, where it covers no data.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    title : str
    """
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title=title)
