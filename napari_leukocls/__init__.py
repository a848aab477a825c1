"""Differential counts of stained blood smears, for research and training; not for diagnosis.

The public names are imported when they are first used, so that ``import napari_leukocls`` stays quick
and pulls in neither torch nor cellpose.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_leukocls._version import __version__

if TYPE_CHECKING:
    from napari_leukocls.api import analyze
    from napari_leukocls.synthetic import render_smear
    from napari_leukocls.types import SmearResult

_HOME = {
    "analyze": "napari_leukocls.api",
    "render_smear": "napari_leukocls.synthetic",
    "SmearResult": "napari_leukocls.types",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))


__all__ = ["SmearResult", "__version__", "analyze", "render_smear"]
