"""Train the compact segmenter from the sets that ``scripts/segmentation_set`` and ``make_synthetic_set``
write.

    python -m scripts.train_compact --sets SEGSET [SYNTHETIC] --out FOLDER --minutes 7

On a CPU, to go on from weights: ``--start FILE --device cpu --batch 6 --side 192 --frozen-norm --average 0.99``.

Cellpose's flow targets and losses, with a class map beside them; the loop is the project's own because
cellpose's augments geometry only and drops further label channels. Everything (warping, colour) runs on
the training device, so that one core can feed a large GPU.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX, CompactNet

log = logging.getLogger("train_compact")
STORED_DIAMETER_PX = 45.0
CANVAS = (512, 640)
IGNORE = 65535
#: Weight of BCCD pixels that look like cells and that nobody boxed. Most are cells, so that they say nothing; until the
#: second run of the shipped weights they weighed 0.4 as background, and cells in heaps were left out.
UNBOXED_WEIGHT = {"bccd": 0.0}
#: Share of each batch that comes from a set.
SHARES = {
    "bccd": 0.3,
    "chula": 0.2,
    "boxes": 0.25,
    "pbc": 0.2,
    "synthetic": 0.25,
    "heaps": 0.3,
    "bcisc": 0.3,
    "krd": 0.1,
}
#: The expected diameter of red cells may be wrong by so many octaves: factors of 0.76 to 1.3.
ZOOM_OCTAVES = 0.4
#: Share of views that are tight cuts around a leukocyte, and their margins in units of its side.
TIGHT_SHARE, TIGHT_MARGIN = 0.15, (0.03, 0.7)
#: Share of views in which red cells are paler than they were, down to rings that are hardly seen, and by how much.
FADED_SHARE, FADED = 0.1, (0.1, 0.8)
#: Strongest spots in the glass of a view, absorbance; half of the views have none.
MOTTLED = 0.22
#: Weight of red cells that are hardly seen.
FADED_WEIGHT = 0.3
LEUKOCYTE = 2


def absorbance(pixels: np.ndarray) -> np.ndarray:
    """Distance from the glass per channel; the package's own function, so that both sides agree."""
    from napari_leukocls.segmentation.compact import absorbance as package_absorbance

    return package_absorbance(pixels)


def read_sets(folders: list[Path], only: set[str] | None = None) -> dict[str, list[tuple[Path, Path]]]:
    """Return (image, truth) pairs of every training image by set; held-out ones are left out."""
    found: dict[str, list[tuple[Path, Path]]] = {}
    for folder in folders:
        index = folder / "index.csv"
        if index.exists():
            with index.open(newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if row["holdout"] == "0"]
            for row in rows:
                image = folder / row["set"] / f"{row['stem']}.webp"
                found.setdefault(row["set"], []).append((image, image.with_suffix(".npz")))
        else:
            for image in sorted(folder.glob("*.webp")):
                if not image.name.startswith("heldout"):
                    name = "heaps" if image.name.startswith("heaps") else "synthetic"
                    found.setdefault(name, []).append((image, image.with_suffix(".npz")))
    return {name: pairs for name, pairs in found.items() if only is None or name in only}


def leukocyte_boxes(pair: tuple[Path, Path]) -> np.ndarray:
    """Return the boxes (N, 4) y0, x0, y1, x1 of the leukocytes that lie wholly in the canvas."""
    truth = np.load(pair[1])
    labels, kinds = truth["labels"].astype(np.int32), truth["kinds"]
    labels[labels == IGNORE] = 0
    boxes = [
        (rows.start, columns.start, rows.stop, columns.stop)
        for index, where in enumerate(ndimage.find_objects(labels))
        if where is not None and kinds[index] == LEUKOCYTE
        for rows, columns in [where]
        if rows.start > 0 and columns.start > 0
        if rows.stop < min(labels.shape[0], CANVAS[0]) and columns.stop < min(labels.shape[1], CANVAS[1])
    ]
    return np.array(boxes, int).reshape(-1, 4)


def flow_targets(labels: np.ndarray) -> np.ndarray:
    """Cellpose's flows: unit vectors down the heat that spreads within each cell from its centre, (2, H, W) float32.

    Cellpose spreads the heat of all cells together for as long as the largest one needs; cell by cell it takes a
    tenth of the time.
    """
    flow = np.zeros((2, *labels.shape), np.float32)
    for index, where in enumerate(ndimage.find_objects(labels)):
        if where is None:
            continue
        cell = np.pad(labels[where] == index + 1, 1)
        inside = cell.astype(np.float64)
        y, x = np.nonzero(cell)
        middle = int(np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2))
        heat = np.zeros(cell.shape)
        for _ in range(2 * sum(cell.shape)):
            heat[y[middle], x[middle]] += 1
            heat = cv2.blur(heat, (3, 3), borderType=cv2.BORDER_CONSTANT) * inside
        heat = np.log1p(heat)
        down = np.stack([heat[2:, 1:-1] - heat[:-2, 1:-1], heat[1:-1, 2:] - heat[1:-1, :-2]])
        down /= np.linalg.norm(down, axis=0) + 1e-20
        own = cell[1:-1, 1:-1]
        flow[(slice(None), *where)][:, own] = down[:, own]
    return flow


def load_example(pair: tuple[Path, Path]) -> np.ndarray:
    """Return (7, *CANVAS) float16: absorbance (3), flow (2), kind, valid; zero outside the image."""
    pixels = cv2.cvtColor(cv2.imread(str(pair[0])), cv2.COLOR_BGR2RGB)
    truth = np.load(pair[1])
    labels, kinds = truth["labels"].astype(np.int32), truth["kinds"]
    ignore = labels == IGNORE
    labels[ignore] = 0
    flow = flow_targets(labels)
    lookup = np.zeros(labels.max() + 1, np.uint8)
    lookup[1:] = kinds[: labels.max()]
    example = np.zeros((7, *CANVAS), np.float16)
    height, width = min(labels.shape[0], CANVAS[0]), min(labels.shape[1], CANVAS[1])
    example[:3, :height, :width] = absorbance(pixels).transpose(2, 0, 1)[:, :height, :width]
    example[3:5, :height, :width] = flow[:, :height, :width]
    example[5, :height, :width] = lookup[labels][:height, :width]
    weight = np.where(ignore, UNBOXED_WEIGHT.get(pair[0].parent.name, 0.0), 1.0)
    example[6, :height, :width] = weight[:height, :width]
    return example


def _load_in_worker(pair: tuple[Path, Path]) -> np.ndarray:
    cv2.setNumThreads(1)
    return load_example(pair)


def load_set(pairs: list[tuple[Path, Path]], device: torch.device, cache: Path | None) -> np.ndarray:
    """Load a set's examples, in several processes (flow targets are many small steps), or from a cache."""
    if cache is not None and cache.exists():
        return np.load(cache)
    workers = min(12, torch.get_num_threads()) if device.type == "cuda" else 1
    if workers > 1:
        with torch.multiprocessing.get_context("spawn").Pool(workers) as pool:
            examples = np.stack(pool.map(_load_in_worker, pairs, chunksize=4))
    else:
        examples = np.stack([_load_in_worker(pair) for pair in pairs])
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, examples)
    return examples


class Warper:
    """Draws batches of randomly placed, turned, flipped and scaled views of the stored examples."""

    def __init__(
        self,
        sets: dict[str, list[tuple[Path, Path]]],
        device: torch.device,
        seed: int,
        cache: Path | None = None,
    ) -> None:
        self.device = device
        self.random = np.random.default_rng(seed)
        self.names = [name for name in sets if sets[name]]
        self.shares = np.array([SHARES[name] for name in self.names])
        self.shares /= self.shares.sum()
        self.stores, self.sizes, self.leukocytes = {}, {}, {}
        for name in self.names:
            examples = load_set(sets[name], device, cache and cache / f"{name}.npy")
            self.sizes[name] = [self._extent(example) for example in examples]
            self.leukocytes[name] = [leukocyte_boxes(pair) for pair in sets[name]]
            self.stores[name] = torch.from_numpy(examples).to(device)
            log.info("%s: %d images", name, len(examples))

    @staticmethod
    def _extent(example: np.ndarray) -> tuple[int, int]:
        used = np.abs(example[[0, 6]]).max(axis=0) > 0
        return int(np.flatnonzero(used.any(1)).max()) + 1, int(np.flatnonzero(used.any(0)).max()) + 1

    def batch(
        self, size: int, side: int = 256
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return image (B, 3, s, s), flow (B, 2, s, s), kind, valid and inside, each (B, s, s)."""
        stored, thetas, turns, windows = [], [], [], []
        for name in self.random.choice(self.names, size=size, p=self.shares):
            index = int(self.random.integers(len(self.sizes[name])))
            example, window = self._cut(name, index)
            stored.append(example)
            windows.append(window)
            tight = window != (0, 0, *self.sizes[name][index])
            theta, turn = self._view(window, side, upright=tight)
            thetas.append(theta)
            turns.append(turn)
        source = torch.stack(stored)
        theta = torch.tensor(np.stack(thetas), dtype=torch.float32, device=self.device)
        turn = torch.tensor(np.stack(turns), dtype=torch.float32, device=self.device)
        # Twice the size, then averaged: sampling alone would alias where the view is a reduction.
        fine = F.affine_grid(theta, [size, 3, 2 * side, 2 * side], align_corners=False)
        coarse = F.affine_grid(theta, [size, 3, side, side], align_corners=False)
        image = F.avg_pool2d(F.grid_sample(source[:, :3], fine, align_corners=False), 2)
        flow = F.grid_sample(source[:, 3:5], coarse, align_corners=False)
        flow = torch.einsum("bij,bjhw->bihw", turn.transpose(1, 2), flow)
        rest = F.grid_sample(source[:, 5:], coarse, mode="nearest", align_corners=False)
        kind, valid = rest[:, 0].round().long(), rest[:, 1]
        flow = flow / flow.norm(dim=1, keepdim=True).clamp(min=1e-6) * (kind > 0)[:, None]
        return image, flow, kind, valid, self._inside(coarse, windows)

    def _inside(self, grid: torch.Tensor, windows: list[tuple[int, int, int, int]]) -> torch.Tensor:
        """Whether a pixel of a view lies in the picture, (B, s, s): the rest is zero for the network."""
        bounds = torch.tensor(windows, dtype=torch.float32, device=self.device)
        scale = torch.tensor([CANVAS[0], CANVAS[1]] * 2, device=self.device)
        low_y, low_x, high_y, high_x = (2 * bounds / scale - 1)[:, :, None, None].unbind(1)
        x, y = grid.unbind(-1)
        return ((y > low_y) & (y < high_y) & (x > low_x) & (x < high_x)).float()

    def _cut(self, name: str, index: int) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
        """Return an example (7, *CANVAS), maybe cut tight around a leukocyte, and its window y0, x0, y1, x1.

        A tight cut is measured from its own glass and its own darkest stain, as a cut-out picture would be.
        """
        example = self.stores[name][index].float()
        if self.random.random() < FADED_SHARE:
            example = self._faded(example)
        height, width = self.sizes[name][index]
        boxes = self.leukocytes[name][index]
        if not len(boxes) or self.random.random() > TIGHT_SHARE:
            return example, (0, 0, height, width)
        y0, x0, y1, x1 = boxes[int(self.random.integers(len(boxes)))]
        more = self.random.uniform(*TIGHT_MARGIN, size=4) * max(y1 - y0, x1 - x0)
        top, left = max(0, int(y0 - more[0])), max(0, int(x0 - more[1]))
        bottom, right = min(height, int(y1 + more[2])), min(width, int(x1 + more[3]))
        cut = torch.zeros_like(example)
        part = example[:, top:bottom, left:right].clone()
        pixels = part[:3].flatten(1)
        glass, dark = torch.quantile(
            pixels[:, :: max(1, pixels.shape[1] // 20000)], torch.tensor([0.02, 0.99]), dim=1
        )
        part[:3] = (part[:3] - glass[:, None, None]) / (dark - glass).clamp(min=0.15)[:, None, None]
        cut[:, top:bottom, left:right] = part
        return cut, (top, left, bottom, right)

    def _faded(self, example: torch.Tensor) -> torch.Tensor:
        """Return a copy with paler red cells: a camera on whose pictures they are hardly seen."""
        left = self.random.uniform(*FADED)
        red = example[5] == 1
        soft = F.avg_pool2d(red.float()[None, None], 5, 1, 2)[0, 0]
        example = example.clone()
        example[:3] *= 1 - (1 - left) * soft
        if left < 0.35:
            example[6] *= torch.where(red, FADED_WEIGHT, 1.0)
        return example

    def _view(
        self, window: tuple[int, int, int, int], side: int, *, upright: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sampling matrix (2, 3) in normalised x, y and the turn (2, 2) in y, x."""
        zoom = 2.0 ** self.random.uniform(-ZOOM_OCTAVES, ZOOM_OCTAVES)
        step = STORED_DIAMETER_PX / (NETWORK_DIAMETER_PX * zoom)  # stored px per network px
        # The sides of a tight cut are those of a picture: upright.
        angle = self.random.integers(4) * math.pi / 2 if upright else self.random.uniform(0, 2 * math.pi)
        flip = self.random.choice([-1.0, 1.0])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turn = turn @ np.diag([1.0, flip])
        half = 0.35 * side * step
        centre = [
            self.random.uniform(min(low + half, (low + high) / 2), max(high - half, (low + high) / 2))
            for low, high in zip(window[:2], window[2:], strict=True)
        ]
        matrix_yx = turn * step * side / 2  # normalised view -> stored px
        height, width = CANVAS
        theta = np.zeros((2, 3))
        theta[0, 0], theta[0, 1] = matrix_yx[1, 1] * 2 / width, matrix_yx[1, 0] * 2 / width
        theta[1, 0], theta[1, 1] = matrix_yx[0, 1] * 2 / height, matrix_yx[0, 0] * 2 / height
        theta[0, 2], theta[1, 2] = centre[1] * 2 / width - 1, centre[0] * 2 / height - 1
        return theta, turn


def mottle_glass(image: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
    """Spots and folds in the glass of some views, as dirty or badly dried films have: no cell is hidden in them."""
    size, _, side, _ = image.shape
    coarse = max(4, side // int(torch.randint(3, 9, ()).item()))
    spots = torch.randn((size, 1, coarse, coarse), device=image.device)
    spots = F.interpolate(spots, size=(side, side), mode="bicubic", align_corners=False)
    strength = torch.empty((size, 1, 1, 1), device=image.device).uniform_(-MOTTLED, MOTTLED).clamp(min=0)
    glass = F.avg_pool2d((kind == 0).float()[:, None], 3, 1, 1)
    return image + strength * spots * glass


def vary_colour(image: torch.Tensor) -> torch.Tensor:
    """Other stains, cameras and focus.

    Gain, mixing, gamma, offset, light gradient, blur, noise; in absorbance.
    """
    size, _, side, _ = image.shape
    device = image.device

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.empty((size, *shape), device=device).uniform_(low, high)

    mixing = torch.eye(3, device=device) + 0.18 * torch.randn((size, 3, 3), device=device)
    grey = (uniform(0, 1, 1, 1) < 0.1).float()
    mixing = mixing * (1 - grey) + grey / 3
    order = torch.stack([torch.randperm(3, device=device) for _ in range(size)])
    swapped = torch.gather(mixing, 1, order[:, :, None].expand(-1, -1, 3))
    mixing = torch.where(uniform(0, 1, 1, 1) < 0.15, swapped, mixing)
    image = torch.einsum("bij,bjhw->bihw", mixing, image)
    image = image.clamp(min=0) ** torch.exp(uniform(-0.35, 0.35, 3, 1, 1)) * torch.exp(
        uniform(-0.4, 0.35, 3, 1, 1)
    )
    light = F.interpolate(0.12 * torch.randn((size, 1, 3, 3), device=device), (side, side), mode="bicubic")
    image = image * (1 + light) + 0.5 * light * (uniform(0, 1, 1, 1, 1) < 0.5) + uniform(-0.08, 0.08, 3, 1, 1)
    image = _blur(image, uniform(0, 1.8, 1) * (uniform(0, 1, 1) < 0.6))
    coarse = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2, mode="bilinear")
    image = torch.where(uniform(0, 1, 1, 1, 1) < 0.15, coarse, image)
    return image + torch.randn_like(image) * uniform(0, 0.07, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.6)


def _blur(image: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with one sigma (pixels) per image, sigma (B, 1)."""
    size, channels, side, _ = image.shape
    offset = torch.arange(-4, 5, device=image.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offset / sigma.clamp(min=0.05)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    flat = image.reshape(1, size * channels, side, side)
    weight = kernel.repeat_interleave(channels, 0)
    flat = F.conv2d(flat, weight[:, None, None, :], padding=(0, 4), groups=size * channels)
    flat = F.conv2d(flat, weight[:, None, :, None], padding=(4, 0), groups=size * channels)
    return flat.reshape(image.shape)


def loss_of(
    output: torch.Tensor, flow: torch.Tensor, kind: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Cellpose's flow and probability losses.

    And cross-entropy of the class map; ignored pixels weigh nothing.
    """
    weight = valid * torch.where(kind == 3, 3.0, 1.0)  # platelets are small: few pixels carry them
    total = weight.sum().clamp(min=1)
    flow_loss = (((output[:, :2] - 5 * flow) ** 2).mean(1) * weight).sum() / total
    cell_loss = (
        F.binary_cross_entropy_with_logits(output[:, 2], (kind > 0).float(), reduction="none") * weight
    ).sum()
    class_weight = torch.tensor([0.5, 1.0, 1.5, 3.0], device=output.device)
    class_loss = F.cross_entropy(output[:, 3:], kind, weight=class_weight, reduction="none") * valid
    return flow_loss + cell_loss / total + class_loss.sum() / valid.sum().clamp(min=1)


def save_average(average: torch.optim.swa_utils.AveragedModel, out: Path) -> None:
    """Write the averaged weights so far; a later call replaces them."""
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in average.module.state_dict().items()}
    save_file(weights, out / "weights.part")
    os.replace(out / "weights.part", out / "weights.safetensors")


def rate_at(args: argparse.Namespace, step: int, share: float) -> float:
    """The learning rate at a step, when a share of the time is over: it rises first, and falls along a cosine."""
    rise = min(1.0, (step + 1) / args.warm_up)
    return float(args.rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))))


def train(args: argparse.Namespace) -> None:
    """Train by the clock, with a moving average of the weights, and write them with a record of the run."""
    from safetensors.torch import load_file

    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    sets = read_sets([Path(folder) for folder in args.sets], set(args.only) if args.only else None)
    warper = Warper(sets, device, args.seed, args.cache)
    if args.prepare:
        return
    net = CompactNet().to(device).to(memory_format=torch.channels_last)
    if args.start:
        net.load_state_dict({name: value.float() for name, value in load_file(args.start).items()})
    # Small batches say too little of a channel's mean and spread: the start's own are kept.
    net.train(not args.frozen_norm)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.average), use_buffers=True
    )
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=1e-3)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    start, step, history, losses = time.time(), 0, [], []
    while (share := (time.time() - start) / (60 * args.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate_at(args, step, share)
        image, flow, kind, valid, inside = warper.batch(args.batch, args.side)
        image = (vary_colour(mottle_glass(image, kind)) * inside[:, None]).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output, _ = net(image)
        loss = loss_of(output.float(), flow, kind, valid)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(net)
        step += 1
        losses.append(loss.item())
        if step % args.note_every == 0:
            mean = round(float(np.mean(losses[-args.note_every :])), 4)
            history.append({"step": step, "seconds": round(time.time() - start, 1), "loss": mean})
            log.info("%s", history[-1])
            save_average(average, out)
    save_average(average, out)
    settings = ("batch", "side", "rate", "average", "frozen_norm", "minutes", "device", "seed")
    record = {
        "steps": step,
        **{name: getattr(args, name) for name in settings},
        "images": {name: len(sizes) for name, sizes in warper.sizes.items()},
        "history": history,
    }
    (out / "training.json").write_text(json.dumps(record, indent=1))


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder in which flow targets are kept between runs")
    parser.add_argument("--prepare", action="store_true", help="fill the cache and stop")
    parser.add_argument("--start", help="weights to go on from")
    parser.add_argument("--only", nargs="+", help="only these sets, to leave laboratories out")
    parser.add_argument("--side", type=int, default=256, help="of the views, pixels; a multiple of 16")
    parser.add_argument("--average", type=float, default=0.998, help="decay of the weights' moving average")
    parser.add_argument("--warm-up", type=int, default=200, help="steps until the full learning rate")
    parser.add_argument("--frozen-norm", action="store_true", help="keep the start's batch statistics")
    parser.add_argument(
        "--note-every", type=int, default=200, help="steps between log lines and saved weights"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
