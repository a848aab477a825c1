"""Explanations of a classifier: heatmaps, their checks, and morphology in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_leukocls.explanation.trust import badge

if TYPE_CHECKING:
    from napari_leukocls.types import FieldResult


def report_heatmaps(result: FieldResult, engine: Any, n: int) -> dict[str, Any] | None:
    """Return what ``report.html`` shows of heatmaps, or None where `n` is 0.

    Parameters
    ----------
    result : FieldResult
    engine : napari_leukocls.analysis.engine.Engine
    n : int
        Cells of each leukocyte class.

    Returns
    -------
    dict or None
        ``cells`` as `napari_leukocls.explanation.cells.report_cells` gives them, ``method``, ``badge`` and
        ``figures``: whether the heatmaps of this model can be trusted.
    """
    if not n:
        return None
    from napari_leukocls.explanation.cam import default_method
    from napari_leukocls.explanation.cells import report_cells

    state, figures = badge(engine.classifier.card)
    return {
        "method": default_method(engine.classifier.card),
        "badge": state,
        "figures": figures,
        "cells": report_cells(result, engine.classifier, n),
    }


__all__ = ["badge", "report_heatmaps"]
