"""The test of the stain and the camera over all slides of a run, which mostly come from one microscope."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.analysis.slide_familiarity import KEY, SlideTest
from napari_leukocls.batch.job import SlideOutcome
from napari_leukocls.config import AnalyzeConfig
from napari_leukocls.device import resolve_device
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import active_classifier, find_model

_START = "in all slides of this run together, "


def with_run_warning(
    folder: Path, outcomes: Sequence[SlideOutcome], config: AnalyzeConfig
) -> list[SlideOutcome]:
    """Test the slides of a run together where single slides have too few cells for the test.

    Parameters
    ----------
    folder : Path
        Of the run.
    outcomes : sequence of SlideOutcome
    config : AnalyzeConfig

    Returns
    -------
    list of SlideOutcome
        Slides that are too small to be tested alone have the warning of the whole run, if there is one.
    """
    model = find_model(config.classifier or active_classifier()).path
    test = read_card(model).familiarity
    if test is None or len(outcomes) < 2:
        return list(outcomes)
    together = SlideTest(cached_classifier(model, resolve_device(config.device)))
    small = set()
    for outcome in outcomes:
        try:
            run = json.loads((folder / outcome.slide_id / "run.json").read_text(encoding="utf-8"))
            together.add_run(run)
        except (OSError, ValueError, KeyError, TypeError):
            # A slide that failed has no such file.
            continue
        if run.get(KEY, {}).get("cells", 0) < test.least_cells:
            small.add(outcome.slide_id)
    lines = tuple(_START + line for line in together.warnings())
    return [replace(one, warnings=one.warnings + lines) if one.slide_id in small else one for one in outcomes]


def run_warnings(outcomes: Sequence[SlideOutcome]) -> list[str]:
    """List the warnings of the run as a whole, each once.

    Parameters
    ----------
    outcomes : sequence of SlideOutcome

    Returns
    -------
    list of str
    """
    lines = (line for outcome in outcomes for line in outcome.warnings if line.startswith(_START))
    return list(dict.fromkeys(lines))
