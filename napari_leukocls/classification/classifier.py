"""Prediction: crops in, calibrated probabilities and out-of-distribution scores out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from napari_leukocls.classification import familiarity, ood
from napari_leukocls.classification.fusion import fold_batch_norm, fuse_for_processor
from napari_leukocls.classification.layers import LayerStatistics
from napari_leukocls.classification.stain import normalise
from napari_leukocls.device import side_by_side, with_less_memory
from napari_leukocls.errors import ModelError
from napari_leukocls.progress import Progress, Steps, drain
from napari_leukocls.types import CELL_KINDS, Predictions

if TYPE_CHECKING:
    from napari_leukocls.classification.fine import FineHead
    from napari_leukocls.models.card import ModelCard

log = logging.getLogger(__name__)

#: Crops that one thread of the processor takes at a time: more do not fit into its cache.
CPU_BATCH = 8
#: Least share that the class map leaves to platelet and to leukocyte.
KIND_FLOOR = 0.03


def join_kinds(predictions: Predictions, kinds: np.ndarray) -> Predictions:
    """Combine the classifier's and the segmenter's probabilities that a cell is a platelet.

    The segmenter's class map uses the whole field and its scale, the classifier only the crop. The probability of
    each class is multiplied with the class map's for platelet, or for leukocyte, and all are normalised. The class
    map never excludes a class: its share counts as `KIND_FLOOR` or more.

    Parameters
    ----------
    predictions : Predictions
    kinds : numpy.ndarray, (N, 3)
        As `napari_leukocls.types.Segmentation.kind_probabilities`.

    Returns
    -------
    Predictions
        Unchanged if the model has no class of platelets.
    """
    if "platelet" not in predictions.classes or len(kinds) == 0:
        return predictions
    known = kinds.sum(axis=1, keepdims=True) > 0
    platelet = kinds[:, [CELL_KINDS.index("platelet")]]
    leukocyte = kinds[:, [CELL_KINDS.index("leukocyte")]]
    share = np.where(known, platelet / np.maximum(platelet + leukocyte, 1e-9), 0.5)
    share = np.clip(share, KIND_FLOOR, 1 - KIND_FLOOR)
    weight = np.where(np.array(predictions.classes) == "platelet", share, 1 - share)
    joint = predictions.probabilities * weight
    joint /= joint.sum(axis=1, keepdims=True)
    return replace(predictions, probabilities=joint.astype(np.float32))


@dataclass(frozen=True)
class Outputs:
    """What a network computes of crops.

    Attributes
    ----------
    logits : numpy.ndarray, (N, C), float32
        Before temperature.
    features : numpy.ndarray, (N, D), float32
        What the last layer takes.
    layers : numpy.ndarray, (N, E), float32
        Statistics of the earlier layers that the card names at `familiarity.layers`; no column if it names none.
    stage : numpy.ndarray, (N, K), float32
        Channel means of the earlier layer that the card names at `ood.layer`; no column if it names none.
    """

    logits: np.ndarray
    features: np.ndarray
    layers: np.ndarray
    stage: np.ndarray


class Classifier:
    """A network with its card, ready to predict.

    Parameters
    ----------
    card : ModelCard
    net : torch.nn.Module
        From images (B, 3, h, w) to logits (B, C).
    ood_tensors : dict of torch.Tensor
        Of the out-of-distribution score; empty if there is none.
    digest : str
        SHA-256 of the weights.
    device : str
        A torch device.
    opinion : Classifier, optional
        Classifies the cells that this one is unsure of; it has the same classes and crops.
    """

    def __init__(
        self,
        card: ModelCard,
        net: nn.Module,
        ood_tensors: dict[str, torch.Tensor],
        digest: str,
        device: str,
        opinion: Classifier | None = None,
    ) -> None:
        self.card = card
        self.opinion = opinion
        self.digest = digest
        self.device = device
        self.classes = tuple(card.classes)
        self.net = net
        self.ood_tensors = {name: value.numpy() for name, value in ood_tensors.items()}
        self._layers = [] if card.familiarity is None else card.familiarity.layers
        self._stage = [] if card.ood.layer is None else [card.ood.layer]
        self._mean = np.asarray(card.mean, np.float32) * 255
        self._scale = 1 / (255 * np.asarray(card.std, np.float32))
        example = torch.zeros(1, 3, *card.input_size)
        self._fast = fold_batch_norm(net, example).to(memory_format=torch.channels_last)
        self._placed: dict[str, nn.Module] = {}
        self._statistics: dict[str, LayerStatistics] = {}
        self._stages: dict[str, LayerStatistics] = {}

    def fast_network(self, device: str) -> nn.Module:
        """Return the network on a device, with batch normalisation folded and activations fused for speed.

        Parameters
        ----------
        device : str
            A torch device.

        Returns
        -------
        torch.nn.Module
            Made once for each device.
        """
        if device not in self._placed:
            folded = copy.deepcopy(self._fast)
            example = torch.zeros(1, 3, *self.card.input_size)
            placed = fuse_for_processor(folded, example) if device == "cpu" else folded.to(device)
            self._statistics[device] = LayerStatistics(placed, self._layers, "familiarity.layers")
            self._stages[device] = LayerStatistics(placed, self._stage, "ood.layer", spread=False)
            self._placed[device] = placed
        return self._placed[device]

    def tensor(self, crops: np.ndarray) -> torch.Tensor:
        """Normalise crops for the network.

        Parameters
        ----------
        crops : numpy.ndarray, (N, h, w, 3), uint8

        Returns
        -------
        torch.Tensor, (N, 3, h, w), float32
            Channels last in memory.
        """
        crops = normalise(crops, self.card.stain)
        scaled = (crops.astype(np.float32) - self._mean) * self._scale
        return torch.from_numpy(scaled).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def _run(self, crops: np.ndarray, device: str) -> Outputs:
        batch = self.tensor(crops).to(device)
        features, logits = ood.features_and_logits(self.fast_network(device), batch)
        layers = self._statistics[device].take() if self._layers else logits[:, :0]
        stage = self._stages[device].take() if self._stage else logits[:, :0]
        return Outputs(*(tensor.float().cpu().numpy() for tensor in (logits, features, layers, stage)))

    def _in_turn(
        self, crops: np.ndarray, batch_size: int, device: str, warn: Callable[[str], None]
    ) -> Steps[Outputs]:
        """Run the network on one batch after the other."""
        done: list[Outputs] = []
        start = 0

        def work(size: int, device: str) -> tuple[Outputs, int, str]:
            return self._run(crops[start : start + size], device), size, device

        while start < len(crops):
            yield Progress("classify", start, len(crops))
            # What memory sufficed for is kept for the batches that follow.
            outputs, batch_size, device = with_less_memory(work, batch_size, device, warn)
            done.append(outputs)
            start += len(outputs.logits)
        return self._joined(done)

    def _side_by_side(
        self, crops: np.ndarray, batch_size: int, warn: Callable[[str], None]
    ) -> Steps[Outputs]:
        """Run the network on the processor, several small batches at a time."""
        # Two parts at least, so that a few crops do not leave all but one core idle.
        size = min(batch_size, CPU_BATCH, max(1, (len(crops) + 1) // 2))
        parts = [crops[start : start + size] for start in range(0, len(crops), size)]
        self.fast_network("cpu")  # made here once, and not by each thread
        done: list[Outputs] = []
        count = 0
        told: set[str] = set()

        def once(line: str) -> None:
            """Where memory is full, it is so for the parts beside each other, and one line is enough."""
            if line not in told:
                told.add(line)
                warn(line)

        results = side_by_side(lambda part: drain(self._in_turn(part, size, "cpu", once)), parts)
        with closing(results):
            while count < len(crops):
                yield Progress("classify", count, len(crops))
                done.append(next(results))
                count += len(done[-1].logits)
        return self._joined(done)

    def _joined(self, parts: list[Outputs]) -> Outputs:
        if not parts:
            return Outputs(*(np.zeros((0, width), np.float32) for width in (len(self.classes), 1, 0, 0)))
        names = ("logits", "features", "layers", "stage")
        joined = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        if not all(np.isfinite(values).all() for values in joined):
            raise ModelError(
                f"the model {self.card.name} gives no finite numbers: its weights are damaged; copy it again."
            )
        return Outputs(*joined)

    def first_look(
        self, crops: np.ndarray, batch_size: int = 32, warn: Callable[[str], None] = log.warning
    ) -> Steps[Outputs]:
        """Run the network once on crops as they are; `look` runs it a second time on those that are unsure.

        Parameters
        ----------
        crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
        batch_size : int
        warn : callable
            Called with one line if memory runs out.

        Yields
        ------
        Progress

        Returns
        -------
        Outputs
        """
        if self.device == "cpu":
            return (yield from self._side_by_side(crops, batch_size, warn))
        return (yield from self._in_turn(crops, batch_size, self.device, warn))

    def look(
        self, crops: np.ndarray, batch_size: int = 32, warn: Callable[[str], None] = log.warning
    ) -> Steps[Outputs]:
        """Run the network, and a second time on crops that it is unsure of.

        These are the crops whose largest probability is below the card's `second_look`. If the card names a second
        opinion, the logits of that model are taken, which looks again at what it is unsure of itself. Without one, the
        network also takes the crop's three mirror images, as a cell has no upright side, and logits and features are
        averaged over the four.

        Parameters
        ----------
        crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
        batch_size : int
            Largest batch; on the processor it is not above `CPU_BATCH`, and several run at a time.
        warn : callable
            Called with one line if memory runs out: what was done about it.

        Yields
        ------
        Progress
            Crops done, and how many there are.

        Returns
        -------
        Outputs
        """
        first = yield from self.first_look(crops, batch_size, warn)
        logits, features = first.logits, first.features
        unsure = np.flatnonzero(softmax(logits, axis=1).max(axis=1, initial=0) < self.card.second_look)
        if len(unsure) == 0:
            return first
        if self.opinion is not None:
            logits[unsure] = (yield from self.opinion.look(crops[unsure], batch_size, warn)).logits
            return first
        flipped = [crops[unsure][view] for view in (np.s_[:, :, ::-1], np.s_[:, ::-1], np.s_[:, ::-1, ::-1])]
        more = yield from self.first_look(np.concatenate(flipped), batch_size, warn)
        logits[unsure] += more.logits.reshape(3, len(unsure), -1).sum(axis=0)
        features[unsure] += more.features.reshape(3, len(unsure), -1).sum(axis=0)
        logits[unsure] /= 4
        features[unsure] /= 4
        return first

    def outputs(
        self, crops: np.ndarray, batch_size: int = 32, warn: Callable[[str], None] = log.warning
    ) -> Steps[tuple[np.ndarray, np.ndarray]]:
        """Return logits and features, as `look` computes them.

        Parameters
        ----------
        crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
        batch_size : int
        warn : callable

        Yields
        ------
        Progress

        Returns
        -------
        logits : numpy.ndarray, (N, C), float32
            Before temperature.
        features : numpy.ndarray, (N, D), float32
        """
        found = yield from self.look(crops, batch_size, warn)
        return found.logits, found.features

    def iter_predict(
        self,
        crops: np.ndarray,
        batch_size: int = 32,
        warn: Callable[[str], None] = log.warning,
        fine: FineHead | None = None,
    ) -> Steps[Predictions]:
        """Classify crops cut by the card's rule.

        Parameters
        ----------
        crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
        batch_size : int
        warn : callable
            Called with one line if memory runs out: what was done about it.
        fine : FineHead, optional
            Tells the finer classes apart.

        Yields
        ------
        Progress
            Crops done, and how many there are.

        Returns
        -------
        Predictions
        """
        outputs = yield from self.look(crops, batch_size, warn)
        found = self.conclude(outputs)
        return found if fine is None else replace(found, fine=fine.shares(outputs.features))

    def conclude(self, outputs: Outputs, temperature: float | None = None) -> Predictions:
        """Make predictions of what the network computed.

        Parameters
        ----------
        outputs : Outputs
            As `look` returns them.
        temperature : float, optional
            Divides the logits; by default the card's, which grows with the out-of-distribution score if the card
            states a `softening`.

        Returns
        -------
        Predictions
        """
        score = ood.score(outputs.features, outputs.logits, self.ood_tensors, outputs.stage)
        divisor = np.full(len(score), temperature or self.card.temperature)
        if temperature is None:
            divisor *= ood.softening_factor(score, self.card.softening)
        probabilities = softmax(outputs.logits / divisor[:, None], axis=1)
        # Without temperature, so that a new calibration does not change the test of slides.
        found = familiarity.differences(outputs.layers, softmax(outputs.logits, axis=1), self.ood_tensors)
        limit = self.card.ood.threshold
        return Predictions(
            self.classes,
            probabilities.astype(np.float32),
            score.astype(np.float32),
            np.inf if limit is None else limit,
            differences=found.astype(np.float32),
        )

    def predict(self, crops: np.ndarray, batch_size: int = 32) -> Predictions:
        """Classify crops cut by the card's rule, without reports of progress.

        Parameters
        ----------
        crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
        batch_size : int

        Returns
        -------
        Predictions
        """
        return drain(self.iter_predict(crops, batch_size))
