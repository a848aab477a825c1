"""``leukocls audit``: check and export the log of corrections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_leukocls.cli._base import Group, print_json
from napari_leukocls.plurals import count_text

if TYPE_CHECKING:
    from napari_leukocls.review import ReviewStore

_STORE = click.option(
    "--store",
    metavar="FILE|URL",
    help="Review store: a SQLite file or postgresql://...; by default your own.",
)


@click.group(cls=Group)
def audit() -> None:
    """Check or export the log of corrections.

    Every entry holds the SHA-256 of the entry before it, so a changed, deleted or moved entry is found.
    """


@audit.command()
@_STORE
@click.option(
    "--anchor",
    metavar="NUMBER:HASH",
    help="Last entry that verify or export printed before.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def verify(store: str | None, anchor: str | None, as_json: bool) -> int:
    """Check that no entry was changed, deleted or moved.

    The exit status is 1 if one was.
    """
    from napari_leukocls.review import audit as log
    from napari_leukocls.review.log import Head

    noted = None if anchor is None else Head.parse(anchor)
    with _existing(store) as opened:
        found = log.verify(opened, noted)
    if as_json:
        print_json(
            {
                "whole": found.whole,
                "entries": found.entries,
                "head": str(found.head),
                "faults": list(found.faults),
            }
        )
    else:
        for fault in found.faults:
            click.echo(f"leukocls: {fault}", err=True)
        state = "the log is whole" if found.whole else "the log is NOT whole"
        click.echo(f"{state}: {count_text(found.entries, 'entry', 'entries')}, the last is {found.head}")
    return 0 if found.whole else 1


@audit.command()
@_STORE
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="File to write.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="jsonl can be checked by other programs; csv is for spreadsheets.",
)
def export(store: str | None, out: Path, kind: str) -> int:
    """Write the log to a file, and print its last entry."""
    from napari_leukocls.review import audit as log

    with _existing(store) as opened:
        head = log.export(opened, out, kind)
    click.echo(f"{count_text(head.seq, 'entry', 'entries')} in {out}; the last is {head}")
    return 0


def _existing(url: str | None) -> ReviewStore:
    """Open a store that exists; a check must not create a new one."""
    from napari_leukocls.errors import ReviewError
    from napari_leukocls.review import open_store
    from napari_leukocls.review.database import store_url

    parsed = store_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        raise ReviewError(f"there is no review store at '{parsed.database}'; name one with --store.")
    return open_store(url)
