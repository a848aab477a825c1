"""Measure segmenters on fields that were never trained on, side by side.

    python -m scripts.evaluate_segmentation --data ../shared/data [--synthetic FOLDER]

Leukocytes, red cells and platelets of BCCD by boxes of the masks (IoU >= 0.5), red cells of Chula by centres,
synthetic smears by masks and counts, each with a 95 % interval over fields. Cells that were split into several or
merged with another are counted in BCCD and in synthetic smears. The scale is read from each image by the ruler, as a
user's would be. Leukocytes outlined by hand: ``scripts/evaluate_leukocytes.py``.
"""

from __future__ import annotations

import argparse
import json
import logging
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.evaluation.bootstrap import interval, resample_weights
from napari_leukocls.evaluation.detection import (
    Found,
    Outlined,
    boxes_f1,
    centres_f1,
    mask_average_precision,
    outlined_boxes,
    outlined_masks,
)
from scripts.pack_crops import is_heldout

if TYPE_CHECKING:
    from napari_leukocls.types import Segmentation

log = logging.getLogger("evaluate_segmentation")
KINDS = ("red_cell", "leukocyte", "platelet")
VOC = {"RBC": "red_cell", "WBC": "leukocyte", "Platelets": "platelet"}


def read_pixels(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB."""
    from napari_leukocls.io.images import read_image

    return read_image(path).pixels


def segment(pixels: np.ndarray, name: str, diameter: float | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Outline one field with a segmenter: labels, kind of each cell (index into KINDS), red-cell diameter."""
    found = outline_field(pixels, name, diameter)
    probabilities = found.kind_probabilities
    kinds = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, int)
    return found.labels, kinds, found.scale.red_cell_diameter_px


def outline_field(pixels: np.ndarray, name: str, diameter: float | None) -> Segmentation:
    """Outline one field with a segmenter, as an analysis does."""
    from napari_leukocls.analysis.engine import Engine
    from napari_leukocls.analysis.field import outline, under_even_light
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.progress import drain
    from napari_leukocls.segmentation.registry import compact, segmenter
    from napari_leukocls.segmentation.scale import find_scale, steady_diameter
    from napari_leukocls.types import SmearImage

    config = AnalyzeConfig(segmenter=name, diameter_px=diameter)
    engine = Engine(config, "cpu", compact("cpu"), segmenter(name, "cpu"), None)
    image, _ = under_even_light(SmearImage(pixels, "field", "field"), engine)
    scale = find_scale(image, engine.config, engine.compact).scale
    return drain(outline(image, engine, scale, steady_diameter(image, scale)))


def heldout(folder: Path) -> list[Path]:
    """Return the images of a folder that were never trained on."""
    return [file for file in sorted(folder.iterdir()) if is_heldout(file.name)]


def boxes_of(labels: np.ndarray) -> np.ndarray:
    """Half-open boxes (N, 4) of labels 1..N."""
    from scipy.ndimage import find_objects

    boxes = [(w[0].start, w[1].start, w[0].stop, w[1].stop) for w in find_objects(labels) if w is not None]
    return np.array(boxes, float).reshape(-1, 4)


def bccd_boxes(data: Path, name: str) -> dict[str, np.ndarray]:
    """Annotated boxes of one field of BCCD by kind, (N, 4) y0, x0, y1, x1."""
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for thing in ElementTree.parse(data / "bccd" / "voc" / f"{name}.xml").iter("object"):
        box = thing.find("bndbox")
        sides = [float(box.findtext(key)) for key in ("ymin", "xmin", "ymax", "xmax")]
        found[VOC[thing.findtext("name")]].append(sides)
    return {kind: np.array(boxes).reshape(-1, 4) for kind, boxes in found.items()}


def bccd(data: Path, name: str, diameter: float | None, step: int = 1) -> tuple[dict[str, Any], list[float]]:
    """F1 by kind on held-out BCCD fields; fields that have no red-cell box say nothing about red cells."""
    totals: dict[str, list[Found]] = defaultdict(list)
    shapes: dict[str, Outlined] = defaultdict(Outlined.none)
    diameters = []
    for file in heldout(data / "bccd" / "images")[::step]:
        truth = bccd_boxes(data, file.stem)
        labels, kinds, measured = segment(read_pixels(file), name, diameter)
        diameters.append(measured)
        boxes = boxes_of(labels)
        for index, kind in enumerate(KINDS):
            if kind == "red_cell" and not len(truth[kind]):
                continue
            totals[kind].append(boxes_f1(boxes[kinds == index], truth[kind]))
            shapes[kind] += outlined_boxes(boxes[kinds == index], truth[kind])
    return {kind: _figures(totals[kind]) | _shapes(shapes[kind]) for kind in KINDS}, diameters


def _figures(fields: list[Found]) -> dict[str, Any]:
    """Pooled figures, with intervals of F1 and recall over fields."""
    found = sum(fields, Found())
    counts = np.array([(one.tp, one.fp, one.fn) for one in fields], float).reshape(-1, 3)
    drawn = np.concatenate([weights @ counts for weights in resample_weights(len(fields), 1000)])
    tp, fp, fn = drawn.T
    return {
        "f1": found.f1,
        "f1_ci95": interval(2 * tp / np.maximum(2 * tp + fp + fn, 1)),
        "precision": found.precision,
        "recall": found.recall,
        "recall_ci95": interval(tp / np.maximum(tp + fn, 1)),
        "n_true": found.tp + found.fn,
    }


def _shapes(outlined: Outlined) -> dict[str, int]:
    return {"split": int(outlined.split.sum()), "merged": int(outlined.merged.sum())}


def chula(data: Path, name: str, diameter: float | None, step: int = 1) -> tuple[dict[str, Any], list[float]]:
    """F1 of red cells on held-out Chula fields: a cell is found where a mask holds its centre."""
    total: list[Found] = []
    diameters = []
    for file in heldout(data / "chula" / "images")[::step]:
        text = (data / "chula" / "labels_xy_type" / f"{file.stem}.txt").read_text()
        rows = np.array([line.split()[:2] for line in text.splitlines() if line.strip()], float).reshape(
            -1, 2
        )
        labels, kinds, measured = segment(read_pixels(file), name, diameter)
        diameters.append(measured)
        red = np.concatenate([[0], np.where(kinds == 0, np.arange(1, len(kinds) + 1), 0)]).astype(np.int32)
        total.append(centres_f1(red[labels], rows[:, [1, 0]]))
    return _figures(total), diameters


def synthetic(folder: Path, name: str, step: int = 1) -> dict[str, Any]:
    """Mask AP and count error on held-out synthetic smears, and the leukocytes that were split or merged."""
    scores, errors = [], defaultdict(lambda: [0, 0])
    leukocytes = Outlined.none()
    for file in sorted(folder.glob("heldout_*.webp"))[::step]:
        truth = np.load(file.with_suffix(".npz"))
        true_labels, true_kinds = truth["labels"].astype(np.int32), truth["kinds"].astype(int) - 1
        labels, kinds, _ = segment(read_pixels(file), name, None)
        scores.append(float(mask_average_precision(labels, true_labels, [0.5])[0]))
        everything = outlined_masks(labels, true_labels)
        leukocytes += everything.of(true_kinds == KINDS.index("leukocyte"))
        for index, kind in enumerate(KINDS):
            errors[kind][0] += int((kinds == index).sum())
            errors[kind][1] += int((true_kinds == index).sum())
    counted = {kind: (found - there) / there for kind, (found, there) in errors.items()}
    total = [sum(pair[i] for pair in errors.values()) for i in (0, 1)]
    drawn = np.concatenate(
        [weights @ scores / len(scores) for weights in resample_weights(len(scores), 1000)]
    )
    return {
        "ap50": float(np.mean(scores)),
        "ap50_ci95": interval(drawn),
        "count_error": total[0] / total[1] - 1,
        "by_kind": counted,
        "leukocytes": len(leukocytes.iou),
        **_shapes(leukocytes),
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
    parser.add_argument("--step", type=int, default=1, help="only every n-th field, for a quick look")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results: dict[str, Any] = {}
    for name in args.segmenters:
        fields, wide = bccd(args.data, name, 102.0 if args.known_scale else None, args.step)
        cells, narrow = chula(args.data, name, 40.0 if args.known_scale else None, args.step)
        results[name] = {"bccd": fields, "chula": cells, "diameters": {"bccd": wide, "chula": narrow}}
        if args.synthetic:
            results[name]["synthetic"] = synthetic(args.synthetic, name, args.step)
        shown = {key: value for key, value in results[name].items() if key != "diameters"}
        log.info("%s %s", name, json.dumps(shown, indent=1))
        for key, values in results[name]["diameters"].items():
            log.info("%s red cell px: %s", key, np.percentile(values, [0, 5, 50, 95, 100]).round(1))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
