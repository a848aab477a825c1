"""Several fields of one slide: one count over all of them, with each field's own results beneath."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from napari_leukocls.analysis.engine import Engine, as_scanned
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.analysis.joined import join_fields
from napari_leukocls.analysis.slide_familiarity import SlideTest, is_slide_warning
from napari_leukocls.batch.doubles import Fields
from napari_leukocls.explanation import report_heatmaps
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.io.slides import read_smear
from napari_leukocls.measurement.fine import as_counted
from napari_leukocls.measurement.judgement import judge
from napari_leukocls.measurement.samples import with_sample
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback, drain
from napari_leukocls.results.exports import write_exports
from napari_leukocls.results.pictures import CellPicture, first_page_cells
from napari_leukocls.results.reader import FIELDS
from napari_leukocls.results.report import render_joint_report
from napari_leukocls.results.summary import summary_row
from napari_leukocls.results.writer import slide_folder, write_cells, write_files, write_result
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult, SlideResult, SmearImage

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.io.inputs import SlideInput
    from napari_leukocls.measurement.samples import SampleValues
    from napari_leukocls.results.writer import ExtraWriter
    from napari_leukocls.segmentation.common_scale import CommonScales

#: Classes whose cells are on the first page of a slide's report if a rule flags them: rare ones, of which each counts.
_LOOKED_AT = (
    "blast",
    "immature_granulocyte",
    "variant_lymphocyte",
    "plasma_cell",
    "erythroblast",
    "basophil",
)


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
    sample: SampleValues | None = None,
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
    sample : SampleValues, optional
        Counts of the analyser.

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
    known: list[SlideResult] = []
    pictures: list[CellPicture] = []
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
            known.append(_known(result))
            pictures += _pictures(result)
        joined = _joined(slide, known, engine, time.perf_counter() - started, doubles)
        joined = joined if sample is None else with_sample(joined, sample)
        _write_joined(folder, joined, known, pictures, finish)
    return list(joined.warnings)


def _pictures(result: FieldResult) -> list[CellPicture]:
    """Cells of a field that the first page of the slide's report may show."""
    return first_page_cells(as_counted(result), default_scheme(), _LOOKED_AT, result.slide_id)


def _write_joined(
    folder: Path,
    joined: SlideResult,
    fields: Sequence[SlideResult],
    pictures: Sequence[CellPicture],
    finish: ExtraWriter,
) -> None:
    """Write the files of all fields together."""
    judged = judge(joined)
    write_cells(folder, [judged.result.cells])
    rows = [_report_row(field) for field in fields]
    report = render_joint_report(judged, default_scheme(), rows, pictures)
    write_files(judged.result, folder, report, extra=[finish])


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


def write_fields(
    name: str,
    results: Sequence[FieldResult],
    out_dir: str | Path,
    formats: Sequence[str] = (),
    counts: pd.DataFrame | None = None,
) -> Path:
    """Write fields that are in memory as one slide, ``out_dir/<name>``, whole or not at all.

    Parameters
    ----------
    name : str
        Of the slide.
    results : sequence of FieldResult
        At least one; their names are those of their folders. Their signature is that of the slide.
    out_dir : path-like
        Created if it does not exist.
    formats : sequence of str
        Further formats, as in `napari_leukocls.results.exports`.
    counts : pandas.DataFrame, optional
        The count, where it is not that of all settled cells: up to a goal.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    of_cells = partial(write_exports, formats=formats, takes=FieldResult)
    with slide_folder(out_dir, name) as folder:
        for result in results:
            write_result(result, folder / FIELDS, extra=[of_cells])
        parts = [(result.slide_id, as_counted(result)) for result in results]
        joined = join_fields(name, results[0].source, parts)
        joined = replace(
            joined,
            signature=results[0].signature,
            counts=joined.counts if counts is None else counts.assign(slide_id=name),
        )
        pictures = [one for result in results for one in _pictures(result)]
        _write_joined(folder, joined, results, pictures, partial(write_exports, formats=formats))
    return Path(out_dir) / name


def _known(result: FieldResult) -> SlideResult:
    """What of a field goes into the slide's count; its pixels and labels are not kept."""
    # The test of the stain and the camera is that of all fields together.
    warnings = tuple(one for one in result.warnings if not is_slide_warning(one))
    return SlideResult(
        *(
            result.slide_id,
            result.source,
            result.um_per_px,
            result.cells,
            result.counts,
            result.run,
            warnings,
        ),
        red_cells=result.red_cells,
    )


def _report_row(result: SlideResult) -> dict[str, Any]:
    """What the slide's report says of a field."""
    row = summary_row(result)
    counts = {name: row[name] for name in ("n_wbc", "n_review", "n_rbc")}
    link = f"{FIELDS}/{quote(result.slide_id)}/report.html"
    return {"name": result.slide_id, "link": link, "um_per_px": result.um_per_px, **counts}


def _joined(
    slide: SlideInput, fields: Sequence[SlideResult], engine: Engine, seconds: float, doubles: Sequence[str]
) -> SlideResult:
    """One result of all fields, counted together."""
    joined = join_fields(slide.slide_id, slide.source, [(field.slide_id, field) for field in fields])
    test = SlideTest(engine.classifier)
    for field in fields:
        test.add_run(field.run)
    run = {**joined.run, **test.record(), "seconds": round(seconds, 3)}
    return replace(joined, run=run, warnings=(*doubles, *test.warnings(), *joined.warnings))
