"""The tables of a paper with our numbers beside its own, the figures of all networks, and one page that shows both."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from napari_leukocls.evaluation.curves import history_figure, overlaid_roc_figure
from napari_leukocls.evaluation.figures import class_names, styled
from napari_leukocls.evaluation.report import KINDS, write_figures
from napari_leukocls.explanation.samples import across_models_figure, misclassified_figure, sheet
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.io.html import render
from napari_leukocls.io.images import read_image
from napari_leukocls.io.serialise import to_plain, write_json, write_table
from napari_leukocls.reproduction.measured import Key, measured
from napari_leukocls.reproduction.papers import Paper, Published
from napari_leukocls.reproduction.plan import Settings
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.augment import augment, generator_for
from napari_leukocls.training.batches import to_unit
from napari_leukocls.training.config import TrainConfig, guesses

#: Figures of an evaluation that the page shows for each network.
_OF_EVALUATION = (
    ("confusion_matrix", "Confusion matrix"),
    ("roc", "ROC"),
    ("precision_recall", "Precision and recall"),
    ("reliability", "Calibration"),
    ("class_reliability", "Calibration of each class"),
    ("embedding_tsne", "t-SNE of the features"),
)
#: Wrong crops that are shown of each network.
WRONG = 8
#: Varied forms of a training crop that are shown.
VARIED = 5

#: Networks that a paper names twice.
SAME = {"qlvit_v4": "qlvit"}

Pictures = dict[str, bytes]


def write_report(
    settings: Settings, of: Paper, names: Sequence[str], data_set: str, notes: Sequence[str]
) -> dict[str, Any]:
    """Write ``tables/``, ``figures/``, ``summary.json`` and ``report.html``.

    Parameters
    ----------
    settings : Settings
    of : Paper
    names : sequence of str
        Of the trainings.
    data_set : str
        Which of the paper's data sets was used; empty for a paper with one set.
    notes : sequence of str
        On the data.

    Returns
    -------
    dict
        As ``summary.json``.
    """
    out = Path(settings.out)
    ours = measured(out, names)
    rows = beside(of, ours, names, data_set)
    for item in of.items:
        table = pd.DataFrame([row for row in rows if row["item"] == item])
        if len(table):
            write_table(table, make_folder(out / "tables") / f"{item}.csv")
    write_table(_wide(ours, names), make_folder(out / "tables") / "ours.csv")
    pictures = _figures(out, names, ("png",) if settings.quick else KINDS)
    summary = {
        "paper": asdict(of) | {"stated": None, "published": None},
        "quick": settings.quick,
        "networks": list(names),
        "data": settings.data,
        "data_set": data_set,
        "notes": list(notes),
        "guesses": list(guesses(of.preset)),
        "rows": rows,
        "report": str(out / "report.html"),
    }
    shown = to_plain(summary)
    write_json(out / "summary.json", shown)
    page = render("reproduction", pictures, summary=shown, shown=_OF_EVALUATION, items=dict(of.items))
    atomic_text(out / "report.html", page)
    return summary


def beside(
    of: Paper, ours: Mapping[Key, float], names: Sequence[str], data_set: str = ""
) -> list[dict[str, Any]]:
    """Put our numbers beside those of a paper.

    Parameters
    ----------
    of : Paper
    ours : mapping
        As `napari_leukocls.reproduction.measured.measured` gives them.
    names : sequence of str
        Of the trainings; rows of other networks are left out.
    data_set : str
        The paper's set that was used; rows of its other sets are left out.

    Returns
    -------
    list of dict
        ``item``, ``where``, ``network``, ``data``, ``class``, ``metric``, ``paper``, ``ours`` (None if it was not
        measured) and ``difference``.
    """
    rows = []
    for one in of.published:
        network = one.network if one.network in names else SAME.get(one.network, one.network)
        if network not in names or (of.sets and one.data not in ("", data_set)):
            continue
        value = ours.get(_key(one, network, bool(of.sets)))
        rows.append(
            {
                "item": one.item,
                "where": one.where,
                "network": one.network,
                "data": one.data,
                "class": one.class_name,
                "metric": one.metric,
                "paper": one.value,
                "ours": value,
                "difference": None if value is None else value - one.value,
            }
        )
    return rows


def _key(one: Published, network: str, several_sets: bool) -> Key:
    name = one.class_name
    if name:
        name = default_scheme().resolve(name) or name
    return network, "" if several_sets else one.data, name, one.metric


def _wide(ours: Mapping[Key, float], names: Sequence[str]) -> pd.DataFrame:
    """All our numbers, one row a network, data set and class."""
    rows: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for (network, data, name, metric), value in ours.items():
        rows[network, data, name][metric] = value
    order = sorted(rows, key=lambda key: (list(names).index(key[0]), key[1], key[2]))
    return pd.DataFrame(
        [dict(zip(("network", "data", "class"), key, strict=True)) | rows[key] for key in order]
    )


def _figures(out: Path, names: Sequence[str], kinds: Sequence[str]) -> Pictures:
    """Draw what is of several networks, and take what the evaluations have drawn."""
    made: dict[str, Any] = {}
    pictures: Pictures = {}
    roc: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    maps: dict[str, tuple[np.ndarray, np.ndarray, Sequence[str]]] = {}
    for name in names:
        history = out / "models" / name / name / "history.csv"
        if history.is_file():
            with open(history, encoding="utf-8", newline="") as file:
                made[f"history_{name}"] = history_figure(list(csv.DictReader(file)), name)
        predictions = out / "evaluations" / name / "predictions.csv"
        if predictions.is_file():
            table = pd.read_csv(predictions)
            roc[name] = _scores(table)
            wrong = _wrong(table, name)
            if wrong is not None:
                made[f"misclassified_{name}"] = wrong
        stored = out / "explanations" / name / "maps.npz"
        if stored.is_file():
            with np.load(stored, allow_pickle=False) as content:
                maps[name] = content["crops"], content["maps"], [str(one) for one in content["classes"]]
        for folder, key in (
            *((out / "evaluations" / name, key) for key, _ in _OF_EVALUATION),
            *((out / "explanations" / name, key) for key in ("randomisation", "occlusion")),
        ):
            if (folder / f"{key}.png").is_file():
                pictures[f"{key}_{name}"] = (folder / f"{key}.png").read_bytes()
    if roc:
        made["roc_of_all"] = overlaid_roc_figure(roc)
    if maps:
        made["maps_of_all"] = across_models_figure(maps)
    for drawn in (out / "comparison" / "pareto.png", out / "figures" / "augmentation.png"):
        if drawn.is_file():
            pictures[drawn.stem] = drawn.read_bytes()
    return pictures | write_figures(make_folder(out / "figures"), made, {}, kinds)


@styled
def augmentation_figure(crops: np.ndarray, names: Sequence[str], config: TrainConfig) -> Figure:
    """Show crops, and what a training makes of them.

    Parameters
    ----------
    crops : numpy.ndarray, (N, h, w, 3), uint8
    names : sequence of str, length N
        Their classes.
    config : TrainConfig
        Of the training: how it varies crops.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images = to_unit(crops, torch.device("cpu"))
    varied = [augment(images, config, generator_for(config.seed, turn), 1.0) for turn in range(VARIED)]
    shown = [(255 * turn.permute(0, 2, 3, 1).clamp(0, 1)).round().byte().numpy() for turn in varied]
    rows = [
        [(crop, name), *((turn[i], f"varied {number + 1}") for number, turn in enumerate(shown))]
        for i, (crop, name) in enumerate(zip(crops, class_names(names), strict=True))
    ]
    return sheet(rows, "")


def _scores(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and true columns of ``predictions.csv``."""
    columns = [name for name in table.columns if name.startswith("prob_")]
    classes = {name.removeprefix("prob_"): number for number, name in enumerate(columns)}
    known = table[table["class"].isin(list(classes))]
    truth = known["class"].map(classes).to_numpy(dtype=np.intp)
    return known[columns].to_numpy(dtype=float), truth


def _wrong(table: pd.DataFrame, name: str) -> Any:
    """The crops that a network was most sure of and wrong; None if there are none."""
    wrong = table[table["class"] != table["predicted_class"]].sort_values("probability", ascending=False)[
        :WRONG
    ]
    pictures = [read_image(file).pixels for file in wrong["file"] if Path(file).is_file()]
    if not pictures or len(pictures) != len(wrong):
        return None
    return misclassified_figure(pictures, wrong["class"].tolist(), wrong["predicted_class"].tolist(), name)
