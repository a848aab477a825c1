"""Fit the head that tells finer classes apart, on the features of a trained classifier.

    python -m scripts.train_fine_classes models/default --pack FOLDER --data ../shared/data [--cache FILE]

The finer classes are in the file names of ``pbc``: segmented (SNE) and band (BNE) neutrophils, metamyelocytes (MMY),
myelocytes (MY) and promyelocytes (PMY). Files of other names (IG, NEUTROPHIL) are not used. Crops were packed by
``scripts/pack_crops.py``. Held-out crops are never fitted on; those of the validation part give the strength of the
penalty, the temperatures, and the least probability below which a cell is not told apart. The figures in
``fine_classes.json`` are of the held-out crops. It takes a few minutes on one thread of a CPU.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

from napari_leukocls.classification import fine
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.evaluation.bootstrap import interval
from napari_leukocls.evaluation.calibration import ece, fit_temperature
from napari_leukocls.io.atomic import atomic_bytes, atomic_text
from napari_leukocls.progress import drain
from scripts.knowledge import product_crops
from scripts.packs import Pack

log = logging.getLogger("train_fine_classes")
#: Finer class of each prefix of a file name.
PREFIXES = {
    "SNE": "segmented_neutrophil",
    "BNE": "band_neutrophil",
    "MMY": "metamyelocyte",
    "MY": "myelocyte",
    "PMY": "promyelocyte",
}
PARTS = {
    "neutrophil": ("segmented_neutrophil", "band_neutrophil"),
    "immature_granulocyte": ("metamyelocyte", "myelocyte", "promyelocyte"),
}
#: Inverse strengths of the penalty that are tried.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
#: Views of a training crop: a cell has no upright side.
VIEWS = (np.s_[:], np.s_[:, :, ::-1], np.s_[:, ::-1], np.s_[:, ::-1, ::-1])
#: Share of the cells told apart that is right, on validation, and the least share that is told apart whatever that is.
TARGET, LEAST_TOLD = 0.95, 0.5
RESAMPLES = 500
#: What is kept in the cache, in the order of `crops_of`.
KEPT = ("files", "features", "classes", "heldout", "validation")


@dataclass(frozen=True)
class Crops:
    """Features of the crops whose finer class is known.

    Attributes
    ----------
    names : numpy.ndarray, (N,), str
        Finer classes.
    views : numpy.ndarray, (N, V, D)
        Features of each view; the first is the crop as analysis sees it.
    right : numpy.ndarray, (N,), bool
        Whether the classifier gives the class of the finer class.
    heldout, validation : numpy.ndarray, (N,), bool
    """

    names: np.ndarray
    views: np.ndarray
    right: np.ndarray
    heldout: np.ndarray
    validation: np.ndarray


def finer_classes(data: Path) -> dict[str, str]:
    """Finer class by file name."""
    with (data / "pbc" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {Path(row["file"]).name: PREFIXES[row["subclass"]] for row in rows if row["subclass"] in PREFIXES}


def features_of(classifier: Classifier, pack: Pack) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, V, D) of packed crops, and the classes (N,) that the classifier gives them.

    Only training crops are seen in all views; the further views of others are zeros.
    """
    features, classes = [], []
    trained = ~pack.heldout.astype(bool) & ~pack.validation
    for start in range(0, len(pack.names), 256):
        rows = np.arange(start, min(start + 256, len(pack.names)))
        crops = product_crops(pack, rows, classifier.card.crop)
        logits, first = drain(classifier.outputs(crops))
        views = np.zeros((len(rows), len(VIEWS), first.shape[1]), np.float16)
        views[:, 0] = first
        for number, view in enumerate(VIEWS[1:], start=1):
            turned = np.ascontiguousarray(crops[trained[rows]][view])
            if len(turned):
                views[trained[rows], number] = drain(classifier.first_look(turned)).features
        features.append(views)
        classes.append(np.asarray(classifier.classes)[logits.argmax(axis=1)])
        log.info("%d of %d crops", rows[-1] + 1, len(pack.names))
    return np.concatenate(features), np.concatenate(classes)


def read_crops(args: argparse.Namespace, classifier: Classifier) -> Crops:
    """Features of the crops whose finer class is known; kept in a file for the next time."""
    known = finer_classes(args.data)
    pack_files = sorted(args.pack.glob("pbc_*.npz"))
    if args.cache and args.cache.exists():
        kept = np.load(args.cache, allow_pickle=False)
        if str(kept["digest"]) == classifier.digest and int(kept["shards"]) == len(pack_files):
            return crops_of(
                known, kept["files"], kept["features"], kept["classes"], kept["heldout"], kept["validation"]
            )
    pack = Pack(args.pack, "pbc", torch.device("cpu"), known)
    features, classes = features_of(classifier, pack)
    parts = (pack.names, features, classes, pack.heldout.astype(bool), pack.validation)
    if args.cache:
        np.savez(
            args.cache,
            digest=np.array(classifier.digest),
            shards=np.array(len(pack_files)),
            **dict(zip(KEPT, parts, strict=True)),
        )
    return crops_of(known, *parts)


def crops_of(
    known: dict[str, str],
    files: np.ndarray,
    features: np.ndarray,
    classes: np.ndarray,
    heldout: np.ndarray,
    validation: np.ndarray,
) -> Crops:
    """Join features and finer classes."""
    names = np.array([known[str(file)] for file in files])
    parent = {name: whole for whole, finer in PARTS.items() for name in finer}
    right = np.array([parent[name] == given for name, given in zip(names, classes, strict=True)])
    return Crops(names, features, right, heldout, validation & ~heldout)


def fit_part(crops: Crops, finer: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Fit the finer classes of one class: weight (L, D), bias (L,), and how they were fitted."""
    mine = np.isin(crops.names, finer)
    truth = np.array([finer.index(name) if name in finer else -1 for name in crops.names])
    trained = np.flatnonzero(mine & ~crops.heldout & ~crops.validation)
    checked = np.flatnonzero(mine & crops.validation)
    views = crops.views[trained].astype(np.float32)
    mean, spread = views.mean(axis=(0, 1)), views.std(axis=(0, 1)) + 1e-3
    many = ((views - mean) / spread).reshape(-1, views.shape[-1])
    wanted = np.repeat(truth[trained], views.shape[1])
    held_back = (crops.views[checked, 0].astype(np.float32) - mean) / spread
    best: tuple[float, LogisticRegression, float] | None = None
    # From the strongest penalty on, each fit starts where the last one ended.
    model = LogisticRegression(max_iter=200, tol=1e-3, warm_start=True)
    for strength in STRENGTHS:
        # The views of a crop are one cell: together they weigh as one.
        model.set_params(C=strength / views.shape[1]).fit(many, wanted)
        found = log_loss(truth[checked], model.predict_proba(held_back), labels=range(len(finer)))
        right = float((model.predict(held_back) == truth[checked]).mean())
        log.info("%s, strength %g: validation log loss %.4f, accuracy %.4f", finer, strength, found, right)
        if best is None or found < best[0]:
            best = (found, deepcopy(model), strength)
    assert best is not None
    _, model, strength = best
    weight, bias = model.coef_, model.intercept_
    if len(finer) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight, bias = weight / spread, bias - (weight / spread) @ mean
    logits = crops.views[checked, 0].astype(np.float32) @ weight.T + bias
    temperature = fit_temperature(logits, truth[checked])
    weight, bias = weight / temperature, bias / temperature
    threshold, told = least_share(softmax(logits / temperature, axis=1), truth[checked])
    counts = {name: int((crops.names[trained] == name).sum()) for name in finer}
    how = {
        "strength": strength,
        "temperature": temperature,
        "threshold": threshold,
        "validation": {"n": len(checked), **told},
        "trained": counts,
    }
    return weight.astype(np.float32), bias.astype(np.float32), how


def least_share(shares: np.ndarray, truth: np.ndarray) -> tuple[float, dict[str, float]]:
    """The least probability of a cell that is told apart.

    The most cells are told apart of which at least `TARGET` are right; but at least `LEAST_TOLD` of all.
    """
    top, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    order = np.argsort(-top)
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(accuracy >= TARGET)
    last = max(int(enough[-1]) if len(enough) else 0, int(np.ceil(LEAST_TOLD * len(order))) - 1)
    threshold = float(np.floor(1000 * top[order[last]]) / 1000)
    told = top >= threshold
    return threshold, {"told_apart": float(told.mean()), "accuracy_told_apart": float(right[told].mean())}


def measured(shares: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, Any]:
    """Figures of one class on held-out crops, with 95 % intervals of a bootstrap over crops."""
    classes = range(shares.shape[1])
    best, top = shares.argmax(axis=1), shares.max(axis=1)

    def figures(rows: np.ndarray) -> dict[str, float]:
        told = top[rows] >= threshold
        right = best[rows] == truth[rows]
        return {
            "accuracy": float(right.mean()),
            "macro_f1": float(
                f1_score(truth[rows], best[rows], average="macro", labels=classes, zero_division=0)
            ),
            "ece": float(ece(shares[rows], truth[rows])),
            "told_apart": float(told.mean()),
            "accuracy_told_apart": float(right[told].mean()) if told.any() else float("nan"),
        }

    found: dict[str, Any] = dict(figures(np.arange(len(truth))))
    random = np.random.default_rng(0)
    drawn = [figures(random.integers(0, len(truth), len(truth))) for _ in range(RESAMPLES)]
    limits = {f"{name}_ci95": list(interval(np.array([one[name] for one in drawn]))) for name in found}
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, (truth, best), 1)
    told = np.zeros((len(classes), len(classes) + 1), int)
    np.add.at(told, (truth, np.where(top >= threshold, best, len(classes))), 1)
    return {
        "n": len(truth),
        **found,
        **limits,
        "confusion": matrix.tolist(),
        "confusion_told_apart": told.tolist(),
    }


def main() -> None:
    """Parse the command line, fit, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder of the classifier; the head is written there")
    parser.add_argument("--pack", type=Path, required=True, help="holds pbc_*.npz")
    parser.add_argument("--data", type=Path, required=True, help="holds pbc/labels.csv")
    parser.add_argument("--cache", type=Path, help=".npz of features, for a second run")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    classifier = load_classifier(args.model, "cpu")
    crops = read_crops(args, classifier)
    weights, biases, fitted, test = [], [], {}, {}
    for parent, finer in PARTS.items():
        weight, bias, fitted[parent] = fit_part(crops, finer)
        mine = np.flatnonzero(np.isin(crops.names, finer) & crops.heldout)
        truth = np.array([finer.index(name) for name in crops.names[mine]])
        # Sixteen bits are what the file holds.
        logits = (
            crops.views[mine, 0].astype(np.float32) @ weight.astype(np.float16).astype(np.float32).T + bias
        )
        figures = measured(softmax(logits, axis=1), truth, fitted[parent]["threshold"])
        test[parent] = {"classes": finer, **figures, "class_right": float(crops.right[mine].mean())}
        log.info("%s", {key: value for key, value in test[parent].items() if not key.endswith("_ci95")})
        weights.append(weight)
        biases.append(bias)
    card: dict[str, Any] = {
        "format_version": fine.FORMAT_VERSION,
        "weights_sha256": classifier.digest,
        "classes": PARTS,
        "thresholds": {parent: how["threshold"] for parent, how in fitted.items()},
        "data": "PBC: Acevedo et al., Data in Brief 2020, Hospital Clinic Barcelona; CC BY 4.0 (file names)",
        "split": "by file name: SHA-256 mod 5 = 0 is the test, mod 10 = 6 validation; no patients are named",
        "views": len(VIEWS),
        "fitted": fitted,
        "test": test,
        "known_limits": [
            "Fitted on one hospital's scanner, with as many bands as segmented neutrophils; bands are rarer in blood.",
            "Readers themselves do not agree well on bands: judge a left shift on the cells, not on the figure alone.",
        ],
        "use": "shown at depth 'fine'; never used to decide the class",
    }
    tensors = {"weight": np.concatenate(weights).astype(np.float16), "bias": np.concatenate(biases)}
    atomic_bytes(args.model / fine.WEIGHTS_NAME, save(tensors))
    atomic_text(args.model / fine.CARD_NAME, json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
