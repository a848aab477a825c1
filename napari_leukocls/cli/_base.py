"""What all commands share: ``--debug``, progress on standard error, JSON on standard output."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from napari_leukocls.decimals import parse_decimal
from napari_leukocls.io.serialise import json_text

if TYPE_CHECKING:
    from napari_leukocls.progress import Progress


class _Decimal(click.ParamType):  # type: ignore[type-arg]
    """A number with a point or a comma as its decimal sign; signs between thousands are refused."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return parse_decimal(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DECIMAL = _Decimal()
DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])
#: Seconds between two lines of progress: on a terminal, where one line is rewritten, and in a log file.
_PAUSE_TERMINAL_S, _PAUSE_LOG_S = 0.1, 5.0


def figure_text(value: Any) -> str:
    """A figure of a table; a real number with four significant digits.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def limits_text(limits: Sequence[float] | None) -> str:
    """The 95 % limits of a figure.

    Parameters
    ----------
    limits : sequence of float, optional
        Low and high.

    Returns
    -------
    str
        Empty if there are none.
    """
    return f"  (95 % limits {figure_text(limits[0])} to {figure_text(limits[1])})" if limits else ""


def has_debug(arguments: Sequence[str]) -> bool:
    """Whether ``--debug`` is among the arguments, before a ``--`` that ends the options.

    Parameters
    ----------
    arguments : sequence of str

    Returns
    -------
    bool
    """
    words = list(arguments)
    return "--debug" in words[: words.index("--") if "--" in words else len(words)]


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error, and warnings."
    )


class Command(click.Command):
    """A command with the option ``--debug``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())


class Group(click.Group):
    """A group of commands that all have ``--debug``; for a wrong command name it suggests the nearest one."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first argument.

        Parameters
        ----------
        ctx : click.Context
        args : list of str

        Returns
        -------
        tuple
            As `click.Group.resolve_command` returns it.

        Raises
        ------
        click.UsageError
            If there is no such command; it suggests the nearest one.
        """
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            advice = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"there is no command '{name}'{advice}", ctx)
        return super().resolve_command(ctx, args)


def print_json(value: object) -> None:
    """Print a machine-readable summary on standard output.

    Parameters
    ----------
    value : object
        As `napari_leukocls.io.serialise.to_plain` takes it.
    """
    click.echo(json_text(value), nl=False)


def print_notes(notes: Iterable[str]) -> None:
    """Print on standard error how data was understood.

    Parameters
    ----------
    notes : iterable of str
    """
    for note in notes:
        click.echo(f"leukocls: note: {note}", err=True)


class ProgressLine:
    """Progress on standard error: one line that is rewritten on a terminal, a plain line every few seconds elsewhere.

    Call it with each `Progress`, and call `close` at the end.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._pause = _PAUSE_TERMINAL_S if self._terminal else _PAUSE_LOG_S
        self._last = time.monotonic() - 0.8 * self._pause
        self._shown = False

    def __call__(self, step: Progress) -> None:
        """Show one step, unless another one was shown a moment ago."""
        now = time.monotonic()
        if now - self._last < self._pause:
            return
        self._last = now
        self._shown = True
        text = f"{step.stage} {step.done}/{step.total}" + (f": {step.message}" if step.message else "")
        if self._terminal:
            click.echo(f"\r\x1b[K{text[:120]}", nl=False, err=True)
        else:
            click.echo(text, err=True)

    def close(self) -> None:
        """Clear the line on the terminal."""
        if self._terminal and self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
