"""A page for each bundled model, from its card; the order is that of the model cards of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from napari_leukocls.config import AnalyzeConfig
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
    weights = ROOT / "models" / name / "weights.safetensors"
    input_size = card.get("input_size")
    rows = {
        "kind": card.get("kind", "classifier"),
        "architecture": f"`{card.get('architecture', '')}`",
        "classes": ", ".join(card.get("classes", [])),
        "input": f"{input_size[0]} x {input_size[1]} px" if input_size else "",
        "size of the weights": f"{weights.stat().st_size / 1e6:.1f} MB" if weights.is_file() else "",
        "format": "safetensors and JSON",
        "licence": card.get("licence", ""),
        "SHA-256 of the weights": f"`{card.get('weights_sha256', '')}`",
        "made with": ", ".join(
            f"{package} {version}" for package, version in card.get("versions", {}).items()
        ),
    }
    return [(key, value) for key, value in rows.items() if value and value != "``"]


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
    sets = {}
    if "test" in card:
        sets[f"test: {card['test'].get('set', '')}"] = card["test"]
    if "validation" in card:
        sets["validation"] = card["validation"]
    sets |= card.get("laboratories", {})
    if not sets:
        return ""
    rows = [
        [
            name,
            one.get("n"),
            limits(one.get("accuracy"), one.get("accuracy_ci95")),
            figure(one.get("ece")),
            figure(one.get("review_rate")),
            figure(one.get("accuracy_not_reviewed")),
            one.get("role") or one.get("touched") or "",
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
