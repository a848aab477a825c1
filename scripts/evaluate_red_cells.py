"""Measure red cells against the centres of all red cells of 30 fields that were never trained on.

    python -m scripts.evaluate_red_cells --data ../shared/data [--segmenters compact threshold]

``red_cell_points.csv`` has the centres, in pixels of the image: every red cell that was seen in an enlarged picture
of the field, also those that touch, overlap, are pale, or are cut by the edge; of a covered or cut cell the centre of
what is seen of it. ``place`` is ``heap`` where outlines cover each other, and ``side`` elsewhere. The fields are those
of the hold-out rule: every fifth of BCCD, every fourth of Chula, all of KRD, and the middle (1024 x 768 pixels) of five
fields of BCISC. The authors of this project, who are not haematologists, made them in this way: in three fields
(``made`` is ``blind``) without a proposal, in the others the program's outlines of that day were proposals, of which
wrong ones were removed and to which missing ones were added in the enlarged picture. In thick heaps of BCCD several
numbers of cells are possible.

A cell is found if the centre of its outline lies within half a red cell's diameter of its point, one to one. What lies
within a tenth of a diameter of the field's edge is neither right nor wrong: little of the cell is seen there.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from napari_leukocls.evaluation.bootstrap import interval, resample_weights
from napari_leukocls.evaluation.detection import Found
from napari_leukocls.measurement.cells import cell_geometry
from scripts.evaluate_segmentation import read_pixels, segment

log = logging.getLogger("evaluate_red_cells")
POINTS = Path(__file__).with_name("red_cell_points.csv")
#: The part of a field (x0, y0, x1, y1) that was looked at, where that is not the whole.
WINDOWS = {"bcisc": (512, 384, 1536, 1152)}
PLACES = ("side", "heap")
#: Shares of a red cell's diameter: how far a centre may lie from its point, and the edge that says nothing.
NEAR, EDGE = 0.5, 0.1
#: How far beyond the edge of the part that was looked at outlines are compared: a point marks what is seen there.
BEYOND = 0.3


@dataclass(frozen=True)
class Marked:
    """The red cells that were marked in one field: x, y (N, 2) in pixels, and whether each lies in a heap (N,)."""

    set: str
    file: str
    points: np.ndarray
    heap: np.ndarray


def read_marked(path: Path = POINTS) -> list[Marked]:
    """Read the points, field by field.

    Parameters
    ----------
    path : Path
        Columns ``set,file,x,y,place,made``.

    Returns
    -------
    list of Marked
    """
    fields: dict[tuple[str, str], list[tuple[float, float, bool]]] = defaultdict(list)
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            place = (float(row["x"]), float(row["y"]), row["place"] == "heap")
            fields[row["set"], row["file"]].append(place)
    return [
        Marked(*key, np.array(rows)[:, :2].astype(float), np.array(rows)[:, 2].astype(bool))
        for key, rows in fields.items()
    ]


def compare(
    centres: np.ndarray, marked: Marked, diameter_px: float, shape: tuple[int, int]
) -> dict[str, Found]:
    """Match centres of outlines to the points of a field.

    Parameters
    ----------
    centres : numpy.ndarray, (N, 2)
        x, y of the red cells that were found, pixels of the image.
    marked : Marked
    diameter_px : float
        Of a red cell.
    shape : tuple of int
        (H, W) of the image.

    Returns
    -------
    dict of str to Found
        By place. A cell too many belongs to the place of the nearest point.
    """
    x0, y0, x1, y1 = WINDOWS.get(marked.set, (0, 0, shape[1], shape[0]))
    low, high = np.array([x0, y0]), np.array([x1, y1])
    beyond, edge = BEYOND * diameter_px, EDGE * diameter_px
    centres = centres[((centres >= low - beyond) & (centres < high + beyond)).all(axis=1)]
    far = cdist(centres, marked.points)
    # Pairs that are near enough are worth more than any distance, so that as many as possible are formed.
    rows, columns = linear_sum_assignment(np.where(far <= NEAR * diameter_px, far - 1e6, 0))
    near = far[rows, columns] <= NEAR * diameter_px
    found, right = np.zeros(len(marked.points), bool), np.zeros(len(centres), bool)
    found[columns[near]], right[rows[near]] = True, True
    heap = marked.heap[far.argmin(axis=1)] if len(centres) else np.zeros(0, bool)
    inside = [
        ((points >= low + edge) & (points < high - edge)).all(axis=1) for points in (marked.points, centres)
    ]
    return {
        place: Found(
            int((found & inside[0] & (marked.heap == wanted)).sum()),
            int((~right & inside[1] & (heap == wanted)).sum()),
            int((~found & inside[0] & (marked.heap == wanted)).sum()),
        )
        for place, wanted in zip(PLACES, (False, True), strict=True)
    }


def measure(data: Path, name: str, sets: list[str] | None = None) -> dict[str, Any]:
    """Measure one segmenter.

    Parameters
    ----------
    data : Path
    name : str
        Of the segmenter.
    sets : list of str, optional
        Only these.

    Returns
    -------
    dict
        F1, precision, recall and counts by place, and by set and place.
    """
    fields: dict[str, list[Found]] = defaultdict(list)
    for marked in read_marked():
        if sets and marked.set not in sets:
            continue
        pixels = read_pixels(data / marked.set / marked.file)
        labels, kinds, diameter = segment(pixels, name, None)
        # The centre of the first pixel is (0.5, 0.5), as a person points at it.
        centres = cell_geometry(labels).centroid[kinds == 0][:, ::-1] + 0.5
        found = compare(centres, marked, diameter, labels.shape)
        for place, one in found.items():
            fields[place].append(one)
            fields[f"{marked.set} {place}"].append(one)
        log.info("%s %s %s", marked.set, marked.file, {place: vars(one) for place, one in found.items()})
    return {key: pooled_figures(found) for key, found in sorted(fields.items())}


def pooled_figures(fields: list[Found]) -> dict[str, Any]:
    """Figures of all fields together, with an interval of F1 over fields.

    Parameters
    ----------
    fields : list of Found

    Returns
    -------
    dict
    """
    total = sum(fields, Found())
    counts = np.array([(one.tp, one.fp, one.fn) for one in fields], float)
    drawn = np.concatenate([weights @ counts for weights in resample_weights(len(fields), 1000)])
    tp, fp, fn = drawn.T
    return {
        "f1": round(total.f1, 4),
        "f1_ci95": interval(2 * tp / np.maximum(2 * tp + fp + fn, 1)),
        "precision": round(total.precision, 4),
        "recall": round(total.recall, 4),
        "right": total.tp,
        "too_many": total.fp,
        "missed": total.fn,
        "fields": len(fields),
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--segmenters", nargs="+", default=["compact"])
    parser.add_argument("--sets", nargs="+", help="only these sets")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = {name: measure(args.data, name, args.sets) for name in args.segmenters}
    log.info("%s", json.dumps(results, indent=1))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
