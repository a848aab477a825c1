"""Networks by name: `register` one, `create` it, `list` them, or read a name's `entry`."""

from napari_leukocls.architectures.registry import Entry, InputRule, create, entry, list, register

__all__ = ["Entry", "InputRule", "create", "entry", "list", "register"]
