"""The command line, ``leukocls``.

A command imports torch, pandas and the like when it runs, so that ``leukocls --help`` stays quick.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence

import click

from napari_leukocls._version import __version__
from napari_leukocls.cli._base import Group, has_debug
from napari_leukocls.cli.adapt import adapt
from napari_leukocls.cli.analyze import analyze
from napari_leukocls.cli.audit import audit
from napari_leukocls.cli.compare import compare
from napari_leukocls.cli.data import data
from napari_leukocls.cli.demo import benchmark, demo
from napari_leukocls.cli.evaluate import evaluate
from napari_leukocls.cli.explain import explain
from napari_leukocls.cli.models import models
from napari_leukocls.cli.promote import promote
from napari_leukocls.cli.quality import quality
from napari_leukocls.cli.reproduce import reproduce
from napari_leukocls.cli.rules import rules
from napari_leukocls.cli.train import train
from napari_leukocls.errors import LeukoclsError


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leukocls")
def cli() -> None:
    """Differential counts of stained blood smears that a person can check.

    For research and training; not for diagnosis.
    """


for _command in (
    analyze,
    models,
    evaluate,
    compare,
    promote,
    benchmark,
    demo,
    audit,
    data,
    train,
    adapt,
    explain,
    reproduce,
    quality,
    rules,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of this process.

    Returns
    -------
    int
        Exit status: 0 if all was done, 1 if some inputs failed, 2 if the arguments or the installation are wrong,
        130 if the user stopped it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A console of another code page shows \\xe4 for a letter that it lacks; without this it ends the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if not has_debug(words):
            # Libraries log that a file is damaged; our own message says it already.
            logging.getLogger().addHandler(logging.NullHandler())
        with warnings.catch_warnings():
            if not has_debug(words) and not sys.warnoptions:
                warnings.simplefilter("ignore")
            status = cli.main(words, prog_name="leukocls", standalone_mode=False)
            sys.stdout.flush()
            return int(status or 0)
    except BrokenPipeError:
        # The program that reads our output has ended (`leukocls ... | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - here every error becomes one line
        if has_debug(words):
            raise
        return _report(error)
    except KeyboardInterrupt:
        return _print_error("stopped by the user.", 130)


def _report(error: Exception) -> int:
    """Print an error as one line; the exit status."""
    if isinstance(error, LeukoclsError):
        return _print_error(str(error), error.exit_status)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    if isinstance(error, click.Abort):
        return _print_error("stopped by the user.", 130)
    if isinstance(error, click.ClickException):
        message = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        see = f"; see '{context.command_path} --help'" if context is not None else ""
        return _print_error(f"{message}{see}.", 2)
    detail = " ".join(str(error).split())
    return _print_error(
        f"unexpected {type(error).__name__}: {detail}; run it again with --debug to see where.", 2
    )


def _print_error(message: str, status: int) -> int:
    """Print a message on standard error; the exit status."""
    click.echo(f"leukocls: {message}", err=True)
    return status


__all__ = ["cli", "main"]
