"""Training, validation and test parts: stratified by class; crops that belong together stay in one part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.classification.dataset import Dataset
from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.provenance import PARTS, part_named
from napari_leukocls.training.data import join, same_pictures
from napari_leukocls.training.events import TrainEvent

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig


@dataclass(frozen=True)
class Split:
    """Which part each crop is in.

    Attributes
    ----------
    part : numpy.ndarray, (N,), int
        Index into `PARTS`; -1 where a crop is in none.
    units : numpy.ndarray, (N,), int
        Crops of one unit are in one part.
    record : dict
        How it was made, for the card.
    """

    part: np.ndarray
    units: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)

    def rows(self, name: str) -> np.ndarray:
        """Return the rows of a part.

        Parameters
        ----------
        name : str
            One of `PARTS`.

        Returns
        -------
        numpy.ndarray, int
        """
        return np.flatnonzero(self.part == PARTS.index(name))


def owners(dataset: Dataset, group_by: str, allow_unknown_patients: bool = False) -> tuple[list[str], str]:
    """Return the patient or slide of each crop, and by which of the two crops are grouped.

    Parameters
    ----------
    dataset : Dataset
    group_by : str
    allow_unknown_patients : bool
        Whether crops without a patient are accepted where `group_by` is ``patient``; those are grouped by slide, or
        not at all.

    Returns
    -------
    names : list of str
        "" if a crop has neither.
    group : str
    """
    crops = dataset.crops
    if group_by == "patient":
        unknown = sum(not crop.patient for crop in crops)
        if unknown and not allow_unknown_patients:
            raise InputError(
                f"{unknown} of {len(crops)} crops have no patient, and a split by patient was asked for: add the "
                "column patient, or accept it with --allow-unknown-patients, which the card will say."
            )
        group_by = "patient" if unknown < len(crops) else "auto"
    if group_by == "auto":
        group_by = (
            "patient" if any(c.patient for c in crops) else "slide" if any(c.slide for c in crops) else "none"
        )
    if group_by == "none":
        return [""] * len(crops), "none"
    if not any(crop.patient if group_by == "patient" else crop.slide for crop in crops):
        raise InputError(f"the data has no column {group_by}: give --group-by auto, or add the column.")
    # If the patient of a crop is not known, its slide is used.
    return [
        f"p:{crop.patient}"
        if group_by == "patient" and crop.patient
        else f"s:{crop.slide}"
        if crop.slide
        else ""
        for crop in crops
    ], group_by


def units_of(dataset: Dataset, group_by: str, near: bool, allow_unknown_patients: bool = False) -> np.ndarray:
    """Number the units that stay in one part: the crops of a patient or slide, and pictures that look the same.

    Parameters
    ----------
    dataset : Dataset
    group_by : str
    near : bool
        Whether to compare the pictures.
    allow_unknown_patients : bool
        As `owners` takes it.

    Returns
    -------
    numpy.ndarray, (N,), int
    """
    pictures = same_pictures(dataset.hashes, dataset.thumbs, near)
    names, _ = owners(dataset, group_by, allow_unknown_patients)
    return join(pictures, chain_pairs(names))


def chain_pairs(names: Sequence[str]) -> np.ndarray:
    """Return pairs of rows that join the rows of each name; empty names join nothing.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    numpy.ndarray, (P, 2), int
    """
    last: dict[str, int] = {}
    pairs = []
    for row, name in enumerate(names):
        if name:
            if name in last:
                pairs.append((last[name], row))
            last[name] = row
    return np.array(pairs, np.intp).reshape(-1, 2)


def assign(
    units: np.ndarray, classes: np.ndarray, shares: Sequence[float], random: np.random.Generator
) -> np.ndarray:
    """Put units into parts so that every class comes as near to the shares as whole units allow.

    Parameters
    ----------
    units : numpy.ndarray, (N,), int
    classes : numpy.ndarray, (N,), int
        0 or more.
    shares : sequence of float, length P
        They sum to 1.
    random : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, (N,), int
        Part of each row.
    """
    _, number = np.unique(units, return_inverse=True)
    held = np.zeros((number.max(initial=-1) + 1, int(classes.max(initial=-1)) + 1))
    np.add.at(held, (number, classes), 1)
    totals = np.maximum(held.sum(axis=0), 1)
    target = np.asarray(shares, float)[:, None] * totals
    filled = np.zeros_like(target)
    part = np.empty(len(held), np.intp)
    order = random.permutation(len(held))
    # Large units first, while there is room to make up for them; the shuffle decides among equals.
    order = order[np.argsort(-(held[order] / totals).max(axis=1), kind="stable")]
    open_parts = np.asarray(shares) > 0
    for unit in order:
        # Change of the squared distance from the target, each class on its own scale.
        cost = (((2 * (filled - target) + held[unit]) * held[unit]) / (totals**2)).sum(axis=1)
        # Relative to the part's size: one crop too many weighs more in a small part.
        cost = cost / np.maximum(np.asarray(shares), 1e-9)
        cost[~open_parts] = np.inf
        chosen = int(cost.argmin())
        part[unit] = chosen
        filled[chosen] += held[unit]
    return part[number]


def make_split(
    dataset: Dataset, config: TrainConfig, classes: Sequence[str], seed: int | None = None
) -> Generator[TrainEvent, None, Split]:
    """Split a dataset, or take the split that its table gives.

    Parameters
    ----------
    dataset : Dataset
    config : TrainConfig
    classes : sequence of str
    seed : int, optional
        By default the configuration's.

    Yields
    ------
    TrainEvent

    Returns
    -------
    Split

    Raises
    ------
    InputError
        Where a patient would be on both sides, or a part that is needed stays empty.
    """
    seed = config.seed if seed is None else seed
    yield TrainEvent("progress", {"stage": "split", "done": 0, "total": 1})
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[name] for name in dataset.labels])
    unknown = config.allow_unknown_patients
    units = units_of(dataset, config.group_by, config.near_duplicates, unknown)
    grouped = owners(dataset, config.group_by, unknown)[1]
    record: dict[str, Any] = {"seed": seed, "grouped_by": grouped}
    if config.group_by == "patient" and any(not crop.patient for crop in dataset.crops):
        record["unknown_patients"] = sum(not crop.patient for crop in dataset.crops)
        message = (
            f"{record['unknown_patients']} crops have no patient: crops of one person may be on both sides of the "
            "split, and the figures too good."
        )
        yield TrainEvent("warning", {"message": message})
    random = np.random.default_rng(seed)
    shares = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
    if any(crop.split.strip() for crop in dataset.crops):
        part = yield from _given_split(dataset, units, labels, config, random)
        record |= {"method": "as the table gives it"}
    else:
        part = assign(units, labels, shares, random)
        record |= {"method": "stratified by class, units whole", "shares": list(shares)}
    split = Split(part, units, record)
    crossing = crossing_owners(dataset, split)
    if crossing and not config.allow_leakage:
        raise InputError(
            f"{len(crossing)} patients or slides are on both sides of the split (first {crossing[0]}): "
            "correct it, or accept it with --allow-leakage, which the card will say."
        )
    record["leakage"] = {"allowed": config.allow_leakage, "on_both_sides": crossing}
    yield from _say(split, dataset, classes, crossing)
    return split


def given_part(dataset: Dataset) -> np.ndarray:
    """Return the part that the table gives each crop.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    numpy.ndarray, (N,), int
    """
    part = []
    for crop in dataset.crops:
        name = part_named(crop.split, crop.file)
        if not name:
            raise InputError(f"{crop.file}: the column split is empty: write train, validation or test.")
        part.append(PARTS.index(name))
    return np.array(part)


def _given_split(
    dataset: Dataset,
    units: np.ndarray,
    labels: np.ndarray,
    config: TrainConfig,
    random: np.random.Generator,
) -> Generator[TrainEvent, None, np.ndarray]:
    part = given_part(dataset)
    if not (part == 1).any() and config.validation_share > 0:
        rows = np.flatnonzero(part == 0)
        share = min(0.5, config.validation_share / max(1 - config.test_share, 0.1))
        part[rows] = assign(units[rows], labels[rows], (1 - share, share), random)
        yield TrainEvent("log", {"message": "the table has no validation part: one is taken from training."})
    # Pictures that look the same stay where they are measured: the copy in the training part is left out.
    pictures = same_pictures(dataset.hashes, dataset.thumbs, config.near_duplicates)
    spoilt = np.zeros(len(part), bool)
    for side, cleaner in ((0, (1, 2)), (1, (2,))):
        measured = np.unique(pictures[np.isin(part, cleaner)])
        spoilt |= (part == side) & np.isin(pictures, measured)
    if spoilt.any() and not config.allow_leakage:
        first = dataset.crops[int(np.flatnonzero(spoilt)[0])].file
        message = (
            f"{spoilt.sum()} crops look the same as crops of a later part and are left out: first {first}."
        )
        yield TrainEvent("warning", {"message": message})
        part[spoilt] = -1
    return part


def crossing_owners(dataset: Dataset, split: Split) -> list[str]:
    """Return the patients, and the slides of crops without one, that are in more than one part.

    Parameters
    ----------
    dataset : Dataset
    split : Split

    Returns
    -------
    list of str
        Sorted.
    """
    parts_of: dict[str, set[int]] = {}
    for crop, part in zip(dataset.crops, split.part, strict=True):
        owner = f"patient {crop.patient}" if crop.patient else f"slide {crop.slide}" if crop.slide else ""
        if owner and part >= 0:
            parts_of.setdefault(owner, set()).add(int(part))
    return sorted(owner for owner, parts in parts_of.items() if len(parts) > 1)


def _say(
    split: Split, dataset: Dataset, classes: Sequence[str], crossing: list[str]
) -> Generator[TrainEvent, None, None]:
    labels = np.array(dataset.labels)
    counts = {part: dict(Counter(labels[split.rows(part)].tolist())) for part in PARTS}
    split.record["counts"] = counts
    split.record["files_sha256"] = {part: digest_of(dataset, split.rows(part)) for part in PARTS}
    if not counts["train"] or not counts["validation"]:
        missing = "training" if not counts["train"] else "validation"
        raise InputError(f"the {missing} part is empty: add crops, or change the shares or the split column.")
    for part in ("train", "validation", *(["test"] if counts["test"] else [])):
        absent = [name for name in classes if name in set(labels.tolist()) and not counts[part].get(name)]
        if absent:
            message = f"no {absent[0]!r} is in the {part} part (all its crops belong together, or are few)."
            yield TrainEvent("warning", {"message": message})
    if crossing:
        message = f"{len(crossing)} patients or slides are on both sides of the split: figures are too good."
        yield TrainEvent("warning", {"message": message})
    yield TrainEvent(
        "split",
        {
            "counts": counts,
            "classes": list(classes),
            "grouped_by": split.record["grouped_by"],
            "units": int(len(np.unique(split.units))),
            "left_out": len(dataset.left_out) + int((split.part < 0).sum()),
            "leakage": crossing,
        },
    )


def digest_of(dataset: Dataset, rows: np.ndarray) -> str:
    """Return the SHA-256 of the sorted hashes of some files, which names a part in the card.

    Parameters
    ----------
    dataset : Dataset
    rows : numpy.ndarray, int

    Returns
    -------
    str
    """
    names = "\n".join(sorted(dataset.hashes[row] for row in rows))
    return sha256_of(names.encode())
