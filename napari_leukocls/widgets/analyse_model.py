"""What the Analyse dock does, without its window."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.types import CancelToken, Progress, SmearImage, SmearResult

if TYPE_CHECKING:
    from napari_leukocls.regions import Region
    from napari_leukocls.remeasure import Edit
    from napari_leukocls.widgets.session import Session
    from napari_leukocls.widgets.slide_model import SlideModel

#: Share of the time that the stages of an analysis take, measured on fields of 640 to 4096 pixels.
STAGE_WEIGHTS = {"load": 0.08, "scale": 0.1, "segment": 0.62, "classify": 0.15, "count": 0.02, "store": 0.03}

#: What takes seconds to import, in the order in which it builds upon another.
_SLOW_IMPORTS = (
    "torch",
    "torchvision",
    "timm",
    "cellpose.core",
    "cellpose.dynamics",
    "napari_leukocls.classification.checkpoint",
    "napari_leukocls.measurement.cells",
    "napari_leukocls.segmentation.compact_net",
    "napari_leukocls.review",
    "skimage.color",  # by the first labels layer of napari
)


@dataclass(frozen=True)
class Request:
    """One press of Analyse.

    Attributes
    ----------
    image : SmearImage
        A copy: the layer may change meanwhile.
    config : AnalyzeConfig
    region : Region or None
    """

    image: SmearImage
    config: AnalyzeConfig
    region: Region | None = None


@dataclass(frozen=True)
class Analysed:
    """What an analysis leaves: its result, with earlier corrections of this slide, and the slide's key."""

    result: SmearResult
    key: str
    config: AnalyzeConfig
    restored: int
    #: The very result that the store was given: it cuts pictures of cells out of it while it is in memory.
    added: SmearResult


def warm_up(cancel: CancelToken) -> Generator[Progress, None, None]:
    """Import what an analysis needs, so that the first one does not wait for it."""
    yield Progress("load", 0, 1)
    for name in _SLOW_IMPORTS:
        cancel.check()
        import_module(name)
        yield Progress("load", 0, 1)
    yield Progress("load", 1, 1)


def analysis(session: Session, request: Request, cancel: CancelToken) -> Generator[Progress, None, Analysed]:
    """Run one analysis, register the slide in the review store, and bring its corrections back."""
    from napari_leukocls.regions import iter_analyze_region

    yield Progress("load", 0, 1)
    with session.networks:
        cancel.check()
        engine = session.engine(request.config)
        yield Progress("load", 1, 1)
        result = yield from iter_analyze_region(request.image, request.region, engine, cancel)
    cancel.check()
    yield Progress("store", 0, 1)
    key = session.store.add_slide(result)
    return restored(session, result, key, request.config)


def restored(session: Session, result: SmearResult, key: str, config: AnalyzeConfig) -> Analysed:
    """Lay the corrections that the review store has of a slide over its fresh result."""
    from napari_leukocls.measurement.differential import differential

    cells = session.store.apply(key, result.cells)
    classes = result.run["classifier"]["classes"]
    counts = differential(cells, session.scheme, classes, slide_id=result.image.slide_id)
    corrected = int((cells["corrected_class"].fillna("") != "").sum())
    return Analysed(replace(result, cells=cells, counts=counts), key, config, corrected, result)


def edited(
    session: Session, slide: SlideModel, labels: np.ndarray, edit: Edit, cancel: CancelToken
) -> Generator[Progress, None, Analysed]:
    """Measure and classify the cells of an edit again, and tell the review store."""
    from napari_leukocls.remeasure import remeasure

    yield Progress("edit", 0, 1)
    with session.networks:
        cancel.check()
        # The classifier of the result, though another may be active by now.
        config = slide.config.model_copy(update={"classifier": slide.result.run["classifier"]["name"]})
        engine = session.engine(config)
        result = remeasure(slide.added, labels, edit, engine)
    cancel.check()
    key = session.store.add_slide(result)
    return restored(session, result, key, slide.config)
