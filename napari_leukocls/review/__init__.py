"""The review store: corrections by people, kept with each slide, and a log that shows any later change.

It needs no window: the docks, the command line and notebooks use it in the same way.

Examples
--------
>>> store = open_store()  # doctest: +SKIP
>>> slide = store.add_slide(result)  # doctest: +SKIP
>>> store.correct(slide, 17, "monocyte", "A. Reader", "folded nucleus")  # doctest: +SKIP
>>> reviewed = store.apply_to(slide, result)  # doctest: +SKIP
"""

from __future__ import annotations

from napari_leukocls.errors import ReviewConflict, ReviewError
from napari_leukocls.review.blind_reads import CaseRead, SecondRead
from napari_leukocls.review.case import Case
from napari_leukocls.review.crops import CropTable, StoredCrop
from napari_leukocls.review.records import (
    Agreement,
    CaseRecord,
    Correction,
    Lift,
    ReviewProgress,
    SignOff,
    SlideRecord,
)
from napari_leukocls.review.store import ReviewStore, open_store

__all__ = [
    "Agreement",
    "Case",
    "CaseRead",
    "CaseRecord",
    "Correction",
    "CropTable",
    "Lift",
    "ReviewConflict",
    "ReviewError",
    "ReviewProgress",
    "ReviewStore",
    "SecondRead",
    "SignOff",
    "SlideRecord",
    "StoredCrop",
    "open_store",
]
