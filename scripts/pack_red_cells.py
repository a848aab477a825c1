"""Cut the labelled red cells of Chula-RBC-12, and find fields that show one place of a smear.

    python -m scripts.pack_red_cells --data ../shared/data/chula --out red_cells.npz

The project's own segmenter outlines the cells at the set's one scale. A labelled centre takes the outline that holds
it; centres without an outline, and outlines with two centres, are left out. Windows are stored with their masks, larger
than a crop, so that the training can turn and scale them. Fields that overlap (by phase correlation) get one group.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np
import scipy.fft

from napari_leukocls.classification.crops import cut_window, white_balance, window_around
from napari_leukocls.io.images import read_image
from napari_leukocls.measurement.cells import cell_geometry
from napari_leukocls.measurement.red_cells import measure_red_cells
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.types import Segmentation, SmearImage
from scripts.red_cell_set import NAMES, UM_PER_PX, WINDOW, is_held_out, outlined

log = logging.getLogger("pack_red_cells")
#: Grey pictures of fields are reduced to this width for the comparison, pixels.
COMPARED_WIDTH = 160
#: Overlapping fields correlate at least this much where they overlap.
SAME_PLACE = 0.8
#: Least share of a field that must overlap.
LEAST_OVERLAP = 0.25


def small(pixels: np.ndarray) -> np.ndarray:
    """Grey picture without its slow changes, for comparison."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height = round(grey.shape[0] * COMPARED_WIDTH / grey.shape[1])
    grey = cv2.resize(grey, (COMPARED_WIDTH, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), 12)


def overlap(one: np.ndarray, other: np.ndarray, shift: tuple[int, int]) -> float:
    """Correlation of two fields where they overlap at a shift; 0 if that is too small a part."""
    height, width = one.shape
    ys, xs = (slice(max(0, d), min(n, n + d)) for d, n in zip(shift, (height, width), strict=True))
    a = one[ys, xs]
    b = other[ys.start - shift[0] : ys.stop - shift[0], xs.start - shift[1] : xs.stop - shift[1]]
    if a.size < LEAST_OVERLAP * one.size:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def best_overlap(one: np.ndarray, other: np.ndarray, spectra: tuple[np.ndarray, np.ndarray]) -> float:
    """Correlation of two fields at the shift that phase correlation finds."""
    cross = spectra[0] * spectra[1].conj()
    surface = scipy.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=one.shape)
    peak = np.unravel_index(int(surface.argmax()), one.shape)
    dy, dx = (int(d) - n if d > n // 2 else int(d) for d, n in zip(peak, one.shape, strict=True))
    return overlap(one, other, (dy, dx))


def groups_of(fields: list[np.ndarray]) -> np.ndarray:
    """Number of the place that each field shows, (n,)."""
    group = np.arange(len(fields))
    spectra = [scipy.fft.rfft2(field) for field in fields]
    for i in range(len(fields)):
        for j in range(i + 1, len(fields)):
            if (
                group[i] != group[j]
                and best_overlap(fields[i], fields[j], (spectra[i], spectra[j])) >= SAME_PLACE
            ):
                group[group == group[j]] = group[i]
    return group


def labelled(path: Path) -> np.ndarray:
    """Rows x, y, type of the red cells of a field."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    return np.array(rows, float).reshape(-1, 3)


def windows_of(
    field: SmearImage, segmentation: Segmentation, marks: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray], list[int], list]:
    """Windows, masks, types and measurements of a field's labelled cells."""
    labels, glass = segmentation.labels, segmentation.glass_colour
    geometry = cell_geometry(labels)
    table = measure_red_cells(field.pixels, labels, geometry, glass, UM_PER_PX)
    table = table.drop(columns="left_out").set_index("cell_id").astype(float)
    rule = CropRule(WINDOW * UM_PER_PX, WINDOW, None, None)
    at = np.clip(marks[:, :2].round().astype(int), 0, [labels.shape[1] - 1, labels.shape[0] - 1])
    cells = labels[at[:, 1], at[:, 0]]
    windows, masks, types, measured = [], [], [], []
    for cell, mark in zip(cells, marks, strict=True):
        if cell == 0 or (cells == cell).sum() > 1:
            continue
        box = geometry.bbox[np.searchsorted(geometry.ids, cell)]
        centre = ((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2)
        near, local = window_around(centre, WINDOW / 2 + 2, labels.shape)
        picture = white_balance(field.pixels[near], glass, 235.0)
        mask = (labels[near] == cell).astype(np.uint8) * 255
        windows.append(cut_window(np.ascontiguousarray(picture), local, UM_PER_PX, rule, [235.0] * 3))
        masks.append(cut_window(mask, local, UM_PER_PX, rule, [0.0]))
        types.append(int(mark[2]))
        measured.append(table.loc[cell])
    return windows, masks, types, measured


def main() -> None:
    """Pack the set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    windows, masks, types, fields, numbers, pictures, names = [], [], [], [], [], [], []
    columns: list[str] = []
    densities: list[tuple[float, ...]] = []
    n_marks = 0
    for index, path in enumerate(sorted((args.data / "images").glob("*.jpg"))):
        field = read_image(path)
        marks = labelled(args.data / "labels_xy_type" / f"{path.stem}.txt")
        segmentation = outlined(field)
        densities.append(segmentation.red_cell_density or (np.nan,) * 3)
        cut = windows_of(field, segmentation, marks)
        windows += cut[0]
        masks += cut[1]
        types += cut[2]
        numbers += [row.to_numpy() for row in cut[3]]
        columns = list(cut[3][0].index) if cut[3] else columns
        fields += [index] * len(cut[0])
        n_marks += len(marks)
        pictures.append(small(field.pixels))
        names.append(path.name)
        log.info("%s: %d of %d", path.name, len(cut[0]), len(marks))
    group = groups_of(pictures)
    log.info("%d of %d cells; %d fields of %d places", len(types), n_marks, len(names), len(np.unique(group)))
    held = np.array([is_held_out(name) for name in names])
    np.savez_compressed(
        args.out,
        windows=np.array(windows, np.uint8),
        masks=np.array(masks, np.uint8),
        types=np.array(types, np.int64),
        fields=np.array(fields, np.int64),
        measured=np.array(numbers, np.float64),
        columns=np.array(columns),
        names=np.array(names),
        group=group,
        densities=np.array(densities, np.float64),
        held_out=held,
        type_names=np.array(NAMES),
    )


if __name__ == "__main__":
    main()
