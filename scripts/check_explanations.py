"""Check a model's heatmaps and write the figures into its card, for the badge.

    python -m scripts.check_explanations models/default --data ../shared/data [--method NAME ...]
        [--layer NAME ... --own METHOD]

Crops: held-out ones of ``pbc``, as many of each class, and leukocytes of the bundled synthetic smears. What
other methods have in the card stays, as long as the weights are the same. ``model.json`` is replaced at once
or not at all.
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import imread

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.classification.single_cell import CentralCell, cut_central, mask_in_crop
from napari_leukocls.config import make_config
from napari_leukocls.explanation import cam, trust
from napari_leukocls.explanation.checks import check_model
from napari_leukocls.io.images import read_image
from napari_leukocls.io.serialise import to_plain
from napari_leukocls.models.card import read_card
from napari_leukocls.models.card_parts import ExplanationChecks, GradCam
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.install import write_card
from napari_leukocls.paths import sample_smears
from napari_leukocls.progress import drain
from scripts.pack_crops import RED_CELL_PX, is_heldout

log = logging.getLogger("check_explanations")


def real_cells(data: Path, engine: Engine, per_class: int) -> list[CentralCell]:
    """Held-out crops of ``pbc``, so many of each class, taken evenly by name."""
    rule = engine.classifier.card.crop
    by_class: dict[str, list[Path]] = defaultdict(list)
    with (data / "pbc" / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            file = data / "pbc" / row["file"]
            if is_heldout(file.name):
                by_class[row["class"]].append(file)
    cells = []
    for files in by_class.values():
        for place in np.linspace(0, len(files) - 1, per_class).astype(int):
            pixels = read_image(files[place]).pixels
            cells.append(cut_central(pixels, 7.5 / RED_CELL_PX["pbc"], engine.compact, rule))
    return [cell for cell in cells if cell.found]


def synthetic_cells(rule: CropRule, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Crops and outlines of nucleated cells of the bundled smears, taken evenly, by their true outlines."""
    crops, masks = [], []
    for path in sample_smears().values():
        image = read_image(path)
        labels = imread(path.with_name(f"{path.stem}_labels.tif"))
        assert image.um_per_px is not None
        with path.with_name(f"{path.stem}_truth.csv").open(newline="") as stream:
            rows = [
                row for row in csv.DictReader(stream) if row["kind"] not in ("red_cell", "platelet", "debris")
            ]
        rows = [row for row in rows if float(row["visible_fraction"]) > 0.95]
        chosen = np.linspace(0, len(rows) - 1, -(-count // len(sample_smears()))).astype(int)
        glass = np.median(image.pixels[labels == 0], axis=0)
        for row in (rows[place] for place in chosen):
            cell = int(row["cell_id"])
            box = [int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1")]
            where = (np.array([cell]), np.array([box]), image.um_per_px, glass, rule)
            crops.append(cut_crops(image.pixels, labels, *where)[0])
            masks.append(mask_in_crop(labels, cell, box, image.um_per_px, rule))
    return crops[:count], masks[:count]


def set_layer(folder: Path, layers: list[str], method: str) -> None:
    """Name the layers, and the method, in a model's card."""
    layer = layers[0] if len(layers) == 1 else layers
    stated = GradCam(layer=layer, reshape=None, method=cam.method_named(method))
    write_card(folder, read_card(folder).model_copy(update={"gradcam": stated}))


def checked(
    classifier: Classifier, crops: np.ndarray, masks: list[np.ndarray], method: str
) -> dict[str, Any]:
    """Figures of one method."""
    targets = classifier.predict(crops).probabilities.argmax(axis=1)
    figures, _ = drain(check_model(classifier, crops, targets, method, masks))
    log.info("%s: %s: %s", method, figures["state"], trust.figures_text(figures))
    return figures


def main() -> None:
    """Parse the command line, check, and write the card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="folder of a classifier")
    parser.add_argument("--data", type=Path, required=True, help="holds pbc/")
    parser.add_argument("--method", nargs="*", help="by default the card's own")
    parser.add_argument("--per-class", type=int, default=6, help="held-out crops of each class")
    parser.add_argument("--synthetic", type=int, default=16, help="cells of the bundled smears")
    parser.add_argument("--layer", nargs="*", help="put these layers into the card first")
    parser.add_argument("--own", help="and this method, as the model's own")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for folder in args.models:
        if args.layer:
            set_layer(folder, args.layer, args.own or "gradcam")
        engine = load_engine(make_config(classifier=str(folder), device="cpu"))
        classifier = engine.classifier
        real = real_cells(args.data, engine, args.per_class)
        drawn, outlines = synthetic_cells(classifier.card.crop, args.synthetic)
        crops = np.stack([*(cell.crop for cell in real), *drawn])
        masks = [*(cell.mask for cell in real), *outlines]
        what = (
            f"{len(real)} held-out crops of PBC, as many of each class, and {len(drawn)} nucleated cells of the "
            "bundled synthetic smears"
        )
        for method in args.method or [cam.default_method(classifier.card)]:
            method = cam.method_named(method)
            figures = {**checked(classifier, crops, masks, method), "crops": what}
            write(folder, classifier.digest, method, figures)


def write(folder: Path, digest: str, method: str, figures: dict[str, Any]) -> None:
    """Put one method's figures into a model's card; those of other weights go."""
    card = read_card(folder)
    old = card.explanation_checks
    methods = old.methods if old is not None and old.weights_sha256 == digest else {}
    checks = ExplanationChecks(
        format_version=1, weights_sha256=digest, methods={**methods, method: to_plain(figures)}
    )
    write_card(folder, card.model_copy(update={"explanation_checks": checks}))


if __name__ == "__main__":
    main()
