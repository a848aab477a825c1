"""Train the classifier on several laboratories at a time, with some of them left out.

    python -m scripts.train_laboratories --pack PACK --data ../shared/data --start MODEL_FOLDER \
        --leave-out bcisc krd --route joined --out RUN

The network goes on from a model folder (or from ImageNet weights). Each batch mixes the laboratories that are not
left out; within a laboratory the classes are drawn by the inverse root of their numbers. The first stages of the
network may stay as they are (``--frozen``), which halves the time of a step. At the end the moving average of the
weights is written, with the logits of each left-out laboratory and of the held-out cells of the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from napari_leukocls.classification.crops import stain_power
from napari_leukocls.models.crop_rule import CropRule
from scripts import stain_views as views
from scripts.laboratories import CLASSES, PACKS, SUBCLASSES, Cells, read_cells
from scripts.train_default import WHITE, load_start, plain_view

log = logging.getLogger("train_laboratories")


@dataclass(frozen=True)
class Route:
    """What a route varies.

    Attributes
    ----------
    mixstyle : float
        Share of the batches whose feature statistics are mixed between cells (Zhou et al., ICLR 2021).
    steady : float
        Weight of the difference between the predictions of two views of a cell; both count as half a batch.
    borrow : float
        Share of the crops that take the colours of a cell of another trained laboratory.
    grain : float
        Share of the crops with a coarse grain of their stain.
    hue : float
        Share of the crops whose hue is turned, by up to 40 degrees.
    subclass : float
        Weight of the loss of PBC's finer classes, from a second last layer that is not kept.
    """

    mixstyle: float = 0.0
    steady: float = 0.0
    borrow: float = 0.3
    grain: float = 0.0
    hue: float = 0.0
    subclass: float = 0.2


ROUTES = {
    "joined": Route(),
    "mixstyle": Route(mixstyle=0.5),
    "steady": Route(steady=1.0),
    "grain": Route(grain=0.4, hue=0.4),
    "grain_mixstyle": Route(grain=0.4, hue=0.4, mixstyle=0.5),
    "home": Route(),
}
#: Share of a batch that each laboratory fills, before those that are left out are taken away.
SHARES = {"pbc": 0.45, "pbc_full": 0.08, "raabin": 0.18, "bcisc": 0.15, "bccd": 0.09, "krd": 0.05}
#: BCCD's classes were told by non-experts, and some are wrong: they count for less.
LABEL_TRUST = {"bccd": 0.5}
SIDE = 128
#: Median optical density of the red cells in training images of PBC, and how far other stains are moved there.
RED_CELL = (0.205, 0.292, 0.184)
RED_CELL_SHARE = 0.5


def mix_statistics(features: torch.Tensor, alpha: float = 0.2) -> torch.Tensor:
    """Exchange a part of each cell's channel means and spreads with another cell of the batch.

    Parameters
    ----------
    features : torch.Tensor, (B, C, h, w)
    alpha : float
        Of the beta distribution that the share is drawn from.

    Returns
    -------
    torch.Tensor, (B, C, h, w)

    References
    ----------
    Zhou, K. et al. (2021). Domain generalization with MixStyle. ICLR.
    """
    mean = features.mean((2, 3), keepdim=True)
    spread = (features.var((2, 3), keepdim=True) + 1e-6).sqrt()
    share = torch.distributions.Beta(alpha, alpha).sample((len(features), 1, 1, 1)).to(features)
    other = torch.randperm(len(features), device=features.device)
    new_mean = share * mean + (1 - share) * mean[other]
    new_spread = share * spread + (1 - share) * spread[other]
    return (features - mean) / spread * new_spread + new_mean


class Staged(nn.Module):
    """A MobileNet or EfficientNet of timm whose first stages may be frozen, with mixed statistics between stages."""

    def __init__(self, net: nn.Module, frozen: int, mixstyle: float) -> None:
        super().__init__()
        self.net = net
        self.frozen = frozen
        self.mixstyle = mixstyle
        self.finer = nn.Linear(net.num_features, len(SUBCLASSES))
        for part in self._frozen_parts():
            part.requires_grad_(False)

    def _frozen_parts(self) -> list[nn.Module]:
        return [self.net.conv_stem, self.net.bn1, *self.net.blocks[: self.frozen]] if self.frozen else []

    def train(self, mode: bool = True) -> Staged:
        """Set the mode; frozen stages keep their statistics."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of the classes and those of the finer classes."""
        net = self.net
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            out = net.bn1(net.conv_stem(batch))
            for stage in net.blocks[: self.frozen]:
                out = stage(out)
        for index, stage in enumerate(net.blocks[self.frozen :], self.frozen):
            if self.training and index in (2, 3) and torch.rand(()) < self.mixstyle:
                out = mix_statistics(out)
            out = stage(out)
        features = net.forward_head(net.bn2(net.conv_head(out)), pre_logits=True)
        return net.classifier(features), self.finer(features)


class Batches:
    """Draws batches that mix the laboratories."""

    def __init__(self, cells: dict[str, Cells], part: str, random: np.random.Generator) -> None:
        self.cells = cells
        self.random = random
        self.rows = {name: one.rows(part) for name, one in cells.items()}
        self.rows = {name: rows for name, rows in self.rows.items() if len(rows)}
        total = sum(SHARES[name] for name in self.rows)
        self.shares = {name: SHARES[name] / total for name in self.rows}
        self.draw = {}
        for name, rows in self.rows.items():
            target = cells[name].target[rows]
            weight = 1 / np.sqrt(np.bincount(target, minlength=len(CLASSES)).clip(min=1))[target]
            self.draw[name] = weight / weight.sum()

    def draw_batch(
        self, size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return crops, masks (both 0 to 1), classes, finer classes and the trust in each label."""
        parts = []
        names = list(self.rows)
        counts = self.random.multinomial(size, [self.shares[name] for name in names])
        for name, count in zip(names, counts, strict=True):
            if not count:
                continue
            index = self.random.choice(self.rows[name], count, p=self.draw[name])
            one = self.cells[name]
            power = powers(one.pack.red_cells[index], float(self.random.choice([0.0, RED_CELL_SHARE])))
            trust = np.full(count, LABEL_TRUST.get(name, 1.0), np.float32)
            parts.append(
                (
                    restained(one.pack.crops[index].float() / 255, power),
                    one.pack.masks[index].float() / 255,
                    torch.from_numpy(one.target[index]),
                    torch.from_numpy(one.subclass[index]),
                    torch.from_numpy(trust),
                )
            )
        order = torch.from_numpy(self.random.permutation(size))
        crops, masks, wanted, finer, trust = (torch.cat(part)[order] for part in zip(*parts, strict=True))
        return crops, masks, wanted, finer, trust

    def colours(self) -> torch.Tensor:
        """Optical-density statistics (M, 2, 3) of up to 400 cells of each laboratory."""
        found = []
        for name, rows in self.rows.items():
            index = rows[:: max(1, len(rows) // 400)]
            pack = self.cells[name].pack
            density = -torch.log((pack.crops[index].float() / 255).clamp(1 / 255, 1))
            mean, std = views.density_statistics(density, pack.masks[index].float() / 255)
            found.append(torch.stack([mean[:, :, 0, 0], std[:, :, 0, 0]], 1))
        return torch.cat(found)


def restained(crops: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Raise the stain's density as an analysis does by the red cells; crops (B, 3, h, w) of 0 to 1."""
    return WHITE * (crops / WHITE).clamp(1e-3, None) ** power[:, :, None, None]


def powers(red_cells: np.ndarray, share: float) -> torch.Tensor:
    """Factors (N, 3) on the density of each channel; ones where no red cell was measured."""
    rule = CropRule(red_cell=RED_CELL, red_cell_share=share)
    return torch.from_numpy(np.stack([stain_power(one, rule) for one in red_cells])).float()


def random_view(
    crops: torch.Tensor, masks: torch.Tensor, ratio: float, route: Route, bank: torch.Tensor
) -> torch.Tensor:
    """Make one random view of each crop, -1 to 1."""
    crops, masks = views.place(crops, masks, SIDE, ratio, True)
    crops = views.borrow_colours(crops, masks, bank, route.borrow)
    crops = views.turn_hue(views.grain(crops, route.grain), route.hue, 40.0)
    crops = views.neighbours(crops, masks, WHITE, 0.15)
    crops = views.camera(views.restain(crops, 1.0), 1.0)
    return (crops * 2 - 1).contiguous(memory_format=torch.channels_last)


def loss_of(
    net: Staged, route: Route, batches: Batches, bank: torch.Tensor, args: argparse.Namespace
) -> torch.Tensor:
    """Draw a batch and return its loss."""
    ratio = next(iter(batches.cells.values())).pack.ratio
    size = args.batch // 2 if route.steady else args.batch
    crops, masks, wanted, finer, trust = batches.draw_batch(size)
    copies = 2 if route.steady else 1
    seen = torch.cat([random_view(crops, masks, ratio, route, bank) for _ in range(copies)])
    logits, fine_logits = net(seen)
    wanted, finer, trust = wanted.repeat(copies), finer.repeat(copies), trust.repeat(copies)
    each = functional.cross_entropy(logits, wanted, reduction="none", label_smoothing=args.smoothing)
    loss = (each * trust).sum() / trust.sum()
    known = finer >= 0
    if known.any():
        loss = loss + route.subclass * functional.cross_entropy(fine_logits[known], finer[known])
    if route.steady:
        one, other = logits.log_softmax(1).chunk(2)
        mean = (one.exp() + other.exp()).div(2).clamp(min=1e-7).log()
        apart = functional.kl_div(mean, one, log_target=True, reduction="batchmean")
        apart = apart + functional.kl_div(mean, other, log_target=True, reduction="batchmean")
        loss = loss + route.steady * apart
    return loss


@torch.no_grad()
def logits_of(net: nn.Module, cells: Cells, rows: np.ndarray, share: float = RED_CELL_SHARE) -> np.ndarray:
    """Logits (n, C) of cells as an analysis cuts them, the stain moved by `share` to the red cells' reference."""
    net.eval()
    out = [np.zeros((0, len(CLASSES)), np.float32)]
    for index in np.array_split(rows, max(1, math.ceil(len(rows) / 64))):
        crops = restained(cells.pack.crops[index].float() / 255, powers(cells.pack.red_cells[index], share))
        view = plain_view(255 * crops, cells.pack.masks[index], True, cells.pack.ratio, SIDE)
        out.append(net(view.contiguous(memory_format=torch.channels_last)).numpy())
    return np.concatenate(out)


def train(args: argparse.Namespace) -> None:
    """Train by one route and write weights, the record, and the logits of what was not trained on."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    random = np.random.default_rng(args.seed)
    route = ROUTES[args.route]
    trained = [name for name in PACKS if name != "tecom" and name not in args.leave_out]
    if args.route == "home":
        trained = ["pbc"]
    packs = [
        (name, pack) for name in trained for pack in PACKS[name] if list(args.pack.glob(f"{pack}_0.npz"))
    ]
    cells = {pack: read_cells(args.pack, args.data, name, pack) for name, pack in packs}
    batches = Batches(cells, "train", random)
    bank = batches.colours()
    net = Staged(load_start(args.start, len(CLASSES), args.imagenet), args.frozen, route.mixstyle)
    net = net.to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.average), use_buffers=True
    )
    parameters = [one for one in net.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=0.02)
    began, history = time.time(), []
    for step in range(args.steps):
        share = step / args.steps
        for group in optimiser.param_groups:
            group["lr"] = (
                args.rate * min(1.0, (step + 1) / 40) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
            )
        net.train()
        loss = loss_of(net, route, batches, bank, args)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        average.update_parameters(net)
        if (step + 1) % 25 == 0:
            history.append(
                {"step": step + 1, "seconds": round(time.time() - began, 1), "loss": round(loss.item(), 4)}
            )
            log.info("%s %s", args.out, history[-1])
        if (step + 1) % args.save_every == 0:
            write(args, average.module.net.eval(), route, cells, history)
    net = average.module.net.eval()
    if args.way < 1:
        go_back(net, args.start, args.way)
    write(args, net, route, cells, history)
    measure(args, net, cells)


@torch.no_grad()
def go_back(net: nn.Module, start: Path, way: float) -> None:
    """Take the weights that lie at a share of the way from the start to the trained network.

    Half-way, a network keeps more of what its start knew and loses little of what it learnt.

    References
    ----------
    Wortsman, M. et al. (2022). Robust fine-tuning of zero-shot models. CVPR.
    """
    began = load_start(start, len(CLASSES)).state_dict()
    ended = net.state_dict()
    net.load_state_dict(
        {k: torch.lerp(began[k], v, way) if v.is_floating_point() else v for k, v in ended.items()}
    )


def write(
    args: argparse.Namespace, net: nn.Module, route: Route, cells: dict[str, Cells], history: list
) -> None:
    """Write the weights and the record of the training."""
    args.out.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(state, args.out / "weights.safetensors")
    counts = {
        name: np.bincount(one.target[one.rows("train")], minlength=len(CLASSES)).tolist()
        for name, one in cells.items()
    }
    record = {
        "classes": list(CLASSES),
        "route": args.route,
        "route_settings": vars(route),
        "left_out": args.leave_out,
        "trained_on": counts,
        "settings": {k: str(v) for k, v in vars(args).items() if k not in ("pack", "data", "out")},
        "steps": history[-1]["step"] if history else 0,
        "history": history,
    }
    (args.out / "training.json").write_text(json.dumps(record, indent=1))


def measure(args: argparse.Namespace, net: nn.Module, cells: dict[str, Cells]) -> None:
    """Write the logits and classes of left-out laboratories, and of the held-out cells of the others."""
    found: dict[str, np.ndarray] = {}
    for name in PACKS:
        one = cells.get(name) or read_cells(args.pack, args.data, name)
        part = "heldout" if name in cells and name != "tecom" else "all"
        rows = one.rows(part)
        if name == "pbc":
            rows = one.rows("heldout")[::2]
        logits = logits_of(net, one, rows)
        found |= {f"{name}.logits": logits, f"{name}.rows": rows, f"{name}.target": one.target[rows]}
        right = (logits.argmax(1) == one.target[rows]).mean()
        log.info(
            "%s %s (%s, n %d): %.3f",
            args.out,
            name,
            "trained" if name in cells else "left out",
            len(rows),
            right,
        )
    np.savez(args.out / "logits.npz", **found)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True, help="a model folder, or ImageNet weights")
    parser.add_argument(
        "--imagenet",
        default="mobilenetv2_100",
        help="timm's name of the network that ImageNet weights are for",
    )
    parser.add_argument("--leave-out", nargs="*", default=[], choices=list(PACKS), metavar="LABORATORY")
    parser.add_argument("--route", choices=list(ROUTES), default="joined")
    parser.add_argument("--frozen", type=int, default=2, help="stages that stay as they are")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--average", type=float, default=0.99)
    parser.add_argument("--way", type=float, default=0.5, help="share of the way from the start that is kept")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
