"""Commands of the contract that this version does not have: they say so, with status 2."""

from __future__ import annotations

from typing import Any

import click

from napari_leukocls._version import __version__
from napari_leukocls.cli._base import Command
from napari_leukocls.errors import ArgumentError


class _LaterCommand(Command):
    """Ends with an error, whatever it is given."""

    def invoke(self, ctx: click.Context) -> Any:
        raise ArgumentError(
            f"'{ctx.command_path}' is not available in version {__version__}; see CHANGELOG.md."
        )


def later(name: str, summary: str) -> click.Command:
    """A command that takes any arguments and says that it is not there yet."""
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return _LaterCommand(name, help=f"{summary} (not in this version).", context_settings=anything)


LATER = (
    later("train", "Train or fine-tune a classifier"),
    later("compare", "Compare models: accuracy, speed, significance"),
    later("promote", "Replace the active model if the new one is no worse in any class"),
    later("audit", "Check or export the log of corrections"),
    later("explain", "Show what a model looks at"),
)
