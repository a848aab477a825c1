"""The trainings of a reproduction: which networks, with which settings, in full or quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_leukocls.architectures.registry import entry
from napari_leukocls.errors import ArgumentError
from napari_leukocls.reproduction.papers import Paper, paper
from napari_leukocls.training.config import TrainConfig, make_train_config

#: Side of the images in a quick reproduction, and for networks that need larger images, pixels.
QUICK_SIDE, QUICK_LARGE_SIDE = 64, 128
#: Crops of each class in a quick reproduction.
QUICK_CROPS = 24
#: Settings of a quick training.
QUICK: Mapping[str, Any] = {"epochs": 1, "batch_size": 8, "repeats": 2, "warmup_epochs": 0.0, "minutes": 2.0}
NO_AUGMENTATION = "no-augmentation"


@dataclass(frozen=True)
class Settings:
    """What a reproduction is asked for.

    Attributes
    ----------
    paper : str
        ``s1`` to ``s5``.
    data : str
        Labelled crops.
    out : str
        Folder of all results.
    quick : bool
        Few crops, small images and one epoch: a test of the program, not a result.
    external : str
        A second set that nothing is trained on.
    networks : tuple of str
        Those of the paper's networks that are run; by default all.
    ablations : bool
        Also the paper's ablations.
    minutes : float or None
        Longest time of each training.
    pretrained : bool or None
        By default as the preset says.
    weights : mapping of str to tuple of str
        Files of weights by network, as ``leukocls train --weights`` takes them.
    allow_unknown_patients : bool
    protocol : str
        As of a training.
    device : str
    own_process : bool
        Train in a process of its own.
    """

    paper: str
    data: str
    out: str
    quick: bool = False
    external: str = ""
    networks: tuple[str, ...] = ()
    ablations: bool = False
    minutes: float | None = None
    pretrained: bool | None = None
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allow_unknown_patients: bool = False
    protocol: str = "single"
    device: str = "auto"
    own_process: bool = True


@dataclass(frozen=True)
class Run:
    """One training of a reproduction.

    Attributes
    ----------
    name : str
        Of the model, its folder, and its rows in the tables.
    config : TrainConfig
    """

    name: str
    config: TrainConfig


def chosen_networks(settings: Settings, of: Paper) -> tuple[str, ...]:
    """List the networks of a reproduction, with ablations where these are asked for.

    Parameters
    ----------
    settings : Settings
    of : Paper

    Returns
    -------
    tuple of str

    Raises
    ------
    ArgumentError
        If a network is none of the paper's.
    """
    known = (*of.networks, *of.ablations)
    unknown = [name for name in settings.networks if name not in known]
    if unknown:
        raise ArgumentError(f"{unknown[0]!r} is no network of this paper: choose of {', '.join(known)}.")
    return settings.networks or (known if settings.ablations else of.networks)


def runs(settings: Settings, table: Path) -> list[Run]:
    """Make the settings of all trainings.

    Parameters
    ----------
    settings : Settings
    table : Path
        Crops with their parts.

    Returns
    -------
    list of Run
    """
    of = paper(settings.paper)
    return [_run(settings, of, network, table) for network in chosen_networks(settings, of)]


def _run(settings: Settings, of: Paper, network: str, table: Path) -> Run:
    plain = network == NO_AUGMENTATION
    arch = of.networks[0] if plain else network
    name = f"{arch}-{NO_AUGMENTATION}" if plain else network
    options: dict[str, Any] = {
        "data": str(table),
        "out": str(Path(settings.out) / "models" / name),
        "name": name,
        "arch": arch,
        "device": settings.device,
        "allow_unknown_patients": settings.allow_unknown_patients,
        "protocol": settings.protocol,
    }
    if plain:
        options["augmentation"] = False
    if settings.quick:
        options |= {**QUICK, **quick_input(of, arch)}
    if settings.minutes is not None:
        options["minutes"] = settings.minutes
    if settings.pretrained is not None:
        options["pretrained"] = settings.pretrained
    if settings.weights.get(network):
        options["weights"] = settings.weights[network]
    return Run(name, make_train_config(of.preset, **options))


def quick_input(of: Paper, arch: str) -> dict[str, Any]:
    """Choose a small input, and the smaller of two variants, for a quick training.

    Parameters
    ----------
    of : Paper
    arch : str

    Returns
    -------
    dict
        Settings of a training.
    """
    rule = entry(arch).input
    side = QUICK_SIDE if rule.smallest <= QUICK_SIDE or rule.fixed else QUICK_LARGE_SIDE
    found: dict[str, Any] = {"side_px": side, "pretrained": False}
    if rule.fixed:
        found["arguments"] = {"img_size": side}
    elif of.name == "s2":
        # The table's networks have up to 360 million parameters; the text's are of the same kind.
        found["arguments"] = {"variant": "text"} if "table" in entry(arch).variants else {}
    return found


def fingerprint(settings: Settings, made: Sequence[Run]) -> dict[str, Any]:
    """Describe a reproduction, so that it is continued only if nothing has changed.

    Parameters
    ----------
    settings : Settings
    made : sequence of Run

    Returns
    -------
    dict
    """
    free = {"out", "device", "restart", "checkpoint_minutes"}
    return {
        "paper": settings.paper.lower(),
        "quick": settings.quick,
        "data": str(Path(settings.data).resolve()),
        "external": str(Path(settings.external).resolve()) if settings.external else "",
        "trainings": {run.name: run.config.model_dump(mode="json", exclude=free) for run in made},
    }
