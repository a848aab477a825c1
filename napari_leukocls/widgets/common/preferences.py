"""What napari keeps of the plugin's settings between sessions, where this napari keeps any."""

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
    """Name of the reviewer as it was last entered."""
    settings = _settings()
    return str(settings.review.reviewer or "") if settings is not None else ""


def keep_reviewer(name: str) -> None:
    """Keep the reviewer's name for the next session."""
    settings = _settings()
    if settings is not None:
        settings.review.reviewer = name


def device() -> str:
    """Device of the networks that the user prefers."""
    settings = _settings()
    return str(settings.analyse.device) if settings is not None else "auto"
