"""Reports as one HTML file each: pictures are inside the file, and all text is escaped."""

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
    environment.filters |= {
        "figure": figure,
        "percent": percent,
        "limits": limits,
        "p": p_value,
        "capitalize_first": capitalize_first,
    }
    return environment


def render(template: str, pictures: Mapping[str, bytes], **values: Any) -> str:
    """Fill one of the templates of this package.

    Parameters
    ----------
    template : str
        Name of a file ``<template>.html.j2`` in the folder ``data``: ``evaluation``, ``report``...
    pictures : mapping of str to bytes
        PNG files, by the names that the template uses.
    **values
        What the template shows.

    Returns
    -------
    str
        The page, HTML.
    """
    inside = {
        name: "data:image/png;base64," + base64.b64encode(data).decode("ascii")
        for name, data in pictures.items()
    }
    page = _environment().get_template(f"{template}.html.j2")
    return page.render(pictures=inside, notice=NOTICE, version=__version__, **values)


def capitalize_first(text: str) -> str:
    """Begin a sentence with a capital letter, and leave the rest as it is.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return text[:1].upper() + text[1:]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: Any, digits: int = 4) -> str:
    """A real number with significant digits, or an integer with its digits in groups of three.

    Parameters
    ----------
    value : int, float or None
    digits : int
        Significant digits of a real number.

    Returns
    -------
    str
        A dash if `value` is no finite number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.{digits}g}" if _is_number(value) else "–"


def percent(value: Any, digits: int = 1) -> str:
    """A share as a percentage.

    Parameters
    ----------
    value : float or None
        0 to 1.
    digits : int
        After the point.

    Returns
    -------
    str
        A dash if `value` is no finite number.
    """
    return f"{100 * value:.{digits}f} %" if _is_number(value) else "–"


def limits(value: Any, digits: int = 4) -> str:
    """The two limits of an interval.

    Parameters
    ----------
    value : sequence of float, or None
        Low and high.
    digits : int
        Significant digits.

    Returns
    -------
    str
        Empty if there are none.
    """
    if not value or not all(_is_number(limit) for limit in value):
        return ""
    return f"{value[0]:.{digits}g} to {value[1]:.{digits}g}"


def p_value(value: Any) -> str:
    """A p-value; a very small one is ``< 0.0001``, never 0.

    Parameters
    ----------
    value : float or None

    Returns
    -------
    str
        A dash if `value` is no finite number.
    """
    if not _is_number(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
