"""``leukocls evaluate``: a model measured on labelled crops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from napari_leukocls.cli._base import (
    DECIMAL,
    DEVICES,
    Command,
    ProgressLine,
    figure_text,
    limits_text,
    print_json,
    print_notes,
)
from napari_leukocls.errors import InputError
from napari_leukocls.plurals import count_text, first_names

#: Metrics that are printed; all are in metrics.json.
_HEADLINE = ("n", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "auc_macro", "ece", "review_rate")


def need_data(data: Path) -> None:
    """Check that labelled crops exist.

    Parameters
    ----------
    data : Path

    Raises
    ------
    InputError
        If they do not.
    """
    if not data.exists():
        raise InputError(
            f"there is no '{data}'; give a folder with one folder for each class, a table with the columns "
            "file and class, or annotations (see 'leukocls data inspect --help')."
        )


def _unknown_note(metrics: Mapping[str, Any], out: Path) -> list[str]:
    """What is said of crops whose class the model does not have."""
    rows = metrics["unknown_classes"]
    if not rows:
        return []
    number = sum(row["n"] for row in rows.values())
    named = first_names((f"{name} {row['n']}" for name, row in rows.items()), 8)
    return [
        f"{count_text(number, 'crop is', 'crops are')} of classes that the model does not know ({named}) and in none "
        f"of the figures below; how many of them it sends to review is in {out / 'report.html'} and in metrics.json "
        "(unknown_classes)."
    ]


@click.command(cls=Command)
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the network."
)
@click.option(
    "--um-per-px", type=DECIMAL, metavar="F", help="Micrometres per pixel of crops whose row states none."
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def evaluate(model: str, data: Path, out: Path, device: str, um_per_px: float | None, as_json: bool) -> None:
    """Measure MODEL on labelled crops.

    DATA is a folder with one folder for each class, or a table with the columns file and class.
    """
    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.models.registry import find_model

    # Quick checks come before torch is loaded.
    find_model(model)
    need_data(data)
    make_folder(out)
    from napari_leukocls.api import evaluate_model

    progress = ProgressLine()
    try:
        metrics = evaluate_model(model, data, out, device, um_per_px, progress)
    finally:
        progress.close()
    print_notes([*metrics.get("data_notes", ()), *_unknown_note(metrics, out)])
    if as_json:
        print_json(metrics)
        return
    for name in _HEADLINE:
        if name in metrics:
            click.echo(f"{name:<20} {figure_text(metrics[name])}{limits_text(metrics.get(f'{name}_ci95'))}")
    click.echo(f"the report is {out / 'report.html'}")
