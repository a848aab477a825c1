"""Batches for the network, made ahead of it in a thread: drawn, varied, normalised, mixed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_leukocls.training.augment import augment, generator_for, mix
from napari_leukocls.training.loss import targets_of

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

#: Batches that are made ahead.
AHEAD = 3


@dataclass(frozen=True)
class Material:
    """What a training learns from.

    Attributes
    ----------
    pixels : numpy.ndarray, (N, S, S, 3), uint8
    labels : numpy.ndarray, (N,), int
    train, validation : numpy.ndarray, int
        Rows of the two parts.
    normalisation : Normalisation
    """

    pixels: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    normalisation: Normalisation


@dataclass(frozen=True)
class Normalisation:
    """How crops become what a network takes.

    Attributes
    ----------
    mean, std : tuple of float
        Per channel, of pixels scaled to 0-1.
    outside : float
        Grey level, 0-1, of what lies beyond a crop.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    outside: float = 235 / 255

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images of 0-1 to what the network takes.

        Parameters
        ----------
        images : torch.Tensor, (B, 3, S, S)

        Returns
        -------
        torch.Tensor, (B, 3, S, S)
            Channels last.
        """
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Batch:
    """One step's images (B, 3, S, S), normalised, and targets (B, C)."""

    images: torch.Tensor
    targets: torch.Tensor


def to_unit(crops: np.ndarray, device: torch.device) -> torch.Tensor:
    """Move crops to a device, scaled to 0-1.

    Parameters
    ----------
    crops : numpy.ndarray, (B, S, S, 3), uint8
    device : torch.device

    Returns
    -------
    torch.Tensor, (B, 3, S, S)
    """
    raw = torch.from_numpy(np.ascontiguousarray(crops))
    if device.type == "cuda":
        raw = raw.pin_memory().to(device, non_blocking=True)
    return raw.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def epoch_rows(
    rows: np.ndarray, labels: np.ndarray, config: TrainConfig, seed: int, epoch: int
) -> list[np.ndarray]:
    """Choose the rows of each step of an epoch; they depend only on the seed and the epoch.

    Parameters
    ----------
    rows : numpy.ndarray, (N,)
        Of the training part.
    labels : numpy.ndarray
        Class of every crop.
    config : TrainConfig
    seed : int
    epoch : int
        From 0.

    Returns
    -------
    list of numpy.ndarray
    """
    random = np.random.default_rng([seed, 1, epoch])
    if config.sampler == "balanced":
        mine = labels[rows]
        weight = 1 / np.bincount(mine)[mine]
        order = random.choice(rows, len(rows), p=weight / weight.sum())
    else:
        order = random.permutation(rows)
    # Even parts: a last batch of one would have no variance for a batch normalisation.
    return np.array_split(order, max(1, -(-len(order) // config.batch_size)))


class BatchLoader:
    """Batches of one epoch from a step on, made in a thread.

    Parameters
    ----------
    make : callable
        From a step to its `Batch`.
    steps : range

    Attributes
    ----------
    waited : float
        Seconds that the network has waited for batches.
    """

    def __init__(self, make: Callable[[int], Batch], steps: range) -> None:
        self.waited = 0.0
        self._make = make
        self._steps = steps
        self._queue: queue.Queue[Batch | Exception | None] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="leukocls-batches", daemon=True)

    def __enter__(self) -> BatchLoader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(0.02)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            asked = time.perf_counter()
            item = self._queue.get()
            self.waited += time.perf_counter() - asked
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def _drain(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()

    def _put(self, item: Batch | Exception | None) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def _fill(self) -> None:
        try:
            for step in self._steps:
                if self._closed.is_set():
                    return
                self._put(self._make(step))
            self._put(None)
        except Exception as error:  # noqa: BLE001 - it is raised again where the batch is asked for
            self._put(error)


def make_batch(
    crops: np.ndarray, classes: np.ndarray, n_classes: int, config: TrainConfig, normalisation: Normalisation,
    device: torch.device, numbers: tuple[int, ...],
) -> Batch:  # fmt: skip
    """Vary, mix and normalise one batch.

    Parameters
    ----------
    crops : numpy.ndarray, (B, S, S, 3), uint8
    classes : numpy.ndarray, (B,), int
    n_classes : int
    config : TrainConfig
    normalisation : Normalisation
    device : torch.device
    numbers : tuple of int
        What the random numbers depend on: seed, epoch, step, rank.

    Returns
    -------
    Batch
    """
    generator = generator_for(*numbers)
    with torch.no_grad():
        images = augment(to_unit(crops, device), config, generator, normalisation.outside)
        targets = targets_of(torch.from_numpy(classes).to(device), n_classes, config.label_smoothing)
        images, targets = mix(images, targets, config, generator)
        return Batch(normalisation.normalise(images), targets)
