"""The Review dock: gallery, corrections, goal, second read and signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QPoint, Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.common.case_model import CaseModel
from napari_leukocls.widgets.common.controls import (
    NARROWEST_CHARS,
    Folded,
    Message,
    button,
    combo,
    fill,
    find,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.depth import depth_box
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.texts import Common, Review, plural
from napari_leukocls.widgets.review.class_buttons import ClassButtons
from napari_leukocls.widgets.review.gallery import Gallery
from napari_leukocls.widgets.review.model import NUCLEATED, ReviewModel


class ReviewHead(QWidget):
    """Name of the reviewer, goal, group and order of the gallery, and progress.

    Parameters
    ----------
    reviewer : str
    depth : QComboBox
        In which the depth of the classes is chosen.
    """

    def __init__(self, reviewer: str, depth: QComboBox) -> None:
        super().__init__()
        self.reviewer = named(QLineEdit(reviewer), Common.REVIEWER, Common.REVIEWER_TIP)
        self.reviewer.setPlaceholderText(Common.REVIEWER_HINT)
        self.goal = combo(Review.GOAL, Review.GOAL_TIP, [(text, n) for n, text in Review.GOALS.items()])
        self.group = combo(Review.SHOW, Review.SHOW_TIP)
        self.sort = combo(Review.SORT, Review.SORT_TIP, [(text, key) for key, text in Review.SORTS.items()])
        self.depth = depth
        self.bar = named(QProgressBar(), Review.PROGRESS_NAME, Review.PROGRESS_NAME)
        self.bar.setTextVisible(False)
        self.progress = label()
        lines = form()
        form_row(lines, Common.REVIEWER, self.reviewer)
        form_row(lines, Review.GOAL, self.goal)
        form_row(lines, Review.SHOW, self.group)
        form_row(lines, Review.SORT, self.sort)
        form_row(lines, Common.DEPTH, self.depth)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(lines)
        column.addWidget(self.bar)
        column.addWidget(self.progress)


class SecondPanel(Folded):
    """Name of the second reader, the buttons of a blind read, and the signature."""

    begun = Signal()
    finished = Signal()
    left = Signal()
    signing = Signal()

    def __init__(self) -> None:
        super().__init__(Review.SECOND, Review.SECOND_TIP)
        self.reader = named(QLineEdit(), Review.READER, Review.READER_TIP)
        self.reader.setPlaceholderText(Common.REVIEWER_HINT)
        self.start = button(Review.START, Review.START_TIP, self.begun.emit)
        self.finish = button(Review.FINISH, Review.FINISH_TIP, self.finished.emit)
        self.leave = button(Review.LEAVE, Review.LEAVE_TIP, self.left.emit)
        self.sign = button(Review.SIGN, Review.SIGN_TIP, self.signing.emit)
        self.signed = label()
        name = form()
        form_row(name, Review.READER, self.reader)
        self.body.addLayout(name)
        self.body.addWidget(self.start)
        ends = QHBoxLayout()
        ends.addWidget(self.finish)
        ends.addWidget(self.leave)
        self.body.addLayout(ends)
        self.body.addWidget(self.sign)
        self.body.addWidget(self.signed)


class SectionLine(QLabel):
    """Shows the class of the cells at the top of the gallery, and follows its scrolling.

    Parameters
    ----------
    gallery : Gallery
    name_of : callable
        Returns the class of a cell; "" if the gallery is not sorted by class.
    """

    def __init__(self, gallery: Gallery, name_of: Callable[[int], str]) -> None:
        super().__init__()
        self._gallery = gallery
        self._name_of = name_of
        #: Index of the first cell of each class, and the number of its cells.
        self._sections: dict[str, tuple[int, int]] = {}
        self.setAccessibleName(Review.SECTION_NAME)
        gallery.cells.modelReset.connect(self._count)
        gallery.verticalScrollBar().valueChanged.connect(self._follow)
        self.hide()

    def _count(self) -> None:
        self._sections = {}
        for row, cell in enumerate(self._gallery.cells.ids):
            name = self._name_of(cell)
            start, n = self._sections.get(name, (row, 0))
            self._sections[name] = (start, n + 1)
        self._sections.pop("", None)
        self.setVisible(bool(self._sections))
        self._follow()

    def _follow(self, _value: int = 0) -> None:
        if not self._sections:
            return
        edge = self._gallery.spacing() + self._gallery.pictures.side // 2
        at = self._gallery.indexAt(QPoint(edge, edge))
        row = at.row() if at.isValid() else 0
        name = self._name_of(self._gallery.cells.ids[row])
        start, n = self._sections[name]
        self.setText(Review.SECTION.format(display=name, i=row - start + 1, n=n))


class ReviewDock(Dock, QWidget):
    """The Review dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._model: ReviewModel | None = None
        self._following = False
        self._acting = False
        self._build()
        self._lay_out()
        self._connect()
        self._on_case(self._session.case)

    def _build(self) -> None:
        depth = depth_box(self._session, self._subscriptions)
        self.head = head = ReviewHead(self._session.reviewer, depth)
        self.reviewer, self.goal, self.group, self.sort = head.reviewer, head.goal, head.group, head.sort
        self.bar, self.progress = head.bar, head.progress
        self.gallery = Gallery()
        self.gallery.cells.tile = lambda cell: self._model.tile(cell) if self._model is not None else None
        self.section = SectionLine(self.gallery, self._section_of)
        self.classes = ClassButtons()
        self.message = Message()
        self.confirm = button(Review.CONFIRM, Review.CONFIRM_TIP, self._confirm)
        self.undo = button(Review.UNDO, Review.UNDO_TIP, self._undo)
        self.redo = button(Review.REDO, Review.REDO_TIP, self._redo)
        self.back = button(Review.BACK, Review.BACK_TIP, self._canvas.go_back)
        self.second = SecondPanel()
        self.reader, self.signed = self.second.reader, self.second.signed
        self.start, self.finish, self.leave = self.second.start, self.second.finish, self.second.leave

    def _lay_out(self) -> None:
        actions = QGridLayout()
        actions.setSpacing(2)
        for i, one in enumerate((self.confirm, self.undo, self.redo, self.back)):
            actions.addWidget(one, 0, i)
        column = QVBoxLayout(self)
        column.addWidget(self.head)
        column.addWidget(self.section)
        column.addWidget(self.gallery, 1)
        column.addWidget(self.classes)
        column.addLayout(actions)
        column.addWidget(self.message)
        column.addWidget(self.second)
        self.setMinimumWidth(self.fontMetrics().averageCharWidth() * NARROWEST_CHARS)

    def _connect(self) -> None:
        self.reviewer.editingFinished.connect(lambda: self._session.set_reviewer(self.reviewer.text()))
        self.goal.currentIndexChanged.connect(self._on_goal)
        self.group.currentIndexChanged.connect(lambda _: self._show_cells([]))
        self.sort.currentIndexChanged.connect(lambda _: self._show_cells(self.gallery.selected_ids()))
        self.gallery.chosen.connect(self._on_chosen)
        self.gallery.class_key.connect(self._on_key)
        self.gallery.confirm.connect(self._confirm)
        self.gallery.doubleClicked.connect(lambda _: self._on_chosen(self.gallery.selected_ids()))
        self.classes.given.connect(self._give)
        self.classes.dropped.connect(self._give)
        self.second.begun.connect(self._start_reading)
        self.second.finished.connect(self._finish_reading)
        self.second.left.connect(self._leave_reading)
        self.second.signing.connect(self._sign)
        self._subscriptions.listen(self._session.case_changed, self._on_case)
        self._subscriptions.listen(self._session.reviewer_changed, self._on_reviewer)

    def event(self, event: QEvent) -> bool:
        """Take the keys of undo and redo before napari's own shortcuts.

        Parameters
        ----------
        event : QEvent

        Returns
        -------
        bool
            Whether the event was handled.
        """
        if event.type() == QEvent.Type.ShortcutOverride and self._shortcut(event) is not None:
            event.accept()
            return True
        found: bool = super().event(event)
        return found

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Handle the keys of undo, redo and back.

        Parameters
        ----------
        event : QKeyEvent
        """
        slot = self._shortcut(event)
        if slot is None:
            super().keyPressEvent(event)
        else:
            slot()

    def _shortcut(self, event: QKeyEvent) -> Callable[[], None] | None:
        if event.matches(QKeySequence.StandardKey.Undo):
            return self._undo
        if event.matches(QKeySequence.StandardKey.Redo):
            return self._redo
        control = event.modifiers() == Qt.KeyboardModifier.ControlModifier
        return self._canvas.go_back if control and event.key() == Qt.Key.Key_B else None

    def _on_reviewer(self, name: str) -> None:
        self.reviewer.setText(name)

    # Following the slide -------------------------------------------------------------------------------

    def _on_case(self, case: CaseModel | None) -> None:
        self._follow(case, changed=self._on_changed, selected=self._on_selected)
        slide = case if case is not None and case.analysed else None
        self._model = None if slide is None else ReviewModel(self._session, slide)
        for part in (self.gallery, self.classes, self.group, self.sort, self.goal, self.second):
            part.setEnabled(slide is not None)
        if slide is None:
            self.message.tell(Common.NO_SLIDE)
            return
        self.message.tell("")
        was_blocked = self.goal.blockSignals(True)
        self.goal.setCurrentIndex(max(0, find(self.goal, self._model.goal if self._model else None)))
        self.goal.blockSignals(was_blocked)
        self.group.setCurrentIndex(0)
        self._on_changed()

    def _on_changed(self) -> None:
        """Update all controls after a change of the slide."""
        if self._model is None and self._session.case is not None and self._session.case.analysed:
            # The first field of the slide has just been analysed.
            self._on_case(self._session.case)
        elif not self._acting:
            self._refresh(self.gallery.selected_ids())

    def _refresh(self, selected: list[int]) -> None:
        model = self._model
        if model is None:
            return
        was_blocked = self.group.blockSignals(True)
        entries = [(Review.GROUP.format(text=g.text, n=g.count), g.name) for g in model.groups()]
        fill(self.group, entries)
        self.group.blockSignals(was_blocked)
        self.gallery.pictures.show(model.slide.pictures())
        self.classes.show_classes(model.classes(), model.slide.scheme)
        done, total, text = model.progress()
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.progress.setText(text)
        self.signed.setText(model.signature())
        reading = model.reading is not None
        self.start.setEnabled(not reading)
        self.finish.setEnabled(reading)
        self.leave.setEnabled(reading)
        self.second.sign.setEnabled(not reading)
        for one in (self.confirm, self.redo):
            one.setEnabled(not reading)
        self._session.set_blind(reading)
        self._canvas.blind(reading)
        self._show_cells(selected)

    def _show_cells(self, selected: list[int]) -> None:
        if self._model is None:
            return
        ids = self._model.order(self.group.currentData() or NUCLEATED, self.sort.currentData())
        self.gallery.show_cells([int(cell) for cell in ids], selected)

    def _section_of(self, cell: int) -> str:
        return self._model.section(cell, self.group.currentData()) if self._model is not None else ""

    def _on_chosen(self, ids: list[int]) -> None:
        if self._model is not None and not self._following:
            self._model.slide.select(tuple(ids), "gallery")

    def _on_selected(self, ids: tuple[int, ...], origin: str) -> None:
        """Show a cell that was selected on the canvas."""
        if origin == "gallery" or self._model is None or self._model.reading is not None:
            return
        self._following = True
        try:
            if not set(ids) <= set(self.gallery.cells.ids) and ids:
                cell = self._model.tile(ids[0])
                at = find(self.group, cell.class_name) if cell is not None else -1
                self.group.setCurrentIndex(max(at, 0))
            self.gallery.select(list(ids))
        finally:
            self._following = False

    # Saying what cells are -----------------------------------------------------------------------------

    def _on_key(self, key: str) -> None:
        name = self._model.class_of_key(key) if self._model is not None else None
        if name is not None:
            self._give(name)

    def _give(self, name: str, cells: Any = None) -> None:
        model = self._model
        ids = self.gallery.selected_ids() if cells is None else list(cells)
        if model is None or not ids:
            self.message.tell(Review.NOTHING_CHOSEN)
            return
        display = model.slide.scheme[name].display
        if len(ids) == 1:
            done = Review.CORRECTED_ONE.format(id=ids[0], display=display)
        else:
            done = Review.CORRECTED.format(n=len(ids), display=display)
        self._do(lambda: model.correct(ids, name), ids, done)

    def _confirm(self) -> None:
        model, ids = self._model, self.gallery.selected_ids()
        if model is None or not ids or model.reading is not None:
            self.message.tell(Review.NOTHING_CHOSEN)
            return
        self._do(lambda: model.confirm(ids), ids, plural(Review.CONFIRMED, len(ids)))

    def _do(self, action: Callable[[], Any], ids: list[int], done: str) -> None:
        """Apply an action to cells, show a message, and select the next cell."""
        self._session.set_reviewer(self.reviewer.text())
        following = self.gallery.next_after(ids)
        self._acting = True
        try:
            action()
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        finally:
            self._acting = False
        self.message.tell(done)
        self._refresh([] if following is None else [following])
        self.gallery.setFocus()

    def _undo(self) -> None:
        self._step("undo", Review.UNDONE, Review.NOTHING_TO_UNDO)

    def _redo(self) -> None:
        self._step("redo", Review.REDONE, Review.NOTHING_TO_REDO)

    def _step(self, name: str, done: str, nothing: str) -> None:
        if self._model is None:
            return
        self._session.set_reviewer(self.reviewer.text())
        try:
            cells = getattr(self._model, name)()
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        self.message.tell(done if cells else nothing)
        self._refresh(cells or self.gallery.selected_ids())

    # Goal, second read, signature ----------------------------------------------------------------------

    def _on_goal(self, _index: int) -> None:
        model = self._model
        if model is not None:
            self._try(lambda: model.set_goal(self.goal.currentData()))

    def _start_reading(self) -> None:
        model = self._model
        if model is not None and self._try(lambda: model.start_reading(self.reader.text())):
            self.gallery.setFocus()

    def _leave_reading(self) -> None:
        if self._model is not None:
            self._try(self._model.leave_reading)

    def _finish_reading(self) -> None:
        if self._model is not None:
            self._try(self._model.finish_reading)

    def _sign(self) -> None:
        self._session.set_reviewer(self.reviewer.text())
        if self._model is not None:
            self._try(self._model.sign_off)

    def _try(self, action: Callable[[], Any]) -> bool:
        """Try an action, show its message or its error, and return whether it succeeded."""
        try:
            message = action()
        except LeukoclsError as error:
            self.message.warn(str(error))
            return False
        self.message.tell(message or "")
        self._refresh([])
        return True
