"""The docks of the napari plugin: Qt here alone, each dock over a view model of plain Python.

The docks are imported when they are asked for, so that one does not wait for the libraries of the others.
"""

from __future__ import annotations

from typing import Any

_DOCKS = {
    "AnalyseDock": "analyse.dock",
    "ReviewDock": "review.dock",
    "ExplainDock": "explain.dock",
    "TrainDock": "train.dock",
    "BatchDock": "batch.dock",
    "ProficiencyDock": "proficiency.dock",
}

__all__ = list(_DOCKS)


def __getattr__(name: str) -> Any:
    if name not in _DOCKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_DOCKS[name]}"), name)
