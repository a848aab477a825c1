"""Texts in the language of the user."""

from __future__ import annotations

from gettext import translation

_ = translation("leukocls", fallback=True).gettext


def plural(forms: tuple[str, str], n: int, **values: object) -> str:
    """Fill in the text that fits a number.

    Parameters
    ----------
    forms : tuple of str
        The text for 1, and the text for all other numbers; ``{n}`` is the number.
    n : int
    **values
        For other names in braces.

    Returns
    -------
    str
    """
    return forms[n != 1].format(n=n, **values)
