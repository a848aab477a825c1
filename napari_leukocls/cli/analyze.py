"""``leukocls analyze``: images, folders and globs to one folder of results a slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_leukocls.cli._base import DEVICES, Command, ProgressLine, write_json
from napari_leukocls.errors import ArgumentError

if TYPE_CHECKING:
    from napari_leukocls.batch import SlideOutcome
    from napari_leukocls.io.inputs import SlideInput


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--segmenter",
    default="compact",
    show_default=True,
    metavar="NAME",
    help="compact, threshold, a cellpose model's name, or its file.",
)
@click.option("--classifier", metavar="NAME", help="A model's name; the active one by default.")
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Where the networks run.")
@click.option("--diameter-px", type=float, metavar="F", help="Red-cell diameter in pixels.")
@click.option("--pixel-size-um", type=float, metavar="F", help="Micrometres per pixel.")
@click.option(
    "--even-light/--light-as-is",
    default=True,
    show_default=True,
    help="Even out light that falls to the edges.",
)
@click.option("--min-confidence", type=float, metavar="F", help="Below it, a cell goes to review (0-1).")
@click.option(
    "--format",
    "formats",
    default="csv",
    show_default=True,
    metavar="LIST",
    help="Exports, comma-separated: csv, geojson, coco, ometiff, anndata, xlsx, fhir, hl7, corrected, positions.",
)
@click.option(
    "--heatmaps", type=click.IntRange(0), default=0, metavar="N", help="Heatmaps per class in the report."
)
@click.option("--as-slide", metavar="NAME", help="All images are fields of one slide of this name.")
@click.option("--resume", is_flag=True, help="Do only what is missing, or changed since.")
@click.option("--workers", type=click.IntRange(1), default=1, metavar="N", help="Slides analysed at a time.")
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to run on.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def analyze(inputs: tuple[str, ...], out: Path, as_slide: str | None, as_json: bool, **options: Any) -> int:
    """Count and classify the cells of blood smears.

    INPUT is an image, a folder of images, or a glob; each image is one slide.
    """
    how = {name: options.pop(name) for name in ("resume", "workers", "scheduler")}
    _refuse_unbuilt(options)
    from napari_leukocls.config import make_config

    config = make_config(**options)
    outcomes, slides = run_analysis(inputs, out, config, as_slide, **how)
    failed = report_failures(out, outcomes, slides)
    if as_json:
        write_json(_summary(out, outcomes, slides))
    else:
        _print_outcomes(out, outcomes, failed)
    return 1 if failed else 0


def run_analysis(
    inputs: tuple[str, ...], out: Path, config: Any, as_slide: str | None = None, **how: Any
) -> tuple[list[SlideOutcome], list[SlideInput]]:
    """Analyse what `inputs` stand for into `out`, with progress on standard error.

    `how` goes to `napari_leukocls.batch.run_batch`.
    """
    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.io.inputs import expand_inputs, group_as_slide

    slides = expand_inputs(inputs)
    if as_slide is not None:
        if not as_slide.strip():
            raise ArgumentError("--as-slide is empty: give the slide a name.")
        slides = [group_as_slide(slides, as_slide)]
    # Before the engine is loaded: a folder that cannot be written to is said at once.
    make_folder(out)
    from napari_leukocls.batch import run_batch

    progress = ProgressLine()
    try:
        return run_batch(slides, out, config, progress=progress, **how), slides
    finally:
        progress.close()


def report_failures(out: Path, outcomes: list[SlideOutcome], slides: list[SlideInput]) -> int:
    """List what failed in ``failures.csv`` and on standard error; how many did.

    Where nothing failed, the list that an earlier run into the same folder left is removed.
    """
    from napari_leukocls.io.atomic import output_error
    from napari_leukocls.results.summary import write_failures

    file = out / "failures.csv"
    sources = {slide.slide_id: slide.source for slide in slides}
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    for outcome in failed:
        click.echo(f"leukocls: {outcome.slide_id}: {outcome.error}", err=True)
    if failed:
        rows = [
            {"slide_id": one.slide_id, "source": sources[one.slide_id], "error": one.error} for one in failed
        ]
        write_failures(rows, file)
        return len(failed)
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(file, error) from error
    return 0


def _refuse_unbuilt(options: dict[str, Any]) -> None:
    """Check the names of exports."""
    from napari_leukocls.results.exports import parse_formats

    options["formats"] = parse_formats(options["formats"])


def _summary(out: Path, outcomes: list[SlideOutcome], slides: list[SlideInput]) -> dict[str, Any]:
    from dataclasses import asdict

    from napari_leukocls._version import __version__

    sources = {slide.slide_id: slide.source for slide in slides}
    done = sum(outcome.status == "done" for outcome in outcomes)
    return {
        "version": __version__,
        "out": str(out),
        "done": done,
        "failed": len(outcomes) - done,
        "slides": [{"source": sources.get(outcome.slide_id, ""), **asdict(outcome)} for outcome in outcomes],
    }


def _print_outcomes(out: Path, outcomes: list[SlideOutcome], failed: int) -> None:
    for outcome in outcomes:
        if outcome.status != "done":
            continue
        review = f", {outcome.n_review} to review" if outcome.n_review else ""
        when = "done before" if outcome.resumed else f"{outcome.seconds:.1f} s"
        click.echo(
            f"{outcome.slide_id}: {outcome.n_cells} cells, {outcome.n_wbc} leukocytes{review} ({when})"
        )
        for warning in outcome.warnings:
            click.echo(f"leukocls: {outcome.slide_id}: warning: {warning}", err=True)
    click.echo(f"{len(outcomes) - failed} of {len(outcomes)} slides done; results are in {out}")
