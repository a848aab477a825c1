"""``leukocls reproduce``: a paper's networks trained, measured, compared and explained, beside its numbers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_leukocls.cli._base import DECIMAL, DEVICES, Command, ProgressLine, print_json, print_notes
from napari_leukocls.errors import ArgumentError

if TYPE_CHECKING:
    from napari_leukocls.reproduction.plan import Settings


@click.command(cls=Command)
@click.argument("paper", type=click.Choice(["s1", "s2", "s3", "s4", "s5"], case_sensitive=False))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of all results."
)
@click.option("--quick", is_flag=True, help="Few crops, small images, one epoch: a trial, no result.")
@click.option("--external", type=click.Path(path_type=Path), help="A second set that nothing is trained on.")
@click.option(
    "--network", "networks", multiple=True, metavar="NAME", help="Only this network; may be repeated."
)
@click.option("--ablations", is_flag=True, help="Also the paper's ablations.")
@click.option("--minutes", type=DECIMAL, metavar="F", help="Longest time of each training.")
@click.option(
    "--pretrained/--no-pretrained", default=None, help="Start from ImageNet weights; by default as the paper."
)
@click.option(
    "--weights",
    multiple=True,
    metavar="NETWORK:FILE",
    help="File of weights that a network starts from; FILE may be BRANCH=FILE.",
)
@click.option(
    "--allow-unknown-patients", is_flag=True, help="Accept crops without a patient for a split by patient."
)
@click.option(
    "--protocol",
    type=click.Choice(["single", "kfold", "monte-carlo"]),
    default="single",
    show_default=True,
    help="Also measure over folds or repeated shuffles.",
)
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Device of torch.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def reproduce(as_json: bool, weights: tuple[str, ...], **options: object) -> None:
    """Repeat the experiments of a paper on DATA, and write its tables and figures with its numbers beside ours.

    DATA is a folder with one folder for each class, a table with the columns file and class, or a public data set
    as it was downloaded. Give the same command again to go on after an interruption.
    """
    settings = _settings(weights, options)
    for name in ("data", "external"):
        path = getattr(settings, name)
        if path and not Path(path).exists():
            raise ArgumentError(f"there is no '{path}'; give labelled crops.")
    from napari_leukocls.progress import drain
    from napari_leukocls.reproduction.run import iter_reproduce

    progress = ProgressLine()
    try:
        summary = drain(iter_reproduce(settings), progress)
    finally:
        progress.close()
    print_notes(summary["notes"])
    if as_json:
        print_json(summary)
        return
    if settings.quick:
        click.echo("a quick trial: these numbers are no result.")
    click.echo(f"{'network':<30}{'class':<22}{'metric':<26}{'paper':>12}{'here':>12}")
    for row in summary["rows"]:
        ours = "-" if row["ours"] is None else f"{row['ours']:.4g}"
        click.echo(
            f"{row['network']:<30}{row['class']:<22}{row['metric']:<26}{row['paper']:>12.6g}{ours:>12}"
        )
    click.echo(f"the report is {summary['report']}")


def _settings(weights: tuple[str, ...], options: dict[str, object]) -> Settings:
    from napari_leukocls.reproduction.plan import Settings

    files: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for text in weights:
        network, sign, file = text.partition(":")
        if not sign or not file:
            raise ArgumentError(f"--weights {text!r} is not NETWORK:FILE.")
        files[network] += (file,)
    texts = {name: str(options[name] or "") for name in ("paper", "data", "out", "external")}
    return Settings(**{**options, **texts, "weights": dict(files)})  # type: ignore[arg-type]
