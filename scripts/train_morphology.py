"""Fit the head that puts morphology in words, on the features of a trained classifier.

    python -m scripts.train_morphology models/default --pack FOLDER --data ../shared/data [--cache FILE]

The attributes are WBCAtt's, of crops of ``pbc`` that were packed by ``scripts/pack_crops.py``. Held-out crops
are never fitted on; those of the validation part give the temperatures and the strength of the penalty. The
figures in ``morphology.json`` are of the held-out crops: macro-F1 of each attribute, beside that of guessing
its most frequent value.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.evaluation.calibration import fit_temperature
from napari_leukocls.explanation import morphology
from napari_leukocls.io.atomic import atomic_bytes, atomic_text
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme
from scripts.knowledge import product_crops
from scripts.packs import Pack, is_validation

log = logging.getLogger("train_morphology")
PENALTIES = (0.1, 0.3, 1.0, 3.0)
EPOCHS = 40
BATCH = 256


def read_attributes(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of WBCAtt by file name: ``label`` and the attributes."""
    rows: dict[str, dict[str, str]] = {}
    for part in ("train", "val", "test"):
        with (folder / f"{part}.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                rows[row.pop("img_name")] = row
    return rows


def features_of(classifier: Classifier, pack: Pack, rows: np.ndarray) -> np.ndarray:
    """Features (n, D) of packed crops, as analysis sees them."""
    rule = classifier.card.crop
    out = []
    for start in range(0, len(rows), 512):
        crops = product_crops(pack, rows[start : start + 512], rule)
        out.append(drain(classifier.outputs(crops))[1])
    return np.concatenate(out)


def cached_features(
    args: argparse.Namespace, classifier: Classifier, known: set[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Names (n,) and features (n, D) of the annotated crops; kept in a file for the next time."""
    if args.cache and args.cache.exists():
        kept = np.load(args.cache, allow_pickle=False)
        if str(kept["digest"]) == classifier.digest:
            return kept["names"], kept["features"].astype(np.float32)
    pack = Pack(args.pack, "pbc", torch.device("cpu"))
    rows = np.flatnonzero([name in known for name in pack.names])
    features = features_of(classifier, pack, rows)
    if args.cache:
        np.savez(args.cache, names=pack.names[rows], features=features, digest=np.array(classifier.digest))
    return pack.names[rows], features


def fit(
    features: torch.Tensor,
    truth: dict[str, np.ndarray],
    sizes: dict[str, int],
    rows: np.ndarray,
    penalty: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit one linear layer for all attributes at once on the given rows: weight (K, D), bias (K,)."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(features.shape[1], sum(sizes.values()))
    optimiser = torch.optim.AdamW(layer.parameters(), 2e-3, weight_decay=penalty)
    index = torch.from_numpy(rows)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    targets = {name: torch.from_numpy(values) for name, values in truth.items()}
    for _ in range(EPOCHS):
        for part in index[torch.randperm(len(index))].split(BATCH):
            pieces = layer(features[part]).split(list(sizes.values()), dim=1)
            losses = [
                F.cross_entropy(piece, targets[name][part]) for name, piece in zip(sizes, pieces, strict=True)
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            schedule.step()
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def scores(
    logits: np.ndarray,
    truth: dict[str, np.ndarray],
    sizes: dict[str, int],
    trained: np.ndarray,
    rows: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Macro-F1 and accuracy of each attribute on some rows, and of guessing its most frequent value."""
    from sklearn.metrics import f1_score

    found, start = {}, 0
    for name, size in sizes.items():
        best = logits[rows, start : start + size].argmax(axis=1)
        start += size
        guess = np.full(len(rows), np.bincount(truth[name][trained]).argmax())
        true, every = truth[name][rows], range(size)
        found[name] = {
            "macro_f1": float(f1_score(true, best, average="macro", labels=every, zero_division=0)),
            "majority_macro_f1": float(f1_score(true, guess, average="macro", labels=every, zero_division=0)),
            "accuracy": float((best == true).mean()),
            "majority_accuracy": float((guess == true).mean()),
        }
    return found


def mean_of(found: dict[str, dict[str, float]], key: str) -> float:
    """Mean of one figure over the attributes."""
    return float(np.mean([row[key] for row in found.values()]))


def scaled(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    truth: dict[str, np.ndarray],
    sizes: dict[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Divide each attribute's outputs by its temperature on the given (validation) crops."""
    weight, bias, start = weight.copy(), bias.copy(), 0
    for name, size in sizes.items():
        part = slice(start, start + size)
        start += size
        temperature = fit_temperature(features @ weight[part].T + bias[part], truth[name])
        weight[part] /= temperature
        bias[part] /= temperature
    return weight, bias


def main() -> None:
    """Parse the command line, fit, measure and write."""
    from safetensors.numpy import save

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder of the classifier; the head is written there")
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="holds wbcatt/")
    parser.add_argument("--cache", type=Path, help=".npz of features, for a second run")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    classifier = load_classifier(args.model, "cpu")
    rows = read_attributes(args.data / "wbcatt")
    names, features = cached_features(args, classifier, set(rows))
    attributes = {
        key: tuple(sorted({row[key] for row in rows.values()}))
        for key in next(iter(rows.values()))
        if key != "label"
    }
    sizes = {key: len(values) for key, values in attributes.items()}
    truth = {
        key: np.array([values.index(rows[name][key]) for name in names]) for key, values in attributes.items()
    }
    held = np.array([int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0 for name in names])
    checked = np.array([is_validation(name) for name in names]) & ~held
    trained = np.flatnonzero(~held & ~checked)
    weight, bias, penalty = best_fit(features, truth, sizes, trained, np.flatnonzero(checked))
    test = scores(features @ weight.T + bias, truth, sizes, trained, np.flatnonzero(held))
    log.info(
        "held out: macro-F1 %.4f, guessing %.4f",
        mean_of(test, "macro_f1"),
        mean_of(test, "majority_macro_f1"),
    )
    scheme = default_scheme()
    labels = {row["label"] for row in rows.values()}
    card: dict[str, Any] = {
        "format_version": morphology.FORMAT_VERSION,
        "weights_sha256": classifier.digest,
        "attributes": attributes,
        "classes": sorted(scheme.resolve(label) or label.lower() for label in labels),
        "data": "WBCAtt (apple2373/wbcatt), MIT, on crops of PBC (Acevedo et al. 2020), CC BY 4.0",
        "split": "by file name: SHA-256 mod 5 = 0 is the test, mod 10 = 6 validation; no patients are named",
        "n": {"trained": len(trained), "validation": int(checked.sum()), "test": int(held.sum())},
        "weight_decay": penalty,
        "test": test,
        "mean_macro_f1": mean_of(test, "macro_f1"),
        "mean_majority_macro_f1": mean_of(test, "majority_macro_f1"),
        "use": "shown beside the class; never used to decide it",
    }
    tensors = {"weight": weight.astype(np.float16), "bias": bias.astype(np.float32)}
    atomic_bytes(args.model / morphology.WEIGHTS_NAME, save(tensors))
    atomic_text(args.model / morphology.CARD_NAME, json.dumps(card, indent=1) + "\n")


def best_fit(
    features: np.ndarray,
    truth: dict[str, np.ndarray],
    sizes: dict[str, int],
    trained: np.ndarray,
    checked: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit with each penalty, keep the one that does best on validation, and set its temperatures."""
    mean, spread = features[trained].mean(axis=0), features[trained].std(axis=0) + 1e-3
    standard = torch.from_numpy((features - mean) / spread)
    best: tuple[float, np.ndarray, np.ndarray, float] | None = None
    for penalty in PENALTIES:
        weight, bias = fit(standard, truth, sizes, trained, penalty)
        weight, bias = weight / spread, bias - weight @ (mean / spread)
        found = mean_of(scores(features @ weight.T + bias, truth, sizes, trained, checked), "macro_f1")
        log.info("penalty %g: macro-F1 on validation %.4f", penalty, found)
        if best is None or found > best[0]:
            best = (found, weight, bias, penalty)
    assert best is not None
    some = {name: values[checked] for name, values in truth.items()}
    weight, bias = scaled(best[1], best[2], features[checked], some, sizes)
    return weight, bias, best[3]


if __name__ == "__main__":
    main()
