"""`iter_analyze`: one field from pixels to FieldResult."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.analysis.engine import Engine, run_record
from napari_leukocls.analysis.quality_check import check_field
from napari_leukocls.analysis.red_cells import examine
from napari_leukocls.analysis.slide_familiarity import SlideTest
from napari_leukocls.classification.classifier import join_kinds
from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.measurement.absolute import AREA, counted_area
from napari_leukocls.measurement.cells import build_cell_table, cell_geometry
from napari_leukocls.measurement.differential import count_warnings, unsigned
from napari_leukocls.measurement.findings import with_findings
from napari_leukocls.measurement.fine import count_cells
from napari_leukocls.measurement.heaps import HEAPS, heap_findings, heap_share, heap_warnings
from napari_leukocls.measurement.nuclei import review_scale
from napari_leukocls.measurement.platelets import measure_platelets
from napari_leukocls.measurement.quality import measure_quality
from napari_leukocls.measurement.red_cell_findings import with_red_cells
from napari_leukocls.measurement.smudges import smudge_finding
from napari_leukocls.progress import CancelToken, Progress, Steps, beside, staged, stop_here, stoppable
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.covered import whole_outlines
from napari_leukocls.segmentation.illumination import even_out, measure_light
from napari_leukocls.segmentation.scale import find_scale, steady_diameter
from napari_leukocls.segmentation.stain_density import red_cell_density, without_nucleus
from napari_leukocls.segmentation.thick_heaps import thick_heaps
from napari_leukocls.types import CELL_KINDS, FieldResult, Predictions, Scale, Segmentation, SmearImage

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.measurement.cells import CellGeometry
    from napari_leukocls.segmentation.base import Outlines
    from napari_leukocls.segmentation.common_scale import CommonScale
    from napari_leukocls.types import Light

#: A platelet this small (micrometres) and this certain is not shown to the classifier.
SURE_PLATELET_UM = 4.5
SURE_PLATELET = 0.6

#: An object whose class map says glass more than this is no cell.
MAX_BACKGROUND = 0.5
#: Leukocytes and platelets smaller than this (micrometres) are grains of stain.
MIN_CELL_UM = 1.2
#: Least share of the class map that holds a platelet to be one, and below which a leukocyte must have a nucleus.
SURE_ENOUGH_PLATELET, SURE_LEUKOCYTE = 0.6, 0.9


def iter_analyze(
    image: SmearImage,
    engine: Engine,
    cancel: CancelToken | None = None,
    common: CommonScale | None = None,
    others: Sequence[np.ndarray] = (),
) -> Generator[Progress, None, FieldResult]:
    """Analyse one field: light, scale, outlines, kinds, classes, table, differential.

    Parameters
    ----------
    image : SmearImage
    engine : Engine
    cancel : CancelToken, optional
        Asked between tiles and batches.
    common : CommonScale, optional
        Scale of images that are taken to be from the same microscope.
    others : sequence of numpy.ndarray, (H, W, 3), uint8
        Such images, which are measured where the image's own red cells are too few.

    Yields
    ------
    Progress
        Stages ``scale``, ``segment``, ``classify``, ``red cells``, ``count``.

    Returns
    -------
    FieldResult

    Raises
    ------
    Cancelled
        Where `cancel` was set.
    """
    token = cancel or CancelToken()
    started = time.perf_counter()
    token.check()
    yield Progress("scale", 0, 1, "reading the scale")
    with stoppable(token):
        even, light = under_even_light(image, engine)
        found = find_scale(even, engine.config, engine.compact, common=common, others=others, cancel=token)
    token.check()
    diameter = steady_diameter(image, found.scale)
    segmentation = yield from staged(
        "segment", token, outline(even, engine, found.scale, diameter, found.outlines)
    )
    warnings = [
        *found.warnings,
        *image.notes,
        *([light.note] if light and light.note else []),
        *segmentation.warnings,
    ]
    with stoppable(token):
        measured = beside(measure_quality, even.pixels, segmentation)
    slide = SlideTest(engine.classifier)
    cells = yield from tabulate(even, engine, segmentation, token, warnings.append, slide)
    work = examine(even.pixels, cells, segmentation, engine, warnings.append)
    red_cells = yield from staged("red cells", token, work)
    yield Progress("count", 0, 1, "counting")
    with stoppable(token):
        stop_here()
        quality = check_field(even, segmentation, cells, measured.result(), found.inverted)
        stop_here()
    platelets, heaps = measure_platelets(segmentation, cells), heap_share(segmentation)
    classes, finer = engine.classifier.classes, engine.finer
    counts = count_cells(cells, default_scheme(), classes, finer, slide_id=image.slide_id)
    warnings += [*slide.warnings(), *quality.warnings(), *platelets.warnings(), *heap_warnings(heaps)]
    warnings += count_warnings(cells, counts)
    segmentation = replace(segmentation, light=light)
    run = run_record(engine, segmentation.scale, time.perf_counter() - started, light)
    run |= slide.record() | quality.record() | platelets.record()
    # No density of what is no smear.
    run |= {AREA: None if quality.is_no_smear else counted_area(segmentation), HEAPS: heaps}
    unique = tuple(dict.fromkeys(warnings))
    result = FieldResult(cells, counts, run, unique, image=image, segmentation=segmentation)
    result = replace(result, signature=unsigned(cells), red_cells=None if quality.is_no_smear else red_cells)
    said = [*quality.findings(), smudge_finding(cells, counts), *platelets.findings(), *heap_findings(heaps)]
    return with_red_cells(with_findings(result, said))


def tabulate(
    image: SmearImage,
    engine: Engine,
    segmentation: Segmentation,
    token: CancelToken,
    warn: Callable[[str], None],
    slide: SlideTest,
) -> Generator[Progress, None, pd.DataFrame]:
    """Classify the outlined cells of an image and list them.

    Parameters
    ----------
    image : SmearImage
        Under even light.
    engine : Engine
    segmentation : Segmentation
    token : CancelToken
    warn : callable
        Called with each warning.
    slide : SlideTest
        Gets the cells for the test of the whole slide.

    Yields
    ------
    Progress
        Stage ``classify``.

    Returns
    -------
    pandas.DataFrame
        Columns as in ``cells.csv``.

    Raises
    ------
    Cancelled
        If `token` was set.
    """
    with stoppable(token):
        geometry = cell_geometry(segmentation.labels)
    chosen = candidates(segmentation, geometry.area)
    work = classify(image, engine, segmentation, geometry, chosen, warn)
    predictions = yield from staged("classify", token, work)
    slide.add(predictions)
    limit = engine.config.min_confidence
    token.check()
    cells = build_cell_table(
        segmentation,
        predictions,
        geometry.ids[chosen],
        image.slide_id,
        segmentation.scale.um_per_px,
        engine.classifier.classes,
        engine.classifier.card.review_threshold if limit is None else limit,
        geometry,
        engine.finer,
    )
    for warning in review_scale(cells, image.pixels, segmentation):
        warn(warning)
    return cells


def outline(
    image: SmearImage,
    engine: Engine,
    scale: Scale,
    diameter_px: float | None = None,
    ready: Outlines | None = None,
) -> Steps[Segmentation]:
    """Outline the cells, sort them into kinds, and drop objects that are not cells.

    The whole outlines of covered red cells are estimated, and heaps too thick to count are outlined.

    Parameters
    ----------
    image : SmearImage
    engine : Engine
    scale : Scale
    diameter_px : float, optional
        Red-cell diameter for the segmenter, pixels; the one of `scale` by default.
    ready : Outlines, optional
        What the ruler has outlined with this diameter; taken where the ruler's segmenter is the analysis's.

    Yields
    ------
    Progress

    Returns
    -------
    Segmentation
    """
    diameter = scale.red_cell_diameter_px if diameter_px is None else diameter_px
    if ready is not None and engine.segmenter is engine.compact:
        found = ready
    else:
        found = yield from engine.segmenter.segment(image.pixels, diameter)
    votes = found.kind_votes
    if votes is None:
        votes = engine.compact.class_votes(image.pixels, found.labels, diameter)
    labels = found.labels
    area = np.bincount(labels.ravel(), minlength=len(votes) + 1)[1:]
    size_um = 2 * np.sqrt(area / np.pi) * scale.um_per_px
    kinds = votes[:, 1:] / np.maximum(votes[:, 1:].sum(axis=1, keepdims=True), 1e-9)
    platelet = CELL_KINDS.index("platelet")
    grain = (kinds.argmax(axis=1) == platelet) & (kinds[:, platelet] < SURE_ENOUGH_PLATELET)
    keep = (votes[:, 0] < MAX_BACKGROUND) & (size_um >= MIN_CELL_UM) & ~grain
    if not keep.all():
        labels = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)]).astype(np.int32)[labels]
        votes, kinds = votes[keep], kinds[keep]
    stop_here()
    density = red_cell_density(image.pixels, labels, votes[:, 1], found.glass_colour)
    glass = found.glass_colour
    leukocyte = CELL_KINDS.index("leukocyte")
    unsure = (kinds.argmax(axis=1) == leukocyte) & (kinds[:, leukocyte] < SURE_LEUKOCYTE)
    pale = without_nucleus(image.pixels, labels, unsure, glass, density)
    # A cell without a nucleus is no leukocyte, whatever the class map holds it to be.
    kinds[pale] = np.eye(len(CELL_KINDS))[CELL_KINDS.index("red_cell")]
    red = kinds.argmax(axis=1) == CELL_KINDS.index("red_cell")
    return Segmentation(
        labels,
        kinds.astype(np.float32),
        glass,
        scale,
        found.warnings,
        density,
        outlines=whole_outlines(labels, red, scale.red_cell_diameter_px),
        heaps=thick_heaps(image.pixels, labels, glass, density, scale.red_cell_diameter_px),
    )


def candidates(segmentation: Segmentation, area_px: np.ndarray) -> np.ndarray:
    """Select the cells to classify: all but red cells and small, certain platelets.

    Parameters
    ----------
    segmentation : Segmentation
    area_px : numpy.ndarray, (N,)
        Area of each cell, pixels.

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
    array: np.ndarray = (best != CELL_KINDS.index("red_cell")) & ~sure_platelet
    return array


def classify(
    image: SmearImage,
    engine: Engine,
    segmentation: Segmentation,
    geometry: CellGeometry,
    chosen: np.ndarray,
    warn: Callable[[str], None],
) -> Steps[Predictions]:
    """Cut the selected cells at one physical scale and classify them.

    Parameters
    ----------
    image : SmearImage
    engine : Engine
    segmentation : Segmentation
    geometry : CellGeometry
        Of all cells.
    chosen : numpy.ndarray, (N,), bool
        The cells to classify.
    warn : callable
        Called with a warning if the memory of the device ran out.

    Yields
    ------
    Progress

    Returns
    -------
    Predictions
    """
    crops = cut_crops(
        image.pixels,
        segmentation.labels,
        geometry.ids[chosen],
        geometry.bbox[chosen],
        segmentation.scale.um_per_px,
        segmentation.glass_colour,
        engine.classifier.card.crop,
        segmentation.red_cell_density,
    )
    size = engine.config.batch_size
    predictions = yield from engine.classifier.iter_predict(crops, size, warn, engine.fine)
    return join_kinds(predictions, segmentation.kind_probabilities[chosen])


def under_even_light(image: SmearImage, engine: Engine) -> tuple[SmearImage, Light | None]:
    """Even out the light of a field, if the configuration asks for it.

    Parameters
    ----------
    image : SmearImage
    engine : Engine

    Returns
    -------
    image : SmearImage
        Unchanged if the light is even.
    light : Light or None
        How the field was lit; None if the light is even.
    """
    light = measure_light(image.pixels) if engine.config.even_light else None
    return replace(image, pixels=even_out(image.pixels, light)), light
