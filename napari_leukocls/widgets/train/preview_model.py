"""What a training would be made of, without the window: its crops by class and part, and what is wrong with them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.widgets.common.wording import in_dock_words
from napari_leukocls.widgets.texts import Train
from napari_leukocls.widgets.train.data_model import Sources, iter_prepare, known_classes

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.widgets.common.session import Session

#: A new class with fewer crops is trained, with a warning.
FEW_OF_NEW = 10


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


def iter_check(
    session: Session, sources: Sources, config: TrainConfig, cancel: CancelToken
) -> Generator[Progress, None, Preview]:
    """Check the data of a training as `iter_preview` does; nothing of it is kept.

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
        made, few = yield from iter_prepare(session, sources, config, Path(folder), cancel)
        found = yield from iter_preview(made, cancel)
    found.left_out = few
    found.warnings = [in_dock_words(text[:1].upper() + text[1:]) for text in found.warnings]
    known = known_classes(config)
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


def iter_preview(config: TrainConfig, cancel: CancelToken) -> Generator[Progress, None, Preview]:
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

    known = known_classes(config)
    dataset = yield from followed(gather(config, known))
    classes = list(known) + sorted(set(dataset.labels) - set(known))
    found.crops = len(dataset)
    yield from followed(make_split(dataset, config, classes))
    return found


def _display(session: Session, name: str) -> str:
    return session.scheme[name].display if name in session.scheme else name
