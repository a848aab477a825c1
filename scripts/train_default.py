"""Train a classifier of white-balanced, outlined crops, by one of several routes.

    python -m scripts.train_default --pack FOLDER --start IMAGENET.safetensors --out FOLDER --route borrowed

The pack (``scripts/pack_crops.py``) holds crops with their outlines, classes and hold-out flags. Held-out
crops are never trained on, nor are those of the validation part, on which temperature and thresholds are
fitted afterwards (``scripts/finish_default.py``). ``--leave-out CLASS`` trains without a class, for the
out-of-distribution check. ``--start MODEL_FOLDER`` goes on from a bundled model, and ``--labelled SET CSV`` adds
cells of another laboratory whose classes a table names (``scripts/raabin_classes.csv``).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from napari_leukocls.classification.fusion import unfold_batch_norm
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import CARD_NAME
from napari_leukocls.models.weights import OOD_PREFIX
from scripts import stain_views as views
from scripts.packs import Labelled, Pack, batch_of, read_classes

log = logging.getLogger("train_default")
WHITE = 235 / 255
#: What each route varies: strength of colour and camera changes, crops kept whole, borrowed colours.
ROUTES = {
    "plain": {"strength": 0.15, "kept": 1.0, "borrow": 0.0, "geometry": False, "pseudo": 0.0},
    "strong": {"strength": 1.0, "kept": 1.0, "borrow": 0.0, "geometry": True, "pseudo": 0.0},
    "outlined": {"strength": 1.0, "kept": 0.15, "borrow": 0.0, "geometry": True, "pseudo": 0.0},
    "borrowed": {"strength": 1.0, "kept": 0.15, "borrow": 0.4, "geometry": True, "pseudo": 0.0},
    "pseudo": {"strength": 1.0, "kept": 0.15, "borrow": 0.4, "geometry": True, "pseudo": 0.5},
}


def load_start(path: Path, n_classes: int, imagenet: str = "mobilenetv2_100") -> nn.Module:
    """Build a network of timm on ImageNet weights, with a new head; or on a run's weights, or a bundled model's.

    The head of a run's weights stays. A bundled model is taken without its prior.
    """
    import timm
    from safetensors.torch import load_file

    if not path.is_dir():
        weights = load_file(path)
        padding = {"pad_type": "same"} if imagenet.startswith("mobilenet") else {}
        net = timm.create_model(imagenet, num_classes=len(weights["classifier.bias"]), **padding)
        net.load_state_dict(weights)
        if net.num_classes != n_classes:
            net.reset_classifier(n_classes)
        return net
    card = read_card(path)
    net = timm.create_model(card.architecture, num_classes=n_classes, **card.arguments)
    weights = load_file(path / "weights.safetensors")
    net.load_state_dict({name: value for name, value in weights.items() if not name.startswith(OOD_PREFIX)})
    with torch.no_grad():
        prior = card.prior or {}
        net.classifier.bias -= torch.tensor([prior[name] for name in card.classes]).log()
    return net


def see(
    crops: torch.Tensor, masks: torch.Tensor, route: dict, ratio: float, side: int, bank: torch.Tensor | None
) -> torch.Tensor:
    """Make one random view of each crop, as the network wants it (-1 to 1)."""
    crops, masks = crops.float() / 255, masks.float() / 255
    crops, masks = views.place(crops, masks, side, ratio, route["geometry"])
    if bank is not None and route["borrow"]:
        crops = views.borrow_colours(crops, masks, bank, route["borrow"])
    crops = views.neighbours(crops, masks, WHITE, route["kept"])
    crops = views.restain(crops, route["strength"])
    crops = views.camera(crops, route["strength"])
    return (crops * 2 - 1).contiguous(memory_format=torch.channels_last)


def plain_view(
    crops: torch.Tensor, masks: torch.Tensor, outlined: bool, ratio: float, side: int
) -> torch.Tensor:
    """The view that analysis uses: upright, neighbours painted out where the route does so."""
    crops, masks = crops.float() / 255, masks.float() / 255
    theta = torch.tensor([[1 / ratio, 0, 0], [0, 1 / ratio, 0]], device=crops.device).expand(len(crops), 2, 3)
    grid = F.affine_grid(theta, [len(crops), 3, 2 * side, 2 * side], align_corners=False)
    both = F.avg_pool2d(F.grid_sample(torch.cat([crops, masks], 1), grid, align_corners=False), 2)
    crops, masks = both[:, :3], both[:, 3:]
    if outlined:
        reach = round(1.0 / (22.4 / side))
        keep = F.max_pool2d((masks > 0.5).float(), 2 * reach + 1, 1, reach)
        keep = F.avg_pool2d(keep, 3, 1, 1)
        crops = crops * keep + WHITE * (1 - keep)
    return crops * 2 - 1


@torch.no_grad()
def predict(net: nn.Module, pack: Pack, rows: np.ndarray, outlined: bool, side: int) -> np.ndarray:
    """Logits (n, C) of the given rows of a pack."""
    net.eval()
    device = pack.crops.device
    out = []
    for part in np.array_split(rows, max(1, math.ceil(len(rows) / 512))):
        index = torch.from_numpy(part).to(device)
        view = plain_view(pack.crops[index], pack.masks[index], outlined, pack.ratio, side)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            out.append(net(view).float().cpu().numpy())
    return np.concatenate(out)


def colour_bank(packs: list[Pack], known: Labelled | None, leave_out: str | None) -> torch.Tensor:
    """Optical-density statistics (M, 2, 3) inside the cells of other laboratories' crops.

    Where a class is left out, only cells that are known to be of another one are asked.
    """
    rows = []
    for pack in packs:
        density = -torch.log((pack.crops.float() / 255).clamp(1 / 255, 1))
        mean, std = views.density_statistics(density, pack.masks.float() / 255)
        found = torch.stack([mean[:, :, 0, 0], std[:, :, 0, 0]], 1)
        if leave_out is None:
            rows.append(found)
        elif known is not None and known.pack is pack:
            rows.append(found[torch.from_numpy(known.rows).to(found.device)])
    if not rows:
        raise SystemExit("With --leave-out, colours are borrowed from the --labelled set alone: name it.")
    return torch.cat(rows)


def prepare(
    args: argparse.Namespace, pack: Pack, rows: np.ndarray, n_classes: int, route: dict
) -> tuple[nn.Module, torch.optim.swa_utils.AveragedModel]:
    """Build the network on its start, with normalisation statistics of real crops, and its moving average."""
    device = pack.crops.device
    net = load_start(Path(args.start), n_classes).to(device).to(memory_format=torch.channels_last)
    if not Path(args.start).is_dir():
        first = torch.from_numpy(rows[:: max(1, len(rows) // 512)][:512]).to(device)
        view = plain_view(pack.crops[first], pack.masks[first], route["kept"] < 1, pack.ratio, args.side)
        unfold_batch_norm(net, view)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.997), use_buffers=True
    )
    return net, average


def train(args: argparse.Namespace) -> None:
    """Train one network by one route and write its weights and how it went."""
    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    device, route = torch.device(args.device), ROUTES[args.route]
    pack = Pack(Path(args.pack), "pbc", device)
    others = {name: Pack(Path(args.pack), name, device) for name in args.borrow_from}
    classes = [name for name in sorted(set(pack.classes.tolist())) if name != args.leave_out]
    others_known = None
    if args.labelled:
        name, table = args.labelled
        theirs = others.get(name) or Pack(Path(args.pack), name, device)
        others_known = Labelled.read(theirs, Path(table), classes)
    bank = colour_bank(list(others.values()), others_known, args.leave_out) if others else None
    target = np.array([classes.index(name) if name in classes else -1 for name in pack.classes])
    rows = np.flatnonzero(~pack.heldout.astype(bool) & ~pack.validation & (target >= 0))
    labels = torch.from_numpy(target).to(device)
    weights = 1 / np.sqrt(np.bincount(target[rows], minlength=len(classes)))
    draw = weights[target[rows]] / weights[target[rows]].sum()
    net, average = prepare(args, pack, rows, len(classes), route)
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=0.02)
    start, history, step = time.time(), [], 0
    while (share := (time.time() - start) / (60 * args.minutes)) < 1:
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / 150) * decay
        net.train()
        crops, masks, wanted = batch_of(pack, labels, rows, draw, others_known, args, random)
        view = see(crops, masks, route, pack.ratio, args.side, bank)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = net(view)
        loss = F.cross_entropy(logits.float(), wanted, label_smoothing=args.smoothing)
        if route["pseudo"] and share > 0.3:
            other = others[args.borrow_from[0]]
            loss = loss + route["pseudo"] * _pseudo_loss(
                net, average.module, other, route, args, random, bank
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(net)
        step += 1
        if step % 200 == 0:
            now = {"step": step, "seconds": round(time.time() - start, 1), "loss": round(loss.item(), 4)}
            history.append(now)
            log.info("%s %s", args.out, now)
    report = {"steps": step, "epochs": step * args.batch / len(rows), "history": history, "classes": classes}
    write(args, average.module.eval(), pack, target, route, report)


def write(
    args: argparse.Namespace, net: nn.Module, pack: Pack, target: np.ndarray, route: dict, report: dict
) -> None:
    """Measure the network on held-out crops and write it with the record of its training."""
    from safetensors.torch import save_file

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    held = np.flatnonzero(pack.heldout.astype(bool) & (target >= 0))
    logits = predict(net, pack, held, route["kept"] < 1, args.side)
    accuracy = float((logits.argmax(1) == target[held]).mean())
    log.info("%s: accuracy on held-out crops %.4f", args.out, accuracy)
    save_file(
        {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()},
        out / "weights.safetensors",
    )
    settings = {key: str(value) for key, value in vars(args).items()}
    if (Path(args.start) / CARD_NAME).is_file():
        before = read_card(Path(args.start))
        report["started_from"] = before.model_dump(
            mode="json", include={"name", "weights_sha256", "training"}
        )
    report |= {
        "settings": settings,
        "heldout_accuracy": accuracy,
        "check_accuracy": check(net, args, route, report["classes"], pack.crops.device),
        "n_heldout": len(held),
    }
    (out / "training.json").write_text(json.dumps(report, indent=1))


def check(
    net: nn.Module, args: argparse.Namespace, route: dict, classes: list[str], device: torch.device
) -> float | None:
    """Accuracy on another microscope's cells, which were never trained on."""
    if args.check is None:
        return None
    truth = read_classes(args.check)
    pack = Pack(Path(args.pack), "bccd", device)
    rows = np.array([index for index, name in enumerate(pack.names) if name in truth])
    best = predict(net, pack, rows, route["kept"] < 1, args.side).argmax(1)
    right = sum(classes[guess] == truth[pack.names[row]] for guess, row in zip(best, rows, strict=True))
    log.info("%s: accuracy on the other microscope %.4f of %d", args.out, right / len(truth), len(truth))
    return right / len(truth)


def _pseudo_loss(net, teacher, other, route, args, random, bank) -> torch.Tensor:
    """Agreement with the averaged network's sure opinion on another laboratory's unlabelled cells."""
    index = torch.from_numpy(random.integers(0, len(other.crops), args.batch // 4)).to(other.crops.device)
    with torch.no_grad():
        teacher.eval()
        opinion = teacher(
            plain_view(other.crops[index], other.masks[index], route["kept"] < 1, other.ratio, args.side)
        ).softmax(1)
    sure, guess = opinion.max(1)
    view = see(other.crops[index], other.masks[index], route, other.ratio, args.side, bank)
    with torch.autocast(view.device.type, dtype=torch.bfloat16, enabled=view.device.type == "cuda"):
        logits = net(view)
    return (F.cross_entropy(logits.float(), guess, reduction="none") * (sure > 0.85)).mean()


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", required=True)
    parser.add_argument("--start", required=True, help="ImageNet weights, or the folder of a bundled model")
    parser.add_argument("--labelled", nargs=2, metavar=("SET", "CSV"), help="cells of another laboratory")
    parser.add_argument("--labelled-share", type=float, default=0.2, help="of each batch")
    parser.add_argument("--out", required=True)
    parser.add_argument("--route", choices=list(ROUTES), default="borrowed")
    parser.add_argument("--borrow-from", nargs="*", default=[])
    parser.add_argument("--leave-out")
    parser.add_argument("--minutes", type=float, default=4.0, help="the schedule follows the clock")
    parser.add_argument(
        "--check", type=Path, help="CSV of file,class of the bccd pack: measured, never trained on"
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
