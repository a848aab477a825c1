"""Texts of all docks: one class of them for each dock."""

from __future__ import annotations

from napari_leukocls.widgets.texts.analyse import Analyse
from napari_leukocls.widgets.texts.batch import Batch
from napari_leukocls.widgets.texts.case import Case, Sample
from napari_leukocls.widgets.texts.common import NOT_FOR_DIAGNOSIS, Canvas, Common, Stages
from napari_leukocls.widgets.texts.counter import Counter
from napari_leukocls.widgets.texts.explain import Explain
from napari_leukocls.widgets.texts.proficiency import Proficiency
from napari_leukocls.widgets.texts.review import Review
from napari_leukocls.widgets.texts.train import Train
from napari_leukocls.widgets.texts.translate import plural

__all__ = [
    "Analyse",
    "Batch",
    "Canvas",
    "Case",
    "Common",
    "Counter",
    "Explain",
    "NOT_FOR_DIAGNOSIS",
    "Proficiency",
    "Review",
    "Sample",
    "Stages",
    "Train",
    "plural",
]
