"""The page of measured figures: from the models' cards, docs/validation/*.json and benchmarks/ratios.json.

A file of docs/validation holds one table: ``title``, ``question``, ``set``, ``command``, ``date``, ``columns``,
``rows`` and, where there is something to add, ``note``. Figures that stand on the page of what they are about are
listed with their command, from the table of measurements in scripts/README.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from scripts.documentation.links import ROOT
from scripts.documentation.model_cards import cards, evaluation, page_of
from scripts.documentation.tables import table

FOLDER = ROOT / "docs" / "validation"
RATIOS = ROOT / "benchmarks" / "ratios.json"
SCRIPTS = ROOT / "scripts" / "README.md"
#: What measures a model, where it is another program than that of the classifiers of leukocytes.
MADE_BY = {"red_cells": "python -m scripts.train_red_cells"}
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
    parts.append(on_other_pages())
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
    command = MADE_BY.get(name, "python -m scripts.finish_default")
    return (
        f"**Weights:** SHA-256 {card['weights_sha256'][:12]}. **Measured:** {_date(f'models/{name}/model.json')}. "
        f"**Command:** `{command}`, with the options and crops of [scripts](scripts.md). "
        f"`leukocls evaluate {name} DATA --out DIR` measures the same on your crops. "
        f"The confusion matrix is on the page of [{name}]({page_of(name)})."
    )


def _date(path: str) -> str:
    """When a file was last changed; the history of the checkout knows."""
    if shutil.which("git") is None or _git("rev-parse", "--is-shallow-repository") != "false":
        return "at the commit that last changed it"
    return _git("log", "-1", "--format=%cs", "--", path) or "not committed"


def measurements() -> Iterator[tuple[str, str, list[str]]]:
    """The rows of the table of measurements in scripts/README.md: command, what is measured, the pages that show it."""
    text = SCRIPTS.read_text(encoding="utf-8").split("## Measurements\n", 1)[1].split("\n## ", 1)[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 3 and (pages := re.findall(r"`docs/([\w-]+)\.md`", cells[2])):
            yield cells[0], cells[1], pages


def on_other_pages() -> str:
    """Where the other figures are: each with its command, and the date of its page."""
    rows = [
        [f"[{page}]({page}.md)", what, command, _date(f"docs/{page}.md")]
        for command, what, pages in measurements()
        for page in pages
    ]
    return "\n\n".join(
        [
            "## Figures on other pages",
            "These figures stand on the page of what they are about. Each says there on which cells it was measured.",
            table(["page", "what was measured", "command", "page changed"], sorted(rows)),
        ]
    )


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def speed(ratios: Mapping[str, Any]) -> str:
    """The kept ratios of the benchmarks as a section; the regressions of a run are told by them."""
    rows = [
        [name, figure, f"{value:.3g}", f"{ratios['better'][name][figure]} is better"]
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
