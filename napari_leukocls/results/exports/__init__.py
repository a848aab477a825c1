"""Results in the formats of other programs: one module and one function each, named in `FORMATS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from napari_leukocls.errors import ArgumentError
from napari_leukocls.types import FieldResult

#: ``cells``: of one image and its outlines; ``table``: of a count, whatever it was made of.
Level = Literal["cells", "table"]


@dataclass(frozen=True)
class Export:
    """One format.

    Attributes
    ----------
    name : str
        As ``--format`` has it.
    file : str
        What is written into the slide's folder.
    summary : str
    module : str
        Module with ``write(result, path)``: of this package, or a full name.
    needs : tuple of str
        Modules of the extra ``exports`` that it is made with.
    level : {"cells", "table"}
    """

    name: str
    file: str
    summary: str
    module: str
    needs: tuple[str, ...] = ()
    level: Level = "table"

    def __call__(self, result: FieldResult, folder: Path) -> Path:
        """Write the file into `folder`; its path."""
        path = folder / self.file
        name = self.module if "." in self.module else f"{__name__}.{self.module}"
        import_module(name).write(result, path)
        return path


#: Named and not imported: these need rooms that stand above this one.
_CORRECTED = "napari_leukocls.measurement.corrected"
_POSITIONS = "napari_leukocls.measurement.comparison"

FORMATS: dict[str, Export] = {
    export.name: export
    for export in (
        Export("geojson", "cells.geojson", "Outlines for QuPath", "geojson", ("shapely",), "cells"),
        Export("coco", "coco.json", "COCO instances", "coco", ("pycocotools",), "cells"),
        Export("ometiff", "labels.ome.tif", "Labels as OME-TIFF", "ometiff", (), "cells"),
        Export("anndata", "cells.h5ad", "AnnData, one row a cell", "anndata", ("anndata",)),
        Export("xlsx", "slide.xlsx", "Spreadsheet", "xlsx", ("openpyxl",)),
        Export("fhir", "report.fhir.json", "FHIR R4B DiagnosticReport", "fhir", ("fhir.resources",)),
        Export("hl7", "report.hl7", "HL7 v2.5.1 ORU^R01", "hl7", ("hl7apy",)),
        Export("corrected", "corrected.csv", "Shares corrected for the classifier's errors", _CORRECTED),
        Export("positions", "positions.csv", "Shares by place", _POSITIONS),
    )
}

#: Always written, so that naming it asks for nothing more.
ALWAYS = "csv"


def parse_formats(text: str | Iterable[str]) -> tuple[str, ...]:
    """Names of formats, checked, without ``csv`` and repeats, in the order of `FORMATS`.

    Parameters
    ----------
    text : str or iterable of str
        ``csv,geojson`` or the names one by one.

    Raises
    ------
    ArgumentError
        For a format that there is not, or whose library is not installed.
    """
    words = text.split(",") if isinstance(text, str) else list(text)
    asked = {word.strip().lower() for word in words} - {"", ALWAYS}
    unknown = sorted(asked - FORMATS.keys())
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], FORMATS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join((ALWAYS, *FORMATS))}."
        raise ArgumentError(f"there is no format '{unknown[0]}'; {hint}")
    chosen = tuple(name for name in FORMATS if name in asked)
    for name in chosen:
        _check_installed(FORMATS[name])
    return chosen


def write_exports(
    result: FieldResult, folder: str | Path, formats: Iterable[str], level: Level | None = None
) -> list[Path]:
    """Write a result in further formats into a folder.

    Parameters
    ----------
    result : FieldResult
        Of one image; or of a slide of several fields (``run["fields"]``), which has a count and no outlines
        of its own, so that only formats of level ``table`` are written.
    folder : path-like
        The slide's folder while it is being filled; what is half written there never shows.
    formats : iterable of str
    level : {"cells", "table"}, optional
        Only formats of this level.

    Returns
    -------
    list of Path

    Raises
    ------
    ArgumentError
        For a format that there is not, or whose library is not installed.
    """
    if level is None and "fields" in result.run:
        level = "table"
    chosen = [FORMATS[name] for name in parse_formats(formats)]
    return [export(result, Path(folder)) for export in chosen if level in (None, export.level)]


def _check_installed(export: Export) -> None:
    for module in export.needs:
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise ArgumentError(
                f"--format {export.name} needs {module}: pip install 'napari-leukocls[exports]'."
            )
