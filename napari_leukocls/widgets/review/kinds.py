"""Kinds of cells that the Review dock can show: leukocytes by class, and what other parts add.

How to add a kind, for example red cells by shape:

1. Write a class with the members of `Kind`. `widgets.review.model.ReviewModel`, the kind of the leukocytes, is the
   example. It needs no Qt.
2. Add it to `KINDS` in ``widgets/review/dock.py``: a name, the text of the switch, and a function that makes it for a
   case (a `CaseModel`, whose cells have numbers within the case), or returns None if it has no such cells.
   `widgets.review.red_cells` is an example.

The dock shows a switch as soon as a slide has cells of two kinds. Gallery, keys, buttons, drops, undo and progress then
work on the kind that is chosen; goal, second read and signature stay with the leukocytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from napari_leukocls.scheme import CellClass
    from napari_leukocls.widgets.common.case_model import CaseModel
    from napari_leukocls.widgets.common.session import Session


@dataclass(frozen=True)
class Group:
    """An entry of the list *Show*: some cells that the gallery can show.

    Attributes
    ----------
    name, text : str
        Name, and text in the list.
    count : int
        Number of its cells.
    """

    name: str
    text: str
    count: int


@dataclass(frozen=True)
class Section:
    """Cells of the gallery under one heading.

    Attributes
    ----------
    name : str
        Class of the cells; "" if dropped cells get no class from it.
    title, figures : str
        Text of the heading, and its numbers.
    colour : str
        As ``#rrggbb``; "" for none.
    ids : tuple of int
        Numbers of the cells, in their order.
    """

    name: str
    title: str
    figures: str
    colour: str
    ids: tuple[int, ...]


class Tile(NamedTuple):
    """Caption and frame of a cell in the gallery."""

    class_name: str
    caption: str
    colour: str
    waiting: bool
    corrected: bool

    @classmethod
    def of_class(
        cls, entry: CellClass, name: str, probability: float, waiting: bool, corrected: bool
    ) -> Tile:
        """Make the tile of a cell whose class is shown: its short name, what was said of it, and how sure it is.

        Parameters
        ----------
        entry : CellClass
        name : str
            Of the class; "" if it has none.
        probability : float
            NaN if it is not known.
        waiting, corrected : bool

        Returns
        -------
        Tile
        """
        sure = "" if corrected or not math.isfinite(probability) else f" {100 * probability:.0f}%"
        mark = "✓" if corrected else "?" if waiting else ""
        return cls(name, f"{entry.short}{mark}{sure}", entry.colour, waiting, corrected)


class Kind(Protocol):
    """What the Review dock asks of a kind of cells."""

    def groups(self) -> list[Group]:
        """Return the entries of the list *Show*; the first one is shown at first."""

    def sections(self, group: str, sort: str) -> list[Section]:
        """Return the cells of a group under their headings.

        Parameters
        ----------
        group : str
            Name of a `Group`.
        sort : {"doubt", "size", "place"}
            Order of the cells under each heading.
        """

    def tile(self, cell_id: int) -> Tile | None:
        """Return the caption and frame of a cell; None if there is no such cell.

        Parameters
        ----------
        cell_id : int
        """

    def buttons(self) -> list[CellClass]:
        """Return the classes that have a button, with their texts, colours and keys."""

    def more(self) -> list[CellClass]:
        """Return the classes that are in the menu *More classes*."""

    def display(self, class_name: str) -> str:
        """Return the name of a class for people.

        Parameters
        ----------
        class_name : str
        """

    def class_of_key(self, key: str) -> str | None:
        """Return the class of a key of the keyboard.

        Parameters
        ----------
        key : str
            A character.
        """

    def correct(self, cell_ids: list[int], class_name: str) -> None:
        """Give cells a class; it is on the disk when this returns.

        Parameters
        ----------
        cell_ids : list of int
        class_name : str
        """

    def confirm(self, cell_ids: list[int]) -> None:
        """Save that the classes shown are right.

        Parameters
        ----------
        cell_ids : list of int
        """

    def undo(self) -> list[int]:
        """Undo the last action of this person, and return its cells."""

    def redo(self) -> list[int]:
        """Redo the action that was undone last, and return its cells."""

    def progress(self) -> tuple[int, int, str]:
        """Return the number of reviewed cells, the number of all, and a line of text."""


#: Name, text of the switch, and the function that makes a kind for a slide.
KindEntry = tuple[str, str, Callable[["Session", "CaseModel"], Kind | None]]
