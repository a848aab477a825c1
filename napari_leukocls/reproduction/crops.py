"""The crops of a reproduction: those of the paper's classes, and one split for all networks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from napari_leukocls.classification.dataset import Listing, list_labelled
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import write_table
from napari_leukocls.models.provenance import PARTS
from napari_leukocls.progress import Progress
from napari_leukocls.reproduction.papers import Paper
from napari_leukocls.reproduction.plan import QUICK_CROPS
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.config import TrainConfig
from napari_leukocls.training.data import gather
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.split import make_split

T = TypeVar("T")

#: Table of the crops with their parts.
FILE = "crops.csv"


def data_set(of: Paper, listing: Listing) -> str:
    """Tell which of a paper's data sets some data is.

    Parameters
    ----------
    of : Paper
    listing : Listing

    Returns
    -------
    str
        Empty for a paper with one set only.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if not of.sets:
        return ""
    there = {crop.class_name.casefold() for crop in listing.crops}
    # The set with the most classes that are all there: the classes of one may be among those of another.
    fits = sorted((len(of.sets[name]), name) for name in of.sets if set(_names(of.sets[name])) <= there)
    if not fits:
        raise InputError(
            f"the data has none of the paper's sets of classes ({', '.join(of.sets)}): check the names of its classes."
        )
    return fits[-1][1]


def _names(classes: Sequence[str]) -> list[str]:
    scheme = default_scheme()
    return [(scheme.resolve(name) or name).casefold() for name in classes]


def prepare(
    of: Paper, data: str, config: TrainConfig, folder: Path, quick: bool
) -> Generator[Progress, None, tuple[Path, str, list[str]]]:
    """List the crops, divide them once for all networks, and write them as a table.

    Parameters
    ----------
    of : Paper
    data : str
    config : TrainConfig
        Of the first training: its shares, seed and groups.
    folder : Path
    quick : bool
        Take `QUICK_CROPS` of each class.

    Yields
    ------
    Progress

    Returns
    -------
    table : Path
    name : str
        Of the data set, as `data_set` gives it.
    notes : list of str
    """
    listing = list_labelled(data, default_scheme())
    name = data_set(of, listing)
    crops = list(listing.crops)
    notes = list(listing.notes)
    if name:
        wanted = set(_names(of.sets[name]))
        kept = [crop for crop in crops if crop.class_name.casefold() in wanted]
        if len(kept) < len(crops):
            notes.append(
                f"{len(crops) - len(kept)} crops of classes that the paper does not use are left out."
            )
        crops = kept
    notes += _other_classes(of, crops)
    if quick:
        crops = _some(crops)
    first = folder / f"all_{FILE}"
    _write(first, crops)
    steps = gather(config.model_copy(update={"data": str(first)}))
    dataset = yield from _progress(steps, notes)
    classes = sorted(set(dataset.labels))
    split = yield from _progress(make_split(dataset, config, classes), notes)
    parts = [PARTS[part] if part >= 0 else "" for part in split.part]
    divided = [replace(crop, split=part) for crop, part in zip(dataset.crops, parts, strict=True) if part]
    _write(folder / FILE, divided)
    first.unlink()
    counts = Counter(crop.split for crop in divided)
    notes.append("crops: " + ", ".join(f"{part} {counts[part]}" for part in PARTS) + ".")
    return folder / FILE, name, notes


def _other_classes(of: Paper, crops: Sequence[LabelledCrop]) -> list[str]:
    """A note if the data has other classes than the paper's: their numbers cannot be compared then."""
    there = {crop.class_name.casefold() for crop in crops}
    wanted = set(_names(of.classes)) or there
    if there == wanted:
        return []
    missing, more = sorted(wanted - there), sorted(there - wanted)
    words = [f"{word} {', '.join(names)}" for word, names in (("without", missing), ("with", more)) if names]
    return [f"this is not the paper's data ({' and '.join(words)}): its numbers and ours cannot be compared."]


def _progress(steps: Generator[TrainEvent, None, T], notes: list[str]) -> Generator[Progress, None, T]:
    """The steps of a part of a training; its warnings are added to the notes."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        if event.kind == "progress":
            yield Progress(event.data["stage"], event.data["done"], event.data["total"])
        elif event.kind == "warning":
            notes.append(event.data["message"])


def _some(crops: Sequence[LabelledCrop]) -> list[LabelledCrop]:
    """Crops of each class, evenly from all; if patients are known, those of a few patients."""
    by_class: dict[str, list[LabelledCrop]] = defaultdict(list)
    for crop in crops:
        by_class[crop.class_name].append(crop)
    return [
        members[row]
        for members in by_class.values()
        for row in np.unique(np.linspace(0, len(members) - 1, QUICK_CROPS).astype(int))
    ]


def _write(path: Path, crops: Sequence[LabelledCrop]) -> None:
    rows = [
        {
            "file": str(crop.path.resolve()),
            "class": crop.class_name,
            "patient": crop.patient,
            "slide": crop.slide,
            "split": crop.split,
            "um_per_px": "" if crop.um_per_px is None else crop.um_per_px,
            "mask": "" if crop.mask_path is None else str(crop.mask_path.resolve()),
        }
        for crop in crops
    ]
    write_table(pd.DataFrame(rows), path)
