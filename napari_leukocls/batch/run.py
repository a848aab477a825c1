"""A batch: many slides into one folder, each whole or not begun, and what failed listed."""

from __future__ import annotations

import logging
import os
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls._version import __version__
from napari_leukocls.analysis.engine import check_countable, load_engine
from napari_leukocls.batch.doubles import doubles_among
from napari_leukocls.batch.job import Job, SlideDone, SlideOutcome
from napari_leukocls.batch.pool import in_processes
from napari_leukocls.batch.resume import model_hashes
from napari_leukocls.batch.run_familiarity import with_run_warning
from napari_leukocls.batch.samples import BatchSamples
from napari_leukocls.batch.scales import as_record, of_earlier_run, scales_for, scales_of_run
from napari_leukocls.batch.worker import do_job, threads_for
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.errors import ArgumentError, LeukoclsError
from napari_leukocls.io.atomic import make_folder, sweep
from napari_leukocls.io.inputs import SlideInput, expand_inputs, safe_id, slide_name
from napari_leukocls.io.serialise import write_json
from napari_leukocls.measurement.rules import rules_digest
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback
from napari_leukocls.results.summary import write_summary
from napari_leukocls.threads import cores

if TYPE_CHECKING:
    from napari_leukocls.segmentation.common_scale import CommonScales

MANIFEST = "manifest.json"

log = logging.getLogger(__name__)

#: Seconds between two writings of ``summary.csv`` while a run goes on.
_SUMMARY_EVERY = 2.0


def run_batch(
    slides: Sequence[SlideInput | str | Path],
    out_dir: str | Path,
    config: AnalyzeConfig,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    samples: BatchSamples | None = None,
) -> list[SlideOutcome]:
    """Analyse slides into a folder: one folder of results each, ``summary.csv`` and ``manifest.json``.

    The tables are the same, byte for byte, however they are made.

    Parameters
    ----------
    slides : sequence of SlideInput or path-like
        Paths of images, folders and globs are expanded by `napari_leukocls.io.inputs.expand_inputs`: each image is a
        slide.
    out_dir : path-like
        Created where it does not exist. On a cluster, a path that every worker sees.
    config : AnalyzeConfig
    workers : int
        Slides at a time on this machine, each in a process with models of its own; at most one on each core.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers do the slides.
    resume : bool
        Leave alone what an earlier run into the folder has done of the same pixels with the same settings,
        models and version.
    progress : callable, optional
    cancel : CancelToken, optional
        Asked between slides, and on this machine between the steps of each.
    samples : BatchSamples, optional
        Counts of the analyser, as `napari_leukocls.batch.samples.samples_of_slides` finds them.

    Returns
    -------
    list of SlideOutcome
        One a slide, in the order of `slides`; a slide that fails does not stop the others.

    Raises
    ------
    LeukoclsError
        Where nothing can be done at all: a model or a device is missing, `out_dir` cannot be written or has
        another run going on, or the user stopped it. What was done by then stays.
    """
    if workers < 1:
        raise ArgumentError("give at least one worker.")
    if workers > 1 and scheduler:
        raise ArgumentError("give either workers of this machine or a scheduler, not both.")
    slides = _as_slides(slides)
    folder = Path(make_folder(out_dir)).resolve()
    workers = min(workers, max(1, len(slides)), cores())
    with _alone(folder):
        sweep(folder)
        models = model_hashes(config)
        check_countable(config)
        threads = threads_for(workers) if workers > 1 else None
        token = cancel or CancelToken()
        rules = rules_digest()
        samples = samples or BatchSamples()
        notes = _notes(slides, progress, token, config.plane)
        if progress is not None:
            progress(Progress("slides", 0, len(slides), "reading the scale"))
        facts = _facts(config, models)
        known = of_earlier_run(folder / MANIFEST, facts) if resume else {}
        scales = scales_of_run(slides, config, known, token)
        jobs = [
            Job(
                slide,
                Path.cwd(),
                folder,
                config,
                models,
                __version__,
                resume,
                threads,
                (*notes.get(slide.slide_id, ()), *samples.notes.get(slide.slide_id, ())),
                scales_for(slide, scales),
                samples.values.get(slide.slide_id),
                rules,
            )
            for slide in slides
        ]
        work = _work(jobs, workers, scheduler, progress, token)
        one_by_one = not scheduler and workers == 1
        outcomes = _collect(slides, folder, work, None if one_by_one else progress)
        _write_manifest(folder, slides, facts, scales)
        return with_run_warning(folder, outcomes, config)


def _as_slides(given: Sequence[SlideInput | str | Path]) -> list[SlideInput]:
    """The slides themselves; of paths, what they stand for."""
    if isinstance(given, str | Path):
        raise ArgumentError("give a list of slides or paths, even of one.")
    slides = [one for one in given if isinstance(one, SlideInput)]
    return slides if len(slides) == len(given) else expand_inputs(given)


def _notes(
    slides: Sequence[SlideInput],
    progress: ProgressCallback | None,
    cancel: CancelToken,
    plane: int | str,
) -> dict[str, tuple[str, ...]]:
    """Lines on each slide before its analysis: on its name, and on pictures that occur twice."""
    notes = renamed(slides)
    for name, lines in doubles_among(slides, Path.cwd(), _compared(progress, cancel), plane).items():
        notes[name] = (*notes.get(name, ()), *lines)
    return notes


def renamed(slides: Sequence[SlideInput]) -> dict[str, tuple[str, ...]]:
    """Note which slides have another name than their file.

    Parameters
    ----------
    slides : sequence of SlideInput

    Returns
    -------
    dict of str to tuple of str
        A line by the id of the slide.
    """
    notes: dict[str, tuple[str, ...]] = {}
    for slide in slides:
        if len(slide.fields) != 1:
            continue
        own = slide_name(slide.fields[0])
        valid = safe_id(own)
        numbered = slide.slide_id.rpartition("_")[0] == valid
        if numbered or slide.slide_id == valid != unicodedata.normalize("NFC", own):
            shown = own if len(own) <= 40 else own[:40] + "..."
            notes[slide.slide_id] = (
                f"the results of {shown!r} are named {slide.slide_id!r}: the name of the file cannot be that of a "
                "folder on every system, or another slide has it.",
            )
    return notes


def _compared(progress: ProgressCallback | None, cancel: CancelToken) -> Callable[[int, int], None]:
    """Progress of the search for slides that occur twice."""

    def tell(done: int, total: int) -> None:
        cancel.check()
        if progress is not None:
            progress(Progress("compare", done, total))

    return tell


def _work(
    jobs: Sequence[Job],
    workers: int,
    scheduler: str | None,
    progress: ProgressCallback | None,
    cancel: CancelToken,
) -> Iterator[SlideDone]:
    """Where the slides are done: on a cluster, in processes, or here."""
    if scheduler:
        try:
            # An extra, which is slow to import.
            from napari_leukocls.batch.cluster import on_cluster
        except ImportError as error:
            raise ArgumentError(
                "--scheduler needs dask.distributed: pip install 'napari-leukocls[cluster]'."
            ) from error
        return on_cluster(jobs, scheduler, cancel)
    if workers > 1:
        return in_processes(jobs, workers, cancel)
    return _one_by_one(jobs, progress, cancel)


def _one_by_one(
    jobs: Sequence[Job], progress: ProgressCallback | None, cancel: CancelToken
) -> Iterator[SlideDone]:
    if jobs and not jobs[0].resume:
        # A fault of the models is reported before any slide is read.
        load_engine(jobs[0].config)
    for number, job in enumerate(jobs):
        if progress is not None:
            progress(Progress("slides", number, len(jobs), job.slide.slide_id))
        cancel.check()
        yield do_job(job, progress, cancel)


def _collect(
    slides: Sequence[SlideInput], folder: Path, work: Iterator[SlideDone], progress: ProgressCallback | None
) -> list[SlideOutcome]:
    """Take results as they come; ``summary.csv`` has what was done, however the run ends."""
    found: dict[str, SlideDone] = {}
    written = 0.0
    try:
        if progress is not None:
            progress(Progress("slides", 0, len(slides), "starting"))
        for done in work:
            found[done.outcome.slide_id] = done
            if progress is not None:
                progress(Progress("slides", len(found), len(slides), done.outcome.slide_id))
            if time.monotonic() - written > _SUMMARY_EVERY:
                _write_summary(folder, found)
                written = time.monotonic()
    except BaseException:
        if found:
            # What ends the run is the news; a full disk, say, keeps the summary from being written as well.
            with suppress(LeukoclsError):
                _write_summary(folder, found)
        raise
    _write_summary(folder, found)
    return [found[slide.slide_id].outcome for slide in slides]


def _write_summary(folder: Path, found: Mapping[str, SlideDone]) -> None:
    write_summary([done.row for done in found.values() if done.row is not None], folder / "summary.csv")


def _facts(config: AnalyzeConfig, models: Mapping[str, str | None]) -> dict[str, Any]:
    """What the results of a run depend on, apart from its slides."""
    return {
        "format": 1,
        "version": __version__,
        "settings": config.model_dump(mode="json"),
        "models": dict(models),
    }


def _write_manifest(
    folder: Path,
    slides: Sequence[SlideInput],
    facts: Mapping[str, Any],
    scales: Mapping[str, CommonScales],
) -> None:
    """Write what the run was; what it has done of each slide stands in the slide's own folder."""
    manifest: dict[str, Any] = {
        **facts,
        "slides": [
            {"slide_id": slide.slide_id, "source": slide.source, "fields": [str(f) for f in slide.fields]}
            for slide in slides
        ],
        "scales": {name: as_record(one) for name, one in scales.items()},
    }
    write_json(folder / MANIFEST, manifest, sort_keys=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder for this run; the hold ends with the process, however that ends.

    Raises
    ------
    ArgumentError
        Where another run writes into it.
    """
    try:
        import fcntl
    except ImportError:
        # Windows has no lock that leaves no file behind.
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArgumentError(
                f"another run writes into '{folder}'; wait for it, or choose another folder."
            ) from error
        except OSError as error:
            # Some network folders have no locks; there the user sees to it.
            log.info("'%s' cannot be held for one run alone: %s", folder, error)
        yield
    finally:
        os.close(held)
