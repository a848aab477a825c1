"""What the Explain dock does, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.errors import ArgumentError
from napari_leukocls.progress import CancelToken, Progress

if TYPE_CHECKING:
    from napari_leukocls.widgets.common.session import Session
    from napari_leukocls.widgets.common.slide_model import SlideModel

#: Number of classes whose probability is shown.
TOP = 4


@dataclass(frozen=True)
class Question:
    """The cell and the classes to explain.

    Attributes
    ----------
    cell_id : int
    target : str or None
        Class to explain; None for the most probable class.
    why_not : str or None
        Second class; None for the second most probable class.
    method : str or None
        None for the method of the model.
    """

    cell_id: int
    target: str | None = None
    why_not: str | None = None
    method: str | None = None


@dataclass(frozen=True)
class Answer:
    """The explanation of a cell.

    Attributes
    ----------
    cell_id : int
    crop : numpy.ndarray, (h, w, 3), uint8
        Input of the model.
    names : tuple of str
        The class explained, and the second class.
    maps : numpy.ndarray, (2, h, w), float32
        Their heatmaps, 0-1.
    probabilities : dict of str to float
        Of all classes, the most probable first.
    top_left : tuple of float
        Position of the first pixel of the crop in the smear, y, x in pixels.
    step : float
        Pixels of the smear per pixel of the crop.
    method : str
        Method of the heatmaps.
    state : str
        Result of the checks of the heatmaps.
    figures : str
        Figures of these checks.
    words : str
        Morphology in words.
    """

    cell_id: int
    crop: np.ndarray
    names: tuple[str, str]
    maps: np.ndarray
    probabilities: dict[str, float]
    top_left: tuple[float, float]
    step: float
    method: str
    state: str
    figures: str
    words: str


def methods() -> tuple[str, ...]:
    """Return the methods that make heatmaps."""
    from napari_leukocls.explanation.trust import METHODS

    return tuple(METHODS)


def answer(
    session: Session, slide: SlideModel, question: Question, cancel: CancelToken
) -> Generator[Progress, None, Answer]:
    """Explain one cell with the classifier of its slide.

    Parameters
    ----------
    session : Session
    slide : SlideModel
        Slide of the cell.
    question : Question
    cancel : CancelToken
        Checked between the steps.

    Yields
    ------
    Progress

    Returns
    -------
    Answer

    Raises
    ------
    LeukoclsError
        If the model is missing, or does not know the class.
    """
    from napari_leukocls.explanation import badge, cam, morphology
    from napari_leukocls.explanation.cells import crops_of, rows_of
    from napari_leukocls.measurement.nuclei import nuclear_shares

    yield Progress("explain", 0, 2)
    with session.networks:
        cancel.check()
        name = slide.result.run["classifier"]["name"]
        classifier = session.engine(slide.config.model_copy(update={"classifier": name})).classifier
        cancel.check()
        rows = rows_of(slide.result, [question.cell_id])
        crops = crops_of(slide.result, classifier, rows)
        probabilities = classifier.predict(crops).probabilities[0]
        order = [classifier.classes[i] for i in np.argsort(-probabilities)]
        target, other = _asked(question, order)
        method = cam.method_named(question.method) if question.method else cam.default_method(classifier.card)
        yield Progress("explain", 1, 2)
        cancel.check()
        targets = [classifier.classes.index(one) for one in (target, other)]
        maps = cam.heatmaps(classifier, np.repeat(crops, 2, axis=0), targets, method)
        cancel.check()
        share = nuclear_shares(slide.result.image.pixels, slide.result.labels, np.array([question.cell_id]))
        words = morphology.words(morphology.describe(classifier, crops)[0], float(share[0]))
    state, figures = badge(classifier.card, method)
    rule = classifier.card.crop
    um_per_px = slide.result.um_per_px
    (window,) = cam.cell_windows(rows, um_per_px, rule)
    step = rule.um_per_px / um_per_px
    half = (rule.side_px - 1) / 2 * step
    shares = dict(zip(classifier.classes, probabilities.tolist(), strict=True))
    return Answer(
        question.cell_id,
        crops[0],
        (target, other),
        maps,
        {one: shares[one] for one in order},
        (window.y - half, window.x - half),
        step,
        method,
        state,
        figures,
        words,
    )


def _asked(question: Question, order: list[str]) -> tuple[str, str]:
    """Return the two classes to explain: those of the question, else the most probable ones."""
    for name in (question.target, question.why_not):
        if name is not None and name not in order:
            raise ArgumentError(
                f"the model of this slide has no class {name}: choose one of {', '.join(order)}."
            )
    target = question.target or order[0]
    beside = question.why_not or next((name for name in order if name != target), target)
    return target, beside


def heat_over(crop: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draw a heatmap over a crop.

    Parameters
    ----------
    crop : numpy.ndarray
        (h, w, 3), uint8.
    heat : numpy.ndarray
        (h, w), 0-1.

    Returns
    -------
    numpy.ndarray
        (h, w, 3), uint8.
    """
    colour = np.stack([np.ones_like(heat), 0.85 * (1 - heat), np.zeros_like(heat)], axis=-1) * 255
    alpha = (0.75 * np.clip(heat, 0, 1))[..., None]
    array: np.ndarray = (crop * (1 - alpha) + colour * alpha).round().astype(np.uint8)
    return array
