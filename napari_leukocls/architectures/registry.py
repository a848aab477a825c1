"""Networks by name: any timm classifier, built without downloading anything."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def create(name: str, num_classes: int, **arguments: Any) -> nn.Module:
    """Build an architecture with random weights.

    Parameters
    ----------
    name : str
        A timm classifier's name.
    num_classes : int
    **arguments
        Passed to the architecture's builder.

    Raises
    ------
    ModelError
        Where there is no such architecture; the nearest name is suggested.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f" Did you mean {near[0]}?" if near else " See timm's list of models."
        raise ModelError(f"there is no architecture {name!r}.{hint}")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)
