"""The page of measured figures, from the cards of the models and from docs/validation/*.json.

A file of docs/validation holds one table: ``title``, ``question``, ``set``, ``command``, ``date``, ``columns``,
``rows`` and, where there is something to add, ``note``.
"""

from __future__ import annotations

import json
from typing import Any

from scripts.documentation.links import ROOT
from scripts.documentation.model_cards import cards, evaluation, page_of
from scripts.documentation.tables import table

FOLDER = ROOT / "docs" / "validation"
FIELDS = ("title", "question", "set", "command", "date", "columns", "rows")
HEAD = """# Validation

What was measured, on which cells, with which command, and when. The page is made by `make docs` from figures that are
kept: those in the models' cards, and those in `docs/validation/`. No figure here is a claim about patients.

How to read the tables:

- Figures of cells that a model was trained near (the held-out part of the same laboratory) are higher than what your
  laboratory will see. Look at *left out* and *check* first.
- The limits in brackets are 95 % limits. With few cells they are wide.
- `tecom` is used for checks only: no model was trained, tuned or chosen on it.
"""


def kept() -> list[dict[str, Any]]:
    """The tables of docs/validation, by file name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for name, card in cards().items():
        figures = evaluation({**card, "test": _without_matrix(card)}, f"## Classifier {name}")
        if figures:
            parts += [figures, f"The confusion matrix is on the page of [{name}]({page_of(name)})."]
    parts += [_section(one) for one in kept()]
    return "\n\n".join(parts) + "\n"


def _without_matrix(card: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in card.get("test", {}).items() if key != "confusion_matrix"}


def _section(one: dict[str, Any]) -> str:
    facts = f"**Cells:** {one['set']}. **Measured:** {one['date']}. **Command:** `{one['command']}`"
    parts = [
        f"## {one['title']}",
        one["question"],
        table(one["columns"], one["rows"]),
        facts,
        one.get("note", ""),
    ]
    return "\n\n".join(part for part in parts if part)
