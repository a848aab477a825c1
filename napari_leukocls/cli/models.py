"""``leukocls models``: list, describe, check, import and export models."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from napari_leukocls.cli._base import DECIMAL, Group, ProgressLine, print_json, print_notes
from napari_leukocls.paths import bundled_dir
from napari_leukocls.plurals import count_text

#: Widest line of a description, characters.
_WIDEST = 110


@click.group(cls=Group)
def models() -> None:
    """List, describe, check, import and export models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable list.")
def list_command(as_json: bool) -> None:
    """List the models that can be used by name; * marks the active classifier."""
    from napari_leukocls.errors import ModelError
    from napari_leukocls.models.registry import active_classifier, list_models

    active = active_classifier()
    rows = []
    for entry in list_models():
        row: dict[str, Any] = {"name": entry.name, "origin": entry.origin, "active": entry.name == active}
        try:
            card = entry.card()
        except ModelError as error:
            row["error"] = str(error)
        else:
            row |= {"kind": card.get("kind", "classifier"), "architecture": _architecture(card)}
            classes = card.get("classes")
            row["classes"] = list(classes) if isinstance(classes, list) else []
        rows.append(row)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        mark = "*" if row["active"] else " "
        what = row.get("error") or _summary(row)
        click.echo(f"{mark} {row['name']:<24} {row['origin']:<12} {what}")
    if not rows:
        click.echo("no models are installed; set LEUKOCLS_MODELS to a folder of models", err=True)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the card as it is.")
def info(name: str, as_json: bool) -> None:
    """Describe the model NAME: what it is, what it was trained on, and how good it is."""
    from napari_leukocls.models.description import describe
    from napari_leukocls.models.registry import find_model

    entry = find_model(name)
    if as_json:
        print_json(entry.card())
        return
    width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    for heading, part in describe(entry).items():
        if isinstance(part, str):
            click.echo(textwrap.fill(f"{heading}: {part}", width, subsequent_indent="  "))
            continue
        click.echo(f"{heading}:")
        for line in part:
            click.echo(textwrap.fill(line, width, initial_indent="  - ", subsequent_indent="    "))


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def verify(name: str, as_json: bool) -> None:
    """Check that the model NAME is whole: that its card and weights can be read and belong together."""
    from napari_leukocls.models.registry import find_model

    entry = find_model(name)
    if entry.card().get("kind", "classifier") == "segmenter":
        from napari_leukocls.segmentation.compact import load_compact

        checked = [f"weights: SHA-256 {load_compact(entry.path, 'cpu').weights_hash}"]
    else:
        from napari_leukocls.classification.loading import verify as verify_classifier

        checked = verify_classifier(entry.path)
    if as_json:
        print_json({"name": entry.name, "path": str(entry.path), "whole": True, "checked": checked})
        return
    for line in checked:
        click.echo(line)
    click.echo(f"{entry.name} is whole")


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the installed model; by default the name of the file.")
@click.option("--arch", metavar="NAME", help="Architecture of a state dict.")
@click.option("--classes", metavar="A,B,...", help="Classes of a state dict, in the order of its outputs.")
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Argument of the architecture; VALUE is JSON.",
)
@click.option(
    "--input-size",
    "side_px",
    type=click.IntRange(16, 1024),
    metavar="PX",
    help="Side of the network's input, pixels.",
)
@click.option(
    "--side-um",
    type=DECIMAL,
    default=22.4,
    show_default=True,
    metavar="F",
    help="Side of the input on the slide, um.",
)
@click.option(
    "--margin-um",
    type=DECIMAL,
    metavar="F",
    help="Blank out pixels farther than this from the cell, um; by default none.",
)
@click.option(
    "--whole-image",
    is_flag=True,
    help="The network was trained on images that were only resized, of --side-um on the slide.",
)
@click.option("--licence", default="", help="Licence of the weights.")
@click.option("--replace", is_flag=True, help="Replace an installed model of the same name.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def import_command(path: Path, name: str | None, as_json: bool, replace: bool, **options: Any) -> None:
    """Install the model at PATH: a model folder, its zip, or a state dict (.safetensors, .pth).

    No code in the file is run.
    """
    from napari_leukocls.exchange import import_model

    installed = import_model(path, name, _import_settings(options), replace)
    if as_json:
        print_json({"name": installed.name, "path": str(installed)})
        return
    click.echo(f"{installed.name} is installed; use it with --classifier {installed.name}")
    if (bundled_dir("models") / installed.name).is_dir():
        click.echo(
            f"leukocls: it is used in place of the bundled model of this name. To have both, remove '{installed}' and "
            "import it with --name.",
            err=True,
        )


@models.command("export")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def export_command(name: str, path: Path, as_json: bool) -> None:
    """Save the model NAME as PATH: *.onnx, *.bioimageio.zip, or *.zip (its folder)."""
    from napari_leukocls.exchange import export_model

    result = export_model(name, path)
    if as_json:
        print_json(result)
        return
    checked = result.get("largest_difference")
    more = "" if checked is None else f" (checked: outputs differ by at most {checked:.1g})"
    click.echo(f"{name} is saved as {result['path']}{more}")
    print_notes(result["left_out"])


@models.command("prune")
@click.argument("name")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="DATA", help="Labelled crops."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the new model."
)
@click.option("--blocks", type=click.IntRange(min=0), default=0, show_default=True, help="Blocks to remove.")
@click.option("--heads", type=click.IntRange(min=0), default=0, show_default=True, help="Heads to remove.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def prune_command(name: str, data: Path, out: Path, blocks: int, heads: int, as_json: bool) -> None:
    """Remove the attention heads or blocks of least contribution from the hybrid NAME, and compare both on DATA.

    Train the new model on for a few epochs ('leukocls train DATA --from DIR') to regain accuracy.
    """
    from napari_leukocls.exchange.compression import iter_prune
    from napari_leukocls.progress import drain

    result = _with_progress(lambda show: drain(iter_prune(name, data, out, blocks, heads), show))
    if as_json:
        print_json(result)
        return
    click.echo(f"{'model':<28}{'accuracy':>10}{'macro F1':>10}{'parameters':>14}{'MB':>9}{'ms, one':>10}")
    for row in result["models"]:
        click.echo(
            f"{row['model']:<28}{row['accuracy']:>10.4f}{row['macro_f1']:>10.4f}{row['parameters']:>14,}"
            f"{row['mb']:>9.1f}{row['ms_per_image_batch1']:>10.2f}"
        )
    click.echo(f"the pruned model is {result['model']}")


@models.command("quantise")
@click.argument("name")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="DATA", help="Labelled crops."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="ONNX file in eight bits."
)
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def quantise_command(name: str, data: Path, out: Path, as_json: bool) -> None:
    """Save the model NAME in eight bits as ONNX, and compare it with floating point on DATA."""
    from napari_leukocls.exchange.compression import iter_quantise
    from napari_leukocls.progress import drain

    result = _with_progress(lambda show: drain(iter_quantise(name, data, out), show))
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{'':<12}{'accuracy':>10}{'macro F1':>10}{'agrees':>9}{'MB':>9}{'ms, one':>10}{'ms, batch':>11}"
    )
    for row in result["rows"]:
        click.echo(
            f"{row['name']:<12}{row['accuracy']:>10.4f}{row['macro_f1']:>10.4f}{row['agreement']:>9.4f}"
            f"{row['mb']:>9.1f}{row['ms_batch1']:>10.2f}{row['ms_best']:>11.2f}"
        )
    if result["warning"]:
        click.echo(f"leukocls: {result['warning']}", err=True)
    click.echo(f"{name} in eight bits is {result['path']} (ranges of activations: {result['ranges_of']})")


def _with_progress(work: Callable[[ProgressLine], dict[str, Any]]) -> dict[str, Any]:
    progress = ProgressLine()
    try:
        return work(progress)
    finally:
        progress.close()


def _import_settings(options: dict[str, Any]) -> Any:
    """The settings of a state dict; None if none were given."""
    from napari_leukocls.errors import ArgumentError
    from napari_leukocls.exchange import ImportSettings

    if not options["arch"] and not options["classes"]:
        return None
    arguments = {}
    for word in options["arguments"]:
        key, separator, value = word.partition("=")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
        if not separator or not key:
            raise ArgumentError(f"--argument {word!r} is not KEY=VALUE; write for example depth=2.")
    return ImportSettings(
        architecture=options["arch"] or "",
        classes=tuple(part.strip() for part in (options["classes"] or "").split(",") if part.strip()),
        arguments=arguments,
        side_px=options["side_px"],
        side_um=options["side_um"],
        margin_um=options["margin_um"],
        licence=options["licence"],
        whole_image=options["whole_image"],
    )


def _summary(row: dict[str, Any]) -> str:
    if row["kind"] == "segmenter":
        return "segmenter"
    return f"{row['architecture']}, {count_text(len(row['classes']), 'class', 'classes')}"


def _architecture(card: dict[str, Any]) -> str:
    """The name of the architecture, which the card holds alone or with its arguments."""
    architecture = card.get("architecture", "unknown")
    return str(architecture.get("name", "unknown")) if isinstance(architecture, dict) else str(architecture)
