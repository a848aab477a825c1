"""``leukocls compare``: models on the same crops."""

from __future__ import annotations

from pathlib import Path

import click

from napari_leukocls.cli._base import DECIMAL, DEVICES, Command, ProgressLine, print_json, print_notes


@click.command(cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="DATA", help="Labelled crops."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the networks."
)
@click.option(
    "--um-per-px", type=DECIMAL, metavar="F", help="Micrometres per pixel of crops whose row states none."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(
    models: tuple[str, ...], data: Path, out: Path, device: str, um_per_px: float | None, as_json: bool
) -> None:
    """Compare models by accuracy and speed.

    MODEL is the name or folder of a model. DATA is a folder with one folder for each class, or a table with the
    columns file and class. If the table has a column split, only its test part is used.
    """
    from napari_leukocls.cli.evaluate import need_data
    from napari_leukocls.evaluation.compare import distinct_names, iter_compare
    from napari_leukocls.models.registry import find_model

    # Quick checks come before torch is loaded.
    distinct_names([find_model(model) for model in models])
    need_data(data)
    from napari_leukocls.progress import drain

    progress = ProgressLine()
    try:
        result = drain(iter_compare(models, data, out, device, um_per_px), progress)
    finally:
        progress.close()
    print_notes(result.get("data_notes", ()))
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{'model':<28}{'accuracy':>9}{'macro F1':>10}{'precision':>11}{'ms, one':>9}{'ms, best':>10}{'images/s':>10}"
    )
    for row in result["models"]:
        mark = " *" if row["pareto"] else ""
        click.echo(
            f"{row['model'] + mark:<28}{row['accuracy']:>9.4f}{row['macro_f1']:>10.4f}"
            f"{row['macro_precision']:>11.4f}{row['ms_per_image_batch1']:>9.2f}{row['ms_per_image']:>10.2f}"
            f"{row['images_per_s']:>10.1f}"
        )
    for row in result["pairs"]:
        verdict = f"{row['better']} is better" if row["better"] else "no significant difference"
        click.echo(f"{row['first']} and {row['second']}: {verdict} (p = {row['p_holm']:.2g})")
    click.echo(f"* no other model is both faster and more accurate; the report is {out / 'report.html'}")
