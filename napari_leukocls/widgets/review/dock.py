"""The Review dock: gallery, corrections, goal, second read and signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QApplication, QGridLayout, QLineEdit, QVBoxLayout, QWidget

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.case_model import NUMBERS, CaseModel
from napari_leukocls.widgets.common.controls import Scrolling, button, fill, find
from napari_leukocls.widgets.common.depth import depth_box
from napari_leukocls.widgets.common.handover import may_sign
from napari_leukocls.widgets.common.header import CaseHeader
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.sample_group import SampleGroup
from napari_leukocls.widgets.common.workplace import show_as
from napari_leukocls.widgets.counter.panel import CounterPanel
from napari_leukocls.widgets.review.class_buttons import ClassButtons
from napari_leukocls.widgets.review.gallery import Gallery
from napari_leukocls.widgets.review.head import ReviewHead, SecondPanel
from napari_leukocls.widgets.review.kinds import Kind, KindEntry
from napari_leukocls.widgets.review.model import NUCLEATED, ReviewModel
from napari_leukocls.widgets.review.red_cells import red_cells_of
from napari_leukocls.widgets.texts import Case, Common, Review, plural

#: Milliseconds after the last change of the size of the cells until it is stored.
KEEP_AFTER_MS = 800

#: Kinds of cells beside the leukocytes, which come first.
KINDS: list[KindEntry] = [("red_cells", Review.RED_CELLS, red_cells_of)]


class ReviewDock(Dock, Scrolling):
    """The Review dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        #: The leukocytes of the slide, and the kind of cells that is shown: the leukocytes, or one of `KINDS`.
        self._model: ReviewModel | None = None
        self._kind: Kind | None = None
        self._others: dict[str, Kind] = {}
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
        self.gallery.cells.tile = lambda cell: self._kind.tile(cell) if self._kind is not None else None
        self.gallery.set_side(preferences.tile_size() or self.gallery.pictures.side)
        head.size.setValue(self.gallery.pictures.side)
        self.classes = ClassButtons()
        self.counter = CounterPanel(self._session)
        self.counter.hide()
        self.message = Message()
        self.confirm = button(Review.CONFIRM, Review.CONFIRM_TIP, self._confirm)
        self.undo = button(Review.UNDO, Review.UNDO_TIP, self._undo)
        self.redo = button(Review.REDO, Review.REDO_TIP, self._redo)
        self.back = button(Review.BACK, Review.BACK_TIP, self._canvas.go_back)
        self.next = button(Review.NEXT, Review.NEXT_TIP, self._next_class)
        self.sample = SampleGroup(lambda: self._session.reviewer)
        self.second = SecondPanel()
        self.reader, self.signed = self.second.reader, self.second.signed
        self.start, self.finish, self.leave = self.second.start, self.second.finish, self.second.leave
        self._keep_side = QTimer(self)
        self._keep_side.setSingleShot(True)
        self._keep_side.setInterval(KEEP_AFTER_MS)

    def _lay_out(self) -> None:
        actions = QGridLayout()
        actions.setSpacing(2)
        for i, one in enumerate((self.confirm, self.next, self.undo, self.redo, self.back)):
            actions.addWidget(one, 0, i)
        self.page = QWidget()
        page = QVBoxLayout(self.page)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(4)
        page.addWidget(self.gallery, 1)
        page.addWidget(self.classes)
        page.addLayout(actions)
        column = self.body
        column.setSpacing(4)
        column.addWidget(CaseHeader(self._viewer))
        column.addWidget(self.head)
        # Above the cells, so that it is seen in a low window, too.
        column.addWidget(self.message)
        column.addWidget(self.page, 1)
        column.addWidget(self.counter, 1)
        column.addWidget(self.sample)
        column.addWidget(self.second)

    def _connect(self) -> None:
        head = self.head
        self.reviewer.editingFinished.connect(lambda: self._session.set_reviewer(self.reviewer.text()))
        self.reviewer.returnPressed.connect(self._go_on)
        self.goal.currentIndexChanged.connect(self._on_goal)
        self.group.currentIndexChanged.connect(lambda _: self._show_cells([]))
        self.sort.currentIndexChanged.connect(lambda _: self._show_cells(self.gallery.selected_ids()))
        head.kind.currentIndexChanged.connect(self._on_kind)
        # What a person chooses is kept; what the dock shows by itself, for a cell chosen on the smear, is not.
        for box in (self.group, self.sort, head.kind):
            box.activated.connect(self._keep_filter)
        head.view_wanted.connect(lambda view: show_as(self, view))
        head.side_wanted.connect(self.gallery.set_side)
        head.counter_wanted.connect(self._on_counter)
        self.counter.said.connect(self.message.tell)
        self.counter.failed.connect(self.message.warn)
        self.counter.changed.connect(self._on_counted)
        self.gallery.resized.connect(self._on_side)
        self._keep_side.timeout.connect(lambda: preferences.keep_tile_size(self.gallery.pictures.side))
        self.gallery.chosen.connect(self._on_chosen)
        self.gallery.class_key.connect(self._on_key)
        self.gallery.confirm.connect(self._confirm)
        self.gallery.dropped.connect(self._give)
        self.gallery.doubleClicked.connect(lambda _: self._on_chosen(self.gallery.selected_ids()))
        self.classes.given.connect(self._give)
        self.classes.dropped.connect(self._give)
        self.second.begun.connect(self._start_reading)
        self.second.finished.connect(self._finish_reading)
        self.second.left.connect(self._leave_reading)
        self.second.signing.connect(self._sign)
        self.second.head.toggled.connect(lambda _: self._on_changed())
        self._subscriptions.listen(self._session.case_changed, self._on_case)
        self._subscriptions.listen(self._session.reviewer_changed, self._on_reviewer)
        self._canvas.offer_keys_to(self, self._take_key)

    # Keys ----------------------------------------------------------------------------------------------

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
        """Handle the keys of undo, redo, back and the next class.

        Parameters
        ----------
        event : QKeyEvent
        """
        slot = self._shortcut(event)
        if slot is None and self.counting and self.counter.take_key(event):
            return
        if slot is None:
            # Not to the area that scrolls: it would take the arrows.
            event.ignore()
        else:
            slot()

    def _shortcut(self, event: QKeyEvent) -> Callable[[], None] | None:
        if event.matches(QKeySequence.StandardKey.Undo):
            return self._undo
        if event.matches(QKeySequence.StandardKey.Redo):
            return self._redo
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier != Qt.KeyboardModifier.ControlModifier:
            return None
        keys: dict[int, Callable[[], None]] = {
            Qt.Key.Key_B: self._canvas.go_back,
            Qt.Key.Key_Down: self._next_class,
            Qt.Key.Key_Up: lambda: self._next_class(-1),
        }
        return keys.get(event.key())

    def _take_key(self, event: QKeyEvent) -> bool:
        """Take a key that was pressed over the smear, or in a dock that has no use for it."""
        # A window keeps its own widget with the cursor while a list or another window is the active one.
        cursor = (QApplication.focusWidget(), self.window().focusWidget())
        is_return = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_return and any(isinstance(one, QLineEdit) for one in cursor):
            # Return at the end of a name confirms no cell.
            return False
        if self.counting:
            return not self._canvas.tool and self.counter.take_key(event)
        kind, slide = self._kind, self._session.case
        if kind is None or slide is None or not self._canvas.takes_keys:
            return False
        slot = self._shortcut(event)
        if slot is not None:
            slot()
            return True
        if event.modifiers() not in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier):
            return False
        ids = list(slide.selection)
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if ids:
                self._confirm(ids)
            return bool(ids)
        name = kind.class_of_key(event.text().lower())
        if name is None:
            return False
        if not ids:
            self._viewer.status = Review.NOTHING_CHOSEN
        self._give(name, ids, stay=True)
        return True

    # Counter -------------------------------------------------------------------------------------------

    @property
    def counting(self) -> bool:
        """Whether the counter is shown instead of the gallery."""
        return bool(self.head.counter_page.isChecked())

    def _on_counter(self, on: bool) -> None:
        """Show the counter, or the gallery again."""
        self._session.set_reviewer(self.reviewer.text())
        # It may name classes of the program.
        self.message.tell("")
        self.page.setVisible(not on)
        self.head.show_lines(not on)
        self.counter.setVisible(on)
        if on:
            self.counter.open()
            self.counter.setFocus()
        self._on_counted()

    def _on_counted(self) -> None:
        """Mark the counted cells on the smear, and hide the program's classes while a person counts."""
        case = self._session.case
        self._hide_classes()
        self._canvas.mark_counted(self.counter.model.marks() if self.counting else {})
        if self.counting and case is not None:
            # The next key is for another cell.
            case.select((), "gallery")

    def _hide_classes(self) -> None:
        """Hide the program's classes during a blind read, and while a person counts."""
        reading = self._model is not None and self._model.reading is not None
        blind = reading or (self.counting and self.counter.hides)
        self._session.set_blind(blind)
        # Flags tell what the program has counted.
        self.sample.setVisible(not blind)
        self._canvas.blind(blind)
        if self._model is not None and self.second.head.isChecked():
            # It names the classes of the cells that are left out.
            self.signed.setText(Case.HIDDEN if blind else self._model.signature())

    def _on_reviewer(self, name: str) -> None:
        self.reviewer.setText(name)
        self.head.summarise()
        # The message may have asked for the name.
        self.message.tell("")

    def _go_on(self) -> None:
        """After Return in the name: the next key is for a cell, and not a letter of the name."""
        self._session.set_reviewer(self.reviewer.text())
        (self.counter if self.counting else self.gallery).setFocus()

    # Following the slide -------------------------------------------------------------------------------

    def _on_case(self, case: CaseModel | None) -> None:
        self._follow(case, changed=self._on_changed, selected=self._on_selected)
        slide = case if case is not None and case.analysed else None
        self._model = None if slide is None else ReviewModel(self._session, slide)
        self._kind = self._model
        self._find_kinds(slide)
        self.head.summarise()
        self.sample.set_case(slide)
        for part in (self.gallery, self.classes, self.group, self.sort, self.goal, self.second):
            part.setEnabled(slide is not None)
        if self.counting:
            self.counter.open()
            self._on_counted()
        if slide is None:
            self.message.tell(Common.NO_SLIDE)
            self.gallery.show_sections([], [])
            return
        self.message.tell("")
        was_blocked = self.goal.blockSignals(True)
        self.goal.setCurrentIndex(max(0, find(self.goal, self._model.goal if self._model else None)))
        self.goal.blockSignals(was_blocked)
        self._restore_filter()
        self._on_changed()

    def _restore_filter(self) -> None:
        """Show the cells that were shown of the last slide, where this one has them."""
        kind, group = preferences.review_filter()
        at = find(self.head.kind, kind)
        for box, index in (
            (self.head.kind, max(at, 0)),
            (self.sort, find(self.sort, preferences.review_sort())),
        ):
            was_blocked = box.blockSignals(True)
            box.setCurrentIndex(max(index, 0))
            box.blockSignals(was_blocked)
        self._kind = self._others.get(self.head.kind.currentData() or "", self._model)
        self._fill_groups()
        was_blocked = self.group.blockSignals(True)
        self.group.setCurrentIndex(max(find(self.group, group), 0) if at >= 0 else 0)
        self.group.blockSignals(was_blocked)

    def _keep_filter(self, _index: int) -> None:
        """Remember the cells that a person has chosen to see; a blind read has groups of its own."""
        preferences.keep_review_sort(self.sort.currentData())
        if self._model is not None and self._model.reading is None:
            first = self.group.currentIndex() <= 0
            group = "" if first else str(self.group.currentData())
            preferences.keep_review_filter(self.head.kind.currentData() or "", group)

    def _fill_groups(self) -> None:
        kind = self._kind
        was_blocked = self.group.blockSignals(True)
        groups = kind.groups() if kind is not None else []
        fill(self.group, [(Review.GROUP.format(text=g.text, n=g.count), g.name) for g in groups])
        self.group.blockSignals(was_blocked)

    def _find_kinds(self, slide: CaseModel | None) -> None:
        """Show the kinds of cells that the slide has."""
        entries = [(Review.LEUKOCYTES, "")]
        self._others = {}
        for name, text, make in KINDS if slide is not None else []:
            made = make(self._session, slide) if slide is not None else None
            if made is not None:
                self._others[name] = made
                entries.append((text, name))
        was_blocked = self.head.kind.blockSignals(True)
        fill(self.head.kind, entries)
        self.head.kind.setCurrentIndex(0)
        self.head.kind.blockSignals(was_blocked)
        self.head.show_kinds(entries)

    def _on_kind(self, _index: int) -> None:
        self._kind = self._others.get(self.head.kind.currentData() or "", self._model)
        self.group.setCurrentIndex(0)
        self._refresh([])

    def _on_changed(self) -> None:
        """Update all controls after a change of the slide."""
        if self._model is None and self._session.case is not None and self._session.case.analysed:
            # The first field of the slide has just been analysed.
            self._on_case(self._session.case)
        elif not self._acting:
            self._refresh(self.gallery.selected_ids())
        self.sample.refresh()

    def _refresh(self, selected: list[int]) -> None:
        model, kind = self._model, self._kind
        if model is None or kind is None:
            return
        self._fill_groups()
        self.gallery.pictures.show(model.slide.pictures())
        self.classes.show_classes(kind.buttons(), kind.more())
        done, total, text = kind.progress()
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.progress.setText(text)
        self.head.summarise()
        reading = model.reading is not None
        self.start.setEnabled(not reading)
        self.finish.setEnabled(reading)
        self.leave.setEnabled(reading)
        self.second.sign.setEnabled(not reading)
        for one in (self.confirm, self.redo, self.next):
            one.setEnabled(not reading)
        self._hide_classes()
        self._show_cells(selected)

    def _show_cells(self, selected: list[int]) -> None:
        if self._kind is not None:
            sections = self._kind.sections(self.group.currentData() or NUCLEATED, self.sort.currentData())
            self.gallery.show_sections(sections, selected)

    def _on_side(self, side: int) -> None:
        was_blocked = self.head.size.blockSignals(True)
        self.head.size.setValue(side)
        self.head.size.blockSignals(was_blocked)
        self._keep_side.start()

    def _on_chosen(self, ids: list[int]) -> None:
        if self._model is not None and not self._following:
            self._model.slide.select(tuple(ids), "gallery")

    def _on_selected(self, ids: tuple[int, ...], origin: str) -> None:
        """Show a cell that was selected on the canvas."""
        if (
            origin == "gallery"
            or self._kind is None
            or self._model is None
            or self._model.reading is not None
        ):
            return
        self._following = True
        try:
            if not set(ids) <= set(self.gallery.cells.ids) and ids:
                cell = self._kind.tile(ids[0])
                at = find(self.group, cell.class_name) if cell is not None else -1
                self.group.setCurrentIndex(max(at, 0))
            self.gallery.select(ids)
        finally:
            self._following = False

    # Saying what cells are -----------------------------------------------------------------------------

    def _on_key(self, key: str) -> None:
        name = self._kind.class_of_key(key) if self._kind is not None else None
        if name is not None:
            self._give(name)

    def _give(self, name: str, cells: Any = None, stay: bool = False) -> None:
        """Give cells a class: by default those that are chosen in the gallery."""
        kind = self._kind
        ids = self.gallery.selected_ids() if cells is None else list(cells)
        if kind is None or not ids:
            self.message.tell(Review.NOTHING_CHOSEN)
            return
        display = kind.display(name)
        if len(ids) == 1:
            # Its number in its field, as the smear and the tables have it.
            done = Review.CORRECTED_ONE.format(id=ids[0] % NUMBERS, display=display)
        else:
            done = Review.CORRECTED.format(n=len(ids), display=display)
        self._do(lambda: kind.correct(ids, name), ids, done, stay)

    def _confirm(self, cells: list[int] | None = None) -> None:
        kind = self._kind
        ids = self.gallery.selected_ids() if cells is None else cells
        if kind is None or not ids or (self._model is not None and self._model.reading is not None):
            self.message.tell(Review.NOTHING_CHOSEN)
            return
        self._do(lambda: kind.confirm(ids), ids, plural(Review.CONFIRMED, len(ids)), cells is not None)

    def _do(self, action: Callable[[], Any], ids: list[int], done: str, stay: bool = False) -> None:
        """Apply an action to cells, show a message, and select the next cell; or stay with these, on the smear."""
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
        reading = self._model.reading if self._model is not None else None
        if reading is not None and not reading.pending():
            done = f"{done} {Review.ALL_READ}"
        self.message.tell(done)
        if stay:
            self._refresh(ids)
            return
        self._refresh([] if following is None else [following])
        self.gallery.setFocus()

    def _next_class(self, step: int = 1) -> None:
        """Go on to the next class of the pass over all classes."""
        left = self.gallery.heading.section
        found = self.gallery.go_to_section(step)
        if found is None:
            self.message.tell(Review.LAST_CLASS)
            return
        if step > 0 and left is not None and left is not found:
            # Cells to review are not done with because they were passed.
            text = Review.NEXT_CLASS if left.name else Review.NEXT_FIRST
            self.message.tell(text.format(left=left.title, title=found.title, figures=found.figures))
        self.gallery.setFocus()

    def _undo(self) -> None:
        self._step("undo", Review.UNDONE, Review.NOTHING_TO_UNDO)

    def _redo(self) -> None:
        self._step("redo", Review.REDONE, Review.NOTHING_TO_REDO)

    def _step(self, name: str, done: str, nothing: str) -> None:
        if self._kind is None:
            return
        self._session.set_reviewer(self.reviewer.text())
        self._acting = True
        try:
            cells = getattr(self._kind, name)()
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        finally:
            self._acting = False
        self.message.tell(done if cells else nothing)
        self._refresh(cells or self.gallery.selected_ids())

    # Goal, second read, signature ----------------------------------------------------------------------

    def _on_goal(self, _index: int) -> None:
        model = self._model
        self.head.summarise()
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
        if self._model is not None and may_sign(self, self._model.slide):
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
