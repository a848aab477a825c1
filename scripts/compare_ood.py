"""Compare scores that tell unknown cells from known ones: each class is left out of training in turn.

    python -m scripts.compare_ood extract --pack FOLDER --run TRAINED --left-out NAME --out FEATURES
    python -m scripts.compare_ood table --features FEATURES

``extract`` shows the packed crops to a network that ``scripts.train_default --leave-out NAME`` trained, and
writes ``NAME.npz``: features, logits, class and part (0 training, 1 validation, 2 held out, 3 left out) of each
cell. ``table`` fits every score on part 0, scales it on part 1, and prints the AUROC between parts 2
and 3 as a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from napari_leukocls.classification import ood
from napari_leukocls.evaluation.bootstrap import auroc

#: Cells of each class that scores are fitted on, and cells of the class left out.
FITTED_ON, UNKNOWN = 300, 400
#: Share of the mean variance added to each direction, so that the covariance can be inverted.
SHRINKAGE = 0.01


class Cells:
    """What ``extract`` wrote of one left-out class."""

    def __init__(self, file: Path) -> None:
        with np.load(file, allow_pickle=False) as stored:
            self.features = np.asarray(stored["F"], dtype=np.float64)
            self.logits = np.asarray(stored["L"], dtype=np.float64)
            self.part = np.asarray(stored["part"])
            names, classes = stored["y"].tolist(), stored["classes"].tolist()
        self.classes = np.array([classes.index(name) if name in classes else -1 for name in names])
        self.fitted = self.part == 0

    def accuracy(self) -> float:
        """Of held-out cells of the known classes."""
        held = self.part == 2
        return float((self.logits[held].argmax(axis=1) == self.classes[held]).mean())


def softmax(cells: Cells) -> np.ndarray:
    """Minus the largest probability (Hendrycks and Gimpel 2017)."""
    return -np.exp(cells.logits.max(axis=1) - logsumexp(cells.logits, axis=1))


def energy(cells: Cells) -> np.ndarray:
    """Free energy of the logits (Liu et al. 2020)."""
    return -logsumexp(cells.logits, axis=1)


def mahalanobis(cells: Cells) -> np.ndarray:
    """Squared distance to the nearest class mean under one covariance (Lee et al. 2018)."""
    fitted, classes = cells.features[cells.fitted], cells.classes[cells.fitted]
    means = np.stack([fitted[classes == k].mean(axis=0) for k in np.unique(classes)])
    rest = fitted - means[classes]
    covariance = rest.T @ rest / len(rest)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    white = np.linalg.cholesky(np.linalg.inv(covariance))
    points, centres = cells.features @ white, means @ white
    return np.min([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=0)


def neighbours(cells: Cells) -> np.ndarray:
    """Cosine distance to the fifth nearest training cell (Sun et al. 2022)."""
    centred = cells.features - cells.features[cells.fitted].mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    near = unit @ unit[cells.fitted].T
    near[np.flatnonzero(cells.fitted), np.arange(int(cells.fitted.sum()))] = -1
    return 1 - np.partition(near, -5, axis=1)[:, -5]


def shipped(cells: Cells) -> np.ndarray:
    """What the models store: `napari_leukocls.classification.ood`."""
    held_back = cells.part == 1
    tensors = ood.fit(
        cells.features[cells.fitted],
        cells.logits[cells.fitted],
        cells.classes[cells.fitted],
        (cells.features[held_back], cells.logits[held_back]),
    )
    return ood.score(cells.features, cells.logits, tensors)


SCORES: dict[str, Callable[[Cells], np.ndarray]] = {
    "largest probability": softmax,
    "energy": energy,
    "Mahalanobis": mahalanobis,
    "5th nearest neighbour": neighbours,
    "energy + residual, as stored without an earlier stage": shipped,
}


def at_one_percent(cells: Cells, score: np.ndarray) -> float:
    """Share of unknown cells above the limit that one in a hundred validation cells is above."""
    limit = np.quantile(score[cells.part == 1], 0.99)
    return float((score[cells.part == 3] >= limit).mean())


def table(folder: Path) -> None:
    """Print the comparison."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    left_out = []
    for file in sorted(folder.glob("*.npz")):
        cells = Cells(file)
        if not (cells.part == 3).any():
            continue
        name = file.stem.removeprefix("feat_")
        left_out.append(name)
        judged = cells.part >= 2
        for score_name, function in SCORES.items():
            score = function(cells)
            area = auroc(cells.part[judged] == 3, score[judged])
            found.setdefault(score_name, {})[name] = (area, at_one_percent(cells, score))
        print(f"{name}: {int((cells.part == 3).sum())} unknown, {int((cells.part == 2).sum())} known cells, "
              f"accuracy of the known {cells.accuracy():.3f}")  # fmt: skip
    print(f"\n| AUROC, left out: | {' | '.join(left_out)} | mean | caught at 1 % |")
    print("|---" * (len(left_out) + 3) + "|")
    for score_name, rows in found.items():
        areas = [rows[name][0] for name in left_out]
        caught = np.mean([rows[name][1] for name in left_out])
        cells_text = " | ".join(f"{area:.3f}" for area in areas)
        print(f"| {score_name} | {cells_text} | {np.mean(areas):.3f} | {100 * caught:.0f} % |")


def extract(pack_folder: Path, run: Path, left_out: str, out: Path) -> None:
    """Write features and logits of training, validation, held-out and left-out cells."""
    import timm
    import torch
    from safetensors.torch import load_file

    from scripts.packs import Pack
    from scripts.train_default import plain_view

    pack = Pack(pack_folder, "pbc", torch.device("cpu"))
    record = json.loads((run / "training.json").read_text())
    classes = record["classes"]
    if left_out in classes:
        raise SystemExit(f"{run} was trained with {left_out}: give a run with --leave-out {left_out}.")
    net = timm.create_model("mobilenetv2_100", num_classes=len(classes), pad_type="same")
    weights = load_file(run / "weights.safetensors")
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    net.eval()
    held, known = pack.heldout.astype(bool), np.isin(pack.classes, classes)
    rng = np.random.default_rng(0)
    trained = ~held & ~pack.validation
    parts = [
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(trained & (pack.classes == name)))[:FITTED_ON]
                for name in classes
            ]
        ),
        np.flatnonzero(pack.validation & known),
        np.flatnonzero(held & known),
        rng.permutation(np.flatnonzero(pack.classes == left_out))[:UNKNOWN],
    ]
    rows = np.concatenate(parts)
    features, logits = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            index = torch.from_numpy(rows[start : start + 64])
            view = plain_view(pack.crops[index], pack.masks[index], True, pack.ratio, 128)
            seen, output = ood.features_and_logits(net, view)
            features.append(seen.numpy())
            logits.append(output.numpy())
    out.mkdir(parents=True, exist_ok=True)
    np.savez(
        out / f"{left_out}.npz",
        F=np.concatenate(features),
        L=np.concatenate(logits),
        part=np.repeat(np.arange(4), [len(part) for part in parts]),
        y=pack.classes[rows],
        classes=np.array(classes),
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("extract")
    one.add_argument("--pack", type=Path, required=True)
    one.add_argument("--run", type=Path, required=True)
    one.add_argument("--left-out", required=True)
    one.add_argument("--out", type=Path, required=True)
    other = commands.add_parser("table")
    other.add_argument("--features", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "extract":
        extract(args.pack, args.run, args.left_out, args.out)
    else:
        table(args.features)


if __name__ == "__main__":
    main()
