"""``leukocls audit``: check and export the log of corrections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_leukocls.cli._base import Group, write_json

if TYPE_CHECKING:
    from napari_leukocls.review import ReviewStore

_STORE = click.option(
    "--store",
    metavar="FILE|URL",
    help="The review store: a SQLite file or postgresql://...; the user's own by default.",
)


@click.group(cls=Group)
def audit() -> None:
    """Check or export the log of corrections.

    Every entry is chained to the one before by SHA-256: a change, a deletion or another order shows.
    """


@audit.command()
@_STORE
@click.option("--anchor", metavar="NUMBER:HASH", help="Where the log ended before, as verify or export said.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def verify(store: str | None, anchor: str | None, as_json: bool) -> int:
    """Look for any change, deletion or re-ordering; status 1 where there is one."""
    from napari_leukocls.review import audit as log
    from napari_leukocls.review.log import Head

    noted = None if anchor is None else Head.parse(anchor)
    with _existing(store) as opened:
        found = log.verify(opened, noted)
    if as_json:
        write_json(
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
        click.echo(f"{state}: {found.entries} entries, the last is {found.head}")
    return 0 if found.whole else 1


@audit.command()
@_STORE
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Where to write it."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="jsonl can be checked by other means; csv is for spreadsheets.",
)
def export(store: str | None, out: Path, kind: str) -> int:
    """Write the log to a file, and say where it ends."""
    from napari_leukocls.review import audit as log

    with _existing(store) as opened:
        head = log.export(opened, out, kind)
    click.echo(f"{head.seq} entries in {out}; the last is {head}")
    return 0


def _existing(url: str | None) -> ReviewStore:
    """Open a store that is there; looking into a log makes none."""
    from napari_leukocls.errors import ReviewError
    from napari_leukocls.review import open_store
    from napari_leukocls.review.database import store_url

    parsed = store_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        raise ReviewError(f"there is no review store at '{parsed.database}'; name one with --store.")
    return open_store(url)
