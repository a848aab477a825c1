"""What a result says of itself: settings, models and versions, and what its counts give to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_leukocls.types import Scale

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.pipeline import Engine
    from napari_leukocls.segmentation.light import Light


def count_warnings(cells: pd.DataFrame, counts: pd.DataFrame) -> list[str]:
    """Say where there is no cell, or no leukocyte, in a result."""
    if len(cells) == 0:
        return ["no cell was found: check that this is a stained smear in focus."]
    if int(counts.loc[counts["in_differential"], "count"].sum()) == 0:
        return ["no settled leukocyte was found: percentages are empty."]
    return []


def run_record(engine: Engine, scale: Scale, seconds: float, light: Light | None = None) -> dict[str, Any]:
    """What ``run.json`` holds of the engine, the scale and the light."""
    from dataclasses import asdict

    from napari_leukocls import __version__

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
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "timm", "cellpose", "numpy", "scikit-image")}
