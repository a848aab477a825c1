"""``leukocls analyze``: images, folders and globs to one folder of results for each slide."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_leukocls._version import __version__
from napari_leukocls.cli._base import DECIMAL, DEVICES, Command, ProgressLine, print_json
from napari_leukocls.errors import ArgumentError, InputError, LeukoclsError
from napari_leukocls.plurals import count_text
from napari_leukocls.results.exports import formats_help, parse_formats
from napari_leukocls.threads import cores

#: A warning of so many slides of a run is printed once.
_MANY_SLIDES = 3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_leukocls.batch import SlideOutcome
    from napari_leukocls.batch.samples import BatchSamples
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
    help="compact, threshold, or the name or file of a cellpose model.",
)
@click.option("--classifier", metavar="NAME", help="Name of a model; the active one by default.")
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the networks."
)
@click.option("--diameter-px", type=DECIMAL, metavar="F", help="Diameter of a red cell, pixels.")
@click.option("--pixel-size-um", type=DECIMAL, metavar="F", help="Micrometres per pixel.")
@click.option(
    "--plane",
    default="first",
    show_default=True,
    metavar="N|NAME",
    help="Plane of a stack: its number, first, middle, last, sharpest, focus (each place from its sharpest plane), "
    "or the mean, min or max of all planes.",
)
@click.option(
    "--even-light/--light-as-is",
    default=True,
    show_default=True,
    help="Whether to correct light that is weaker towards the edges of the image.",
)
@click.option(
    "--min-confidence", type=DECIMAL, metavar="F", help="A cell with a lower probability (0-1) needs review."
)
@click.option(
    "--red-cells/--no-red-cells",
    default=True,
    show_default=True,
    help="Whether to measure the red cells and tell their shapes (red_cells.csv, and findings of red cells).",
)
@click.option(
    "--red-cell-model",
    default="red_cells",
    show_default=True,
    metavar="NAME",
    help="Model of the shapes of red cells.",
)
@click.option(
    "--depth",
    type=click.Choice(["classes", "fine"]),
    default="classes",
    show_default=True,
    help="How finely to count: the model's classes, or also segmented and band neutrophils, promyelocytes, "
    "myelocytes and metamyelocytes, if the model tells them apart.",
)
@click.option(
    "--format",
    "formats",
    default="csv",
    show_default=True,
    metavar="LIST",
    help=formats_help(),
)
@click.option(
    "--heatmaps",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Number of heatmaps for each class in the report.",
)
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Counts of the analyser by slide or sample: a table with slide_id and wbc, or messages of HL7.",
)
@click.option("--wbc", metavar="N", help="Leukocytes per litre: 7.5 (10^9/L), or with a unit, as '7500 /uL'.")
@click.option("--rbc", metavar="N", help="Red cells per litre: 4.6 (10^12/L), or with a unit.")
@click.option("--sample", metavar="ID", help="Identifier of the sample, for the report.")
@click.option("--patient", metavar="ID", help="The laboratory's number of the patient, not a name.")
@click.option("--age", metavar="N", help="Age in years, or as '6 m', '8 d', for reference ranges.")
@click.option("--sex", metavar="F|M", help="Sex, for reference ranges.")
@click.option("--as-slide", metavar="NAME", help="Take all images as fields of one slide, with this name.")
@click.option(
    "--resume", is_flag=True, help="Analyse only slides that are not done yet, or have changed since."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Slides analysed at the same time.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Address of a Dask scheduler to run on.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def analyze(inputs: tuple[str, ...], out: Path, as_slide: str | None, as_json: bool, **options: Any) -> int:
    """Count and classify the cells of blood smears.

    INPUT is an image, a folder of images, or a glob; each image is one slide.
    """
    how = {name: options.pop(name) for name in ("resume", "workers", "scheduler")}
    sample = {
        name: options.pop(name) for name in ("samples", "wbc", "rbc", "sample", "patient", "age", "sex")
    }
    options["formats"] = parse_formats(options["formats"])
    if how["workers"] > cores() and not how["scheduler"]:
        workers = f"{how['workers']} workers are more than the {count_text(cores(), 'core')} of this process"
        click.echo(f"leukocls: {workers}: {cores()} at a time.", err=True)
    from napari_leukocls.config import make_config

    config = make_config(**options)
    outcomes, slides = run_analysis(inputs, out, config, as_slide, sample=sample, **how)
    failed = report_failures(out, outcomes, slides)
    if as_json:
        print_json(_summary(out, outcomes, slides))
    else:
        _print_outcomes(out, outcomes, failed)
    return 1 if failed else 0


def run_analysis(
    inputs: tuple[str, ...],
    out: Path,
    config: Any,
    as_slide: str | None = None,
    sample: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[list[SlideOutcome], list[SlideInput]]:
    """Analyse images, with progress on standard error.

    Parameters
    ----------
    inputs : tuple of str
        Images, folders and globs.
    out : Path
        Folder of the results.
    config : AnalyzeConfig
    as_slide : str, optional
        Name of one slide that all images are fields of.
    sample : mapping, optional
        Values as they were given: ``samples``, ``wbc``, ``rbc``, ``sample``, ``patient``, ``age``, ``sex``.
    **how
        Further arguments of `napari_leukocls.batch.run_batch`.

    Returns
    -------
    outcomes : list of SlideOutcome
    slides : list of SlideInput

    Raises
    ------
    ArgumentError
        If `as_slide` is empty.
    OutputError
        If the results cannot be written.
    """
    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.io.inputs import expand_inputs, group_as_slide

    slides = expand_inputs(inputs)
    if as_slide is not None:
        if not as_slide.strip():
            raise ArgumentError("--as-slide is empty: give the slide a name.")
        slides = [group_as_slide(slides, as_slide)]
        if slides[0].slide_id != as_slide:
            name = slides[0].slide_id
            click.echo(
                f"leukocls: the slide is named {name!r}: {as_slide!r} cannot be the name of a folder.",
                err=True,
            )
    how["samples"] = _samples_of(slides, sample or {})
    # Before the models are loaded, so that an error about the folder comes at once.
    new = not out.exists()
    make_folder(out)
    from napari_leukocls.batch import run_batch

    progress = ProgressLine()
    try:
        return run_batch(slides, out, config, progress=progress, **how), slides
    except LeukoclsError:
        # Refused before the first slide: no empty folder stays, and one with results is not touched.
        if new:
            with suppress(OSError):
                out.rmdir()
        raise
    finally:
        progress.close()


def _samples_of(slides: list[SlideInput], given: Mapping[str, Any]) -> BatchSamples:
    """Find the values of the analyser for each slide; what is not used is printed."""
    from napari_leukocls.batch.samples import samples_of_slides
    from napari_leukocls.measurement.sample_files import read_samples
    from napari_leukocls.measurement.samples import make_sample

    try:
        file = None if given.get("samples") is None else read_samples(given["samples"])
    except InputError as error:
        # It is no slide that failed: nothing is analysed.
        raise ArgumentError(str(error)) from error
    for line in () if file is None else file.problems:
        click.echo(f"leukocls: {line}", err=True)
    texts = {name: given.get(name) or "" for name in ("wbc", "rbc", "age", "sex", "sample", "patient")}
    typed = None
    if any(text.strip() for text in texts.values()):
        identifier = texts.pop("sample")
        typed = make_sample(**texts, identifier=identifier)
    return samples_of_slides([slide.slide_id for slide in slides], file, typed)


def report_failures(out: Path, outcomes: list[SlideOutcome], slides: list[SlideInput]) -> int:
    """List the slides that failed in ``failures.csv`` and on standard error.

    If none failed, the list of an earlier run in the same folder is removed.

    Parameters
    ----------
    out : Path
        Folder of the results.
    outcomes : list of SlideOutcome
    slides : list of SlideInput

    Returns
    -------
    int
        How many failed.

    Raises
    ------
    OutputError
        If the list cannot be written or removed.
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


def _summary(out: Path, outcomes: list[SlideOutcome], slides: list[SlideInput]) -> dict[str, Any]:
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
    from napari_leukocls.batch.run_familiarity import run_warnings

    slides: dict[str, list[str]] = {}
    for outcome in outcomes:
        for warning in dict.fromkeys(outcome.warnings):
            slides.setdefault(warning, []).append(outcome.slide_id)
    of_run = run_warnings(outcomes)
    # What holds for many slides is said once, after them.
    of_many = [
        warning for warning, names in slides.items() if len(names) >= _MANY_SLIDES and warning not in of_run
    ]
    for outcome in outcomes:
        if outcome.status != "done":
            continue
        review = f", {outcome.n_review} to review" if outcome.n_review else ""
        when = "done earlier" if outcome.resumed else f"{outcome.seconds:.1f} s"
        click.echo(
            f"{outcome.slide_id}: {count_text(outcome.n_cells, 'cell')}, "
            f"{count_text(outcome.n_wbc, 'leukocyte')} counted{review} ({when})"
        )
        for warning in outcome.warnings:
            if warning not in of_run and warning not in of_many:
                click.echo(f"leukocls: {outcome.slide_id}: warning: {warning}", err=True)
    for warning in of_many:
        names = slides[warning]
        shown = ", ".join(names[:_MANY_SLIDES]) + (", ..." if len(names) > _MANY_SLIDES else "")
        click.echo(f"leukocls: {len(names)} slides ({shown}): warning: {warning}", err=True)
    for warning in of_run:
        click.echo(f"leukocls: warning: {warning}", err=True)
    click.echo(f"{len(outcomes) - failed} of {count_text(len(outcomes), 'slide')} done; results are in {out}")
