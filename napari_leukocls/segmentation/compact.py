"""The embedded segmenter and its input normalisation."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from napari_leukocls.device import with_less_memory
from napari_leukocls.errors import ModelError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.progress import Progress, Steps, beside, stop_here
from napari_leukocls.segmentation.base import Outlines
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX, TILE, CompactNet, fold_batch_norm
from napari_leukocls.segmentation.dynamics import flow_agreement, masks_from_flows
from napari_leukocls.segmentation.network_tiles import run_in_tiles
from napari_leukocls.segmentation.second_look import look_again
from napari_leukocls.segmentation.splitting import split_merged
from napari_leukocls.segmentation.tiling import Assembly, Block, blocks, mean_votes

log = logging.getLogger(__name__)

#: Side of the blocks in which dynamics run, network pixels; bounds memory whatever the image's size.
BLOCK = 960
#: Seen around a block on each side. A block owns the cells whose middle it holds: the largest leukocyte
#: (30 um, 120 px here) reaches 60 px beyond, and the rest is what the network wants to see around it. Every
#: pixel of it is computed twice.
HALO = 80
#: A cell smaller than this (network pixels; a disc of 1.2 um) is no platelet but a grain.
MIN_AREA = 18
#: A cell that covers more of a block than this is none.
MAX_SHARE = 0.9
#: Pixels that get in on less evidence than cellpose's default of 0: thin rims of pale red cells.
CELL_PROBABILITY_THRESHOLD = 0.0
#: Mean agreement of a cell's flows with the direction to its centre below which it is no cell. Cellpose's own
#: check spreads heat through every mask again, which takes longer than all the rest together.
MIN_AGREEMENT = 0.55
#: Of what the class map holds to be a platelet: grains and artefacts in red cells are as small, but less
#: round.
MIN_PLATELET_AGREEMENT = 0.75
#: Share of a tile that its neighbour also covers, in images no larger than a tile: several views of them all.
TILE_OVERLAP = 0.1
#: Larger images are looked at in fewer, larger tiles: their longest side, and how far neighbours overlap, pixels.
LARGEST_TILE, SEAM = 640, 64

#: Euler steps of the dynamics, a pixel each: no cell is wider than 120 px, so that 60 reach its centre.
N_ITERATIONS = 72


@dataclass
class Maps:
    """Network output for one block: flows (2, h, w), cell probability (h, w), class logits (4, h, w)."""

    flow: np.ndarray
    cell: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True)
class Masks:
    """Cells of one block: labels (h, w) 1..N, and which are doubtful, (N,) bool, as `Outlines` has them."""

    labels: np.ndarray
    doubtful: np.ndarray


class CompactSegmenter:
    """`Segmenter` around a `CompactNet`.

    Parameters
    ----------
    net : CompactNet
        In evaluation mode, on its device.
    name : str
    weights_hash : str or None
    batch_size : int
        Tiles a batch.
    """

    def __init__(
        self, net: CompactNet, name: str = "compact", weights_hash: str | None = None, batch_size: int = 4
    ) -> None:
        self.net = net
        self.name = name
        self.weights_hash = weights_hash
        self.batch_size = batch_size
        self._on_cpu: CompactNet | None = None

    def _network(self, device: str) -> CompactNet:
        """Return the network on its own device, or a copy on the CPU where that device's memory ran out."""
        if device == str(self.net.device):
            return self.net
        if self._on_cpu is None:
            self._on_cpu = copy.deepcopy(self.net).to(device)
        return self._on_cpu

    def maps(self, image: np.ndarray, batch_size: int, device: str, *, once: bool = False) -> Maps:
        """Run the network in overlapping tiles.

        Parameters
        ----------
        image : numpy.ndarray, (h, w, 3), float32
            Absorbance at the network's scale.
        batch_size : int
            Tiles at a time.
        device : str
            A torch device.
        once : bool
            Look once at a small image, too.

        Returns
        -------
        Maps
        """
        net, longest = self._network(device), max(image.shape[:2])
        if batch_size < self.batch_size or (longest <= TILE and not once):
            # Small tiles, also where memory ran out. A small field needs no whole tile: less padding, less time.
            side = min(TILE, _of_16(longest))
            output = run_in_tiles(net, image, sides=(side, side), overlap=TILE_OVERLAP, batch_size=batch_size)
        else:
            sides = (_tile_side(image.shape[0]), _tile_side(image.shape[1]))
            fewer = max(1, batch_size * TILE**2 // (sides[0] * sides[1]))
            output = run_in_tiles(net, image, sides=sides, overlap=0.0, batch_size=fewer)
        return Maps(flow=output[:2], cell=output[2], kind=output[3:])

    def masks(self, maps: Maps, device: str) -> np.ndarray:
        """Run cellpose's dynamics.

        Parameters
        ----------
        maps : Maps
        device : str
            A torch device.

        Returns
        -------
        numpy.ndarray, (h, w), int32
            Labels at the network's scale.
        """
        if min(maps.cell.shape) < 2:
            # The dynamics divide by the side less one.
            return np.zeros(maps.cell.shape, np.int32)
        found = masks_from_flows(
            maps.flow,
            maps.cell,
            steps=N_ITERATIONS,
            threshold=CELL_PROBABILITY_THRESHOLD,
            min_area=MIN_AREA,
            max_share=MAX_SHARE,
            device=device,
        )
        return _agreeing(found, maps)

    def all_masks(self, maps: Maps, image: np.ndarray, device: str) -> tuple[Masks, Maps]:
        """Find the cells, then the red cells that were left out, then those that were taken for one.

        Parameters
        ----------
        maps : Maps
        image : numpy.ndarray, (h, w, 3), float32
            Absorbance.
        device : str
            A torch device.

        Returns
        -------
        masks : Masks
        maps : Maps
            With a class map that holds the cells of the second look to be red cells.
        """
        stop_here()
        first = self.masks(maps, device)
        votes = mean_votes(first, maps.kind)
        labels = look_again(
            first, votes, maps.flow, maps.cell, maps.kind, image.mean(axis=2, dtype=np.float32), device
        )
        more = labels > len(votes)
        if more.any():
            kind = maps.kind.copy()
            kind[0, more] = np.minimum(kind[0, more], kind[1, more] - 1)
            maps = replace(maps, kind=kind)
            votes = mean_votes(labels, kind)
        whole = split_merged(labels, votes.argmax(axis=1) == 1)
        doubtful = np.zeros(int(whole.max(initial=0)) + 1, bool)
        doubtful[int(first.max(initial=0)) + 1 :] = True
        if whole is not labels:
            doubtful[labels[whole != labels]] = True
        return Masks(whole, doubtful[1:]), maps

    def _seen(self, image: np.ndarray, once: bool, batch_size: int, device: str) -> tuple[Maps, int, str]:
        return self.maps(image, batch_size, device, once=once), batch_size, device

    def _found(
        self, maps: Maps, image: np.ndarray, device: str, warn: Callable[[str], None]
    ) -> tuple[Masks, Maps]:
        return with_less_memory(lambda _, where: self.all_masks(maps, image, where), 1, device, warn)

    def segment(self, pixels: np.ndarray, diameter_px: float, *, once: bool = False) -> Steps[Outlines]:
        """Outline and sort the cells of one image.

        Parameters
        ----------
        pixels : numpy.ndarray, (H, W, 3), uint8
        diameter_px : float
            Of a red cell, in pixels of `pixels`.
        once : bool
            Look once at a small image, which is looked at several times else: quicker, and enough to measure.

        Yields
        ------
        Progress
            Blocks done, and how many there are.

        Returns
        -------
        Outlines
            Labels at full resolution, with the class map's vote for each.

        Raises
        ------
        DeviceError
            Where computing fails, or memory runs out even for one tile on the CPU.
        """
        factor = NETWORK_DIAMETER_PX / diameter_px
        limits = colour_range(pixels)
        assembly = Assembly(pixels.shape[:2], factor)
        grid = blocks(assembly.network_shape, BLOCK, HALO)
        size, device = self.batch_size, str(self.net.device)
        warnings: list[str] = []

        def add(block: Block, window: np.ndarray, masks: Masks, maps: Maps) -> None:
            assembly.add(block, masks.labels, maps.kind, maps.cell, window, masks.doubtful)

        waiting: tuple[Block, np.ndarray, Future[tuple[Masks, Maps]]] | None = None
        for done, block in enumerate(grid):
            yield Progress("segment", done, len(grid))
            window = assembly.read(pixels, block)
            image = absorbance(window, limits)
            # What memory sufficed for is kept for the blocks that follow.
            work = partial(self._seen, image, once)
            maps, size, device = with_less_memory(work, size, device, warnings.append)
            if waiting is not None:
                add(*waiting[:2], *waiting[2].result())
            if done == len(grid) - 1:
                add(block, window, *self._found(maps, image, device, warnings.append))
            else:
                # The network keeps all cores busy, masks keep one: they are found beside the network's next block.
                masks = beside(self._found, maps, image, device, warnings.append)
                waiting = (block, window, masks)
        return replace(assembly.finish(), warnings=tuple(warnings))

    def class_votes(self, pixels: np.ndarray, labels: np.ndarray, diameter_px: float) -> np.ndarray:
        """Vote on the kind of cells that another segmenter outlined.

        Parameters
        ----------
        pixels : numpy.ndarray, (H, W, 3), uint8
        labels : numpy.ndarray, (H, W), int32
        diameter_px : float

        Returns
        -------
        numpy.ndarray, (N, 4), float32
            As `Outlines.kind_votes`.
        """
        limits = colour_range(pixels)
        assembly = Assembly(pixels.shape[:2], NETWORK_DIAMETER_PX / diameter_px)
        for block in blocks(assembly.network_shape, BLOCK, HALO):
            work = partial(self.maps, absorbance(assembly.read(pixels, block), limits))
            maps = with_less_memory(work, self.batch_size, str(self.net.device), log.warning)
            assembly.vote(block, labels, maps.kind)
        return assembly.votes(int(labels.max()))


def _of_16(length: float) -> int:
    """The least multiple of 16 that is not smaller."""
    return 16 * int(np.ceil(length / 16))


def _tile_side(length: int) -> int:
    """Side of the tiles that cover an axis in the fewest, equal tiles, with their seams."""
    padded = _of_16(length) + 16
    count = int(np.ceil(padded / LARGEST_TILE))
    return _of_16((padded + (count - 1) * SEAM) / count)


def _agreeing(labels: np.ndarray, maps: Maps) -> np.ndarray:
    """Drop masks whose flows do not lead to their own centre, and number the rest without gaps."""
    if not labels.any():
        return labels
    platelet = np.concatenate([[False], mean_votes(labels, maps.kind).argmax(axis=1) == 3])
    least = np.where(platelet, MIN_PLATELET_AGREEMENT, MIN_AGREEMENT)
    keep = flow_agreement(labels, maps.flow) >= least
    keep[0] = False
    lookup = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    array: np.ndarray = lookup[labels]
    return array


def load_compact(folder: Path, device: str) -> CompactSegmenter:
    """Load the network of a model folder.

    Parameters
    ----------
    folder : Path
        Holds ``weights.safetensors``.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        Where the weights are missing, damaged, or do not fit the network.
    """
    net = CompactNet()
    try:
        raw = (folder / "weights.safetensors").read_bytes()
        net.load_state_dict({name: value.float() for name, value in load_tensors(raw).items()})
    except OSError as error:
        raise ModelError(f"{folder} has no readable weights.safetensors: reinstall the model.") from error
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"the weights in {folder} do not fit the compact network: reinstall the model."
        ) from error
    net = fold_batch_norm(net).to(torch.device(device)).to(memory_format=torch.channels_last)
    return CompactSegmenter(net, weights_hash=sha256_of(raw))


#: A channel with less contrast than this (grey levels) is not stretched: an empty field stays empty.
MIN_RANGE = 40.0
#: Pixels looked at to find the range of a large image; more change the percentiles by under a level.
MAX_SAMPLES = 500_000


def colour_range(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the glass and the darkest stain of an image, per channel.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    glass, dark : numpy.ndarray, (3,), float32
        98th and 1st percentile in grey levels; `glass - dark` is at least `MIN_RANGE`.
    """
    step = max(1, int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / MAX_SAMPLES))))
    sample = pixels[::step, ::step].reshape(-1, 3)
    dark, glass = np.percentile(sample, [1, 98], axis=0).astype(np.float32)
    dark = np.minimum(dark, glass - MIN_RANGE)
    return glass, dark


def absorbance(pixels: np.ndarray, limits: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Turn pixels into distance from the glass.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    limits : tuple of numpy.ndarray, optional
        Glass and dark of the whole image, from `colour_range`; by default those of `pixels`.

    Returns
    -------
    numpy.ndarray, (H, W, 3), float32
        0 is glass and 1 the darkest stain, per channel; not clipped.
    """
    glass, dark = colour_range(pixels) if limits is None else limits
    array: np.ndarray = (glass - pixels.astype(np.float32)) / (glass - dark)
    return array
