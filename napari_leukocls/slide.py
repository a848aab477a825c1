"""Several fields of one slide: one count over all of them, with each field's own results beneath."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_leukocls.pipeline import Engine, drain, iter_analyze
from napari_leukocls.types import CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    from napari_leukocls.io.inputs import SlideInput
    from napari_leukocls.io.results import ExtraWriter

#: Folder of the fields' own results within the slide's.
FIELDS = "fields"


def write_slide(
    slide: SlideInput,
    paths: Sequence[Path],
    out_dir: Path,
    engine: Engine,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    finish: ExtraWriter,
) -> list[str]:
    """Analyse the fields of a slide and write ``out_dir/<slide_id>``, whole or not at all.

    ``cells.csv`` and ``counts.csv`` are of all fields together; ``cells.csv`` has a further column ``field``,
    and ``cell_id`` is the value in ``fields/<field>/labels.tif``.

    Parameters
    ----------
    slide : SlideInput
    paths : sequence of Path
        Where its fields are read.
    out_dir : Path
    engine : Engine
    progress, cancel : optional
    finish : callable
        Called with the joint result and the folder before that gets its name.

    Returns
    -------
    list of str
        Warnings, each with its field.
    """
    import pandas as pd

    from napari_leukocls.explanation import for_report
    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.io.exports import write_exports
    from napari_leukocls.io.folder import replacing_folder
    from napari_leukocls.io.images import read_image
    from napari_leukocls.io.inputs import expand_inputs
    from napari_leukocls.io.results import run_json, table_bytes, write_result
    from napari_leukocls.io.slides import is_slide, read_slide_at_once
    from napari_leukocls.measurement.differential import differential
    from napari_leukocls.scheme import default_scheme

    warnings: list[str] = []
    tables, scales = [], []
    result = None
    started = time.perf_counter()
    fields = expand_inputs(paths)
    # A slide's count is exported once, by `finish`; the outlines are those of its fields.
    of_cells = partial(write_exports, formats=engine.config.formats, level="cells")
    with replacing_folder(make_folder(out_dir) / slide.slide_id) as folder:
        for place, field in enumerate(fields):
            if progress is not None:
                progress(Progress("fields", place, len(fields), field.slide_id))
            path = field.fields[0]
            image = (read_slide_at_once if is_slide(path) else read_image)(path, field.slide_id)
            result = drain(iter_analyze(image, engine, cancel), progress)
            heatmaps = for_report(result, engine, engine.config.heatmaps)
            write_result(result, folder / FIELDS, extra=[of_cells], heatmaps=heatmaps)
            tables.append(result.cells.assign(field=field.slide_id, slide_id=slide.slide_id))
            scales.append(result.segmentation.scale.um_per_px)
            warnings += [f"{field.slide_id}: {warning}" for warning in result.warnings]
        assert result is not None
        cells = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
        counts = differential(cells, default_scheme(), engine.classifier.classes, slide_id=slide.slide_id)
        seconds = time.perf_counter() - started
        joined = replace(
            result,
            image=replace(result.image, slide_id=slide.slide_id, source=slide.source),
            cells=cells,
            counts=counts,
            run={
                **result.run,
                "seconds": round(seconds, 3),
                "fields": [f.slide_id for f in fields],
                "um_per_px": scales,
            },
            warnings=tuple(warnings),
        )
        (folder / "cells.csv").write_bytes(table_bytes(cells))
        (folder / "counts.csv").write_bytes(table_bytes(counts))
        (folder / "run.json").write_text(run_json(joined), encoding="utf-8", newline="\n")
        finish(joined, folder)
    return warnings
