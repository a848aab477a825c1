"""The Python API: what the window, the command line and a researcher's notebook call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.analysis.engine import Engine, as_scanned, load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.config import check_um_per_px, make_config
from napari_leukocls.errors import ArgumentError
from napari_leukocls.progress import CancelToken, ProgressCallback, drain
from napari_leukocls.types import SmearResult

if TYPE_CHECKING:
    import numpy as np

    from napari_leukocls.evaluation.promote import Promotion
    from napari_leukocls.explanation.report import Explanation
    from napari_leukocls.training.events import TrainEvent


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
        (H, W, 3) RGB, (H, W, 4) or (H, W); or a file. A whole slide is read at once, where it has no more
        than 400 megapixels; `napari_leukocls.batch.run_batch` takes larger ones.
    slide_id : str, optional
        By default the file's stem, or ``image``.
    um_per_px : float, optional
        Pixel size, micrometres, in place of what a file's metadata gives.
    progress : callable, optional
        Called with a `Progress` between steps.
    cancel : CancelToken, optional
    engine : Engine, optional
        Models loaded before, by `napari_leukocls.analysis.engine.load_engine`; then no settings may be given.
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
    from napari_leukocls.io.slides import read_smear

    if engine is not None and settings:
        raise ArgumentError(
            f"an engine has its settings already: leave {', '.join(sorted(settings))} out, or load another."
        )
    config = make_config(**settings) if engine is None else None
    check_um_per_px(um_per_px)
    if isinstance(image_or_path, (str, Path)):
        smear, scanned = read_smear(image_or_path, slide_id)
    else:
        smear, scanned = array_to_smear(image_or_path, slide_id or "image"), False
    if um_per_px is not None:
        smear = replace(smear, um_per_px=um_per_px)
    ready = engine if config is None else load_engine(config)
    assert ready is not None
    return drain(iter_analyze(smear, as_scanned(ready) if scanned else ready, cancel), progress)


def evaluate_model(
    model: str,
    data: str | Path,
    out_dir: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Measure a classifier on labelled crops; write metrics, predictions, figures and a report.

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
    from napari_leukocls.evaluation.predict import assess
    from napari_leukocls.evaluation.report import write_evaluation

    table, metrics, details = drain(assess(model, data, device, um_per_px, cancel), progress)
    write_evaluation(out_dir, table, metrics, details)
    return metrics


def compare_models(
    models: Sequence[str],
    data: str | Path,
    out_dir: str | Path,
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Compare classifiers on the same crops; `napari_leukocls.evaluation.compare.iter_compare` in one go.

    Returns
    -------
    dict
        As ``compare.json``.
    """
    from napari_leukocls.evaluation.compare import iter_compare

    return drain(iter_compare(models, data, out_dir, device, um_per_px, cancel), progress)


def promote_model(
    new: str,
    data: str | Path,
    over: str | None = None,
    out_dir: str | Path = ".",
    device: str = "auto",
    um_per_px: float | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Promotion:
    """Make a new classifier the active one if no class's recall falls by more than chance.

    See `napari_leukocls.evaluation.promote.promote`; `decide` in the same module decides and changes nothing.
    """
    from napari_leukocls.evaluation.promote import promote

    return promote(new, over, data, out_dir, device, um_per_px, progress, cancel)


def explain(
    model: str,
    images: Sequence[str | Path],
    out_dir: str | Path,
    *,
    method: str | None = None,
    check: bool = False,
    device: str = "auto",
    um_per_px: float | None = None,
    kind: str = "auto",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Explanation:
    """Draw heatmaps of what a model looks at, check them, and write figure, maps, table and report.

    Parameters
    ----------
    model : str
        A model's name or folder.
    images : sequence of path-like
        Files, folders or globs: of a field every leukocyte is explained, of a crop its central cell.
    out_dir : path-like
        Replaced as a whole where it is an earlier explanation; somebody's own folder is refused.
    method, check, device, um_per_px, kind, cancel : optional
        As `napari_leukocls.explanation.run.iter_explain` has them.
    progress : callable, optional

    Returns
    -------
    napari_leukocls.explanation.report.Explanation

    Raises
    ------
    LeukoclsError
        With one line.
    """
    from napari_leukocls.explanation.report import write_explanation
    from napari_leukocls.explanation.run import iter_explain
    from napari_leukocls.io.atomic import make_folder, replacing_folder

    target = Path(out_dir).absolute()
    make_folder(target.parent)
    with replacing_folder(target) as folder:
        steps = iter_explain(model, images, method, check, device, um_per_px, kind, cancel)
        found = drain(steps, progress)
        write_explanation(found, folder)
    return found


def train(
    data: str | Path,
    out_dir: str | Path,
    preset: str | None = None,
    *,
    tell: Callable[[TrainEvent], None] | None = None,
    cancel: CancelToken | None = None,
    **settings: Any,
) -> Path:
    """Train or fine-tune a classifier.

    Parameters
    ----------
    data : path-like
        A folder of class folders, or a CSV.
    out_dir : path-like
        Of the model, the checkpoint and the records; an interrupted training in it is gone on from.
    preset : str, optional
        A recipe; see `napari_leukocls.training.config`.
    tell : callable, optional
        Called with each `TrainEvent`.
    cancel : CancelToken, optional
        A soft stop: the best weights so far become the model.
    **settings
        Fields of `napari_leukocls.training.config.TrainConfig`; ``from_model`` or ``arch`` is needed where the
        recipe has neither.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    LeukoclsError
        With one line.

    Examples
    --------
    >>> model = train("crops/", "mine", "quick", from_model="default")  # doctest: +SKIP
    """
    from napari_leukocls.training.config import make_train_config
    from napari_leukocls.training.run import iter_train

    config = make_train_config(preset, data=str(data), out=str(out_dir), **settings)
    return drain(iter_train(config, cancel), tell)


def run_benchmark(quick: bool = False) -> dict[str, Any]:
    """Measure speed and memory as ratios within this run; see `napari_leukocls.benchmark`."""
    from napari_leukocls.benchmark import measure

    return measure(quick)


__all__ = [
    "analyze",
    "compare_models",
    "evaluate_model",
    "explain",
    "promote_model",
    "run_benchmark",
    "train",
]
