"""``leukocls promote``: the gate that a new model has to pass."""

from __future__ import annotations

from pathlib import Path

import click

from napari_leukocls.cli._base import DEVICES, Command, ProgressLine, write_json


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
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Where the networks run.")
@click.option(
    "--um-per-px", type=float, metavar="F", help="Scale of the crops, where the table does not say it."
)
@click.option("--exit-code", is_flag=True, help="End with status 1 where the answer is no.")
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
    """Replace the active model if the new one is no worse in any class.

    NEW is a model's name or folder. DATA is a folder of class folders, or a CSV with columns file,class, of
    cells that NEW was not trained on; where its column split names a test part, that alone is used. On yes
    NEW becomes the active model.
    """
    from napari_leukocls.cli.evaluate import need_data
    from napari_leukocls.models.registry import active_classifier, find_model

    # What is cheap to check is checked before torch is loaded.
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
        write_json(decision.to_json())
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
