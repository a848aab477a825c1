"""The data of a training, without the window: from corrections, folders and tables to one table of crops."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_leukocls.errors import ArgumentError
from napari_leukocls.models.registry import find_model
from napari_leukocls.paths import user_data_dir
from napari_leukocls.progress import CancelToken, Progress

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.widgets.common.session import Session

#: One in so many of few crops is kept for the comparison.
TEST_EVERY = 3
#: A new class with fewer crops is left out: they would not do for training, choosing and testing.
LEAST_OF_NEW = 5


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


def iter_corrected_slides(session: Session) -> Generator[Progress, None, list[tuple[str, str, int]]]:
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

    known = known_classes(config)
    counts = Counter(crop.class_name for crop in one_spelling(list_crops(data, session.scheme)))
    least = LEAST_OF_NEW if known else 2
    return {
        name: n
        for name, n in counts.items()
        if n < least and session.scheme.coarsen(name, known) not in known
    }


def known_classes(config: TrainConfig) -> tuple[str, ...]:
    """Return the classes of the model that a training starts from.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    tuple of str
        Empty if it starts from a new network.
    """
    from napari_leukocls.models.card import read_card

    return tuple(read_card(find_model(config.from_model).path).classes) if config.from_model else ()


def iter_prepare(
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
