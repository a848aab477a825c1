"""``leukocls explain``: heatmaps of what a model's decision depends on, and checks of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_leukocls.cli._base import DECIMAL, DEVICES, Command, ProgressLine, print_json
from napari_leukocls.plurals import count_text

if TYPE_CHECKING:
    from napari_leukocls.explanation.report import Explanation


@click.command(cls=Command)
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--method",
    metavar="NAME",
    help="gradcam, gradcam++, layercam, hirescam, eigencam or scorecam (slow); by default the model's own.",
)
@click.option("--check", is_flag=True, help="Check the heatmaps against the model, on up to 64 cells.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "field", "crop"]),
    default="auto",
    show_default=True,
    help="In a field every leukocyte is explained, in a crop its central cell; auto takes images of up to 40 um a "
    "side as crops.",
)
@click.option("--pixel-size-um", type=DECIMAL, metavar="F", help="Micrometres per pixel, of all images.")
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the networks."
)
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def explain(
    model: str,
    images: tuple[str, ...],
    out: Path,
    method: str | None,
    check: bool,
    kind: str,
    pixel_size_um: float | None,
    device: str,
    as_json: bool,
) -> int:
    """Draw heatmaps of what decides the class of a cell.

    MODEL is the name or folder of a model. IMAGE is an image, a folder of images, or a glob. The results are
    figure.png, heatmaps, explanations.csv and report.html in DIR.
    """
    from napari_leukocls.models.registry import find_model

    # Quick checks come before torch is loaded.
    find_model(model)
    from napari_leukocls.api import explain as explained

    progress = ProgressLine()
    try:
        explanation = explained(
            model,
            images,
            out,
            method=method,
            check=check,
            device=device,
            um_per_px=pixel_size_um,
            kind=kind,
            progress=progress,
        )
    finally:
        progress.close()
    for row in explanation.failures:
        click.echo(f"leukocls: {row['slide_id']}: {row['error']}", err=True)
    if as_json:
        print_json(_summary(explanation, out))
    else:
        _print(explanation, out)
    return 1 if explanation.failures else 0


def _summary(explanation: Explanation, out: Path) -> dict[str, Any]:
    from napari_leukocls.io.serialise import to_plain

    summary: dict[str, Any] = to_plain(
        {
            "out": str(out),
            "model": explanation.model,
            "images": [
                {"name": image.name, "kind": image.kind, "n_cells": len(image.cells)}
                for image in explanation.images
            ],
            "checks": explanation.checks,
            "notes": explanation.notes,
            "failures": explanation.failures,
        }
    )
    return summary


def _print(explanation: Explanation, out: Path) -> None:
    from napari_leukocls.explanation.trust import figures_text

    for note in explanation.notes:
        click.echo(f"leukocls: {note}", err=True)
    model = explanation.model
    click.echo(f"{model['name']} ({model['method']}): {model['badge']}: {model['figures']}")
    if explanation.checks is not None:
        click.echo(f"these cells: {explanation.checks['state']}: {figures_text(explanation.checks)}")
    click.echo(
        f"{count_text(len(explanation.cells), 'cell')} in {count_text(len(explanation.images), 'image')}; "
        f"results are in {out}"
    )
