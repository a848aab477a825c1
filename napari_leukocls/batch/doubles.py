"""Fields that occur twice: the same file, the same pixels in another file, or the same picture saved anew."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.io.images import read_image
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.io.slides import is_slide

if TYPE_CHECKING:
    from napari_leukocls.io.inputs import SlideInput

#: Side of the small pictures by which fields are compared.
SIDE = 48
#: Least correlation of the small pictures of a field and of the same field saved anew: measured 0.995 and more;
#: of two fields at most 0.35 (BCCD, BCISC, Chula).
ALIKE = 0.9
#: Least contrast of a small picture, grey levels: empty fields all look the same, and count nothing.
MIN_CONTRAST = 2.0


@dataclass(frozen=True)
class Look:
    """What of a field is kept to recognise it.

    Attributes
    ----------
    digest : str
        SHA-256 of its pixels and their shape.
    small : numpy.ndarray, (SIDE * SIDE,), float32
        A small picture without slow changes of light, of length 1; zeros if it has no contrast.
    """

    digest: str
    small: np.ndarray


def look_at(pixels: np.ndarray) -> Look:
    """Compute what a field is recognised by.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    Look
    """
    total = hashlib.sha256(str(pixels.shape).encode())
    total.update(np.ascontiguousarray(pixels).tobytes())
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), 4)
    fine -= fine.mean()
    length = float(np.linalg.norm(fine))
    if length < MIN_CONTRAST * SIDE:
        return Look(total.hexdigest(), np.zeros(SIDE * SIDE, np.float32))
    return Look(total.hexdigest(), (fine / length).reshape(-1))


def _turned(small: np.ndarray) -> list[np.ndarray]:
    """A small picture in its eight rotations and mirror images."""
    square = small.reshape(SIDE, SIDE)
    return [np.rot90(side, turn).reshape(-1) for side in (square, square[:, ::-1]) for turn in range(4)]


@dataclass
class Fields:
    """The fields of a slide that were met so far."""

    _names: list[str] = field(default_factory=list)
    _looks: list[Look] = field(default_factory=list)

    def meet(self, name: str, pixels: np.ndarray) -> tuple[str, str]:
        """Tell which earlier field a field repeats, and keep it if it repeats none.

        Parameters
        ----------
        name : str
        pixels : numpy.ndarray, (H, W, 3), uint8

        Returns
        -------
        same : str
            Name of an earlier field with the same pixels; empty if there is none.
        alike : str
            Name of an earlier field that shows the same picture, saved anew or turned; empty if there is none.
        """
        look = look_at(pixels)
        for other, known in zip(self._names, self._looks, strict=True):
            if known.digest == look.digest:
                return other, ""
        alike = ""
        if self._looks:
            others = np.stack([known.small for known in self._looks])
            match = (np.stack(_turned(look.small)) @ others.T).max(axis=0)
            if match.max() >= ALIKE:
                alike = self._names[int(match.argmax())]
        self._names.append(name)
        self._looks.append(look)
        return "", alike


def doubles_among(
    slides: Sequence[SlideInput],
    base: Path,
    tell: Callable[[int, int], None] | None = None,
    plane: int | str = "first",
) -> dict[str, tuple[str, ...]]:
    """Find slides that show the same picture as another slide of a batch.

    Files of the same size are compared byte by byte (by hash). Fields are compared by their pixels, and by small
    pictures; whole slides are not decoded for this.

    Parameters
    ----------
    slides : sequence of SlideInput
    base : Path
        Folder that relative paths start from.
    tell : callable, optional
        Called with the number of fields that were read, and of all.
    plane : int or str
        Of a stack, as the settings of the analysis have it.

    Returns
    -------
    dict of str to tuple of str
        Warnings by the id of the slide; the same for every order of the work.
    """
    files = [(slide.slide_id, base / path) for slide in slides for path in slide.fields]
    pairs: dict[tuple[str, str], str] = {}
    if len(slides) < 2:
        return {}
    for group in _same_bytes(path for _, path in files):
        _pair([name for name, path in files if path in group], "is the same file as", pairs)
    by_pixels: dict[str, list[str]] = defaultdict(list)
    names, smalls = [], []
    for number, (name, path) in enumerate(files):
        if tell is not None:
            tell(number, len(files))
        look = _look_of(path, plane)
        if look is not None:
            by_pixels[look.digest].append(name)
            names.append(name)
            smalls.append(look.small)
    for members in by_pixels.values():
        _pair(members, "has the same pixels as", pairs)
    for first, second in _alike(smalls):
        _pair([names[first], names[second]], "shows the same picture as", pairs)
    warnings: dict[str, list[str]] = defaultdict(list)
    for (one, other), what in sorted(pairs.items()):
        for mine, theirs in ((one, other), (other, one)):
            warnings[mine].append(
                f"a field of it {what} one of '{theirs}': if they are not the same slide, one of the files is wrong."
                if _several(slides, mine)
                else f"it {what} '{theirs}': if both are one slide, count it once; if not, one of the files is wrong."
            )
    return {name: tuple(lines) for name, lines in warnings.items()}


def _several(slides: Sequence[SlideInput], name: str) -> bool:
    return any(slide.slide_id == name and len(slide.fields) > 1 for slide in slides)


def _pair(names: Sequence[str], what: str, pairs: dict[tuple[str, str], str]) -> None:
    """Note that different slides are the same; what was noted first is surer."""
    unique = sorted(set(names))
    for other in unique[1:]:
        pairs.setdefault((unique[0], other), what)


def _same_bytes(paths: Iterable[Path]) -> list[set[Path]]:
    """Groups of different files with the same content."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in set(paths):
        try:
            if path.is_file():
                sizes[path.stat().st_size].append(path)
        except (OSError, ValueError):
            continue  # its analysis says why it cannot be read
    groups: dict[str, set[Path]] = defaultdict(set)
    for members in sizes.values():
        for path in members if len(members) > 1 else []:
            try:
                groups[sha256_of(path)].add(path)
            except OSError:
                continue  # as above
    return [group for group in groups.values() if len(group) > 1]


def _look_of(path: Path, plane: int | str) -> Look | None:
    """A field's look; None for whole slides, and for what cannot be read: its analysis says why."""
    try:
        if not os.path.isfile(path) or is_slide(path):
            return None
        return look_at(read_image(path, plane=plane).pixels)
    except (LeukoclsError, OSError, ValueError):
        return None


def _alike(smalls: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of small pictures that show the same, in any rotation."""
    if len(smalls) < 2:
        return []
    every = np.stack(smalls)
    found: set[tuple[int, int]] = set()
    for turn in range(8):
        turned = np.stack([_turned(small)[turn] for small in smalls])
        for start in range(0, len(every), 1024):
            rows, columns = np.nonzero(every[start : start + 1024] @ turned.T >= ALIKE)
            found |= {(int(row) + start, int(column)) for row, column in zip(rows, columns, strict=True)}
    return sorted((row, column) for row, column in found if row < column)
