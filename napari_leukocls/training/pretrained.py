"""Weights that a new network starts from: files that the user has, and those of timm."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
from torch import nn

from napari_leukocls.architectures.entry import Entry
from napari_leukocls.errors import ModelError
from napari_leukocls.exchange.importing import read_state_dict
from napari_leukocls.training.events import TrainEvent

#: Share of the tensors of a network, or of one of its branches, that weights from elsewhere must fill.
MIN_FILLED = 0.5
#: Share of the tensors of a file that a network must take: a ResNet-34 holds all tensors of a ResNet-18.
MIN_USED = 0.9
#: Tensors at the end that weights in another naming may lack: weight and bias of the last layer.
_HEAD = 2
#: Seconds in which the server of the weights must answer.
ANSWER_S = 10.0
#: Counter of batch normalisations, which some programs do not store.
_COUNTER = "num_batches_tracked"

_AWAY = "they are not on this machine, and their server cannot be reached"

Tensors = Mapping[str, torch.Tensor]


def load_files(net: nn.Module, entry: Entry, given: Sequence[str]) -> Generator[TrainEvent, None, str]:
    """Fill a network from files; what does not fit, such as its head, stays as it is.

    Parameters
    ----------
    net : torch.nn.Module
        It is changed.
    entry : Entry
        Of the network.
    given : sequence of str
        Files of safetensors, or of torch with tensors alone; ``BRANCH=FILE`` fills one branch.

    Yields
    ------
    TrainEvent
        Which branches keep random weights.

    Returns
    -------
    str
        Where the weights come from.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or holds another network.
    """
    branches = branches_of(net, entry)
    filled: list[str] = []
    names = []
    for text in given:
        branch, path = _parsed(text, net, branches)
        tensors = _read(path)
        fitting = (
            _for_branch(net, tensors, branch, path) if branch else _for_network(net, entry, tensors, path)
        )
        net.load_state_dict(fitting, strict=False)
        filled += [branch] if branch else list(branches)
        names.append(f"{branch.rpartition('.')[2]}={path.name}" if branch else path.name)
    empty = [branch for branch in branches if branch not in filled]
    if filled and empty and len(branches) > 1:
        short = ", ".join(name.rpartition(".")[2] for name in empty)
        message = f"{short} of {entry.name} starts with random weights: no file was given for it."
        yield TrainEvent("warning", {"message": message})
    return f"weights of {', '.join(names)}"


def branches_of(net: nn.Module, entry: Entry) -> tuple[str, ...]:
    """Return the names of the parts of a network that have pretrained weights of their own.

    Parameters
    ----------
    net : torch.nn.Module
    entry : Entry
        Of the network.

    Returns
    -------
    tuple of str
        Empty for a network that is one part.
    """
    there = dict(net.named_modules())
    names = (prefix.removesuffix(".") for prefix in entry.pretrained if prefix)
    return tuple(name for name in names if name in there)


def _parsed(text: str, net: nn.Module, branches: Sequence[str]) -> tuple[str, Path]:
    """Branch and file of ``BRANCH=FILE``; the branch is empty where only a file is given."""
    branch, sign, file = text.partition("=")
    if not sign or Path(text).is_file():
        return "", Path(text)
    full = next((name for name in branches if branch in (name, name.rpartition(".")[2])), branch)
    if full not in dict(net.named_modules()):
        short = ", ".join(name.rpartition(".")[2] for name in branches)
        there = f"its branches are {short}" if branches else "it has no branches"
        raise ModelError(f"the network has no branch {branch!r}; {there}.")
    return full, Path(file)


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"there is no file {path}: correct --weights.")
    return read_state_dict(path)


def _for_branch(net: nn.Module, tensors: Tensors, branch: str, path: Path) -> dict[str, torch.Tensor]:
    prefix = f"{branch}."
    part = {
        name.removeprefix(prefix): value
        for name, value in net.state_dict().items()
        if name.startswith(prefix)
    }
    found = matched(part, tensors)
    if not _enough(found, part, tensors):
        raise _another(path, found, part, branch.rpartition(".")[2])
    return {prefix + name: value for name, value in found.items()}


def _for_network(net: nn.Module, entry: Entry, tensors: Tensors, path: Path) -> dict[str, torch.Tensor]:
    """What fits the whole network, or its only part that has pretrained weights."""
    state = net.state_dict()
    found = matched(state, tensors)
    if _enough(found, state, tensors):
        return found
    branches = branches_of(net, entry)
    if len(branches) == 1:
        return _for_branch(net, tensors, branches[0], path)
    fits = [name for name in branches if _fits(state, tensors, f"{name}.")]
    if fits:
        short = [name.rpartition(".")[2] for name in (fits[0], *branches)]
        words = " ".join(f"--weights {name}=FILE" for name in short[1:])
        raise ModelError(f"{path} fits the branch {short[0]} of {entry.name} alone: give {words}.")
    raise _another(path, found, state, entry.name)


def _fits(state: Tensors, tensors: Tensors, prefix: str) -> bool:
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return _enough(matched(part, tensors), part, tensors)


def _enough(found: Tensors, wanted: Tensors, given: Tensors) -> bool:
    """Whether a file is of this network: it fills most of it, and little of the file is left over."""
    used = sum(not name.endswith(_COUNTER) for name in found)
    there = sum(not name.endswith(_COUNTER) for name in given)
    return len(found) >= MIN_FILLED * len(wanted) and used >= min(MIN_USED * there, there - _HEAD)


def _another(path: Path, found: Tensors, wanted: Tensors, name: str) -> ModelError:
    return ModelError(
        f"{path} fits {len(found)} of {len(wanted)} tensors of {name}: it is of another network."
    )


def matched(wanted: Tensors, given: Tensors) -> dict[str, torch.Tensor]:
    """Find the tensors of a network among those of a file, by name, or else by their order.

    Parameters
    ----------
    wanted : mapping of str to torch.Tensor
        The network's own.
    given : mapping of str to torch.Tensor

    Returns
    -------
    dict of str to torch.Tensor
        Those that fit, by the network's names.
    """
    named = {
        name: value for name, value in given.items() if name in wanted and wanted[name].shape == value.shape
    }
    return named if len(named) >= MIN_FILLED * len(wanted) else by_order(wanted, given) or named


def by_order(wanted: Tensors, given: Tensors) -> dict[str, torch.Tensor]:
    """Match the tensors of the same network under other names by their order.

    This is believed only if all tensors but those of the last layer agree one by one in shape and in the last part
    of their names (weight, bias, running_mean, running_var).

    Parameters
    ----------
    wanted : mapping of str to torch.Tensor
        The network's own, in its order.
    given : mapping of str to torch.Tensor
        In the order of the file.

    Returns
    -------
    dict of str to torch.Tensor
        By the network's names; empty if the orders do not agree.
    """
    own, theirs = ([(n, v) for n, v in rows.items() if not n.endswith(_COUNTER)] for rows in (wanted, given))
    found: dict[str, torch.Tensor] = {}
    for (name, value), (other, tensor) in zip(own, theirs, strict=False):
        if value.shape != tensor.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            break
        found[name] = tensor
    whole = found and len(found) >= len(own) - _HEAD and len(theirs) - len(found) <= _HEAD
    return found if whole else {}


def load_pretrained(
    net: nn.Module, entry: Entry, arguments: Mapping[str, Any]
) -> Generator[TrainEvent, None, str]:
    """Fill a network from timm's pretrained weights, where they are on this machine or can be fetched.

    Parameters
    ----------
    net : torch.nn.Module
        It is changed.
    entry : Entry
        Of the network.
    arguments : mapping
        With which the network was built.

    Yields
    ------
    TrainEvent
        What was looked for, and what cannot be downloaded.

    Returns
    -------
    str
        Where the weights come from; empty if there are none.
    """
    used = []
    reachable: bool | None = None
    for prefix, tag in entry.pretrained.items():
        if prefix and prefix.removesuffix(".") not in branches_of(net, entry):
            continue
        if not tag:
            message = f"timm has no weights of {entry.name}: give --weights FILE if you have them."
            yield TrainEvent("warning", {"message": message})
            continue
        yield TrainEvent("log", {"message": f"looking for timm's pretrained weights of {tag}."})
        extra = dict(arguments) if prefix == "" else {}
        extra = {name: value for name, value in extra.items() if name != "timm_name"}
        reachable = _reachable() if reachable is None else reachable
        try:
            with _downloads(reachable):
                given = timm.create_model(tag, pretrained=True, num_classes=0, **extra).state_dict()
        except Exception as error:  # noqa: BLE001 - whatever a download raises, there are no weights
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}" if reachable else _AWAY
            message = (
                f"timm's weights of {tag} cannot be downloaded ({reason}): training starts from scratch; give "
                "--weights FILE if you have them."
            )
            yield TrainEvent("warning", {"message": message})
            continue
        wanted = net.state_dict()
        fitting = {
            prefix + name: value
            for name, value in given.items()
            if prefix + name in wanted and wanted[prefix + name].shape == value.shape
        }
        if len(fitting) < MIN_FILLED * len(given):
            message = f"timm's weights of {tag} fit {len(fitting)} of {len(given)} tensors and are not used."
            yield TrainEvent("warning", {"message": message})
            continue
        net.load_state_dict(fitting, strict=False)
        used.append(tag)
    return f"pretrained weights of {', '.join(used)} (timm)" if used else ""


def _reachable() -> bool:
    """Whether the server of timm's weights answers: asked once, as a download tries for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
    except Exception:  # noqa: BLE001 - whatever it raises, nothing can be fetched
        return False
    return True


@contextmanager
def _downloads(allowed: bool) -> Iterator[None]:
    """Look for weights on this machine alone where nothing can be fetched."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not allowed
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
