"""What the user names on the command line or in a dialog, to slides with unique ids."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from natsort import natsorted, ns

from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.images import IMAGE_SUFFIXES
from napari_leukocls.io.slides import SCANNER_SUFFIXES, is_zarr

# Names that Windows keeps for devices, and those of the files that stand beside the slides' folders.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_TAKEN = {"summary.csv", "failures.csv", "manifest.json"}

_MAX_ID_BYTES = 120


@dataclass(frozen=True)
class SlideInput:
    """One slide to analyse.

    Attributes
    ----------
    fields : tuple of pathlib.Path
        Its images, in order. A path that does not exist stays in: reading it says what is wrong.
    slide_id : str
        Unique within a run, and a safe name of a folder.
    """

    fields: tuple[Path, ...]
    slide_id: str

    @property
    def source(self) -> str:
        """Where it comes from: the file, or the folder of several fields."""
        return str(self.fields[0] if len(self.fields) == 1 else self.fields[0].parent)


def expand_inputs(items: Iterable[str | os.PathLike[str] | SlideInput]) -> list[SlideInput]:
    """Expand files, folders and globs to slides: one image, one slide.

    A folder gives its images (not those of folders within), in natural order: ``field 2`` before
    ``field 10``. An image that is named twice is taken once. Nothing is read yet: a name that leads to
    nothing becomes a slide that fails on reading, so that the others are still done.

    Parameters
    ----------
    items : iterable of path-like or SlideInput
        `SlideInput` pass through, with a new id where theirs is taken.

    Returns
    -------
    list of SlideInput
        Ids are the files' stems, made safe and unique (``x``, ``x_2``) without regard to case.
    """
    found: list[SlideInput] = []
    seen: set[tuple[str, ...]] = set()
    for item in items:
        slides = [item] if isinstance(item, SlideInput) else _slides(os.fspath(item))
        for slide in slides:
            key = tuple(os.path.realpath(field) for field in slide.fields)
            if key not in seen:
                seen.add(key)
                found.append(slide)
    return _unique(found)


def group_as_slide(slides: Iterable[SlideInput], name: str) -> SlideInput:
    """Join the fields of `slides`, in order, to one slide called `name`."""
    return SlideInput(tuple(field for slide in slides for field in slide.fields), safe_id(name))


def safe_id(name: str) -> str:
    """Make a name that every file system takes for a folder; a leading ``=`` stays."""
    # Undecodable bytes and control characters cannot be written to a UTF-8 table either.
    text = unicodedata.normalize("NFC", name)
    text = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]', "_", text).strip()
    text = text.encode()[:_MAX_ID_BYTES].decode(errors="ignore").rstrip(". ")
    if not text:
        return "slide"
    if text.split(".")[0].casefold() in _RESERVED or text.casefold() in _TAKEN:
        return f"{text}_"
    return text


def _slides(item: str) -> list[SlideInput]:
    return [SlideInput((path,), safe_id(_stem(path))) for path in _paths(item)]


def _paths(item: str) -> list[Path]:
    """Images that one argument stands for; itself where there are none, for the reader to say so."""
    if not item:
        raise ArgumentError("an input is empty: name an image, a folder or a glob.")
    path = Path(item)
    if is_zarr(path) or not path.is_dir() and (os.path.lexists(path) or not glob.has_magic(item)):
        return [path]
    try:
        entries = path.iterdir() if path.is_dir() else map(Path, glob.glob(item, recursive=True))
        images = sorted(entry for entry in entries if _is_image(entry))
    except OSError:
        return [path]
    return natsorted(images, alg=ns.PATH | ns.IGNORECASE) or [path]


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    kind = path.suffix.lower()
    if path.is_dir():
        return kind == ".zarr" and is_zarr(path)
    return kind in IMAGE_SUFFIXES | SCANNER_SUFFIXES | {".btf"} and (path.is_file() or path.is_symlink())


def _stem(path: Path) -> str:
    return re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE) or path.name


def _unique(slides: list[SlideInput]) -> list[SlideInput]:
    """Number the ids that are taken; a stem that some file has by itself is not given to another."""
    own = {slide.slide_id.casefold() for slide in slides}
    used: set[str] = set()
    out = []
    for slide in slides:
        name, n = slide.slide_id, 1
        while name.casefold() in used or (n > 1 and name.casefold() in own):
            n += 1
            name = f"{slide.slide_id}_{n}"
        used.add(name.casefold())
        out.append(slide if name == slide.slide_id else replace(slide, slide_id=name))
    return out
