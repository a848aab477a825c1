"""Numbers as people write them: with a point or a comma, under any language of the computer."""

from __future__ import annotations

import re
import unicodedata

#: Signs that are written between thousands, but never before the decimals.
_BETWEEN_THOUSANDS = re.compile(r"\d[ \u00a0\u2009\u202f'\u2019\u066c_]\d|\d.*[.,].*[.,]|[.,].*[.,].*\d")
#: Signs of other scripts.
_SIGNS = str.maketrans({"\u2212": "-", "\u066b": ".", "\uff0e": ".", "\uff0c": ","})
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
#: A comma before three digits: a decimal sign to some people, a sign between thousands to others.
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def parse_decimal(text: str, least: float | None = None, most: float | None = None) -> float:
    """Read a number whose decimal sign is a point or a comma.

    Signs between thousands are refused and never guessed. ``1,234`` may be 1.234 or 1234. It is taken for 1.234 if
    the limits allow that and not 1234; else it is refused. A point is always the decimal sign.

    Parameters
    ----------
    text : str
        Digits of any script; white space around them does not matter.
    least, most : float, optional
        Limits of what the number can be. They only decide what ``1,234`` is: a number beyond them is returned.

    Returns
    -------
    float
        Finite.

    Raises
    ------
    ValueError
        If it is no number, or not clear which one: the rest of a sentence that begins with the text.
    """
    plain = _plain(text)
    if _BETWEEN_THOUSANDS.search(plain):
        raise ValueError(f"{text!r} has a sign between thousands: write it without, for example 1234.5")
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"{text!r} is no number")
    value = float(plain.replace(",", "."))
    if _EITHER.fullmatch(plain) and not _only_decimal(value, least, most):
        raise ValueError(f"{text!r} may be {value:g} or {1000 * value:.0f}: write one of these")
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text!r} is too large")
    return value


def _plain(text: str) -> str:
    """The text with ASCII digits and signs."""
    plain = text.strip().translate(_SIGNS)
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in plain)


def _only_decimal(value: float, least: float | None, most: float | None) -> bool:
    """Whether the limits allow a value, and not a thousand times it."""

    def allowed(number: float) -> bool:
        return (least is None or number >= least) and (most is None or number <= most)

    return allowed(value) and not allowed(1000 * value)
