"""Results in the formats of other programs: one module and one function each, named in `FORMATS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.atomic import make_folder
from napari_leukocls.types import FieldResult, SlideResult


@dataclass(frozen=True)
class Export:
    """One format.

    Attributes
    ----------
    name : str
        The word after ``--format``.
    file : str
        Name of the file in the slide's folder.
    summary : str
        What the file is, for the help of ``--format``.
    module : str
        Module with ``write(result, path)``: of this package, or a full name.
    takes : type
        `FieldResult` if the format needs the image or the outlines of the cells, else `SlideResult`.
    needs : tuple of str
        Modules that need not be installed, which the format is written with.
    extra : str
        The extra of this package that installs them.
    """

    name: str
    file: str
    summary: str
    module: str
    takes: type[SlideResult] = SlideResult
    needs: tuple[str, ...] = ()
    extra: str = "exports"

    def __call__(self, result: SlideResult, folder: Path) -> Path:
        """Write the file.

        Parameters
        ----------
        result : SlideResult
            An instance of `takes`.
        folder : Path

        Returns
        -------
        Path
            Of the file.
        """
        path = folder / self.file
        name = self.module if "." in self.module else f"{__name__}.{self.module}"
        import_module(name).write(result, path)
        return path


#: Named and not imported, so that a format's packages are loaded only when it is written.
_CORRECTED = "napari_leukocls.measurement.corrected"
_POSITIONS = "napari_leukocls.measurement.comparison"
#: Printed by Qt, which only the widgets import.
_PDF = "napari_leukocls.widgets.common.report_pdf"

FORMATS: dict[str, Export] = {
    export.name: export
    for export in (
        Export("geojson", "cells.geojson", "outlines for QuPath", "geojson", FieldResult, ("shapely",)),
        Export("coco", "coco.json", "COCO instances", "coco", FieldResult, ("pycocotools",)),
        Export("ometiff", "labels.ome.tif", "labels as OME-TIFF", "ometiff", FieldResult),
        Export("anndata", "cells.h5ad", "AnnData, one row a cell", "anndata", SlideResult, ("anndata",)),
        Export("xlsx", "slide.xlsx", "workbook", "xlsx", SlideResult, ("openpyxl",)),
        Export(
            "fhir", "report.fhir.json", "FHIR R4B DiagnosticReport", "fhir", SlideResult, ("fhir.resources",)
        ),
        Export("hl7", "report.hl7", "HL7 v2.5.1 ORU^R01", "hl7", SlideResult, ("hl7apy",)),
        Export("corrected", "corrected.csv", "percentages corrected for the classifier's errors", _CORRECTED),
        Export("pdf", "report.pdf", "the report, to print", _PDF, SlideResult, ("qtpy.QtGui",), "gui"),
        Export("positions", "positions.csv", "percentages by position on the slide", _POSITIONS),
    )
}

#: Always written, so that naming it asks for nothing more.
ALWAYS = "csv"


def parse_formats(text: str | Iterable[str]) -> tuple[str, ...]:
    """Check the names of formats.

    Parameters
    ----------
    text : str or iterable of str
        ``csv,geojson`` or the names one by one.

    Returns
    -------
    tuple of str
        Without ``csv`` and repeats, in the order of `FORMATS`.

    Raises
    ------
    ArgumentError
        If there is no such format, or its library is not installed.
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
    result: SlideResult,
    folder: str | Path,
    formats: Iterable[str],
    takes: type[SlideResult] | None = None,
) -> list[Path]:
    """Write a result in further formats into a folder.

    Parameters
    ----------
    result : SlideResult
        A format that takes a `FieldResult` is left out if this is not one: a slide of several fields has no
        outlines of its own.
    folder : path-like
        It is made if it is not there.
    formats : iterable of str
    takes : type, optional
        Write only the formats that take this type.

    Returns
    -------
    list of Path

    Raises
    ------
    ArgumentError
        If there is no such format, its library is not installed, or the laboratory's file of rules is wrong.
    OutputError
        If the folder cannot be made or written to.
    """
    from napari_leukocls.measurement.judgement import judge

    make_folder(folder)
    chosen = [FORMATS[name] for name in parse_formats(formats)]
    result = judge(result).result if chosen else result
    return [
        export(result, Path(folder))
        for export in chosen
        if isinstance(result, export.takes) and takes in (None, export.takes)
    ]


def formats_help() -> str:
    """Describe the formats in one sentence, for the help of ``--format``.

    Returns
    -------
    str
    """
    described = (f"{export.name} ({export.summary})" for export in FORMATS.values())
    return f"Files to write, separated by commas: {', '.join((ALWAYS, *described))}."


def _check_installed(export: Export) -> None:
    for module in export.needs:
        try:
            found = find_spec(module) is not None
        except ImportError:
            # Of qtpy without a Qt, too.
            found = False
        if not found:
            raise ArgumentError(
                f"--format {export.name} needs {module}: pip install 'napari-leukocls[{export.extra}]'."
            )
