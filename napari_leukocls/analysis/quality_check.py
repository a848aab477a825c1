"""The quality of a field, checked before its cells are counted: what is in doubt goes to review."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_leukocls.measurement.quality import FieldQuality, measure_quality
from napari_leukocls.measurement.quality_grades import Quality, grade_quality, review_quality
from napari_leukocls.measurement.smudges import review_smudges
from napari_leukocls.measurement.stain_reference import read_reference
from napari_leukocls.progress import stop_here

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.types import Segmentation, SmearImage


def check_field(
    image: SmearImage,
    segmentation: Segmentation,
    cells: pd.DataFrame,
    measured: FieldQuality | None = None,
    inverted: bool = False,
) -> Quality:
    """Measure the quality of a field, and send to review what it puts in doubt.

    Parameters
    ----------
    image : SmearImage
        Under even light.
    segmentation : Segmentation
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; ``needs_review`` and ``review_reason`` are changed in place.
    measured : FieldQuality, optional
        What `measure_quality` has found already, where `segmentation` has not all cells in view.
    inverted : bool
        Whether the cells are brighter than the glass.

    Returns
    -------
    Quality
        Of this field alone; against the laboratory's reference slides, if it has any.

    Raises
    ------
    InputError
        If the reference is damaged.
    """
    if measured is None:
        measured = measure_quality(image.pixels, segmentation)
    if inverted:
        measured = replace(measured, inverted=1.0)
    stop_here()
    found = grade_quality([measured], segmentation.scale.um_per_px, read_reference())
    review_quality(cells, found)
    review_smudges(cells, image.pixels, segmentation)
    return found
