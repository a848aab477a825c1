"""``leukocls models``: which there are, what they say of themselves, and whether they are whole."""

from __future__ import annotations

from typing import Any

import click

from napari_leukocls.cli._base import Group, write_json
from napari_leukocls.cli.later import later

_FIRST = ("name", "task", "architecture", "classes", "intended_use", "known_limits", "licence")


@click.group(cls=Group)
def models() -> None:
    """List, describe and check models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable list.")
def list_command(as_json: bool) -> None:
    """List the models that can be used by name; * marks the active classifier."""
    from napari_leukocls.errors import ModelError
    from napari_leukocls.resources import active_classifier, list_models

    active = active_classifier()
    rows = []
    for entry in list_models():
        row: dict[str, Any] = {"name": entry.name, "origin": entry.origin, "active": entry.name == active}
        try:
            card = entry.card()
        except ModelError as error:
            row["error"] = str(error)
        else:
            row |= {"architecture": _architecture(card), "classes": list(card.get("classes", []))}
        rows.append(row)
    if as_json:
        write_json(rows)
        return
    for row in rows:
        mark = "*" if row["active"] else " "
        what = row.get("error") or f"{row['architecture']}, {len(row['classes'])} classes"
        click.echo(f"{mark} {row['name']:<24} {row['origin']:<12} {what}")
    if not rows:
        click.echo("no models are installed; set LEUKOCLS_MODELS to a folder of models", err=True)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the card as it is.")
def info(name: str, as_json: bool) -> None:
    """Show the card of the model NAME."""
    from napari_leukocls.resources import find_model

    entry = find_model(name)
    card = entry.card()
    if as_json:
        write_json(card)
        return
    click.echo(f"folder: {entry.path}")
    for key in (*(key for key in _FIRST if key in card), *(key for key in card if key not in _FIRST)):
        click.echo(f"{key}: {_short(card[key])}")


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def verify(name: str, as_json: bool) -> None:
    """Check that the model NAME is whole: its card, its weights, and that they fit each other."""
    from napari_leukocls.resources import find_model

    entry = find_model(name)
    if entry.card().get("kind", "classifier") == "segmenter":
        from napari_leukocls.segmentation.compact import load_compact

        checked = [f"weights: SHA-256 {load_compact(entry.path, 'cpu').weights_hash}"]
    else:
        from napari_leukocls.classification.checkpoint import verify as verify_classifier

        checked = verify_classifier(entry.path)
    if as_json:
        write_json({"name": entry.name, "path": str(entry.path), "whole": True, "checked": checked})
        return
    for line in checked:
        click.echo(line)
    click.echo(f"{entry.name} is whole")


models.add_command(later("import", "Install a model from a file"))
models.add_command(later("export", "Save a model as one file"))


def _architecture(card: dict[str, Any]) -> str:
    """The architecture's name: the card holds it alone or with its arguments."""
    architecture = card.get("architecture", "unknown")
    return str(architecture.get("name", "unknown")) if isinstance(architecture, dict) else str(architecture)


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}... (--json shows all)"
