"""What all readers of labelled data share: labels of cells, and where the images are."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from PIL import Image

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import IMAGE_SUFFIXES, read_image
from napari_leukocls.plurals import count_text, first_names

Box = tuple[float, float, float, float]
Polygon = tuple[float, ...]

#: Folders of the system and of programs; names that begin with a point are left out as well.
SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
#: Most files of a folder that are listed to find an image under another name.
_MOST_FILES = 200_000
#: Pixels that a box may reach beyond its image without a note: programs round differently.
_ROUNDING_PX = 1.5


@dataclass(frozen=True)
class Marked:
    """The label of a cell, or of a whole image.

    Attributes
    ----------
    file : str
        The image as the data names it, with ``/`` between folders.
    path : Path
        Of the image; it may be missing.
    class_text : str
        As the data writes it.
    box : tuple of 4 float or None
        x0, y0, x1, y1 in pixels of the image, the corner of the first pixel at 0; None if the label is of the whole
        image.
    outline : tuple of tuple of float
        Polygons x, y, x, y, ... around the cell; empty if it has none.
    split : str
        ``train``, ``validation``, ``test``, or empty.
    group : str
        Patient or slide, where a folder names one.
    size : tuple of int or None
        Height and width of the image as the data states them.
    """

    file: str
    path: Path
    class_text: str
    box: Box | None = None
    outline: tuple[Polygon, ...] = ()
    split: str = ""
    group: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Labels:
    """All labels of a data set.

    Attributes
    ----------
    kind : str
        What it is, in words.
    rows : tuple of Marked
    notes : tuple of str
        What was understood, and what was left out.
    images_without_label : int
        Images that were annotated, and in which nothing is marked.
    outside : int
        Boxes that were cut at the edge of their image, or left out.
    sure : bool
        False for folders that may be something else than classes: a table beside them is then preferred.
    """

    kind: str
    rows: tuple[Marked, ...]
    notes: tuple[str, ...] = ()
    images_without_label: int = 0
    outside: int = 0
    sure: bool = True


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is the system's and no data.

    Parameters
    ----------
    name : str
        ``._a.png``, ``__MACOSX`` and the like.

    Returns
    -------
    bool
    """
    return name.startswith(".") or name.casefold() in SYSTEM_FOLDERS


def files_below(folder: Path) -> Iterator[Path]:
    """List the files in a folder and its subfolders, sorted, without those of the system.

    Parameters
    ----------
    folder : Path

    Yields
    ------
    Path
    """
    entered: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            # A link to a folder above never ends.
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if not is_hidden(name):
                yield Path(place, name)


def is_image(path: Path) -> bool:
    """Tell by the suffix whether a file is an image.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return path.suffix.lower() in IMAGE_SUFFIXES


@dataclass
class Finder:
    r"""Finds the images that a table or an annotation names.

    Names may come from another computer: with ``\`` between folders, with a drive or folders that are not here, in
    another letter case, or without a suffix. Such an image is taken if exactly one file fits.

    Attributes
    ----------
    root : Path
        Folder that is searched.
    moved : list of tuple
        The names that did not fit as they are, and the files that were taken.
    """

    root: Path
    moved: list[tuple[str, Path]] = field(default_factory=list)
    _index: dict[str, list[Path]] | None = None

    def find(self, name: str, *bases: Path) -> Path:
        """Find an image.

        Parameters
        ----------
        name : str
        *bases : Path
            Folders that the name may be relative to; by default `root`.

        Returns
        -------
        Path
            In the first of the folders, and missing, if there is no such image.
        """
        folders = bases or (self.root,)
        plain = name.strip()
        if plain.lower().startswith("file:"):
            plain = unquote(urlparse(plain).path)
        slashed = plain.replace("\\", "/")
        for text in dict.fromkeys((name, plain, slashed)):
            for base in folders:
                try:
                    if text and (base / text).is_file():
                        return base / text
                except (OSError, ValueError):
                    continue  # no file can have this name here
        found = self._elsewhere(slashed)
        if found is None:
            return folders[0] / (slashed.lstrip("/") or "?")
        self.moved.append((name, found))
        return found

    def note(self) -> list[str]:
        """Return a line that names what was found in another place, if anything was."""
        if not self.moved:
            return []
        first, path = self.moved[0]
        return [
            f"{count_text(len(self.moved), 'file is', 'files are')} not where the data says and "
            f"{'was' if len(self.moved) == 1 else 'were'} found by name: {first} is {self.relative(path)}."
        ]

    def relative(self, path: Path) -> str:
        """Name a file relative to the root.

        Parameters
        ----------
        path : Path

        Returns
        -------
        str
            With ``/`` between folders; the whole path if it is not below the root.
        """
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()

    def _elsewhere(self, name: str) -> Path | None:
        """The one file whose path ends as the name does."""
        if self._index is None:
            self._index = defaultdict(list)
            for number, path in enumerate(files_below(self.root)):
                if number >= _MOST_FILES:
                    break
                if is_image(path):
                    self._index[_folded(path.name)].append(path)
                    self._index[_folded(path.stem)].append(path)
        parts = [_folded(part) for part in PurePosixPath(name).parts]
        fits = self._index.get(parts[-1], []) if parts else []
        for depth in range(2, len(parts) + 1):
            if len(fits) == 1:
                break
            closer = [path for path in fits if _ends(path, parts[-depth:])]
            fits = closer or fits
        return fits[0] if len(fits) == 1 else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _ends(path: Path, parts: list[str]) -> bool:
    own = [_folded(part) for part in path.parts[-len(parts) :]]
    return own[:-1] == parts[:-1]


@lru_cache(maxsize=65536)
def image_size(path: Path) -> tuple[int, int]:
    """Read the height and width of an image as it is shown, turned upright.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tuple of int

    Raises
    ------
    InputError
        If it cannot be read.
    """
    size = None if path.suffix.lower() in (".tif", ".tiff") else _size_by_header(path)
    if size is None:
        height, width = read_image(path).pixels.shape[:2]
        size = height, width
    return size


def _size_by_header(path: Path) -> tuple[int, int] | None:
    """Height and width by the header alone; None where Pillow cannot tell, and the whole file must be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)


def settled(kind: str, rows: Iterable[Marked], notes: Iterable[str], empty_images: int = 0) -> Labels:
    """Cut boxes at the edges of their images, and leave out those that cannot be right.

    Parameters
    ----------
    kind : str
    rows : iterable of Marked
    notes : iterable of str
    empty_images : int

    Returns
    -------
    Labels
    """
    kept: list[Marked] = []
    other_size: dict[str, str] = {}
    outside: list[str] = []
    cut: list[str] = []
    for row in rows:
        if row.box is None or not row.path.is_file():
            kept.append(row)
            continue
        try:
            height, width = image_size(row.path)
        except InputError:
            # The one who reads the pixels counts it.
            kept.append(row)
            continue
        if row.size is not None and row.size != (height, width):
            other_size[row.file] = f"{row.size[1]} x {row.size[0]} in place of {width} x {height}"
            continue
        x0, y0, x1, y1 = row.box
        within = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if not (within[2] - within[0] >= 1 and within[3] - within[1] >= 1):
            outside.append(row.file)
            continue
        if max(abs(a - b) for a, b in zip(row.box, within, strict=True)) > _ROUNDING_PX:
            cut.append(row.file)
        kept.append(Marked(**{**row.__dict__, "box": within}))
    lines = list(notes)
    if other_size:
        first, what = next(iter(other_size.items()))
        lines.append(
            f"the labels of {count_text(len(other_size), 'image')} are left out: they are of another size than the "
            f"image ({first}: {what})."
        )
    if outside:
        n = count_text(len(outside), "box is", "boxes are")
        lines.append(f"{n} empty or outside the image, and left out: {first_names(dict.fromkeys(outside))}.")
    if cut:
        n = count_text(len(cut), "box reaches", "boxes reach")
        lines.append(
            f"{n} beyond the image and {'was' if len(cut) == 1 else 'were'} cut: {first_names(dict.fromkeys(cut))}."
        )
    return Labels(kind, tuple(kept), tuple(lines), empty_images, len(outside) + len(cut))


def bounds(polygons: Iterable[Polygon]) -> Box:
    """Compute the box around polygons.

    Parameters
    ----------
    polygons : iterable of tuple of float
        x, y, x, y, ...

    Returns
    -------
    tuple of 4 float
        x0, y0, x1, y1.
    """
    every = list(polygons)
    xs = [value for polygon in every for value in polygon[0::2]]
    ys = [value for polygon in every for value in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)
