"""What a training tells whoever started it, as it happens; one line of JSON an event between processes."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import to_plain
from napari_leukocls.progress import Steps

T = TypeVar("T")

Kind = Literal[
    "started", "split", "warning", "log", "progress", "epoch", "finished", "stopped", "kept", "failed"
]

KINDS: tuple[str, ...] = get_args(Kind)

#: The last event of a training is one of these.
LAST = frozenset({"finished", "stopped", "kept", "failed"})


@dataclass(frozen=True)
class TrainEvent:
    """One thing that happened.

    Attributes
    ----------
    kind : str
        ``started``: the settings, the device, the classes. ``split``: crops of each class in each part, by
        what they are grouped, and how many were left out. ``warning``, ``log``: ``message``. ``progress``:
        ``stage``, ``done``, ``total``. ``epoch``: ``epoch`` of ``epochs``, ``loss`` and ``accuracy`` on the training
        crops as they were varied, ``lr``, ``val_loss``, ``val_macro_f1``, ``val_accuracy``, ``best``, ``seconds``,
        ``crops_per_s``, ``busy``; in repeats also
        ``repeat``. ``finished`` and ``stopped``: ``model`` (the folder) and its figures. ``kept``: an
        adaptation made nothing better; ``model`` (the folder of the old one), ``message``, ``adaptation``.
        ``failed``: ``message``.
    data : dict
        Plain values, as JSON has them.
    """

    kind: Kind
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the event as one line of JSON; what is no finite number becomes null.

        Returns
        -------
        str
        """
        return json.dumps({"kind": self.kind, "data": to_plain(self.data)}, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> TrainEvent:
        """Read what `to_json` wrote.

        Parameters
        ----------
        line : str

        Returns
        -------
        TrainEvent

        Raises
        ------
        InputError
            Where the line is no event.
        """
        try:
            raw = json.loads(line)
            kind, data = raw["kind"], raw["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"no training event: {line.strip()[:100]!r}.") from error
        if kind not in KINDS or not isinstance(data, dict):
            raise InputError(f"no training event: {line.strip()[:100]!r}.")
        return cls(kind, data)


def progress_events(steps: Steps[T]) -> Generator[TrainEvent, None, T]:
    """Turn the steps of long work into events of a training, and return its result.

    Parameters
    ----------
    steps : generator of Progress

    Yields
    ------
    TrainEvent
        Of the kind ``progress``.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        yield TrainEvent("progress", {"stage": step.stage, "done": step.done, "total": step.total})
