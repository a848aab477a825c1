"""What the laboratory knows of a sample beside its smear: counts of the analyser, an identifier, age and sex."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar

from napari_leukocls.decimals import parse_decimal
from napari_leukocls.errors import ArgumentError
from napari_leukocls.types import SlideResult

Result = TypeVar("Result", bound=SlideResult)

#: Key of `SlideResult.run` that holds the values of the sample.
SAMPLE = "sample"
#: 10^9 leukocytes, 10^12 red cells per litre: beyond these no blood is.
WBC_LIMITS = (0.01, 2000.0)
RBC_LIMITS = (0.2, 12.0)
#: A number without a unit is taken for 10^9/L, or 10^12/L, up to this; a larger one may be cells per microlitre.
_MOST_WITHOUT_UNIT = {"WBC": 100.0, "RBC": 12.0}
_BASE = {"WBC": 1e9, "RBC": 1e12}
_LIMITS = {"WBC": WBC_LIMITS, "RBC": RBC_LIMITS}
UNIT_WORDS = {"WBC": "10^9/L", "RBC": "10^12/L"}

_VOLUMES = {"l": 1.0, "ml": 1e-3, "ul": 1e-6, "mm3": 1e-6, "cmm": 1e-6, "nl": 1e-9, "pl": 1e-12}
_FACTORS = {
    "": 1.0,
    **dict.fromkeys(("k", "tsd", "thou", "thousand", "th"), 1e3),
    **dict.fromkeys(("m", "mio", "mil", "mill", "million"), 1e6),
    **dict.fromkeys(("g", "gpt", "giga"), 1e9),
    **dict.fromkeys(("t", "tpt", "tera"), 1e12),
}
_UNIT = re.compile(r"(?:10[\^e*]*(?P<power>\d{1,2})|(?P<word>[a-z]*))/(?P<volume>[a-z]+3?)")
_LEADING_NUMBER = re.compile(
    r"\s*([+\u2212-]?\s*[\d.,\u066b\uff0c\uff0e]+(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL
)
Sex = Literal["", "female", "male"]
_SEXES: dict[str, Sex] = {
    **dict.fromkeys(("", "u", "unknown", "o", "a", "n", "x", "d"), ""),
    **dict.fromkeys(("f", "female", "w", "woman", "weiblich"), "female"),
    **dict.fromkeys(("m", "male", "man", "männlich"), "male"),
}


@dataclass(frozen=True)
class SampleValues:
    """Values of a sample that do not come from its image.

    Attributes
    ----------
    identifier : str
        Of the sample or slide; "" takes the slide's name.
    patient : str
        Identifier that the laboratory gives, never a name; "" if none is given. It finds earlier counts.
    wbc : float or None
        Leukocytes, 10^9/L, as the analyser or a person counted them.
    wbc_corrected : bool
        Whether erythroblasts are already taken off `wbc`.
    rbc : float or None
        Red cells, 10^12/L.
    age : float or None
        Years.
    sex : {"", "female", "male"}
    source : str
        Where they come from: ``typed``, or the name of a file.
    """

    identifier: str = ""
    patient: str = ""
    wbc: float | None = None
    wbc_corrected: bool = False
    rbc: float | None = None
    age: float | None = None
    sex: Sex = ""
    source: str = "typed"


def make_sample(
    wbc: str | float | None = None,
    rbc: str | float | None = None,
    age: str | float | None = None,
    sex: str = "",
    **others: Any,
) -> SampleValues:
    """Read the values of a sample as a person writes them.

    Parameters
    ----------
    wbc : str or float, optional
        Leukocytes: ``7.5`` (10^9/L), or with a unit, as in ``7500 /uL``.
    rbc : str or float, optional
        Red cells: ``4.6`` (10^12/L), or with a unit.
    age : str or float, optional
        Years.
    sex : str
        ``female``, ``male`` or "" for not known, or their first letters.
    **others
        Further fields of `SampleValues`.

    Returns
    -------
    SampleValues

    Raises
    ------
    ArgumentError
        If a value is not possible, or not clear.
    """
    return SampleValues(
        wbc=None if _is_empty(wbc) else parse_concentration(str(wbc), "WBC"),
        rbc=None if _is_empty(rbc) else parse_concentration(str(rbc), "RBC"),
        age=None if _is_empty(age) else parse_age(str(age)),
        sex=parse_sex(sex),
        **others,
    )


def _is_empty(value: str | float | None) -> bool:
    return value is None or not str(value).strip()


def parse_concentration(text: str, what: Literal["WBC", "RBC"] = "WBC", unit: str = "") -> float:
    """Read a number of cells per volume.

    Parameters
    ----------
    text : str
        A number with a decimal point or comma, and perhaps its unit: ``7.5``, ``7,5 G/L``, ``7500 /uL``.
    what : {"WBC", "RBC"}
    unit : str
        Of the number, if `text` has none.

    Returns
    -------
    float
        10^9/L of leukocytes, 10^12/L of red cells.

    Raises
    ------
    ArgumentError
        If it is no number, zero or negative, if its unit is not known, or if the number is so large that it may be
        cells per microlitre and no unit says so.
    """
    match = _LEADING_NUMBER.fullmatch(text)
    if match is None:
        raise ArgumentError(f"{what} {text.strip()!r} is no number: write it as in '{_EXAMPLES[what]}'.")
    number, own = match[1].replace(" ", ""), match[2].strip()
    per_litre = _per_litre(own or unit, what) if own or unit.strip() else None
    factor = 1.0 if per_litre is None else per_litre / _BASE[what]
    least, most = (limit / factor for limit in _LIMITS[what])
    try:
        value = parse_decimal(number, least, most if per_litre else _MOST_WITHOUT_UNIT[what])
    except ValueError as error:
        raise ArgumentError(f"{what} {error}.") from error
    if value <= 0:
        raise ArgumentError(f"a {what} of {value:g} is not possible: leave it empty if it is not known.")
    if per_litre is None and value > _MOST_WITHOUT_UNIT[what]:
        other = f", or '{value:g} {UNIT_WORDS[what]}'" if value <= _LIMITS[what][1] else ""
        raise ArgumentError(
            f"{what} {text.strip()} has no unit, and may be cells per microlitre: write '{value:g} /uL'{other}."
        )
    if not least <= value <= most:
        low, high = _LIMITS[what]
        raise ArgumentError(
            f"a {what} of {text.strip()}{'' if own else ' ' + (unit.strip() or UNIT_WORDS[what])} is not possible "
            f"({low:g} to {high:g} {UNIT_WORDS[what]}): check the number and its unit."
        )
    return value * factor


_EXAMPLES = {"WBC": "7.5 10^9/L", "RBC": "4.6 10^12/L"}


def _per_litre(unit: str, what: str) -> float:
    """What one of a unit is in cells per litre."""
    plain = unicodedata.normalize("NFKC", unit).casefold().replace("\u03bc", "u").replace("mcl", "ul")
    plain = re.sub(r"cells?|leukocytes|[\s_×{}]", "", plain).replace("mm^3", "mm3").replace("mm*3", "mm3")
    match = _UNIT.fullmatch(plain.removeprefix("x").removeprefix("*"))
    if match and match["volume"] in _VOLUMES:
        factor = 10.0 ** int(match["power"]) if match["power"] else _FACTORS.get(match["word"] or "")
        if factor is not None:
            return factor / _VOLUMES[match["volume"]]
    raise ArgumentError(
        f"{what}: the unit {unit.strip()!r} is not known: write {UNIT_WORDS[what]}, 10^3/uL or /uL."
    )


def parse_age(text: str) -> float:
    """Read an age.

    Parameters
    ----------
    text : str
        Years, or with a letter: ``8 d``, ``6 w``, ``5 m``, ``40 y``.

    Returns
    -------
    float
        Years.

    Raises
    ------
    ArgumentError
        If it is no age.
    """
    match = re.fullmatch(r"\s*([\d.,]+)\s*(d|w|m|y|days?|weeks?|months?|years?)?\s*", text, re.IGNORECASE)
    try:
        value = math.nan if match is None else parse_decimal(match[1], 0, 130)
    except ValueError:
        value = math.nan
    if match is not None:
        value /= {"d": 365.25, "w": 365.25 / 7, "m": 12.0, "y": 1.0}[(match[2] or "y")[0].lower()]
    if not 0 <= value <= 130:
        raise ArgumentError(f"age {text.strip()!r} is not possible: give years, or '6 m', '3 w', '8 d'.")
    return value


def parse_sex(text: str) -> Sex:
    """Read a sex, for the reference ranges that differ by it.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        ``female``, ``male``, or "" where it is neither or not known.

    Raises
    ------
    ArgumentError
        If the word is not known.
    """
    word = text.strip().casefold()
    if word not in _SEXES:
        raise ArgumentError(f"sex {text.strip()!r} is not known: give female, male, or nothing.")
    return _SEXES[word]


def with_sample(result: Result, sample: SampleValues | None) -> Result:
    """Add the values of a sample to a result.

    Parameters
    ----------
    result : SlideResult
    sample : SampleValues or None
        None takes those of an earlier call away.

    Returns
    -------
    SlideResult
        Of the same type. Its ``run`` holds the values, and with it ``run.json``.
    """
    run = {key: value for key, value in result.run.items() if key != SAMPLE}
    return replace(result, run=run if sample is None else {**run, SAMPLE: asdict(sample)})


def sample_of(result: SlideResult) -> SampleValues:
    """Read the values of the sample from a result.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    SampleValues
        Empty if it has none.
    """
    held = result.run.get(SAMPLE)
    if not isinstance(held, Mapping):
        return SampleValues()
    known = {one.name for one in fields(SampleValues)}
    return SampleValues(**{str(name): value for name, value in held.items() if name in known})


__all__ = [
    "RBC_LIMITS",
    "SAMPLE",
    "WBC_LIMITS",
    "SampleValues",
    "Sex",
    "make_sample",
    "parse_age",
    "parse_concentration",
    "parse_sex",
    "sample_of",
    "with_sample",
]
