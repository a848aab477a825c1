"""Leukocytes against outlines drawn by hand: found, mask IoU, split, merged, at right and wrong scales.

    python -m scripts.evaluate_leukocytes --data ../shared/data [--weights FOLDER ...] [--all]

Each picture is segmented as if its red cells had their right diameter times each of ``FACTORS``: a factor of 2 is a
picture that the network sees at half its size. Sets: crops and fields of BCISC, fields of KRD, crops of Tecom (checks
only), and tight cuts of the first two, in which hardly a red cell is left. Without ``--all``, only pictures that are
held out from training are used.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from napari_leukocls.evaluation.bootstrap import interval, resample_weights
from napari_leukocls.evaluation.detection import Found, Outlined, boxes_f1, outlined_masks
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.compact import CompactSegmenter, load_compact
from napari_leukocls.segmentation.red_cell_ruler import estimate_diameter
from scripts.evaluate_segmentation import boxes_of
from scripts.segmentation_set import by_hand

log = logging.getLogger("evaluate_leukocytes")
FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)
#: Margin of tight cuts, in units of the cell's side.
TIGHT = 0.15
#: A leukocyte is found where a mask that is called leukocyte overlaps it by this IoU.
FOUND_IOU = 0.5
LEUKOCYTE = 2
ROWS = ("bcisc fields", "bcisc crops", "bcisc tight", "krd fields", "krd tight", "tecom crops")


def pictures(
    data: Path, ruler: CompactSegmenter, *, rows: Sequence[str], every: bool
) -> Iterator[tuple[str, by_hand.Picture]]:
    """Yield each picture of the rows, with the name of its row."""
    whole: dict[str, list[by_hand.Picture]] = {}
    if any(row.startswith("krd") for row in rows):
        # Two laboratories: each field has its own red cells.
        whole["krd fields"] = [
            replace(item, diameter_px=estimate_diameter(ruler, [item.pixels]).diameter_px)
            for item in by_hand.krd(data)
            if every or item.held_out
        ]
    if any(row in rows for row in ("bcisc crops", "bcisc tight")):
        whole["bcisc crops"] = [item for item in by_hand.bcisc_crops(data) if every or item.held_out]
    if "tecom crops" in rows:
        whole["tecom crops"] = list(by_hand.tecom(data))
    if "bcisc fields" in rows:
        whole["bcisc fields"] = list(by_hand.bcisc_fields(data, by_hand.BCISC_TEST_SLIDE))
    for row, source in (("krd tight", "krd fields"), ("bcisc tight", "bcisc crops")):
        cuts = [by_hand.cut_tight(item, TIGHT) for item in whole.get(source, [])]
        whole[row] = [cut for cut in cuts if cut is not None]
    for row in rows:
        yield from ((row, item) for item in whole[row])


def measure(segmenter: CompactSegmenter, item: by_hand.Picture, factor: float) -> tuple[Outlined, Found]:
    """Segment one picture at a factor of its right scale; IoU and F1 are of masks that are called leukocytes."""
    outlines = drain(segmenter.segment(item.pixels, item.diameter_px * factor))
    votes = outlines.kind_votes
    assert votes is not None
    white = np.concatenate([[False], votes.argmax(axis=1) == LEUKOCYTE]) if len(votes) else np.zeros(1, bool)
    leukocytes = np.where(white[outlines.labels], outlines.labels, 0)
    everything = outlined_masks(outlines.labels, item.masks)
    named = outlined_masks(leukocytes, item.masks)
    merged = named.merged | (named.outside > 0.5)
    found = boxes_f1(boxes_of(leukocytes), boxes_of(item.masks))
    return Outlined(named.iou, everything.pieces, merged, named.outside), found


def figures(outlined: Outlined, found: Found) -> dict[str, Any]:
    """Shares with Wilson's interval, mean IoU of what was found with the bootstrap's."""
    n = len(outlined.iou)
    hit = outlined.iou >= FOUND_IOU
    ious = outlined.iou[hit]

    def share(of: np.ndarray) -> list[float]:
        low, high = proportion_confint(int(of.sum()), n, method="wilson")
        return [round(float(of.mean()), 4), round(float(low), 4), round(float(high), 4)]

    result = {"n": n, "found": share(hit), "split": share(outlined.split), "merged": share(outlined.merged)}
    result["n_split"], result["n_merged"] = int(outlined.split.sum()), int(outlined.merged.sum())
    result["f1"] = round(found.f1, 4)
    if len(ious):
        drawn = np.concatenate([weights @ ious / len(ious) for weights in resample_weights(len(ious), 1000)])
        result["iou"] = [round(float(value), 4) for value in (ious.mean(), *interval(drawn))]
    return result


def table(
    segmenter: CompactSegmenter, todo: list[tuple[str, by_hand.Picture]], factors: Sequence[float]
) -> dict[str, Any]:
    """Figures of each row at each factor."""
    rows: dict[str, Any] = {}
    for row in dict.fromkeys(name for name, _ in todo):
        for factor in factors:
            measured = [measure(segmenter, item, factor) for name, item in todo if name == row]
            outlined = reduce(add, (one for one, _ in measured), Outlined.none())
            found = reduce(add, (one for _, one in measured), Found())
            rows[f"{row} x{factor:g}"] = figures(outlined, found)
            log.info("%s x%g | %s", row, factor, json.dumps(rows[f"{row} x{factor:g}"]))
    return rows


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="+", default=[Path("models/compact")])
    parser.add_argument("--all", action="store_true", help="also pictures that the shipped weights have seen")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="only these rows")
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS, help="of the right scale")
    parser.add_argument("--step", type=int, default=1, help="only every n-th picture, for a quick look")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ruler = load_compact(Path("models/compact"), "cpu")
    todo = list(pictures(args.data, ruler, rows=args.rows, every=args.all))[:: args.step]
    results = {}
    for folder in args.weights:
        log.info("%s", folder)
        results[str(folder)] = table(load_compact(folder, "cpu"), todo, args.factors)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
