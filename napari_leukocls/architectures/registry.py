"""Networks by name: those that are registered, and any timm classifier.

A module of this package that calls `register` is imported when the registry is first read, and so is what
other packages name under the entry point group ``napari_leukocls.architectures``. Such a module declares
facts and a builder; it imports torch inside the builder, so that lists of names stay quick.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.metadata
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
_GROUP = "napari_leukocls.architectures"
_REGISTERS = re.compile(r"^[ \t]*@?register\(", re.MULTILINE)
_ENTRIES: dict[str, Entry] = {}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: Mean and standard deviation with which the networks from Google's code were trained.
INCEPTION = (0.5, 0.5, 0.5)

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class InputRule:
    """Sides of square images that a network takes, in pixels.

    Attributes
    ----------
    side
        The side that the network is meant for.
    smallest
        The smallest side that it takes.
    multiple
        Sides must be multiples of this.
    fixed
        Whether `side` alone is taken.
    """

    side: int = 224
    smallest: int = 32
    multiple: int = 1
    fixed: bool = False

    def problem(self, height: int, width: int) -> str:
        """Return what is wrong with an image's size, or an empty text."""
        given = f"{height} x {width} px"
        if self.fixed and (height, width) != (self.side, self.side):
            return f"takes {self.side} x {self.side} px alone, not {given}"
        if min(height, width) < self.smallest:
            return f"takes images from {self.smallest} px on, not {given}"
        if height % self.multiple or width % self.multiple:
            return f"takes sides that are multiples of {self.multiple} px, not {given}"
        return ""


@dataclass(frozen=True)
class Entry:
    """What is known of an architecture before it is built.

    Attributes
    ----------
    name
    build
        Called with the number of classes and keyword arguments; returns the network.
    paper
        ``S1`` to ``S5`` for the papers that the project follows, ``timm`` for other timm models, else free.
    summary
        One line for a person who chooses.
    reference
        Citation or address.
    licence
        Of the code and, where timm has pretrained weights, of these.
    input
        Image sizes that the network takes.
    mean, std
        Per channel, of pixels scaled to 0-1; a model's card may state others.
    cam_target
        Dotted path of the layer that Grad-CAM looks at, or a function from the network to that layer.
    cam_reshape
        Turns the layer's output to (N, C, H, W): empty where it is that already, ``channels_last`` for
        (N, H, W, C), ``tokens`` for (N, H x W, C) that class tokens may lead, or a function.
    stages
        For progressive unfreezing, from the head to the stem: each a tuple of prefixes of module names. A
        function from the network to these where they depend on the arguments.
    arguments
        Given to `build` where the caller says nothing else.
    variants
        Name to the arguments that make it.
    pretrained
        Prefix of the parameters' names to the timm model and tag whose weights fit there ("" is the whole
        network). `mean` and `std` are those that these weights are used to.
    paper_parameters, paper_macs, paper_variant
        The paper's numbers, and the variant that they are of.
    onnx_refusal
        Why it cannot be exported to ONNX; empty where it can.
    note
        What of the paper could not be matched, and how a contradiction in it was settled.
    """

    name: str
    build: Callable[..., Any]
    paper: str = ""
    summary: str = ""
    reference: str = ""
    licence: str = "BSD-3-Clause"
    input: InputRule = InputRule()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    cam_target: str | Callable[[nn.Module], nn.Module] = ""
    cam_reshape: str | Callable[[Any], Any] = ""
    stages: tuple[tuple[str, ...], ...] | Callable[[nn.Module], tuple[tuple[str, ...], ...]] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pretrained: Mapping[str, str] = field(default_factory=dict)
    paper_parameters: int | None = None
    paper_macs: float | None = None
    paper_variant: str = ""
    onnx_refusal: str = ""
    note: str = ""


def register(name: str = "", **facts: Any) -> Callable[[Builder], Builder]:
    """Enter the decorated builder, ``build(num_classes, **arguments) -> nn.Module``, under a name.

    It may be used more than once on one builder, with different names and `arguments`.

    Parameters
    ----------
    name : str
        By default the builder's own name.
    **facts
        Fields of `Entry`.

    Raises
    ------
    ModelError
        Where the name is taken.
    """

    def enter(builder: Builder) -> Builder:
        made = Entry(name=name or builder.__name__, build=builder, **facts)
        if made.name in _ENTRIES:
            raise ModelError(f"there is an architecture {made.name!r} already: choose another name.")
        _ENTRIES[made.name] = made
        return builder

    return enter


def create(name: str, num_classes: int, **arguments: Any) -> nn.Module:
    """Build an architecture with random weights.

    Parameters
    ----------
    name : str
        A registered name or a timm classifier's.
    num_classes : int
    **arguments
        Passed to the architecture's builder.

    Raises
    ------
    ModelError
        Where there is no such architecture (the nearest name is suggested), or it does not know an argument.
    """
    chosen = entry(name)
    try:
        return chosen.build(num_classes, **{**chosen.arguments, **arguments})
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            raise
        raise ModelError(
            f"the architecture {name} knows no argument {unknown[1]!r}: leave it out, or correct it."
        ) from error


def entry(name: str) -> Entry:
    """Return what is known of an architecture.

    Registered names are found without importing torch; for a timm model timm is imported, and its entry is
    made from timm's description of the pretrained weights. Nothing is downloaded.

    Raises
    ------
    ModelError
        Where there is no such architecture; the nearest name is suggested.
    """
    _discover()
    if name in _ENTRIES:
        return _ENTRIES[name]
    from napari_leukocls.architectures._timm import timm_entry, timm_names

    made = timm_entry(name)
    if made is not None:
        return made
    near = difflib.get_close_matches(name, [*_ENTRIES, *timm_names()], n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(_ENTRIES))}, and timm's."
    raise ModelError(f"there is no architecture {name!r}. {hint}")


def list(filter: str = "*", *, timm: bool = False) -> tuple[str, ...]:
    """Return the names that match a pattern, sorted.

    Parameters
    ----------
    filter : str
        A glob, as ``qlvit*``.
    timm : bool
        Also timm's own classifiers, after the registered ones; this imports torch.
    """
    _discover()
    names = sorted(_ENTRIES)
    if timm:
        from napari_leukocls.architectures._timm import timm_names

        names += [name for name in timm_names() if name not in _ENTRIES]
    return tuple(name for name in names if fnmatch.fnmatchcase(name, filter))


@lru_cache(maxsize=1)
def _discover() -> None:
    """Import what registers: this package's modules, then other packages' entry points."""
    here = Path(__file__)
    for path in sorted(here.parent.glob("*.py")):
        if path != here and _REGISTERS.search(path.read_text(encoding="utf-8")):
            importlib.import_module(f"{__package__}.{path.stem}")
    for point in importlib.metadata.entry_points(group=_GROUP):
        try:
            point.load()
        except Exception:  # other people's code: it must not take the project's own networks away
            log.exception("the architecture %s (%s) could not be loaded", point.name, point.value)
