"""``leukocls quality``: focus, stain and cells of analysed slides, and the laboratory's own stain reference."""

from __future__ import annotations

from pathlib import Path

import click

from napari_leukocls.cli._base import print_json
from napari_leukocls.plurals import count_text


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS...")
@click.option(
    "--make-reference",
    is_flag=True,
    help="Keep the stain of these slides as the laboratory's reference, which later analyses are compared with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def quality(results: tuple[Path, ...], make_reference: bool, as_json: bool) -> None:
    """Say how good the focus, the stain and the fields of analysed slides are.

    RESULTS are folders of slides, or folders that hold such folders, as analyze writes them.
    """
    from napari_leukocls.measurement import stain_reference
    from napari_leukocls.results.quality import quality_of_folders

    found = quality_of_folders(results)
    if make_reference:
        reference = stain_reference.make_reference([one.middle for one in found])
        path = stain_reference.write_reference(reference)
    if as_json:
        print_json({"slides": {one.slide_id: one.as_json() for one in found}})
        return
    for one in found:
        click.echo(f"{one.slide_id}: {one.quality.grade}")
        for check in one.quality.checks:
            click.echo(f"  {check.grade:<6}{check.text}")
    if make_reference:
        click.echo(f"the stain reference of {count_text(reference.n_slides, 'slide')} is {path}")
