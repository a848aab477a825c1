"""The trade's formats: what is read by a library of its own, and which extra brings it.

Each format has a module with a class `OpenedFile`. It is imported when a file of its kind is read, since the
libraries need not be installed and take a while to load.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import Picture, damaged, too_large
from napari_leukocls.io.formats.base import FormatFile, read_whole


@dataclass(frozen=True)
class Format:
    """A format that a library of its own reads.

    Attributes
    ----------
    name : str
        What a file of it is called, with its article.
    suffixes : tuple of str
        Lower case.
    begins : callable
        Whether the first bytes are those of the format.
    module : str
        In this package; it holds the class `OpenedFile`.
    extra : str
        The extra of the package that brings the library.
    export : str
        What to do without the library.
    """

    name: str
    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]
    module: str
    extra: str
    export: str


def _heif(head: bytes) -> bool:
    brands = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
    return head[4:8] == b"ftyp" and head[8:12] in brands


#: A VSI begins as a TIFF does, with a preview: only its name tells.
FORMATS = (
    Format(
        "a Zeiss CZI file",
        (".czi",),
        lambda head: head.startswith(b"ZISRAWFILE"),
        "czi",
        "czi",
        "export it as OME-TIFF in ZEN",
    ),
    Format(
        "a Leica LIF file",
        (".lif",),
        lambda head: head.startswith(b"\x70\0\0\0") and head[8:9] == b"\x2a",
        "lif",
        "lif",
        "export it as TIFF in LAS X",
    ),
    Format(
        "a Nikon ND2 file",
        (".nd2",),
        lambda head: head.startswith((b"\xda\xce\xbe\x0a", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftyplim ")),
        "nd2",
        "nd2",
        "export it as TIFF in NIS-Elements",
    ),
    Format(
        "an Olympus VSI slide",
        (".vsi",),
        lambda _: False,
        "vsi",
        "vsi",
        "export it as TIFF in OlyVIA or cellSens",
    ),
    Format(
        "a Zeiss ZVI file",
        (".zvi",),
        lambda _: False,
        "vsi",
        "vsi",
        "export it as TIFF in ZEN",
    ),
    Format("an HEIC picture", (".heic", ".heif", ".hif"), _heif, "heif", "heic", "save it as JPEG or PNG"),
    Format(
        "a DICOM file",
        (".dcm", ".dicom"),
        lambda head: head[128:132] == b"DICM",
        "dicom",
        "dicom",
        "export it as TIFF",
    ),
)
#: Suffixes of all these formats.
FORMAT_SUFFIXES = tuple(suffix for one in FORMATS for suffix in one.suffixes)
#: First bytes of common pictures: what a file is named does not count, then.
COMMON_BEGINNINGS = (
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"RIFF",
    b"\0\0\0\x1cftypavif",
    b"\0\0\0 ftypavif",
    b"\0\0\0\x0cjP",
)


def format_of(file: Path, head: bytes) -> Format | None:
    """The format of a file, if a library of its own reads it.

    Parameters
    ----------
    file : Path
    head : bytes
        The first bytes of the file.

    Returns
    -------
    Format or None
    """
    by_bytes = next((one for one in FORMATS if one.begins(head)), None)
    if by_bytes is not None or head.startswith(COMMON_BEGINNINGS):
        return by_bytes
    suffix = file.suffix.lower()
    named = next((one for one in FORMATS if suffix in one.suffixes), None)
    if named is None or (head[:2] in (b"II", b"MM") and named.module != "vsi"):
        return None
    return named


def open_format(kind: Format, file: Path) -> FormatFile:
    """Open a file with the library of its format.

    Parameters
    ----------
    kind : Format
    file : Path

    Returns
    -------
    FormatFile
        Close it, or use it in a ``with`` block.

    Raises
    ------
    InputError
        If the library is not installed, or the file is damaged or holds no picture of a smear.
    """
    module = _library(kind, file)
    with guarded(file):
        opened: FormatFile = module.OpenedFile(file)
        return opened


def _library(kind: Format, file: Path) -> ModuleType:
    try:
        return import_module(f"napari_leukocls.io.formats.{kind.module}")
    except ImportError as error:
        raise InputError(
            f"'{file}' is {kind.name}: to read it, run pip install 'napari-leukocls[{kind.extra}]', or {kind.export}."
        ) from error


@contextmanager
def guarded(file: Path) -> Iterator[None]:
    """Turn what a format's library raises into one line.

    Parameters
    ----------
    file : Path
        Named in the error.

    Raises
    ------
    InputError
        Where the library raised any error on bytes that are not what they should be.
    """
    try:
        with warnings.catch_warnings():
            # About odd metadata: only the pixels matter.
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except MemoryError as error:
        raise too_large(file) from error
    except Exception as error:  # noqa: BLE001 - libraries raise anything on bytes that are not what they should be
        raise damaged(file, error) from error


def read_format(kind: Format, file: Path, plane: int | str = "first") -> Picture:
    """Read a field.

    Parameters
    ----------
    kind : Format
    file : Path
    plane : int or str
        Of a stack, see `napari_leukocls.io.planes.take_plane`.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If it cannot be read, or its library is not installed.
    """
    with open_format(kind, file) as opened, guarded(file):
        return read_whole(opened, plane)


def one_per_series(files: Sequence[Path]) -> list[Path]:
    """Leave one file of each DICOM whole slide, whose levels are files of their own.

    Parameters
    ----------
    files : sequence of Path

    Returns
    -------
    list of Path
        In the same order. All files where pydicom is not installed.
    """
    dicom = next(one for one in FORMATS if one.module == "dicom")
    named = [file for file in files if file.suffix.lower() in dicom.suffixes or not file.suffix]
    if len(named) < 2:
        return list(files)
    try:
        module = _library(dicom, named[0])
    except InputError:
        return list(files)
    known: set[tuple[Path, str]] = set()
    kept = []
    for file in files:
        series = module.series_of(file) if file in named and module.is_dicom(file) else None
        if series is None or (file.parent, series) not in known:
            kept.append(file)
        if series is not None:
            known.add((file.parent, series))
    return kept
