"""Packed crops on the training device: those of PBC, and those of another laboratory with classes of their own."""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from napari_leukocls.scheme import default_scheme


def is_validation(base_name: str) -> bool:
    """A tenth of the crops, none of them held out: for temperature and thresholds."""
    return int(hashlib.sha256(base_name.encode()).hexdigest(), 16) % 10 == 6


def read_classes(table: Path) -> dict[str, str]:
    """Class by file name of a table of both."""
    with table.open(newline="") as stream:
        return {row["file"]: row["class"] for row in csv.DictReader(stream)}


class Pack:
    """Crops of one kind on the training device: pixels uint8 (N, 3, S, S), masks uint8 (N, 1, S, S).

    With `known`, only the crops of these file names are decoded.
    """

    def __init__(
        self, folder: Path, name: str, device: torch.device, known: Collection[str] | None = None
    ) -> None:
        import cv2

        shards = sorted(folder.glob(f"{name}_[0-9]*.npz"))
        rows = [dict(np.load(shard, allow_pickle=False)) for shard in shards]
        self.names = np.concatenate([row["names"] for row in rows])
        self.classes = np.concatenate([row["classes"] for row in rows])
        self.heldout = np.concatenate([row["heldout"] for row in rows])
        unknown = [np.full((len(row["names"]), 3), np.nan) for row in rows]
        #: Optical density (N, 3) of the red cells of each crop's image; nan where it was not measured.
        self.red_cells = np.concatenate(
            [row.get("red_cells", none) for row, none in zip(rows, unknown, strict=True)]
        )
        blobs = []
        for row in rows:
            ends = np.cumsum(row["sizes"])
            blobs += [row["blob"][end - size : end] for size, end in zip(row["sizes"], ends, strict=True)]
        masks = []
        for row in rows:
            ends = np.cumsum(row["mask_sizes"])
            masks += [
                row["mask_blob"][end - size : end] for size, end in zip(row["mask_sizes"], ends, strict=True)
            ]
        if known is not None:
            kept = np.flatnonzero([str(one) in known for one in self.names])
            self.names, self.classes, self.heldout, self.red_cells = (
                part[kept] for part in (self.names, self.classes, self.heldout, self.red_cells)
            )
            blobs, masks = [blobs[i] for i in kept], [masks[i] for i in kept]
        with ThreadPoolExecutor(8) as pool:
            crops = list(pool.map(lambda blob: cv2.imdecode(blob, cv2.IMREAD_COLOR)[..., ::-1].copy(), blobs))
            drawn = list(pool.map(lambda blob: cv2.imdecode(blob, cv2.IMREAD_GRAYSCALE), masks))
        self.crops = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous().to(device)
        self.masks = torch.from_numpy(np.stack(drawn))[:, None].contiguous().to(device)
        self.validation = np.array([is_validation(name) for name in self.names])
        self.ratio = float(rows[0]["ratio"])


@dataclass(frozen=True)
class Labelled:
    """Training cells of another laboratory, with their classes, and how often each is drawn."""

    pack: Pack
    rows: np.ndarray
    target: np.ndarray
    draw: np.ndarray

    @classmethod
    def read(cls, pack: Pack, table: Path, classes: list[str]) -> Labelled:
        """Join a pack and a table of file and class; held-out cells and other classes stay out."""
        known = read_classes(table)
        names = [default_scheme().resolve(one) or one for one in classes]
        target = np.array(
            [names.index(known[file]) if known.get(file) in names else -1 for file in pack.names]
        )
        rows = np.flatnonzero(~pack.heldout.astype(bool) & (target >= 0))
        draw = 1 / np.sqrt(np.bincount(target[rows], minlength=len(classes)).clip(min=1))[target[rows]]
        return cls(pack, rows, target, draw / draw.sum())

    def counts(self, classes: list[str]) -> dict[str, int]:
        """Training cells of each class that there is."""
        numbers = np.bincount(self.target[self.rows], minlength=len(classes))
        return {name: int(n) for name, n in zip(classes, numbers, strict=True) if n}


def batch_of(
    pack: Pack,
    labels: torch.Tensor,
    rows: np.ndarray,
    draw: np.ndarray,
    known: Labelled | None,
    args: argparse.Namespace,
    random: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw crops, masks and classes of one batch; a share of it from another laboratory."""
    device = pack.crops.device
    elsewhere = round(args.labelled_share * args.batch) if known is not None else 0
    index = torch.from_numpy(random.choice(rows, args.batch - elsewhere, p=draw)).to(device)
    crops, masks, wanted = pack.crops[index], pack.masks[index], labels[index]
    if known is None:
        return crops, masks, wanted
    there = random.choice(known.rows, elsewhere, p=known.draw)
    index = torch.from_numpy(there).to(device)
    theirs = torch.from_numpy(known.target[there]).to(device)
    return (
        torch.cat([crops, known.pack.crops[index]]),
        torch.cat([masks, known.pack.masks[index]]),
        torch.cat([wanted, theirs]),
    )
