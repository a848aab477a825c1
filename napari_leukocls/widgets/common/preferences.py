"""The settings that napari stores for the plugin, if this version of napari stores any."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

PLUGIN = "napari-leukocls"


def _settings() -> Any:
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        # Before napari 0.9 plugins had no settings.
        return None
    try:
        return get_plugin_settings(PLUGIN)
    except KeyError:
        # The plugin was found after napari made its settings.
        return None


def reviewer() -> str:
    """Return the name of the reviewer that was entered last."""
    settings = _settings()
    return str(settings.review.reviewer or "") if settings is not None else ""


def keep_reviewer(name: str) -> None:
    """Store the reviewer's name for the next session.

    Parameters
    ----------
    name : str
    """
    settings = _settings()
    if settings is not None:
        settings.review.reviewer = name


def tile_size() -> int:
    """Return the width of a cell in the gallery that was chosen last, pixels of the screen; 0 for the usual one."""
    settings = _settings()
    return int(settings.review.tile_size or 0) if settings is not None else 0


def keep_tile_size(side: int) -> None:
    """Store the width of a cell in the gallery for the next session.

    Parameters
    ----------
    side : int
        Pixels of the screen.
    """
    settings = _settings()
    if settings is not None:
        settings.review.tile_size = side


def sound() -> bool:
    """Return whether the counter makes sounds."""
    settings = _settings()
    return bool(settings.review.sound) if settings is not None else True


def keep_sound(on: bool) -> None:
    """Store whether the counter makes sounds.

    Parameters
    ----------
    on : bool
    """
    settings = _settings()
    if settings is not None:
        settings.review.sound = on


def depth() -> str:
    """Return how finely classes were shown last: ``classes`` or ``fine``."""
    settings = _settings()
    return str(settings.analyse.depth) if settings is not None else "classes"


def keep_depth(depth: str) -> None:
    """Store how finely classes are shown for the next session.

    Parameters
    ----------
    depth : {"classes", "fine"}
    """
    settings = _settings()
    if settings is not None:
        settings.analyse.depth = depth


def device() -> str:
    """Return the device that the user prefers for the networks."""
    settings = _settings()
    return str(settings.analyse.device) if settings is not None else "auto"
