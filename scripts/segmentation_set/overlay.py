"""Contact sheets with outlines, to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from . import IGNORE, LEUKOCYTE, PLATELET, RED_CELL

_COLOURS = {RED_CELL: (0, 150, 0), LEUKOCYTE: (220, 0, 0), PLATELET: (0, 0, 255)}
_INFERRED = (255, 140, 0)


def contours(
    image: np.ndarray, labels: np.ndarray, kinds: np.ndarray, annotated: np.ndarray, title: str, zoom: int = 2
) -> np.ndarray:
    """An image with its cells outlined and ignored pixels greyed, (zoom H, zoom W, 3) uint8 RGB."""
    size = (image.shape[1] * zoom, image.shape[0] * zoom)
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    ignored = large == IGNORE
    picture[ignored] = (0.45 * picture[ignored] + 0.55 * np.array([0, 200, 220])).astype(np.uint8)
    for i, kind in enumerate(kinds):
        one = (large == i + 1).astype(np.uint8)
        outline = cv2.findContours(one, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        colour = _COLOURS[int(kind)] if annotated[i] or kind != RED_CELL else _INFERRED
        cv2.drawContours(picture, outline, -1, colour, 1)
    cv2.putText(picture, title[-12:], (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
    return picture


def sheet(tiles: list[np.ndarray], folder: Path, name: str, across: int = 1800) -> None:
    """Write tiles of about one size as PNG sheets of some 12 each."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = np.median([t.shape[:2] for t in tiles], axis=0).astype(int)
    columns = max(1, across // width)
    rows = max(1, 1300 // height)
    fitted = [cv2.resize(t, (int(width), int(height)), interpolation=cv2.INTER_AREA) for t in tiles]
    for page, start in enumerate(range(0, len(fitted), columns * rows)):
        part = fitted[start : start + columns * rows]
        part += [np.full_like(part[0], 255)] * (-len(part) % columns)
        lines = [np.hstack(part[i : i + columns]) for i in range(0, len(part), columns)]
        cv2.imwrite(str(folder / f"{name}_{page}.png"), np.vstack(lines)[..., ::-1])
