"""Reading what the annotators left: boxes, centres, and the hold-out rule."""

from __future__ import annotations

import csv
import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import LEUKOCYTE, PLATELET, RED_CELL, STORED_DIAMETER

_VOC_KINDS = {"RBC": RED_CELL, "WBC": LEUKOCYTE, "Platelets": PLATELET}
_YOLO_KINDS = {0: LEUKOCYTE, 1: RED_CELL, 2: PLATELET}
#: Diameter of a red cell in the files, px, by set and image width (see the data's README; chula is measured).
_NATIVE_DIAMETER = {("bccd", 640): 102.0, ("boxes", 575): 136.0, ("boxes", 360): 79.0, ("boxes", 366): 79.0}
#: Red cells of this size, px, or smaller are stored as they are.
_KEEP_BELOW = 50.0
CHULA_DIAMETER = 38.9


@dataclass
class Item:
    """One image with its annotations, in native pixels."""

    set: str
    path: Path
    holdout: bool
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))  # (N, 4) x0 y0 x1 y1
    kinds: np.ndarray = field(default_factory=lambda: np.zeros(0, int))  # (N,)
    centres: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # (M, 2) x y
    problems: list[str] = field(default_factory=list)


def is_held_out(name: str) -> bool:
    """Whether an image of this base name (with its extension) is never trained on."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0


def native_diameter(set_name: str, width: int) -> float:
    """Diameter of a red cell in the files of a set, px."""
    return _NATIVE_DIAMETER.get((set_name, width), CHULA_DIAMETER)


def stored_factor(set_name: str, width: int) -> float:
    """Factor from native to stored pixels."""
    native = native_diameter(set_name, width)
    return 1.0 if native < _KEEP_BELOW else STORED_DIAMETER / native


def _voc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    boxes, kinds = [], []
    for item in ElementTree.parse(path).getroot().iter("object"):
        kind = _VOC_KINDS.get(item.findtext("name", ""))
        corners = [float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
        if kind is not None and np.isfinite(corners).all():
            kinds.append(kind)
            boxes.append(corners)
    return np.array(boxes, float).reshape(-1, 4), np.array(kinds, int)


def _yolo(path: Path, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([line.split() for line in path.read_text().splitlines() if line.strip()], float)
    rows = rows.reshape(-1, 5)
    half = rows[:, 3:] / 2
    boxes = np.hstack([rows[:, 1:3] - half, rows[:, 1:3] + half]) * [width, height, width, height]
    return boxes, np.array([_YOLO_KINDS[int(k)] for k in rows[:, 0]], int)


def read_annotations(item: Item, width: int, height: int) -> None:
    """Fill in boxes or centres of an item whose image is ``width`` by ``height`` px."""
    folder = item.path.parent.parent
    if item.set == "bccd":
        path = folder / "voc" / f"{item.path.stem}.xml"
        if path.exists():
            item.boxes, item.kinds = _voc(path)
    elif item.set == "boxes":
        path = folder / "labels" / f"{item.path.stem}.txt"
        item.boxes, item.kinds = _yolo(path, width, height)
    else:
        path = folder / "labels_xy_type" / f"{item.path.stem}.txt"
        rows = [line.split()[:2] for line in path.read_text().splitlines() if line.strip()]
        item.centres = np.array(rows, float).reshape(-1, 2)
    if item.set != "chula":
        if not path.exists():
            item.problems.append("no annotation file")
        elif not (item.kinds == RED_CELL).any():
            item.problems.append("no red cell boxes")
        item.boxes = np.clip(item.boxes, 0, [width, height, width, height])
        keep = ((item.boxes[:, 2:] - item.boxes[:, :2]) >= 2).all(1)
        item.boxes, item.kinds = item.boxes[keep], item.kinds[keep]


def items(data: Path, sets: tuple[str, ...] = ("bccd", "chula", "boxes")) -> Iterator[Item]:
    """Every image of the sets, in the order of the names, without annotations yet."""
    match: dict[str, str] = {}
    table = data / "boxes" / "pbc_match.csv"
    if table.exists():
        with table.open(newline="") as stream:
            match = {row["file"]: row["pbc_file"] for row in csv.DictReader(stream)}
    for name in sets:
        for path in sorted((data / name / "images").glob("*.jpg")):
            known = match.get(path.name, path.name) if name == "boxes" else path.name
            yield Item(name, path, is_held_out(Path(known).name))
