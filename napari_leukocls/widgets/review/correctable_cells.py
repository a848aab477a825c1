"""What the kinds of cells of the Review dock have in common: keys, corrections, and one's own undo. Without Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from napari_leukocls.errors import ArgumentError
from napari_leukocls.widgets.texts import Review

if TYPE_CHECKING:
    from napari_leukocls.scheme import CellClass
    from napari_leukocls.widgets.common.case_model import CaseModel
    from napari_leukocls.widgets.common.session import Session


class CorrectableCells:
    """Cells of a case that a person can give classes: base of the kinds of cells.

    Parameters
    ----------
    session : Session
    slide : CaseModel
        Its cells have numbers within the case.
    """

    def __init__(self, session: Session, slide: CaseModel) -> None:
        self.session = session
        self.slide = slide
        #: Numbers of cells of each action, the last action last: an action is undone as a whole.
        self._done: list[int] = []
        self._undone: list[int] = []

    def classes_with_keys(self) -> Iterable[CellClass]:
        """Return the classes that can be given with a key."""
        return self.slide.scheme

    def class_of_key(self, key: str) -> str | None:
        """Return the class of a key of the keyboard.

        Parameters
        ----------
        key : str
            A character.

        Returns
        -------
        str or None
            None if no class has this key.
        """
        if not key.strip():
            return None
        return next((entry.name for entry in self.classes_with_keys() if entry.key == key), None)

    def display(self, class_name: str) -> str:
        """Return the name of a class for people.

        Parameters
        ----------
        class_name : str

        Returns
        -------
        str
        """
        return self.slide.scheme[class_name].display

    def correct(self, cell_ids: list[int], class_name: str) -> None:
        """Give cells a class. Each correction is saved before the next.

        Parameters
        ----------
        cell_ids : list of int
            Numbers of the cells within the case.
        class_name : str

        Raises
        ------
        LeukoclsError
            If a correction cannot be saved. Earlier ones stay saved.
        """
        self._need_name()
        done = 0
        try:
            for cell in cell_ids:
                self.slide.correct(int(cell), class_name, self.session.reviewer)
                done += 1
        finally:
            if done:
                self._done.append(done)
                self._undone.clear()
                self.refresh()

    def undo(self) -> list[int]:
        """Undo one's own last action, and return its cells."""
        return self._step(self._done, self._undone, self.slide.undo)

    def redo(self) -> list[int]:
        """Redo the last action that was undone, and return its cells."""
        return self._step(self._undone, self._done, self.slide.redo)

    def refresh(self) -> None:
        """Apply the corrections of the review store to the slide."""
        self.slide.refresh()

    def _step(self, source: list[int], target: list[int], change: Callable[[str], int | None]) -> list[int]:
        """Undo or redo as many corrections as the last action of `source` had."""
        self._need_name()
        cells = []
        for _ in range(source.pop() if source else 1):
            cell = change(self.session.reviewer)
            if cell is None:
                break
            cells.append(cell)
        if cells:
            target.append(len(cells))
            self.refresh()
        return cells

    def _need_name(self) -> None:
        if not self.session.reviewer:
            raise ArgumentError(Review.NAME_FIRST)
