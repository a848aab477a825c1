"""Measure how well the scale is read from the nuclei in crops so tight that no whole red cell is in view.

    python -m scripts.evaluate_scale --data ../shared/data [--sets pbc raabin bcisc krd tecom]

Each crop is a square of 1.5 to 2.1 red cells (11 to 16 um) around a leukocyte, reduced to between 80 and 300 pixels;
those of Tecom are taken as they are. Printed are the share of crops within 20 % of the truth, one by one, and of
folders of 5 and 20 crops of one laboratory (of BCISC: slide), whose readings are pooled. Nothing is trained; the one
constant, `NUCLEUS_PER_RED_CELL`, is from PBC, Raabin, BCISC and KRD, so each is also measured with the constant of the
other three.

The truth of Tecom, which no file states, is derived from its masks: the median neutrophil is 75.2 px across and the
median lymphocyte 58.7 px; those of PBC are 13.5 um and 10.1 um across by the outlines of the compact segmenter. This
makes 5.56 and 5.83 px/um, and a red cell of 42.7 px.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import beta

from napari_leukocls.segmentation.common_scale import pooled
from napari_leukocls.segmentation.nuclear_scale import NUCLEUS_PER_RED_CELL, ScaleReading, read_nuclei

#: Diameter of the median red cell, pixels; of BCISC's slides as the ruler measures it in their fields, halved as its
#: crops are; of KRD the median of its files.
DIAMETER_PX = {"pbc": 79.0, "raabin": 136.0, "krd": 81.0, "tecom": 42.7}
BCISC_PX = {"1": 56.3, "2": 54.7, "3": 59.9, "4": 60.4, "5": 57.3}
#: Median nucleus over red cell in each laboratory that the constant is from.
RATIOS = {"pbc": 8.07 / 7.5, "raabin": 9.04 / 7.5, "bcisc": 8.26 / 7.5, "krd": 9.35 / 7.5}
#: Most crops of a laboratory.
MOST = 150
FOLDERS = 200

Crop = tuple[np.ndarray, float, str]


def read_rgb(file: Path) -> np.ndarray:
    """Read an image as RGB."""
    return np.ascontiguousarray(cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1])


def rows_of(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def images_of(name: str, data: Path) -> Iterator[tuple[np.ndarray, float, str, tuple[float, float] | None]]:
    """Pixels, diameter of a red cell, slide, and the leukocyte's centre where it is not the middle."""
    if name == "bcisc":
        for row in rows_of(data / "bcisc" / "labels.csv"):
            yield read_rgb(data / "bcisc" / row["file"]), BCISC_PX[row["slide"]], row["slide"], None
    elif name == "krd":
        for row in rows_of(data / "krd" / "labels.csv"):
            x0, y0, x1, y1 = (float(row[key]) for key in ("x0", "y0", "x1", "y1"))
            centre = ((y0 + y1) / 2, (x0 + x1) / 2)
            yield read_rgb(data / "krd" / row["file"]), DIAMETER_PX[name], name, centre
    elif name == "tecom":
        for row in rows_of(data / "tecom" / "labels.csv"):
            yield read_rgb(data / "tecom" / row["file"]), DIAMETER_PX[name], name, None
    elif name == "pbc":
        files = [
            file for file in sorted((data / "pbc_full").glob("*/*.jpg")) if file.parent.name != "platelet"
        ]
        for file in files[:: len(files) // MOST]:
            yield read_rgb(file), DIAMETER_PX[name], name, None
    else:
        for file in sorted((data / "boxes" / "images").iterdir())[::2]:
            pixels = read_rgb(file)
            if pixels.shape[0] == 575:
                yield pixels, DIAMETER_PX[name], name, None


def crops_of(name: str, data: Path, random: np.random.Generator) -> Iterator[Crop]:
    """Squares around leukocytes without a whole red cell: pixels, diameter of a red cell, slide."""
    for number, (pixels, diameter, slide, centre) in enumerate(images_of(name, data)):
        if number >= MOST:
            return
        if name == "tecom":
            yield pixels, diameter, slide
            continue
        height, width = pixels.shape[:2]
        y, x = centre or (height / 2, width / 2)
        side = int(min(diameter * random.uniform(1.5, 2.1), height, width))
        y0, x0 = (int(np.clip(at - side / 2, 0, n - side)) for at, n in ((y, height), (x, width)))
        new = int(min(side, random.uniform(80, 300)))
        part = cv2.resize(pixels[y0 : y0 + side, x0 : x0 + side], (new, new), interpolation=cv2.INTER_AREA)
        yield np.ascontiguousarray(part), diameter * new / side, slide


def within(errors: np.ndarray) -> str:
    """Share within 20 %, with its exact 95 % interval."""
    n, k = len(errors), int((np.abs(errors) <= np.log2(1.2)).sum())
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{k / n:.2f} ({low:.2f} to {high:.2f})"


def report(name: str, crops: list[Crop], random: np.random.Generator) -> None:
    """Read every crop, alone and pooled with others of its slide."""
    others = [ratio for lab, ratio in RATIOS.items() if lab != name]
    shift = np.log2(NUCLEUS_PER_RED_CELL / np.exp(np.mean(np.log(others))))
    read = [(read_nuclei(pixels), np.log2(diameter), slide) for pixels, diameter, slide in crops]
    known = [(one, truth, slide) for one, truth, slide in read if one.diameter_px]
    errors = np.array([np.log2(one.diameter_px) - truth for one, truth, _ in known])
    middle = np.median(errors)
    line = [
        f"{name:6s} {len(known)} of {len(crops)} crops read: within 20 % {within(errors)}",
        f"median error {middle:+.2f} octaves, spread {1.4826 * np.median(np.abs(errors - middle)):.2f}",
    ]
    slides = np.array([slide for _, _, slide in known])
    for size in (5, 20):
        found = []
        for _ in range(FOLDERS):
            rows = np.flatnonzero(slides == random.choice(slides))
            rows = random.choice(rows, min(size, len(rows)), replace=False)
            # As if all had one scale: the truth of each is taken out, and put back as 1.
            same = [
                ScaleReading(known[i][0].diameter_px / 2 ** known[i][1], known[i][0].octaves) for i in rows
            ]
            found.append(np.log2(pooled(same).diameter_px))
        line.append(
            f"folders of {size}: {np.mean(np.abs(found) <= np.log2(1.2)):.2f}, "
            f"constant of the other laboratories {np.mean(np.abs(np.array(found) + shift) <= np.log2(1.2)):.2f}"
        )
    print("; ".join(line), flush=True)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["pbc", "raabin", "bcisc", "krd", "tecom"])
    args = parser.parse_args()
    for name in args.sets:
        random = np.random.default_rng(0)
        report(name, list(crops_of(name, args.data, random)), random)


if __name__ == "__main__":
    main()
