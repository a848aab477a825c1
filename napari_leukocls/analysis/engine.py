"""Engine: models loaded once (the only cache), described for run.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from napari_leukocls._version import __version__
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.device import resolve_device, use_threads
from napari_leukocls.models.registry import active_classifier, find_model
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact, segmenter
from napari_leukocls.types import Scale

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.segmentation.base import Segmenter
    from napari_leukocls.segmentation.compact import CompactSegmenter
    from napari_leukocls.types import Light


@dataclass
class Engine:
    """The models of an analysis, loaded once for many slides.

    Attributes
    ----------
    config : AnalyzeConfig
    device : str
    """

    config: AnalyzeConfig
    device: str
    compact: CompactSegmenter
    segmenter: Segmenter
    classifier: Classifier


def load_engine(config: AnalyzeConfig) -> Engine:
    """Load what a configuration names.

    Raises
    ------
    ModelError, DeviceError
        In one line, before any image is read.
    """
    device = resolve_device(config.device)
    use_threads()
    entry = find_model(config.classifier or active_classifier())
    return Engine(
        config=config,
        device=device,
        compact=compact(device),
        segmenter=segmenter(config.segmenter, device),
        classifier=load_classifier(entry.path, device),
    )


def check_countable(config: AnalyzeConfig) -> None:
    """Refuse a model with a class that the scheme does not know, before any image is read.

    Raises
    ------
    ArgumentError
        It cannot be counted: the line says how to add it.
    ModelError
        Where the card cannot be read.
    """
    scheme = default_scheme()
    for name in find_model(config.classifier or active_classifier()).card().get("classes") or []:
        scheme[str(name)]


def as_scanned(engine: Engine) -> Engine:
    """Return the engine for a scanner's slide: its light was evened out when it was scanned."""
    return replace(engine, config=engine.config.model_copy(update={"even_light": False}))


def run_record(engine: Engine, scale: Scale, seconds: float, light: Light | None = None) -> dict[str, Any]:
    """What ``run.json`` holds of the engine, the scale and the light."""
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
        },
        "scale": {**asdict(scale), "red_cell_um": 7.5},
        "light": None if light is None else asdict(light),
        "seconds": round(seconds, 3),
        "version": __version__,
        "versions": _versions(),
        "not_for_diagnosis": "For research and training; not for diagnosis.",
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "timm", "cellpose", "numpy", "scikit-image")}


_engines: dict[str, Engine] = {}


def engine_of(config: AnalyzeConfig, threads: int | None = None) -> Engine:
    """The models of a configuration, loaded once a process (of several configurations, the last is kept)."""
    key = config.model_dump_json()
    if key not in _engines:
        use_threads(threads)
        _engines.clear()
        _engines[key] = load_engine(config)
    return _engines[key]
