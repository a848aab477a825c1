"""Keeps the units of a viewer's layers alike, so that napari does not warn of inconsistent units."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

#: Key of a layer's own units in its metadata, while it is shown in pixels.
OWN_UNITS = "leukocls_units"


def own_units(layer: Any) -> tuple[Any, ...]:
    """Return the units of a layer as its file states them.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    tuple
        One per axis.
    """
    return tuple(layer.metadata.get(OWN_UNITS, layer.units))


def _in_pixels(units: tuple[Any, ...]) -> bool:
    return all(str(unit) == "pixel" for unit in units[-2:])


def harmonise(layers: Any) -> None:
    """Show all layers in pixels where some have no unit of length; otherwise, each in its own unit.

    A smear whose file states a pixel size and one whose file does not may be open together. napari then warns, and
    ignores all units. Here the layers are in pixels from the start, which draws the same; their own units are kept.

    Parameters
    ----------
    layers : napari.components.LayerList
    """
    mixed = len({_in_pixels(own_units(layer)) for layer in layers}) > 1
    for layer in layers:
        own = own_units(layer)
        if _in_pixels(own):
            continue
        if mixed and not _in_pixels(tuple(layer.units)):
            layer.metadata[OWN_UNITS] = own
            layer.units = ("pixel",) * layer.ndim
        elif not mixed and OWN_UNITS in layer.metadata:
            layer.units = layer.metadata.pop(OWN_UNITS)


def before_units_are_read(viewer: Any, action: Callable[[], None]) -> None:
    """Do something before napari's canvas reads the units of the layers, which it does while a layer is inserted.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Nothing is done if it has no window, or a version of napari that reads no units.
    action : callable
        A method; its object is not kept alive.
    """
    canvas = getattr(getattr(getattr(viewer, "window", None), "_qt_viewer", None), "canvas", None)
    read = getattr(canvas, "_update_world_units", None)
    if canvas is None or read is None:
        return
    method = weakref.WeakMethod(action)

    def update() -> None:
        first = method()
        if first is not None:
            first()
        read()

    canvas._update_world_units = update
