"""Text cells that a spreadsheet shows and does not run."""

from __future__ import annotations

_RUNS = ("=", "+", "-", "@", "\t", "\r")


def safe_text(value: str) -> str:
    """Put an apostrophe before text that a spreadsheet would take for a formula.

    Parameters
    ----------
    value : str
        A text cell of a CSV. Numbers are not text: do not pass them.

    Returns
    -------
    str
        Unchanged unless it begins with ``=``, ``+``, ``-``, ``@``, tab or carriage return.
    """
    return f"'{value}" if value.startswith(_RUNS) else value
