"""``leukocls adapt``: a model is adapted to a laboratory, with labelled cells or with images alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_leukocls.cli._base import DECIMAL, DEVICES, Command
from napari_leukocls.cli.train import train_and_print
from napari_leukocls.errors import InputError


@click.command(cls=Command)
@click.argument("data")
@click.option("--from", "from_model", metavar="NAME", help="Model to adapt; by default the active one.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the new model."
)
@click.option("--name", default="", metavar="TEXT", help="Name of the new model.")
@click.option(
    "--labels/--no-labels",
    default=None,
    help="Whether DATA has classes; by default this is found out.",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="CLASS",
    help="A class that is not learnt; may be given several times.",
)
@click.option("--um-per-px", type=DECIMAL, metavar="F", help="Micrometres per pixel, if you know it.")
@click.option(
    "--target-error", type=DECIMAL, metavar="F", help="Share of wrong cells accepted without review."
)
@click.option(
    "--device", type=DEVICES, default="auto", show_default=True, help="Compute device of the network."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def adapt(
    data: str,
    from_model: str | None,
    out: Path,
    name: str,
    labels: bool | None,
    leave_out: tuple[str, ...],
    um_per_px: float | None,
    target_error: float | None,
    device: str,
    as_json: bool,
) -> int:
    """Adapt a model to your laboratory's stain and camera.

    DATA with classes (a folder with one folder for each class, or a CSV with the columns file and class, and patient
    or slide if you know them): about 100 labelled crops, new classes too. DATA without classes (a folder of images):
    the stain and camera alone. If the model does not get better, it is kept as it is, and the exit status is 1.
    """
    from napari_leukocls.models.registry import active_classifier, find_model

    # Quick checks come before torch is loaded.
    model = from_model or active_classifier()
    find_model(model)
    if not Path(data).exists():
        raise InputError(f"there is no '{data}'; give a folder of images, or labelled crops.")
    from napari_leukocls.threads import share_processor

    share_processor()
    from napari_leukocls.training.config import make_train_config
    from napari_leukocls.training.data import has_classes

    labelled = has_classes(data) if labels is None else labels
    given: dict[str, Any] = {"um_per_px": um_per_px, "target_error": target_error}
    options = {key: value for key, value in given.items() if value is not None}
    config = make_train_config(
        "adapt",
        data=data,
        leave_out=leave_out,
        from_model=model,
        out=str(out),
        name=name,
        device=device,
        without_labels=not labelled,
        **options,
    )
    kind = "the classes of the data" if labelled else "the images alone, without classes"
    click.echo(f"adapting {model} to {kind}.", err=True)
    return train_and_print(config, as_json)
