"""The errors that reach a user: each message is one line that says what is wrong and what to do.

None of these derives from :class:`RuntimeError`: napari's generator workers swallow that type, so an
error raised as one would never be shown in the window.
"""

from __future__ import annotations


class LeukoclsError(Exception):
    """Base of every error that the program raises on purpose.

    Parameters
    ----------
    message : str
        One line: what is wrong, and what to do about it.
    """

    #: Exit status of the command line when this error ends it.
    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class InputError(LeukoclsError):
    """An image, table or folder that was given cannot be used."""

    exit_status = 1


class ArgumentError(LeukoclsError):
    """An option or a setting is wrong."""


class ModelError(LeukoclsError):
    """A model is unknown, damaged, or does not fit its card."""


class DeviceError(LeukoclsError):
    """The compute device that was asked for is not there, or failed."""


class OutputError(LeukoclsError):
    """A result could not be written."""


class PlaceTaken(OutputError):
    """The folder for a result holds something that this program did not write."""


class Cancelled(LeukoclsError):
    """The user stopped the work."""

    exit_status = 130


class ReviewError(LeukoclsError):
    """The review store cannot do what was asked: a slide is unknown, cells are open, the store is damaged."""


class ReviewConflict(ReviewError):
    """Two people have given one cell different classes; both opinions are kept.

    Parameters
    ----------
    message : str
    mine, theirs : object
        `napari_leukocls.review.Correction`: the correction that was asked for, and the one that somebody else
        has saved in the meantime.
    """

    def __init__(self, message: str, mine: object = None, theirs: object = None) -> None:
        super().__init__(message)
        self.mine = mine
        self.theirs = theirs
