"""The one analysis path: window, command line, batch and API all drain `iter_analyze`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.preparing import find_scale, steady_diameter, under_even_light
from napari_leukocls.record import count_warnings, run_record
from napari_leukocls.types import (
    CELL_KINDS,
    CancelToken,
    Predictions,
    Progress,
    ProgressCallback,
    Scale,
    Segmentation,
    SmearImage,
    SmearResult,
    Steps,
)

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.classification.predict import Classifier
    from napari_leukocls.measurement.cells import CellGeometry
    from napari_leukocls.segmentation.base import Segmenter
    from napari_leukocls.segmentation.compact import CompactSegmenter

T = TypeVar("T")

#: A platelet this small (micrometres) and this certain is not shown to the classifier.
SURE_PLATELET_UM = 4.5
SURE_PLATELET = 0.6
#: An object whose class map says glass more than this is no cell.
MAX_BACKGROUND = 0.5
#: Leukocytes and platelets smaller than this (micrometres) are grains of stain.
MIN_CELL_UM = 1.2


@dataclass
class Engine:
    """The models of an analysis, loaded once for many slides.

    Attributes
    ----------
    config : AnalyzeConfig
    device : str
    """

    config: AnalyzeConfig
    device: str
    compact: CompactSegmenter
    segmenter: Segmenter
    classifier: Classifier


def load_engine(config: AnalyzeConfig) -> Engine:
    """Load what a configuration names.

    Raises
    ------
    ModelError, DeviceError
        In one line, before any image is read.
    """
    from napari_leukocls.classification.checkpoint import load_classifier
    from napari_leukocls.compute import resolve_device, use_threads
    from napari_leukocls.resources import active_classifier, find_model
    from napari_leukocls.segmentation.catalogue import compact, segmenter

    device = resolve_device(config.device)
    use_threads()
    entry = find_model(config.classifier or active_classifier())
    return Engine(
        config=config,
        device=device,
        compact=compact(device),
        segmenter=segmenter(config.segmenter, device),
        classifier=load_classifier(entry.path, device),
    )


def check_countable(config: AnalyzeConfig) -> None:
    """Refuse a model with a class that the scheme does not know, before any image is read.

    Raises
    ------
    ArgumentError
        It cannot be counted: the line says how to add it.
    ModelError
        Where the card cannot be read.
    """
    from napari_leukocls.resources import active_classifier, find_model
    from napari_leukocls.scheme import default_scheme

    scheme = default_scheme()
    for name in find_model(config.classifier or active_classifier()).card().get("classes") or []:
        scheme[str(name)]


def drain(steps: Generator[Progress, None, T], progress: ProgressCallback | None = None) -> T:
    """Run a generator of progress to its end and return what it returns."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(step)


def iter_analyze(
    image: SmearImage, engine: Engine, cancel: CancelToken | None = None
) -> Generator[Progress, None, SmearResult]:
    """Analyse one field: light, scale, outlines, kinds, classes, table, differential.

    Parameters
    ----------
    image : SmearImage
    engine : Engine
    cancel : CancelToken, optional
        Asked between tiles and batches.

    Yields
    ------
    Progress
        Stages ``scale``, ``segment``, ``classify``, ``count``.

    Returns
    -------
    SmearResult

    Raises
    ------
    Cancelled
        Where `cancel` was set.
    """
    from napari_leukocls.measurement.differential import differential
    from napari_leukocls.scheme import default_scheme

    token = cancel or CancelToken()
    started = time.perf_counter()
    token.check()
    yield Progress("scale", 0, 1, "reading the scale")
    seen, light = under_even_light(image, engine)
    scale, warnings = find_scale(seen, engine)
    token.check()
    segmentation = yield from staged(
        "segment", token, outline(seen, engine, scale, steady_diameter(image, scale))
    )
    warnings += [*image.notes, *([light.note] if light and light.note else []), *segmentation.warnings]
    cells = yield from tabulate(seen, engine, segmentation, token, warnings.append)
    yield Progress("count", 0, 1, "counting")
    counts = differential(cells, default_scheme(), engine.classifier.classes, slide_id=image.slide_id)
    warnings += count_warnings(cells, counts)
    segmentation = replace(segmentation, light=light)
    run = run_record(engine, segmentation.scale, time.perf_counter() - started, light)
    return SmearResult(image, segmentation, cells, counts, run, tuple(dict.fromkeys(warnings)))


def tabulate(
    image: SmearImage,
    engine: Engine,
    segmentation: Segmentation,
    token: CancelToken,
    warn: Callable[[str], None],
) -> Generator[Progress, None, pd.DataFrame]:
    """Classify the outlined cells of an image and list them, with the columns of ``cells.csv``."""
    from napari_leukocls.measurement.cells import build_cell_table, cell_geometry

    geometry = cell_geometry(segmentation.labels)
    seen = candidates(segmentation, geometry.area)
    work = classify(image, engine, segmentation, geometry, seen, warn)
    predictions = yield from staged("classify", token, work)
    limit = engine.config.min_confidence
    return build_cell_table(
        segmentation,
        predictions,
        geometry.ids[seen],
        image.slide_id,
        segmentation.scale.um_per_px,
        engine.classifier.classes,
        engine.classifier.card.review_threshold if limit is None else limit,
        geometry,
    )


def staged(stage: str, token: CancelToken, steps: Steps[T]) -> Generator[Progress, None, T]:
    """Name the steps of some work after a stage, and stop between them where that was asked for."""
    while True:
        token.check()
        try:
            done, total = next(steps)
        except StopIteration as end:
            return end.value
        yield Progress(stage, done, total)


def outline(
    image: SmearImage, engine: Engine, scale: Scale, diameter_px: float | None = None
) -> Steps[Segmentation]:
    """Outline the cells, sort them into kinds, and drop what is no cell.

    Parameters
    ----------
    image : SmearImage
    engine : Engine
    scale : Scale
    diameter_px : float, optional
        Of a red cell, as the segmenter should expect it; by default the scale's.
    """
    from napari_leukocls.segmentation.red_cells import red_cell_density

    diameter = scale.red_cell_diameter_px if diameter_px is None else diameter_px
    found = yield from engine.segmenter.segment(image.pixels, diameter)
    votes = found.kind_votes
    if votes is None:
        votes = engine.compact.class_votes(image.pixels, found.labels, diameter)
    labels = found.labels
    area = np.bincount(labels.ravel(), minlength=len(votes) + 1)[1:]
    size_um = 2 * np.sqrt(area / np.pi) * scale.um_per_px
    keep = (votes[:, 0] < MAX_BACKGROUND) & (size_um >= MIN_CELL_UM)
    if not keep.all():
        labels = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)]).astype(np.int32)[labels]
        votes = votes[keep]
    kinds = votes[:, 1:] / np.maximum(votes[:, 1:].sum(axis=1, keepdims=True), 1e-9)
    density = red_cell_density(image.pixels, labels, votes[:, 1], found.glass_colour)
    glass = found.glass_colour
    return Segmentation(labels, kinds.astype(np.float32), glass, scale, found.warnings, density)


def candidates(segmentation: Segmentation, area_px: np.ndarray) -> np.ndarray:
    """Say which cells the classifier is shown: all that are no red cells, save small sure platelets.

    Parameters
    ----------
    segmentation : Segmentation
    area_px : numpy.ndarray, (N,)

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    kinds = segmentation.kind_probabilities
    if len(kinds) == 0:
        return np.zeros(0, bool)
    best = kinds.argmax(axis=1)
    size_um = 2 * np.sqrt(area_px / np.pi) * segmentation.scale.um_per_px
    platelet = CELL_KINDS.index("platelet")
    sure_platelet = (best == platelet) & (kinds[:, platelet] >= SURE_PLATELET) & (size_um <= SURE_PLATELET_UM)
    return (best != CELL_KINDS.index("red_cell")) & ~sure_platelet


def classify(
    image: SmearImage,
    engine: Engine,
    segmentation: Segmentation,
    geometry: CellGeometry,
    seen: np.ndarray,
    warn: Callable[[str], None],
) -> Steps[Predictions]:
    """Cut the candidates at one physical scale and classify them; `warn` is told where memory ran out."""
    from napari_leukocls.classification.crops import cut_crops
    from napari_leukocls.classification.predict import join_kinds

    crops = cut_crops(
        image.pixels,
        segmentation.labels,
        geometry.ids[seen],
        geometry.bbox[seen],
        segmentation.scale.um_per_px,
        segmentation.glass_colour,
        engine.classifier.card.crop.rule(),
        segmentation.red_cell_density,
    )
    predictions = yield from engine.classifier.iter_predict(crops, engine.config.batch_size, warn)
    return join_kinds(predictions, segmentation.kind_probabilities[seen])
