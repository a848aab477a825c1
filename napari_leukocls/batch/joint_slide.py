"""Several fields of one slide: one count over all of them, with each field's own results beneath."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from napari_leukocls.analysis.engine import Engine, as_scanned
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.analysis.slide_test import KEY, SlideTest, is_slide_warning
from napari_leukocls.batch.doubles import Fields
from napari_leukocls.explanation import report_heatmaps
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.io.slides import read_smear
from napari_leukocls.measurement.differential import count_warnings, unsigned
from napari_leukocls.measurement.fine import count_cells
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback, drain
from napari_leukocls.results.exports import write_exports
from napari_leukocls.results.report import render_joint_report
from napari_leukocls.results.summary import summary_row
from napari_leukocls.results.writer import slide_folder, write_cells, write_files, write_result
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult, SlideResult, SmearImage

if TYPE_CHECKING:
    from napari_leukocls.io.inputs import SlideInput
    from napari_leukocls.results.writer import ExtraWriter
    from napari_leukocls.segmentation.common_scale import CommonScales

#: Folder of the fields' own results within the slide's.
FIELDS = "fields"


def write_joint_slide(
    slide: SlideInput,
    paths: Sequence[Path],
    out_dir: Path,
    engine: Engine,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    finish: ExtraWriter,
    notes: Sequence[str] = (),
    scales: CommonScales | None = None,
) -> list[str]:
    """Analyse the fields of a slide and write ``out_dir/<slide_id>``, whole or not at all.

    ``cells.csv``, ``counts.csv`` and ``report.html`` are of all fields together; ``cells.csv`` has a further column
    ``field``, and ``cell_id`` is the value in ``fields/<field>/labels.tif``.

    Parameters
    ----------
    slide : SlideInput
    paths : sequence of Path
        Files of the fields.
    out_dir : Path
    engine : Engine
    progress : callable or None
    cancel : CancelToken or None
    finish : callable
        Called with the joint `SlideResult` and the folder before the folder gets its name.
    notes : sequence of str
        Further warnings.
    scales : CommonScales, optional
        Of the fields.

    Returns
    -------
    list of str
        Warnings, each with its field.

    Raises
    ------
    LeukoclsError
        If a field cannot be read, or the folder cannot be written.
    """
    started = time.perf_counter()
    fields = expand_inputs(paths)
    known: list[_Known] = []
    met, doubles = Fields(), list(notes)
    with slide_folder(out_dir, slide.slide_id) as folder:
        for number, field in enumerate(fields):
            if progress is not None:
                progress(Progress("fields", number, len(fields), field.slide_id))
            image, scanned = read_smear(field.fields[0], field.slide_id, engine.config.plane)
            same, alike = met.meet(field.slide_id, image.pixels)
            if same:
                doubles.append(f"{field.slide_id} has the same pixels as {same}: the field is counted once.")
                continue
            if alike:
                doubles.append(
                    f"{field.slide_id} shows the same picture as {alike}, saved again or turned: its cells are counted "
                    "twice; leave one of the two out."
                )
            result = _write_field(image, scanned, folder / FIELDS, engine, progress, cancel, scales)
            known.append(_Known.of(result))
        joined = _joined(slide, known, engine, time.perf_counter() - started, doubles)
        write_cells(folder, [joined.cells])
        report = render_joint_report(joined, default_scheme(), [field.row() for field in known])
        write_files(joined, folder, report, extra=[finish])
    return list(joined.warnings)


def _write_field(
    image: SmearImage,
    scanned: bool,
    folder: Path,
    engine: Engine,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    scales: CommonScales | None,
) -> FieldResult:
    """Analyse one field and write its own results."""
    common = None if scales is None else scales.of(image.pixels.shape)
    result = drain(iter_analyze(image, as_scanned(engine) if scanned else engine, cancel, common), progress)
    heatmaps = report_heatmaps(result, engine, engine.config.heatmaps)
    # A slide's count is exported once, by `finish`; the outlines are those of its fields.
    of_cells = partial(write_exports, formats=engine.config.formats, takes=FieldResult)
    write_result(result, folder, extra=[of_cells], heatmaps=heatmaps)
    return result


@dataclass(frozen=True)
class _Known:
    """What of a field goes into the slide's count; its pixels and labels are not kept."""

    name: str
    cells: pd.DataFrame
    counts: dict[str, int]
    run: dict[str, Any]
    um_per_px: float
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, result: FieldResult) -> _Known:
        row = summary_row(result)
        # That one field has no leukocyte says nothing of the slide.
        alone = count_warnings(result.cells, result.counts) if len(result.cells) else []
        return cls(
            result.slide_id,
            result.cells,
            {name: row[name] for name in ("n_wbc", "n_review", "n_rbc")},
            result.run,
            result.um_per_px,
            # The test of the stain and the camera is that of all fields together.
            tuple(one for one in result.warnings if one not in alone and not is_slide_warning(one)),
        )

    def row(self) -> dict[str, Any]:
        """What the slide's report says of the field."""
        link = f"{FIELDS}/{quote(self.name)}/report.html"
        return {"name": self.name, "link": link, "um_per_px": self.um_per_px, **self.counts}


#: What ``run.json`` of the slide holds for each field.
_OF_EACH_FIELD = ("scale", "light")


def _joined(
    slide: SlideInput, fields: Sequence[_Known], engine: Engine, seconds: float, doubles: Sequence[str]
) -> SlideResult:
    """One result of all fields, counted together."""
    tables = [field.cells.assign(field=field.name, slide_id=slide.slide_id) for field in fields]
    cells = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    classes, finer = engine.classifier.classes, engine.finer
    counts = count_cells(cells, default_scheme(), classes, finer, slide_id=slide.slide_id)
    test = SlideTest(engine.classifier)
    for field in fields:
        test.add_run(field.run)
    run = {
        **{name: value for name, value in fields[-1].run.items() if name not in (*_OF_EACH_FIELD, KEY)},
        **test.record(),
        "seconds": round(seconds, 3),
        "fields": [field.name for field in fields],
        "um_per_px": [field.um_per_px for field in fields],
        **{name: {field.name: field.run.get(name) for field in fields} for name in _OF_EACH_FIELD},
    }
    warnings = (
        *doubles,
        *test.warnings(),
        *count_warnings(cells, counts),
        *(f"{field.name}: {warning}" for field in fields for warning in field.warnings),
    )
    um_per_px, state = fields[-1].um_per_px, unsigned(cells)
    return SlideResult(slide.slide_id, slide.source, um_per_px, cells, counts, run, warnings, signature=state)
