"""Text for the store and its log: characters that a database cannot store are escaped or refused."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from napari_leukocls.errors import ReviewError

#: Of a reviewer's name and of a reason, characters.
MAX_NAME, MAX_REASON = 200, 2000


def canonical(value: Any) -> str:
    """A value as JSON that has only one form: sorted keys, no spaces, ASCII.

    Parameters
    ----------
    value : Any

    Returns
    -------
    str
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """The SHA-256 of a text.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Hexadecimal.
    """
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def now() -> str:
    """The current time, UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def storable(text: str) -> str:
    """A text with the characters escaped that no database stores: NUL, and bytes of file names that are not UTF-8.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def person(name: str) -> str:
    """The name of a reviewer, without surplus spaces.

    Parameters
    ----------
    name : str

    Returns
    -------
    str

    Raises
    ------
    ReviewError
        If it is empty, too long, or holds control characters.
    """
    return _checked("the reviewer's name", name, MAX_NAME, empty_is_fine=False)


def reason_text(reason: str) -> str:
    """A reason, without surplus spaces; it may be empty.

    Parameters
    ----------
    reason : str

    Returns
    -------
    str

    Raises
    ------
    ReviewError
        If it is too long, or holds control characters.
    """
    return _checked("the reason", reason, MAX_REASON, empty_is_fine=True)


def _checked(what: str, text: str, longest: int, *, empty_is_fine: bool) -> str:
    trimmed = " ".join(str(text).split())
    if not trimmed and not empty_is_fine:
        raise ReviewError(f"{what} is missing: enter one, so that the log can name the person.")
    if len(trimmed) > longest:
        raise ReviewError(f"{what} is longer than {longest} characters: shorten it.")
    # Cc: control characters, Cs: surrogates. They are invisible, and some databases cannot store them.
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in trimmed):
        raise ReviewError(f"{what} holds characters that cannot be stored: type it again.")
    return trimmed
