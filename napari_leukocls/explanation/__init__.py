"""What a classifier looks at: heatmaps, their checks, and morphology in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_leukocls.explanation.trust import badge

if TYPE_CHECKING:
    from napari_leukocls.types import FieldResult


def for_report(result: FieldResult, engine: Any, n: int, labels: Any = None) -> dict[str, Any] | None:
    """Return what ``report.html`` shows of heatmaps, or None where `n` is 0.

    Parameters
    ----------
    result : FieldResult
    engine : napari_leukocls.analysis.engine.Engine
    n : int
        Cells of each leukocyte class.
    labels : array-like, (H, W), optional
        Where the result does not hold them, as for a whole slide.

    Returns
    -------
    dict or None
        ``cells`` as `napari_leukocls.explanation.cells.for_report` gives them, ``method``, ``badge`` and
        ``figures``: whether the heatmaps of this model can be trusted.
    """
    if not n:
        return None
    from napari_leukocls.explanation.cam import default_method
    from napari_leukocls.explanation.cells import for_report as cells_of

    state, figures = badge(engine.classifier.card)
    return {
        "method": default_method(engine.classifier.card),
        "badge": state,
        "figures": figures,
        "cells": cells_of(result, engine.classifier, n, labels),
    }


__all__ = ["badge", "for_report"]
