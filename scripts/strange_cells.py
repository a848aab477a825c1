"""Cells that no class has, made of known ones: for checks of the score of unknown cells, never for training.

Each kind takes the packed window of a cell with its mask, and of a second cell, and returns a window and its mask:
smudge cells (a nucleus without a cell, smeared), stretched cells, two cells taken for one, giant cells with a smooth
nucleus, and precipitate of the stain. Glass is `WHITE`, as everywhere in packed windows.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from napari_leukocls.models.crop_rule import CropRule
from scripts.knowledge import product_crops
from scripts.packs import Pack

#: Grey value of glass in packed windows.
WHITE = 235.0
Window = tuple[np.ndarray, np.ndarray]


def _density(window: np.ndarray) -> np.ndarray:
    array: np.ndarray = -np.log(np.clip(window.astype(np.float32) / WHITE, 1 / WHITE, 1))
    return array


def _picture(density: np.ndarray) -> np.ndarray:
    return np.clip(WHITE * np.exp(-np.asarray(density, np.float32)), 0, 255).astype(np.uint8)


def _smooth_noise(shape: tuple[int, int], sigma: float, random: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(random.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    array: np.ndarray = noise / noise.std()
    return array


def _places(mask: np.ndarray) -> Window:
    """Columns and rows of each pixel, from the middle."""
    rows, columns = np.indices(mask.shape, np.float32)
    return columns - mask.shape[1] / 2, rows - mask.shape[0] / 2


def _warp(image: np.ndarray, columns: np.ndarray, rows: np.ndarray, border: float) -> np.ndarray:
    middle = image.shape[1] / 2, image.shape[0] / 2
    maps = (columns + middle[0]).astype(np.float32), (rows + middle[1]).astype(np.float32)
    array: np.ndarray = cv2.remap(
        image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 3
    )
    return array


def _nucleus(window: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What holds back most red light inside the cell (Otsu 1979)."""
    red, inside = 100 * _density(window)[..., 0], mask > 127
    if not inside.any():
        return inside
    limit, _ = cv2.threshold(red[inside].clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return inside & (red > limit)


def smudge(window: np.ndarray, mask: np.ndarray, other: Window, random: np.random.Generator) -> Window:
    """Leave the nucleus alone, wider, distorted and smeared in one direction."""
    density = _density(window) * _nucleus(window, mask)[..., None]
    columns, rows = _places(mask)
    zoom, strength = random.uniform(0.6, 0.85), random.uniform(9, 17)
    columns = columns * zoom + strength * _smooth_noise(mask.shape, 14, random)
    rows = rows * zoom + strength * _smooth_noise(mask.shape, 14, random)
    length = int(random.integers(13, 31)) | 1
    streak = np.zeros((length, length), np.float32)
    streak[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2,) * 2, random.uniform(0, 180), 1)
    streak = cv2.warpAffine(streak, turn, (length, length))
    smeared = cv2.filter2D(_warp(density, columns, rows, 0), -1, streak / streak.sum())
    smeared = cv2.GaussianBlur(smeared, (0, 0), random.uniform(0.6, 1.8))
    return _picture(smeared), np.where(smeared.max(2) > 0.06, 255, 0).astype(np.uint8)


def stretched(window: np.ndarray, mask: np.ndarray, other: Window, random: np.random.Generator) -> Window:
    """Draw the cell out in one direction."""
    columns, rows = _places(mask)
    factor, angle = random.uniform(1.5, 1.9), random.uniform(0, np.pi)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / factor
    across = (rows * np.cos(angle) - columns * np.sin(angle)) * np.sqrt(factor)
    place = (
        along * np.cos(angle) - across * np.sin(angle),
        along * np.sin(angle) + across * np.cos(angle),
    )
    return _warp(window, *place, WHITE), _warp(mask, *place, 0)


def double(window: np.ndarray, mask: np.ndarray, other: Window, random: np.random.Generator) -> Window:
    """Put a second cell beside the first, in one outline."""
    radii = [np.sqrt((one > 127).sum() / np.pi) for one in (mask, other[1])]
    gap, angle = random.uniform(0.75, 0.95) * sum(radii) / 2, random.uniform(0, 2 * np.pi)
    columns, rows = _places(mask)
    densities, masks = [], []
    for sign, (picture, outline) in zip((-1, 1), ((window, mask), other), strict=True):
        soft = cv2.GaussianBlur(outline, (0, 0), 1.5)[..., None] / 255
        place = columns + sign * gap * np.cos(angle), rows + sign * gap * np.sin(angle)
        densities.append(_warp((_density(picture) * soft).astype(np.float32), *place, 0))
        masks.append(_warp(outline, *place, 0))
    return _picture(np.maximum(*densities)), np.maximum(*masks)


def giant(window: np.ndarray, mask: np.ndarray, other: Window, random: np.random.Generator) -> Window:
    """Enlarge the cell by half or more, and smooth its chromatin."""
    zoom = random.uniform(1.45, 1.8)
    columns, rows = (place / zoom for place in _places(mask))
    large = cv2.GaussianBlur(_warp(window, columns, rows, WHITE), (0, 0), random.uniform(1, 2.2))
    return large, _warp(mask, columns, rows, 0)


def precipitate(window: np.ndarray, mask: np.ndarray, other: Window, random: np.random.Generator) -> Window:
    """Draw a ragged clot of the nucleus's stain where the cell was."""
    nucleus = _nucleus(window, mask)
    stain = _density(window)[nucleus].mean(0) if nucleus.any() else np.array([0.8, 1.2, 0.6])
    distance = np.hypot(*_places(mask)) / random.uniform(25, 45)
    field = _smooth_noise(mask.shape, random.uniform(5, 12), random) + 2.2 - 2.2 * distance**1.5
    count, labels, sizes, _ = cv2.connectedComponentsWithStats((field > 0).astype(np.uint8))
    clot = labels == 1 + np.argmax(sizes[1:, cv2.CC_STAT_AREA]) if count > 1 else field > 0
    rough = np.clip(1 + 0.35 * _smooth_noise(mask.shape, random.uniform(1, 4), random), 0.2, 2)
    edge = cv2.GaussianBlur(clot.astype(np.float32), (0, 0), 1.2)
    density = (edge * rough)[..., None] * stain * random.uniform(0.6, 1.3)
    return _picture(density), np.where(clot, 255, 0).astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, Window, np.random.Generator], Window]] = {
    "smudge": smudge,
    "stretched": stretched,
    "two in one": double,
    "giant": giant,
    "precipitate": precipitate,
}


def strange_crops(
    pack: Pack, rows: np.ndarray, kind: str, rule: CropRule, random: np.random.Generator
) -> np.ndarray:
    """Make one strange cell of each of some packed cells, and cut it as an analysis does.

    Parameters
    ----------
    pack : Pack
    rows : numpy.ndarray, (N,), int
    kind : str
        One of `KINDS`.
    rule : CropRule
    random : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px, 3), uint8
    """
    windows = np.ascontiguousarray(pack.crops[rows].permute(0, 2, 3, 1).numpy())
    masks = np.ascontiguousarray(pack.masks[rows, 0].numpy())
    others = random.permutation(len(rows))
    made = [
        KINDS[kind](windows[one], masks[one], (windows[other], masks[other]), random)
        for one, other in enumerate(others)
    ]
    return product_crops(_as_pack(pack, rows, made), np.arange(len(rows)), rule)


def _as_pack(pack: Pack, rows: np.ndarray, made: list[Window]) -> Any:
    """The parts of a pack that are read when crops are cut."""
    return SimpleNamespace(
        crops=torch.from_numpy(np.stack([window for window, _ in made])).permute(0, 3, 1, 2),
        masks=torch.from_numpy(np.stack([mask for _, mask in made]))[:, None],
        red_cells=pack.red_cells[rows],
    )
