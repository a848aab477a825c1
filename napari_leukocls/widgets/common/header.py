"""The header that every dock shows: the slide, its progress and state, and "Sign, export, next"."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QPaintEvent, QShowEvent
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.analysed import checked_formats
from napari_leukocls.widgets.common.case_model import CaseModel
from napari_leukocls.widgets.common.cases import cases_of
from napari_leukocls.widgets.common.controls import (
    Folded,
    button,
    combo,
    fill,
    find,
    form,
    form_row,
    named,
)
from napari_leukocls.widgets.common.handover import handover_of
from napari_leukocls.widgets.common.lifetime import Subscriptions
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.session import session_of
from napari_leukocls.widgets.texts import Case, Common

#: Milliseconds between a change and the new text: not during the key press of a correction.
LATER_MS = 150
#: Background and ink of the grade of the pictures; both are read on light and on dark.
GRADE_COLOURS = {
    "green": ("#1a7f37", "#ffffff"),
    "amber": ("#9a6700", "#ffffff"),
    "red": ("#b3261e", "#ffffff"),
}


class CaseHeader(QWidget):
    """The slide that the docks show.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._session = session_of(viewer)
        self._cases = cases_of(viewer)
        self._handover = handover_of(viewer)
        self._case: CaseModel | None = None
        self._subscriptions = Subscriptions(self)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(LATER_MS)
        self._later.timeout.connect(self._refresh_if_seen)
        #: Whether something has changed while the dock was behind another.
        self._stale = False
        self._build()
        self._lay_out()
        self._connect()
        self._on_case(self._session.case)

    def _build(self) -> None:
        self.slide = combo(Case.SLIDE, Case.SLIDE_TIP)
        self.field = combo(Case.FIELD, Case.FIELD_TIP)
        for box in (self.slide, self.field):
            # Two lists side by side must not make the dock wider than its window.
            box.setMinimumContentsLength(6)
        # Their room does not depend on the text: nothing below them moves.
        self.state = Message(brought=False)
        self.state.setAccessibleName(Case.STATE)
        self.grade = named(QLabel(), Case.GRADE, "")
        self.grade.hide()
        self._graded: tuple[str, str] | None = None
        self.go = button(Case.GO, Case.GO_TIP, lambda: self._handover.go(self.window()))
        # Every dock has it, and a message of its own, which it scrolls to.
        self.message = Message(lines=1, brought=False)
        self.message.setAccessibleName(Case.MESSAGE)
        self.details = Folded(Case.DETAILS, Case.DETAILS_TIP)
        self.details.head.setText(Case.DETAILS_SHORT)
        self.name = named(QLineEdit(), Case.NAME, Case.NAME_TIP)
        self.identifier = named(QLineEdit(), Case.IDENTIFIER, Case.IDENTIFIER_TIP)
        self.joins = named(QCheckBox(Case.JOINS), Case.JOINS, Case.JOINS_TIP)
        self.join = button(Case.JOIN, Case.JOIN_TIP, self._cases.join)
        self.close_slide = button(Case.CLOSE, Case.CLOSE_TIP, self._cases.close)
        self.folder = named(QLineEdit(preferences.export_folder()), Case.FOLDER, Case.FOLDER_TIP)
        self.choose = button(Common.BROWSE, Case.FOLDER_TIP, self._choose_folder, Case.CHOOSE_FOLDER)
        self.pattern = named(QLineEdit(preferences.export_pattern()), Case.PATTERN, Case.PATTERN_TIP)
        formats = ", ".join(preferences.export_formats())
        self.formats = named(QLineEdit(formats), Case.FORMATS, Case.FORMATS_TIP)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(self.slide, 3)
        top.addWidget(self.field, 2)
        lines = form()
        form_row(lines, Case.NAME, self.name)
        form_row(lines, Case.IDENTIFIER, self.identifier)
        form_row(lines, Case.FOLDER, self.folder, self.choose)
        form_row(lines, Case.PATTERN, self.pattern)
        form_row(lines, Case.FORMATS, self.formats)
        self.details.body.addLayout(lines)
        self.details.body.addWidget(self.joins)
        self.details.body.addWidget(self.join)
        self.details.body.addWidget(self.close_slide)
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.go, 1)
        line.addWidget(self.grade)
        # What is folded opens below the header, but its arrow takes no line of its own.
        line.addWidget(self.details.head)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addLayout(top)
        column.addWidget(self.state)
        column.addLayout(line)
        column.addWidget(self.message)
        column.addWidget(self.details)

    def _connect(self) -> None:
        self.slide.activated.connect(self._on_slide)
        self.field.activated.connect(self._on_field)
        self.name.editingFinished.connect(self._on_named)
        self.identifier.editingFinished.connect(self._on_named)
        self.joins.toggled.connect(self._on_joins)
        self.folder.editingFinished.connect(
            lambda: preferences.keep_export_folder(self.folder.text().strip())
        )
        self.pattern.editingFinished.connect(
            lambda: preferences.keep_export_pattern(self.pattern.text().strip())
        )
        self.formats.editingFinished.connect(self._on_formats)
        self._subscriptions.listen(self._session.case_changed, self._on_case)
        self._subscriptions.listen(self._session.cases_changed, self._soon)
        self._subscriptions.listen(self._session.slide_changed, self._on_shown)
        self._subscriptions.listen(self._session.blind_changed, self._on_shown)
        self._subscriptions.listen(self._session.reviewer_changed, self._on_reviewer)
        self._handover.told.connect(self.message.tell)
        self._handover.warned.connect(self.message.warn)
        self._handover.exported.connect(self._on_exported)

    def showEvent(self, event: QShowEvent) -> None:
        """Make the key work in the window that shows the header.

        Parameters
        ----------
        event : QShowEvent
        """
        super().showEvent(event)
        self._handover.listen(self)
        self._later.start()

    # Showing -------------------------------------------------------------------------------------------

    def _on_case(self, case: CaseModel | None) -> None:
        if self._case is not None:
            self._subscriptions.forget(self._case.state_changed, self._on_changed)
        self._case = case
        if case is not None:
            self._subscriptions.listen(case.state_changed, self._on_changed)
        self.message.tell("")
        self._refresh()

    def _on_changed(self) -> None:
        # What was said of the last action goes with the next one.
        self.message.tell("")
        self._soon()

    def _on_reviewer(self, _name: str) -> None:
        # It may have asked for the name.
        self.message.tell("")

    def _on_shown(self, _shown: object) -> None:
        self._soon()

    def _soon(self) -> None:
        self._later.start()

    def _refresh_if_seen(self) -> None:
        # Behind another tab the state is not read, so that a key in the Review dock need not wait for it.
        self._stale = bool(self.visibleRegion().isEmpty())
        if not self._stale:
            self._refresh()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Bring the header up to date when the dock comes to the front.

        Parameters
        ----------
        event : QPaintEvent
        """
        super().paintEvent(event)
        if self._stale:
            self._later.start()

    def _refresh(self) -> None:
        case = self._case
        entries = [(self._entry(one), one) for one in self._session.cases]
        fill(self.slide, entries or [(Case.NO_SLIDE, None)])
        self.slide.setCurrentIndex(max(0, find(self.slide, case)))
        for part in (
            self.slide,
            self.go,
            self.name,
            self.identifier,
            self.joins,
            self.join,
            self.close_slide,
        ):
            part.setEnabled(case is not None)
        fields = [] if case is None else case.fields
        names = [
            (Case.FIELD_ENTRY.format(i=i, n=len(fields), name=one.name), one)
            for i, one in enumerate(fields, 1)
        ]
        fill(self.field, names)
        self.field.setCurrentIndex(max(0, find(self.field, self._cases.shown)) if names else -1)
        self.field.setVisible(len(fields) > 1)
        self.join.setVisible(sum(not one.analysed for one in self._session.cases) > 1)
        self._show_state()
        for line, text in (
            (self.name, case.name if case else ""),
            (self.identifier, case.identifier if case else ""),
        ):
            if not line.hasFocus():
                line.setText(text)

    def _entry(self, case: CaseModel) -> str:
        text = f"{case.name} · {case.identifier}" if case.identifier else case.name
        return Case.SIGNED_SLIDE.format(name=text) if case.signed else text

    def _show_state(self) -> None:
        case = self._case
        if case is None or not case.fields:
            self.state.tell(Case.NO_ONE)
            self.grade.hide()
            return
        try:
            text = case.progress_words()
            if case.analysed and self._session.blind:
                text = Case.HIDDEN
            elif case.analysed:
                text = f"{text} · {case.signature().words()}"
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        self.state.tell(text[:1].upper() + text[1:])
        self._show_grade(case)

    def _show_grade(self, case: CaseModel) -> None:
        """Show how good the pictures are, as a word in its colour; the tool tip has the reasons."""
        found = None if self._session.blind else case.quality()
        self.grade.setVisible(found is not None)
        if found is not None and found != self._graded:
            self._graded = found
            grade, reasons = found
            background, ink = GRADE_COLOURS[grade]
            self.grade.setText(Case.GRADES[grade])
            self.grade.setToolTip(Case.GRADE_TIP.format(text=reasons))
            self.grade.setAccessibleDescription(Case.GRADE_TIP.format(text=reasons))
            self.grade.setStyleSheet(
                f"background: {background}; color: {ink}; padding: 0px 6px; border-radius: 3px;"
            )

    # Acting --------------------------------------------------------------------------------------------

    def _on_slide(self, _index: int) -> None:
        self._cases.choose(self.slide.currentData())

    def _on_field(self, _index: int) -> None:
        chosen = self.field.currentData()
        if chosen is not None:
            self._cases.show_field(chosen)

    def _on_named(self) -> None:
        case, name, identifier = self._case, self.name.text(), self.identifier.text()
        if case is None or (name.strip(), identifier.strip()) == (case.name, case.identifier):
            return
        try:
            case.rename(name, identifier, self._session.reviewer)
        except LeukoclsError as error:
            self.message.warn(str(error))
        self._session.cases_changed.emit()

    def _on_joins(self, joins: bool) -> None:
        self._cases.joins = joins

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, Case.FOLDER, self.folder.text())
        if folder:
            self.folder.setText(folder)
            preferences.keep_export_folder(folder)

    def _on_formats(self) -> None:
        try:
            preferences.keep_export_formats(checked_formats(self.formats.text()))
        except LeukoclsError as error:
            self.message.warn(str(error))

    def _on_exported(self, _folder: object) -> None:
        self.folder.setText(preferences.export_folder())
