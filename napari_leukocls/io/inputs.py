"""Inputs of the command line or of a dialog (files, folders, globs) to slides with unique ids."""

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
from napari_leukocls.io.formats import one_per_series
from napari_leukocls.io.images import FOREIGN_FORMATS, IMAGE_SUFFIXES, begins_as_picture
from napari_leukocls.io.slides import SCANNER_SUFFIXES, is_zarr

# Names that Windows keeps for devices, and names of the files beside the folders of the slides.
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "0123456789\u00b9\u00b2\u00b3"
}
_TAKEN = {"summary.csv", "failures.csv", "manifest.json"}
# Pictures among the results of a slide.
_RESULTS = {"labels.tif", "overlay.png"}

#: Leaves room for the suffixes of result files within the 255 bytes of a file name.
_MAX_ID_BYTES = 120


@dataclass(frozen=True)
class SlideInput:
    """One slide to analyse.

    Attributes
    ----------
    fields : tuple of pathlib.Path
        Its images, in order. A path that does not exist is kept: the error is raised when it is read.
    slide_id : str
        Unique within a run, and a valid folder name.
    """

    fields: tuple[Path, ...]
    slide_id: str

    @property
    def source(self) -> str:
        """The file, or the folder of several fields."""
        return str(self.fields[0] if len(self.fields) == 1 else self.fields[0].parent)


def expand_inputs(items: Iterable[str | os.PathLike[str] | SlideInput]) -> list[SlideInput]:
    """Expand files, folders and globs to slides, one for each image.

    A folder stands for its images (not those of its subfolders), in natural order: ``field 2`` before
    ``field 10``. Images in formats that are not read (raw files of cameras, and others) become slides, too, which fail
    when they are read: nothing in a folder is passed over in silence. A file without a suffix is an image if it begins
    as one. The files of one DICOM whole slide are one slide. ``labels.tif`` and ``overlay.png`` beside a ``run.json``
    are results of an earlier analysis, and no images. An image that is named twice is taken once. No image is read
    here: a path that does not exist becomes a slide that fails when it is read, so that the other slides are still
    analysed.

    Parameters
    ----------
    items : iterable of path-like or SlideInput
        A `SlideInput` is kept as it is; it gets a new id if its own is taken.

    Returns
    -------
    list of SlideInput
        Ids are the names of the files, made valid and unique (``x``, ``x_2``), regardless of case.

    Raises
    ------
    ArgumentError
        If an item is empty.
    """
    found: list[SlideInput] = []
    known: set[tuple[str, ...]] = set()
    for item in items:
        slides = [item] if isinstance(item, SlideInput) else _slides(os.fspath(item))
        for slide in slides:
            key = tuple(os.path.realpath(field) for field in slide.fields)
            if key not in known:
                known.add(key)
                found.append(slide)
    return _unique(found)


def group_as_slide(slides: Iterable[SlideInput], name: str) -> SlideInput:
    """Join the fields of several slides to one slide.

    Parameters
    ----------
    slides : iterable of SlideInput
        The order of their fields is kept.
    name : str
        Becomes the id, made valid.

    Returns
    -------
    SlideInput
    """
    return SlideInput(tuple(field for slide in slides for field in slide.fields), safe_id(name))


def slide_name(path: Path) -> str:
    """Name a slide after its file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        Without the suffix; it may be no valid name of a folder.
    """
    if path.suffix[1:].isdecimal():
        # The names of DICOM files are numbers with points between them.
        return path.name
    return re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE) or path.name


def safe_id(name: str) -> str:
    """A name that is a valid folder name on every file system; a leading ``=`` is kept.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        At most 120 bytes; ``slide`` if nothing is left of `name`.
    """
    # Undecodable bytes and control characters cannot be written to a UTF-8 table either.
    text = unicodedata.normalize("NFC", name)
    text = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]', "_", text).strip()
    text = text.encode()[:_MAX_ID_BYTES].decode(errors="ignore").rstrip(". ")
    if not text:
        return "slide"
    base, point, rest = text.partition(".")
    if base.strip().casefold() in _RESERVED:
        # With any suffix it is still the device.
        return f"{base.strip()}_{point}{rest}"
    return f"{text}_" if text.casefold() in _TAKEN else text


def _slides(item: str) -> list[SlideInput]:
    return [SlideInput((path,), safe_id(slide_name(path))) for path in _paths(item)]


def _paths(item: str) -> list[Path]:
    """The images that one argument stands for; if there are none, the argument itself, so that reading it fails."""
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
    return one_per_series(natsorted(images, alg=ns.PATH | ns.IGNORECASE)) or [path]


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    kind = path.suffix.lower()
    if path.is_dir():
        return kind == ".zarr" and is_zarr(path)
    if path.name in _RESULTS and (path.parent / "run.json").is_file():
        return False
    if not (path.is_file() or path.is_symlink()):
        return False
    read = IMAGE_SUFFIXES | SCANNER_SUFFIXES | {".btf", ".tf8", ".tf2"}
    return kind in read | FOREIGN_FORMATS.keys() or _is_unnamed_picture(path)


def _is_unnamed_picture(path: Path) -> bool:
    """Whether a file whose name states no kind begins as a picture does: archives of DICOM have such names."""
    if path.suffix and not path.suffix[1:].isdecimal():
        return False
    try:
        with open(path, "rb") as stream:
            return begins_as_picture(stream.read(4096))
    except OSError:
        return False


def _unique(slides: list[SlideInput]) -> list[SlideInput]:
    """Number the ids that occur twice; a numbered id is never the id of another slide."""
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
