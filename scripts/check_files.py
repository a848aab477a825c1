"""Refuse files that do not belong into the repository: those above 20 MB, and pickles.

python scripts/check_files.py FILE [FILE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

LARGEST = 20_000_000
PICKLES = (".pkl", ".pickle", ".pth", ".pt", ".joblib")


def problems(path: Path) -> list[str]:
    """What is wrong with a file, one line each."""
    found = []
    if path.suffix.lower() in PICKLES:
        found.append(f"{path}: pickles are not kept here; use safetensors or JSON.")
    if path.is_file() and path.stat().st_size > LARGEST:
        found.append(f"{path}: {path.stat().st_size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} MB.")
    return found


def main() -> int:
    found = [line for name in sys.argv[1:] for line in problems(Path(name))]
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
