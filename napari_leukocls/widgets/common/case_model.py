"""One case for the docks: the fields that make one count, and what people say of their cells. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from psygnal import Signal

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.measurement.samples import SampleValues, with_sample
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import FieldResult, Scale, Signature, SlideResult
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.slide_model import CellsModel, SlideModel
from napari_leukocls.widgets.texts import Case as Texts

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.review import Case

Result = TypeVar("Result", bound=SlideResult)

#: The number of a cell within a case is its number within its field, plus this times the index of the field.
NUMBERS = 1_000_000


@dataclass(eq=False)
class Field:
    """One image of a case.

    Attributes
    ----------
    name : str
    layer : object
        Its image layer; None if it has none.
    cells : object
        The labels layer over it; None if it has none.
    slide : SlideModel or None
        None until it is analysed.
    """

    name: str
    layer: Any = None
    cells: Any = None
    slide: SlideModel | None = None


class CaseModel(CellsModel):
    """The fields of one case, counted together, with the signals and methods of one field.

    Cells have numbers within the case: those of the first field are the numbers of ``cells.csv``, and those of the
    next fields follow in steps of `NUMBERS`.

    Parameters
    ----------
    name : str
        Of the slide.
    store : callable
        Returns the review store.
    scheme : Scheme, optional

    Attributes
    ----------
    fields : list of Field
        In the order in which they are counted.
    key : str or None
        Key of the case in the review store; None until a field is analysed.
    identifier : str
        Of the sample, not of the patient.
    state_changed : psygnal.Signal
        Emitted when name, identifier, goal or signature have changed.
    """

    state_changed = Signal()
    field_shown = Signal(object)

    def __init__(self, name: str, store: Callable[[], Any], scheme: Scheme | None = None) -> None:
        super().__init__(scheme)
        self.name = name
        self.identifier = ""
        self.key: str | None = None
        self.fields: list[Field] = []
        #: Whether the count was signed when its state was last asked for.
        self.signed = False
        self._store = store
        self._opened: Case | None = None
        self._result: SlideResult | None = None
        #: Grade of the pictures, which no correction changes: read once for each analysis.
        self._quality: tuple[str, str] | None = None
        self._is_graded = False
        self._selecting = False
        self._paused = False

    # Fields --------------------------------------------------------------------------------------------

    @property
    def slides(self) -> list[SlideModel]:
        """The analysed fields."""
        return [field.slide for field in self.fields if field.slide is not None]

    @property
    def analysed(self) -> bool:
        """Whether there is a result of any field."""
        return any(field.slide is not None for field in self.fields)

    @property
    def complete(self) -> bool:
        """Whether every field is analysed."""
        return bool(self.fields) and all(field.slide is not None for field in self.fields)

    @property
    def case(self) -> Case:
        """The case in the review store.

        Raises
        ------
        LeukoclsError
            If no field is analysed yet.
        """
        if self.key is None:
            raise LeukoclsError(Texts.NOT_ANALYSED)
        # Opened once: a key in the Review dock asks for it several times.
        if self._opened is None or self._opened.key != self.key:
            self._opened = self._store().open_case(self.key)
        return self._opened

    def field_of(self, slide: SlideModel | None) -> Field | None:
        """Find the field of a result.

        Parameters
        ----------
        slide : SlideModel or None

        Returns
        -------
        Field or None
        """
        return next((field for field in self.fields if slide is not None and field.slide is slide), None)

    def set_slide(self, field: Field, slide: SlideModel) -> None:
        """Give a field its result.

        Parameters
        ----------
        field : Field
        slide : SlideModel
        """
        if self.key is None:
            self.open_key(self._store().case(slide.key).key)
        if field.slide is not slide:
            if field.slide is not None:
                field.slide.changed.disconnect(self._on_changed)
                field.slide.selected.disconnect(self._on_selected)
            field.slide = slide
            slide.changed.connect(self._on_changed)
            slide.selected.connect(self._on_selected)
        self._is_graded = False
        self._on_changed()

    def add_field(self, name: str, layer: Any) -> Field:
        """Add an image as the last field.

        Parameters
        ----------
        name : str
        layer : napari.layers.Image

        Returns
        -------
        Field
        """
        field = Field(name, layer)
        self.fields.append(field)
        self.state_changed.emit()
        return field

    def open_key(self, key: str) -> None:
        """Take name and identifier from a case of the review store.

        Parameters
        ----------
        key : str
        """
        self.key = key
        record = self.case.record
        self.name, self.identifier = record.name, record.identifier

    def number(self, slide: str, cell_id: int) -> int:
        """The number of a cell within the case.

        Parameters
        ----------
        slide : str
            Key of its field in the review store.
        cell_id : int

        Returns
        -------
        int
            -1 if the field is not open.
        """
        for i, field in enumerate(self.fields):
            if field.slide is not None and field.slide.key == slide:
                return i * NUMBERS + int(cell_id)
        return -1

    def numbers(self, cells: Iterable[tuple[str, int]]) -> list[int]:
        """The numbers of cells within the case; cells of fields that are not open are left out.

        Parameters
        ----------
        cells : iterable of tuple
            Key of the field, and number there.

        Returns
        -------
        list of int
        """
        places = {field.slide.key: i for i, field in enumerate(self.fields) if field.slide is not None}
        return [places[slide] * NUMBERS + int(cell) for slide, cell in cells if slide in places]

    def local(self, number: int) -> tuple[SlideModel, int]:
        """The field of a cell, and its number there.

        Parameters
        ----------
        number : int
            Within the case.

        Returns
        -------
        SlideModel, int
        """
        slide = self.fields[number // NUMBERS].slide
        assert slide is not None
        return slide, number % NUMBERS

    def pictures(self) -> list[tuple[int, FieldResult]]:
        """The results that cells are cut from, each with the number that is added to its cells' numbers."""
        return [
            (i * NUMBERS, field.slide.result)
            for i, field in enumerate(self.fields)
            if field.slide is not None
        ]

    # What is shown -------------------------------------------------------------------------------------

    @property
    def result(self) -> SlideResult:
        """Cells and count of all fields; of one field with its image and outlines, so a `FieldResult`.

        Up to the goal: cells after it are in no count.
        """
        if self._result is None:
            self._result = self._joined()
        return self._result

    @property
    def scale(self) -> Scale:
        """The pixel size of the last analysed field."""
        return self.slides[-1].scale

    def set_depth(self, depth: str) -> None:
        """Show and count the classes of the model, or their finer classes too.

        Parameters
        ----------
        depth : {"classes", "fine"}
        """

        def change() -> None:
            for slide in self.slides:
                slide.set_depth(depth)

        self._together(change)

    def select(self, cell_ids: tuple[int, ...], origin: str) -> None:
        """Select cells, in the case and in the fields that they belong to.

        Parameters
        ----------
        cell_ids : tuple of int
            Numbers within the case.
        origin : str
            The part that selects them.
        """
        if cell_ids == self.selection:
            return
        self.selection = cell_ids
        if cell_ids:
            self.field_shown.emit(self.fields[cell_ids[0] // NUMBERS])
        self._selecting = True
        try:
            for i, field in enumerate(self.fields):
                if field.slide is not None:
                    mine = tuple(cell % NUMBERS for cell in cell_ids if cell // NUMBERS == i)
                    field.slide.select(mine, origin)
        finally:
            self._selecting = False
        self.selected.emit(cell_ids, origin)

    def _on_selected(self, _cells: tuple[int, ...], origin: str) -> None:
        """Follow a selection in a field, for example by a click on the canvas."""
        if self._selecting:
            return
        chosen = tuple(
            i * NUMBERS + cell
            for i, field in enumerate(self.fields)
            if field.slide is not None
            for cell in field.slide.selection
        )
        if origin == "canvas" and _cells:
            # A click chooses a cell of the field that is shown, and no other field's.
            last = {slide.selection: i for i, slide in enumerate(f.slide for f in self.fields) if slide}
            chosen = tuple(last[_cells] * NUMBERS + cell for cell in _cells)
        if chosen != self.selection:
            self.selection = chosen
            self.selected.emit(chosen, origin)

    def _on_changed(self) -> None:
        self._result = None
        if not self._paused:
            self.changed.emit()
            self.state_changed.emit()

    def _together(self, action: Callable[[], object]) -> None:
        """Do something that changes several fields, and tell the docks once."""
        self._paused = True
        try:
            action()
        finally:
            self._paused = False
        self._on_changed()

    # What people say -----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Apply the corrections of the review store to all fields, and count again."""

        def apply() -> None:
            for slide in self.slides:
                # Applied to the table of the classifier, so that nothing of an undone correction remains.
                slide.with_cells(self._store().apply(slide.key, slide.added.cells))

        self._together(apply)

    def correct(self, number: int, class_name: str, reviewer: str) -> None:
        """Save the class that a person gives to a cell; `refresh` shows it.

        Parameters
        ----------
        number : int
            Of the cell, within the case.
        class_name : str
        reviewer : str

        Raises
        ------
        LeukoclsError
            If it cannot be saved.
        """
        slide, cell = self.local(number)
        self._store().correct(slide.key, cell, class_name, reviewer)

    def undo(self, reviewer: str) -> int | None:
        """Undo the reviewer's own last correction; `refresh` shows it.

        Parameters
        ----------
        reviewer : str

        Returns
        -------
        int or None
            Number of the cell within the case; None if there was nothing to undo.
        """
        done = self.case.undo(reviewer)
        return None if done is None else self.number(done.slide, done.cell_id)

    def redo(self, reviewer: str) -> int | None:
        """Redo what the reviewer undid last; `refresh` shows it.

        Parameters
        ----------
        reviewer : str

        Returns
        -------
        int or None
            Number of the cell within the case; None if there was nothing to redo.
        """
        done = self.case.redo(reviewer)
        return None if done is None else self.number(done.slide, done.cell_id)

    def offered(self) -> list[int]:
        """The counted cells that need review, least certain first: numbers within the case."""
        return self.numbers(self.case.offered())

    def set_goal(self, goal: int | None, reviewer: str) -> None:
        """Set how many leukocytes are counted.

        Parameters
        ----------
        goal : int or None
            None for all.
        reviewer : str
        """
        self.case.set_goal(goal, reviewer)
        preferences.keep_goal(goal)
        self._on_changed()

    def sign_off(self, reviewer: str) -> int:
        """Sign the count as it is now.

        Parameters
        ----------
        reviewer : str

        Returns
        -------
        int
            How many cells were signed.

        Raises
        ------
        LeukoclsError
            If cells need review, or a field is not analysed or not open.
        """
        if not self.complete:
            raise LeukoclsError(Texts.INCOMPLETE)
        closed = self.closed_fields()
        if closed:
            raise LeukoclsError(Texts.CLOSED[closed != 1].format(n=closed))
        n = self.case.sign_off(reviewer).n_counted
        self._on_changed()
        return n

    def rename(self, name: str, identifier: str, reviewer: str) -> None:
        """Change the name of the slide and the identifier of the sample.

        Parameters
        ----------
        name, identifier : str
        reviewer : str

        Raises
        ------
        LeukoclsError
            If the name is empty.
        """
        if self.key is not None:
            self.case.rename(name, identifier, reviewer)
        elif not name.strip():
            raise LeukoclsError(Texts.NAME_NEEDED)
        self.name, self.identifier = name.strip(), identifier.strip()
        self._on_changed()

    @property
    def sample(self) -> SampleValues:
        """Counts of the analyser, the patient's number, age and sex; empty before a field is analysed."""
        found = self.case.sample() if self.key is not None else None
        return found or SampleValues()

    def set_sample(self, sample: SampleValues, reviewer: str) -> None:
        """Set the counts of the analyser and the rest. A signature is lifted if they were others.

        Parameters
        ----------
        sample : SampleValues
        reviewer : str

        Raises
        ------
        LeukoclsError
            If no field is analysed yet.
        """
        self.case.set_sample(None if sample == SampleValues() else sample, reviewer)
        self._on_changed()

    def with_sample(self, result: Result) -> Result:
        """Add the values of the sample and the last count of the patient to a result.

        Parameters
        ----------
        result : SlideResult

        Returns
        -------
        SlideResult
            Of the same type.
        """
        from napari_leukocls.measurement.judgement import with_earlier

        if self.key is None:
            return result
        sample = self.case.sample()
        if sample is not None and not sample.identifier:
            sample = replace(sample, identifier=self.identifier)
        elif sample is None and self.identifier:
            sample = SampleValues(identifier=self.identifier)
        return with_earlier(with_sample(result, sample), self.case.earlier_count())

    def closed_fields(self) -> int:
        """Count the fields of the case in the review store that are not open here."""
        return len(set(self.case.record.fields) - {slide.key for slide in self.slides})

    def signature(self) -> Signature:
        """The state of the count: unreviewed, provisional or signed."""
        found = self.case.signature() if self.key is not None else Signature()
        self.signed = found.is_signed
        return found

    def progress_words(self) -> str:
        """The progress in a few words, such as "82 of 100"."""
        if not self.analysed:
            n = len(self.fields)
            return Texts.TO_ANALYSE[n != 1].format(n=n)
        now = self.case.progress()
        if now.goal is not None:
            text = Texts.OF_GOAL.format(n=now.leukocytes, goal=now.goal)
        else:
            text = Texts.OF_ALL.format(n=now.leukocytes, waiting=now.to_review)
        # One field of an earlier slide, opened alone: the table below has its cells only.
        fields = self.case.record.fields
        closed = len(set(fields).difference(slide.key for slide in self.slides))
        return f"{text}{Texts.NOT_OPEN.format(closed=closed, n=len(fields))}" if closed else text

    def quality(self) -> tuple[str, str] | None:
        """The grade of the pictures, green, amber or red, and what speaks against the count.

        Returns
        -------
        tuple of str or None
            None if the pictures were not graded.
        """
        if not self._is_graded and self.analysed:
            grades = {"absent": "green", "possible": "amber", "certain": "red"}
            found = next((one for one in self.result.findings if one.name == "quality_grade"), None)
            self._quality = None if found is None else (grades[found.state], found.text)
            self._is_graded = True
        return self._quality if self.analysed else None

    # Joining -------------------------------------------------------------------------------------------

    def _joined(self) -> SlideResult:
        from napari_leukocls.analysis.joined import join_fields
        from napari_leukocls.measurement.fine import count_cells, fine_classes_of

        parts = [(field.name, field.slide.result) for field in self.fields if field.slide is not None]
        if len(self.fields) == 1:
            joined: SlideResult = parts[0][1]
        else:
            joined = join_fields(self.name, self.name, parts)
            joined = replace(joined, cells=self._numbered(joined.cells))
        goal = self.case.record.goal
        if goal is None:
            return joined
        from napari_leukocls.review.counting import in_count

        counted = self.numbers(self.case.counted())
        chosen = joined.cells[in_count(joined.cells, counted, self.scheme)]
        classes = tuple(joined.run["classifier"]["classes"])
        finer = fine_classes_of(joined.run)
        counts = count_cells(chosen, self.scheme, classes, finer, slide_id=joined.slide_id)
        return replace(joined, counts=counts)

    def _numbered(self, cells: pd.DataFrame) -> pd.DataFrame:
        """A table of all fields with the numbers of the cells within the case."""
        steps = [
            np.full(len(field.slide.cells), i * NUMBERS, np.int64)
            for i, field in enumerate(self.fields)
            if field.slide is not None
        ]
        ids = cells["cell_id"].to_numpy(np.int64) + np.concatenate(steps)
        return cells.assign(cell_id=ids)

    def for_export(self, name: str) -> list[FieldResult]:
        """The results of the fields as they are written: each with its name.

        Parameters
        ----------
        name : str
            Of the folder of results.

        Returns
        -------
        list of FieldResult
        """
        signature = self.signature()
        if len(self.slides) == 1:
            result = self.with_sample(self.result)
            assert isinstance(result, FieldResult)
            return [_named(replace(result, signature=signature), name)]
        return [
            _named(self.with_sample(replace(field.slide.result, signature=signature)), field.name)
            for field in self.fields
            if field.slide is not None
        ]


def _named(result: FieldResult, name: str) -> FieldResult:
    """A result under another name."""
    image = replace(result.image, slide_id=name)
    cells, counts = result.cells.assign(slide_id=name), result.counts.assign(slide_id=name)
    counts.attrs = dict(result.counts.attrs)
    cells.attrs = dict(result.cells.attrs)
    red_cells = None if result.red_cells is None else result.red_cells.assign(slide_id=name)
    return replace(result, image=image, cells=cells, counts=counts, red_cells=red_cells)
