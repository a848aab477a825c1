"""Text as it goes into the store and its log: what a database cannot hold is written out or refused."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from napari_leukocls.errors import ReviewError

LONGEST_NAME = 200

LONGEST_REASON = 2000


def canonical(value: Any) -> str:
    """JSON with one form for one value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """Hexadecimal SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def now() -> str:
    """The time, UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def storable(text: str) -> str:
    """`text` with what no database takes (lone surrogates of foreign file names, NUL) written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def person(name: str) -> str:
    """A reviewer's name, trimmed.

    Raises
    ------
    ReviewError
        Where it is empty, too long, or holds control characters.
    """
    return _checked("the reviewer's name", name, LONGEST_NAME, empty_is_fine=False)


def reason_text(reason: str) -> str:
    """A reason, trimmed; may be empty."""
    return _checked("the reason", reason, LONGEST_REASON, empty_is_fine=True)


def _checked(what: str, text: str, longest: int, *, empty_is_fine: bool) -> str:
    trimmed = " ".join(str(text).split())
    if not trimmed and not empty_is_fine:
        raise ReviewError(f"{what} is missing: give one, so that the log can say who it was.")
    if len(trimmed) > longest:
        raise ReviewError(f"{what} is longer than {longest} characters: shorten it.")
    # Cs: surrogates, Cc: control characters; neither can be seen nor stored everywhere.
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in trimmed):
        raise ReviewError(f"{what} holds characters that cannot be stored: type it again.")
    return trimmed
