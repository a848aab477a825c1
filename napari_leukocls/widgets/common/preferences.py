"""What the docks remember: in napari's settings, else in a file of the user's data folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.io.atomic import atomic_write
from napari_leukocls.paths import user_data_dir

log = logging.getLogger(__name__)

PLUGIN = "napari-leukocls"
#: Name of the folder of an exported slide, as long as nobody has chosen another.
DEFAULT_PATTERN = "{slide}"


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


def _file() -> Path:
    return user_data_dir() / "preferences.json"


def _of_file() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Nothing was chosen yet, or the file is damaged: the choices are made anew.
        return {}
    return found if isinstance(found, dict) else {}


def _get(section: str, name: str, default: Any) -> Any:
    settings = _settings()
    part = None if settings is None else getattr(settings, section, None)
    if part is not None and hasattr(part, name):
        return getattr(part, name)
    return _of_file().get(f"{section}.{name}", default)


def _keep(section: str, name: str, value: Any) -> None:
    settings = _settings()
    part = None if settings is None else getattr(settings, section, None)
    if part is not None and hasattr(part, name):
        setattr(part, name, value)
        return
    try:
        with atomic_write(_file(), "w") as file:
            json.dump({**_of_file(), f"{section}.{name}": value}, file, indent=1)
    except (OSError, LeukoclsError) as error:
        # The choice holds for this session; work must not stop for it.
        log.warning("a choice is not remembered: %s", error)


def reviewer() -> str:
    """Return the name of the reviewer that was entered last."""
    return str(_get("review", "reviewer", "") or "")


def keep_reviewer(name: str) -> None:
    """Store the reviewer's name for the next session.

    Parameters
    ----------
    name : str
    """
    _keep("review", "reviewer", name)


def goal() -> int | None:
    """Return how many leukocytes were to be counted last; None for all."""
    found = _get("review", "goal", 0)
    return int(found) if isinstance(found, int | float) and found > 0 else None


def keep_goal(goal: int | None) -> None:
    """Store how many leukocytes are counted, for the next slide.

    Parameters
    ----------
    goal : int or None
        None for all.
    """
    _keep("review", "goal", goal or 0)


def tile_size() -> int:
    """Return the width of a cell in the gallery that was chosen last, pixels of the screen; 0 for the usual one."""
    found = _get("review", "tile_size", 0)
    return int(found) if isinstance(found, int | float) and found > 0 else 0


def keep_tile_size(side: int) -> None:
    """Store the width of a cell in the gallery for the next session.

    Parameters
    ----------
    side : int
        Pixels of the screen.
    """
    _keep("review", "tile_size", side)


def sound() -> bool:
    """Return whether the counter makes sounds."""
    return bool(_get("review", "sound", True))


def keep_sound(on: bool) -> None:
    """Store whether the counter makes sounds.

    Parameters
    ----------
    on : bool
    """
    _keep("review", "sound", on)


def review_filter() -> tuple[str, str]:
    """Return which cells the gallery showed last: the kind of cells, and the group; "" for the first one."""
    return str(_get("review", "kind", "") or ""), str(_get("review", "group", "") or "")


def keep_review_filter(kind: str, group: str) -> None:
    """Store which cells the gallery shows, for the next slide and the next session.

    Parameters
    ----------
    kind : str
        "" for the leukocytes.
    group : str
        Name of a group of this kind; "" for the first one.
    """
    _keep("review", "kind", kind)
    _keep("review", "group", group)


def review_sort() -> str:
    """Return the order of the gallery that was chosen last; "" for the usual one."""
    return str(_get("review", "sort", "") or "")


def keep_review_sort(order: str) -> None:
    """Store the order of the gallery.

    Parameters
    ----------
    order : {"doubt", "size", "place"}
    """
    _keep("review", "sort", order)


def depth() -> str:
    """Return how finely classes were shown last: ``classes`` or ``fine``."""
    return str(_get("analyse", "depth", "classes"))


def keep_depth(depth: str) -> None:
    """Store how finely classes are shown for the next session.

    Parameters
    ----------
    depth : {"classes", "fine"}
    """
    _keep("analyse", "depth", depth)


def device() -> str:
    """Return the device that the user prefers for the networks."""
    return str(_get("analyse", "device", "auto"))


def only_review() -> bool:
    """Return whether only the cells that need review were coloured last."""
    return bool(_get("analyse", "only_review", False))


def keep_only_review(only: bool) -> None:
    """Store whether only the cells that need review are coloured.

    Parameters
    ----------
    only : bool
    """
    _keep("analyse", "only_review", only)


def coloured_class() -> str:
    """Return the class whose cells alone were coloured last; "" for all classes."""
    return str(_get("analyse", "coloured_class", "") or "")


def keep_coloured_class(name: str) -> None:
    """Store the class whose cells alone are coloured.

    Parameters
    ----------
    name : str
        "" for all classes.
    """
    _keep("analyse", "coloured_class", name)


def export_folder() -> str:
    """Return the folder that slides were exported to last; "" if none was chosen."""
    return str(_get("export", "folder", "") or "")


def keep_export_folder(folder: str) -> None:
    """Store the folder that slides are exported to.

    Parameters
    ----------
    folder : str
    """
    _keep("export", "folder", folder)


def export_pattern() -> str:
    """Return how the folder of an exported slide is named, such as ``{identifier}_{date}``."""
    return str(_get("export", "pattern", "") or DEFAULT_PATTERN)


def keep_export_pattern(pattern: str) -> None:
    """Store how the folder of an exported slide is named.

    Parameters
    ----------
    pattern : str
    """
    _keep("export", "pattern", pattern)


def export_formats() -> tuple[str, ...]:
    """Return the further formats that slides are exported in."""
    return tuple(word for word in str(_get("export", "formats", "") or "").split(",") if word)


def keep_export_formats(formats: tuple[str, ...]) -> None:
    """Store the further formats that slides are exported in.

    Parameters
    ----------
    formats : tuple of str
    """
    _keep("export", "formats", ",".join(formats))
