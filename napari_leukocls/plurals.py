"""Numbers with their nouns, and the first names of long lists, for messages and notes."""

from __future__ import annotations

from collections.abc import Iterable


def count_text(n: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun, in the singular for 1.

    Parameters
    ----------
    n : int
    noun : str
    plural : str
        By default `noun` with an ``s``.

    Returns
    -------
    str
        ``1 cell``, ``2 cells``.
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def first_names(names: Iterable[str], most: int = 3) -> str:
    """Write the first names of a list, and how many more there are.

    Parameters
    ----------
    names : iterable of str
    most : int
        Names that are written.

    Returns
    -------
    str
        ``a, b, c and 2 more``.
    """
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
