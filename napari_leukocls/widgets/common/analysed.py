"""Results with the corrections of the review store. No Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.config import AnalyzeConfig, make_config
from napari_leukocls.errors import ArgumentError
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.types import FieldResult
from napari_leukocls.widgets.common import preferences

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


@dataclass(frozen=True)
class Place:
    """The case that a new result becomes a field of.

    Attributes
    ----------
    key : str or None
        Of the case in the review store. None: that of an earlier analysis of the same pixels, else a new case.
    name, identifier : str
        Of a new case.
    """

    key: str | None = None
    name: str = ""
    identifier: str = ""


def entered(session: Session, result: FieldResult, place: Place) -> tuple[str, Place]:
    """Add a result to the review store, in its case.

    Parameters
    ----------
    session : Session
    result : FieldResult
    place : Place

    Returns
    -------
    str
        Key of the slide.
    Place
        For the next field of the same case.

    Raises
    ------
    ReviewError
        If the learner of a proficiency round would see the classes.
    """
    store = session.store
    check_blind(session, result)
    key = place.key
    if key is None:
        known = store.find_case(result)
        if known is None:
            name = place.name or result.slide_id
            known = store.new_case(name, place.identifier, preferences.goal())
        key = known.key
    slide = store.add_slide(result, case=key, actor=session.reviewer)
    return slide, replace(place, key=key)


def check_blind(session: Session, result: FieldResult) -> None:
    """Refuse a slide whose cells a person in this window classifies blind, in an unfinished proficiency round.

    Parameters
    ----------
    session : Session
    result : FieldResult

    Raises
    ------
    ReviewError
    """
    from napari_leukocls.review.proficiency import Proficiency
    from napari_leukocls.review.slides import array_key

    people = {session.learner, session.reviewer} - {""}
    if people:
        Proficiency(session.store).check_blind(array_key(result.image.pixels), people)


def opened(
    session: Session, results: list[FieldResult], place: Place, cancel: CancelToken
) -> Generator[Progress, None, list[Analysed]]:
    """Add the results of the fields of one case to the review store, and apply its corrections.

    Parameters
    ----------
    session : Session
    results : list of FieldResult
        As they were read from a folder.
    place : Place
    cancel : CancelToken
        Checked between the fields.

    Yields
    ------
    Progress

    Returns
    -------
    list of Analysed
    """
    found = []
    for number, result in enumerate(results):
        cancel.check()
        yield Progress("store", number, len(results))
        key, place = entered(session, result, place)
        found.append(restored(session, result, key, _config_of(result)))
    return found


def _config_of(result: FieldResult) -> AnalyzeConfig:
    """The settings that a result was made with."""
    settings = {k: v for k, v in result.run.get("settings", {}).items() if k in AnalyzeConfig.model_fields}
    try:
        return make_config(**settings)
    except ArgumentError:
        # An older run may have a size that is refused now; the result contains its scale.
        return make_config(**settings | {"diameter_px": None, "pixel_size_um": None})


def read_folder(folder: Path) -> list[FieldResult]:
    """Read the results of a slide: its field, or all of its fields.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    list of FieldResult

    Raises
    ------
    InputError
        If the results or an image cannot be read.
    """
    from napari_leukocls.results.reader import read_fields

    return read_fields(folder)


def checked_formats(text: str) -> tuple[str, ...]:
    """Check the names of further formats.

    Parameters
    ----------
    text : str
        Separated by commas.

    Returns
    -------
    tuple of str

    Raises
    ------
    ArgumentError
        If there is no such format, or its library is not installed.
    """
    from napari_leukocls.results.exports import parse_formats

    return parse_formats(text)


def written(
    name: str, results: list[FieldResult], folder: Path, formats: tuple[str, ...] = (), counts: Any = None
) -> Generator[Progress, None, Path]:
    """Write the files of a slide into a folder.

    Parameters
    ----------
    name : str
        Of the slide's own folder.
    results : list of FieldResult
        Of its fields, as `CaseModel.for_export` gives them.
    folder : pathlib.Path
    formats : tuple of str
        Further formats.
    counts : pandas.DataFrame, optional
        The count of several fields, where it is one up to a goal.

    Yields
    ------
    Progress

    Returns
    -------
    pathlib.Path
        Folder of the slide, within `folder`.

    Raises
    ------
    OutputError
        If the files cannot be written.
    """
    from napari_leukocls.batch.joint_slide import write_fields
    from napari_leukocls.results.exports import write_exports
    from napari_leukocls.results.writer import write_result

    yield Progress("write", 0, 1)
    if len(results) > 1:
        return write_fields(name, results, folder, formats, counts)
    return write_result(results[0], folder, extra=[partial(write_exports, formats=formats)])["folder"]


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
    key = session.store.add_slide(result, actor=session.reviewer)
    return restored(session, result, key, slide.config)
