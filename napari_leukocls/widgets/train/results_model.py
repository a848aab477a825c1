"""What a training has given, without the window: the new model against the current one, promoted or kept."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.errors import InputError
from napari_leukocls.models.registry import active_classifier, find_model
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.widgets.texts import Train

if TYPE_CHECKING:
    from napari_leukocls.evaluation.promote import Promotion
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.events import TrainEvent
    from napari_leukocls.widgets.common.session import Session
    from napari_leukocls.widgets.common.training_run import TrainingRun


@dataclass(frozen=True)
class Results:
    """A new model set against the current one.

    Attributes
    ----------
    model : pathlib.Path
        Folder of the new one.
    data : pathlib.Path
        The crops of the test part.
    decision : Promotion or None
        None where the gate cannot judge; `problem` says why.
    metrics : tuple of dict
        Of the new and of the current model, as ``metrics.json``.
    reports : tuple of pathlib.Path
        Folders with figures and ``report.html`` of both.
    problem : str
    note : str
        What an adaptation changed and gains, where no crops were kept for the gate.
    lost : tuple of str
        What the current model can do and the new one cannot.
    carried : tuple of str
        What was carried over from the model that it was trained from.
    unchecked : bool
        Whether the heatmaps of the current model were checked, and those of the new one were not.
    """

    model: Path
    data: Path
    decision: Promotion | None
    metrics: tuple[dict[str, Any], ...]
    reports: tuple[Path, ...]
    problem: str = ""
    note: str = ""
    lost: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    unchecked: bool = False


def what_was_kept(last: TrainEvent, training: TrainingRun) -> str:
    """State which epoch's model a training has kept, if it ended before its last epoch.

    Parameters
    ----------
    last : TrainEvent
        Of the kind ``finished`` or ``stopped``.
    training : TrainingRun

    Returns
    -------
    str
        Empty if it went on to its end.
    """
    epochs = [
        event.data for event in training.events if event.kind == "epoch" and event.data.get("repeat") is None
    ]
    stopped = last.kind == "stopped"
    if not epochs:
        return Train.STOPPED_FITTED if stopped else ""
    done, planned, best = len(epochs), int(epochs[-1]["epochs"]), int(last.data.get("best_epoch") or 0)
    if stopped:
        return Train.STOPPED_EARLY.format(epoch=done, epochs=planned, best=best)
    return Train.ENDED_EARLY.format(best=best, epochs=done) if best and best < done else ""


def iter_results(
    session: Session, model: Path, config: TrainConfig, cancel: CancelToken
) -> Generator[Progress, None, Results]:
    """Measure the new and the current model on the test part, and ask the promotion gate.

    Parameters
    ----------
    session : Session
    model : Path
        Folder of the new model.
    config : TrainConfig
        Of the training.
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    Results
    """
    from napari_leukocls.evaluation.predict import assess
    from napari_leukocls.evaluation.promote import iter_decide
    from napari_leukocls.evaluation.report import write_evaluation
    from napari_leukocls.explanation.carry_over import HEATMAPS, carry_over, lost

    yield Progress("read", 0, 1)
    carried = tuple(carry_over(model, find_model(config.from_model).path)) if config.from_model else ()
    gone = tuple(lost(model, find_model(active_classifier()).path))
    plain = Results(
        model, Path(config.data), None, (), (), lost=gone, carried=carried, unchecked=HEATMAPS in gone
    )
    try:
        if config.without_labels:
            return replace(plain, note=adapted_note(model))
        data = test_part(model, config.data, session)
    except InputError as error:
        note = adapted_note(model)
        return replace(plain, note=note) if note else replace(plain, problem=str(error))
    with session.networks:
        data = yield from with_scales(data, session, config.device, cancel)
        metrics, reports = [], []
        for role, name in (("new", str(model)), ("current", active_classifier())):
            table, measured, details = yield from assess(name, data, config.device, None, cancel)
            folder = model.parent / f"evaluation_{role}"
            write_evaluation(folder, table, measured, details)
            metrics.append(measured)
            reports.append(folder)
        decision, problem = None, ""
        try:
            decision = yield from iter_decide(str(model), None, data, config.device, cancel=cancel)
        except InputError as error:
            problem = str(error)
    return replace(
        plain,
        data=data,
        decision=decision,
        metrics=tuple(metrics),
        reports=tuple(reports),
        problem=problem,
    )


def test_part(model: Path, data: str | Path, session: Session) -> Path:
    """Write the table of the crops that a training kept for its test.

    Parameters
    ----------
    model : Path
        Folder of the new model.
    data : path-like
        Of the training.
    session : Session

    Returns
    -------
    Path
        Of the table.

    Raises
    ------
    InputError
        If the training kept none.
    """
    from napari_leukocls.classification.crop_table import write_crop_table
    from napari_leukocls.classification.dataset import list_crops
    from napari_leukocls.models.provenance import SPLIT_NAME, read_split

    kept = {row.file for row in read_split(model / SPLIT_NAME) if row.split == "test"}
    crops = [crop for crop in list_crops(data, session.scheme) if crop.file in kept]
    if not crops:
        raise InputError("the training kept no crops for a test: nothing can be compared; give more data.")
    return write_crop_table([replace(crop, split="test") for crop in crops], model.parent / "test.csv")


def with_scales(
    data: Path, session: Session, device: str, cancel: CancelToken
) -> Generator[Progress, None, Path]:
    """Measure the scale of crops once and write it into their table: each comparison would measure it again.

    Parameters
    ----------
    data : Path
        Table of labelled crops.
    session : Session
    device : str
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    Path
        The same table; crops whose scale cannot be measured stay without one.
    """
    from napari_leukocls.classification.crop_table import write_crop_table
    from napari_leukocls.classification.dataset import list_crops
    from napari_leukocls.classification.single_cell import common_scales
    from napari_leukocls.device import resolve_device
    from napari_leukocls.segmentation.registry import compact

    crops = list_crops(data, session.scheme)
    if all(crop.um_per_px is not None for crop in crops):
        return data
    cancel.check()
    yield Progress("scale", 0, 1)
    scales, _ = common_scales(
        [crop.file for crop in crops],
        [crop.size() for crop in crops],
        lambda row: crops[row].surroundings(),
        [crop.um_per_px for crop in crops],
        math.nan,
        compact(resolve_device(device)),
    )
    measured = [
        replace(crop, um_per_px=scale if scale is not None and math.isfinite(scale) else None)
        for crop, scale in zip(crops, scales, strict=True)
    ]
    return write_crop_table(measured, data)


def adapted_note(model: Path) -> str:
    """State what an adaptation changed and gains.

    Parameters
    ----------
    model : Path
        Folder of the new model.

    Returns
    -------
    str
        Empty if the model was not adapted.
    """
    from napari_leukocls.models.card import read_card
    from napari_leukocls.training.adapt import adaptation_lines

    card = read_card(model)
    figures = {} if card.adaptation is None else card.adaptation.model_dump(mode="json")
    return " ".join(adaptation_lines(figures))


def iter_promote(found: Results, device: str, cancel: CancelToken) -> Generator[Progress, None, Promotion]:
    """Make the new model the active one by the comparison that was just made, and write it down.

    Both models are compared again only if another model has become the active one in the meantime.

    Parameters
    ----------
    found : Results
    device : str
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    Promotion
    """
    from napari_leukocls.evaluation.promote import carry_out, iter_decide

    yield Progress("promote", 0, 1)
    decision = found.decision
    if decision is None or decision.current.name != active_classifier():
        decision = yield from iter_decide(str(found.model), None, found.data, device, cancel=cancel)
    carry_out(decision, found.model.parent)
    return decision


def iter_recheck_heatmaps(
    session: Session, found: Results, device: str, cancel: CancelToken
) -> Generator[Progress, None, Results]:
    """Check the heatmaps of the new model on the crops that it was not trained on.

    Parameters
    ----------
    session : Session
    found : Results
    device : str
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    Results
        With what is lost now.

    Raises
    ------
    InputError
        If there are too few crops.
    """
    from napari_leukocls.explanation.carry_over import HEATMAPS, lost
    from napari_leukocls.explanation.recheck import iter_recheck

    with session.networks:
        yield from iter_recheck(found.model, found.data, device, cancel)
    gone = tuple(lost(found.model, find_model(active_classifier()).path))
    return replace(found, lost=gone, unchecked=HEATMAPS in gone)


def keep(found: Results) -> str:
    """Copy the new model into the user's models; the active model stays the same.

    Parameters
    ----------
    found : Results

    Returns
    -------
    str
        Name of the copy.
    """
    from napari_leukocls.models.install import install_folder
    from napari_leukocls.models.registry import list_models

    taken = {entry.name for entry in list_models()}
    name, number = found.model.name, 2
    while name in taken:
        name, number = f"{found.model.name}-{number}", number + 1
    return install_folder(found.model, name).name
