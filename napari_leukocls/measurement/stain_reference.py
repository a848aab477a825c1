"""The stain of a laboratory's own reference slides: made from results, kept as a small file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.serialise import write_json
from napari_leukocls.measurement.quality import FieldQuality
from napari_leukocls.paths import user_data_dir

#: Name of the file in the folder of the user.
FILE = "stain_reference.json"
FORMAT = 1
#: Fewest slides of which a reference is made.
FEWEST_SLIDES = 5
#: Smallest spread that is believed (natural logarithm): few slides look more alike than the next ones will be.
LEAST_SPREAD = 0.08
#: What is compared: name of the check, and its words.
FIGURES = (
    ("red_cell_stain", "the stain of red cells"),
    ("red_cell_hue", "the blue of red cells against their red"),
    ("leukocyte_stain", "the stain of nuclei"),
    ("leukocyte_hue", "the blue of nuclei against their red"),
)


@dataclass(frozen=True)
class StainReference:
    """Middle and spread of the stain of reference slides.

    Attributes
    ----------
    n_slides : int
    middle, spread : tuple of float, (4,)
        Median and robust standard deviation (1.4826 MAD) of `stain_figures`; nan where no slide had the figure.
    """

    n_slides: int
    middle: tuple[float, ...]
    spread: tuple[float, ...]

    def distances(self, measured: FieldQuality) -> list[tuple[str, str, float]]:
        """Compare a slide with the reference.

        Parameters
        ----------
        measured : FieldQuality

        Returns
        -------
        list of tuple
            Name, words and distance of each figure, in standard deviations; nan where it is not known.
        """
        values = stain_figures(measured)
        return [
            (name, words, (value - middle) / spread)
            for (name, words), value, middle, spread in zip(
                FIGURES, values, self.middle, self.spread, strict=True
            )
        ]


def stain_figures(measured: FieldQuality) -> tuple[float, float, float, float]:
    """Compute what is compared: density and hue of the red cells and of the nuclei.

    Parameters
    ----------
    measured : FieldQuality

    Returns
    -------
    tuple of float, (4,)
        Logarithms: of the green density, and of the ratio of red density to green (blue dyes take red light, eosin and
        haemoglobin take green); of the red cells, then of the nuclei.
    """
    return (
        _log(measured.red_density_g),
        _log(measured.red_density_r) - _log(measured.red_density_g),
        _log(measured.nuclear_density_g),
        _log(measured.nuclear_density_r) - _log(measured.nuclear_density_g),
    )


def make_reference(slides: Sequence[FieldQuality]) -> StainReference:
    """Make a reference of a laboratory's own slides.

    Parameters
    ----------
    slides : sequence of FieldQuality
        One of each slide.

    Returns
    -------
    StainReference

    Raises
    ------
    ArgumentError
        If there are too few slides.
    """
    if len(slides) < FEWEST_SLIDES:
        raise ArgumentError(
            f"a stain reference needs at least {FEWEST_SLIDES} slides, and there {'is' if len(slides) == 1 else 'are'} "
            f"{len(slides)}: add slides that are well stained."
        )
    table = np.array([stain_figures(one) for one in slides])
    middle, spread = [], []
    for values in table.T:
        known = values[np.isfinite(values)]
        median = float(np.median(known)) if len(known) else math.nan
        middle.append(median)
        spread.append(
            max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(known - median)))) if len(known) else math.nan
        )
    return StainReference(len(slides), tuple(middle), tuple(spread))


def write_reference(reference: StainReference, path: Path | None = None) -> Path:
    """Write a reference.

    Parameters
    ----------
    reference : StainReference
    path : Path, optional
        By default the file in the folder of the user, which every analysis uses.

    Returns
    -------
    Path
    """
    target = user_data_dir() / FILE if path is None else path
    target.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        name: [_plain(middle), _plain(spread)]
        for (name, _), middle, spread in zip(FIGURES, reference.middle, reference.spread, strict=True)
    }
    write_json(target, {"format": FORMAT, "n_slides": reference.n_slides, "middle_and_spread": figures})
    return target


def read_reference(path: Path | None = None) -> StainReference | None:
    """Read a reference.

    Parameters
    ----------
    path : Path, optional
        By default the file in the folder of the user.

    Returns
    -------
    StainReference or None
        None if no path is given and the user has no reference.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    target = user_data_dir() / FILE if path is None else path
    try:
        content = json.loads(target.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        figures = [content["middle_and_spread"][name] for name, _ in FIGURES]
        middle, spread = zip(*([_number(v) for v in pair] for pair in figures), strict=True)
        return StainReference(int(content["n_slides"]), middle, spread)
    except FileNotFoundError as error:
        if path is None:
            return None
        raise InputError(f"there is no stain reference '{target}'.") from error
    except OSError as error:
        raise InputError(f"'{target}' cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{target}' is no stain reference; make it again.") from error


def _plain(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _number(value: Any) -> float:
    number = math.nan if value is None else float(value)
    if math.isinf(number):
        raise ValueError("infinite")
    return number


def _log(density: float) -> float:
    return math.log(density) if density > 0 else math.nan
