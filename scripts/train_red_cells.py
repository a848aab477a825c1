"""Train the network for the shape of red cells on Chula-RBC-12, and measure it on the fields that are left out.

    python -m scripts.train_red_cells --pack red_cells.npz --out models/red_cells

The pack is that of ``scripts/pack_red_cells.py``. Fields whose name the hold-out rule names are never trained on; a
sixth of the other fields (by another hash; fields of one place together) gives the temperature and the review
thresholds. Figures of the left-out fields are macro-F1 and balanced accuracy with 95 % limits (fields resampled),
beside those of the most frequent shape and of two classifiers of the measurements in ``red_cells.csv``.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from napari_leukocls.architectures.red_cell_net import RED_CELL_NET
from napari_leukocls.architectures.registry import create
from napari_leukocls.classification import ood
from napari_leukocls.classification.crops import cut_window, paint_out, stain_power, white_balance
from napari_leukocls.evaluation.calibration import fit_temperature
from napari_leukocls.models.card import make_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.install import write_model
from napari_leukocls.models.registry import RED_CELLS
from napari_leukocls.models.weights import read_weights
from scripts.red_cell_set import NAMES, UM_PER_PX, WINDOW

log = logging.getLogger("train_red_cells")
SIDE_UM, SIDE_PX, MARGIN_UM = 14.0, 56, 1.0
BATCH = 64
#: Least precision that the review threshold of a shape aims at, on the validation fields.
PRECISION = 0.8
N_BOOT = 1000
#: Names of measurements that hand-made features are.
FEATURES = (
    *("diameter_um", "circularity", "axis_ratio", "solidity"),
    *("pallor", "pallor_diameter", "density", "blueness", "inclusions"),
)


class Cells:
    """The labelled cells of the pack.

    Parameters
    ----------
    path : Path
        Of the pack.
    """

    def __init__(self, path: Path) -> None:
        pack = np.load(path, allow_pickle=False)
        known = np.flatnonzero(np.array([bool(name) for name in NAMES])[pack["types"]])
        self.windows, self.masks = pack["windows"][known], pack["masks"][known]
        self.classes = [name for name in NAMES if name]
        self.truth = np.array([self.classes.index(NAMES[t]) for t in pack["types"][known]])
        self.fields = pack["fields"][known]
        self.names = pack["names"]
        self.densities = pack["densities"]
        self.measured = pack["measured"][known][:, [list(pack["columns"]).index(name) for name in FEATURES]]
        self.place = pack["group"][self.fields]
        group, held = pack["group"], pack["held_out"]
        # A place is left out if any of its fields is.
        places_out = set(group[held])
        self.left_out = np.array([g in places_out for g in self.place])
        tens = {g: int(hashlib.sha256(f"validation {g}".encode()).hexdigest(), 16) % 6 for g in set(group)}
        self.validation = ~self.left_out & np.array([tens[g] == 0 for g in self.place])
        self.training = ~self.left_out & ~self.validation
        usual = np.nanmedian(self.densities[np.unique(self.fields[self.training])], axis=0)
        self.rule = CropRule(SIDE_UM, SIDE_PX, MARGIN_UM, 235.0, tuple(float(v) for v in usual.round(4)), 0.5)

    def crops(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Crops (n, side, side, 3) uint8 as an analysis cuts them; varied if there is a generator."""
        out = np.empty((len(rows), SIDE_PX, SIDE_PX, 3), np.uint8)
        for i, row in enumerate(rows):
            window, mask, scale = self.windows[row], self.masks[row], 1.0
            power = stain_power(self.densities[self.fields[row]], self.rule)
            centre = ((WINDOW - 1) / 2, (WINDOW - 1) / 2)
            if rng is not None:
                # Stain, scale, place and direction vary as they do between laboratories.
                power = power * np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.1, 3))
                scale = float(np.exp(rng.normal(0, 0.03)))
                turn = cv2.getRotationMatrix2D(centre, rng.uniform(0, 360), 1.0)
                white = (235.0, 235.0, 235.0)
                size = (WINDOW, WINDOW)
                window = cv2.warpAffine(window, turn, size, flags=cv2.INTER_LINEAR, borderValue=white)
                mask = cv2.warpAffine(mask, turn, size, flags=cv2.INTER_LINEAR)
                if rng.random() < 0.5:
                    window, mask = window[:, ::-1], mask[:, ::-1]
                if rng.random() < 0.3:
                    window = cv2.GaussianBlur(np.ascontiguousarray(window), (0, 0), rng.uniform(0.4, 1.3))
                centre = tuple(np.array(centre) + rng.normal(0, 1.2, 2))
            window = white_balance(window, [235.0] * 3, 235.0, power)
            um = UM_PER_PX * scale
            crop = cut_window(np.ascontiguousarray(window), centre, um, self.rule, [235.0] * 3)
            shape = cut_window(np.ascontiguousarray(mask), centre, um, self.rule, [0.0])
            out[i] = paint_out(crop, shape, self.rule)
        return out


def tensor(crops: np.ndarray) -> torch.Tensor:
    """Crops as the network takes them."""
    return torch.from_numpy((crops.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)).contiguous()


def train(cells: Cells, minutes: float, seed: int, start: Path | None = None) -> nn.Module:
    """Train from random weights, or on from a model's; the result is the running mean of the weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = create(RED_CELL_NET, len(cells.classes), drop_rate=0.2).to(memory_format=torch.channels_last)
    if start is not None:
        net.load_state_dict({k: v for k, v in read_weights(start)[0].items() if not k.startswith("ood.")})
    highest = 4e-3 if start is None else 2e-3
    mean = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=0.03)
    rows = np.flatnonzero(cells.training)
    count = np.bincount(cells.truth[rows], minlength=len(cells.classes))
    # Between the natural frequencies and equal ones.
    share = (count / count.sum())[cells.truth[rows]] ** -0.5
    share /= share.sum()
    started, step = time.monotonic(), 0
    while minutes and (done := (time.monotonic() - started) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = highest * min(1.0, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * min(done, 1)))
        chosen = rng.choice(rows, BATCH, p=share)
        net.train()
        logits = net(tensor(cells.crops(chosen, rng)).to(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, torch.from_numpy(cells.truth[chosen]), label_smoothing=0.08)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        keep = min(0.997, 1 - 1 / (step + 1))
        with torch.no_grad():
            for ours, theirs in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
                if ours.is_floating_point():
                    ours.lerp_(theirs, 1 - keep)
                else:
                    ours.copy_(theirs)
        if step % 200 == 0:
            logits = outputs(mean, cells, np.flatnonzero(cells.validation))[1]
            truth = cells.truth[cells.validation]
            score = f1_score(truth, logits.argmax(axis=1), average="macro", zero_division=0)
            log.info(
                "%.0f %% step %d loss %.3f validation macro-F1 %.3f", 100 * done, step, float(loss), score
            )
    log.info("%d steps", step)
    return mean


@torch.inference_mode()
def outputs(net: nn.Module, cells: Cells, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of cells as an analysis cuts them."""
    found = [
        ood.features_and_logits(net, tensor(cells.crops(part)))
        for part in np.array_split(rows, len(rows) // 256 + 1)
    ]
    features, logits = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    return features, logits


def figures(truth: np.ndarray, best: np.ndarray, fields: np.ndarray, n_classes: int) -> dict[str, Any]:
    """Macro-F1, balanced accuracy and accuracy, with 95 % limits by resampling fields."""
    every = np.arange(n_classes)

    def scores(rows: np.ndarray) -> list[float]:
        present = np.unique(truth[rows])
        macro = f1_score(truth[rows], best[rows], average="macro", labels=present, zero_division=0)
        recall = confusion_matrix(truth[rows], best[rows], labels=every)
        share = np.diag(recall)[present] / recall.sum(axis=1)[present]
        return [float(macro), float(share.mean()), float((truth[rows] == best[rows]).mean())]

    rng = np.random.default_rng(0)
    names = np.unique(fields)
    members = {name: np.flatnonzero(fields == name) for name in names}
    draws = [
        scores(np.concatenate([members[name] for name in rng.choice(names, len(names))]))
        for _ in range(N_BOOT)
    ]
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    value = scores(np.arange(len(truth)))
    found: dict[str, Any] = {}
    for i, name in enumerate(("macro_f1", "balanced_accuracy", "accuracy")):
        found[name] = round(value[i], 4)
        found[f"{name}_ci95"] = [round(float(low[i]), 4), round(float(high[i]), 4)]
    return found


def by_hand(cells: Cells) -> dict[str, dict[str, Any]]:
    """Figures on the left-out fields of what needs no network."""
    fit, test = ~cells.left_out, cells.left_out
    truth, fields = cells.truth[test], cells.fields[test]
    numbers = np.nan_to_num(cells.measured, nan=-1.0)
    majority = np.full(test.sum(), np.bincount(cells.truth[fit]).argmax())
    found = {"majority": figures(truth, majority, fields, len(cells.classes))}
    models = {
        "measurements, logistic regression": make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced")
        ),
        "measurements, gradient boosting": HistGradientBoostingClassifier(
            class_weight="balanced", max_iter=150, learning_rate=0.06, random_state=0
        ),
    }
    for name, model in models.items():
        best = model.fit(numbers[fit], cells.truth[fit]).predict(numbers[test])
        found[name] = figures(truth, best, fields, len(cells.classes))
        log.info("%s: %s", name, found[name])
    return found


def review_thresholds(probabilities: np.ndarray, truth: np.ndarray, classes: list[str]) -> dict[str, float]:
    """Least probability of each shape above which `PRECISION` of the validation cells are right."""
    best, top = probabilities.argmax(axis=1), probabilities.max(axis=1)
    found = {}
    for index, name in enumerate(classes):
        mine = np.flatnonzero(best == index)
        order = mine[np.argsort(-top[mine])]
        right = np.cumsum(truth[order] == index) / np.arange(1, len(order) + 1)
        good = np.flatnonzero(right >= PRECISION)
        found[name] = round(float(top[order[good[-1]]]), 3) if len(good) else 0.95
    return found


#: What the card says that the model cannot do.
KNOWN_LIMITS = [
    "One laboratory, one camera, one magnification: no figure of another laboratory exists.",
    "The shapes were given by people who looked at single cells; ovalocyte and elliptocyte, stomatocyte and "
    "target cell, hypochromic and normal cells are often mistaken for each other.",
    "Acanthocytes, bite cells, blister cells, sickle cells and irregularly contracted cells were not learnt.",
    "Few teardrop cells and microcytes are in the left-out fields: their figures say little.",
]


def _crop_of(cells: Cells) -> dict[str, Any]:
    """The rule by which crops are cut."""
    return {
        "side_um": SIDE_UM,
        "side_px": SIDE_PX,
        "margin_um": MARGIN_UM,
        "white": 235.0,
        "red_cell": list(cells.rule.red_cell or ()),
        "red_cell_share": cells.rule.red_cell_share,
    }


def _per_class(truth: np.ndarray, tested: np.ndarray, classes: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of cells of each shape."""
    precision, recall, f1, n = precision_recall_fscore_support(
        truth, tested, labels=np.arange(len(classes)), zero_division=0
    )
    return {
        name: {
            "precision": round(float(precision[i]), 3),
            "recall": round(float(recall[i]), 3),
            "f1": round(float(f1[i]), 3),
            "n": int(n[i]),
        }
        for i, name in enumerate(classes)
    }


def card_of(
    cells: Cells, net: nn.Module, hand: dict[str, Any], minutes: float
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Contents of ``model.json`` and the tensors."""
    parts = {"training": cells.training, "validation": cells.validation, "left out": cells.left_out}
    found = {name: outputs(net, cells, np.flatnonzero(part)) for name, part in parts.items()}
    truth = {name: cells.truth[part] for name, part in parts.items()}
    temperature = round(float(fit_temperature(found["validation"][1], truth["validation"])), 4)
    probabilities = softmax(found["validation"][1] / temperature, axis=1)
    predicted = {name: logits.argmax(axis=1) for name, (_, logits) in found.items()}
    test = _tested(cells, truth["left out"], predicted["left out"])
    ood_tensors, limit = ood_of(found, truth)
    values = {
        "name": RED_CELLS,
        "kind": "classifier",
        "architecture": RED_CELL_NET,
        "arguments": {"drop_rate": 0.2},
        "classes": cells.classes,
        "input_size": [SIDE_PX, SIDE_PX],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop": _crop_of(cells),
        "temperature": temperature,
        "review_threshold": 0.4,
        "review_thresholds": review_thresholds(probabilities, truth["validation"], cells.classes),
        "ood": {"method": "distance to known cells, and energy", "threshold": limit},
        "licence": "weights: BSD-3-Clause",
        "intended_use": "Shapes of red cells in stained blood smears, for research and training; not for diagnosis.",
        "known_limits": KNOWN_LIMITS,
        "training_data": _training_data(cells),
        "split": {
            "method": "SHA-256 of the field's name mod 5 = 0 is left out; fields of one place stay together",
            "grouped_by": "field",
        },
        "training": {"seed": 0, "seconds": round(60 * minutes), "device": "one processor core, shared"},
        "validation": {
            "role": "validation",
            **figures(
                truth["validation"],
                predicted["validation"],
                cells.fields[cells.validation],
                len(cells.classes),
            ),
        },
        "test": test,
        "compared_with": hand,
    }
    return values, {**net.state_dict(), **{f"ood.{name}": value for name, value in ood_tensors.items()}}


def _training_data(cells: Cells) -> dict[str, Any]:
    """What the network was trained on."""
    names = sorted(cells.names[np.unique(cells.fields[cells.training])])
    counts = np.bincount(cells.truth[cells.training], minlength=len(cells.classes))
    return {
        "sources": ["Chula-RBC-12 (Chula-PIC-Lab); MIT"],
        "files_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "counts": {name: int(n) for name, n in zip(cells.classes, counts, strict=True)},
    }


def _tested(cells: Cells, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """The figures of the fields that were left out."""
    fields = cells.fields[cells.left_out]
    test = figures(truth, predicted, fields, len(cells.classes))
    log.info("network: %s", test)
    matrix = confusion_matrix(truth, predicted, labels=np.arange(len(cells.classes)))
    return {
        "role": "left out",
        "set": f"Chula-RBC-12, {len(np.unique(fields))} fields left out",
        "n": len(predicted),
        **test,
        "per_class": _per_class(truth, predicted, cells.classes),
        "confusion_matrix": matrix.tolist(),
    }


def ood_of(found: dict[str, Any], truth: dict[str, np.ndarray]) -> tuple[dict[str, torch.Tensor], float]:
    """Tensors and threshold of the score of cells that are like none: 1 % of the validation cells reach it."""
    tensors = ood.fit(*found["training"], truth["training"], found["validation"])
    score = ood.score(*found["validation"], tensors)
    return {name: torch.as_tensor(value) for name, value in tensors.items()}, float(np.quantile(score, 0.99))


def main() -> None:
    """Train, measure and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20, help="0 with --start: only measure it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of a model to train on from")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cells = Cells(args.pack)
    log.info("%s", {k: int(getattr(cells, k).sum()) for k in ("training", "validation", "left_out")})
    hand = by_hand(cells)
    net = train(cells, args.minutes, args.seed, args.start)
    values, tensors = card_of(cells, net, hand, args.minutes)
    write_model(args.out, make_card(values, args.out), tensors)


if __name__ == "__main__":
    main()
