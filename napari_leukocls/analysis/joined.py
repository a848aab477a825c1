"""Several fields of one slide as one result: their cells in one table, counted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from napari_leukocls.analysis.slide_familiarity import KEY
from napari_leukocls.measurement.absolute import AREA
from napari_leukocls.measurement.differential import count_warnings, unsigned
from napari_leukocls.measurement.findings import with_findings
from napari_leukocls.measurement.fine import count_cells, fine_classes_of
from napari_leukocls.measurement.heaps import (
    HEAPS,
    heap_findings,
    heap_warnings,
    is_heap_warning,
    mean_share,
)
from napari_leukocls.measurement.platelets import is_platelet_warning, read_figures
from napari_leukocls.measurement.quality_grades import KEY as QUALITY
from napari_leukocls.measurement.quality_grades import (
    grade_quality,
    is_quality_warning,
    read_measured,
    says_no_smear,
)
from napari_leukocls.measurement.red_cell_findings import with_red_cells
from napari_leukocls.measurement.red_cell_table import join_red_cells
from napari_leukocls.measurement.smudges import smudge_finding
from napari_leukocls.measurement.stain_reference import read_reference
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import SlideResult

#: What ``run.json`` of the slide holds for each field.
_OF_EACH_FIELD = ("scale", "light")


def join_fields(name: str, source: str, fields: Sequence[tuple[str, SlideResult]]) -> SlideResult:
    """Join the results of fields.

    Parameters
    ----------
    name, source : str
        Of the slide.
    fields : sequence of tuple
        Name and result of each field, at least one; all are of one model.

    Returns
    -------
    SlideResult
        Its cells have a further column ``field``; ``cell_id`` is that within the field.
    """
    results = [result for _, result in fields]
    tables = [result.cells.assign(field=field, slide_id=name) for field, result in fields]
    cells = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    last = results[-1].run
    finer = fine_classes_of(last)
    counts = count_cells(cells, default_scheme(), last["classifier"]["classes"], finer, slide_id=name)
    measured = [one for result in results for one in read_measured(result.run)]
    um_per_px = results[-1].um_per_px
    quality = grade_quality(measured, um_per_px, read_reference())
    platelets = read_figures(result.run for result in results)
    heaps = mean_share(result.run for result in results)
    areas = [result.run.get(AREA) or 0.0 for result in results]
    run = {
        **{key: value for key, value in last.items() if key not in (*_OF_EACH_FIELD, KEY, QUALITY)},
        "seconds": round(sum(float(result.run.get("seconds") or 0) for result in results), 3),
        "fields": [field for field, _ in fields],
        "um_per_px": [float(result.um_per_px) for result in results],
        **{key: {field: result.run.get(key) for field, result in fields} for key in _OF_EACH_FIELD},
        **quality.record(),
        **platelets.record(),
        AREA: sum(areas) if all(areas) else None,
        HEAPS: heaps,
    }
    warnings = [*quality.warnings(), *platelets.warnings(), *heap_warnings(heaps)]
    warnings += count_warnings(cells, counts)
    for field, result in fields:
        # That one field has no leukocyte says nothing of the slide.
        alone = count_warnings(result.cells, result.counts) if len(result.cells) else []
        warnings += [
            f"{field}: {warning}"
            for warning in result.warnings
            if warning not in alone and (says_no_smear(warning) or not _of_the_slide(warning))
        ]
    red_cells = join_red_cells(
        None if result.red_cells is None else result.red_cells.assign(field=field, slide_id=name)
        for field, result in fields
    )
    joined = SlideResult(
        name, source, um_per_px, cells, counts, run, tuple(warnings), signature=unsigned(cells)
    )
    joined = replace(joined, red_cells=red_cells)
    said = [*quality.findings(), smudge_finding(cells, counts), *platelets.findings(), *heap_findings(heaps)]
    return with_red_cells(with_findings(joined, said))


def _of_the_slide(warning: str) -> bool:
    """Whether a warning is made anew for all fields together."""
    return is_quality_warning(warning) or is_platelet_warning(warning) or is_heap_warning(warning)
