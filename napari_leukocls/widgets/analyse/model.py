"""What the Analyse dock does, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.types import SmearImage
from napari_leukocls.widgets.common.analysed import Analysed, Place, entered, restored

if TYPE_CHECKING:
    import numpy as np

    from napari_leukocls.analysis.region import Region
    from napari_leukocls.widgets.common.session import Session

#: Share of the time that the stages of an analysis take, measured on fields of 640 to 4096 pixels.
STAGE_WEIGHTS = {
    "load": 0.08,
    "scale": 0.1,
    "segment": 0.6,
    "classify": 0.12,
    "red cells": 0.05,
    "count": 0.02,
    "store": 0.03,
}
#: What takes seconds to import, in the order in which it builds upon another.
_SLOW_IMPORTS = (
    "torch",
    "napari_leukocls.classification.loading",
    "napari_leukocls.analysis.region",
    "napari_leukocls.review",
    "skimage.color.colorconv",  # by the first labels layer of napari; skimage.color alone imports it later
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
    others : tuple of numpy.ndarray, (H, W, 3), uint8
        Other images in the viewer, whose scale is taken where this one has too few red cells.
    """

    image: SmearImage
    config: AnalyzeConfig
    region: Region | None = None
    others: tuple[np.ndarray, ...] = ()


def slide_warnings(warnings: tuple[str, ...]) -> list[str]:
    """Choose the warnings that the dock shows at once: that a stain or a camera is unlike what the model knows.

    Parameters
    ----------
    warnings : tuple of str
        Of a result.

    Returns
    -------
    list of str
        As sentences.
    """
    from napari_leukocls.analysis.slide_familiarity import is_slide_warning

    return [line[:1].upper() + line[1:] for line in warnings if is_slide_warning(line)]


def warm_up(cancel: CancelToken) -> Generator[Progress, None, None]:
    """Import the libraries of an analysis and of its layer, so that the first analysis starts sooner.

    Parameters
    ----------
    cancel : CancelToken
        Checked between the steps.

    Yields
    ------
    Progress
    """
    yield Progress("load", 0, 1)
    for name in _SLOW_IMPORTS:
        cancel.check()
        import_module(name)
        yield Progress("load", 0, 1)
    # The patterns of dashed lines, which vispy computes for the first labels layer, and keeps.
    import_module("vispy.visuals.line.dash_atlas").DashAtlas()
    yield Progress("load", 1, 1)


def stage_weights(n: int) -> dict[str, float]:
    """Share of the time that each stage of an analysis of fields takes.

    Parameters
    ----------
    n : int
        Number of fields.

    Returns
    -------
    dict of str to float
        The stages of `analyses`, in order.
    """
    return {f"{i}:{stage}": share for i in range(n) for stage, share in STAGE_WEIGHTS.items()}


def analyses(
    session: Session, requests: list[Request], place: Place, cancel: CancelToken
) -> Generator[Progress, None, list[Analysed]]:
    """Analyse the fields of a case, add them to the review store, and apply their earlier corrections.

    Parameters
    ----------
    session : Session
    requests : list of Request
        The fields, and the settings.
    place : Place
        The case.
    cancel : CancelToken
        Checked between the steps.

    Yields
    ------
    Progress
        The stage has the index of the field before it, such as ``0:segment``.

    Returns
    -------
    list of Analysed

    Raises
    ------
    LeukoclsError
        If the analysis fails or is cancelled.
    """
    found = []
    for i, request in enumerate(requests):
        steps = _analysis(session, request, place, cancel)
        message = f"{i + 1} / {len(requests)}" if len(requests) > 1 else ""
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                analysed, place = stop.value
                break
            yield Progress(f"{i}:{step.stage}", step.done, step.total, step.message or message)
        found.append(analysed)
    return found


def _analysis(
    session: Session, request: Request, place: Place, cancel: CancelToken
) -> Generator[Progress, None, tuple[Analysed, Place]]:
    """Analyse one field."""
    from napari_leukocls.analysis.region import iter_analyze_region

    yield Progress("load", 0, 1)
    with session.networks:
        cancel.check()
        engine = session.engine(request.config)
        yield Progress("load", 1, 1)
        result = yield from iter_analyze_region(request.image, request.region, engine, cancel, request.others)
    cancel.check()
    yield Progress("store", 0, 1)
    key, place = entered(session, result, place)
    return restored(session, result, key, request.config), place


def region_in_box(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> Region:
    """Return the region of an image that lies in a box.

    Parameters
    ----------
    box : tuple of float
        y0, x0, y1, x1 in pixels, half-open.
    shape : tuple of int
        Of the image.

    Returns
    -------
    Region

    Raises
    ------
    ArgumentError
        If the part of the box within the image is too small.
    """
    from napari_leukocls.analysis.region import region_of_box

    return region_of_box(box, shape)


def region_in_polygons(polygons: list[np.ndarray], shape: tuple[int, ...]) -> Region:
    """Return the region of an image that polygons enclose.

    Parameters
    ----------
    polygons : list of numpy.ndarray, (K, 2)
        Corners y, x in pixels.
    shape : tuple of int
        Of the image.

    Returns
    -------
    Region

    Raises
    ------
    ArgumentError
        If there is no polygon, or the region is too small.
    """
    from napari_leukocls.analysis.region import region_of_polygons

    return region_of_polygons(polygons, shape)
