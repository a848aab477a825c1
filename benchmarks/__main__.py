"""All benchmarks by one command.

    python -m benchmarks list
    python -m benchmarks run [NAME ...] [--quick] [--fields FIELD ...] [--out build/benchmarks.json] [--check] [--keep]

Each benchmark is a program of its own, run one after the other. The file holds machine, date and commit, and for each
benchmark its command, its figures, and its ratios. `--check` compares the ratios with the kept ones
(`benchmarks/ratios.json`) and fails if one is more than 20 % worse; seconds are never compared. `--keep` writes the
ratios of this run as the kept ones, and the tables of those benchmarks that have some into `docs/validation/`, of which
`make docs` makes the page of measured figures. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.catalogue import BENCHMARKS, Benchmark

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "ratios.json"
#: Where the tables of the page of measured figures are kept.
TABLES = ROOT / "docs" / "validation"
#: A ratio may be worse by this share.
ROOM = 0.20


def figure_at(figures: Mapping[str, Any], path: str) -> float | None:
    """The figure at a dotted path; None if this machine could not measure it."""
    value: Any = figures
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def run_one(benchmark: Benchmark, quick: bool, fields: Sequence[str]) -> dict[str, Any]:
    """Run one benchmark.

    Parameters
    ----------
    benchmark : Benchmark
    quick : bool
        Fewer turns.
    fields : sequence of str
        Images, for a benchmark that needs real ones.

    Returns
    -------
    dict
        ``command``, and ``figures`` and ``ratios``, or ``left_out`` with the reason, or ``failed`` with the last line.
    """
    command = [*benchmark.command, *(benchmark.quick if quick else ())]
    found: dict[str, Any] = {"command": f"python {' '.join(command)}"}
    if benchmark.needs_fields:
        if not fields:
            return found | {"left_out": "no fields are given (--fields)"}
        command += fields
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        return found | {"failed": lines[-1]}
    if not benchmark.json:
        return found | {"figures": {"lines": done.stdout.splitlines()}, "ratios": {}}
    figures = json.loads(done.stdout)
    ratios = {name: value for name in benchmark.ratios if (value := figure_at(figures, name)) is not None}
    return found | {"figures": figures, "ratios": ratios}


def surroundings() -> dict[str, Any]:
    """Machine, date and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit + ("+" if changed.strip() else ""),
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }


def regressions(results: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """The ratios of a run that are more than 20 % worse than the kept ones, one line each.

    Parameters
    ----------
    results : mapping
        The results of a run by benchmark.
    kept : mapping
        The kept ratios by benchmark.

    Returns
    -------
    list of str
    """
    worse = []
    for benchmark in BENCHMARKS:
        now = results.get(benchmark.name, {}).get("ratios", {})
        for name, before in kept.get(benchmark.name, {}).items():
            if name not in now or name not in benchmark.ratios:
                continue
            factor = now[name] / before if benchmark.ratios[name] == "higher" else before / now[name]
            if factor < 1 - ROOM:
                worse.append(f"{benchmark.name} {name}: {before:.3g} before, {now[name]:.3g} now.")
    return worse


def keep_tables(found: Mapping[str, Any]) -> None:
    """Write the tables of one benchmark to where the page of measured figures is made from."""
    figures = found.get("figures", {})
    for table in figures.get("tables", ()):
        kept = {key: value for key, value in table.items() if key != "name"}
        path = TABLES / f"{table['name']}.json"
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="what", required=True)
    parts.add_parser("list")
    run = parts.add_parser("run")
    run.add_argument("names", nargs="*", metavar="NAME")
    run.add_argument("--quick", action="store_true")
    run.add_argument("--fields", nargs="+", default=[])
    run.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks.json")
    run.add_argument("--check", action="store_true")
    run.add_argument("--keep", action="store_true")
    args = parser.parse_args(arguments)
    if args.what == "run" and args.keep and args.quick:
        parser.error("figures of a quick run are not kept: leave out --quick or --keep")
    if args.what == "list":
        for benchmark in BENCHMARKS:
            print(f"{benchmark.name:<12} {benchmark.minutes:>3} min  {benchmark.question}")
        return 0
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(known)}")
    return _run([known[name] for name in args.names or known], args)


def _run(chosen: Sequence[Benchmark], args: argparse.Namespace) -> int:
    """Run the chosen ones, write the file, and compare; the exit status."""
    report: dict[str, Any] = {**surroundings(), "quick": args.quick, "results": {}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for benchmark in chosen:
        found = report["results"][benchmark.name] = run_one(benchmark, args.quick, args.fields)
        ratios = ", ".join(f"{name} {value:.3g}" for name, value in found.get("ratios", {}).items())
        print(
            f"{benchmark.name}: {found.get('failed') or found.get('left_out') or ratios or 'done'}",
            flush=True,
        )
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(args.out)
    failed = any("failed" in one for one in report["results"].values())
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {"ratios": {}}
    worse = regressions(report["results"], kept["ratios"]) if args.check else []
    for line in worse:
        print(f"worse by more than {ROOM:.0%}: {line}", file=sys.stderr)
    if args.keep and not failed:
        measured = {name: one["ratios"] for name, one in report["results"].items() if one.get("ratios")}
        head = {
            key: report[key]
            for key in ("date", "commit", "system", "processor", "cores", "load", "python", "quick")
        }
        ratios = kept["ratios"] | measured
        better = {
            one.name: {figure: one.ratios[figure] for figure in ratios[one.name] if figure in one.ratios}
            for one in BENCHMARKS
            if one.name in ratios
        }
        KEPT.write_text(
            json.dumps({**head, "ratios": ratios, "better": better}, indent=1) + "\n", encoding="utf-8"
        )
        for found in report["results"].values():
            keep_tables(found)
    return int(failed or bool(worse))


if __name__ == "__main__":
    sys.exit(main())
