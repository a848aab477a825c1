"""What all commands share: ``--debug``, progress on standard error, JSON on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from napari_leukocls.progress import Progress


def figure_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def limits_text(limits: Any) -> str:
    return f"  (95 % limits {figure_text(limits[0])} to {figure_text(limits[1])})" if limits else ""


DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])


def says_debug(arguments: Sequence[str]) -> bool:
    """Whether ``--debug`` is among the arguments (before a ``--`` that ends the options)."""
    words = list(arguments)
    return "--debug" in words[: words.index("--") if "--" in words else len(words)]


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error, and warnings."
    )


class Command(click.Command):
    """A command that takes ``--debug``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())


class Group(click.Group):
    """A group whose commands take ``--debug``, as it does itself; a wrong name is met with the nearest."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            advice = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"there is no command '{name}'{advice}", ctx)
        return super().resolve_command(ctx, args)


def write_json(value: object) -> None:
    """Write a machine-readable summary to standard output."""
    from napari_leukocls.io.serialise import json_text

    click.echo(json_text(value), nl=False)


class ProgressLine:
    """Progress on standard error: one line that is rewritten on a terminal, few plain lines elsewhere.

    Call it with each `Progress`; call `close` at the end.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        # Seconds between two lines: short where the line is rewritten, long where lines stay (a log file).
        self._pause = 0.1 if self._terminal else 5.0
        self._last = time.monotonic() - 0.8 * self._pause
        self._shown = False

    def __call__(self, step: Progress) -> None:
        """Show one step, unless the last one was shown a moment ago."""
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
        """Clear the line that was being rewritten."""
        if self._terminal and self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
