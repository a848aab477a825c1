"""The quality of analysed slides, read from their folders of results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.measurement.quality import FieldQuality
from napari_leukocls.measurement.quality_grades import Quality, grade_quality, middle_of, read_measured
from napari_leukocls.measurement.stain_reference import read_reference
from napari_leukocls.results.reader import RUN, read_run


@dataclass(frozen=True)
class SlideQuality:
    """The quality of one slide.

    Attributes
    ----------
    slide_id : str
        Name of its folder.
    quality : Quality
    middle : FieldQuality
        Medians over its fields.
    """

    slide_id: str
    quality: Quality
    middle: FieldQuality

    def as_json(self) -> dict[str, Any]:
        """Return the grade, the checks and the figures."""
        checks = {check.name: {"grade": check.grade, "text": check.text} for check in self.quality.checks}
        return {"grade": self.quality.grade, "checks": checks, "measured": self.middle.record()}


def quality_of_folders(folders: Iterable[Path]) -> list[SlideQuality]:
    """Grade slides by what their results hold of them, against the laboratory's stain reference if there is one.

    Parameters
    ----------
    folders : iterable of Path
        Folders of slides, or folders that hold such folders.

    Returns
    -------
    list of SlideQuality
        Sorted by folder; slides without such figures (of older versions) are left out.

    Raises
    ------
    InputError
        If no folder holds a result with such figures, or one is damaged.
    """
    found = []
    reference = read_reference()
    for folder in folders:
        runs = [folder / RUN] if (folder / RUN).is_file() else sorted(folder.glob(f"*/{RUN}"))
        for path in runs:
            run = read_run(path.parent)
            try:
                measured = read_measured(run)
                scale = float(
                    np.median(run["um_per_px"] if "um_per_px" in run else run["scale"]["um_per_px"])
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"'{path}' is damaged; analyse the slide again.") from error
            if measured:
                graded = grade_quality(measured, scale, reference)
                found.append(SlideQuality(path.parent.name, graded, middle_of(measured)))
    if not found:
        raise InputError(
            "there is no result with figures of quality here; give folders that analyze has written."
        )
    return found
