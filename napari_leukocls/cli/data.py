"""``leukocls data``: what labelled data is, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from napari_leukocls.cli._base import DECIMAL, DEVICES, Group, ProgressLine, print_json


@click.group(cls=Group)
def data() -> None:
    """Check labelled data before a training."""


@data.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "--write",
    "out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for a table (and crops) that train and evaluate read.",
)
@click.option("--model", metavar="NAME", help="Model that is asked about the labels.")
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the model."
)
@click.option(
    "--um-per-px", type=DECIMAL, metavar="F", help="Micrometres per pixel of crops whose row states none."
)
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def inspect(
    path: Path, out: Path | None, model: str | None, device: str, um_per_px: float | None, as_json: bool
) -> None:
    """Say what the labelled data PATH is, and what is wrong with it.

    PATH is a folder of class folders (also with train, val and test), a table (CSV, TSV, XLSX, ODS), or annotations of
    YOLO, COCO, Pascal VOC, LabelMe, CVAT or QuPath. Nothing in it is changed.
    """
    from napari_leukocls.cli.evaluate import need_data

    # Quick checks come before torch is loaded.
    need_data(path)
    if model is not None:
        from napari_leukocls.models.registry import find_model

        find_model(model)
    from napari_leukocls.progress import drain
    from napari_leukocls.training import inspection

    progress = ProgressLine()
    try:
        found, dataset = drain(inspection.inspect(path, model, device, um_per_px), progress)
        table = None if out is None else inspection.write_inspection(found, dataset, out)
    finally:
        progress.close()
    if as_json:
        print_json({**inspection.as_json(found), "table": None if table is None else str(table)})
        return
    for line in inspection.lines_of(found):
        click.echo(line)
    if table is not None:
        click.echo(f"the table is {table}")
