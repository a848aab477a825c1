"""The models of an analysis: loaded once, kept in the only cache of models, and described for ``run.json``."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_leukocls._version import __version__
from napari_leukocls.classification.fine import FineHead, load_fine_head
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.device import resolve_device, use_threads
from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.fine import FINE
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import CARD_NAME, WEIGHTS_NAME, active_classifier, find_model
from napari_leukocls.scheme import RED_CELL, default_scheme
from napari_leukocls.segmentation.registry import COMPACT, THRESHOLD, compact, foreign_weights, segmenter
from napari_leukocls.types import Scale

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.segmentation.base import Segmenter
    from napari_leukocls.segmentation.compact import CompactSegmenter
    from napari_leukocls.types import Light

T = TypeVar("T")


@dataclass
class Engine:
    """The models of an analysis, loaded once for many slides.

    Attributes
    ----------
    config : AnalyzeConfig
    device : str
        A torch device.
    compact : CompactSegmenter
        Measures the red cells and tells the kinds of cells apart, whatever the `segmenter`.
    segmenter : Segmenter
        Outlines the cells.
    classifier : Classifier
    fine : FineHead or None
        Tells the finer classes apart, if the configuration asks for them.
    red_cells : Classifier or None
        Tells the shapes of red cells apart, if the configuration asks for them.
    """

    config: AnalyzeConfig
    device: str
    compact: CompactSegmenter
    segmenter: Segmenter
    classifier: Classifier
    fine: FineHead | None = None
    red_cells: Classifier | None = None

    @property
    def finer(self) -> tuple[str, ...] | None:
        """The finer classes that are counted; None if those of the classifier are."""
        return None if self.fine is None else self.fine.classes


@dataclass(frozen=True)
class _Loaded:
    """A model in memory, and the state of its files when it was read."""

    stamps: tuple[tuple[int, int], ...]
    model: Any


#: Models that are kept in memory: three of an analysis (four with cellpose), and room for another classifier.
KEPT = 5

_loaded: OrderedDict[tuple[str, str, str], _Loaded] = OrderedDict()
_loading = threading.RLock()


def _cached(kind: str, path: Path, files: Sequence[Path], device: str, load: Callable[[], T]) -> T:
    """Return a model from memory where its files are as they were, else load it; of all models `KEPT` stay."""
    stamps = tuple(_stamp(file) for file in files)
    key = (kind, str(path.absolute()), device)
    with _loading:
        kept = _loaded.pop(key, None)
        model: T = kept.model if kept is not None and kept.stamps == stamps else load()
        _loaded[key] = _Loaded(stamps, model)
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
        return model


def _stamp(file: Path) -> tuple[int, int]:
    """Modification time and size; zeros where there is no file, which loading then says in words."""
    try:
        state = file.stat()
    except OSError:
        return 0, 0
    return state.st_mtime_ns, state.st_size


def cached_classifier(folder: Path, device: str) -> Classifier:
    """Load a classifier; one that was loaded before and has not changed since comes at once.

    Parameters
    ----------
    folder : Path
        Of the model.
    device : str
        A torch device.

    Returns
    -------
    Classifier

    Raises
    ------
    ModelError
        As `napari_leukocls.classification.loading.load_classifier`.
    """
    files = (folder / CARD_NAME, folder / WEIGHTS_NAME)
    return _cached("classifier", folder, files, device, lambda: load_classifier(folder, device))


def cached_compact(device: str) -> CompactSegmenter:
    """Load the embedded segmenter; one that was loaded before and has not changed since comes at once.

    Parameters
    ----------
    device : str
        A torch device.

    Returns
    -------
    CompactSegmenter

    Raises
    ------
    ModelError
        If the model is missing or damaged.
    """
    folder = find_model(COMPACT).path
    return _cached("compact", folder, (folder / WEIGHTS_NAME,), device, lambda: compact(device))


def _cached_segmenter(name: str, device: str) -> Segmenter:
    if name == COMPACT:
        return cached_compact(device)
    if name == THRESHOLD:
        return segmenter(name, device)
    file = foreign_weights(name)
    return _cached("segmenter", file, (file,), device, lambda: segmenter(name, device))


def load_engine(config: AnalyzeConfig, threads: int | None = None) -> Engine:
    """Load the models that a configuration names; those that were loaded before come at once.

    Parameters
    ----------
    config : AnalyzeConfig
    threads : int, optional
        Threads that this process may take; by default as many as torch takes by itself.

    Returns
    -------
    Engine

    Raises
    ------
    ModelError, DeviceError
        If a model or the device is missing or damaged; in one line, before any image is read.
    ArgumentError
        If the classifier tells red cells apart, or the model of their shapes does not.
    """
    device = resolve_device(config.device)
    use_threads(threads)
    entry = find_model(config.classifier or active_classifier())
    classifier = cached_classifier(entry.path, device)
    if set(classifier.classes) <= set(default_scheme().shapes()):
        raise ArgumentError(
            f"the model {entry.name} tells red cells apart: choose a classifier of leukocytes."
        )
    return Engine(
        config=config,
        device=device,
        compact=cached_compact(device),
        segmenter=_cached_segmenter(config.segmenter, device),
        classifier=classifier,
        fine=load_fine_head(entry.path, classifier.digest, classifier.classes)
        if config.depth == FINE
        else None,
        red_cells=_red_cell_classifier(config, device),
    )


def _red_cell_classifier(config: AnalyzeConfig, device: str) -> Classifier | None:
    """The model of the shapes of red cells, if the configuration asks for them."""
    if not config.red_cells:
        return None
    classifier = cached_classifier(find_model(config.red_cell_model).path, device)
    scheme = default_scheme()
    others = [name for name in classifier.classes if scheme[name].kind != RED_CELL]
    if others:
        raise ArgumentError(
            f"the model {config.red_cell_model} has the class {others[0]!r}, which is no red cell: choose a model of "
            "the shapes of red cells."
        )
    return classifier


def check_countable(config: AnalyzeConfig) -> None:
    """Refuse a model with a class that the scheme does not know, before any image is read.

    Parameters
    ----------
    config : AnalyzeConfig

    Raises
    ------
    ArgumentError
        If a class cannot be counted: the line says how to add it.
    ModelError
        If the card cannot be read.
    """
    scheme = default_scheme()
    for name in read_card(find_model(config.classifier or active_classifier()).path).classes:
        scheme[name]


def as_scanned(engine: Engine) -> Engine:
    """Return the engine for a scanner's slide: its light was evened out when it was scanned.

    Parameters
    ----------
    engine : Engine

    Returns
    -------
    Engine
        With the same models.
    """
    return replace(engine, config=engine.config.model_copy(update={"even_light": False}))


def run_record(engine: Engine, scale: Scale, seconds: float, light: Light | None = None) -> dict[str, Any]:
    """Describe the models, the scale and the light for ``run.json``.

    Parameters
    ----------
    engine : Engine
    scale : Scale
    seconds : float
        That the analysis took.
    light : Light, optional

    Returns
    -------
    dict
    """
    opinion = engine.classifier.opinion
    return {
        "settings": engine.config.model_dump(),
        "device": engine.device,
        "segmenter": {"name": engine.segmenter.name, "sha256": engine.segmenter.weights_hash},
        "ruler": {"name": engine.compact.name, "sha256": engine.compact.weights_hash},
        "classifier": {
            "name": engine.classifier.card.name,
            "sha256": engine.classifier.digest,
            "classes": list(engine.classifier.classes),
            "temperature": engine.classifier.card.temperature,
            "second_opinion": None
            if opinion is None
            else {"name": opinion.card.name, "sha256": opinion.digest},
            **_fine_record(engine),
        },
        **_red_cell_record(engine),
        "scale": {**asdict(scale), "red_cell_um": 7.5},
        "light": None if light is None else asdict(light),
        "seconds": round(seconds, 3),
        "version": __version__,
        "versions": dict(_versions()),
        "not_for_diagnosis": "For research and training; not for diagnosis.",
    }


def _fine_record(engine: Engine) -> dict[str, Any]:
    """The finer classes and the least share of a cell that is told apart; nothing if they were not asked for."""
    head = engine.fine
    return (
        {} if head is None else {"fine_classes": list(head.classes), "fine_thresholds": dict(head.thresholds)}
    )


def _red_cell_record(engine: Engine) -> dict[str, Any]:
    """The model of the shapes of red cells; nothing if they were not asked for."""
    model = engine.red_cells
    if model is None:
        return {}
    return {"red_cells": {"name": model.card.name, "sha256": model.digest, "classes": list(model.classes)}}


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "timm", "cellpose", "numpy", "scikit-image")}
