"""Counts by keys kept in the review store, and set beside the count of the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from napari_leukocls.errors import ReviewError
from napari_leukocls.measurement.comparison import repeat_limits
from napari_leukocls.measurement.tally import Press, Tally
from napari_leukocls.review import log
from napari_leukocls.review.records import Agreement
from napari_leukocls.review.schema import bench_counts, bench_presses
from napari_leukocls.review.second_read import compare
from napari_leukocls.review.text import now, person

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.review.store import ReviewStore
    from napari_leukocls.scheme import Scheme

#: How the program is called beside a person.
PROGRAM = "the program"


@dataclass(frozen=True)
class BenchRecord:
    """A count by keys in the store.

    Attributes
    ----------
    id : int
    case_key : str
        Of the case; "" for a count at the microscope alone.
    name, counted_by : str
        What was counted, and by whom.
    goal : int or None
    started_at, finished_at : str
        UTC, ISO 8601; the latter is "" while the count is open.
    """

    id: int
    case_key: str
    name: str
    counted_by: str
    goal: int | None
    started_at: str
    finished_at: str


class BenchCount:
    """An open count by keys. Each press is on the disk when the call returns.

    Parameters
    ----------
    store : ReviewStore
    record : BenchRecord
    tally : Tally
        The presses so far.
    """

    def __init__(self, store: ReviewStore, record: BenchRecord, tally: Tally) -> None:
        self._store = store
        self.record = record
        self.tally = tally

    def press(self, class_name: str, slide: str = "", cell_id: int | None = None) -> bool:
        """Count a cell.

        Parameters
        ----------
        class_name : str
        slide : str
            Key of the field of the cell that is pointed at; "" for none.
        cell_id : int or None
            That cell.

        Returns
        -------
        bool
            False if the goal is reached: nothing is counted then.

        Raises
        ------
        ArgumentError
            If there is no such class.
        ReviewError
            If the count is finished.
        """
        name = self._store.scheme[class_name].name
        if not self.tally.add(Press(name, slide, cell_id)):
            return False
        self._write("count", Press(name, slide, cell_id))
        return True

    def undo(self) -> Press | None:
        """Take back the last press.

        Returns
        -------
        Press or None
            None if there is none.
        """
        last = self.tally.undo()
        if last is not None:
            self._write("undo", last)
        return last

    def _write(self, action: str, press: Press) -> None:
        values = {
            "bench_count": self.record.id,
            "action": action,
            "class": press.class_name,
            "slide": press.slide,
            "cell_id": press.cell_id,
            "at": now(),
        }
        with self._store.writing() as connection:
            _refuse_finished(connection, self.record.id)
            connection.execute(bench_presses.insert().values(**values))

    def set_goal(self, goal: int | None) -> None:
        """Set how many leukocytes are counted.

        Parameters
        ----------
        goal : int or None
            None for no end.
        """
        with self._store.writing() as connection:
            _refuse_finished(connection, self.record.id)
            connection.execute(
                bench_counts.update().where(bench_counts.c.id == self.record.id).values(goal=goal)
            )
        self.tally.goal = goal

    def finish(self) -> None:
        """End the count, and enter it in the log.

        Raises
        ------
        ReviewError
            If nothing was counted, or the count is finished already.
        """
        if not self.tally.presses:
            raise ReviewError("nothing is counted yet: press the key of a class for each cell first.")
        at, number = now(), self.record.id
        with self._store.writing() as connection:
            _refuse_finished(connection, number)
            connection.execute(
                bench_counts.update().where(bench_counts.c.id == number).values(finished_at=at)
            )
            log.append(
                connection,
                self.record.counted_by,
                "bench_count",
                at,
                bench_count=number,
                case=self.record.case_key,
                name=self.record.name,
                goal=self.tally.goal,
                counts=self.tally.counts,
            )


class BenchCounts:
    """The counts by keys of a review store.

    Parameters
    ----------
    store : ReviewStore

    Examples
    --------
    >>> counts = BenchCounts(store)  # doctest: +SKIP
    >>> count = counts.begin("A. Reader", "slide 7", goal=100)  # doctest: +SKIP
    >>> count.press("neutrophil")  # doctest: +SKIP
    """

    def __init__(self, store: ReviewStore) -> None:
        self.store = store

    def begin(self, reader: str, name: str, case_key: str = "", goal: int | None = None) -> BenchCount:
        """Begin a count, or go on with the open one of this person and case.

        Parameters
        ----------
        reader : str
            Who counts.
        name : str
            What is counted.
        case_key : str
            Key of the case; "" for a count at the microscope alone.
        goal : int or None
            Leukocytes to count; None for no end.

        Returns
        -------
        BenchCount
        """
        who = person(reader)
        same = sa.and_(
            bench_counts.c.counted_by == who,
            bench_counts.c.case_key == case_key,
            bench_counts.c.name == name,
            bench_counts.c.finished_at.is_(None),
        )
        with self.store.writing() as connection:
            row = connection.execute(
                sa.select(bench_counts.c.id).where(same).order_by(bench_counts.c.id.desc()).limit(1)
            ).first()
            if row is None:
                values = {"case_key": case_key, "name": name, "counted_by": who, "goal": goal}
                done = connection.execute(bench_counts.insert().values(**values, started_at=now()))
                (number,) = done.inserted_primary_key or (0,)
            else:
                number = int(row.id)
        return self.open(number)

    def open(self, number: int) -> BenchCount:
        """Open a count by its number.

        Parameters
        ----------
        number : int

        Returns
        -------
        BenchCount

        Raises
        ------
        ReviewError
            If there is no such count.
        """
        with self.store.database.read() as connection:
            row = connection.execute(sa.select(bench_counts).where(bench_counts.c.id == number)).first()
            if row is None:
                raise ReviewError(f"there is no count by keys with the number {number}.")
            query = sa.select(bench_presses).where(bench_presses.c.bench_count == number)
            presses = list(connection.execute(query.order_by(bench_presses.c.id)))
        tally = Tally(row.goal, [], self.store.scheme)
        for press in presses:
            if press.action == "undo":
                tally.undo()
            else:
                tally.presses.append(Press(getattr(press, "class"), press.slide, press.cell_id))
        return BenchCount(self.store, _record(row), tally)

    def records(self, case_key: str | None = None) -> list[BenchRecord]:
        """List the counts, oldest first.

        Parameters
        ----------
        case_key : str or None
            Of one case; None for all.

        Returns
        -------
        list of BenchRecord
        """
        query = sa.select(bench_counts).order_by(bench_counts.c.id)
        if case_key is not None:
            query = query.where(bench_counts.c.case_key == case_key)
        with self.store.database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _record(row: Any) -> BenchRecord:
    return BenchRecord(
        row.id, row.case_key, row.name, row.counted_by, row.goal, row.started_at, row.finished_at or ""
    )


def _refuse_finished(connection: Any, number: int) -> None:
    query = sa.select(bench_counts.c.finished_at).where(bench_counts.c.id == number)
    if connection.execute(query).scalar() is not None:
        raise ReviewError("this count is finished: begin a new one.")


@dataclass(frozen=True)
class BenchRow:
    """A class in a count by keys beside the program's count. Shares are percent of the leukocytes."""

    class_name: str
    counted: int
    percent: float
    program: int
    program_percent: float
    #: Limits within which a second count of so many cells may lie without differing from the program's (5 %).
    low: float
    high: float

    @property
    def outside(self) -> bool:
        """Whether the counts differ by more than chance."""
        return not self.low <= self.percent <= self.high


@dataclass(frozen=True)
class BesideProgram:
    """A count by keys beside the count of the program.

    Attributes
    ----------
    rows : tuple of BenchRow
    n, n_program : int
        Leukocytes of both.
    agreement : Agreement or None
        Of the cells that the person pointed at; None if there is no such cell.
    """

    rows: tuple[BenchRow, ...]
    n: int
    n_program: int
    agreement: Agreement | None


def beside_program(
    tally: Tally,
    counts: pd.DataFrame,
    classes: Mapping[tuple[str, int], str],
    scheme: Scheme,
    reader: str = "",
) -> BesideProgram:
    """Set a count by keys beside the program's: differences with Ruemke's limits, and kappa of matched cells.

    Parameters
    ----------
    tally : Tally
    counts : pandas.DataFrame
        The program's count, columns as in ``counts.csv``.
    classes : mapping of tuple of str and int to str
        The program's class of each cell, by field and number.
    scheme : Scheme
    reader : str
        Who counted.

    Returns
    -------
    BesideProgram

    Raises
    ------
    ReviewError
        If one of the counts has no leukocyte.

    References
    ----------
    Ruemke, C. L. (1985). The imprecision of the ratio of two percentages observed in differential white blood cell
    counts. Blood Cells 11, 137-140.
    """
    inside = counts[counts["in_differential"].astype(bool)]
    if "part_of" in inside:
        # A finer class is counted in its class, too.
        inside = inside[inside["part_of"].fillna("") == ""]
    program = dict(zip(inside["class"].astype(str), inside["count"].astype(int), strict=True))
    known = set(program)
    mine: dict[str, int] = {}
    for name, n in tally.counts.items():
        if scheme[name].counted_in_differential:
            whole = scheme.coarsen(name, known)
            mine[whole] = mine.get(whole, 0) + n
    n_mine, n_program = sum(mine.values()), sum(program.values())
    if not n_mine or not n_program:
        raise ReviewError("there is nothing to compare: both counts need leukocytes.")
    rows = []
    for name in scheme.ordered({*mine, *(name for name, n in program.items() if n)}):
        ours, theirs = mine.get(name, 0), program.get(name, 0)
        low, high = repeat_limits(theirs, n_program, n_mine)
        rows.append(BenchRow(name, ours, 100 * ours / n_mine, theirs, 100 * theirs / n_program, low, high))
    return BesideProgram(tuple(rows), n_mine, n_program, _matched(tally, classes, scheme, reader))


def _matched(
    tally: Tally, classes: Mapping[tuple[str, int], str], scheme: Scheme, reader: str
) -> Agreement | None:
    """Compare the classes of the cells that were pointed at."""
    pairs = [
        (press.cell, classes[press.cell], press.class_name)
        for press in tally.valid()
        if press.cell is not None and press.cell in classes
    ]
    if not pairs:
        return None
    known = {theirs for _, theirs, _ in pairs} | set(classes.values())
    second = [scheme.coarsen(ours, known) for _, _, ours in pairs]
    cells = [cell for cell, _, _ in pairs if cell is not None]
    return compare(
        [number for _, number in cells],
        [theirs for _, theirs, _ in pairs],
        second,
        PROGRAM,
        reader,
        [slide for slide, _ in cells],
    )
