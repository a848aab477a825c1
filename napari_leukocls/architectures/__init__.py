"""Networks by name: `register` one, `create` it, `list` them, or read a name's `entry`.

`HeadedNet` and `SizeGuard` are for networks that one writes; they import torch when they are asked for.
"""

from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import Entry, InputRule
from napari_leukocls.architectures.registry import create, entry, list, register

if TYPE_CHECKING:
    from napari_leukocls.architectures.base import HeadedNet, SizeGuard


def __getattr__(name: str) -> Any:
    if name not in ("HeadedNet", "SizeGuard"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    from napari_leukocls.architectures import base

    return getattr(base, name)


__all__ = ["Entry", "HeadedNet", "InputRule", "SizeGuard", "create", "entry", "list", "register"]
