"""Differential counts of stained blood smears, for research and training; not for diagnosis.

The public names are imported when they are first used, so that ``import napari_leukocls`` stays quick
and pulls in neither torch nor cellpose.

`SmearResult` is the former name of `FieldResult`, and stays.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_leukocls._version import __version__
from napari_leukocls.threads import share_processor

if TYPE_CHECKING:
    from napari_leukocls.api import analyze
    from napari_leukocls.synthetic import render_smear
    from napari_leukocls.types import FieldResult, SlideResult
    from napari_leukocls.types import FieldResult as SmearResult

#: Each public name: the module that defines it, and its name there.
_HOME = {
    "analyze": ("napari_leukocls.api", "analyze"),
    "render_smear": ("napari_leukocls.synthetic", "render_smear"),
    "FieldResult": ("napari_leukocls.types", "FieldResult"),
    "SlideResult": ("napari_leukocls.types", "SlideResult"),
    "SmearResult": ("napari_leukocls.types", "FieldResult"),
}


# The first to be imported in the window, the command line and every worker process: before torch.
share_processor()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))


__all__ = ["FieldResult", "SlideResult", "SmearResult", "__version__", "analyze", "render_smear"]
