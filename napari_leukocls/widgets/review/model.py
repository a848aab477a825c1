"""The leukocytes of the Review dock, without Qt: sections, corrections, goal, second read and signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_leukocls.errors import ArgumentError, LeukoclsError
from napari_leukocls.measurement.fine import FINE
from napari_leukocls.scheme import whole_class
from napari_leukocls.widgets.common.case_model import NUMBERS
from napari_leukocls.widgets.common.wording import kappa_words
from napari_leukocls.widgets.review.correctable_cells import CorrectableCells
from napari_leukocls.widgets.review.kinds import Group, Section, Tile
from napari_leukocls.widgets.texts import Review, plural

if TYPE_CHECKING:
    from napari_leukocls.review import Agreement, CaseRead
    from napari_leukocls.scheme import CellClass
    from napari_leukocls.widgets.common.case_model import CaseModel
    from napari_leukocls.widgets.common.session import Session
    from napari_leukocls.widgets.common.slide_model import CellsModel


#: Groups that are not one class.
WAITING, NUCLEATED, UNLIKE, OWN = ":waiting", ":nucleated", ":unlike", ":own"
#: Orders of the gallery.
BY_DOUBT, BY_SIZE, BY_PLACE = "doubt", "size", "place"
#: Classes that a person can assign in addition to those of the model.
ALWAYS = ("artefact", "not_classed")
#: Columns of the table of cells that the order of the gallery is made from.
_ORDERED_BY = ("cell_id", "area_px", "centroid_y", "centroid_x")
_NOT_REVIEWED = ("red_cell", "platelet")


class Tiles:
    """Captions and frames of the cells of a slide.

    Parameters
    ----------
    slide : CellsModel
    """

    def __init__(self, slide: CellsModel) -> None:
        self._slide = slide
        self._by_cell: dict[int, tuple[str, float, bool, str]] = {}
        self._table: Any = None
        self._depth = ""

    def of(self, cell_id: int, blind: bool) -> Tile | None:
        """Return the caption and frame of a cell.

        Parameters
        ----------
        cell_id : int
            Number of the cell, as in ``cells.csv``.
        blind : bool
            Hide the class, for a blind second read.

        Returns
        -------
        Tile or None
            None if there is no such cell.
        """
        values = self._all().get(cell_id)
        if values is None:
            return None
        if blind:
            return Tile("", "", "#888888", False, False)
        name, probability, review, correction = values
        entry = self._slide.scheme[name]
        corrected = bool(correction)
        return Tile.of_class(entry, entry.name, probability, review and not corrected, corrected)

    def _all(self) -> dict[int, tuple[str, float, bool, str]]:
        """Return class, probability, need of review and correction by cell; cached for the gallery."""
        cells = self._slide.cells
        if self._table is not cells or self._depth != self._slide.depth:
            columns = [self._slide.shown.tolist(), self._slide.shown_probability.tolist()]
            columns.append(cells["needs_review"].tolist())
            columns.append(cells["corrected_class"].fillna("").tolist())
            self._by_cell = dict(zip(cells["cell_id"].tolist(), zip(*columns, strict=True), strict=True))
            self._table, self._depth = cells, self._slide.depth
        return self._by_cell


class ReviewModel(CorrectableCells):
    """The review of one slide.

    Parameters
    ----------
    session : Session
    slide : CaseModel
        Its cells have numbers within the case.

    Attributes
    ----------
    reading : CaseRead or None
        The blind second read that is open.
    agreement : Agreement or None
        Of the last finished second read.
    """

    changed = Signal()

    def __init__(self, session: Session, slide: CaseModel) -> None:
        super().__init__(session, slide)
        self.reading: CaseRead | None = None
        self.agreement: Agreement | None = None
        self._answers: dict[int, str] = {}
        self._tiles = Tiles(slide)

    # What is shown -------------------------------------------------------------------------------------

    def groups(self) -> list[Group]:
        """Return the groups that the gallery can show, with the number of cells in each."""
        if self.reading is not None:
            left = len(self.reading.cells) - len(self._answers)
            own = Group(OWN, Review.READ_OWN, len(self._answers))
            return [Group(NUCLEATED, Review.READ_LEFT, left), own]
        found = [
            Group(NUCLEATED, Review.NUCLEATED, int(self._reviewed().sum())),
            Group(WAITING, Review.WAITING, len(self._offered())),
        ]
        if self.agreement is not None:
            found.append(Group(UNLIKE, Review.UNLIKE, len(self.agreement.disagreements)))
        for name in self.slide.present():
            found.append(Group(name, self._group_text(name), int(self.slide.in_class(name).sum())))
        return found

    def _group_text(self, name: str) -> str:
        """Return the text of the group of a class; that of a finer class is indented under its class."""
        display = self.slide.scheme[name].display
        return Review.PART.format(display=display) if self.slide.is_part(name) else display

    def _reviewed(self) -> np.ndarray:
        """Whether each cell is one that people review, (N,) bool."""
        return ~self.slide.of_classes({*_NOT_REVIEWED, *self.slide.scheme.shapes()})

    def sections(self, group: str, sort: str) -> list[Section]:
        """Return the cells of a group under their headings: first those to review, then each class.

        Parameters
        ----------
        group : str
            Name of a class, or `WAITING`, `NUCLEATED`, `UNLIKE`.
        sort : str
            `BY_DOUBT`, `BY_SIZE` or `BY_PLACE`.

        Returns
        -------
        list of Section
        """
        if self.reading is not None:
            # One's own classes can be looked at again and mended.
            own = group == OWN
            cells = self.slide.numbers(self.reading.cells)
            ids = tuple(cell for cell in cells if (cell in self._answers) == own)
            return [Section("", Review.READ_OWN if own else Review.READ_LEFT, str(len(ids)), "", ids)]
        if group == UNLIKE and self.agreement is not None:
            ids = self._sorted(self.slide.numbers(self._unlike()), sort)
            return [Section("", Review.UNLIKE, str(len(ids)), "", ids)]
        offered = self._offered()
        if group == WAITING:
            return self._waiting(offered, sort)
        keep = self._reviewed() if group == NUCLEATED else self.slide.in_class(group)
        mine = set(self.slide.cells["cell_id"].to_numpy()[keep].tolist())
        found = self._waiting([cell for cell in offered if cell in mine], sort)
        mine.difference_update(*(section.ids for section in found))
        rows = np.flatnonzero(np.isin(self.slide.cells["cell_id"].to_numpy(), list(mine)))
        names = self.slide.shown
        figures = self._figures()
        for name in self.slide.present():
            ids = self._order(rows[names[rows] == name], sort)
            if ids:
                entry = self.slide.scheme[name]
                text = figures.get(name, str(len(ids)))
                found.append(Section(name, self._group_text(name), text, entry.colour, ids))
        return found

    def _waiting(self, offered: list[int], sort: str) -> list[Section]:
        """Return the section of the cells to review; none if there is no such cell."""
        ids = tuple(offered) if sort == BY_DOUBT else self._sorted(offered, sort)
        return [Section("", Review.WAITING, str(len(ids)), "", ids)] if ids else []

    def _figures(self) -> dict[str, str]:
        """Return count and share of each class as text."""
        found = {}
        for row in self.slide.count_rows():
            if row.percent is not None:
                text = Review.FIGURES.format(n=row.count, percent=row.percent)
            elif row.per_100 is not None:
                text = Review.FIGURES_PER_100.format(n=row.count, per_100=row.per_100)
            else:
                text = str(row.count)
            found[row.name] = text
        return found

    def order(self, group: str, sort: str) -> np.ndarray:
        """Return the cells of a group in the order of the gallery.

        Parameters
        ----------
        group, sort : str
            As for `sections`.

        Returns
        -------
        numpy.ndarray
            Numbers of the cells, (N,), int.
        """
        return np.array([cell for section in self.sections(group, sort) for cell in section.ids], int)

    def _sorted(self, ids: list[int], sort: str) -> tuple[int, ...]:
        return self._order(np.flatnonzero(np.isin(self.slide.cells["cell_id"].to_numpy(), ids)), sort)

    def _order(self, rows: np.ndarray, sort: str) -> tuple[int, ...]:
        """Return the cells of some rows of the table in an order."""
        cells = self.slide.cells
        part = {name: cells[name].to_numpy()[rows] for name in _ORDERED_BY}
        if sort == BY_SIZE:
            key = -part["area_px"].astype(float)
        elif sort == BY_PLACE:
            # Row by row, from left to right.
            line = max(1.0, self.slide.scale.red_cell_diameter_px)
            key = np.floor(part["centroid_y"] / line) * 1e6 + part["centroid_x"]
            key += part["cell_id"] // NUMBERS * 1e12
        else:
            settled = ~self.slide.waiting[rows]
            key = settled * 10.0 + np.nan_to_num(self.slide.shown_probability[rows])
        ordered: list[int] = part["cell_id"][np.argsort(key, kind="stable")].tolist()
        return tuple(ordered)

    def _offered(self) -> list[int]:
        return self.slide.offered()

    def _unlike(self) -> list[tuple[str, int]]:
        """The cells on which the two readers disagree."""
        if self.agreement is None:
            return []
        table = self.agreement.disagreements
        return list(zip(table["slide"], table["cell_id"], strict=True))

    def tile(self, cell_id: int) -> Tile | None:
        """Return the caption and frame of a cell. During a blind read they do not show the class.

        Parameters
        ----------
        cell_id : int
            Number of the cell, as in ``cells.csv``.

        Returns
        -------
        Tile or None
            None if there is no such cell.
        """
        own = self._answers.get(cell_id) if self.reading is not None else None
        if own is not None:
            entry = self.slide.scheme[own]
            return Tile(entry.name, f"{entry.short}✓", entry.colour, False, True)
        return self._tiles.of(cell_id, self.reading is not None)

    def classes(self) -> list[str]:
        """Return the classes that have a button."""
        scheme, slide = self.slide.scheme, self.slide
        passed_over = {*_NOT_REVIEWED, *scheme.shapes()}
        present = [whole_class(name) for name in slide.present() if name not in passed_over]
        finer = slide.finer if slide.depth == FINE else ()
        return scheme.ordered(
            [*(name for name in (*slide.classes, *finer) if name in scheme), *present, *ALWAYS]
        )

    def buttons(self) -> list[CellClass]:
        """Return the entries of the classes that have a button."""
        return [self.slide.scheme[name] for name in self.classes()]

    def more(self) -> list[CellClass]:
        """Return all other classes of the scheme."""
        shown = {*self.classes(), *self.slide.scheme.shapes()}
        return [entry for entry in self.slide.scheme if entry.name not in shown]

    # What people say -----------------------------------------------------------------------------------

    def correct(self, cell_ids: list[int], class_name: str) -> None:
        """Assign a class to cells. Each correction is saved before the next.

        Parameters
        ----------
        cell_ids : list of int
            Numbers of the cells, as in ``cells.csv``.
        class_name : str

        Raises
        ------
        LeukoclsError
            If a correction cannot be saved. Earlier ones stay saved.
        """
        if self.reading is not None:
            for cell in cell_ids:
                slide, number = self.slide.local(cell)
                self.reading.classify(slide.key, number, class_name)
                self._answers[cell] = class_name
            self.changed.emit()
            return
        super().correct(cell_ids, class_name)

    def confirm(self, cell_ids: list[int]) -> None:
        """Save that the classes shown are correct, as finely as they are shown.

        Parameters
        ----------
        cell_ids : list of int
            Numbers of the cells, as in ``cells.csv``.
        """
        by_class: dict[str, list[int]] = {}
        names = dict(zip(self.slide.cells["cell_id"].tolist(), self.slide.shown.tolist(), strict=True))
        for cell in cell_ids:
            if cell in names:
                by_class.setdefault(whole_class(str(names[cell])), []).append(cell)
        for name, cells in by_class.items():
            self.correct(cells, name)

    def undo(self) -> list[int]:
        """Undo one's own last action, and return its cells: in a blind read the second reader's."""
        if self.reading is not None:
            cell = self.reading.undo()
            self._answers = self._given(self.reading)
            self.changed.emit()
            return [] if cell is None else self.slide.numbers([cell])
        return super().undo()

    def redo(self) -> list[int]:
        """Redo the last action that was undone, and return its cells."""
        return [] if self.reading is not None else super().redo()

    def refresh(self) -> None:
        """Apply the corrections of the review store to the slide."""
        super().refresh()
        self.changed.emit()

    # Counting and signing ------------------------------------------------------------------------------

    @property
    def goal(self) -> int | None:
        """Leukocytes to count; None for all."""
        return self.slide.case.record.goal

    def set_goal(self, goal: int | None) -> None:
        """Set how many leukocytes to count.

        Parameters
        ----------
        goal : int or None
            None for all.
        """
        self.slide.set_goal(goal, self.session.reviewer)
        self.changed.emit()

    def progress(self) -> tuple[int, int, str]:
        """Return the number of reviewed cells, the number of counted cells, and a text."""
        if self.reading is not None:
            total = len(self.reading.cells)
            done = len(self._answers)
            return (
                done,
                total,
                Review.READ_PROGRESS.format(done=done, total=total, reader=self.reading.reader),
            )
        now = self.slide.case.progress()
        done = now.counted - now.to_review
        text = Review.PROGRESS.format(done=done, total=now.counted)
        if now.goal is not None and now.leukocytes < now.goal:
            text += " " + plural(Review.SHORT, now.goal - now.leukocytes, goal=now.goal)
        elif now.met:
            text += " " + (Review.MET.format(goal=now.goal) if now.goal else Review.ALL_DONE)
        return done, max(now.counted, 1), text

    def sign_off(self) -> str:
        """Sign the slide, and return a message.

        Raises
        ------
        LeukoclsError
            If counted cells need review.
        """
        self._need_name()
        n = self.slide.sign_off(self.session.reviewer)
        self.changed.emit()
        return plural(Review.SIGNED, n, who=self.session.reviewer)

    def signature(self) -> str:
        """Return who signed the current state of the slide, or what is left out of the count."""
        words = self.slide.signature().words()
        return words[:1].upper() + words[1:]

    # Second read ---------------------------------------------------------------------------------------

    def start_reading(self, reader: str) -> None:
        """Start a blind second read, or continue it.

        Parameters
        ----------
        reader : str
            Name of the second reader.

        Raises
        ------
        ArgumentError
            If the name is empty.
        """
        if not reader.strip():
            raise ArgumentError(Review.READER_FIRST)
        self.reading = self.slide.case.second_read(reader.strip())
        self._answers = self._given(self.reading)
        self.changed.emit()

    def _given(self, reading: CaseRead) -> dict[int, str]:
        """The classes that the second reader has given, by the number of the cell within the case."""
        answers = reading.answers()
        return dict(zip(self.slide.numbers(answers), answers.values(), strict=True))

    def leave_reading(self) -> None:
        """Leave the second read. It can be continued later."""
        self.reading = None
        self.changed.emit()

    def finish_reading(self) -> str:
        """Finish the second read, and return a message with the agreement.

        Raises
        ------
        LeukoclsError
            If some cells have no class yet.
        """
        if self.reading is None:
            raise LeukoclsError(Review.NO_READING)
        self.agreement = found = self.reading.finish()
        self.reading = None
        self.changed.emit()
        agreed = found.n - len(found.disagreements)
        text = plural(Review.AGREED, found.n, agreed=agreed, first=found.first, second=found.second)
        return f"{text[:1].upper()}{text[1:]} {kappa_words(found)}".rstrip()
