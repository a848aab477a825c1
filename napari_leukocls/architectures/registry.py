"""Networks by name: those that are registered, and any timm classifier.

A module of this package or of its folders that calls `register` is imported when the registry is first read, and
so is what other packages name under the entry point group ``napari_leukocls.architectures``. Such a module
declares facts and a builder; the builder imports torch when it is called, so that lists of names stay quick.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.metadata
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import Builder, Entry
from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

_GROUP = "napari_leukocls.architectures"

_REGISTERS = re.compile(r"^[ \t]*@?register\(", re.MULTILINE)

_ENTRIES: dict[str, Entry] = {}


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
        value: nn.Module = chosen.build(num_classes, **{**chosen.arguments, **arguments})
        return value
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            raise
        raise ModelError(
            f"the architecture {name} knows no argument {unknown[1]!r}: leave it out, or correct it."
        ) from error


def entry(name: str) -> Entry:
    """Look up the facts about an architecture.

    Registered names are found without importing torch. For a timm model, timm is imported, and the entry is made
    from timm's description of the pretrained weights. Nothing is downloaded.

    Parameters
    ----------
    name : str

    Returns
    -------
    Entry

    Raises
    ------
    ModelError
        If there is no such architecture; the nearest name is suggested.
    """
    _discover()
    if name in _ENTRIES:
        return _ENTRIES[name]
    from napari_leukocls.architectures.timm_networks import timm_entry, timm_names

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
        from napari_leukocls.architectures.timm_networks import timm_names

        names += [name for name in timm_names() if name not in _ENTRIES]
    return tuple(name for name in names if fnmatch.fnmatchcase(name, filter))


@lru_cache(maxsize=1)
def _discover() -> None:
    """Import what registers: this package's modules, then other packages' entry points."""
    here = Path(__file__)
    for path in sorted(here.parent.rglob("*.py")):
        if path != here and _REGISTERS.search(path.read_text(encoding="utf-8")):
            inside = path.relative_to(here.parent).with_suffix("").parts
            parts = inside[:-1] if inside[-1] == "__init__" else inside
            importlib.import_module(".".join((__package__, *parts)))
    for point in importlib.metadata.entry_points(group=_GROUP):
        try:
            point.load()
        except Exception:  # other people's code: it must not take the project's own networks away
            log.exception("the architecture %s (%s) could not be loaded", point.name, point.value)
