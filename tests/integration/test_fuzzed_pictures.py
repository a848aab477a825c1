"""Pictures with faults: an answer or one line; no traceback, no hang, no memory without end, no impossible scale."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _read(first: int, count: int) -> None:
    """Read files in a process of its own, so that a crash of a decoder is seen, too."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations", str(first), str(count)],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=ROOT,
        timeout=60 + 5 * count,
    )
    last = done.stderr.strip().splitlines()[-1:]
    assert done.returncode == 0, (
        f"status {done.returncode} after {last}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
    )


def test_a_hundred_and_fifty() -> None:
    _read(0, 150)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(40))
def test_twenty_thousand(part: int) -> None:
    _read(1000 + 500 * part, 500)
