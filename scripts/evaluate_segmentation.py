"""Measure segmenters on fields that were never trained on, side by side.

    python -m scripts.evaluate_segmentation --data ../shared/data [--synthetic FOLDER]

Leukocytes, red cells and platelets of BCCD by boxes of the masks (IoU >= 0.5), red cells of Chula by centres,
synthetic smears by masks and counts. The scale is read from each image by the ruler, as a user's would be.
"""

from __future__ import annotations

import argparse
import json
import logging
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.evaluation.detection import Found, boxes_f1, centres_f1, mask_average_precision
from scripts.pack_crops import is_heldout

log = logging.getLogger("evaluate_segmentation")
KINDS = ("red_cell", "leukocyte", "platelet")
VOC = {"RBC": "red_cell", "WBC": "leukocyte", "Platelets": "platelet"}


def read_pixels(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB."""
    from napari_leukocls.io.images import read_image

    return read_image(path).pixels


def segment(pixels: np.ndarray, name: str, diameter: float | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Outline one field with a segmenter: labels, kind of each cell (index into KINDS), red-cell diameter."""
    from napari_leukocls.analysis.engine import Engine
    from napari_leukocls.analysis.field import outline, under_even_light
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.progress import drain
    from napari_leukocls.segmentation.registry import compact, segmenter
    from napari_leukocls.segmentation.scale import find_scale, steady_diameter
    from napari_leukocls.types import SmearImage

    engine = Engine(
        AnalyzeConfig(segmenter=name, diameter_px=diameter),
        "cpu",
        compact("cpu"),
        segmenter(name, "cpu"),
        None,
    )
    image, _ = under_even_light(SmearImage(pixels, "field", "field"), engine)
    scale = find_scale(image, engine.config, engine.compact).scale
    segmentation = drain(outline(image, engine, scale, steady_diameter(image, scale)))
    kinds = (
        segmentation.kind_probabilities.argmax(axis=1)
        if len(segmentation.kind_probabilities)
        else np.zeros(0, int)
    )
    return segmentation.labels, kinds, scale.red_cell_diameter_px


def boxes_of(labels: np.ndarray) -> np.ndarray:
    """Half-open boxes (N, 4) of labels 1..N."""
    from scipy.ndimage import find_objects

    boxes = [(w[0].start, w[1].start, w[0].stop, w[1].stop) for w in find_objects(labels) if w is not None]
    return np.array(boxes, float).reshape(-1, 4)


def bccd(data: Path, name: str, diameter: float | None) -> tuple[dict[str, Any], list[float]]:
    """F1 by kind on held-out BCCD fields; fields that have no red-cell box say nothing about red cells."""
    totals: dict[str, Found] = defaultdict(Found)
    diameters = []
    for file in sorted((data / "bccd" / "images").iterdir()):
        if not is_heldout(file.name):
            continue
        truth: dict[str, list] = {kind: [] for kind in KINDS}
        for thing in ElementTree.parse(data / "bccd" / "voc" / f"{file.stem}.xml").iter("object"):
            box = thing.find("bndbox")
            truth[VOC[thing.findtext("name")]].append(
                [float(box.findtext(k)) for k in ("ymin", "xmin", "ymax", "xmax")]
            )
        labels, kinds, measured = segment(read_pixels(file), name, diameter)
        diameters.append(measured)
        boxes = boxes_of(labels)
        for index, kind in enumerate(KINDS):
            if kind == "red_cell" and not truth[kind]:
                continue
            totals[kind] += boxes_f1(boxes[kinds == index], np.array(truth[kind]).reshape(-1, 4))
    return {kind: _figures(totals[kind]) for kind in KINDS}, diameters


def _figures(found: Found) -> dict[str, float]:
    return {
        "f1": found.f1,
        "precision": found.precision,
        "recall": found.recall,
        "n_true": found.tp + found.fn,
    }


def chula(data: Path, name: str, diameter: float | None) -> tuple[dict[str, Any], list[float]]:
    """F1 of red cells on held-out Chula fields: a cell is found where a mask holds its centre."""
    total, diameters = Found(), []
    for file in sorted((data / "chula" / "images").iterdir()):
        if not is_heldout(file.name):
            continue
        text = (data / "chula" / "labels_xy_type" / f"{file.stem}.txt").read_text()
        rows = np.array([line.split()[:2] for line in text.splitlines() if line.strip()], float).reshape(
            -1, 2
        )
        labels, kinds, measured = segment(read_pixels(file), name, diameter)
        diameters.append(measured)
        red = np.concatenate([[0], np.where(kinds == 0, np.arange(1, len(kinds) + 1), 0)]).astype(np.int32)
        total += centres_f1(red[labels], rows[:, [1, 0]])
    return _figures(total), diameters


def synthetic(folder: Path, name: str) -> dict[str, Any]:
    """Mask AP and count error on held-out synthetic smears."""
    scores, errors = [], defaultdict(lambda: [0, 0])
    for file in sorted(folder.glob("heldout_*.webp")):
        truth = np.load(file.with_suffix(".npz"))
        true_labels, true_kinds = truth["labels"].astype(np.int32), truth["kinds"].astype(int) - 1
        labels, kinds, _ = segment(read_pixels(file), name, None)
        scores.append(float(mask_average_precision(labels, true_labels, [0.5])[0]))
        for index, kind in enumerate(KINDS):
            errors[kind][0] += int((kinds == index).sum())
            errors[kind][1] += int((true_kinds == index).sum())
    counted = {kind: (found - there) / there for kind, (found, there) in errors.items()}
    everything = [sum(pair[i] for pair in errors.values()) for i in (0, 1)]
    return {
        "ap50": float(np.mean(scores)),
        "count_error": everything[0] / everything[1] - 1,
        "by_kind": counted,
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--segmenters", nargs="+", default=["compact", "threshold"])
    parser.add_argument("--known-scale", action="store_true", help="give each set's red-cell diameter")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results: dict[str, Any] = {}
    for name in args.segmenters:
        fields, wide = bccd(args.data, name, 102.0 if args.known_scale else None)
        cells, narrow = chula(args.data, name, 40.0 if args.known_scale else None)
        results[name] = {"bccd": fields, "chula": cells, "diameters": {"bccd": wide, "chula": narrow}}
        if args.synthetic:
            results[name]["synthetic"] = synthetic(args.synthetic, name)
        shown = {key: value for key, value in results[name].items() if key != "diameters"}
        log.info("%s %s", name, json.dumps(shown, indent=1))
        for key, values in results[name]["diameters"].items():
            log.info("%s red cell px: %s", key, np.percentile(values, [0, 5, 50, 95, 100]).round(1))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
