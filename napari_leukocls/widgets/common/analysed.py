"""Results with the corrections of the review store. No Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    from napari_leukocls.analysis.region import Edit
    from napari_leukocls.widgets.common.session import Session
    from napari_leukocls.widgets.common.slide_model import SlideModel


@dataclass(frozen=True)
class Analysed:
    """The result of an analysis, with the corrections of the review store.

    Attributes
    ----------
    result : FieldResult
        With corrections.
    key : str
        Key of the slide in the review store.
    config : AnalyzeConfig
    restored : int
        Number of corrections.
    added : FieldResult
        The result as it was given to the review store, which cuts images of cells from it.
    """

    result: FieldResult
    key: str
    config: AnalyzeConfig
    restored: int
    added: FieldResult


def restored(session: Session, result: FieldResult, key: str, config: AnalyzeConfig) -> Analysed:
    """Apply the corrections of the review store to a new result, and count it at the depth that is shown.

    Parameters
    ----------
    session : Session
    result : FieldResult
    key : str
        Key of the slide in the review store.
    config : AnalyzeConfig

    Returns
    -------
    Analysed
    """
    from napari_leukocls.measurement.fine import at_depth
    from napari_leukocls.measurement.red_cell_findings import with_given_shapes

    cells = session.store.apply(key, result.cells)
    corrected = int((cells["corrected_class"].fillna("") != "").sum())
    shown = at_depth(
        with_given_shapes(replace(result, cells=cells), session.scheme), session.depth, session.scheme
    )
    return Analysed(shown, key, config, corrected, result)


def edit_of(before: np.ndarray, after: np.ndarray) -> Edit | None:
    """Find the cells whose outlines differ between two label images.

    Parameters
    ----------
    before, after : numpy.ndarray, (H, W), int
        Labels; 0 is the background.

    Returns
    -------
    Edit or None
        None if nothing differs.
    """
    from napari_leukocls.analysis.region import find_edit

    return find_edit(before, after)


def edited(
    session: Session, slide: SlideModel, labels: np.ndarray, edit: Edit, cancel: CancelToken
) -> Generator[Progress, None, Analysed]:
    """Measure and classify the cells of an edit again, and add the result to the review store.

    Parameters
    ----------
    session : Session
    slide : SlideModel
        Before the edit.
    labels : numpy.ndarray
        Label image after the edit, (H, W).
    edit : Edit
        Cells and box that were changed.
    cancel : CancelToken
        Checked between the steps.

    Yields
    ------
    Progress

    Returns
    -------
    Analysed

    Raises
    ------
    LeukoclsError
        If the classifier of the slide is missing, or the work is cancelled.
    """
    from napari_leukocls.analysis.region import remeasure

    yield Progress("edit", 0, 1)
    with session.networks:
        cancel.check()
        # Use the classifier of the result, although another may be active now.
        config = slide.config.model_copy(update={"classifier": slide.result.run["classifier"]["name"]})
        engine = session.engine(config)
        result = remeasure(slide.added, labels, edit, engine)
    cancel.check()
    key = session.store.add_slide(result)
    return restored(session, result, key, slide.config)
