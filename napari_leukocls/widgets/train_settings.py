"""The settings of a training that the Train dock shows under Advanced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args, get_origin

from napari_leukocls.errors import ArgumentError

#: Settings with a control of their own, or that the dock sets itself.
PLAIN = {"version", "preset", "data", "corrections", "out", "name", "arch", "from_model", "epochs", "minutes"}


@dataclass(frozen=True)
class Setting:
    """A field of the training settings, for a control.

    Attributes
    ----------
    name, help : str
    default : object
    choices : tuple
        Where only these values are allowed.
    """

    name: str
    help: str
    default: Any
    choices: tuple[Any, ...] = ()


def advanced_settings() -> list[Setting]:
    """Return the settings that have no control of their own, in their order."""
    from napari_leukocls.training.config import TrainConfig

    found = []
    for name, info in TrainConfig.model_fields.items():
        if name in PLAIN:
            continue
        kind = info.annotation
        choices: tuple[Any, ...] = (False, True) if kind is bool else ()
        if get_origin(kind) is not None and all(isinstance(one, str) for one in get_args(kind)):
            choices = get_args(kind)
        found.append(Setting(name, info.description or "", info.default, choices))
    return found


def parsed(setting: Setting, text: str) -> Any:
    """Read what a person typed for a setting; `ArgumentError` where it is no value of its kind."""
    if isinstance(setting.default, (tuple, dict)) or setting.name in ("mean", "std"):
        import json

        try:
            if setting.name in ("mean", "std"):
                return tuple(float(part) for part in text.split(","))
            if isinstance(setting.default, dict):
                return json.loads(text)
            return tuple(part.strip() for part in text.split(",") if part.strip())
        except ValueError as error:
            raise ArgumentError(f"{setting.name}: '{text}' cannot be read ({error}).") from error
    return text
