"""Separate channels: which of them are red, green and blue, and which are fluorescence."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from napari_leukocls.errors import InputError

#: Share of the brightest parts below which the ground of a picture is dark.
DARK_GROUND = 0.2
_COLOURS = {"red": 0, "r": 0, "green": 1, "g": 1, "blue": 2, "b": 2}
#: Dyes and proteins of fluorescence, as channels are named after them.
_DYES = re.compile(
    r"dapi|hoechst|fitc|tritc|e?[gycrb]fp\b|mcherry|dsred|td-?tomato|texas|rhodamine|alexa|atto|draq|sytox|"
    r"\bcy ?[2357]\b|\b(af|a)?(405|488|546|555|561|568|594|633|647|680)\b|fluor|propidium|phalloidin",
    re.IGNORECASE,
)


def colour_order(
    names: Sequence[str], count: int, source: str, fluorescence: bool = False
) -> tuple[int, int, int]:
    """Which of several channels are red, green and blue.

    Parameters
    ----------
    names : sequence of str
        Names of the channels as the file states them; may be empty or incomplete.
    count : int
        How many channels there are.
    source : str
        Name of the file, for the error.
    fluorescence : bool
        Whether the file states that a channel shows fluorescence.

    Returns
    -------
    tuple of int
        Indices of red, green and blue. By default the first three channels; a fourth one is left out.

    Raises
    ------
    InputError
        If the channels are not three or four, or are fluorescence.
    """
    if count not in (3, 4):
        raise InputError(
            f"'{source}' has {count} channels; give the stained smear as one RGB image, taken in bright field."
        )
    known = [_COLOURS.get(name.strip().lower().removesuffix(" channel"), -1) for name in names[:count]]
    if {0, 1, 2} <= set(known):
        return known.index(0), known.index(1), known.index(2)
    dyes = [name for name in names[:count] if _DYES.search(name)]
    if fluorescence or dyes:
        which = f" ({', '.join(dyes)[:80]})" if dyes else ""
        raise InputError(
            f"'{source}' has channels of fluorescence{which}; give the stained smear as one RGB image, taken in "
            "bright field."
        )
    return 0, 1, 2


def check_ground(pixels: np.ndarray, source: str) -> None:
    """Refuse three channels whose ground is dark: these are fluorescence, and no smear in bright field.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3)
        Red, green and blue from channels that were separate.
    source : str
        Name of the file, for the error.

    Raises
    ------
    InputError
        If half of the picture is darker than `DARK_GROUND` of its brightest parts.
    """
    step = max(1, round((pixels.shape[0] * pixels.shape[1] / 250_000) ** 0.5))
    brightest = pixels[::step, ::step].max(axis=-1).astype(np.float64)
    top = float(np.percentile(brightest, 99.5))
    if top > 0 and float(np.median(brightest)) < DARK_GROUND * top:
        raise InputError(
            f"'{source}' has separate channels on a dark ground, as fluorescence has; give the stained smear as one "
            "RGB image, taken in bright field."
        )
