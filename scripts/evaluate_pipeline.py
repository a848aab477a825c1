"""Measure the whole way from a field to its classes: another microscope's cells, and fields at other scales.

    python -m scripts.evaluate_pipeline --data ../shared/data --out figures.json [--classifier NAME]
[--laboratories NAME ...] [--scales]

The class of the one labelled leukocyte of each picture is measured where it was held out from training: BCCD's fields
and Raabin's crops (``raabin_classes.csv``: told apart by eye, by the authors of this project, not by haematologists)
by the hold-out rule, BCISC's fields of the held-out slide, and all crops of Tecom, a laboratory that is for checks
only. The pictures of one laboratory are analysed in one run, as a user's folder is. With ``--scales`` each held-out
field is enlarged and reduced, and counts and classes are compared with those at its own scale.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from napari_leukocls.analysis.engine import Engine, load_engine
from napari_leukocls.api import analyze
from napari_leukocls.batch.run import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.evaluation.detection import box_ious
from napari_leukocls.io.inputs import SlideInput
from napari_leukocls.scheme import default_scheme
from scripts.evaluate_segmentation import read_pixels
from scripts.laboratories import HELDOUT_SLIDE
from scripts.pack_crops import is_heldout
from scripts.packs import read_classes

log = logging.getLogger("evaluate_pipeline")
FACTORS = (0.4, 0.63, 1.6, 2.5)
RAABIN = Path(__file__).parent / "raabin_classes.csv"
NOT_LEUKOCYTES = ("red_cell", "platelet", "not_classed", "artefact")
BOX = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]


def main_leukocyte(cells: pd.DataFrame) -> pd.Series | None:
    """The leukocyte that a field shows: the largest, cut ones after whole ones."""
    leukocytes = cells[~cells["class"].isin(NOT_LEUKOCYTES)]
    if leukocytes.empty:
        return None
    rank = leukocytes["area_px"] * np.where(leukocytes["touches_border"], 0.7, 1.0)
    return leukocytes.loc[rank.idxmax()]


def labelled(data: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Folder, and class by file, of the held-out pictures of each laboratory with one labelled leukocyte."""
    bccd = {k: v for k, v in read_classes(data / "bccd" / "subtypes.csv").items() if is_heldout(k)}
    raabin = {k: v for k, v in read_classes(RAABIN).items() if is_heldout(k)}
    with (data / "bcisc" / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["slide"] == HELDOUT_SLIDE]
    return {
        "bccd": (data / "bccd" / "images", bccd),
        "raabin": (data / "boxes" / "images", raabin),
        "bcisc": (data / "bcisc", {row["field"]: row["class"] for row in rows}),
        "tecom": (data / "tecom", read_classes(data / "tecom" / "labels.csv")),
    }


def one_leukocyte(folder: Path, truth: dict[str, str], classifier: str) -> dict[str, Any]:
    """Class of the one labelled leukocyte of each picture, end to end."""
    rows, confusion = [], Counter()
    found = 0
    resolve = default_scheme().resolve
    files = sorted(truth)
    slides = [SlideInput((folder / file,), str(number)) for number, file in enumerate(files)]
    with TemporaryDirectory() as out:
        run_batch(slides, out, make_config(classifier=classifier))
        tables = [pd.read_csv(Path(out) / slide.slide_id / "cells.csv") for slide in slides]
    for file, cells in zip(files, tables, strict=True):
        name = resolve(truth[file]) or truth[file]
        cell = main_leukocyte(cells)
        found += cell is not None
        said = "none" if cell is None else str(cell["class"])
        review = cell is None or bool(cell["needs_review"])
        rows.append((file, name, said, review))
        confusion[f"{name} -> {said}"] += 1
    right = sum(name == said for _, name, said, _ in rows)
    settled = [(name, said) for _, name, said, review in rows if not review]
    low, high = proportion_confint(right, len(rows), method="beta")
    return {
        "n": len(rows),
        "found": found / len(rows),
        "accuracy": right / len(rows),
        "accuracy_ci95": [low, high],
        "review_rate": 1 - len(settled) / len(rows),
        "accuracy_not_reviewed": sum(a == b for a, b in settled) / max(1, len(settled)),
        "confusion": dict(confusion.most_common()),
        "wrong": [row for row in rows if row[1] != row[2]],
    }


def other_scales(data: Path, engine: Engine, every: int) -> dict[str, Any]:
    """Counts and classes of held-out fields at other scales against those at their own."""
    pooled = {factor: {"count": 0, "own": 0, "same": 0, "matched": 0} for factor in FACTORS}
    fields = [
        file
        for name in ("bccd", "chula")
        for file in sorted((data / name / "images").iterdir())
        if is_heldout(file.name)
    ]
    off = []
    for file in fields[::every]:
        pixels = read_pixels(file)
        own = analyze(pixels, engine=engine)
        for factor in FACTORS:
            size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            other = analyze(cv2.resize(pixels, size, interpolation=method), engine=engine)
            sums = pooled[factor]
            sums["count"] += len(other.cells)
            sums["own"] += len(own.cells)
            if abs(len(other.cells) - len(own.cells)) > 0.05 * len(own.cells):
                off.append((file.name, factor, len(own.cells), len(other.cells)))
            if len(own.cells) and len(other.cells):
                ious = box_ious(other.cells[BOX].to_numpy(float) / factor, own.cells[BOX].to_numpy(float))
                best = ious.argmax(axis=1)
                pairs = ious.max(axis=1) >= 0.5
                same = other.cells["class"].to_numpy()[pairs] == own.cells["class"].to_numpy()[best[pairs]]
                sums["same"] += int(same.sum())
                sums["matched"] += int(pairs.sum())
    return {
        "fields": len(fields[::every]),
        "by_factor": {
            str(factor): {
                "count_change": sums["count"] / sums["own"] - 1,
                "same_class": sums["same"] / max(1, sums["matched"]),
                "matched": sums["matched"] / max(1, sums["own"]),
            }
            for factor, sums in pooled.items()
        },
        "fields_off_by_more_than_5_percent": len(off),
        "of": len(fields[::every]) * len(FACTORS),
        "examples": off[:20],
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--classifier", default="default")
    parser.add_argument("--laboratories", nargs="*", help="by default all")
    parser.add_argument("--scales", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="of the fields at other scales")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    figures: dict[str, Any] = {}
    if args.scales:
        engine = load_engine(make_config(classifier=args.classifier))
        figures["other_scales"] = other_scales(args.data, engine, args.every)
    else:
        sets = labelled(args.data)
        for name in args.laboratories or sets:
            figures[name] = one_leukocyte(*sets[name], args.classifier)
            log.info("%s %s", name, {k: v for k, v in figures[name].items() if k != "wrong"})
    args.out.write_text(json.dumps(figures, indent=1))
    log.info("%s", json.dumps(figures, indent=1)[:3000])


if __name__ == "__main__":
    main()
