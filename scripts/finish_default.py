"""Make a model folder of trained weights: temperature, thresholds and out-of-distribution score from
validation.

    python -m scripts.finish_default --pack FOLDER --run TRAINED --data ../shared/data --name default

The test part (the hold-out) is touched by ``leukocls evaluate`` alone, afterwards; ``--metrics`` puts
its figures
into the card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls.classification import ood
from napari_leukocls.classification.card import ModelCard
from napari_leukocls.classification.crops import CropRule, cut_window, paint_out
from napari_leukocls.classification.predict import Classifier
from napari_leukocls.evaluation.calibration import ece, fit_temperature
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import finish
from scripts.pack_crops import RULE, VIEW_UM
from scripts.train_default import ROUTES, Pack

log = logging.getLogger("finish_default")
#: Share of validation cells that the out-of-distribution threshold sends to review.
OOD_SHARE = 0.01
#: Wrong cells among those that are not reviewed, on validation.
TARGET_ERROR = 0.003
TRAINING_CELLS = 400
#: Cells less certain than this are seen from four sides.
SECOND_LOOK = 0.95


def product_crops(pack: Pack, rows: np.ndarray, rule: CropRule) -> np.ndarray:
    """Cut crops (N, side, side, 3) from packed windows by the product's own functions."""
    out = np.empty((len(rows), rule.side_px, rule.side_px, 3), np.uint8)
    middle = ((RULE.side_px - 1) / 2,) * 2
    for place, row in enumerate(rows):
        window = pack.crops[row].permute(1, 2, 0).contiguous().numpy()
        crop = cut_window(window, middle, RULE.um_per_px, rule, [235.0] * 3)
        mask = cut_window(pack.masks[row, 0].numpy(), middle, RULE.um_per_px, rule, [0.0])
        out[place] = paint_out(crop, mask, rule)
    return out


def card_of(args: argparse.Namespace, pack: Pack, record: dict[str, Any]) -> dict[str, Any]:
    """Everything of the card that is known before anything is fitted."""
    settings = record["settings"]
    scheme = default_scheme()
    classes = [scheme.resolve(name) or name for name in record["classes"]]
    trained = ~pack.heldout.astype(bool) & ~pack.validation
    names = "\n".join(sorted(pack.names[trained].tolist()))
    outlined = ROUTES[settings["route"]]["kept"] < 1
    side = int(settings["side"])
    return {
        "name": args.name,
        "architecture": "mobilenetv2_100",
        "arguments": {"pad_type": "same"},
        "classes": classes,
        "input_size": [side, side],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": {"side_um": VIEW_UM, "side_px": side, "margin_um": 1.0 if outlined else None, "white": 235.0},
        "second_look": SECOND_LOOK,
        "gradcam": {"layer": "conv_head", "reshape": None},
        "training_data": {
            "sources": [
                "PBC: Acevedo et al., Data in Brief 2020, Hospital Clinic Barcelona; CC BY 4.0 (classes)",
                "TXL-PBC / Raabin-WBC crops; MIT (colours only, no classes)",
                *(["BCCD; MIT (colours only, no classes)"] if "bccd" in settings["borrow_from"] else []),
                "ImageNet weights of MobileNetV2: google-coral/test_data, Apache-2.0 (start)",
            ],
            "files_sha256": hashlib.sha256(names.encode()).hexdigest(),
            "counts": {scheme.resolve(k) or k: v for k, v in Counter(pack.classes[trained].tolist()).items()},
        },
        "split": "by file name: SHA-256 mod 5 = 0 is the test, mod 10 = 6 validation; no patients are named",
        "training": training(args, record),
        "licence": "weights: CC BY 4.0, after the training data",
        "intended_use": "Sorting leukocytes of stained smears for research and training; not for diagnosis.",
        "known_limits": [
            "No blasts, plasma cells or variant lymphocytes were trained on: they should go to review.",
            "Trained on one hospital's scanner; other cameras are met by variation, not by examples.",
            "The training set names no patients: cells of one patient may be on both sides of the split.",
        ],
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
    }


def training(args: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """How the weights were made."""
    made = {"settings": record["settings"], "steps": record["steps"], "epochs": round(record["epochs"], 1)}
    runs = [made]
    if args.average_with:
        other = json.loads((args.average_with / "training.json").read_text())
        runs.append(
            {"settings": other["settings"], "steps": other["steps"], "epochs": round(other["epochs"], 1)}
        )
    for run in runs:
        run["settings"] = {
            k: v for k, v in run["settings"].items() if k not in ("pack", "start", "out", "check")
        }
    return {
        "runs": runs,
        "weights": "mean of the runs" if len(runs) > 1 else "of the run",
        "device": args.device,
    }


def thresholds(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Smallest probability limit at which the cells above it are wrong at most `TARGET_ERROR` of the time."""
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    for limit in np.arange(0.5, 0.99, 0.01):
        kept = best >= limit
        if kept.any() and 1 - right[kept].mean() <= TARGET_ERROR:
            return round(float(limit), 2)
    return 0.99


def main() -> None:
    """Parse the command line, fit, and write the model folder."""
    from safetensors.torch import load_file, save_file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder that train_default wrote")
    parser.add_argument("--average-with", type=Path, help="folder of a second run; weights are averaged")
    parser.add_argument("--name", default="default")
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--device", default="one NVIDIA H200", help="on which it was trained, for the card")
    parser.add_argument("--metrics", type=Path, help="metrics.json of the test part, for the card")
    parser.add_argument("--extra", type=Path, help="JSON of further figures for the card")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    record = json.loads((args.run / "training.json").read_text())
    pack = Pack(args.pack, "pbc", torch.device("cpu"))
    card = card_of(args, pack, record)
    weights = load_file(args.run / "weights.safetensors")
    if args.average_with:
        # Two runs from one start lie in one basin: the mean of their weights did better than either alone.
        second = load_file(args.average_with / "weights.safetensors")
        weights = {
            k: ((v.float() + second[k].float()) / 2).half() if v.is_floating_point() else v
            for k, v in weights.items()
        }
    network = build(card, weights)
    classifier = Classifier(ModelCard(**card), network, {}, "", "cpu")
    truth = np.array(
        [record["classes"].index(name) if name in record["classes"] else -1 for name in pack.classes]
    )
    trained = np.flatnonzero(~pack.heldout.astype(bool) & ~pack.validation & (truth >= 0))
    some = np.concatenate(
        [trained[truth[trained] == k][:TRAINING_CELLS] for k in range(len(card["classes"]))]
    )
    held_back = np.flatnonzero(pack.validation & (truth >= 0))
    rule = classifier.card.crop.rule()
    logits, features = finish(classifier.outputs(product_crops(pack, some, rule), 64))
    val_logits, val_features = finish(classifier.outputs(product_crops(pack, held_back, rule), 64))
    temperature = fit_temperature(val_logits, truth[held_back])
    scaled = torch.softmax(torch.from_numpy(val_logits / temperature), 1).numpy()
    tensors = ood.fit(features, logits, truth[some], (val_features, val_logits))
    score = ood.score(val_features, val_logits, tensors)
    card |= {
        "temperature": float(temperature),
        "review_threshold": thresholds(scaled, truth[held_back]),
        "ood": {"method": ood.METHOD, "threshold": float(np.quantile(score, 1 - OOD_SHARE))},
        "validation": {
            "n": len(held_back),
            "accuracy": float((scaled.argmax(1) == truth[held_back]).mean()),
            "ece": float(ece(scaled, truth[held_back])),
        },
    }
    if args.metrics:
        card["test"] = {
            "touched": "once, after everything above was fixed",
            **json.loads(args.metrics.read_text()),
        }
    if args.extra:
        card |= json.loads(args.extra.read_text())
    folder = args.out / args.name
    folder.mkdir(parents=True, exist_ok=True)
    everything = {**weights, **{f"ood.{k}": torch.from_numpy(v).half() for k, v in tensors.items()}}
    save_file({k: v.contiguous() for k, v in everything.items()}, folder / "weights.safetensors")
    card["weights_sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n")
    log.info("%s", {key: card[key] for key in ("temperature", "review_threshold", "ood", "validation")})


def build(card: dict[str, Any], weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Build the network with its weights."""
    from napari_leukocls.classification.checkpoint import build_network

    return build_network(ModelCard(**card), weights, Path(card["name"]))


if __name__ == "__main__":
    main()
