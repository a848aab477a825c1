"""Models by name: which there are, where they are, and which classifier is active; no torch, quick to import.

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
from napari_leukocls.io.atomic import make_folder
from napari_leukocls.io.serialise import write_json
from napari_leukocls.paths import bundled_dir, user_data_dir

CARD_NAME = "model.json"

WEIGHTS_NAME = "weights.safetensors"

DEFAULT_CLASSIFIER = "default"
#: The model of the shapes of red cells.
RED_CELLS = "red_cells"

Origin = Literal["environment", "user", "bundled"]


def read_card_json(folder: Path) -> dict[str, Any]:
    """Read ``model.json`` of any kind of model without checking its fields.

    This is quick. `napari_leukocls.models.card.read_card` reads the card of a classifier and checks it.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    dict

    Raises
    ------
    ModelError
        If the card is missing, cannot be read, or is no JSON object.
    """
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
    """A model that was found.

    Attributes
    ----------
    name : str
    path : Path
        Its folder.
    origin : {"environment", "user", "bundled"}
        Where it was found: in ``LEUKOCLS_MODELS`` or by its path, in the user's data folder, or among the models
        that come with the program.
    """

    name: str
    path: Path
    origin: Origin

    @property
    def weights(self) -> Path:
        """File of the weights; it may be missing or damaged."""
        return self.path / WEIGHTS_NAME

    def card(self) -> dict[str, Any]:
        """Read the model's card without checking its fields; see `read_card_json`.

        Returns
        -------
        dict

        Raises
        ------
        ModelError
            If the card is missing, cannot be read, or is no JSON object.
        """
        return read_card_json(self.path)


def models_search_path() -> list[tuple[Origin, Path]]:
    """List the folders in which models are searched.

    Returns
    -------
    list of (str, Path)
        Origin and folder, in the order of the search; some may not exist.
    """
    own = os.environ.get("LEUKOCLS_MODELS", "")
    path: list[tuple[Origin, Path]] = [("environment", Path(part)) for part in own.split(os.pathsep) if part]
    path.append(("user", user_data_dir() / "models"))
    path.append(("bundled", bundled_dir("models")))
    return path


def list_models() -> list[ModelEntry]:
    """List all models that can be used by name.

    Returns
    -------
    list of ModelEntry
        Sorted by name; of two models with one name, the one that is found first.

    Raises
    ------
    ModelError
        If one of the folders may not be read.
    """
    found: dict[str, ModelEntry] = {}
    for origin, folder in models_search_path():
        try:
            # Hidden folders are copies that are not whole yet.
            inside = (
                [path for path in folder.iterdir() if not path.name.startswith(".")]
                if folder.is_dir()
                else []
            )
            paths = [path for path in inside if (path / CARD_NAME).is_file()]
        except PermissionError as error:
            raise ModelError(
                f"the folder of models '{folder}' may not be read: change its rights, or name another data folder in "
                "LEUKOCLS_DATA."
            ) from error
        for path in paths:
            found.setdefault(path.name, ModelEntry(path.name, path, origin))
    return sorted(found.values(), key=lambda entry: entry.name)


def find_model(name: str | os.PathLike[str]) -> ModelEntry:
    """Find a model.

    Parameters
    ----------
    name : str or path-like
        Its name, the path of its folder, or the path of a folder that holds this model alone.

    Returns
    -------
    ModelEntry

    Raises
    ------
    ModelError
        If there is none; the message names the most similar one.
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
    """Return the name of the classifier that is used if none is named.

    Returns
    -------
    str
        The user's choice, else the bundled default.

    Raises
    ------
    ModelError
        If the user's ``active.json`` is damaged.
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
    """Make a model the one that is used if none is named.

    Parameters
    ----------
    name : str

    Raises
    ------
    ModelError
        If there is no such model.
    OutputError
        If the choice cannot be saved.
    """
    entry = find_model(name)
    file = _active_file()
    make_folder(file.parent)
    write_json(file, {"classifier": entry.name})


def _active_file() -> Path:
    return user_data_dir() / "active.json"


def _suggestion(text: str, names: list[str]) -> str:
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    if names:
        return f"there are {', '.join(sorted(names))}."
    return "no models are installed; set LEUKOCLS_MODELS to a folder of models."
