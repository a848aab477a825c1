"""The test of a whole slide: whether its stain and camera are like those that the classifier knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.classification.familiarity import CELLS_TO_ADAPT, SlideDifference, distance
from napari_leukocls.scheme import default_scheme

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.types import Predictions

#: Where ``run.json`` holds what was measured.
KEY = "familiarity"
_START = "the stain or the camera is unlike what the model"
_KINDS = ("leukocyte", "nucleated")


class SlideTest:
    """Collects the cells of a slide, field by field or tile by tile, and compares them with known laboratories.

    Parameters
    ----------
    classifier : Classifier
        If its card states no test of slides, nothing is recorded and there is no warning.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._card = classifier.card
        self._tensors = classifier.ood_tensors
        self._slide = SlideDifference()
        scheme = default_scheme()
        self._counted = np.array(
            [name in scheme.names and scheme[name].kind in _KINDS for name in classifier.classes]
        )

    def add(self, predictions: Predictions) -> None:
        """Add the nucleated cells of a field or a tile.

        Parameters
        ----------
        predictions : Predictions
        """
        if predictions.differences is None or len(predictions.probabilities) == 0:
            return
        counted = self._counted[predictions.probabilities.argmax(axis=1)]
        self._add(SlideDifference.of(predictions.differences[counted]))

    def add_run(self, run: Mapping[str, Any]) -> None:
        """Add the cells of a result.

        Parameters
        ----------
        run : mapping
            Its ``run.json``.
        """
        self._add(SlideDifference.read(run.get(KEY)))

    def _add(self, more: SlideDifference) -> None:
        self._slide = SlideDifference.joined([self._slide, more])

    @property
    def cells(self) -> int:
        """Number of cells so far."""
        return self._slide.cells

    def record(self) -> dict[str, Any]:
        """Return what ``run.json`` holds of it.

        Returns
        -------
        dict
            Key ``familiarity``: number of cells, their mean difference, the distance and the limit. Empty if the card
            states no test.
        """
        test = self._card.familiarity
        if test is None or not self._slide.cells:
            return {}
        return {
            KEY: {
                "cells": self._slide.cells,
                "mean": [round(one, 4) for one in self._slide.mean],
                "distance": round(distance(self._slide, self._tensors), 3),
                "limit": test.limit,
                "least_cells": test.least_cells,
            }
        }

    def warnings(self) -> list[str]:
        """Return the warning, if there is one.

        Returns
        -------
        list of str
            Empty if the slide is like what the model knows, or has too few cells to tell.
        """
        test = self._card.familiarity
        if test is None or test.limit is None or self._slide.cells < test.least_cells:
            return []
        away = distance(self._slide, self._tensors)
        if away < test.limit:
            return []
        return [
            f"{_START} {self._card.name} was trained on (distance {away:.1f} in {self._slide.cells} cells, limit "
            f"{test.limit:.1f}): check the classes, or adapt the model with about {CELLS_TO_ADAPT} cells of this "
            "microscope (leukocls adapt, or the Train dock)."
        ]


def is_slide_warning(warning: str) -> bool:
    """Tell whether a warning is that of this test.

    Parameters
    ----------
    warning : str

    Returns
    -------
    bool
    """
    return warning.startswith(_START)
