"""What labelled data holds, before anybody trains on it: classes, parts, doubles, doubtful labels, missing patients."""

from __future__ import annotations

import difflib
import json
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.classification.crop_table import MASKS_FOLDER, write_crop_table
from napari_leukocls.classification.dataset import Dataset, Listing, list_labelled, read_dataset, truth_of
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.device import resolve_device
from napari_leukocls.evaluation.predict import predict_models
from napari_leukocls.io.atomic import atomic_bytes, make_folder
from napari_leukocls.io.inputs import safe_id
from napari_leukocls.io.serialise import sha256_of, write_json
from napari_leukocls.models.registry import find_model
from napari_leukocls.plurals import count_text
from napari_leukocls.progress import CancelToken, Progress, Steps
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.training.data import THUMB, near_pairs, one_spelling

#: Most pictures that are compared with each other: beyond, equal files alone are found.
MOST_COMPARED = 30_000
#: Probability of another class from which on a label is doubtful, and the most that its own class may have.
SURE, UNLIKELY = 0.9, 0.02
#: Overlap of two boxes with different labels that stand for one cell.
ONE_CELL = 0.8


@dataclass(frozen=True)
class Pair:
    """Two crops that show the same.

    Attributes
    ----------
    first, second : str
        Files.
    how : str
        ``same file``, ``looks alike`` or ``same place``.
    labels : tuple of str
        Of the two.
    parts : tuple of str
        Parts of the split; empty if there is none.
    """

    first: str
    second: str
    how: str
    labels: tuple[str, str]
    parts: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Doubt:
    """A label that a model contradicts.

    Attributes
    ----------
    file, label : str
    predicted : str
        The model's class.
    probability : float
        Of the model's class.
    """

    file: str
    label: str
    predicted: str
    probability: float


@dataclass
class Inspection:
    """What was found.

    Attributes
    ----------
    data, kind : str
        Path, and what it is.
    crops : int
        That can be read.
    counts : dict of str to dict of str to int
        Crops by class and part; the part is empty if the data names none.
    unreadable : list of str
    notes : list of str
        How the data was understood.
    images_without_label, boxes_outside : int
    unknown : dict of str to str
        Classes that the scheme does not have, and the nearest of its names (may be empty).
    without_patient, patients : int
        Crops without a patient or slide, and how many patients or slides there are.
    patients_in_several_parts : list of str
    doubles : list of Pair
        Crops that show the same with the same label.
    contradictions : list of Pair
        Crops that show the same with different labels.
    doubtful : list of Doubt
        The surest first.
    model : str
        That was asked; empty if none was.
    not_compared : bool
        Whether there were too many crops to find those that look alike.
    """

    data: str
    kind: str
    crops: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    images_without_label: int = 0
    boxes_outside: int = 0
    unknown: dict[str, str] = field(default_factory=dict)
    without_patient: int = 0
    patients: int = 0
    patients_in_several_parts: list[str] = field(default_factory=list)
    doubles: list[Pair] = field(default_factory=list)
    contradictions: list[Pair] = field(default_factory=list)
    doubtful: list[Doubt] = field(default_factory=list)
    model: str = ""
    not_compared: bool = False


def inspect(
    data: str | Path,
    model: str | None = None,
    device: str = "auto",
    um_per_px: float | None = None,
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, tuple[Inspection, Dataset]]:
    """Read labelled data and look for what makes a training or a measurement wrong.

    Parameters
    ----------
    data : path-like
        As `napari_leukocls.classification.dataset.list_labelled` takes it.
    model : str, optional
        Name or folder of a classifier that is asked about the labels. Labels that it contradicts are listed, not
        changed: the model may be wrong, too.
    device : str
    um_per_px : float, optional
        Pixel size of crops whose row states none; for the model.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    found : Inspection
    dataset : Dataset
        The crops that can be read.

    Raises
    ------
    InputError
        If there are none, or more than 5 % cannot be read.
    """
    scheme = default_scheme()
    listing = list_labelled(data, scheme)
    listing = replace(listing, crops=tuple(one_spelling(listing.crops)))
    dataset = yield from read_dataset(listing, hashes=True, thumbnail_px=THUMB)
    found = _counted(str(data), listing, dataset, scheme)
    yield Progress("check", 0, 1, "doubles")
    found.not_compared = len(dataset) > MOST_COMPARED
    for pair in _same(dataset, near=not found.not_compared):
        (found.doubles if pair.labels[0] == pair.labels[1] else found.contradictions).append(pair)
    if model:
        found.model = model
        found.doubtful = yield from _doubts(dataset, model, device, um_per_px, cancel or CancelToken())
    return found, dataset


def _counted(data: str, listing: Listing, dataset: Dataset, scheme: Scheme) -> Inspection:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    parts_of: dict[str, set[str]] = defaultdict(set)
    for crop in dataset.crops:
        counts[crop.class_name][crop.split] += 1
        if crop.patient or crop.slide:
            parts_of[f"patient {crop.patient}" if crop.patient else f"slide {crop.slide}"].add(crop.split)
    return Inspection(
        data,
        listing.kind,
        len(dataset),
        {name: dict(sorted(counts[name].items())) for name in sorted(counts)},
        dataset.skipped,
        list(listing.notes),
        listing.images_without_label,
        listing.outside,
        {name: nearest(name, scheme) for name in sorted(counts) if name not in scheme},
        sum(not crop.patient and not crop.slide for crop in dataset.crops),
        len(parts_of),
        sorted(owner for owner, parts in parts_of.items() if len(parts) > 1),
    )


def nearest(name: str, scheme: Scheme) -> str:
    """Find the class of the scheme whose name or spelling is most like a name.

    Parameters
    ----------
    name : str
    scheme : Scheme

    Returns
    -------
    str
        Empty if none is like it.
    """
    spellings = {
        spelling: entry.name for entry in scheme for spelling in (entry.name, entry.display, *entry.aliases)
    }
    folded = {spelling.casefold().replace("_", " "): one for spelling, one in spellings.items()}
    close = difflib.get_close_matches(name.casefold().replace("_", " "), list(folded), n=1, cutoff=0.7)
    return folded[close[0]] if close else ""


def _same(dataset: Dataset, near: bool) -> list[Pair]:
    """Pairs of crops that show the same: each crop with the first that it repeats."""
    how: dict[tuple[int, int], str] = {}
    first: dict[str, int] = {}
    for row, digest in enumerate(dataset.hashes):
        if first.setdefault(digest, row) != row:
            how[(first[digest], row)] = "same file"
    for one, other in _overlapping(dataset.crops):
        how.setdefault((one, other), "same place")
    if near and len(dataset) > 1:
        for one, other in near_pairs(dataset.thumbs).tolist():
            how.setdefault((one, other), "looks alike")
    crops = dataset.crops
    return [
        Pair(
            crops[one].file,
            crops[other].file,
            what,
            (crops[one].class_name, crops[other].class_name),
            (crops[one].split, crops[other].split),
        )
        for (one, other), what in sorted(how.items())
    ]


def _overlapping(crops: Sequence[LabelledCrop]) -> list[tuple[int, int]]:
    """Boxes of one field that stand for one cell."""
    by_field: dict[Path, list[int]] = defaultdict(list)
    for row, crop in enumerate(crops):
        if crop.box is not None:
            by_field[crop.path].append(row)
    found = []
    for rows in by_field.values():
        boxes = np.array([crops[row].box for row in rows], float)
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        common = np.clip(high - low, 0, None).prod(axis=2)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        share = common / (area[:, None] + area[None, :] - common)
        for one, other in np.argwhere(np.triu(share, 1) >= ONE_CELL):
            found.append((rows[one], rows[other]))
    return found


def _doubts(
    dataset: Dataset, model: str, device: str, um_per_px: float | None, cancel: CancelToken
) -> Steps[list[Doubt]]:
    """Labels that a model contradicts surely."""
    device = resolve_device(device)
    classifier = cached_classifier(find_model(model).path, device)
    outputs = yield from predict_models(dataset, [classifier], compact(device), um_per_px, cancel)
    predictions = outputs.models[0].predictions
    probabilities = predictions.probabilities
    index = {name: i for i, name in enumerate(classifier.classes)}
    strange = predictions.ood_score >= predictions.ood_threshold
    doubts = []
    for row, label in enumerate(truth_of(dataset, classifier.classes)):
        best = int(probabilities[row].argmax())
        # Of a class that it does not know, and of a picture unlike its own, the model's opinion says nothing.
        if label not in index or strange[row] or probabilities[row, index[label]] > UNLIKELY:
            continue
        if probabilities[row, best] >= SURE:
            crop = dataset.crops[row]
            doubts.append(
                Doubt(
                    crop.file,
                    crop.class_name,
                    classifier.classes[best],
                    round(float(probabilities[row, best]), 4),
                )
            )
    return sorted(doubts, key=lambda doubt: -doubt.probability)


def write_inspection(found: Inspection, dataset: Dataset, folder: str | Path) -> Path:
    """Write the project's own table of the data, the crops of cells in fields, and what was found.

    The table leaves out files that cannot be read, equal files after the first, and equal files with different
    labels. Crops that only look alike stay.

    Parameters
    ----------
    found : Inspection
    dataset : Dataset
        As `inspect` returned them.
    folder : path-like
        Gets ``crops.csv``, ``inspection.json`` and, of cells in fields, the folders ``crops`` and ``masks``.

    Returns
    -------
    Path
        Of the table, which ``train`` and ``evaluate`` read.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    target = make_folder(folder)
    gone = {pair.second for pair in found.doubles if pair.how != "looks alike"}
    torn = [pair for pair in found.contradictions if pair.how != "looks alike"]
    gone |= {file for pair in torn for file in (pair.first, pair.second)}
    used: set[str] = set()
    rows = [_own(crop, target, used) for crop in dataset.crops if crop.file not in gone]
    write_json(target / "inspection.json", {**asdict(found), "left_out_of_the_table": sorted(gone)})
    return write_crop_table(rows, target / "crops.csv")


def _own(crop: LabelledCrop, folder: Path, used: set[str]) -> LabelledCrop:
    """A crop with an image of its own; that of a cell in a field is written."""
    if crop.box is None:
        return crop
    field_name = safe_id("_".join(Path(crop.file.rsplit("#", 1)[0]).with_suffix("").parts[-2:]))
    name = f"{safe_id(crop.class_name)}/{field_name}-{'-'.join(str(side) for side in crop.box)}"
    if name.casefold() in used:
        name = f"{name}-{sha256_of(crop.file.encode('utf-8', 'surrogatepass'))[:8]}"
    used.add(name.casefold())
    written = {}
    for place, content in (("crops", crop.raw()), (MASKS_FOLDER, crop.raw_mask())):
        if content:
            written[place] = folder / place / f"{name}.png"
            make_folder(written[place].parent)
            atomic_bytes(written[place], content)
    return replace(
        crop,
        file=f"crops/{name}.png",
        path=written["crops"],
        mask_path=written.get(MASKS_FOLDER),
        box=None,
        outline=(),
    )


def lines_of(found: Inspection) -> list[str]:
    """Write what was found for people.

    Parameters
    ----------
    found : Inspection

    Returns
    -------
    list of str
    """
    parts = sorted({part for counts in found.counts.values() for part in counts})
    crops = count_text(found.crops, "crop")
    lines = [f"{found.data}: {found.kind}, {crops} of {count_text(len(found.counts), 'class', 'classes')}"]
    lines += [f"note: {note}" for note in found.notes]
    wide = max((len(name) for name in found.counts), default=0)
    for name, counts in sorted(found.counts.items(), key=lambda item: -sum(item[1].values())):
        split = (
            ", ".join(f"{part or 'no part'} {counts.get(part, 0)}" for part in parts) if any(parts) else ""
        )
        lines.append(f"  {name:<{wide}}  {sum(counts.values()):>6}  {split}".rstrip())
    if found.images_without_label:
        lines.append(f"{count_text(found.images_without_label, 'image')} without a label")
    for name, near in found.unknown.items():
        advice = f"the nearest is {near}" if near else "add it to your scheme.toml, or rename it"
        lines.append(f"unknown class '{name}': {advice}")
    if found.unreadable:
        lines.append(f"cannot be read: {_few(found.unreadable)}")
    if found.without_patient:
        lines.append(
            f"{found.without_patient} of {crops} without a patient or slide: cells of one person may be "
            "trained on and measured, and figures are then too good"
        )
    if found.patients_in_several_parts:
        lines.append(f"in more than one part: {_few(found.patients_in_several_parts)}")
    for pairs, what in (
        (found.contradictions, "the same with different labels"),
        (found.doubles, "the same twice"),
    ):
        shown = [f"{p.first} ({p.labels[0]}) and {p.second} ({p.labels[1]}), {p.how}" for p in pairs]
        if shown:
            lines.append(f"{count_text(len(pairs), 'pair')} of crops show {what}: {_few(shown, '; ')}")
    crossing = [pair for pair in (*found.doubles, *found.contradictions) if pair.parts[0] != pair.parts[1]]
    if crossing:
        lines.append(f"{count_text(len(crossing), 'pair')} of them are in different parts of the split")
    if found.not_compared:
        lines.append(
            "there are too many crops to search for those that look alike: equal files alone were searched"
        )
    if found.doubtful:
        shown = [
            f"{d.file} ({d.label}; the model says {d.predicted}, {d.probability:.2f})" for d in found.doubtful
        ]
        lines.append(f"{count_text(len(shown), 'label')} that {found.model} contradicts: {_few(shown, '; ')}")
    elif found.model:
        lines.append(f"{found.model} contradicts no label surely")
    return lines


def _few(texts: Sequence[str], sign: str = ", ", most: int = 5) -> str:
    return sign.join(texts[:most]) + (f"{sign}and {len(texts) - most} more" if len(texts) > most else "")


def as_json(found: Inspection) -> dict[str, object]:
    """Convert what was found for a machine.

    Parameters
    ----------
    found : Inspection

    Returns
    -------
    dict
    """
    plain: dict[str, object] = json.loads(json.dumps(asdict(found)))
    return plain
