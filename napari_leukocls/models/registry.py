"""Where models, sample smears and the user's own data are; no torch, and quick to import.

Models are looked for in the folders of ``LEUKOCLS_MODELS``, in the user's data folder and among the bundled
ones, in this order; the first of a name wins. A model is a folder with ``model.json`` and
``weights.safetensors``.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_leukocls.errors import ModelError
from napari_leukocls.io.atomic import atomic_text, make_folder
from napari_leukocls.paths import bundled_dir, user_data_dir

CARD_NAME = "model.json"

WEIGHTS_NAME = "weights.safetensors"

DEFAULT_CLASSIFIER = "default"

Origin = Literal["environment", "user", "bundled"]


def read_card_json(folder: Path) -> dict[str, Any]:
    """Read ``model.json`` of a model's folder; `ModelError` where it cannot be read or is no JSON object."""
    file = folder / CARD_NAME
    again = "copy the model again from its source"
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} has no {CARD_NAME}: it is no model folder; copy the whole folder again."
        ) from error
    except OSError as error:
        raise ModelError(f"the card '{file}' cannot be read ({error.strerror}); {again}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the card '{file}' is not valid JSON ({error}); {again}.") from error
    if not isinstance(card, dict):
        raise ModelError(f"the card '{file}' is not a JSON object; {again}.")
    return card


@dataclass(frozen=True)
class ModelEntry:
    """A model that was found: its name, its folder, and which of the places it lies in."""

    name: str
    path: Path
    origin: Origin

    @property
    def weights(self) -> Path:
        """The weights; they may be missing or damaged."""
        return self.path / WEIGHTS_NAME

    def card(self) -> dict[str, Any]:
        """The model's card.

        Raises
        ------
        ModelError
            Where ``model.json`` cannot be read or is no JSON object.
        """
        return read_card_json(self.path)


def models_search_path() -> list[tuple[Origin, Path]]:
    """Folders that models are looked for in, first match first; some may not exist."""
    own = os.environ.get("LEUKOCLS_MODELS", "")
    path: list[tuple[Origin, Path]] = [("environment", Path(part)) for part in own.split(os.pathsep) if part]
    path.append(("user", user_data_dir() / "models"))
    path.append(("bundled", bundled_dir("models")))
    return path


def list_models() -> list[ModelEntry]:
    """All models that can be used by name, sorted; of two with one name, the one that is found first."""
    found: dict[str, ModelEntry] = {}
    for origin, folder in models_search_path():
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            # Hidden folders are copies that are not whole yet.
            if (path / CARD_NAME).is_file() and not path.name.startswith("."):
                found.setdefault(path.name, ModelEntry(path.name, path, origin))
    return sorted(found.values(), key=lambda entry: entry.name)


def find_model(name: str | os.PathLike[str]) -> ModelEntry:
    """Find a model by its name, or by the path of its folder, or of a folder that holds it alone.

    Raises
    ------
    ModelError
        Where there is none; the message names the nearest.
    """
    text = os.fspath(name)
    entries = {entry.name: entry for entry in list_models()}
    if text in entries:
        return entries[text]
    path = Path(text)
    if (path / CARD_NAME).is_file():
        return ModelEntry(path.resolve().name, path, "environment")
    inside = [child.parent for child in path.glob(f"[!.]*/{CARD_NAME}")] if path.is_dir() else []
    if len(inside) == 1:
        return ModelEntry(inside[0].resolve().name, inside[0], "environment")
    if len(inside) > 1:
        names = ", ".join(sorted(child.name for child in inside))
        raise ModelError(f"'{text}' holds several models ({names}); give the folder of one.")
    if path.is_file():
        raise ModelError(f"'{text}' is a file, not a model; give the folder that holds its {CARD_NAME}.")
    raise ModelError(f"there is no model '{text}'; {_suggestion(text, list(entries))}")


def active_classifier() -> str:
    """Name of the classifier that is used where none is named: the user's choice, else the bundled default.

    Raises
    ------
    ModelError
        Where the user's ``active.json`` is damaged.
    """
    file = _active_file()
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["classifier"]
    except FileNotFoundError:
        return DEFAULT_CLASSIFIER
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"'{file}' does not name a classifier; delete it to use '{DEFAULT_CLASSIFIER}' again."
        ) from error
    if not isinstance(name, str) or not name:
        raise ModelError(
            f"'{file}' does not name a classifier; delete it to use '{DEFAULT_CLASSIFIER}' again."
        )
    return name


def set_active_classifier(name: str) -> None:
    """Make a model the one that is used where none is named.

    Raises
    ------
    ModelError
        Where there is no such model.
    OutputError
        Where the choice cannot be saved.
    """
    entry = find_model(name)
    file = _active_file()
    make_folder(file.parent)
    atomic_text(file, json.dumps({"classifier": entry.name}, indent=2) + "\n")


def _active_file() -> Path:
    return user_data_dir() / "active.json"


def _suggestion(text: str, names: list[str]) -> str:
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    if names:
        return f"there are {', '.join(sorted(names))}."
    return "no models are installed; set LEUKOCLS_MODELS to a folder of models."
