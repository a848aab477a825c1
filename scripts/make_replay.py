"""Make the replay features of a bundled model from the cells that it was trained on.

    python -m scripts.make_replay --data ../shared/data [--model default]

Cells to rehearse are of the training part (SHA-256 of the base name, modulo 5, is not 0), cells to check of
its validation part (modulo 10 is 6), which was not trained on either. The hold-out is not touched.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
from pathlib import Path

import numpy as np

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.classification.single_cell import cut_central
from napari_leukocls.io.images import read_image
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.training.feature_replay import BUDGET, CHECK_SHARE, FILE, choose, save_replay
from scripts.pack_crops import UM_PER_PX

log = logging.getLogger("make_replay")


def number_of(base_name: str) -> int:
    """SHA-256 of a name, as a number."""
    return int(hashlib.sha256(base_name.encode()).hexdigest(), 16)


def main() -> None:
    """Choose, cut, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = find_model(args.model).path
    classifier, segmenter, scheme = load_classifier(folder, "cpu"), compact("cpu"), default_scheme()
    rule = classifier.card.crop
    each = BUDGET // (2 * classifier.net.num_features * len(classifier.classes))
    wanted = {False: int(each * (1 - CHECK_SHARE)), True: int(each * CHECK_SHARE)}
    crops: dict[bool, list[np.ndarray]] = {False: [], True: []}
    classes: dict[bool, list[int]] = {False: [], True: []}
    with (args.data / "pbc" / "labels.csv").open(newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: number_of(Path(row["file"]).name))
    for row in rows:
        file = args.data / "pbc" / row["file"]
        number = number_of(file.name)
        name = scheme.coarsen(scheme.resolve(row["class"]) or row["class"], classifier.classes)
        if number % 5 == 0 or name not in classifier.classes:
            continue
        check, place = number % 10 == 6, classifier.classes.index(name)
        if classes[check].count(place) < wanted[check]:
            cell = cut_central(read_image(file).pixels, UM_PER_PX["pbc"], segmenter, rule)
            crops[check].append(cell.crop)
            classes[check].append(place)
    made = {}
    for check in (False, True):
        _, features = drain(classifier.outputs(np.stack(crops[check]), 64))
        made[check] = (features, np.array(classes[check]))
    save_replay(folder / FILE, choose(made[False], made[True]), classifier.digest)
    size = (folder / FILE).stat().st_size
    log.info(
        "%s: %d to rehearse, %d to check, %d bytes",
        folder / FILE,
        len(classes[False]),
        len(classes[True]),
        size,
    )


if __name__ == "__main__":
    main()
