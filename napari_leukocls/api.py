"""The Python API: what the window, the command line and a researcher's notebook call."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.config import AnalyzeConfig, make_config
from napari_leukocls.errors import ArgumentError, Cancelled, LeukoclsError, OutputError
from napari_leukocls.pipeline import Engine, drain, iter_analyze, load_engine
from napari_leukocls.types import CancelToken, Progress, ProgressCallback, SmearResult

if TYPE_CHECKING:
    import numpy as np

    from napari_leukocls.io.inputs import SlideInput


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlideOutcome:
    """How one slide of a run ended: ``done`` or ``failed``, with the one-line error of the latter."""

    slide_id: str
    status: str
    error: str | None
    seconds: float
    n_cells: int
    n_wbc: int
    n_review: int
    warnings: tuple[str, ...] = ()


def analyze(
    image_or_path: np.ndarray | str | Path,
    *,
    slide_id: str | None = None,
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    engine: Engine | None = None,
    **settings: Any,
) -> SmearResult:
    """Analyse one smear field.

    Parameters
    ----------
    image_or_path : numpy.ndarray or path-like
        (H, W, 3) RGB, (H, W, 4) or (H, W); or a file.
    slide_id : str, optional
        By default the file's stem, or ``image``.
    um_per_px : float, optional
        Pixel size of an array, micrometres, as a file's metadata would give it.
    progress : callable, optional
        Called with a `Progress` between steps.
    cancel : CancelToken, optional
    engine : Engine, optional
        Models loaded before, by `napari_leukocls.pipeline.load_engine`; then no settings may be given.
    **settings
        Fields of `napari_leukocls.config.AnalyzeConfig`.

    Returns
    -------
    SmearResult

    Raises
    ------
    LeukoclsError
        With one line that says what is wrong and what to do.

    Examples
    --------
    >>> result = analyze("field.png", pixel_size_um=0.1)  # doctest: +SKIP
    >>> result.counts  # doctest: +SKIP
    """
    from napari_leukocls.io.convert import array_to_smear
    from napari_leukocls.io.images import read_image

    if engine is not None and settings:
        raise ArgumentError(
            f"an engine has its settings already: leave {', '.join(sorted(settings))} out, or load another."
        )
    config = make_config(**settings) if engine is None else None
    if isinstance(image_or_path, (str, Path)):
        smear = read_image(image_or_path, slide_id)
    else:
        smear = array_to_smear(image_or_path, slide_id or "image", um_per_px=um_per_px)
    ready = engine if config is None else load_engine(config)
    assert ready is not None
    return drain(iter_analyze(smear, ready, cancel), progress)


def analyze_many(
    slides: Sequence[SlideInput],
    out_dir: str | Path,
    config: AnalyzeConfig,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[SlideOutcome]:
    """Analyse slides into a folder: one folder of results each, and ``summary.csv``.

    Parameters
    ----------
    slides : sequence of SlideInput
    out_dir : path-like
    config : AnalyzeConfig
    progress : callable, optional
    cancel : CancelToken, optional

    Returns
    -------
    list of SlideOutcome
        One a slide; a slide that fails does not stop the others.

    Raises
    ------
    LeukoclsError
        Where nothing can be done at all: a model or a device is missing, or `out_dir` cannot be written.
    """
    from napari_leukocls.io.results import write_summary

    engine = load_engine(config)
    outcomes: list[SlideOutcome] = []
    rows: list[dict[str, Any]] = []
    for place, slide in enumerate(slides):
        if progress is not None:
            progress(Progress("slides", place, len(slides), slide.slide_id))
        started = time.perf_counter()
        try:
            row, outcome = _analyze_slide(slide, Path(out_dir), engine, progress, cancel, started)
        except Cancelled:
            write_summary(rows, Path(out_dir) / "summary.csv")
            raise
        except OutputError:
            raise
        except LeukoclsError as error:
            outcomes.append(_failed(slide, str(error), started))
            continue
        except Exception as error:  # noqa: BLE001 - a fault in one slide must not cost the others
            log.exception("%s failed", slide.slide_id)
            fault = (
                f"{type(error).__name__}: {error}; this is a fault of the program: report it with the image."
            )
            outcomes.append(_failed(slide, str(LeukoclsError(fault)), started))
            continue
        rows.append(row)
        outcomes.append(outcome)
        write_summary(rows, Path(out_dir) / "summary.csv")
    write_summary(rows, Path(out_dir) / "summary.csv")
    return outcomes


def _failed(slide: SlideInput, error: str, started: float) -> SlideOutcome:
    return SlideOutcome(slide.slide_id, "failed", error, time.perf_counter() - started, 0, 0, 0)


def _analyze_slide(
    slide: SlideInput,
    out_dir: Path,
    engine: Engine,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    started: float,
) -> tuple[dict[str, Any], SlideOutcome]:
    from napari_leukocls.io.results import summary_row, write_result
    from napari_leukocls.slide import write_slide

    if len(slide.fields) == 1:
        result = analyze(
            slide.fields[0], slide_id=slide.slide_id, progress=progress, cancel=cancel, engine=engine
        )
        write_result(result, out_dir)
        row = summary_row(result, seconds=time.perf_counter() - started)
        warnings = list(result.warnings)
    else:
        row, warnings = write_slide(slide, out_dir, engine, progress, cancel, started)
    return row, SlideOutcome(
        slide.slide_id,
        "done",
        None,
        time.perf_counter() - started,
        int(row["n_cells"]),
        int(row["n_wbc"]),
        int(row["n_review"]),
        tuple(warnings),
    )


def evaluate_model(
    model: str,
    data: str | Path,
    out_dir: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Measure a classifier on labelled crops and write ``metrics.json``, ``predictions.csv`` and figures.

    Parameters
    ----------
    model : str
        A model's name or folder.
    data : path-like
        A folder of class folders, or a CSV.
    out_dir : path-like
    device : str
    um_per_px : float, optional
        Of crops whose row does not say it; by default the ruler over all crops.
    progress, cancel : optional

    Returns
    -------
    dict
        As in ``metrics.json``.

    Raises
    ------
    LeukoclsError
        With one line; more than 5 % unreadable crops are refused.
    """
    from napari_leukocls.assessment import assess
    from napari_leukocls.evaluation.report import write_evaluation

    table, metrics = drain(assess(model, data, device, um_per_px, cancel), progress)
    write_evaluation(out_dir, table, metrics)
    return metrics


def run_benchmark(quick: bool = False) -> dict[str, Any]:
    """Measure speed and memory as ratios within this run; see `napari_leukocls.benchmark`."""
    from napari_leukocls.benchmark import measure

    return measure(quick)


__all__ = ["SlideOutcome", "analyze", "analyze_many", "evaluate_model", "run_benchmark"]
