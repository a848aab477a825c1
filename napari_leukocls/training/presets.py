"""Recipes by name: a few lines of data each, in ``data/training_presets.toml``."""

from __future__ import annotations

import difflib
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_leukocls.errors import ArgumentError
from napari_leukocls.training.config import TrainConfig, make_checked

PRESETS_FILE = Path(__file__).parent.parent / "data" / "training_presets.toml"


@lru_cache(maxsize=1)
def _presets() -> dict[str, dict[str, Any]]:
    return tomllib.loads(PRESETS_FILE.read_text(encoding="utf-8"))


def preset_names() -> tuple[str, ...]:
    """Names of the recipes, in the order of their file."""
    return tuple(_presets())


def preset_summary(name: str) -> str:
    """What a recipe is for, in one line."""
    return str(_recipe(name)["summary"])


def preset_settings(name: str) -> dict[str, Any]:
    """The settings that a recipe states; all others keep their defaults.

    Raises
    ------
    ArgumentError
        Where there is no such recipe; the nearest is suggested.
    """
    return {key: value for key, value in _recipe(name).items() if key != "summary"}


def make_train_config(preset: str | None = None, **overrides: Any) -> TrainConfig:
    """Build the settings of a training: defaults, then the recipe's, then what is given here.

    Parameters
    ----------
    preset : str, optional
    **overrides
        Fields of `TrainConfig`.

    Raises
    ------
    ArgumentError
        With one line, where a setting or the recipe's name is wrong.
    """
    settings = preset_settings(preset) if preset else {}
    # A recipe's architecture is a proposal: a model or another architecture takes its place.
    if overrides.get("from_model"):
        for name in ("arch", "arguments", "side_px"):
            settings.pop(name, None)
    elif overrides.get("arch"):
        settings.pop("arguments", None)
    if overrides.get("arch"):
        settings.pop("from_model", None)
    return make_checked(**{**settings, "preset": preset or "", **overrides})


def _recipe(name: str) -> dict[str, Any]:
    presets = _presets()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(presets)}."
        raise ArgumentError(f"there is no training preset {name!r}; {hint}")
    return presets[name]
