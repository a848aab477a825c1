"""The Python API: analyse smears, and evaluate, compare, explain, promote and train classifiers.

Each function runs to its end and returns what it found. All errors that a user can cause are a
`napari_leukocls.errors.LeukoclsError`: one line that says what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.analysis.engine import Engine, as_scanned, load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.config import check_um_per_px, make_config
from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.samples import SampleValues, with_sample
from napari_leukocls.progress import CancelToken, ProgressCallback, drain
from napari_leukocls.types import FieldResult, SmearImage

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
    others: Sequence[np.ndarray | str | Path] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    engine: Engine | None = None,
    sample: SampleValues | None = None,
    **settings: Any,
) -> FieldResult:
    """Analyse one smear field: find its cells, classify them, and count them.

    Parameters
    ----------
    image_or_path : numpy.ndarray or path-like
        (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey; or an image file. A whole slide of up to 400 megapixels
        is read at once; for larger ones use `napari_leukocls.batch.run_batch`.
    slide_id : str, optional
        By default the name of the file without its suffix, or ``image``.
    um_per_px : float, optional
        Pixel size, um. It replaces the size that the file states.
    others : sequence of numpy.ndarray or path-like
        Images from the same microscope. If no scale is given, and the image has too few red cells to measure it,
        the scale is measured in all of them together.
    progress : callable, optional
        Is called with a `napari_leukocls.progress.Progress` after each step.
    cancel : CancelToken, optional
        Stops the analysis once it is cancelled.
    engine : Engine, optional
        Models that were loaded before, by `napari_leukocls.analysis.engine.load_engine`. The engine has its
        own settings, so give no others.
    sample : SampleValues, optional
        Counts of the analyser and what else is known of the sample, as
        `napari_leukocls.measurement.samples.make_sample` reads them. Absolute counts and flags are made from them when
        the result is written, or by `napari_leukocls.measurement.judgement.judge`.
    **settings
        Fields of `napari_leukocls.config.AnalyzeConfig`.

    Returns
    -------
    FieldResult
        The table of cells, the differential count, the labels of the cells, and a record of the run.

    Raises
    ------
    ArgumentError
        If a setting is wrong.
    InputError
        If the image cannot be read.
    ModelError
        If a model is missing or damaged.
    DeviceError
        If the compute device is missing, or its memory is too small.
    Cancelled
        If the work was cancelled.

    Examples
    --------
    >>> from napari_leukocls.api import analyze
    >>> result = analyze("field.png", um_per_px=0.1)  # doctest: +SKIP
    >>> result.counts[["class", "count", "percent"]]  # doctest: +SKIP

    Many fields with the same models, which are loaded once:

    >>> from napari_leukocls.analysis.engine import load_engine
    >>> from napari_leukocls.config import make_config
    >>> engine = load_engine(make_config(device="cpu"))  # doctest: +SKIP
    >>> results = [analyze(path, engine=engine) for path in paths]  # doctest: +SKIP
    """
    if engine is not None and settings:
        raise ArgumentError(
            f"an engine has its settings already: leave {', '.join(sorted(settings))} out, or load another."
        )
    config = make_config(**settings) if engine is None else engine.config
    check_um_per_px(um_per_px)
    smear, scanned = _smear_of(image_or_path, slide_id, config.plane)
    if um_per_px is not None:
        smear = replace(smear, um_per_px=um_per_px)
    ready = load_engine(config) if engine is None else engine
    more = [_smear_of(one, None, config.plane)[0].pixels for one in others]
    work = iter_analyze(smear, as_scanned(ready) if scanned else ready, cancel, others=more)
    result = drain(work, progress)
    return result if sample is None else with_sample(result, sample)


def _smear_of(
    image_or_path: np.ndarray | str | Path, slide_id: str | None, plane: int | str
) -> tuple[SmearImage, bool]:
    """An image, or what a file holds; and whether it was scanned."""
    from napari_leukocls.io.convert import array_to_smear
    from napari_leukocls.io.slides import read_smear

    if isinstance(image_or_path, (str, Path)):
        return read_smear(image_or_path, slide_id, plane)
    return array_to_smear(image_or_path, slide_id or "image"), False


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
        Name or folder of a model.
    data : path-like
        A folder with one folder for each class, or a CSV with the columns ``file`` and ``class``.
    out_dir : path-like
        Folder of the results.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    um_per_px : float, optional
        Pixel size, um, of crops whose row states none. By default it is estimated from the red cells in the
        crops.
    progress : callable, optional
        Is called with a `napari_leukocls.progress.Progress` after each step.
    cancel : CancelToken, optional
        Stops the evaluation once it is cancelled.

    Returns
    -------
    dict
        The content of ``metrics.json``.

    Raises
    ------
    InputError
        If there are no crops, or more than 5 % of them cannot be read.
    ModelError
        If the model is missing or damaged.
    OutputError
        If the results cannot be written.
    Cancelled
        If the work was cancelled.

    Examples
    --------
    >>> from napari_leukocls.api import evaluate_model
    >>> metrics = evaluate_model("default", "crops/", "evaluation")  # doctest: +SKIP
    >>> metrics["macro_f1"], metrics["macro_f1_ci95"]  # doctest: +SKIP
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
    """Compare classifiers on the same crops: accuracy, speed, and whether they differ by more than chance.

    Parameters
    ----------
    models : sequence of str
        Names or folders of models.
    data : path-like
        A folder with one folder for each class, or a CSV with the columns ``file`` and ``class``. If the CSV
        has a column ``split``, only the rows of its test part are used.
    out_dir : path-like
        Folder of the results.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    um_per_px : float, optional
        Pixel size, um, of crops whose row states none.
    progress : callable, optional
        Is called with a `napari_leukocls.progress.Progress` after each step.
    cancel : CancelToken, optional
        Stops the comparison once it is cancelled.

    Returns
    -------
    dict
        The content of ``compare.json``.

    Raises
    ------
    ArgumentError
        If a model is named twice.
    InputError
        If the models have fewer than two classes in common, or no crop has one of these classes.
    ModelError
        If a model is missing or damaged.
    Cancelled
        If the work was cancelled.

    Examples
    --------
    >>> from napari_leukocls.api import compare_models
    >>> found = compare_models(["default", "mine"], "crops.csv", "comparison")  # doctest: +SKIP
    >>> [(row["model"], row["accuracy"]) for row in found["models"]]  # doctest: +SKIP
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
    """Make a new classifier the active one, unless the recall of a class falls by more than chance.

    To decide without any change, use `napari_leukocls.evaluation.promote.decide`.

    Parameters
    ----------
    new : str
        Name or folder of the new model.
    data : path-like
        Labelled crops that `new` was not trained on: a folder with one folder for each class, or a CSV with
        the columns ``file`` and ``class``. If the CSV has a column ``split``, only the rows of its test part
        are used.
    over : str, optional
        Name of the model to replace; by default the active one.
    out_dir : path-like
        Folder of ``promotion.json``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    um_per_px : float, optional
        Pixel size, um, of crops whose row states none.
    progress : callable, optional
        Is called with a `napari_leukocls.progress.Progress` after each step.
    cancel : CancelToken, optional
        Stops the work once it is cancelled; nothing is changed then.

    Returns
    -------
    napari_leukocls.evaluation.promote.Promotion
        The decision, with the recalls of each class.

    Raises
    ------
    InputError
        If the crops cannot be read or are unsuitable.
    ModelError
        If a model is missing or damaged.
    OutputError
        If ``promotion.json`` cannot be written.
    Cancelled
        If the work was cancelled.

    Examples
    --------
    >>> from napari_leukocls.api import promote_model
    >>> decision = promote_model("mine", "test_crops.csv")  # doctest: +SKIP
    >>> decision.promote, decision.reason  # doctest: +SKIP
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
    """Draw heatmaps of the parts of an image that a model's decision depends on, and write a report.

    Parameters
    ----------
    model : str
        Name or folder of a model.
    images : sequence of path-like
        Files, folders or globs. In a field every leukocyte is explained, in a crop its central cell.
    out_dir : path-like
        Folder of the results. An earlier explanation in it is replaced; a folder with other files is refused.
    method : str, optional
        One of `napari_leukocls.explanation.cam.METHODS`; by default the model's own.
    check : bool
        Whether to check the heatmaps against the model, on up to 64 cells.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    um_per_px : float, optional
        Pixel size of all images, um. By default it is read from the files, or estimated from the red cells.
    kind : {"auto", "field", "crop"}
        ``auto`` takes an image of up to 40 um a side as a crop.
    progress : callable, optional
        Is called with a `napari_leukocls.progress.Progress` after each step.
    cancel : CancelToken, optional
        Stops the work once it is cancelled.

    Returns
    -------
    napari_leukocls.explanation.report.Explanation

    Raises
    ------
    ArgumentError
        If the method or kind is unknown.
    ModelError
        If the model is missing or damaged.
    OutputError
        If the results cannot be written.
    Cancelled
        If the work was cancelled.

    Examples
    --------
    >>> from napari_leukocls.api import explain
    >>> explanation = explain("default", ["field.png"], "heatmaps", check=True)  # doctest: +SKIP
    >>> explanation.checks["state"]  # doctest: +SKIP
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
    on_event: Callable[[TrainEvent], None] | None = None,
    cancel: CancelToken | None = None,
    **settings: Any,
) -> Path:
    """Train or fine-tune a classifier.

    Parameters
    ----------
    data : path-like
        A folder with one folder for each class, or a CSV with the columns ``file`` and ``class``.
    out_dir : path-like
        Folder of the model, the checkpoint and the records. An interrupted training in it is continued.
    preset : str, optional
        Name of a set of settings; see `napari_leukocls.training.config.preset_names`.
    on_event : callable, optional
        Is called with each `napari_leukocls.training.events.TrainEvent`.
    cancel : CancelToken, optional
        Ends the training early once it is cancelled; the best weights so far become the model.
    **settings
        Fields of `napari_leukocls.training.config.TrainConfig`. Give ``from_model`` or ``arch`` if the preset
        has neither.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    ArgumentError
        If a setting is wrong.
    InputError
        If the crops cannot be read or are too few.
    ModelError
        If the model to start from is missing or damaged.
    OutputError
        If the model cannot be written.

    Examples
    --------
    >>> from napari_leukocls.api import train
    >>> model = train("crops/", "mine", "quick", from_model="default")  # doctest: +SKIP
    """
    from napari_leukocls.training.config import make_train_config
    from napari_leukocls.training.run import iter_train

    config = make_train_config(preset, data=str(data), out=str(out_dir), **settings)
    return drain(iter_train(config, cancel), on_event)


def run_benchmark(quick: bool = False) -> dict[str, Any]:
    """Measure speed and memory on this machine.

    Parameters
    ----------
    quick : bool
        Whether to use fewer repeats and smaller images.

    Returns
    -------
    dict
        Nested; the names of figures end with their units. See `napari_leukocls.benchmark.measure`.

    Raises
    ------
    ModelError
        If a model is missing.
    DeviceError
        If the memory is too small for the largest image.

    Examples
    --------
    >>> from napari_leukocls.api import run_benchmark
    >>> run_benchmark(quick=True)["megapixels"]  # doctest: +SKIP
    """
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
