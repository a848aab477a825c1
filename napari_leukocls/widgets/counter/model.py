"""What the counter does, without Qt: a count by keys in the review store, beside the program's count."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.tally import Press
from napari_leukocls.scheme import CellClass
from napari_leukocls.widgets.texts import Counter, Review

if TYPE_CHECKING:
    from napari_leukocls.review.bench_count import BenchCount, BesideProgram
    from napari_leukocls.widgets.common.session import Session

#: Classes outside the differential that a bench counter has keys for.
ALSO = ("erythroblast", "smudge_cell", "artefact", "not_classed")


@dataclass(frozen=True)
class KeyCount:
    """A key of the counter with its class and what was counted with it."""

    entry: CellClass
    count: int
    share: float | None


class CounterModel:
    """A count by keys of the slide that the docks show, or at the microscope where there is none.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    beside : BesideProgram or None
        The finished count beside the program's.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.goal: int | None = 100
        self.beside: BesideProgram | None = None
        self._count: BenchCount | None = None

    @property
    def name(self) -> str:
        """What is counted."""
        case = self.session.case
        if case is not None:
            return case.name
        return Counter.AT_MICROSCOPE.format(day=datetime.now().strftime("%Y-%m-%d"))

    @property
    def _case_key(self) -> str:
        case = self.session.case
        return "" if case is None or case.key is None else case.key

    def _open(self) -> BenchCount:
        """Return the open count of this person and slide; begin one if there is none."""
        from napari_leukocls.review.bench_count import BenchCounts

        if not self.session.reviewer:
            raise ArgumentError(Review.NAME_FIRST)
        known = self._count
        mine = (
            known is not None
            and known.record.counted_by == self.session.reviewer
            and known.record.case_key == self._case_key
            and known.record.name == self.name
        )
        if known is None or not mine:
            counts = BenchCounts(self.session.store)
            known = counts.begin(self.session.reviewer, self.name, self._case_key, self.goal)
            self.goal = known.tally.goal
            self._count = known
        return known

    def resume(self) -> bool:
        """Show the open count of this person and slide, if there is one.

        Returns
        -------
        bool
            Whether a count with presses goes on.
        """
        self._count = None
        self.beside = None
        if not self.session.reviewer:
            return False
        return bool(self._open().tally.presses)

    @property
    def presses(self) -> list[Press]:
        """The presses that count."""
        return [] if self._count is None else self._count.tally.valid()

    @property
    def leukocytes(self) -> int:
        """Leukocytes that were counted."""
        return 0 if self._count is None else self._count.tally.leukocytes

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self._count is not None and self._count.tally.reached

    def keys(self) -> list[KeyCount]:
        """Return the keys of the counter, in the order of the scheme."""
        counts = {} if self._count is None else self._count.tally.counts
        found = []
        for entry in self.session.scheme:
            usual = entry.counted_in_differential or entry.name in ALSO
            if usual and (entry.key or entry.name in counts):
                share = None if self._count is None else self._count.tally.share(entry.name)
                found.append(KeyCount(entry, counts.get(entry.name, 0), share))
        return found

    def class_of_key(self, key: str) -> str | None:
        """Return the class of a key.

        Parameters
        ----------
        key : str
            A character.

        Returns
        -------
        str or None
        """
        return (
            next((one.entry.name for one in self.keys() if one.entry.key == key), None)
            if key.strip()
            else None
        )

    def press(self, class_name: str) -> bool:
        """Count a cell: the one that is chosen on the smear, if there is one.

        Parameters
        ----------
        class_name : str

        Returns
        -------
        bool
            False if the goal is reached: nothing is counted then.

        Raises
        ------
        LeukoclsError
            If there is no name, or it cannot be saved.
        """
        self.beside = None
        slide, cell = self._pointed_at()
        return self._open().press(class_name, slide, cell)

    def _pointed_at(self) -> tuple[str, int | None]:
        case = self.session.case
        if case is None or len(case.selection) != 1:
            return "", None
        slide, cell = case.local(case.selection[0])
        return slide.key, cell

    def undo(self) -> Press | None:
        """Take back the last press.

        Returns
        -------
        Press or None
            None if there is none.
        """
        self.beside = None
        return self._open().undo()

    def set_goal(self, goal: int | None) -> None:
        """Set how many leukocytes are counted.

        Parameters
        ----------
        goal : int or None
            None for no end.
        """
        self.goal = goal
        if self._count is not None and not self._count.record.finished_at and self.beside is None:
            self._count.set_goal(goal)

    def finish(self) -> bool:
        """End the count, and set it beside the program's.

        Returns
        -------
        bool
            Whether there is a count of the program to compare with.

        Raises
        ------
        LeukoclsError
            If nothing was counted.
        """
        from napari_leukocls.review.bench_count import beside_program

        count = self._open()
        count.finish()
        case = self.session.case
        self.beside = None
        if case is not None and case.analysed and self.leukocytes:
            classes = {
                (slide.key, int(cell)): str(name)
                for slide in case.slides
                for cell, name in zip(slide.cells["cell_id"], slide.cells["class"], strict=True)
            }
            inside = case.result.counts
            if int(inside.loc[inside["in_differential"].astype(bool), "count"].sum()):
                self.beside = beside_program(
                    count.tally, inside, classes, self.session.scheme, self.session.reviewer
                )
        return self.beside is not None

    def again(self) -> None:
        """Begin a new count. The one before stays in the store."""
        if self._count is not None and self._count.tally.presses and self.beside is None:
            # A count that is thrown away is ended, too: nothing is deleted.
            with suppress(ArgumentError):
                self._count.finish()
        self._count = None
        self.beside = None

    def marks(self) -> dict[int, str]:
        """Return the colour of each counted cell that was pointed at, by its number within the case."""
        case, scheme = self.session.case, self.session.scheme
        if case is None or self._count is None:
            return {}
        pointed = [press for press in self.presses if press.cell is not None]
        found: dict[int, str] = {}
        for press in pointed:
            for number in case.numbers([press.cell] if press.cell is not None else []):
                found[number] = scheme[press.class_name].colour
        return found
