"""``leukocls promote``: a new model becomes the active one if no class gets worse."""

from __future__ import annotations

from pathlib import Path

import click

from napari_leukocls.cli._base import DECIMAL, DEVICES, Command, ProgressLine, print_json


@click.command(cls=Command)
@click.argument("new")
@click.option("--over", metavar="CURRENT", help="Model to replace; by default the active one.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="DATA", help="Labelled crops."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("."),
    show_default=True,
    metavar="DIR",
    help="Folder of promotion.json.",
)
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the networks."
)
@click.option(
    "--um-per-px", type=DECIMAL, metavar="F", help="Micrometres per pixel of crops whose row states none."
)
@click.option("--exit-code", is_flag=True, help="End with status 1 if the model is not promoted.")
@click.option("--json", "as_json", is_flag=True, help="Print promotion.json.")
def promote(
    new: str,
    over: str | None,
    data: Path,
    out: Path,
    device: str,
    um_per_px: float | None,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Make NEW the active model if no class gets worse.

    NEW is the name or folder of a model. DATA is a folder with one folder for each class, or a table with the
    columns file and class, of cells that NEW was not trained on. If the table has a column split, only its test
    part is used. If NEW passes, it becomes the active model.
    """
    from napari_leukocls.cli.evaluate import need_data
    from napari_leukocls.models.registry import active_classifier, find_model

    # Quick checks come before torch is loaded.
    for name in (new, over or active_classifier()):
        find_model(name)
    need_data(data)
    from napari_leukocls.evaluation.promote import promote as decide_and_do

    progress = ProgressLine()
    try:
        decision = decide_and_do(new, over, data, out, device, um_per_px, progress)
    finally:
        progress.close()
    status = int(exit_code and not decision.promote)
    if as_json:
        print_json(decision.to_json())
        return status
    click.echo(f"{'class':<24}{'cells':>6}{'current':>9}{'new':>9}{'p':>8}  verdict")
    for row in decision.classes:
        recalls = f"{row.recall_current:>9.3f}{row.recall_new:>9.3f}{row.p:>8.2g}" if row.n else " " * 26
        click.echo(f"{row.name:<24}{row.n:>6}{recalls}  {row.verdict}: {row.why}")
    for note in decision.notes:
        click.echo(f"leukocls: note: {note}", err=True)
    click.echo(decision.reason)
    click.echo(f"active model: {active_classifier()}; the figures are in {out / 'promotion.json'}")
    return status
