"""``leukocls rules``: the rules that reports flag counts by, and a check of a laboratory's own file."""

from __future__ import annotations

from pathlib import Path

import click

from napari_leukocls.cli._base import Command, print_json


@click.command(cls=Command)
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable list.")
def rules(file: Path | None, as_json: bool) -> None:
    """List the rules that reports flag counts by.

    FILE is a file of rules to check. By default the rules in force are listed: those that ship, with the laboratory's
    own.
    """
    from napari_leukocls.measurement.rules import default_rules, load_rules

    found = default_rules() if file is None else load_rules(file)
    if as_json:
        print_json(
            {
                "rules": {rule.name: rule.words() for rule in found.rules},
                "ranges": [one.title() for one in found.ranges],
                "counting": vars(found.counting),
                "files": list(found.sources),
            }
        )
        return
    for rule in found.rules:
        click.echo(f"{rule.name:<24} {rule.words()}{'' if rule.shown else ' (only for other rules)'}")
    for one in found.ranges:
        click.echo(f"{'range':<24} {one.title()}")
    for name, value in vars(found.counting).items():
        click.echo(f"{name:<24} {value:g}")
    click.echo(f"from the program{''.join(f', and {path}' for path in found.sources)}")
