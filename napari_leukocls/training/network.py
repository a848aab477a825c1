"""The network to start from, and its teacher."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from napari_leukocls.architectures.entry import Entry
from napari_leukocls.architectures.registry import create
from napari_leukocls.architectures.registry import entry as entry_of
from napari_leukocls.classification.fusion import is_folded
from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.models.card import read_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import OOD_PREFIX, build_network, read_weights
from napari_leukocls.training.batches import Normalisation
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.pretrained import load_files, load_pretrained

if TYPE_CHECKING:
    from napari_leukocls.models.card import ModelCard
    from napari_leukocls.training.config import TrainConfig

log = logging.getLogger(__name__)

#: Note of a network that starts from scratch.
RANDOM = "random weights"
#: What builders call the dropout before the last layer, best first.
_DROPOUT = ("head_dropout", "dropout", "drop_rate")


class Teacher:
    """A model asked about batches that were made for another.

    Parameters
    ----------
    name : str
        A model's name or folder.
    classes : sequence of str
        The student's.
    device : torch.device

    Attributes
    ----------
    mine : list of int
        Columns of the student for the classes that both know.

    Raises
    ------
    ModelError
        Where there is no such model, or it shares fewer than two classes.
    """

    def __init__(self, name: str, classes: Sequence[str], device: torch.device) -> None:
        folder = find_model(name).path
        self.card = read_card(folder)
        shared = [name for name in classes if name in self.card.classes]
        if len(shared) < 2:
            raise ModelError(
                f"the teacher {name} knows {len(shared)} of the classes: choose another, or none."
            )
        self.mine = [list(classes).index(name) for name in shared]
        self._theirs = [self.card.classes.index(name) for name in shared]
        tensors, self.digest = read_weights(folder)
        net: nn.Module = build_network(self.card, tensors, folder)
        self._net = net.to(device).requires_grad_(False).eval()
        self._normalisation = Normalisation(self.card.mean, self.card.std)

    @torch.no_grad()
    def opinion(self, images: torch.Tensor, normalisation: Normalisation) -> torch.Tensor:
        """Return the logits of the shared classes.

        Parameters
        ----------
        images : torch.Tensor, (B, 3, S, S)
        normalisation : Normalisation
            By which the images were normalised.

        Returns
        -------
        torch.Tensor, (B, K)
        """
        mean, std = (
            torch.tensor(v, device=images.device).view(1, 3, 1, 1)
            for v in (normalisation.mean, normalisation.std)
        )
        plain = images * std + mean
        size = self.card.input_size
        if plain.shape[-2:] != size:
            plain = functional.interpolate(plain, size, mode="bilinear", antialias=True, align_corners=False)
        tensor: torch.Tensor = self._net(self._normalisation.normalise(plain)).float()[:, self._theirs]
        return tensor


@dataclass
class Start:
    """A network before its training.

    Attributes
    ----------
    net : torch.nn.Module
    entry : Entry
    arguments : dict
        Of its builder, for the card.
    classes : tuple of str
    rule : CropRule
    mean, std : tuple of float
    note : str
        Where its weights come from.
    folded : bool
        Whether its batch normalisations were folded away and need the statistics of real crops.
    card : ModelCard or None
        Of the model that it was made from.
    stain : dict
        Reference of the stain normalisation; empty for none, or before it is fitted.
    new_classes : tuple of str
        Those that the model it was made from does not have.
    """

    net: nn.Module
    entry: Entry
    arguments: dict[str, Any]
    classes: tuple[str, ...]
    rule: CropRule
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    note: str = RANDOM
    folded: bool = False
    card: ModelCard | None = None
    stain: dict[str, Any] = field(default_factory=dict)
    new_classes: tuple[str, ...] = field(default=())


def start_network(config: TrainConfig, classes: Sequence[str]) -> Generator[TrainEvent, None, Start]:
    """Build the network to train.

    Parameters
    ----------
    config : TrainConfig
    classes : sequence of str
        Of the data; a model's own classes go before them and are kept.

    Yields
    ------
    TrainEvent

    Raises
    ------
    ModelError, ArgumentError
        Where the architecture, its arguments or its weights do not fit.
    """
    torch.manual_seed(config.seed)
    if config.from_model:
        return _from_model(config, classes)
    return (yield from _from_architecture(config, classes))


def rule_of(config: TrainConfig) -> CropRule:
    """Return the crop rule of a training, before anything is built.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    CropRule
    """
    if config.from_model:
        return read_card(find_model(config.from_model).path).crop
    side = config.side_px or entry_of(config.arch).input.side
    if config.ready_crops:
        return CropRule(
            config.side_um or CropRule().side_um,
            side,
            margin_um=None,
            white=None,
            whole_image=True,
            central_share=config.central_share,
            side_known=config.side_um is not None,
        )
    margin = None if config.keep_surroundings else config.margin_um
    return CropRule(config.side_um or CropRule().side_um, side, margin, config.white)


def _from_architecture(config: TrainConfig, classes: Sequence[str]) -> Generator[TrainEvent, None, Start]:
    entry = entry_of(config.arch)
    arguments = {**config.arguments, **_dropout_argument(entry, config.dropout)}
    rule = rule_of(config)
    net = create(config.arch, len(classes), **arguments)
    start = Start(
        net, entry, arguments, tuple(classes), rule, config.mean or entry.mean, config.std or entry.std
    )
    check_network(start)
    if config.weights:
        start.note = yield from load_files(net, entry, config.weights)
        start.folded = is_folded(net)
    elif config.pretrained and entry.pretrained:
        start.note = (yield from load_pretrained(net, entry, arguments)) or RANDOM
    if start.note == RANDOM:
        yield TrainEvent("log", {"message": f"{config.arch} starts from scratch, with random weights."})
    return start


def _dropout_argument(entry: Entry, dropout: float | None) -> dict[str, float]:
    """The builder's own name for the dropout before the last layer."""
    if dropout is None:
        return {}
    known = inspect.signature(entry.build).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return {"drop_rate": dropout}
    name = next((name for name in _DROPOUT if name in known), None)
    if name is None:
        raise ArgumentError(f"the architecture {entry.name} has no dropout to set: leave dropout out.")
    return {name: dropout}


@torch.no_grad()
def check_network(start: Start) -> None:
    """Run one crop through a network, so that a size or a head that does not fit is reported before the epochs.

    Parameters
    ----------
    start : Start
    """
    side = start.rule.side_px
    start.net.eval()
    try:
        output = start.net(torch.zeros(1, 3, side, side))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ArgumentError(f"{start.entry.name} does not take crops of {side} px ({error}).") from error
    if not isinstance(output, torch.Tensor) or output.shape != (1, len(start.classes)):
        raise ModelError(f"{start.entry.name} is no classifier: it gives no vector of {len(start.classes)}.")


def _from_model(config: TrainConfig, classes: Sequence[str]) -> Start:
    folder = find_model(config.from_model).path
    card = read_card(folder)
    tensors, digest = read_weights(folder)
    entry = entry_of(card.architecture)
    new = tuple(sorted(set(classes) - set(card.classes)))
    everything = (*card.classes, *new)
    arguments = {**card.arguments, **_dropout_argument(entry, config.dropout)}
    net = create(card.architecture, len(everything), **arguments)
    old = {name: value for name, value in tensors.items() if not name.startswith(OOD_PREFIX)}
    widen(net, old, len(card.classes), card.architecture)
    start = Start(net, entry, arguments, everything, card.crop, card.mean, card.std)
    start.note = f"the model {card.name} ({digest[:12]})"
    start.card, start.new_classes, start.stain = card, new, card.stain
    check_network(start)
    return start


def widen(net: nn.Module, old: dict[str, torch.Tensor], n_old: int, name: str) -> None:
    """Give a network the weights of one with fewer classes; rows of new classes stay as they are.

    Parameters
    ----------
    net : torch.nn.Module
    old : dict of str to torch.Tensor
        Weights of the model with fewer classes.
    n_old : int
        Classes of the model before.
    name : str

    Raises
    ------
    ModelError
        Where another tensor than the head's differs in shape.
    """
    state = net.state_dict()
    for key, value in state.items():
        given = old.get(key)
        if given is not None and given.shape == value.shape:
            state[key] = given.to(value.dtype)
        elif given is not None and given.shape[1:] == value.shape[1:] and len(given) == n_old:
            state[key] = torch.cat([given.to(value.dtype), value[n_old:]])
        else:
            raise ModelError(f"the weights do not fit {name} at {key}: copy the model again.")
    net.load_state_dict(state)
