"""Which files a model was trained on, so that nobody measures a model on them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.io.serialise import original_text, safe_text, sha256_of
from napari_leukocls.models.card import ModelCard, read_card
from napari_leukocls.models.card_parts import SplitRecord, TrainingData
from napari_leukocls.plurals import count_text

if TYPE_CHECKING:
    from napari_leukocls.models.registry import ModelEntry


SPLIT_NAME = "split.csv"
#: Columns of ``split.csv``. Older files have `OLD_COLUMN` in place of ``split``.
COLUMNS = ("file", "sha256", "class", "split", "reason")
OLD_COLUMN = "part"
#: A line for each file that a model learnt from: the start of the SHA-256 of its name. For public sets, of which there
#: are copies of several sizes under the same names.
NAMES_NAME = "learnt_names.txt"
#: Hexadecimal digits of each line.
DIGITS = 12
#: In the column ``split``: the crop is in none of the parts.
LEFT_OUT = "left out"

PARTS = ("train", "validation", "test")
#: Parts whose cells had a say in the weights, the thresholds or the choice of the epoch.
USED = ("train", "validation")

#: Words for the parts, in lower case.
SPELLINGS = {
    "train": "train", "training": "train", "fit": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "holdout": "test", "held-out": "test", "heldout": "test",
}  # fmt: skip


class CropFile(Protocol):
    """A crop: its name in the data (`file`), and the bytes of its image."""

    @property
    def file(self) -> str:
        """Name in the data."""

    def raw(self) -> bytes:
        """Return the bytes of the image."""


@dataclass(frozen=True)
class SplitRow:
    """One crop of a training.

    Attributes
    ----------
    file : str
        Name in the data.
    sha256 : str
        Of the image; empty if it could not be read.
    class_name : str
    split : str
        ``train``, ``validation`` or ``test``; empty if the crop was left out.
    reason : str
        Why it was left out.
    """

    file: str
    sha256: str
    class_name: str
    split: str
    reason: str = ""


def part_named(word: str, file: str) -> str:
    """Return the part of a split that a word of a table stands for.

    Parameters
    ----------
    word : str
        ``train``, ``validation``, ``test`` or a usual synonym; letter case does not matter. May be empty.
    file : str
        The crop, for the message.

    Returns
    -------
    str
        One of `PARTS`, or empty.

    Raises
    ------
    InputError
        If the word is another one.
    """
    known = word.strip().casefold()
    if known and known not in SPELLINGS:
        raise InputError(f"{file}: the column split says {word!r}: write train, validation or test.")
    return SPELLINGS.get(known, "")


def is_split_table(columns: Iterable[str]) -> bool:
    """Tell whether a table with these columns is the split of a model.

    Parameters
    ----------
    columns : iterable of str

    Returns
    -------
    bool
    """
    names = set(columns)
    return {"file", "sha256"} <= names and bool({"split", OLD_COLUMN} & names)


def write_split(path: Path, rows: Iterable[SplitRow]) -> None:
    """Write ``split.csv``.

    Parameters
    ----------
    path : Path
        Of the file.
    rows : iterable of SplitRow

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (row.file, row.sha256, row.class_name, row.split or LEFT_OUT, row.reason)
        writer.writerow([safe_text(cell) for cell in cells])
    atomic_text(path, text.getvalue())


def read_split(path: Path) -> list[SplitRow]:
    """Read ``split.csv``.

    Parameters
    ----------
    path : Path
        Of the file.

    Returns
    -------
    list of SplitRow
        As `write_split` takes them.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return split_rows(csv.DictReader(stream), path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"'{path}' cannot be read ({error}); copy the model again.") from error


def split_rows(rows: Iterable[Mapping[str, str]], path: Path) -> list[SplitRow]:
    """Convert the rows of a model's ``split.csv``.

    Parameters
    ----------
    rows : iterable of mapping
        Text by name of column.
    path : Path
        Of the file, for the message.

    Returns
    -------
    list of SplitRow

    Raises
    ------
    ModelError
        If a column is missing, or a part is unknown.
    """
    try:
        return [
            SplitRow(
                original_text(row["file"]),
                row["sha256"],
                original_text(row.get("class") or ""),
                ""
                if (part := row["split" if "split" in row else OLD_COLUMN]) == LEFT_OUT
                else part_named(part, row["file"]),
                row.get("reason") or "",
            )
            for row in rows
        ]
    except (KeyError, AttributeError, TypeError, InputError) as error:
        raise ModelError(f"'{path}' cannot be read ({error}); copy the model again.") from error


def used_hashes(entry: ModelEntry) -> set[str] | None:
    """Read the hashes of the files that a model was trained or tuned on.

    They are in ``split.csv`` beside the card, or in the card's ``split`` as lists under ``train`` and
    ``validation``.

    Parameters
    ----------
    entry : ModelEntry

    Returns
    -------
    set of str or None
        SHA-256 of each file; None if the folder does not list them.

    Raises
    ------
    ModelError
        If ``split.csv`` or the card cannot be read.
    """
    file = entry.path / SPLIT_NAME
    if file.is_file():
        return {row.sha256 for row in read_split(file) if row.split in USED and row.sha256}
    split = read_card(entry.path).split
    lists = [split.train, split.validation] if isinstance(split, SplitRecord) else []
    stated = [digests for digests in lists if digests is not None]
    return {digest for digests in stated for digest in digests} if stated else None


def seen_files(entry: ModelEntry, crops: Sequence[CropFile]) -> tuple[list[str], bool]:
    """Find crops that a model was trained or tuned on.

    Parameters
    ----------
    entry : ModelEntry
    crops : sequence of CropFile

    Returns
    -------
    files : list of str
        Names of those crops.
    known : bool
        Whether the model's folder lists its files, so that `files` is complete. It lists them by content
        (``split.csv``, or in the card) or by name (``learnt_names.txt``).
    """
    used, names = used_hashes(entry), _learnt_names(entry.path)
    if used is not None or names:
        hashes = used or set()
        return [
            crop.file
            for crop in crops
            if name_digest(crop.file) in names or (hashes and sha256_of(crop.raw()) in hashes)
        ], True
    listed = _digests_of_lists(read_card(entry.path))
    if listed & {
        _joined(Path(crop.file).name for crop in crops),
        _joined(sha256_of(crop.raw()) for crop in crops),
    }:
        return [crop.file for crop in crops], True
    return [], False


def name_digest(file: str) -> str:
    """Return the line of ``learnt_names.txt`` for a file.

    Parameters
    ----------
    file : str
        With or without folders.

    Returns
    -------
    str
    """
    return sha256_of(Path(file).name.encode())[:DIGITS]


def _learnt_names(folder: Path) -> set[str]:
    """Lines of ``learnt_names.txt``; none where there is no such file."""
    file = folder / NAMES_NAME
    return set(file.read_text(encoding="ascii").split()) if file.is_file() else set()


def note_seen(entry: ModelEntry, crops: Sequence[CropFile]) -> list[str]:
    """Say if a model is measured on crops that it was trained or tuned on.

    Parameters
    ----------
    entry : ModelEntry
    crops : sequence of CropFile

    Returns
    -------
    list of str
        One line, or none.
    """
    files, _ = seen_files(entry, crops)
    if not files:
        return []
    were = "was" if len(files) == 1 else "were"
    return [
        f"{len(files)} of {count_text(len(crops), 'crop')} (first {files[0]}) {were} used to train or tune "
        f"'{entry.name}': its figures are too good. Measure it on other cells."
    ]


def refuse_seen(entry: ModelEntry, crops: Sequence[CropFile]) -> list[str]:
    """Refuse crops that a model was trained or tuned on.

    Parameters
    ----------
    entry : ModelEntry
    crops : sequence of CropFile

    Returns
    -------
    list of str
        One line if the model's folder does not list its files.

    Raises
    ------
    InputError
        If the model was trained or tuned on one of them.
    """
    files, known = seen_files(entry, crops)
    if files:
        raise InputError(
            f"{len(files)} of {len(crops)} crops were used to train or tune '{entry.name}' (first "
            f"{files[0]}): judge it on cells of other patients, or on the test part of its split.csv if it has one."
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
