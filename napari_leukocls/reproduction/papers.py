"""What the papers state: their networks, data, settings and results, as the files in ``data/papers`` have them."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_leukocls.errors import ArgumentError

FOLDER = Path(__file__).parent.parent / "data" / "papers"
#: Names on the command line.
NAMES = ("s1", "s2", "s3", "s4", "s5")


@dataclass(frozen=True)
class Stated:
    """A setting of a training that a paper states.

    Attributes
    ----------
    setting : str
        Field of `napari_leukocls.training.config.TrainConfig`.
    value : object
    where : str
        Table or section.
    quote : str
        Its words; empty where it is what they do not name.
    """

    setting: str
    value: Any
    where: str
    quote: str


@dataclass(frozen=True)
class Published:
    """A number that a paper reports.

    Attributes
    ----------
    item : str
        Table or figure, as `Paper.items` names it.
    where : str
        The same for a reader.
    network : str
    data : str
        Data set; empty for the paper's only or main one.
    class_name : str
        Empty if it is of all classes.
    metric : str
    value : float
    """

    item: str
    where: str
    network: str
    data: str
    class_name: str
    metric: str
    value: float


@dataclass(frozen=True)
class Paper:
    """One of the papers.

    Attributes
    ----------
    name : str
        ``s1`` to ``s5``.
    title, authors : str
    text : str
        What of its text was at hand.
    preset : str
        Of `leukocls train`.
    data, external : str
        Its data, in words.
    classes : tuple of str
        Of its data, if it has one set.
    networks, ablations : tuple of str
        Architectures; an ablation may also be ``no-augmentation``.
    items : mapping of str to str
        Tables and figures with their titles.
    sets : mapping of str to tuple of str
        Classes of each of its data sets, if it has several.
    stated : tuple of Stated
    published : tuple of Published
    """

    name: str
    title: str
    authors: str
    text: str
    preset: str
    data: str
    external: str
    classes: tuple[str, ...]
    networks: tuple[str, ...]
    ablations: tuple[str, ...]
    items: Mapping[str, str]
    sets: Mapping[str, tuple[str, ...]]
    stated: tuple[Stated, ...]
    published: tuple[Published, ...]


@lru_cache(maxsize=8)
def paper(name: str) -> Paper:
    """Read what a paper states.

    Parameters
    ----------
    name : str
        ``s1`` to ``s5``, in any letter case.

    Returns
    -------
    Paper

    Raises
    ------
    ArgumentError
        If there is no such paper.
    """
    key = name.lower()
    every = tomllib.loads((FOLDER / "papers.toml").read_text(encoding="utf-8"))
    if key not in every:
        raise ArgumentError(f"there is no paper {name!r}: choose one of {', '.join(every)}.")
    facts = every[key]
    stated = [
        Stated(row["setting"], json.loads(row["value"]), row["where"], row["quote"])
        for row in _rows("settings.csv", key)
    ]
    published = [
        Published(
            row["item"],
            row["where"],
            row["network"],
            row["data"],
            row["class"],
            row["metric"],
            float(row["value"]),
        )
        for row in _rows("results.csv", key)
    ]
    return Paper(
        name=key,
        **{field: facts[field] for field in ("title", "authors", "text", "preset", "data", "external")},
        classes=tuple(facts.get("classes", ())),
        networks=tuple(facts["networks"]),
        ablations=tuple(facts["ablations"]),
        items=facts["items"],
        sets={name: tuple(classes) for name, classes in facts.get("sets", {}).items()},
        stated=tuple(stated),
        published=tuple(published),
    )


def _rows(file: str, key: str) -> list[dict[str, str]]:
    with open(FOLDER / file, encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["paper"].lower() == key]
