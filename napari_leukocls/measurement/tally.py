"""A count by keys, as on the counter of a bench: classes one after another, with undo, up to a goal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from napari_leukocls.scheme import Scheme, default_scheme


@dataclass(frozen=True)
class Press:
    """One key of a count.

    Attributes
    ----------
    class_name : str
    slide : str
        Key of the field in which the cell was pointed at; "" if none was.
    cell_id : int or None
        The cell; None if none was pointed at.
    """

    class_name: str
    slide: str = ""
    cell_id: int | None = None

    @property
    def cell(self) -> tuple[str, int] | None:
        """Field and number of the cell; None if none was pointed at."""
        return None if self.cell_id is None else (self.slide, self.cell_id)


@dataclass
class Tally:
    """A count by keys.

    Attributes
    ----------
    goal : int or None
        Leukocytes to count; None for no end.
    presses : list of Press
        Oldest first. A cell that was pointed at twice has the class of the later one, and counts once.
    """

    goal: int | None = None
    presses: list[Press] = field(default_factory=list)
    scheme: Scheme = field(default_factory=default_scheme)

    def add(self, press: Press) -> bool:
        """Count a cell.

        Parameters
        ----------
        press : Press

        Returns
        -------
        bool
            False if the goal is reached: nothing is counted then.

        Raises
        ------
        ArgumentError
            If there is no such class.
        """
        known = press.cell is not None and any(one.cell == press.cell for one in self.presses)
        if self.scheme[press.class_name].counted_in_differential and self.reached and not known:
            return False
        self.presses.append(press)
        return True

    def undo(self) -> Press | None:
        """Take back the last press.

        Returns
        -------
        Press or None
            None if there is none.
        """
        return self.presses.pop() if self.presses else None

    def valid(self) -> list[Press]:
        """Return the presses that count: of a cell that was pointed at more than once, the last one."""
        last = {press.cell: i for i, press in enumerate(self.presses) if press.cell is not None}
        return [press for i, press in enumerate(self.presses) if press.cell is None or last[press.cell] == i]

    @property
    def counts(self) -> dict[str, int]:
        """Cells of each class that was counted, in the order of the scheme."""
        found = Counter(press.class_name for press in self.valid())
        return {name: found[name] for name in self.scheme.ordered(found)}

    @property
    def leukocytes(self) -> int:
        """Cells of the classes of the differential."""
        return self._leukocytes(self.counts.items())

    def _leukocytes(self, counts: Iterable[tuple[str, int]]) -> int:
        return sum(n for name, n in counts if self.scheme[name].counted_in_differential)

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.goal is not None and self.leukocytes >= self.goal

    def share(self, class_name: str) -> float | None:
        """Return the percentage of a class, or for classes outside the differential the number per 100 leukocytes.

        Parameters
        ----------
        class_name : str

        Returns
        -------
        float or None
            None without leukocytes, and for classes that have no share.
        """
        entry, total = self.scheme[class_name], self.leukocytes
        if not total or not (entry.counted_in_differential or entry.per_100_wbc):
            return None
        return 100 * self.counts.get(class_name, 0) / total
