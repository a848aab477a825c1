"""One slide, in any process: it is done, was done already, or failed with an error of one line."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls._version import __version__
from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.batch.job import Job, SlideDone, failure, success
from napari_leukocls.batch.joint_slide import write_joint_slide
from napari_leukocls.batch.resume import add_receipt, content_hash, finished
from napari_leukocls.batch.whole_slide import write_whole_slide
from napari_leukocls.errors import ArgumentError, Cancelled, LeukoclsError, OutputError, PlaceTaken
from napari_leukocls.explanation import report_heatmaps
from napari_leukocls.io.images import read_image
from napari_leukocls.io.slides import is_slide
from napari_leukocls.measurement.samples import with_sample
from napari_leukocls.progress import CancelToken, ProgressCallback, drain
from napari_leukocls.results.exports import write_exports
from napari_leukocls.results.summary import summary_row
from napari_leukocls.results.writer import write_result
from napari_leukocls.threads import cores

if TYPE_CHECKING:
    from napari_leukocls.analysis.engine import Engine
    from napari_leukocls.types import SlideResult

log = logging.getLogger(__name__)

#: One slide at a time in a process: a Dask worker may have several threads, and the models are shared.
_one_slide = threading.Lock()


def do_job(
    job: Job, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> SlideDone:
    """Do one slide.

    Parameters
    ----------
    job : Job
    progress : callable, optional
    cancel : CancelToken, optional

    Returns
    -------
    SlideDone
        Also where the slide failed: that does not stop the others.

    Raises
    ------
    LeukoclsError
        What stops the whole run: a model or a device is missing, the results cannot be written, or the
        user stopped it.
    """
    started = time.perf_counter()
    if job.version != __version__:
        raise ArgumentError(
            f"a worker has version {__version__} and the run {job.version}: install the same on all."
        )
    with _one_slide:
        try:
            content = content_hash(job.fields)
        except (OSError, ValueError):
            # Reading it as an image says what is wrong, in words.
            content = ""
        before = finished(job, content) if job.resume and content else None
        if before is not None:
            return before
        engine = load_engine(job.config, job.threads)
        return _analyse(job, content, engine, progress, cancel, started)


def threads_for(workers: int) -> int:
    """Share the processor among processes.

    Parameters
    ----------
    workers : int

    Returns
    -------
    int
        Threads of each process.
    """
    return max(1, cores() // workers)


def _analyse(
    job: Job,
    content: str,
    engine: Engine,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    started: float,
) -> SlideDone:
    try:
        row, warnings = _write(job, content, engine, progress, cancel, started)
    except PlaceTaken as error:
        return failure(job.slide.slide_id, str(error), time.perf_counter() - started)
    except (Cancelled, OutputError):
        # A full disk, or one that cannot be written to, ends the whole run.
        raise
    except LeukoclsError as error:
        return failure(job.slide.slide_id, str(error), time.perf_counter() - started)
    except Exception as error:  # noqa: BLE001 - a fault in one slide must not cost the others
        log.exception("%s failed", job.slide.slide_id)
        text = f"{type(error).__name__}: {error}; this is a fault of the program: report it with the image."
        return failure(job.slide.slide_id, str(LeukoclsError(text)), time.perf_counter() - started)
    return success(row, tuple(warnings), time.perf_counter() - started)


def _write(
    job: Job,
    content: str,
    engine: Engine,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    started: float,
) -> tuple[dict[str, Any], list[str]]:
    """Analyse and write a slide; its row of ``summary.csv`` and its warnings."""
    rows: list[dict[str, Any]] = []

    def finish(result: SlideResult, folder: Path) -> None:
        write_exports(result, folder, job.config.formats)
        rows.append(summary_row(result, seconds=round(time.perf_counter() - started, 3)))
        add_receipt(folder, job, content, rows[0])

    if len(job.fields) > 1:
        warnings = write_joint_slide(
            job.slide,
            job.fields,
            job.out_dir,
            engine,
            progress,
            cancel,
            finish,
            job.notes,
            job.scales,
            job.sample,
        )
        return rows[0], warnings
    if is_slide(job.fields[0]):
        name, source = job.slide.slide_id, job.slide.source
        warnings = write_whole_slide(
            job.fields[0], name, source, job.out_dir, engine, progress, cancel, finish, job.sample
        )
        return rows[0], [*warnings, *job.notes]
    image = read_image(job.fields[0], job.slide.slide_id, job.config.plane)
    image = replace(image, source=job.slide.source, notes=(*image.notes, *job.notes))
    common = None if job.scales is None else job.scales.of(image.pixels.shape)
    result = drain(iter_analyze(image, engine, cancel, common), progress)
    if job.sample is not None:
        result = with_sample(result, job.sample)
    heatmaps = report_heatmaps(result, engine, engine.config.heatmaps)
    write_result(result, job.out_dir, extra=[finish], heatmaps=heatmaps)
    return rows[0], list(result.warnings)
