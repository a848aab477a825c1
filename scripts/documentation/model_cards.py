"""A page for each bundled model, from its card; the order is that of the model cards of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.models.card import make_card
from napari_leukocls.models.description import describe, figure_sets
from napari_leukocls.models.registry import ModelEntry
from scripts.documentation.links import ROOT
from scripts.documentation.tables import figure, limits, table


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards of the bundled models by name; the active one first."""
    paths = sorted((ROOT / "models").glob("*/model.json"))
    found = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "default", item[0])))


def pages() -> dict[str, str]:
    """The page of each model by its path on the site."""
    return {page_of(name): page(name, card) for name, card in cards().items()}


def page_of(name: str) -> str:
    """The path of a model's page on the site."""
    return f"models/{name}.md"


def navigation() -> list[dict[str, str]]:
    """The entries of the navigation."""
    return [{name: page_of(name)} for name in cards()]


def page(name: str, card: Mapping[str, Any]) -> str:
    """The page of one model."""
    parts = [
        f"# {name}",
        f"This page is made from the card of the model: `leukocls models info {name}`. "
        "[How the models were made](../models.md) has the details.",
        "## Model details",
        table(["field", "value"], _details(name, card)),
        "## Uses",
        f"{card.get('intended_use', 'Not stated.')} See [limits and intended use](../limits.md).",
        "## Limits",
        _listed(card.get("known_limits", [])),
        "## How to use it",
        _usage(name, card),
        "## Training data",
        _listed(card.get("training_data", {}).get("sources", [])),
        f"Parts: {_split(card['split'])}." if "split" in card else "",
        _counts(card),
        evaluation(card, "## Evaluation"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _split(split: str | Mapping[str, str]) -> str:
    """How the images were divided, in words."""
    return split if isinstance(split, str) else split["method"]


def _details(name: str, card: Mapping[str, Any]) -> list[tuple[str, str]]:
    said = describe(ModelEntry(name, ROOT / "models" / name, "bundled"))
    headings = (
        "kind",
        "architecture",
        "size",
        "classes",
        "input",
        "to review",
        "second look",
        "heatmaps",
        "licence",
    )
    rows = {heading: str(said[heading]) for heading in headings if heading in said}
    rows["architecture"] = f"`{rows['architecture']}`"
    rows["format"] = "safetensors and JSON"
    rows["SHA-256 of the weights"] = f"`{card['weights_sha256']}`" if "weights_sha256" in card else ""
    rows["made with"] = ", ".join(
        f"{package} {version}" for package, version in card.get("versions", {}).items()
    )
    return [(key, value) for key, value in rows.items() if value]


def _usage(name: str, card: Mapping[str, Any]) -> str:
    option = "--segmenter" if card.get("kind") == "segmenter" else "--classifier"
    if name == AnalyzeConfig.model_fields["red_cell_model"].default:
        option = "--red-cell-model"
    return f"```\nleukocls analyze smear.png {option} {name} --out results\n```"


def _counts(card: Mapping[str, Any]) -> str:
    data = card.get("training_data", {})
    laboratories: Mapping[str, Mapping[str, int]] = data.get("counts_by_laboratory", {})
    if not data.get("counts"):
        return ""
    rows = [
        [name, total, *(of.get(name, 0) for of in laboratories.values())]
        for name, total in data["counts"].items()
    ]
    return "Crops that were trained on, by class:\n\n" + table(["class", "all", *laboratories], rows)


def evaluation(card: Mapping[str, Any], heading: str) -> str:
    """The figures of a card, with what the cells were to the model; empty if it has none."""
    sets = figure_sets(make_card(card, "card")) if card.get("kind", "classifier") == "classifier" else {}
    if not sets:
        return ""
    rows = [
        [
            name,
            one.n,
            limits(one.accuracy, one.accuracy_ci95),
            figure(one.ece),
            figure(one.review_rate),
            figure(one.accuracy_not_reviewed),
            one.role or one.touched or "",
        ]
        for name, one in sets.items()
    ]
    head = [
        "cells of",
        "n",
        "accuracy (95 % limits)",
        "calibration error",
        "to review",
        "accuracy of the others",
        "what they were",
    ]
    parts = [heading, table(head, rows), _confusion(card)]
    return "\n\n".join(part for part in parts if part)


def _confusion(card: Mapping[str, Any]) -> str:
    test = card.get("test", {})
    matrix = test.get("confusion_matrix")
    rows = matrix["rows"] if isinstance(matrix, Mapping) else matrix
    if not rows:
        return ""
    classes = card["classes"]
    lines = [[f"**{name}**", *counts] for name, counts in zip(classes, rows, strict=True)]
    return f"{test.get('set', 'Test')}: rows are the true classes, columns the predicted ones.\n\n" + table(
        ["", *classes], lines
    )
