"""Reports that are one file: HTML with its pictures inside, all text escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from napari_leukocls._version import __version__

_TEMPLATES = Path(__file__).parents[1] / "data"

NOTICE = "For research and for training. Not for diagnosis."


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "percent": percent, "limits": limits, "p": p_value}
    return environment


def render(template: str, pictures: Mapping[str, bytes], **values: Any) -> str:
    """Fill a template of the package's.

    Parameters
    ----------
    template : str
        ``evaluation`` or ``comparison``.
    pictures : mapping of str to bytes
        PNG files by the name that the template calls them.
    **values
        What the template shows.
    """
    inside = {
        name: "data:image/png;base64," + base64.b64encode(data).decode("ascii")
        for name, data in pictures.items()
    }
    page = _environment().get_template(f"{template}.html.j2")
    return page.render(pictures=inside, notice=NOTICE, version=__version__, **values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: Any, digits: int = 4) -> str:
    """A number with so many significant digits; a dash where there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.{digits}g}" if _is_number(value) else "–"


def percent(value: Any, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{100 * value:.{digits}f} %" if _is_number(value) else "–"


def limits(value: Any, digits: int = 4) -> str:
    """Two limits; empty where there are none."""
    if not value or not all(_is_number(limit) for limit in value):
        return ""
    return f"{value[0]:.{digits}g} to {value[1]:.{digits}g}"


def p_value(value: Any) -> str:
    """A p, never written as 0."""
    if not _is_number(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
