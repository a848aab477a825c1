"""The page of the command line, from click's own description of the commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from napari_leukocls.cli import cli
from scripts.documentation.tables import table

HEAD = """# Command line

This page is made from the program's own help (`leukocls COMMAND --help`). All commands have `--debug`, which shows the
traceback of an error, and `--help`.

Exit status: 0 means that everything was done. 1 means that some inputs failed, or that a check says no. 2 means wrong
arguments or a wrong installation. 130 means that you stopped it.
"""
#: Options of every command.
_COMMON = {"--debug", "--help"}


def commands(command: click.Command = cli, name: str = "leukocls") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name."""
    if isinstance(command, click.Group):
        for word, one in sorted(command.commands.items()):
            yield from commands(one, f"{name} {word}")
    else:
        yield name, command


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in commands())])


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [
        (f"`{record[0]}`", _escaped(" ".join(record[1].split())))
        for param in command.get_params(context)
        if not _COMMON.intersection(param.opts) and (record := param.get_help_record(context)) and record[1]
    ]
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "").split("\f")[0]
    options = table(["option", "meaning"], rows) if rows else ""
    return f"## {name}\n\n{_escaped(help_text)}\n\n```\n{usage}\n```\n\n{options}\n"


def _escaped(text: str) -> str:
    """Text of a help page, with what Markdown would read as HTML or emphasis left as it is."""
    return re.sub(r"([<*])", r"\\\1", text)
