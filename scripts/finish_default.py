"""Make the bundled classifiers of trained weights; temperature, thresholds and out-of-distribution score come
from validation.

    python -m scripts.finish_default --pack FOLDER --run A B --join ensemble --mean --name accurate
    python -m scripts.finish_default --pack FOLDER --run A B --join mean --name default

The test part (the hold-out) is touched by ``leukocls evaluate`` alone, afterwards; ``--metrics`` puts its figures
into the card.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls import architectures
from napari_leukocls.architectures._ensemble import join_members
from napari_leukocls.classification import ood
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.crops import cut_window, paint_out
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.evaluation.calibration import ece, fit_temperature
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import CropRule, ModelCard, make_card
from napari_leukocls.models.install import write_model
from napari_leukocls.models.weights import OOD_PREFIX
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.calibrate import review_threshold
from scripts.pack_crops import RULE, VIEW_UM
from scripts.packs import Labelled, Pack
from scripts.train_default import ROUTES

log = logging.getLogger("finish_default")
#: Share of validation cells that the out-of-distribution threshold sends to review.
OOD_SHARE = 0.01
#: Wrong cells among those that are not reviewed, on validation.
TARGET_ERROR = 0.003
TRAINING_CELLS = 250
#: The same of another laboratory's cells, if its classes were trained on.
ELSEWHERE = 60
#: Cells less certain than this are looked at again.
SECOND_LOOK = {"mean": 0.0, "ensemble": 0.99}
#: How much more or less often a class is met in peripheral blood than the training set would have it, as a root
#: of what would be true: classes that are rare in blood are not called on weak evidence. It is in the bias of the
#: last layer, so that whoever trains on does away with it.
PRIOR = {
    "basophil": 0.4,
    "eosinophil": 0.4,
    "erythroblast": 0.2,
    "immature_granulocyte": 0.4,
    "lymphocyte": 1.0,
    "monocyte": 0.85,
    "neutrophil": 1.2,
    "platelet": 0.4,
}
#: Median optical density of the red cells in 120 training images of PBC, and how far other stains are drawn there.
RED_CELL = (0.205, 0.292, 0.184)
RED_CELL_SHARE = 0.5


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


def gradcam(members: int) -> dict[str, Any]:
    """Where heatmaps are read: 8 x 8 places of the last stage but two, by the method that checked best there.

    The last map has 4 x 4 places, so that what it points at is as large as a cell.
    """
    layers = [f"members.{place}.blocks.4" for place in range(members)]
    return {"layer": layers or "blocks.4", "reshape": None, "method": "hirescam"}


def card_of(
    args: argparse.Namespace, pack: Pack, records: list[dict[str, Any]], known: Labelled | None
) -> dict[str, Any]:
    """Everything of the card that is known before anything is fitted."""
    record = records[0]
    settings = record["settings"]
    scheme = default_scheme()
    classes = [scheme.resolve(name) or name for name in record["classes"]]
    trained = ~pack.heldout.astype(bool) & ~pack.validation
    names = "\n".join(sorted(pack.names[trained].tolist()))
    outlined = ROUTES[settings["route"]]["kept"] < 1
    side = int(settings["side"])
    member = {"architecture": "mobilenetv2_100", "arguments": {"pad_type": "same"}}
    if args.join == "ensemble":
        count = len(args.run) + args.mean
        arguments = {"member": "mobilenetv2_100", "count": count, "member_arguments": {"pad_type": "same"}}
        member = {"architecture": "ensemble", "arguments": arguments}
    return {
        "name": args.name,
        **member,
        "classes": classes,
        "input_size": [side, side],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": {
            "side_um": VIEW_UM,
            "side_px": side,
            "margin_um": 1.0 if outlined else None,
            "white": 235.0,
            "red_cell": RED_CELL,
            "red_cell_share": RED_CELL_SHARE,
        },
        "second_look": SECOND_LOOK[args.join],
        "prior": PRIOR,
        "gradcam": gradcam(member["arguments"].get("count", 0)),
        "training_data": {
            "sources": [
                "PBC: Acevedo et al., Data in Brief 2020, Hospital Clinic Barcelona; CC BY 4.0 (classes)",
                "TXL-PBC / Raabin-WBC crops; MIT ("
                + (
                    "colours, and classes told by eye by this project's authors)"
                    if known
                    else "colours only)"
                ),
                *(["BCCD; MIT (colours only, no classes)"] if "bccd" in settings["borrow_from"] else []),
                "ImageNet weights of MobileNetV2: google-coral/test_data, Apache-2.0 (start)",
            ],
            "files_sha256": sha256_of(names.encode()),
            "counts": {scheme.resolve(k) or k: v for k, v in Counter(pack.classes[trained].tolist()).items()},
            **({"counts_raabin": known.counts(classes)} if known else {}),
        },
        "split": "by file name: SHA-256 mod 5 = 0 is the test, mod 10 = 6 validation; no patients are named",
        "training": training(args, records),
        "licence": "weights: CC BY 4.0, after the training data",
        "intended_use": "Sorting leukocytes of stained smears for research and training; not for diagnosis.",
        "known_limits": [
            "No blasts, plasma cells or variant lymphocytes were trained on: they should go to review.",
            "Trained on one hospital's scanner; other cameras are met by variation, not by examples.",
            "The training set names no patients: cells of one patient may be on both sides of the split.",
        ],
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
    }


def training(args: argparse.Namespace, records: list[dict[str, Any]]) -> dict[str, Any]:
    """How the weights were made."""
    runs = []
    for record in records:
        kept = {k: v for k, v in record["settings"].items() if k not in ("pack", "start", "out", "check")}
        run = {"settings": kept, "steps": record["steps"], "epochs": round(record["epochs"], 1)}
        runs.append({**run, "device": record.get("device", args.device)})
    how = "of the run" if len(runs) == 1 else "mean of the runs"
    if args.join == "ensemble":
        how = "the runs side by side" + (", and their mean as a further member" if args.mean else "")
    return {"runs": runs, "weights": how, "started_from": records[0].get("started_from", "ImageNet weights")}


def mean_of(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average the weights of runs from one start, which lie in one basin."""
    return {
        key: torch.stack([state[key].float() for state in states]).mean(0).half()
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def joined_weights(args: argparse.Namespace, classes: list[str]) -> dict[str, torch.Tensor]:
    """Join the runs' weights and put the prior into the last layer's bias."""
    from safetensors.torch import load_file

    states = [load_file(run / "weights.safetensors") for run in args.run]
    if args.join == "ensemble":
        weights = join_members([*states, *([mean_of(states)] if args.mean else [])])
    else:
        weights = mean_of(states)
    prior = torch.tensor([PRIOR[name] for name in classes]).log()
    bias = weights["classifier.bias"]
    return {**weights, "classifier.bias": (bias.float() + prior).to(bias.dtype)}


def fit(
    card: dict[str, Any],
    weights: dict[str, torch.Tensor],
    pack: Pack,
    opinion: Classifier | None,
    known: Labelled | None,
) -> dict[str, np.ndarray]:
    """Fit temperature, threshold and out-of-distribution score into the card; return the latter's tensors."""
    names = np.array([default_scheme().resolve(name) or name for name in pack.classes])
    network = architectures.create(card["architecture"], len(card["classes"]), **card["arguments"])
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    classifier = Classifier(ModelCard(**card), network.eval(), {}, "", "cpu", opinion)
    truth = np.array([card["classes"].index(name) if name in card["classes"] else -1 for name in names])
    trained = np.flatnonzero(~pack.heldout.astype(bool) & ~pack.validation & (truth >= 0))
    some = np.concatenate(
        [trained[truth[trained] == k][:TRAINING_CELLS] for k in range(len(card["classes"]))]
    )
    held_back = np.flatnonzero(pack.validation & (truth >= 0))
    rule = classifier.card.crop
    crops, classes = product_crops(pack, some, rule), truth[some]
    if known is not None:
        # First, because the score keeps the first of each class.
        theirs = [known.rows[known.target[known.rows] == k][:ELSEWHERE] for k in range(len(card["classes"]))]
        rows = np.concatenate(theirs)
        crops = np.concatenate([product_crops(known.pack, rows, rule), crops])
        classes = np.concatenate([known.target[rows], classes])
    logits, features = drain(classifier.outputs(crops, 64))
    val_logits, val_features = drain(classifier.outputs(product_crops(pack, held_back, rule), 64))
    temperature = fit_temperature(val_logits, truth[held_back])
    scaled = torch.softmax(torch.from_numpy(val_logits / temperature), 1).numpy()
    tensors = ood.fit(features, logits, classes, (val_features, val_logits))
    score = ood.score(val_features, val_logits, tensors)
    card |= {
        "temperature": float(temperature),
        "review_threshold": review_threshold(scaled, truth[held_back], TARGET_ERROR),
        "ood": {"method": ood.METHOD, "threshold": float(np.quantile(score, 1 - OOD_SHARE))},
        "validation": {
            "n": len(held_back),
            "accuracy": float((scaled.argmax(1) == truth[held_back]).mean()),
            "ece": float(ece(scaled, truth[held_back])),
        },
    }
    return tensors


def main() -> None:
    """Parse the command line, fit, and write the model folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders that train_default wrote")
    parser.add_argument("--labelled", nargs=2, metavar=("SET", "CSV"), help="as train_default was given")
    parser.add_argument("--join", choices=["mean", "ensemble"], default="mean")
    parser.add_argument("--mean", action="store_true", help="the mean of the runs is a further member")
    parser.add_argument(
        "--second-opinion", metavar="NAME", help="a model in --out that unsure cells are shown to"
    )
    parser.add_argument("--name", default="default")
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--device", default="one NVIDIA H200", help="on which it was trained, for the card")
    parser.add_argument("--metrics", type=Path, help="metrics.json of the test part, for the card")
    parser.add_argument("--extra", type=Path, help="JSON of further figures for the card")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    records = [json.loads((run / "training.json").read_text()) for run in args.run]
    pack = Pack(args.pack, "pbc", torch.device("cpu"))
    known = None
    if args.labelled:
        name, table = args.labelled
        theirs = Pack(args.pack, name, torch.device("cpu"))
        known = Labelled.read(theirs, Path(table), records[0]["classes"])
    card = card_of(args, pack, records, known)
    opinion = None
    if args.second_opinion:
        opinion = load_classifier(args.out / args.second_opinion, "cpu")
        card["second_opinion"] = {"model": args.second_opinion, "sha256": opinion.digest}
    weights = joined_weights(args, card["classes"])
    tensors = fit(card, weights, pack, opinion, known)
    if args.metrics:
        figures = json.loads(args.metrics.read_text())
        card["test"] = {"touched": "once, after everything above was fixed", **figures}
    if args.extra:
        card |= json.loads(args.extra.read_text())
    everything = {**weights, **{f"{OOD_PREFIX}{k}": torch.from_numpy(v).half() for k, v in tensors.items()}}
    write_model(args.out / args.name, make_card(card, f"of {args.name}"), everything)
    log.info("%s", {key: card[key] for key in ("temperature", "review_threshold", "ood", "validation")})


if __name__ == "__main__":
    main()
