"""The files of an evaluation: predictions, metrics, figures, and a report that shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_leukocls.evaluation import calibration, curves, figures
from napari_leukocls.evaluation.calibration import recalibration
from napari_leukocls.evaluation.embedding import Embedding, embed, sample_rows, silhouette
from napari_leukocls.evaluation.reliability import class_reliability, sharpness
from napari_leukocls.io.atomic import atomic_bytes, atomic_text, make_folder
from napari_leukocls.io.html import render
from napari_leukocls.io.serialise import to_plain, write_json, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Kinds of files of each figure.
KINDS = ("png", "svg")
#: Fewest cells for a map.
MIN_MAP = 20
#: Key in ``metrics.json``, name and explanation of each metric in the report.
HEADLINE = (
    ("accuracy", "Accuracy", "share of crops whose most probable class is correct"),
    (
        "balanced_accuracy",
        "Balanced accuracy",
        "mean recall of the classes: a rare class counts as much as a frequent one",
    ),
    ("macro_f1", "Macro F1", "mean over classes of the harmonic mean of precision and recall"),
    (
        "macro_precision",
        "Macro precision",
        "mean over classes of the share of a predicted class that is right",
    ),
    ("mcc", "Matthews correlation", "agreement, 0 by chance and 1 if perfect"),
    ("kappa", "Cohen's kappa", "agreement beyond chance"),
    ("nmi", "Normalised mutual information", "how much the predicted class tells about the true one, 0 to 1"),
    ("auc_macro", "ROC area, macro", "each class against the rest, mean"),
    ("auc_micro", "ROC area, micro", "all decisions pooled"),
    ("average_precision_macro", "Average precision, macro", "area under the precision-recall curve, mean"),
    ("average_precision_micro", "Average precision, micro", "all decisions pooled"),
    ("ece", "Calibration error, expected", "mean difference between probability and accuracy, 15 bins"),
    ("mce", "Calibration error, largest", "largest difference of a bin"),
    ("adaptive_ece", "Calibration error, equal bins", "the same with the same number of crops in each bin"),
    ("brier", "Brier's score", "squared error of the probabilities, 0 to 2, smaller is better"),
    ("brier_mean", "Brier's score, mean of the classes", "each class against the rest, 0 to 1"),
    ("log_loss", "Log loss", "mean negative logarithm of the probability of the true class"),
    ("sharpness", "Sharpness", "how decided the probabilities are, 0 to 1"),
    ("review_rate", "Sent to review", "share of crops that the model sends to review"),
    ("accuracy_not_reviewed", "Accuracy of the others", "of the crops that are not sent to review"),
)
#: Caption of each figure in the report.
CAPTIONS = (
    ("confusion_matrix", "Confusion matrix, crops"),
    ("confusion_matrix_normalised", "Confusion matrix, per cent of the true class"),
    ("recall", "Recall of each class with its 95 % limits"),
    ("reliability", "Accuracy of the crops against their predicted probability"),
    ("roc", "ROC curves, each class against the rest"),
    ("precision_recall", "Precision and recall, each class against the rest"),
    ("class_reliability", "How often each class is true, against its probability"),
    ("pooled_curves", "ROC, and precision against recall, of all decisions pooled, with 95 % limits"),
    ("embedding_tsne", "Map of the crops by t-SNE: neighbours are similar for the model"),
    ("embedding_pca", "The first two principal components of the features"),
)


@dataclass(frozen=True)
class Details:
    """What the figures need besides predictions and metrics.

    Attributes
    ----------
    before : numpy.ndarray, (N, C)
        Probabilities without the model's temperature, of the crops of the model's classes.
    after : numpy.ndarray, (N, C)
        As the model gives them.
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    maps : tuple of Embedding
    figures : dict
        Further entries of ``metrics.json``.
    """

    before: np.ndarray
    after: np.ndarray
    truth: np.ndarray
    maps: tuple[Embedding, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


def details_of(
    truth: Sequence[str],
    classes: Sequence[str],
    probabilities: np.ndarray,
    uncalibrated: np.ndarray,
    features: np.ndarray,
) -> Details:
    """Measure the calibration before the temperature, and map the cells.

    Parameters
    ----------
    truth : sequence of str, length N
        True classes.
    classes : sequence of str, length C
    probabilities, uncalibrated : numpy.ndarray, (N, C)
        With and without the model's temperature.
    features : numpy.ndarray, (N, D)
        Inputs of the last layer.

    Returns
    -------
    Details
    """
    column = {name: i for i, name in enumerate(classes)}
    index = np.array([column.get(name, -1) for name in truth], dtype=np.intp)
    known = index >= 0
    before, after, columns = np.asarray(uncalibrated)[known], np.asarray(probabilities)[known], index[known]
    more: dict[str, Any] = {}
    if len(columns):
        more["before_temperature"] = {
            "ece": calibration.ece(before, columns),
            "mce": calibration.mce(before, columns),
            "adaptive_ece": calibration.adaptive_ece(before, columns),
            "brier": calibration.brier(before, columns),
            "brier_mean": calibration.brier(before, columns) / len(classes),
            "log_loss": calibration.log_loss(before, columns),
            "sharpness": sharpness(before),
            "brier_parts": calibration.brier_parts(before, columns),
            "per_class": {
                name: {**class_reliability(before[:, i], columns == i), "brier": float(score)}
                for i, (name, score) in enumerate(
                    zip(classes, calibration.classwise_brier(before, columns), strict=True)
                )
            },
        }
        more["recalibration"] = recalibration(after, columns)
    maps: list[Embedding] = []
    rows = sample_rows(len(truth))
    shown, names = np.asarray(features)[rows], np.asarray(list(truth), dtype=object)[rows].astype(str)
    if len(rows) >= MIN_MAP and np.isfinite(shown).all():
        maps = [embed(shown, names, "tsne"), embed(shown, names, "pca")]
        found = {"features": silhouette(shown, names), **{one.method: one.silhouette for one in maps}}
        more["silhouette"] = {name: value if np.isfinite(value) else None for name, value in found.items()}
    return Details(before, after, columns, tuple(maps), more)


def predictions_table(
    files: Sequence[str],
    truth: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    needs_review: np.ndarray,
    ood_score: np.ndarray,
) -> pd.DataFrame:
    """Return the table of ``predictions.csv``: one row a crop, sorted by file.

    Parameters
    ----------
    files, truth : sequence of str, length N
    probabilities : numpy.ndarray, (N, C)
    classes : sequence of str, length C
    needs_review : numpy.ndarray, (N,), bool
    ood_score : numpy.ndarray, (N,)

    Returns
    -------
    pandas.DataFrame
    """
    scores = np.asarray(probabilities, dtype=float).reshape(len(files), len(classes))
    best = scores.argmax(axis=1)
    data: dict[str, Any] = {
        "file": list(files),
        "class": list(truth),
        "predicted_class": [classes[i] for i in best],
        "probability": scores[np.arange(len(best)), best],
        **{f"prob_{name}": scores[:, i] for i, name in enumerate(classes)},
        "needs_review": np.asarray(needs_review, dtype=bool),
        "ood_score": np.asarray(ood_score, dtype=float),
    }
    return pd.DataFrame(data).sort_values(["file", "class"], kind="stable", ignore_index=True)


def write_evaluation(
    out_dir: str | Path,
    predictions_df: pd.DataFrame,
    metrics: dict[str, Any],
    details: Details | None = None,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Path]:
    """Write ``predictions.csv``, ``metrics.json``, figures as PNG and SVG, and ``report.html``.

    Parameters
    ----------
    out_dir : path-like
        Created if it does not exist.
    predictions_df : pandas.DataFrame
        As `predictions_table` gives it.
    metrics : dict
        As `napari_leukocls.evaluation.metrics.classification_metrics` gives it.
    details : Details, optional
        For the reliability diagram before the temperature, and the maps.
    kinds : sequence of str
        Of the figures' files.

    Returns
    -------
    dict of str to Path
        Each file by its name.
    """
    folder = make_folder(out_dir)
    paths = {name: folder / name for name in ("predictions.csv", "metrics.json")}
    write_table(predictions_df, paths["predictions.csv"])
    write_json(paths["metrics.json"], metrics)
    pictures = write_figures(folder, _figures(predictions_df, metrics, details), paths, kinds)
    shown: dict[str, Any] = defaultdict(lambda: None, to_plain(metrics))
    unknown = sum(row["n"] for row in metrics["unknown_classes"].values())
    page = render(
        "evaluation", pictures, metrics=shown, headline=HEADLINE, captions=CAPTIONS, unknown=unknown
    )
    paths["report.html"] = folder / "report.html"
    atomic_text(paths["report.html"], page)
    return paths


def write_figures(
    folder: Path, made: dict[str, Figure], paths: dict[str, Path], kinds: Sequence[str] = KINDS
) -> dict[str, bytes]:
    """Write figures as PNG and SVG.

    Parameters
    ----------
    folder : Path
    made : dict of str to matplotlib.figure.Figure
        Figures by the names of their files.
    paths : dict of str to Path
        The written files are added to it.
    kinds : sequence of str
        Of the files; ``png`` must be among them.

    Returns
    -------
    dict of str to bytes
        The PNG files by name.
    """
    pictures = {}
    for name, figure in made.items():
        for kind in kinds:
            paths[f"{name}.{kind}"] = folder / f"{name}.{kind}"
            data = figures.rendered(figure, kind)
            atomic_bytes(paths[f"{name}.{kind}"], data)
            if kind == "png":
                pictures[name] = data
    return pictures


def _figures(
    predictions_df: pd.DataFrame, metrics: dict[str, Any], details: Details | None
) -> dict[str, Figure]:
    classes = list(metrics["classes"])
    known = predictions_df[predictions_df["class"].isin(classes)]
    truth = known["class"].map({name: i for i, name in enumerate(classes)}).to_numpy(dtype=np.intp)
    scores = known[[f"prob_{name}" for name in classes]].to_numpy(dtype=float)
    matrix = np.array(metrics["confusion_matrix"])
    made = {
        "confusion_matrix": figures.confusion_figure(matrix, classes),
        "confusion_matrix_normalised": figures.confusion_figure(matrix, classes, shares=True),
    }
    if details is None:
        made["reliability"] = figures.reliability_figure(scores, truth)
    else:
        made["reliability"] = figures.reliability_figure(details.after, details.truth, details.before)
        made |= {f"embedding_{one.method}": figures.embedding_figure(one) for one in details.maps}
    if len(truth):
        made["recall"] = figures.recall_figure(metrics["per_class"])
        made["roc"] = figures.roc_figure(scores, truth, classes)
        made["precision_recall"] = figures.precision_recall_figure(scores, truth, classes)
        made["class_reliability"] = curves.class_reliability_figure(
            scores, truth, classes, metrics["per_class"]
        )
        made["pooled_curves"] = curves.pooled_curves_figure(scores, truth)
    return made
