"""The epochs of a training: batches in, the best weights out, and a checkpoint from which to go on."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_leukocls.classification.dataset import Dataset
from napari_leukocls.classification.fusion import unfold_batch_norm
from napari_leukocls.classification.stain import fit_reference, normalise
from napari_leukocls.errors import OutputError
from napari_leukocls.progress import CancelToken
from napari_leukocls.training import checkpoint
from napari_leukocls.training.batches import (
    Batch,
    BatchLoader,
    Material,
    Normalisation,
    epoch_rows,
    make_batch,
    to_unit,
)
from napari_leukocls.training.checkpoint import FILE
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.head import last_layer, train_head
from napari_leukocls.training.loss import class_weights, distillation, loss_of
from napari_leukocls.training.measure import Measured, logits_of, measure
from napari_leukocls.training.network import RANDOM, Teacher
from napari_leukocls.training.optimiser import (
    make_average,
    make_optimiser,
    make_schedule,
    set_modes,
    set_trainable,
)

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.crops import CutCrops
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start
    from napari_leukocls.training.split import Split

#: Crops by which folded normalisations are given their statistics.
UNFOLD_CROPS = 256


@dataclass
class Progress:
    """How far a training has come; saved with each checkpoint."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    seen: int = 0
    seconds: float = 0.0
    best_epoch: int = -1
    best: tuple[float, float] = (-1.0, -math.inf)
    why: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


class Fit:
    """One training of one network on one split.

    Parameters
    ----------
    start : Start
        Its network is trained in place, and holds the best weights at the end.
    material : Material
    config : TrainConfig
    backend : Backend
    folder : Path or None
        Of the checkpoint; None keeps none.
    fingerprint : dict
        What a checkpoint must agree with to be gone on from.
    seed : int
    teacher : Teacher, optional
    """

    def __init__(
        self,
        start: Start,
        material: Material,
        config: TrainConfig,
        backend: Backend,
        folder: Path | None,
        fingerprint: dict[str, Any],
        seed: int,
        teacher: Teacher | None = None,
    ) -> None:
        self.start, self.material, self.config, self.backend = start, material, config, backend
        self.file = folder / checkpoint.FILE if folder is not None else None
        self.fingerprint, self.seed, self.teacher = fingerprint, seed, teacher
        self.net = start.net.to(backend.device).to(memory_format=torch.channels_last)
        self.average = make_average(self.net, config.ema) if config.ema else None
        self.optimiser = make_optimiser(self.net, config)
        self.steps = len(epoch_rows(material.train, material.labels, config, seed, 0))
        self.schedule = make_schedule(self.optimiser, config, self.steps)
        counts = np.bincount(material.labels[material.train], minlength=len(start.classes))
        weights = class_weights(counts, config.class_weights)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=backend.device)
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}
        self._since_save = time.monotonic()

    def run(self, cancel: CancelToken) -> Generator[TrainEvent, None, Progress]:
        """Train to the end, or until stopped; the network then holds the best weights.

        Parameters
        ----------
        cancel : CancelToken

        Yields
        ------
        TrainEvent

        Returns
        -------
        Progress
        """
        torch.manual_seed(self.seed)
        yield from self._resume()
        progress = self.progress
        while not progress.why:
            if progress.epoch >= self.config.epochs:
                progress.why = "all epochs are done"
                break
            yield from self._epoch(cancel)
        if self.best:
            self.net.load_state_dict(self.best)
        self.net.eval()
        return progress

    def _epoch(self, cancel: CancelToken) -> Generator[TrainEvent, None, None]:
        """One epoch, or what is left of it; measured on validation and saved."""
        progress, material = self.progress, self.material
        began, seconds = time.perf_counter(), progress.seconds
        set_trainable(self.net, self.start.entry, self.config, progress.epoch)
        wrapped = self.backend.wrap(self.net)
        set_modes(self.net)
        rows = epoch_rows(material.train, material.labels, self.config, self.seed, progress.epoch)
        first, stopped = progress.step, False
        with BatchLoader(partial(self._batch, rows), range(first, len(rows))) as loader:
            for batch in loader:
                loss, right = self._step(wrapped, batch)
                if self.backend.any_true(not math.isfinite(loss)):
                    yield from self._not_finite(loss)
                    return
                progress.loss_sum += loss
                progress.right, progress.seen = progress.right + right, progress.seen + len(batch.images)
                progress.step += 1
                progress.seconds = seconds + time.perf_counter() - began
                stopped = self._must_stop(cancel)
                if stopped:
                    break
                yield from self._save_within(len(rows))
            waited = loader.waited
        training = max(time.perf_counter() - began, 1e-9)
        n_crops = sum(len(rows[step]) for step in range(first, progress.step))
        measured = self._measure()
        better = self._note_best(measured)
        progress.seconds = seconds + time.perf_counter() - began
        record = {
            "epoch": progress.epoch + 1,
            "epochs": self.config.epochs,
            "loss": progress.loss_sum / max(progress.step, 1),
            "accuracy": progress.right / max(progress.seen, 1),
            "lr": self.optimiser.param_groups[0]["lr"],
            **measured.as_dict(),
            "best": better,
            "seconds": round(progress.seconds, 3),
            "crops_per_s": round(n_crops / training, 2),
            "busy": round(1 - waited / training, 4),
        }
        progress.history.append(record)
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        progress.right, progress.seen = 0, 0
        progress.why = "stopped" if stopped else self._early_end()
        yield TrainEvent("epoch", record)
        if not stopped:
            # If a training stops within an epoch, the checkpoint before it stays: the epoch is done again from there.
            yield from self._save()

    def _batch(self, rows: list[np.ndarray], step: int) -> Batch:
        mine = rows[step][self.backend.rank :: self.backend.world]
        numbers = (self.seed, 2, self.progress.epoch, step, self.backend.rank)
        return make_batch(
            self.material.pixels[mine],
            self.material.labels[mine],
            len(self.start.classes),
            self.config,
            self.material.normalisation,
            self.backend.device,
            numbers,
        )

    def _step(self, wrapped: torch.nn.Module, batch: Batch) -> tuple[float, int]:
        """Learn from one batch; return its loss, and how many of its crops were right before."""
        weights = self.weights if self.config.class_weights != "none" else None
        with self.backend.precision():
            logits = wrapped(batch.images)
            loss = loss_of(logits, batch.targets, self.config, weights)
            if self.teacher is not None:
                opinion = self.teacher.opinion(batch.images, self.material.normalisation)
                away = distillation(logits, opinion, self.teacher.mine, self.config.distil_temperature)
                loss = (1 - self.config.distil_weight) * loss + self.config.distil_weight * away
        value = float(loss.detach())
        if math.isfinite(value):
            self.backend.step(loss, self.optimiser, self.net, self.config.clip)
            self.schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.net)
        right = (logits.detach().argmax(1) == batch.targets.argmax(1)).sum()
        return value, int(right)

    def _not_finite(self, loss: float) -> Generator[TrainEvent, None, None]:
        progress = self.progress
        kept = (
            f"the weights of epoch {progress.best_epoch + 1} are kept"
            if self.best
            else "nothing was learnt yet"
        )
        message = (
            f"the loss became {loss} in epoch {progress.epoch + 1}: training ends, {kept}; lower --lr (now "
            f"{self.config.lr:g}), or turn mixed precision off."
        )
        progress.why = "the loss is no number"
        yield TrainEvent("warning", {"message": message})

    def _must_stop(self, cancel: CancelToken) -> bool:
        late = self.config.minutes is not None and self.progress.seconds > 60 * self.config.minutes
        return self.backend.any_true(cancel.cancelled or late)

    def _measure(self) -> Measured:
        net = self.net if self.average is None else self.average.module
        rows = self.material.validation
        made = logits_of(
            net, self.material.pixels[rows], self.material.normalisation, self.backend.device, self.config
        )
        value: Measured = self.backend.same(measure(made, self.material.labels[rows]))
        return value

    def _note_best(self, measured: Measured) -> bool:
        """Keep the weights if they are the best so far."""
        mark = (measured.macro_f1, -measured.loss)
        if not (mark > self.progress.best):
            return False
        self.progress.best, self.progress.best_epoch = mark, self.progress.epoch
        net = self.net if self.average is None else self.average.module
        self.best = {name: value.detach().clone() for name, value in net.state_dict().items()}
        return True

    def _early_end(self) -> str:
        progress, patience = self.progress, self.config.patience
        if patience and progress.epoch - 1 - progress.best_epoch >= patience:
            return f"no better validation macro-F1 in {patience} epochs"
        return ""

    def _save_within(self, steps: int) -> Generator[TrainEvent, None, None]:
        due = time.monotonic() - self._since_save >= 60 * self.config.checkpoint_minutes
        if due and self.progress.step < steps:
            yield from self._save()

    def _save(self) -> Generator[TrainEvent, None, None]:
        """Write a checkpoint; if the disk is full, there is no checkpoint, but the training goes on."""
        self._since_save = time.monotonic()
        if self.file is None or not self.backend.is_main:
            return
        state = {
            "fingerprint": self.fingerprint,
            "progress": asdict(self.progress),
            "schedule": checkpoint.plain_schedule(self.schedule),
            "scaler": self.backend.scaler_state(),
        }
        try:
            checkpoint.save_checkpoint(self.file, self._networks(), self.optimiser, self.best, state)
        except OutputError as error:
            message = f"no checkpoint was written ({error}) The one before is whole; training goes on."
            yield TrainEvent("warning", {"message": message})

    def _networks(self) -> dict[str, torch.nn.Module]:
        return {"net": self.net} | ({"average": self.average} if self.average is not None else {})

    def _resume(self) -> Generator[TrainEvent, None, None]:
        """Continue from the checkpoint of the same training, if there is one."""
        if self.file is None or not self.file.is_file():
            return
        tensors, state = checkpoint.read_checkpoint(self.file)
        checkpoint.agree(state["fingerprint"], self.fingerprint, self.file)
        checkpoint.restore(tensors, state, self._networks(), self.optimiser, self.file)
        self.schedule.load_state_dict(state["schedule"])
        self.backend.load_scaler(state["scaler"])
        raw = state["progress"]
        self.progress = Progress(**{**raw, "best": tuple(raw["best"])})
        self.best = {
            name: value.to(self.backend.device) for name, value in checkpoint.part(tensors, "best").items()
        }
        message = f"going on from epoch {self.progress.epoch + 1}, step {self.progress.step}."
        yield TrainEvent("log", {"message": message})


def fit_split(
    config: TrainConfig,
    start: Start,
    dataset: Dataset,
    crops: CutCrops,
    split: Split,
    backend: Backend,
    cancel: CancelToken,
    seed: int,
    keep: bool,
) -> Generator[TrainEvent, None, dict[str, Any]]:
    """Train on one split; the network of `start` then holds the best weights, on the CPU.

    Parameters
    ----------
    config : TrainConfig
    start : Start
    dataset : Dataset
    crops : CutCrops
    split : Split
    backend : Backend
    cancel : CancelToken
    seed : int
    keep : bool
        Write checkpoints, and continue from one if it exists.

    Yields
    ------
    TrainEvent

    Returns
    -------
    dict
        ``why`` it ended, ``best_epoch`` (from 0) and ``history``.
    """
    labels = np.array([start.classes.index(name) for name in dataset.labels])
    if config.stain_normalisation != "none" and not start.stain:
        # The reference is made from the training part only.
        start.stain = fit_reference(crops.pixels[split.rows("train")], config.stain_normalisation)
    pixels = normalise(crops.pixels, start.stain)
    material = Material(
        pixels, labels, split.rows("train"), split.rows("validation"), normalisation_of(start)
    )
    folder = Path(config.out) / "checkpoint" if keep else None
    if folder is not None and backend.is_main:
        folder.mkdir(exist_ok=True)
        if config.restart:
            (folder / FILE).unlink(missing_ok=True)
    if start.folded:
        _unfold(start, material)
    cached = config.freeze == "head" and config.cache_features and not (config.mixup or config.cutmix)
    if cached and not config.teacher and backend.world == 1 and last_layer(start.net) is not None:
        return (yield from train_head(start, material, config, backend, cancel, seed))
    if config.freeze == "progressive" and start.note == RANDOM:
        message = (
            f"{start.entry.name} has random weights: nothing is frozen, as frozen layers would never learn."
        )
        yield TrainEvent("warning", {"message": message})
        config = config.model_copy(update={"freeze": "none"})
    teacher = Teacher(config.teacher, start.classes, backend.device) if config.teacher else None
    fit = Fit(start, material, config, backend, folder, fingerprint(config, start, split), seed, teacher)
    progress = yield from fit.run(cancel)
    start.net.to("cpu")
    return {"why": progress.why, "best_epoch": progress.best_epoch, "history": progress.history}


def normalisation_of(start: Start) -> Any:
    """Return how crops become the input of a network.

    Parameters
    ----------
    start : Start

    Returns
    -------
    Normalisation
    """
    outside = 235.0 if start.rule.white is None else start.rule.white
    return Normalisation(start.mean, start.std, outside / 255)


def _unfold(start: Start, material: Any) -> None:
    rows = material.train[:: max(1, len(material.train) // UNFOLD_CROPS)][:UNFOLD_CROPS]

    images = to_unit(material.pixels[rows], torch.device("cpu"))
    unfold_batch_norm(start.net, material.normalisation.normalise(images))


def fingerprint(config: TrainConfig, start: Start, split: Split) -> dict[str, Any]:
    """Return what a checkpoint must agree with to be continued.

    Parameters
    ----------
    config : TrainConfig
    start : Start
    split : Split

    Returns
    -------
    dict
    """
    return {
        **config.model_dump(mode="json"),
        "architecture": start.entry.name,
        "start": start.note,
        "classes": list(start.classes),
        "split": split.record["files_sha256"],
    }
