"""Write the leukocytes of BCCD as labelled crops: images of one cell in the middle, and a table.

    python -m scripts.bccd_crops --data ../shared/data --out FOLDER [--limit 100]

``learn.csv`` has crops of fields that may be learnt from, ``held.csv`` those of the hold-out (SHA-256 of the
field's base name, modulo 5, is 0). ``--limit`` keeps the first so many
of `learn.csv`, in the order of their hash.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

log = logging.getLogger("bccd_crops")
#: Micrometres per pixel: 7.5 um over the set's median red cell.
UM_PER_PX = 7.5 / 102
#: Half side of what is kept around a leukocyte, pixels.
HALF = 260


def leukocyte_box(file: Path) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 of the one leukocyte of a field, or None where there are none or several."""
    boxes = []
    for item in ElementTree.parse(file).getroot().iter("object"):
        if (item.findtext("name") or "").upper().startswith("WBC"):
            box = item.find("bndbox")
            if box is not None:
                boxes.append(tuple(float(box.findtext(k) or 0) for k in ("xmin", "ymin", "xmax", "ymax")))
    return boxes[0] if len(boxes) == 1 else None  # type: ignore[return-value]


def cut(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The surroundings of a box, its middle in the middle; beyond the field there is glass."""
    x, y = round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2)
    glass = np.percentile(pixels.reshape(-1, 3), 80, axis=0)
    wide = cv2.copyMakeBorder(pixels, HALF, HALF, HALF, HALF, cv2.BORDER_CONSTANT, value=glass.tolist())
    return wide[y : y + 2 * HALF, x : x + 2 * HALF]


def main() -> None:
    """Parse the command line and write the crops."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[tuple[int, str, str]]] = {"learn": [], "held": []}
    with (args.data / "bccd" / "subtypes.csv").open(newline="") as stream:
        fields = list(csv.DictReader(stream))
    for field in fields:
        name = Path(field["file"]).name
        outline = args.data / "bccd" / "voc" / f"{Path(name).stem}.xml"
        box = leukocyte_box(outline) if outline.is_file() else None
        pixels = cv2.imread(str(args.data / "bccd" / "images" / name))
        if box is None or pixels is None:
            continue
        number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        crop = f"{Path(name).stem}.png"
        cv2.imwrite(str(args.out / crop), cut(pixels, box))
        rows["held" if number % 5 == 0 else "learn"].append((number, crop, field["class"]))
    for part, found in rows.items():
        kept = sorted(found)[: args.limit] if part == "learn" else sorted(found)
        with (args.out / f"{part}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["file", "class", "um_per_px"])
            writer.writerows([crop, name, f"{UM_PER_PX:.6f}"] for _, crop, name in kept)
        log.info("%s: %d of %d crops", part, len(kept), len(found))


if __name__ == "__main__":
    main()
