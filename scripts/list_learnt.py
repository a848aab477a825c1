"""List the files that a bundled model learnt from, so that nobody measures it on them without being told.

    python -m scripts.list_learnt models/default models/accurate --pack FOLDER --data ../shared/data \
        --laboratories pbc pbc_full raabin bccd bcisc

Writes ``learnt_names.txt`` into the folders: the start of the SHA-256 of each file's name, of the training and
validation parts. Names and not contents are compared, because copies of public sets in several sizes have the same
names. Sets whose files are named by a number alone are not listed: other files may have the same names.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.models.provenance import NAMES_NAME, name_digest
from scripts.laboratories import CHECKS_ONLY, read_cells

log = logging.getLogger("list_learnt")
#: Sets whose files have names of their own.
NAMED = ("pbc", "pbc_full", "raabin", "bccd", "bcisc")


def learnt_names(pack: Path, data: Path, laboratories: list[str]) -> list[str]:
    """Lines of the file, in order."""
    lines = set()
    for laboratory in laboratories:
        assert laboratory not in CHECKS_ONLY
        cells = read_cells(pack, data, laboratory)
        for part in ("train", "validation"):
            lines |= {name_digest(cells.pack.names[row]) for row in cells.rows(part)}
    return sorted(lines)


def main() -> None:
    """Write the list into each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--laboratories", nargs="+", default=list(NAMED), choices=NAMED)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    lines = learnt_names(args.pack, args.data, args.laboratories)
    for folder in args.models:
        atomic_text(folder / NAMES_NAME, "\n".join(lines) + "\n")
        log.info("%s: %d files", folder / NAMES_NAME, len(lines))


if __name__ == "__main__":
    main()
