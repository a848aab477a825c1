"""Folders of class folders, with the parts of a split or the patients above or below the classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_leukocls.datasets.marked import Labels, Marked, files_below, is_hidden, is_image
from napari_leukocls.errors import InputError
from napari_leukocls.models.provenance import SPELLINGS
from napari_leukocls.plurals import count_text, first_names
from napari_leukocls.scheme import Scheme

#: Names of folders that say nothing of a class or a patient.
_GENERAL = frozenset("images image imgs img pictures data crops cells fields all photos jpegimages".split())
#: Share of the images whose folder has the name of a known class, from which on these folders are the classes.
_MOST = 0.5

#: Words that stand beside ``train`` or ``test`` in names of folders.
_WITH_PARTS = frozenset(
    "set sets data dataset image images img imgs crop crops cell cells split part fold subset folder simple".split()
)

Parts = tuple[str, ...]


def split_word(name: str) -> str:
    """Return the part of a split that a folder is named after.

    Parameters
    ----------
    name : str
        ``train``, ``Validation``, ``02_test``, ``TestA``, ``training_set``, ``val2017``.

    Returns
    -------
    str
        ``train``, ``validation`` or ``test``; empty if it is another name.
    """
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    if plain in SPELLINGS:
        return SPELLINGS[plain]
    words = [word for word in re.findall(r"[^\W\d_]+", plain) if len(word) > 1 and word not in _WITH_PARTS]
    if len(words) != 1:
        return ""
    return SPELLINGS.get(words[0]) or SPELLINGS.get(words[0].removesuffix("s"), "")


def _is_masks(name: str) -> bool:
    """Whether a folder holds masks of cells, and no images of them."""
    return "mask" in name.casefold()


def read_folders(folder: Path, scheme: Scheme) -> Labels:
    """Read the labels of images from the names of their folders.

    The classes are those folders that have names of the scheme. If no folder has, they are the uppermost that are
    not named after the parts of a split. Folders above the classes are the parts of a split, or else patients.

    Parameters
    ----------
    folder : Path
    scheme : Scheme

    Returns
    -------
    Labels
        `class_text` is the name of the folder.

    Raises
    ------
    InputError
        If the folders can be read in more than one way.
    """
    found: list[tuple[Parts, Path]] = []
    for path in files_below(folder):
        parts = path.relative_to(folder).parts[:-1]
        if is_image(path) and not any(_is_masks(part) for part in parts):
            found.append((parts, path))
    inside = [(parts, path) for parts, path in found if parts]
    if not inside:
        return Labels("class folders", ())
    level = _class_level([parts for parts, _ in inside], scheme)
    names = {parts[level] for parts, _ in inside if len(parts) > level}
    if all(name.casefold() in _GENERAL for name in names):
        return Labels("class folders", ())
    placed = [(parts, path) for parts, path in inside if len(parts) > level]
    loose = [(parts, path) for parts, path in found if len(parts) <= level]
    _refuse_mixture(folder, loose, placed, level, scheme)
    splits, groups, notes = _above(folder, [parts for parts, _ in placed], level)
    notes += _below(placed, level, splits, groups)
    unnamed = _parts_without_classes([parts for parts, _ in placed], level, scheme)
    rows, left = [], Counter(parts[-1] if parts else folder.name for parts, _ in loose)
    for parts, path in placed:
        if parts[level] in unnamed:
            left[parts[level]] += 1
            continue
        split = next((splits[name] for name in parts if name in splits), "")
        group = "/".join(name for i, name in enumerate(parts) if (i, name) in groups)
        file = path.relative_to(folder).as_posix()
        rows.append(Marked(file, path, parts[level], split=split, group=group))
    for name, n in sorted(left.items()):
        why = (
            "is named after a part of a split and has no class folders"
            if name in unnamed
            else "holds no class folder"
        )
        if name != folder.name or name in unnamed:
            notes.append(
                f"the folder '{name}' {why}: {count_text(n, 'image')} in it {'is' if n == 1 else 'are'} left out."
            )
        else:
            notes.append(
                f"{count_text(n, 'image')} outside the class folders {'is' if n == 1 else 'are'} left out."
            )
    notes += _empty(folder, level, {row.class_text for row in rows})
    sure = level == 0 or bool(splits)
    sure = sure and any(scheme.resolve(row.class_text) is not None for row in rows)
    return Labels("class folders" + (" with a split" if splits else ""), tuple(rows), tuple(notes), sure=sure)


def _class_level(every: Sequence[Parts], scheme: Scheme) -> int:
    """Which folder of a path names the class: 0 for the uppermost."""
    deepest = max(len(parts) for parts in every)
    known = [
        sum(len(p) > i and scheme.resolve(p[i]) is not None for p in every) / len(every)
        for i in range(deepest)
    ]
    best = max(range(deepest), key=lambda i: (known[i], -i))
    if known[best] >= _MOST:
        return best
    for i in range(deepest):
        names = {parts[i] for parts in every if len(parts) > i}
        wrapper = len(names) == 1 and all(len(parts) > i + 1 for parts in every)
        if not wrapper and not all(split_word(name) for name in names):
            return i
    return deepest - 1


def _refuse_mixture(
    folder: Path,
    loose: Sequence[tuple[Parts, Path]],
    placed: Sequence[tuple[Parts, Path]],
    level: int,
    scheme: Scheme,
) -> None:
    """Refuse class folders at two depths."""
    higher = sorted(
        {"/".join(parts) for parts, _ in loose if parts and scheme.resolve(parts[-1]) is not None}
    )
    deeper = sorted(
        {
            "/".join(parts[: level + 2])
            for parts, _ in placed
            if len(parts) > level + 1 and split_word(parts[level]) and scheme.resolve(parts[level]) is None
        }
    )
    if higher or deeper:
        one = higher[0] if higher else sorted({"/".join(parts[: level + 1]) for parts, _ in placed})[0]
        other = deeper[0] if deeper else sorted({"/".join(parts[: level + 1]) for parts, _ in placed})[0]
        raise InputError(
            f"{folder} has class folders at different depths ({one} and {other}): put all of them into train, "
            "validation and test, or none."
        )


def _parts_without_classes(every: Iterable[Parts], level: int, scheme: Scheme) -> set[str]:
    """Folders beside known classes that are named after a part of a split."""
    names = {parts[level] for parts in every}
    if not any(scheme.resolve(name) for name in names):
        return set()
    return {name for name in names if split_word(name) and scheme.resolve(name) is None}


def _above(
    folder: Path, every: Sequence[Parts], level: int
) -> tuple[dict[str, str], set[tuple[int, str]], list[str]]:
    """What the folders above the classes are: parts of a split, or patients."""
    splits: dict[str, str] = {}
    groups: set[tuple[int, str]] = set()
    notes = []
    classes = first_names(sorted({parts[level] for parts in every}), 12)
    for i in range(level):
        names = sorted({parts[i] for parts in every})
        words = {name: split_word(name) for name in names}
        if all(words.values()):
            splits |= words
            taken = ", ".join(
                f"{name} ({word})" if name.casefold() != word else name for name, word in words.items()
            )
            notes.append(
                f"the folders {taken} are parts of a split; the classes are the folders in them: {classes}."
            )
        elif any(words.values()):
            parts = [name for name in names if words[name]]
            others = [name for name in names if not words[name]]
            raise InputError(
                f"{folder} has the folder '{others[0]}' beside '{parts[0]}': name it after a part (train, validation, "
                "test), or move it away."
            )
        elif len(names) > 1 and not any(name.casefold() in _GENERAL for name in names):
            groups |= {(i, name) for name in names}
            notes.append(
                f"the folders {first_names(names)} are taken as patients (or slides); the classes are the folders "
                f"in them: {classes}."
            )
    return splits, groups, notes


def _below(
    placed: Sequence[tuple[Parts, Path]], level: int, splits: dict[str, str], groups: set[tuple[int, str]]
) -> list[str]:
    """What the folders in the class folders are; `splits` and `groups` are added to."""
    classes_of: dict[str, set[str]] = defaultdict(set)
    deeper = 0
    for parts, _ in placed:
        if len(parts) > level + 1:
            classes_of[parts[level + 1]].add(parts[level])
            deeper += 1
    words = {name: split_word(name) for name in classes_of}
    if words and all(words.values()):
        if deeper < len(placed) or splits:
            return [
                f"the folders {first_names(sorted(words))} in the class folders are not taken as parts of a split."
            ]
        splits |= words
        return [f"the folders {first_names(sorted(words))} in the class folders are parts of a split."]
    several = sorted(name for name, classes in classes_of.items() if len(classes) > 1)
    if len(several) > 1:
        groups |= {(level + 1, name) for name in several}
        return [
            f"the folders {first_names(several)} are in several class folders and are taken as patients (or slides)."
        ]
    return []


def _empty(folder: Path, level: int, filled: set[str]) -> list[str]:
    """Class folders without an image."""
    if level > 1:
        return []
    places = (
        [folder]
        if level == 0
        else [one for one in folder.iterdir() if one.is_dir() and not is_hidden(one.name)]
    )
    notes = []
    for name in sorted({one.name for place in places for one in place.iterdir() if one.is_dir()}):
        if name in filled or is_hidden(name) or _is_masks(name) or split_word(name):
            continue
        if not any(is_image(file) for place in places for file in files_below(place / name)):
            notes.append(f"the class folder '{name}' holds no image: the class is not trained.")
    return notes
