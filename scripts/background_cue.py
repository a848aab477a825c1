"""Does the default classifier read the background? Held-out crops, and the same with other glass behind the cell.

    python -m scripts.background_cue --data ../shared/data/pbc --count 200

Part of one class of the training set (IG) and some erythroblasts have bluish glass, which could stand for the class.
Each held-out crop is classified as it is, and with the glass and the neighbours' light changed to bluish, pinkish and
yellowish, through the product's own cutting. A model that reads the cell gives the same class; of those that do not,
the table says whether they moved to the class that the bluish glass belongs to.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.classification.single_cell import cut_central
from napari_leukocls.io.images import read_image
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.registry import compact

log = logging.getLogger("background_cue")
#: Factors of red, green and blue.
TINTS = {"bluish": (0.88, 0.95, 1.0), "pinkish": (1.0, 0.92, 0.95), "yellowish": (1.0, 0.98, 0.84)}
#: Of the pbc copies, micrometres: a red cell is 49 px across.
UM_PER_PX = 7.5 / 49
CUED = "immature_granulocyte"


def heldout(data: Path, count: int) -> list[tuple[Path, str]]:
    """Held-out crops, as many of each class."""
    rows: dict[str, list[Path]] = {}
    with (data / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            path = data / row["file"]
            if int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % 5 == 0:
                rows.setdefault(row["class"], []).append(path)
    each = max(1, count // len(rows))
    return [(path, name) for name in sorted(rows) for path in sorted(rows[name])[:each]]


def background(pixels: np.ndarray, segmenter: object) -> np.ndarray:
    """Where no leukocyte or platelet of the middle is, (H, W) of 0 to 1 with a soft edge."""
    import cv2

    from napari_leukocls.classification.single_cell import central_label

    outlines = drain(segmenter.segment(pixels, 7.5 / UM_PER_PX))  # type: ignore[attr-defined]
    label = central_label(outlines.labels, outlines.kind_votes, UM_PER_PX)
    outside = (outlines.labels != label) if label else np.ones(pixels.shape[:2], bool)
    return cv2.GaussianBlur(outside.astype(np.float32), (0, 0), 1.5)


def main() -> None:
    """Parse the command line, classify, and print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    classifier = load_classifier(find_model(args.model).path, "cpu")
    segmenter = compact("cpu")
    rule = classifier.card.crop
    crops: dict[str, list[np.ndarray]] = {name: [] for name in ("as it is", *TINTS)}
    for path, _ in heldout(args.data, args.count):
        pixels = read_image(path).pixels
        outside = background(pixels, segmenter)[..., None]
        crops["as it is"].append(cut_central(pixels, UM_PER_PX, segmenter, rule).crop)
        for name, factors in TINTS.items():
            tinted = pixels * (1 - outside * (1 - np.array(factors)))
            crops[name].append(cut_central(tinted.round().astype(np.uint8), UM_PER_PX, segmenter, rule).crop)
    guesses = {
        name: classifier.predict(np.stack(views)).probabilities.argmax(1) for name, views in crops.items()
    }
    cued = classifier.classes.index(CUED)
    plain = guesses.pop("as it is")
    figures = {
        name: {
            "n": len(plain),
            "same_class": float((guess == plain).mean()),
            f"moved_to_{CUED}": int(((guess != plain) & (guess == cued)).sum()),
            f"moved_from_{CUED}": int(((guess != plain) & (plain == cued)).sum()),
        }
        for name, guess in guesses.items()
    }
    log.info("%s", json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
