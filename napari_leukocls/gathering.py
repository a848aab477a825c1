"""Labelled crops gathered for measuring a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.errors import InputError

if TYPE_CHECKING:
    from napari_leukocls.classification.dataset import LabelledCrop

log = logging.getLogger(__name__)
#: How a table says that a crop is the test's.
TEST_WORDS = ("test", "testing", "holdout", "held-out", "heldout")


@dataclass(frozen=True)
class Gathered:
    """Labelled crops whose files are images.

    Attributes
    ----------
    crops : list of LabelledCrop
    sizes : list of (int, int)
        Height and width of each.
    skipped : list of str
        Files that are no readable image.
    """

    crops: list[LabelledCrop]
    sizes: list[tuple[int, int]]
    skipped: list[str]

    @property
    def groups(self) -> np.ndarray | None:
        """Patient, else slide, of each crop (N,); None where a crop has neither."""
        names = [crop.patient or crop.slide for crop in self.crops]
        return np.array(names) if all(names) else None


def gather(data: str | Path, test_only: bool = False) -> Gathered:
    """List labelled crops and leave out those that cannot be read.

    Parameters
    ----------
    data : path-like
        A folder of class folders, or a CSV.
    test_only : bool
        Where the CSV's column ``split`` says of some crops that they are the test's, take those alone.

    Raises
    ------
    InputError
        Where there is nothing, or more than 5 % are no images.
    """
    from napari_leukocls.classification.dataset import MAX_UNREADABLE, read_labelled_crops
    from napari_leukocls.io.images import read_image
    from napari_leukocls.scheme import default_scheme

    crops = read_labelled_crops(data, default_scheme())
    if test_only:
        test = [crop for crop in crops if crop.split.strip().casefold() in TEST_WORDS]
        crops = test or crops
    kept: list[LabelledCrop] = []
    sizes: list[tuple[int, int]] = []
    bad: list[str] = []
    for crop in crops:
        try:
            height, width = read_image(crop.path).pixels.shape[:2]
        except InputError as error:
            log.debug("%s", error)
            bad.append(crop.file)
            continue
        kept.append(crop)
        sizes.append((height, width))
    if len(bad) > MAX_UNREADABLE * len(crops):
        raise InputError(
            f"{len(bad)} of {len(crops)} crops cannot be read (first {bad[0]}): check the data's files."
        )
    for name in bad:
        log.warning("%s is no readable image and was skipped.", name)
    return Gathered(kept, sizes, bad)


def truth_of(gathered: Gathered, classes: Sequence[str]) -> list[str]:
    """Class of each crop, in a model's classes where it is, or is part of, one of them."""
    from napari_leukocls.scheme import default_scheme

    scheme = default_scheme()
    return [scheme.coarsen(crop.class_name, classes) for crop in gathered.crops]
