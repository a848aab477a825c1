"""Explain images: every leukocyte of a field, or the central cell of a crop; the work of ``leukocls explain``."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls._version import __version__
from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.classification.classifier import join_kinds
from napari_leukocls.classification.single_cell import CONTEXT_UM, common_scales, cut_central
from napari_leukocls.config import make_config
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.explanation import badge, cam, morphology
from napari_leukocls.explanation.cells import explained_cells, surest_cells
from napari_leukocls.explanation.checks import check_model
from napari_leukocls.explanation.report import Explained, ExplainedImage, Explanation
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.measurement.nuclei import nuclear_shares
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import CancelToken, Progress, staged

if TYPE_CHECKING:
    from napari_leukocls.io.inputs import SlideInput

#: Largest number of cells that are checked, and of cells in the randomisation check.
MAX_CHECKED = 64
MAX_RANDOMISED = 32

#: Longest side, pixels, of an image that may show one cell; and of one that is taken for one cell where the scale
#: is unknown.
MAX_CROP_PX, CROP_PX = 1200, 600
KINDS = ("auto", "field", "crop")


@dataclass(frozen=True)
class Given:
    """An image to explain, its pixel size if it is known, and whether it is a ``field`` or a ``crop``."""

    slide: SlideInput
    um_per_px: float | None
    kind: str


def iter_explain(
    model: str,
    images: Sequence[str | Path],
    method: str | None = None,
    check: bool = False,
    device: str = "auto",
    um_per_px: float | None = None,
    kind: str = "auto",
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, Explanation]:
    """Draw and check the heatmaps of images.

    Parameters
    ----------
    model : str
        A model's name or folder.
    images : sequence of path-like
        Files, folders or globs.
    method : str, optional
        One of `napari_leukocls.explanation.cam.METHODS`; by default the model's own.
    check : bool
        Whether to run the checks, on up to `MAX_CHECKED` cells taken evenly from all.
    device : str
    um_per_px : float, optional
        Pixel size of all images; by default the file's, else it is estimated from the red cells.
    kind : {"auto", "field", "crop"}
        ``auto`` takes images of at most 40 micrometres a side as crops of one cell.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    Explanation

    Raises
    ------
    ArgumentError
        If `kind` or the method does not exist.
    InputError
        If no image could be explained.
    ModelError
        If the model has no layer that heatmaps can be made from.
    """
    if kind not in KINDS:
        raise ArgumentError(f"an image is one of {', '.join(KINDS)}, not '{kind}'.")
    token = cancel or CancelToken()
    entry = find_model(model)
    if method is not None:
        method = cam.method_named(method)
    engine = load_engine(make_config(classifier=model, device=device, pixel_size_um=um_per_px))
    chosen = method or cam.default_method(engine.classifier.card)
    # Before any image is read: a model without a layer for heatmaps is refused at once.
    facts = _facts(engine, chosen)
    given, failures, notes = _sort(expand_inputs(images), engine, um_per_px, kind)
    done = yield from _each(given, engine, chosen, entry.path, token, notes, failures)
    if failures and not done:
        raise InputError(f"{failures[0][1]} None of {len(failures)} images could be explained.")
    checks = None
    if check:
        done, checks = yield from _checked(done, engine, chosen, token, notes)
    rows = [{"slide_id": slide.slide_id, "source": slide.source, "error": why} for slide, why in failures]
    return Explanation(facts, done, checks, notes, _run(engine, chosen, check, um_per_px, kind), rows)


def _facts(engine: Engine, method: str) -> dict[str, Any]:
    """The model, the method, and the state of the checks in its card.

    Raises
    ------
    LeukoclsError
        If the model has no layer that heatmaps can be made from.
    """
    card = engine.classifier.card
    layers = list(cam.reader(engine.classifier).layers)
    state, figures = badge(card, method)
    return {
        "name": card.name,
        "sha256": engine.classifier.digest,
        "method": method,
        "layers": layers,
        "badge": state,
        "figures": figures,
    }


def _each(
    given: Sequence[Given],
    engine: Engine,
    method: str,
    folder: Path,
    token: CancelToken,
    notes: list[str],
    failures: list[tuple[SlideInput, str]],
) -> Generator[Progress, None, list[ExplainedImage]]:
    """Explain one image after the other; errors are added to `failures`."""
    done: list[ExplainedImage] = []
    for i, one in enumerate(given):
        token.check()
        yield Progress("explain", i, len(given), one.slide.slide_id)
        try:
            explain = _field if one.kind == "field" else _crop
            done.append((yield from explain(one, engine, method, folder, token, notes)))
        except InputError as error:
            failures.append((one.slide, str(error)))
    return done


def _run(engine: Engine, method: str, check: bool, um_per_px: float | None, kind: str) -> dict[str, Any]:
    return {
        "settings": {"method": method, "check": check, "um_per_px": um_per_px, "kind": kind},
        "device": engine.device,
        "version": __version__,
        "not_for_diagnosis": "For research and training; not for diagnosis.",
    }


def _sort(
    slides: Sequence[SlideInput], engine: Engine, um_per_px: float | None, kind: str
) -> tuple[list[Given], list[tuple[SlideInput, str]], list[str]]:
    """Separate fields from crops, and find the scale of crops; images that cannot be read are left out."""
    kept: list[tuple[SlideInput, tuple[int, int], float | None]] = []
    failures: list[tuple[SlideInput, str]] = []
    for slide in slides:
        try:
            image = read_image(slide.fields[0], slide.slide_id)
        except InputError as error:
            failures.append((slide, str(error)))
            continue
        kept.append((slide, image.pixels.shape[:2], um_per_px or image.um_per_px))
    small = [row for row in kept if kind == "crop" or (kind == "auto" and max(row[1]) <= MAX_CROP_PX)]
    rule = engine.classifier.card.crop
    # Of whole images, only the outline depends on the scale: none is drawn where it is unknown.
    own = float("nan") if rule.whole_image else rule.um_per_px
    scales, notes = common_scales(
        [slide.slide_id for slide, _, _ in small],
        [size for _, size, _ in small],
        lambda index: read_image(small[index][0].fields[0]).pixels,
        [known for _, _, known in small],
        own,
        engine.compact,
    )
    found = {row[0].slide_id: scale for row, scale in zip(small, scales, strict=True)}
    given = []
    for slide, size, known in kept:
        scale = found.get(slide.slide_id)
        measured = scale is not None and (known is not None or scale != own) and scale > 0
        one_cell = scale is not None and (
            kind == "crop" or (max(size) * scale <= CONTEXT_UM if measured else max(size) <= CROP_PX)
        )
        given.append(Given(slide, scale if one_cell else known, "crop" if one_cell else "field"))
    return given, failures, notes


def _crop(
    one: Given, engine: Engine, method: str, folder: Path, token: CancelToken, notes: list[str]
) -> Generator[Progress, None, ExplainedImage]:
    """Explain the central cell of an image."""
    assert one.um_per_px is not None
    yield Progress("crop", 0, 1, one.slide.slide_id)
    classifier = engine.classifier
    rule = classifier.card.crop
    pixels = read_image(one.slide.fields[0], one.slide.slide_id).pixels
    cell = cut_central(pixels, one.um_per_px, engine.compact, rule)
    if not cell.found and not rule.whole_image:
        notes.append(
            f"{one.slide.slide_id}: no cell was found at the centre; the centre of the image was cut."
        )
    crops = cell.crop[None]
    shares = join_kinds(classifier.predict(crops), cell.kind[None]).probabilities[0]
    best = int(shares.argmax())
    heatmap = cam.heatmaps(classifier, crops, best, method)[0]
    explained = Explained(
        name=one.slide.slide_id,
        crop=cell.crop,
        heatmap=heatmap,
        class_name=classifier.classes[best],
        probability=float(shares[best]),
        mask=cell.mask if cell.found else None,
        words=morphology.words(
            morphology.describe(classifier, crops, folder)[0],
            float(nuclear_shares(cell.crop, (cell.mask > 0).astype(np.int32), np.array([1]))[0]),
        ),
    )
    um_per_px = rule.um_per_px if rule.side_known else float("nan")
    return ExplainedImage(
        one.slide.slide_id, one.slide.source, "crop", [explained], [0], heatmap, um_per_px, cell.crop
    )


def _field(
    one: Given, engine: Engine, method: str, folder: Path, token: CancelToken, notes: list[str]
) -> Generator[Progress, None, ExplainedImage]:
    """Explain every leukocyte of a field."""
    image = replace(read_image(one.slide.fields[0], one.slide.slide_id), source=one.slide.source)
    result = yield from iter_analyze(image, engine, token)
    notes += [f"{one.slide.slide_id}: {warning}" for warning in result.warnings]
    rows = surest_cells(result.cells, len(result.cells) + 1, engine.classifier.classes)
    rows = rows.sort_values("cell_id")
    cells = explained_cells(result, engine.classifier, rows, method, folder=folder)
    um_per_px = result.um_per_px
    windows = cam.cell_windows(rows, um_per_px, engine.classifier.card.crop)
    maps = np.stack([cell.heatmap for cell in cells]) if cells else np.zeros((0, 1, 1), np.float32)
    placed = cam.compose(result.labels.shape, maps, windows)
    if not cells:
        notes.append(f"{one.slide.slide_id}: no leukocyte was found.")
    ids = [int(cell) for cell in rows["cell_id"]]
    return ExplainedImage(
        one.slide.slide_id, one.slide.source, "field", cells, ids, placed, um_per_px, image.pixels
    )


def _checked(
    images: list[ExplainedImage], engine: Engine, method: str, token: CancelToken, notes: list[str]
) -> Generator[Progress, None, tuple[list[ExplainedImage], dict[str, Any]]]:
    """Check the maps; return the images with the results of each checked cell."""
    cells = [(at, number) for at, image in enumerate(images) for number in range(len(image.cells))]
    if not cells:
        raise InputError("there is no cell to check: give images with leukocytes.")
    if len(cells) > MAX_CHECKED:
        notes.append(f"{MAX_CHECKED} of {len(cells)} cells were checked, taken evenly from all.")
    chosen = [cells[i] for i in np.linspace(0, len(cells) - 1, min(MAX_CHECKED, len(cells))).astype(int)]
    checked = [images[at].cells[number] for at, number in chosen]
    classifier = engine.classifier
    steps = check_model(
        classifier,
        np.stack([cell.crop for cell in checked]),
        np.array([classifier.classes.index(cell.class_name) for cell in checked]),
        method,
        [cell.mask for cell in checked],
        maps=np.stack([cell.heatmap for cell in checked]),
        max_randomised=MAX_RANDOMISED,
    )
    figures, per_cell = yield from staged("check", token, steps)
    for i, (at, number) in enumerate(chosen):
        found = {name: float(values[i]) for name, values in per_cell.items()}
        images[at].cells[number] = replace(images[at].cells[number], figures=found)
    return images, figures
