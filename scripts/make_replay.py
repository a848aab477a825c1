"""Make the replay features of a bundled model from the cells that it was trained on.

    python -m scripts.make_replay --pack FOLDER --data ../shared/data [--model default] [--laboratories pbc raabin]

Cells to rehearse are of the training parts of the laboratories that the model has learnt from, cells to check of their
validation parts. Held-out cells are not touched. The laboratories share each class alike, as far as they have cells
of it.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.training.feature_replay import BUDGET, CHECK_SHARE, FILE, choose, save_replay
from scripts.knowledge import product_crops
from scripts.laboratories import CLASSES, PACKS, Cells, read_cells

log = logging.getLogger("make_replay")
PARTS = {"train": 1 - CHECK_SHARE, "validation": CHECK_SHARE}


def shared_out(have: list[int], wanted: int) -> list[int]:
    """How many cells each laboratory gives: alike, and those that have more make up for those that have few."""
    given = [0] * len(have)
    while sum(given) < min(wanted, sum(have)):
        open_ones = [i for i, count in enumerate(have) if given[i] < count]
        least = min(open_ones, key=lambda i: given[i])
        given[least] += 1
    return given


def chosen_rows(
    laboratories: list[Cells], part: str, classes: tuple[str, ...], each: int
) -> list[np.ndarray]:
    """Rows of each laboratory, `each` of a class in all."""
    rows: list[list[np.ndarray]] = [[] for _ in laboratories]
    random = np.random.default_rng(0)
    for name in classes:
        have = [
            random.permutation(cells.rows(part)[cells.target[cells.rows(part)] == CLASSES.index(name)])
            for cells in laboratories
        ]
        for i, count in enumerate(shared_out([len(one) for one in have], each)):
            rows[i].append(have[i][:count])
    return [np.concatenate(one) for one in rows]


def main() -> None:
    """Choose, cut, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--laboratories", nargs="+", default=["pbc"], choices=list(PACKS))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = find_model(args.model).path
    classifier = load_classifier(folder, "cpu")
    each = BUDGET // (2 * classifier.net.num_features * len(classifier.classes))
    laboratories = [read_cells(args.pack, args.data, name) for name in args.laboratories]
    made = []
    for part, share in PARTS.items():
        picked = chosen_rows(laboratories, part, classifier.classes, int(each * share))
        pairs = list(zip(laboratories, picked, strict=True))
        crops = np.concatenate([product_crops(c.pack, rows, classifier.card.crop) for c, rows in pairs])
        truth = np.concatenate([c.target[rows] for c, rows in pairs])
        _, features = drain(classifier.outputs(crops, 64))
        names = [CLASSES[k] for k in truth]
        made.append((features, np.array([classifier.classes.index(name) for name in names])))
        counts = {c.laboratory: len(rows) for c, rows in pairs}
        log.info("%s: %s", part, counts)
    save_replay(folder / FILE, choose(made[0], made[1]), classifier.digest)
    log.info("%s: %d bytes", folder / FILE, (folder / FILE).stat().st_size)


if __name__ == "__main__":
    main()
