"""What the Train dock does, without its window: data together, preview, settings, results, promotion."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.models.registry import active_classifier, find_model
from napari_leukocls.paths import user_data_dir
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.widgets.common.wording import in_dock_words
from napari_leukocls.widgets.texts import Train

if TYPE_CHECKING:
    from napari_leukocls.evaluation.promote import Promotion
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.events import TrainEvent
    from napari_leukocls.widgets.common.session import Session
    from napari_leukocls.widgets.common.training_run import TrainingRun

#: One in so many of few crops is kept for the comparison.
TEST_EVERY = 3
#: A new class with fewer crops is left out: they would not do for training, choosing and testing.
LEAST_OF_NEW = 5
#: A new class with fewer crops is trained, with a warning.
FEW_OF_NEW = 10


@dataclass(frozen=True)
class Sources:
    """Where labelled crops come from.

    Attributes
    ----------
    slides : tuple of str
        Keys of the slides whose corrections are taken.
    paths : tuple of pathlib.Path
        Folders of class folders, and CSVs.
    """

    slides: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.slides or self.paths)


@dataclass
class Preview:
    """What a training would be made of.

    Attributes
    ----------
    counts : dict of str to dict of str to int
        Crops of each part, by class.
    classes : list of str
    warnings : list of str
        What is wrong with the data, leakage first of all.
    grouped_by : str
    crops : int
    left_out : dict of str to int
        Crops of the classes that have too few, and are not trained on.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    grouped_by: str = ""
    crops: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


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


def listed(session: Session) -> Generator[Progress, None, list[tuple[str, str, int]]]:
    """List the slides of the review store that have corrections.

    Parameters
    ----------
    session : Session

    Yields
    ------
    Progress

    Returns
    -------
    list of tuple
        Key, name, and number of corrections of each slide.
    """
    yield Progress("read", 0, 1)
    return [(row.key, row.slide_id, row.n_corrections) for row in session.store.slides() if row.n_corrections]


def class_counts(session: Session, sources: Sources) -> dict[str, int]:
    """Count the labelled crops of each class.

    Parameters
    ----------
    session : Session
    sources : Sources

    Returns
    -------
    dict of str to int
        The most frequent class first.

    Raises
    ------
    InputError
        If a folder or a CSV has no labelled crops.
    """
    from napari_leukocls.classification.dataset import list_crops

    counts: Counter[str] = Counter()
    if sources.slides:
        counts.update(session.store.crop_table(sources.slides).class_counts())
    for path in sources.paths:
        counts.update(crop.class_name for crop in list_crops(path, session.scheme))
    return dict(counts.most_common())


def new_folder(name: str) -> Path:
    """Choose a folder for a training; the time is part of its name.

    Parameters
    ----------
    name : str
        Of the model; may be empty.

    Returns
    -------
    Path
        It does not exist yet.
    """
    return user_data_dir() / "trainings" / f"{name or 'training'}-{time.strftime('%Y%m%d-%H%M%S')}"


def gather_data(session: Session, sources: Sources, folder: Path) -> Path:
    """Bring all sources into one table of labelled crops.

    Parameters
    ----------
    session : Session
    sources : Sources
    folder : Path
        Of the training; corrections are written there as images, with their outlines and the colours of their
        smear, so that they are cut as ``train --corrections`` cuts them.

    Returns
    -------
    Path
        A folder or a CSV that ``train`` reads.

    Raises
    ------
    ArgumentError
        If no source is chosen.
    InputError
        If a folder or a CSV is none of labelled crops.
    """
    from napari_leukocls.classification.crop_table import write_crop_table
    from napari_leukocls.classification.dataset import list_crops
    from napari_leukocls.io.atomic import make_folder

    if not sources:
        raise ArgumentError("choose data first: corrections, a folder or a table of labelled crops.")
    paths = list(sources.paths)
    if sources.slides:
        table = session.store.crop_table(sources.slides)
        if len(table):
            paths.append(table.write(make_folder(folder) / "corrections"))
    if len(paths) == 1:
        return paths[0]
    crops = [crop for path in paths for crop in list_crops(path, session.scheme)]
    return write_crop_table(crops, make_folder(folder) / "data.csv")


def with_test_part(session: Session, data: Path, folder: Path) -> Path:
    """Keep every third patient, slide or crop of each class for the comparison with the current model.

    Presets that learn from few crops cross-validate them and keep none back by themselves; without cells that
    the new model has not seen nobody can say whether it is better.

    Parameters
    ----------
    session : Session
    data : Path
        A folder or a table of labelled crops. One that names its parts already is left as it is.
    folder : Path
        Of the training.
    """
    from napari_leukocls.classification.crop_table import write_crop_table
    from napari_leukocls.classification.dataset import list_crops
    from napari_leukocls.io.atomic import make_folder

    crops = list_crops(data, session.scheme)
    if any(crop.split for crop in crops):
        return data
    seen: Counter[str] = Counter()
    parts: dict[str, str] = {}
    for crop in crops:
        unit = crop.patient or crop.slide or crop.file
        if unit not in parts:
            seen[crop.class_name] += 1
            parts[unit] = "test" if seen[crop.class_name] % TEST_EVERY == 0 else "train"
    split = [replace(crop, split=parts[crop.patient or crop.slide or crop.file]) for crop in crops]
    return write_crop_table(split, make_folder(folder) / "data.csv")


def adapt_config(data: str, name: str, model: str) -> TrainConfig:
    """Return the settings of an adaptation to a laboratory.

    Parameters
    ----------
    data : str
        Folder of images, or of folders named after classes.
    name : str
        Of the new model; may be empty.
    model : str
        The model to adapt.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ArgumentError
        If the name is not valid.
    """
    from napari_leukocls.training.config import make_train_config
    from napari_leukocls.training.data import has_classes

    out = str(new_folder(name or f"{Path(model).name}-adapt"))
    labelled = has_classes(data)
    return make_train_config(
        "adapt", data=data, from_model=model, name=name, out=out, without_labels=not labelled
    )


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


def too_few(session: Session, data: Path, config: TrainConfig) -> dict[str, int]:
    """Count the crops of classes that have too few to be trained.

    A class that the model to start from knows may have any number.

    Parameters
    ----------
    session : Session
    data : Path
        A folder or a table of labelled crops.
    config : TrainConfig
        Names the model to start from, if there is one.

    Returns
    -------
    dict of str to int
        By class, as the data names it.
    """
    from napari_leukocls.classification.dataset import list_crops
    from napari_leukocls.training.data import one_spelling

    known = _known(config)
    counts = Counter(crop.class_name for crop in one_spelling(list_crops(data, session.scheme)))
    least = LEAST_OF_NEW if known else 2
    return {
        name: n
        for name, n in counts.items()
        if n < least and session.scheme.coarsen(name, known) not in known
    }


def _known(config: TrainConfig) -> tuple[str, ...]:
    from napari_leukocls.models.card import read_card

    return tuple(read_card(find_model(config.from_model).path).classes) if config.from_model else ()


def prepared(
    session: Session, sources: Sources, config: TrainConfig, folder: Path, cancel: CancelToken
) -> Generator[Progress, None, tuple[TrainConfig, dict[str, int]]]:
    """Bring the data of a training together, and leave out the classes that have too few crops.

    Parameters
    ----------
    session : Session
    sources : Sources
    config : TrainConfig
        The settings; those of the data are filled in.
    folder : Path
        Of the training.
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    config : TrainConfig
    left_out : dict of str to int
        Crops of each class that is left out.

    Raises
    ------
    ArgumentError, InputError
        If no source is chosen, or one holds no labelled crops.
    """
    yield Progress("read", 0, 1)
    data = gather_data(session, sources, folder)
    cancel.check()
    if config.rehearse:
        data = with_test_part(session, data, folder)
    few = too_few(session, data, config)
    leave_out = tuple(dict.fromkeys([*config.leave_out, *few]))
    return config.model_copy(update={"data": str(data), "leave_out": leave_out}), few


def checked(
    session: Session, sources: Sources, config: TrainConfig, cancel: CancelToken
) -> Generator[Progress, None, Preview]:
    """Check the data of a training as `preview` does; nothing of it is kept.

    Parameters
    ----------
    session : Session
    sources : Sources
    config : TrainConfig
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    Preview

    Raises
    ------
    ArgumentError, InputError
        If the data cannot be used for a training.
    """
    with tempfile.TemporaryDirectory(prefix="leukocls-check-") as folder:
        made, few = yield from prepared(session, sources, config, Path(folder), cancel)
        found = yield from preview(made, cancel)
    found.left_out = few
    found.warnings = [in_dock_words(text[:1].upper() + text[1:]) for text in found.warnings]
    known = _known(config)
    if known:
        total = Counter(
            {name: sum(part.get(name, 0) for part in found.counts.values()) for name in found.classes}
        )
        found.warnings += [
            Train.FEW_NEW.format(name=_display(session, name), n=total[name], least=FEW_OF_NEW)
            for name in found.classes
            if name not in known and 0 < total[name] < FEW_OF_NEW
        ]
    return found


def _display(session: Session, name: str) -> str:
    return session.scheme[name].display if name in session.scheme else name


def preview(config: TrainConfig, cancel: CancelToken) -> Generator[Progress, None, Preview]:
    """Read the data, check it, and split it as the training will do.

    Parameters
    ----------
    config : TrainConfig
    cancel : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    Preview

    Raises
    ------
    InputError
        If the data cannot be used for a training.
    """
    from napari_leukocls.training.data import gather
    from napari_leukocls.training.split import make_split

    found = Preview()

    def followed(events: Any) -> Generator[Progress, None, Any]:
        while True:
            cancel.check()
            try:
                event = next(events)
            except StopIteration as end:
                return end.value
            data = event.data
            if event.kind == "warning":
                found.warnings.append(str(data["message"]))
            elif event.kind == "split":
                found.counts, found.grouped_by = data["counts"], str(data["grouped_by"])
                found.classes = list(data["classes"])
            elif event.kind == "progress":
                yield Progress("check", int(data["done"]), int(data["total"]))

    known = _known(config)
    dataset = yield from followed(gather(config, known))
    classes = list(known) + sorted(set(dataset.labels) - set(known))
    found.crops = len(dataset)
    yield from followed(make_split(dataset, config, classes))
    return found


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


def results(
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


def promoted(found: Results, device: str, cancel: CancelToken) -> Generator[Progress, None, Promotion]:
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


def rechecked(
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
