"""Which files a model was trained on, as its folder says it: so that nobody measures a model on them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import ModelCard, SplitRecord, TrainingData, read_card

if TYPE_CHECKING:
    from napari_leukocls.models.registry import ModelEntry


class CropFile(Protocol):
    """A crop as its data names it (`file`), and where it lies (`path`)."""

    @property
    def file(self) -> str:
        """As the data names it."""

    @property
    def path(self) -> Path:
        """Where it lies."""


SPLIT_NAME = "split.csv"

#: Parts whose cells had a say in the weights, the thresholds or the choice of the epoch.
USED = ("train", "validation")


def used_hashes(entry: ModelEntry) -> set[str] | None:
    """Hashes of the files that a model was trained or tuned on; None where its folder does not say.

    They are in ``split.csv`` beside the card (columns ``sha256`` and ``part``), or in the card's ``split``
    as lists under ``train`` and ``validation``.

    Raises
    ------
    ModelError
        Where ``split.csv`` is there and cannot be read.
    """
    file = entry.path / SPLIT_NAME
    if file.is_file():
        try:
            with open(file, encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            return {row["sha256"] for row in rows if row["part"] in USED and row["sha256"]}
        except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
            raise ModelError(f"'{file}' cannot be read ({error}); copy the model again.") from error
    split = read_card(entry.path).split
    lists = [split.train, split.validation] if isinstance(split, SplitRecord) else []
    stated = [digests for digests in lists if digests is not None]
    return {digest for digests in stated for digest in digests} if stated else None


def seen_files(entry: ModelEntry, crops: Sequence[CropFile]) -> tuple[list[str], bool]:
    """Files among `crops` that a model was trained or tuned on, and whether its folder tells enough."""
    used = used_hashes(entry)
    if used is not None:
        return [crop.file for crop in crops if sha256_of(crop.path) in used], True
    listed = _digests_of_lists(read_card(entry.path))
    if listed & {
        _joined(Path(crop.file).name for crop in crops),
        _joined(sha256_of(c.path) for c in crops),
    }:
        return [crop.file for crop in crops], True
    return [], False


def refuse_seen(entry: ModelEntry, crops: Sequence[CropFile]) -> list[str]:
    """Refuse crops that a model was trained or tuned on.

    Returns
    -------
    list of str
        One line where that cannot be told.

    Raises
    ------
    InputError
        Where there is one.
    """
    files, known = seen_files(entry, crops)
    if files:
        raise InputError(
            f"{len(files)} of {len(crops)} crops were used to train or tune '{entry.name}' (first "
            f"{files[0]}): judge it on other cells, such as the test part of its split.csv."
        )
    if known:
        return []
    return [f"the card of '{entry.name}' does not list its training files: make sure that these are others."]


def _digests_of_lists(card: ModelCard) -> set[str]:
    """Hashes of whole lists of files that a card names."""
    found: list[str | None] = []
    if isinstance(card.training_data, TrainingData):
        found.append(card.training_data.files_sha256)
    if isinstance(card.split, SplitRecord) and card.split.files_sha256 is not None:
        found += [card.split.files_sha256.get(part) for part in USED]
    return {digest for digest in found if digest}


def _joined(names: Iterable[str]) -> str:
    return sha256_of("\n".join(sorted(names)).encode())
