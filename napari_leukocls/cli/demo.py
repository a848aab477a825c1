"""``leukocls demo`` and ``leukocls benchmark``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import click

from napari_leukocls.cli._base import DEVICES, Command, figure_text, print_json
from napari_leukocls.plurals import count_text


@click.command(cls=Command)
@click.option("--quick", is_flag=True, help="Fewer repeats and small images.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def benchmark(quick: bool, as_json: bool) -> None:
    """Measure the speed and memory of analyses on this machine."""
    from napari_leukocls.api import run_benchmark

    figures = run_benchmark(quick)
    if as_json:
        print_json(figures)
        return
    for name, value in _flat(figures):
        click.echo(f"{name:<56} {figure_text(value)}")


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("leukocls-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder of the results.",
)
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the networks."
)
def demo(out: Path, device: str) -> int:
    """Analyse the bundled smear and print its counts."""
    from napari_leukocls.cli.analyze import report_failures, run_analysis
    from napari_leukocls.config import make_config
    from napari_leukocls.io.html import capitalize_first
    from napari_leukocls.measurement.differential import unsigned
    from napari_leukocls.paths import sample_smear
    from napari_leukocls.results.reader import read_outlines

    smear = sample_smear()
    click.echo(f"analysing {smear}", err=True)
    outcomes, slides = run_analysis((str(smear),), out, make_config(device=device))
    if report_failures(out, outcomes, slides):
        return 1
    folder = out / slides[0].slide_id
    _print_differential(folder / "counts.csv")
    # Cells that wait are not a random part of the smear: without them the percentages mislead.
    click.echo(f"\n{capitalize_first(unsigned(read_outlines(folder)[1]).words())}.")
    click.echo(f"{count_text(outcomes[0].n_cells, 'cell')}. For research and training; not for diagnosis.")
    click.echo(f"The report is {(folder / 'report.html').resolve()}")
    return 0


def _print_differential(counts: Path) -> None:
    """Print the classes that occur, with percent and limits of those in the differential."""
    with open(counts, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    click.echo(f"{'class':<24}{'count':>7}{'percent':>9}   95 % limits")
    for row in rows:
        if not int(row["count"]):
            continue
        line = f"{row['class']:<24}{row['count']:>7}"
        if row["percent"]:
            low, high = float(row["ci95_low"]), float(row["ci95_high"])
            line += f"{float(row['percent']):>9.1f}   {low:.1f}-{high:.1f}"
        click.echo(line)


def _flat(figures: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested figures as pairs of a dotted name and a value."""
    rows: list[tuple[str, Any]] = []
    for key, value in figures.items():
        rows += _flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)]
    return rows
