"""Folders: the user's own files, and the models and sample smears that come with the program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from napari_leukocls.errors import InputError

DEMO_SMEAR = "synthetic_teaching_normal"

_PACKAGE = Path(__file__).resolve().parent


def bundled_dir(kind: Literal["models", "sample_data"]) -> Path:
    """Find what comes with the program: inside the package in a wheel, at the root in a checkout.

    Parameters
    ----------
    kind : {"models", "sample_data"}

    Returns
    -------
    Path
        It may not exist.
    """
    inside = _PACKAGE / "_bundled" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def sample_smears() -> dict[str, Path]:
    """List the bundled smears.

    Returns
    -------
    dict of str to Path
        By name, sorted: images at the top of the folder, without label images.
    """
    folder = bundled_dir("sample_data")
    if not folder.is_dir():
        return {}
    images = [
        path for path in folder.iterdir() if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
    ]
    return {
        path.stem: path for path in sorted(images) if not path.stem.endswith(("_labels", "_truth", "_masks"))
    }


def sample_smear(name: str = DEMO_SMEAR) -> Path:
    """Find a bundled smear by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If it is missing from the installation.
    """
    smears = sample_smears()
    if name not in smears:
        raise InputError(f"the bundled smear '{name}' is missing; install napari-leukocls again.")
    return smears[name]


def user_data_dir() -> Path:
    """Find the folder of the user's own models, classes and choices.

    Returns
    -------
    Path
        What ``LEUKOCLS_DATA`` names, else the platform's folder of user data. It may not exist yet.
    """
    override = os.environ.get("LEUKOCLS_DATA")
    if override:
        return Path(override)
    return user_data_path("leukocls", appauthor=False)


def own_file(variable: str, name: str) -> Path | None:
    """Find a file of settings of the laboratory's own.

    Parameters
    ----------
    variable : str
        Environment variable that may name it.
    name : str
        Its name in the user's folder.

    Returns
    -------
    Path or None
        None if the variable is not set and the user's folder has no such file.
    """
    named = os.environ.get(variable)
    if named:
        return Path(named)
    own = user_data_dir() / name
    return own if own.is_file() else None


def changed_at(file: Path | None) -> int | None:
    """When a file was last changed, so that what was read from it is read again only if it has changed.

    Parameters
    ----------
    file : Path or None

    Returns
    -------
    int or None
        Nanoseconds; None if there is no such file, which the one that reads it reports.
    """
    try:
        return None if file is None else file.stat().st_mtime_ns
    except OSError:
        return None
