"""Compare measured coverage with the floors in pyproject.toml, draw a badge, and keep the figures.

    python -m scripts.coverage_floors COVERAGE_JSON [--badge FILE.svg] [--keep]

`COVERAGE_JSON` is what ``coverage json`` writes. *widgets* is the code of the docks; *core* is everything else.
`--keep` writes them to ``docs/validation/coverage.json``, from which the page of measured figures is made.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WIDGETS = "napari_leukocls/widgets/"
KEPT = ROOT / "docs" / "validation" / "coverage.json"
#: Least coverage of each colour, per cent.
COLOURS = ((90, "#3a7d34"), (75, "#8a7a1a"), (0, "#a3402f"))
BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {value}">
<title>{label}: {value}</title>
<rect width="{left}" height="20" fill="#444"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{left_middle}" y="14">{label}</text><text x="{right_middle}" y="14">{value}</text></g></svg>
"""


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Covered statements and branches of core and widgets, per cent."""
    covered = {"core": 0, "widgets": 0}
    whole = {"core": 0, "widgets": 0}
    for name, file in report["files"].items():
        part = "widgets" if Path(name).as_posix().startswith(WIDGETS) else "core"
        summary = file["summary"]
        covered[part] += summary["covered_lines"] + summary.get("covered_branches", 0)
        whole[part] += summary["num_statements"] + summary.get("num_branches", 0)
    return {part: 100 * covered[part] / whole[part] if whole[part] else 100.0 for part in whole}


def badge(label: str, share: float) -> str:
    """A badge as SVG."""
    value = f"{share:.0f} %"
    left, right = 7 * len(label) + 10, 7 * len(value) + 10
    colour = next(colour for least, colour in COLOURS if share >= least)
    return BADGE.format(
        label=label, value=value, colour=colour, left=left, right=right, width=left + right,
        left_middle=left / 2, right_middle=left + right / 2,
    )  # fmt: skip


def table(
    found: Mapping[str, float], floors: Mapping[str, float], report: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures as a table of the page of measured figures."""
    names = {"core": "all but the docks", "widgets": "the docks"}
    return {
        "title": "Code that the tests run",
        "question": "Which share of the statements and branches do the tests run?",
        "set": f"{report['totals']['num_statements']} statements of the package",
        "command": "make coverage COVERAGE_ARGS=--keep",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "columns": ["part", "covered", "floor"],
        "rows": [[names[part], f"{share:.1f} %", f"{floors[part]} %"] for part, share in found.items()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--badge", type=Path)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = settings["tool"]["leukocls"]["coverage"]
    report = json.loads(args.report.read_text(encoding="utf-8"))
    low = False
    found = shares(report)
    for part, share in found.items():
        low |= share < floors[part]
        print(f"{part}: {share:.1f} % covered; the floor is {floors[part]} %.")
    if args.badge:
        args.badge.write_text(badge("coverage", report["totals"]["percent_covered"]), encoding="utf-8")
    if args.keep:
        KEPT.write_text(json.dumps(table(found, floors, report), indent=1) + "\n", encoding="utf-8")
    return int(low)


if __name__ == "__main__":
    sys.exit(main())
