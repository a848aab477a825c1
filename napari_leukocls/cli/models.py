"""``leukocls models``: list, describe, check, import and export models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from napari_leukocls.cli._base import DECIMAL, Group, count_text, print_json

#: Entries of a card that are shown first.
_FIRST = ("name", "task", "architecture", "classes", "intended_use", "known_limits", "licence")


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
    """Show the card of the model NAME."""
    from napari_leukocls.models.registry import find_model

    entry = find_model(name)
    card = entry.card()
    if as_json:
        print_json(card)
        return
    click.echo(f"folder: {entry.path}")
    for key in (*(key for key in _FIRST if key in card), *(key for key in card if key not in _FIRST)):
        click.echo(f"{key}: {_short(card[key])}")


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
    more = "" if checked is None else f" (checked: probabilities differ by at most {checked:.1g})"
    click.echo(f"{name} is saved as {result['path']}{more}")


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
    )


def _summary(row: dict[str, Any]) -> str:
    if row["kind"] == "segmenter":
        return "segmenter"
    return f"{row['architecture']}, {count_text(len(row['classes']), 'class', 'classes')}"


def _architecture(card: dict[str, Any]) -> str:
    """The name of the architecture, which the card holds alone or with its arguments."""
    architecture = card.get("architecture", "unknown")
    return str(architecture.get("name", "unknown")) if isinstance(architecture, dict) else str(architecture)


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}... (--json shows all)"
