"""What of a dataset is trained on; look-alikes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import dctn
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from napari_leukocls.architectures.red_cell_net import RED_CELL_NET
from napari_leukocls.classification.dataset import MAX_UNREADABLE, Dataset, list_labelled, read_dataset
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.images import IMAGE_SUFFIXES
from napari_leukocls.plurals import first_names
from napari_leukocls.review import open_store
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.training.events import TrainEvent, progress_events

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

#: Side of the small pictures by which crops are compared.
THUMB = 32
#: Files named in a warning; the others are counted.
NAMED = 3
#: Side of the block of low frequencies; its signs are the perceptual hash.
FREQUENCIES = 12
#: Share of the hash's signs that may differ in pictures that look alike.
MAX_DIFFERENT = 0.12
#: Least correlation of the small colour pictures of crops that look alike.
MIN_CORRELATION = 0.985
#: Pictures that are compared with all others at a time.
_ROWS = 1024


def gather(config: TrainConfig, known: Sequence[str] = ()) -> Generator[TrainEvent, None, Dataset]:
    """List, read and check the labelled crops of a training.

    Parameters
    ----------
    config : TrainConfig
    known : sequence of str
        Classes of the model to start from; finer classes are taken for these.

    Yields
    ------
    TrainEvent

    Raises
    ------
    InputError
        Where the data cannot be trained on.
    """
    scheme = default_scheme()
    crops: list[LabelledCrop] = []
    if config.data:
        listing = list_labelled(config.data, scheme)
        crops = list(listing.crops)
        for note in listing.notes:
            yield _warning(note)
    if config.corrections:
        wanted = {*known, *(scheme.resolve(crop.class_name) or "" for crop in crops)}
        shapes = config.arch == RED_CELL_NET or bool(wanted & set(scheme.shapes()))
        crops = [*crops, *_corrections(config.corrections, shapes)]
    if config.ready_crops and any(crop.box is not None for crop in crops):
        raise InputError(
            "--ready-crops is for crops at the model's scale, and these are boxes in images of fields: leave it out."
        )
    crops = one_spelling(crops)
    if known:
        crops = [replace(crop, class_name=scheme.coarsen(crop.class_name, known)) for crop in crops]
    crops, dropped = _leave_out(crops, config.leave_out, scheme)
    for line in _foreign({crop.class_name for crop in crops}.difference(known), scheme, config.rehearse):
        yield _warning(line)
    dataset = yield from _read_all(crops)
    dataset = replace(dataset, left_out=(*dropped, *dataset.left_out))
    dataset = yield from _settle_labels(dataset)
    check_classes(dataset.labels, known)
    return dataset


def _foreign(names: set[str], scheme: Scheme, adapting: bool) -> list[str]:
    """What is said of classes that the scheme does not have: no smear can be analysed by a model of them.

    A laboratory's own model is for its smears, and is refused at once. Researchers train on other cells, too.
    """
    foreign = sorted(name for name in names if name not in scheme)
    if not foreign:
        return []
    more = f" (and {len(foreign) - 1} more: {', '.join(foreign[1:])})" if len(foreign) > 1 else ""
    try:
        scheme[foreign[0]]
    except ArgumentError as error:
        if adapting:
            raise ArgumentError(f"{error}{more}") from error
        return [f"{error}{more} Until then no smear can be analysed with the model."]
    return []


def has_classes(data: str | Path) -> bool:
    """Tell whether data names classes.

    Parameters
    ----------
    data : path-like
        A folder, a table or an image.

    Returns
    -------
    bool
        True for what a training takes; false for a folder of images and for a table of their names.
    """
    path = Path(data)
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return False
    try:
        return bool(list_labelled(path, default_scheme()).crops)
    except InputError:
        # What names no class is a folder of images, or a table of their names.
        return False


def _corrections(address: str, shapes: bool) -> list[LabelledCrop]:
    """Crops that people have corrected, from a review store: leukocytes, or red cells with their shapes."""
    with open_store(None if address == "default" else address) as store:
        rows: list[LabelledCrop] = list(store.crop_table(shapes=shapes))
    if not rows:
        raise InputError(f"the review store {address!r} holds no correction: correct some cells first.")
    return rows


def one_spelling(crops: Sequence[LabelledCrop]) -> list[LabelledCrop]:
    """Give classes that differ only in letter case or in spaces their most frequent spelling.

    Parameters
    ----------
    crops : sequence of LabelledCrop

    Returns
    -------
    list of LabelledCrop
    """
    counts = Counter(crop.class_name for crop in crops)
    chosen: dict[str, str] = {}
    # The most frequent first; of equals the alphabetically first, so that the order of files says nothing.
    for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        chosen.setdefault(" ".join(name.split()).casefold(), " ".join(name.split()))
    return [replace(crop, class_name=chosen[" ".join(crop.class_name.split()).casefold()]) for crop in crops]


def _leave_out(
    crops: list[LabelledCrop], names: Sequence[str], scheme: Scheme
) -> tuple[list[LabelledCrop], list[tuple[str, str]]]:
    unwanted = {(scheme.resolve(name) or name).casefold() for name in names}
    there = {crop.class_name.casefold() for crop in crops}
    missing = sorted(unwanted - there)
    if missing:
        raise InputError(f"leave_out names {missing[0]!r}, but the data has no such class: correct it.")
    kept = [crop for crop in crops if crop.class_name.casefold() not in unwanted]
    dropped = [
        (crop.file, "its class is left out") for crop in crops if crop.class_name.casefold() in unwanted
    ]
    return kept, dropped


def _read_all(crops: Sequence[LabelledCrop]) -> Generator[TrainEvent, None, Dataset]:
    """Read each file, and warn of those that cannot be read."""
    dataset = yield from progress_events(read_dataset(crops, hashes=True, thumbnail_px=THUMB))
    bad = dataset.left_out
    if bad:
        names = first_names((file for file, _ in bad), NAMED)
        yield _warning(f"{len(bad)} of {len(crops)} crops cannot be read and are skipped: {names}.")
    return dataset


def _settle_labels(dataset: Dataset) -> Generator[TrainEvent, None, Dataset]:
    """Leave out files that occur with different labels: one of them is wrong, and nobody knows which."""
    by_hash: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(dataset.hashes):
        by_hash[digest].append(row)
    labels = dataset.labels
    torn = [rows for rows in by_hash.values() if len({labels[row] for row in rows}) > 1]
    if not torn:
        return dataset
    first = " and ".join(f"{dataset.crops[row].file} ({labels[row]})" for row in torn[0][:2])
    count = sum(len(rows) for rows in torn)
    if count > MAX_UNREADABLE * len(dataset):
        raise InputError(
            f"{count} of {len(dataset)} crops are the same image with different labels (first {first}): "
            "correct the labels."
        )
    yield _warning(f"{count} crops are the same image with different labels and are left out: first {first}.")
    gone = {row for rows in torn for row in rows}
    kept = [row for row in range(len(dataset)) if row not in gone]
    return dataset.keep(
        kept, [(dataset.crops[row].file, "its labels contradict each other") for row in sorted(gone)]
    )


def check_classes(labels: Sequence[str], known: Sequence[str]) -> None:
    """Refuse what no classifier can be trained on.

    Parameters
    ----------
    labels : sequence of str
        Class of each crop.
    known : sequence of str
        Classes of the model to start from.

    Raises
    ------
    InputError
        For a class with one crop, and where there is one class only.
    """
    counts = Counter(labels)
    if len(set(counts) | set(known)) < 2:
        only = next(iter(counts), "none")
        raise InputError(f"the data has one class only ({only}): a classifier needs two or more.")
    single = sorted(name for name, count in counts.items() if count < 2 and name not in known)
    if single:
        others = f" (and {len(single) - 1} more)" if len(single) > 1 else ""
        raise InputError(
            f"the class {single[0]!r}{others} has one crop: add some, or leave it out with --leave-out."
        )


def _warning(message: str) -> TrainEvent:
    return TrainEvent("warning", {"message": message})


def same_pictures(hashes: Sequence[str], thumbs: np.ndarray, near: bool = True) -> np.ndarray:
    """Group crops that show the same picture.

    Parameters
    ----------
    hashes : sequence of str, length N
        Of the files: equal ones are one picture.
    thumbs : numpy.ndarray, (N, S, S, 3), uint8
        Small pictures.
    near : bool
        Whether to compare the small pictures.

    Returns
    -------
    numpy.ndarray, (N,), int
        Number of each crop's group.
    """
    _, first = np.unique(np.asarray(hashes), return_inverse=True)
    if not near or len(hashes) < 2:
        return first
    pairs = near_pairs(thumbs)
    return join(first, pairs)


def join(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Merge the groups of rows that are paired.

    Parameters
    ----------
    groups : numpy.ndarray, (N,), int
        0 or more.
    pairs : numpy.ndarray, (P, 2), int
        Rows.

    Returns
    -------
    numpy.ndarray, (N,), int
        Number of each row's group.
    """
    count = int(groups.max(initial=-1)) + 1
    ends = groups[np.asarray(pairs, np.intp).reshape(-1, 2)]
    graph = csr_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, merged = connected_components(graph, directed=False)
    array: np.ndarray = merged[groups]
    return array


def near_pairs(thumbs: np.ndarray) -> np.ndarray:
    """Find pictures that look the same, in any of the eight rotations and mirror images.

    Parameters
    ----------
    thumbs : numpy.ndarray, (N, S, S, 3), uint8

    Returns
    -------
    numpy.ndarray, (P, 2), int
        Rows.
    """
    signs = _signs(thumbs)
    colours = _unit(thumbs)
    found = [np.zeros((0, 2), np.intp)]
    limit = signs.shape[1] * (1 - 2 * MAX_DIFFERENT)
    for turned in _turns(thumbs):
        other, their_colours = _signs(turned), _unit(turned)
        for start in range(0, len(thumbs), _ROWS):
            row, column = np.nonzero(signs[start : start + _ROWS] @ other.T >= limit)
            row += start
            ahead = row < column
            row, column = row[ahead], column[ahead]
            alike = np.einsum("nd,nd->n", colours[row], their_colours[column]) >= MIN_CORRELATION
            found.append(np.stack([row[alike], column[alike]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _turns(thumbs: np.ndarray) -> list[np.ndarray]:
    mirrored = thumbs[:, :, ::-1]
    return [np.rot90(side, turn, (1, 2)) for side in (thumbs, mirrored) for turn in range(4)]


def _signs(thumbs: np.ndarray) -> np.ndarray:
    """Perceptual hash (N, D) of -1 and 1."""
    grey = np.asarray(thumbs, np.float32).mean(axis=3)
    low = dctn(grey, axes=(1, 2))[:, :FREQUENCIES, :FREQUENCIES].reshape(len(grey), -1)[:, 1:]
    return np.where(low > 0, 1, -1).astype(np.float32)


def _unit(thumbs: np.ndarray) -> np.ndarray:
    """Colour pictures as vectors of length 1 and mean 0; a picture of one colour alone is its own."""
    flat = np.asarray(thumbs, np.float32).reshape(len(thumbs), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    array: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return array
