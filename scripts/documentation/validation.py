"""The page of measured figures: from the models' cards, docs/validation/*.json, benchmarks/ratios.json and the papers.

A file of docs/validation holds one table: ``title``, ``question``, ``set``, ``command``, ``date``, ``columns``,
``rows`` and, where there is something to add, ``note``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from benchmarks.catalogue import BENCHMARKS
from scripts.documentation.links import ROOT
from scripts.documentation.model_cards import cards, evaluation, page_of
from scripts.documentation.tables import table

FOLDER = ROOT / "docs" / "validation"
RATIOS = ROOT / "benchmarks" / "ratios.json"
FIELDS = ("title", "question", "set", "command", "date", "columns", "rows")
HEAD = """# Validation

What was measured, on which cells, with which command, and when. The page is made by `make docs` from figures that are
kept: those in the models' cards, in `docs/validation/` and in `benchmarks/ratios.json`. No figure here is a claim about
patients.

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
            parts += [figures, _how(name, card)]
    parts += [_section(one) for one in kept()]
    parts.append(speed(json.loads(RATIOS.read_text(encoding="utf-8"))))
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


def _how(name: str, card: Mapping[str, Any]) -> str:
    """How the figures of a card are measured, and of which weights they are."""
    return (
        f"**Weights:** SHA-256 {card['weights_sha256'][:12]}. **Measured:** {_date(name)}. "
        f"**Command:** `leukocls evaluate {name} DATA --out DIR` for the test; the other rows by the steps of "
        f"[scripts](scripts.md). The confusion matrix is on the page of [{name}]({page_of(name)})."
    )


def _date(name: str) -> str:
    """When the figures of a card were written into it; the history of the checkout knows."""
    if shutil.which("git") is None or _git("rev-parse", "--is-shallow-repository") != "false":
        return "at the commit that last changed the card"
    return _git("log", "-1", "--format=%cs", "--", f"models/{name}/model.json") or "not committed"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def speed(ratios: Mapping[str, Any]) -> str:
    """The kept ratios of the benchmarks as a section; the regressions of a run are told by them."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    rows = [
        [name, figure, f"{value:.3g}", f"{known[name].ratios[figure]} is better"]
        for name, figures in ratios["ratios"].items()
        for figure, value in figures.items()
    ]
    note = f" Note: {ratios['note']}." if "note" in ratios else ""
    return "\n\n".join(
        [
            "## Speed, as ratios within one run",
            "How fast is each step beside another program on the same machine? `--check` fails if a ratio is more than "
            "20 % worse than the one here. [Benchmarks](benchmarks.md) says what is compared.",
            table(["benchmark", "ratio", "kept", ""], rows),
            f"**Measured:** {ratios['date'][:10]}, on {ratios['cores']} cores. "
            f"**Command:** `python -m benchmarks run --keep`.{note}",
        ]
    )
