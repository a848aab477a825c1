"""Compare scores of unknown cells in laboratories that a network has not seen, on a class that it has not seen.

    python -m scripts.compare_unknown train --pack PACK --data ../shared/data --run LOLO/A \\
        --left-out neutrophil --out F
    python -m scripts.compare_unknown table --features F

``train`` takes a run of `scripts.train_laboratories` that never saw some laboratories, draws its last stages and its
last layer anew, and trains these without one class (``none``: the run as it is). It writes logits, features and channel
means of the last stage but one, of training, validation and held-out cells, of all cells of the laboratories that were
not seen, and of strange cells made of these (`scripts.strange_cells`). Where a laboratory has no cell of the class,
PBC's held-out cells in the laboratory's colours take their place. ``table`` prints, for each score, the mean AUROC of
unknown against known cells of the same laboratory. The first stages have seen the class: the figures are somewhat too
good, and are for comparing the scores.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from torch import nn
from torch.nn import functional

from napari_leukocls import architectures
from napari_leukocls.classification import ood
from napari_leukocls.evaluation.bootstrap import auroc
from napari_leukocls.models.crop_rule import CropRule
from scripts import stain_views as views
from scripts.finish_default import (
    RED_CELL,
    RED_CELL_SHARE,
    SIDE,
    cells_of,
    joined_weights,
    network_of,
    record_of,
)
from scripts.knowledge import product_crops, some_of_each, spread_over
from scripts.laboratories import CLASSES, Cells
from scripts.strange_cells import KINDS, strange_crops
from scripts.train_laboratories import ROUTES, SHARES, powers, random_view, restained

#: Training cells of each class and pack that views are made of and scores are fitted on, and views of each.
FITTED, VIEWS = {"pbc": 115}, {"pbc": 2, "pbc_full": 1}
OTHERS, MORE_VIEWS = 60, 4
#: Stages that stay as they are.
FROZEN = 5
RULE = CropRule(side_um=22.4, side_px=SIDE, red_cell=RED_CELL, red_cell_share=RED_CELL_SHARE)


class Network:
    """A network whose first stages stay as they are, in two parts."""

    def __init__(self, run: Path) -> None:
        kind = network_of([record_of(run)])
        self.name, self.arguments = kind["architecture"], kind["arguments"]
        self.net = architectures.create(self.name, len(CLASSES), **self.arguments)
        weights = joined_weights([run], "mean")
        self.net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
        self.net.eval()

    @torch.inference_mode()
    def maps(self, batch: torch.Tensor) -> torch.Tensor:
        """What the first stages make of images (B, 3, h, w) of -1 to 1."""
        out = self.net.bn1(self.net.conv_stem(batch.contiguous(memory_format=torch.channels_last)))
        for stage in self.net.blocks[:FROZEN]:
            out = stage(out)
        return out.half()

    def rest(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, features and channel means of the last stage but one."""
        stage = self.net.blocks[FROZEN](maps.float())
        last = self.net.bn2(self.net.conv_head(self.net.blocks[FROZEN + 1](stage)))
        features = self.net.forward_head(last, pre_logits=True)
        return self.net.classifier(features), features, stage.mean((2, 3))

    def renew(self) -> list[nn.Parameter]:
        """Draw the later parts anew; return their parameters."""
        fresh = architectures.create(self.name, len(CLASSES), **self.arguments)
        for part in ("conv_head", "bn2", "classifier"):
            setattr(self.net, part, getattr(fresh, part))
        for place in (FROZEN, FROZEN + 1):
            self.net.blocks[place] = fresh.blocks[place]
        later = [*self.net.blocks[FROZEN:], self.net.conv_head, self.net.bn2, self.net.classifier]
        return [one for part in later for one in part.parameters()]


def learn(network: Network, trained: dict[str, Cells], left_out: int, args: argparse.Namespace) -> None:
    """Train the later parts without a class, on views that are made once."""
    random = np.random.default_rng(0)
    maps, target, share = [], [], []
    bank = colours(trained["pbc"], trained["pbc"].rows("train")[::25])
    for name, one in trained.items():
        rows = some_of_each(one.rows("train"), one.target, FITTED.get(name, OTHERS))
        rows = np.repeat(rows[one.target[rows] != left_out], VIEWS.get(name, MORE_VIEWS))
        weight = 1 / np.sqrt(np.bincount(one.target[rows], minlength=len(CLASSES)).clip(min=1))
        share.append(SHARES[name] * weight[one.target[rows]] / weight[one.target[rows]].sum())
        target.append(one.target[rows])
        for index in np.array_split(rows, math.ceil(len(rows) / 32)):
            power = powers(one.pack.red_cells[index], float(random.choice([0.0, RED_CELL_SHARE])))
            crops = restained(one.pack.crops[index].float() / 255, power)
            masks = one.pack.masks[index].float() / 255
            maps.append(network.maps(random_view(crops, masks, one.pack.ratio, ROUTES["grain"], bank)))
    seen, wanted, chance = torch.cat(maps), torch.from_numpy(np.concatenate(target)), np.concatenate(share)
    parameters = network.renew()
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, args.steps, pct_start=0.1)
    network.net.train()
    for _ in range(args.steps):
        index = torch.from_numpy(random.choice(len(chance), args.batch, p=chance / chance.sum()))
        logits = network.rest(seen[index].contiguous(memory_format=torch.channels_last))[0]
        if left_out >= 0:
            logits = logits.index_fill(1, torch.tensor([left_out]), -20.0)
        loss = functional.cross_entropy(logits, wanted[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
    network.net.eval()


def colours(one: Cells, rows: np.ndarray) -> torch.Tensor:
    """Optical-density statistics (M, 2, 3) of cells."""
    density = -torch.log((one.pack.crops[rows].float() / 255).clamp(1 / 255, 1))
    mean, spread = views.density_statistics(density, one.pack.masks[rows].float() / 255)
    return torch.stack([mean[:, :, 0, 0], spread[:, :, 0, 0]], 1)


def dyed(home: Cells, rows: np.ndarray, other: Cells) -> np.ndarray:
    """Crops of cells in the colours of another laboratory."""
    crops, masks = home.pack.crops[rows].float() / 255, home.pack.masks[rows]
    crops = views.borrow_colours(crops, masks.float() / 255, colours(other, other.rows("all")), 1.0)
    unknown = np.full((len(rows), 3), np.nan)
    pack = SimpleNamespace(crops=(crops * 255).round().byte(), masks=masks, red_cells=unknown)
    return product_crops(pack, np.arange(len(rows)), RULE)  # type: ignore[arg-type]


def cells_to_judge(
    there: dict[str, Cells], trained: dict[str, Cells], left_out: int
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Part, laboratory, crops and classes: of training, validation, held-out, left-out and strange cells."""
    found = []

    def add(part: str, name: str, rows: np.ndarray) -> None:
        found.append((part, name, product_crops(there[name].pack, rows, RULE), there[name].target[rows]))

    for name, one in trained.items():
        add("fitted", name, some_of_each(one.rows("train"), one.target, FITTED.get(name, OTHERS)))
        add("validation", name, spread_over(one.rows("validation"), 480 if name == "pbc" else 100))
    home, held = there["pbc"], there["pbc"].rows("heldout")
    held = some_of_each(held, home.target, 60)
    for name in ("pbc", *(name for name in there if name not in trained)):
        one = there[name]
        rows = held if name == "pbc" else one.rows("all")
        add("known", name, rows)
        if left_out < 0:
            random, nucleated = np.random.default_rng(1), rows[one.target[rows] != CLASSES.index("platelet")]
            for kind in KINDS:
                chosen = random.permutation(nucleated)[:40]
                made = strange_crops(one.pack, chosen, kind, RULE, random)
                found.append((kind, name, made, np.full(len(made), -1)))
        elif not (one.target[rows] == left_out).any():
            chosen = held[home.target[held] == left_out]
            found.append(("known", name, dyed(home, chosen, one), np.full(len(chosen), left_out)))
    return found


def train(args: argparse.Namespace) -> None:
    """Train without a class and write what the network makes of all cells."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network(args.run)
    record = json.loads((args.run / "training.json").read_text())
    there = cells_of(args)
    trained = {name: one for name, one in there.items() if name in record["trained_on"]}
    there = {name: one for name, one in there.items() if name in trained or name in record["left_out"]}
    left_out = -1 if args.left_out == "none" else CLASSES.index(args.left_out)
    judged = cells_to_judge(there, trained, left_out)
    if left_out >= 0:
        learn(network, trained, left_out, args)
    crops = np.concatenate([one[2] for one in judged])
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(crops), 64):
            batch = torch.from_numpy(crops[start : start + 64]).permute(0, 3, 1, 2) / 127.5 - 1
            outputs.append([one.numpy() for one in network.rest(network.maps(batch))])
    logits, features, stage = (np.concatenate(one) for one in zip(*outputs, strict=True))
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez(
        args.out / f"{args.run.name}_{args.left_out}.npz",
        logits=np.delete(logits, left_out, 1) if left_out >= 0 else logits,
        features=features,
        stage=stage,
        part=np.concatenate([np.full(len(one[3]), one[0]) for one in judged]),
        laboratory=np.concatenate([np.full(len(one[3]), one[1]) for one in judged]),
        target=np.concatenate([one[3] for one in judged]),
        left_out=left_out,
    )


class Judged:
    """What ``train`` wrote of one network."""

    def __init__(self, file: Path) -> None:
        with np.load(file, allow_pickle=False) as stored:
            self.logits, self.features, self.stage = (stored[k] for k in ("logits", "features", "stage"))
            self.part, self.laboratory, self.target = (stored[k] for k in ("part", "laboratory", "target"))
            self.left_out = int(stored["left_out"])
        known = self.target != self.left_out
        self.fitted, self.held = ((self.part == name) & known for name in ("fitted", "validation"))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """0 is the median of validation cells, 1 their 95th percentile."""
        low, high = np.quantile(values[self.held], [0.5, 0.95])
        array: np.ndarray = (values - low) / max(high - low, 1e-6)
        return array

    def neighbour(self, values: np.ndarray) -> np.ndarray:
        """Cosine distance to the fifth nearest training cell in the 64 principal directions."""
        centred = values - values[self.fitted].mean(0)
        axes = np.linalg.svd(centred[self.fitted], full_matrices=False)[2][: ood.DIRECTIONS]
        unit = centred @ axes.T
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
        return self.scaled(1 - np.partition(unit @ unit[self.fitted].T, -5, axis=1)[:, -5])

    def residual(self) -> np.ndarray:
        """Share of the features outside the 64 principal directions, as a sine."""
        centred = self.features - self.features[self.fitted].mean(0)
        axes = np.linalg.svd(centred[self.fitted], full_matrices=False)[2][: ood.DIRECTIONS]
        inside = ((centred @ axes.T) ** 2).sum(1) / (centred**2).sum(1)
        return self.scaled(np.sqrt(np.clip(1 - inside, 0, 1)))

    def energy(self) -> np.ndarray:
        """Free energy."""
        return self.scaled(-logsumexp(self.logits, axis=1))

    def gradient(self) -> np.ndarray:
        """Minus the gradient's norm of the divergence from equal probabilities (Huang et al. 2021)."""
        apart = np.abs(softmax(self.logits, axis=1) - 1 / self.logits.shape[1]).sum(1)
        return self.scaled(-np.abs(self.features).sum(1) * apart)

    def shipped(self) -> np.ndarray:
        """What the models store."""
        back = self.features[self.held], self.logits[self.held], self.stage[self.held]
        given = (self.features[self.fitted], self.logits[self.fitted], self.target[self.fitted])
        tensors = ood.fit(*given, back, self.stage[self.fitted])
        return ood.score(self.features, self.logits, tensors, self.stage)


SCORES: dict[str, Callable[[Judged], np.ndarray]] = {
    "largest probability": lambda one: one.scaled(-softmax(one.logits, axis=1).max(1)),
    "energy": Judged.energy,
    "energy of logits / 3": lambda one: one.scaled(-logsumexp(one.logits / 3, axis=1)),
    "neighbour": lambda one: one.neighbour(one.features),
    "neighbour in the last stage but one": lambda one: one.neighbour(one.stage),
    "residual": Judged.residual,
    "gradient": Judged.gradient,
    "neighbour + energy (before)": lambda one: one.neighbour(one.features) + one.energy(),
    "residual + energy": lambda one: one.residual() + one.energy(),
    "residual + gradient": lambda one: one.residual() + one.gradient(),
    "as shipped": Judged.shipped,
}


def table(folder: Path) -> None:
    """Print the mean AUROC of each score, by what is unknown and where."""
    found: dict[str, dict[str, list[float]]] = {}
    for file in sorted(folder.glob("*.npz")):
        one = Judged(file)
        for name, function in SCORES.items():
            score = function(one)
            for laboratory in np.unique(one.laboratory[one.part == "known"]):
                here = one.laboratory == laboratory
                known = here & (one.part == "known") & (one.target != one.left_out)
                groups = [here & (one.part == kind) for kind in KINDS]
                groups.append(here & (one.part == "known") & (one.target == one.left_out))
                where = "home" if laboratory == "pbc" else "left out"
                for unknown, what in zip(groups, [*KINDS, "class"], strict=True):
                    if unknown.sum() >= 5:
                        area = auroc(unknown[known | unknown], score[known | unknown])
                        what = "class" if what == "class" else "strange"
                        found.setdefault(name, {}).setdefault(f"{what}, {where}", []).append(area)
    columns = sorted({column for row in found.values() for column in row})
    print(f"| AUROC | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in found.items():
        print(f"| {name} | {' | '.join(f'{np.mean(row[column]):.3f}' for column in columns)} |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train")
    one.add_argument("--pack", type=Path, required=True)
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--run", type=Path, required=True)
    one.add_argument("--left-out", choices=[*CLASSES, "none"], required=True)
    one.add_argument("--steps", type=int, default=170)
    one.add_argument("--batch", type=int, default=48)
    one.add_argument("--rate", type=float, default=3e-3)
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(check=[])
    other = commands.add_parser("table")
    other.add_argument("--features", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "train":
        train(args)
    else:
        table(args.features)


if __name__ == "__main__":
    main()
