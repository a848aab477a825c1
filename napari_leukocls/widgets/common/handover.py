"""Sign, export, next: one key that hands a slide over and shows the next one."""

from __future__ import annotations

import string
from datetime import date
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_leukocls.errors import ArgumentError, LeukoclsError
from napari_leukocls.io.inputs import safe_id
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.analysed import written
from napari_leukocls.widgets.common.case_model import CaseModel
from napari_leukocls.widgets.common.cases import Cases, cases_of
from napari_leukocls.widgets.common.jobs import Job
from napari_leukocls.widgets.common.per_viewer import PerViewer
from napari_leukocls.widgets.common.session import Session, session_of
from napari_leukocls.widgets.texts import Analyse
from napari_leukocls.widgets.texts import Case as Texts

#: The key of "Sign, export, next".
KEY = "Ctrl+Return"


def folder_name(pattern: str, case: CaseModel, reviewer: str, day: date) -> str:
    """Name the folder of an exported slide.

    Parameters
    ----------
    pattern : str
        May hold ``{slide}``, ``{identifier}``, ``{date}`` and ``{reviewer}``.
    case : CaseModel
    reviewer : str
    day : datetime.date

    Returns
    -------
    str
        It can name a folder.

    Raises
    ------
    ArgumentError
        If the pattern holds anything else in braces.
    """
    values = {
        "slide": case.name,
        "identifier": case.identifier or case.name,
        "date": day.isoformat(),
        "reviewer": reviewer,
    }
    try:
        words = [word for _, word, _, _ in string.Formatter().parse(pattern) if word is not None]
        wrong = next((word for word in words if word not in values), None)
        if wrong is not None:
            raise ArgumentError(Texts.BAD_PATTERN.format(word=f"{{{wrong}}}"))
        return safe_id(pattern.format(**values) or case.name)
    except ValueError as error:
        raise ArgumentError(Texts.BAD_PATTERN.format(word=pattern)) from error


def may_sign(parent: QWidget | None, case: CaseModel) -> bool:
    """Ask a person before a count is signed that is short of its goal, or has artefacts among its cells.

    Parameters
    ----------
    parent : QWidget or None
        The window of the question.
    case : CaseModel

    Returns
    -------
    bool
        Whether to sign.
    """
    if case.key is None or case.case.progress().to_review:
        # Signing is refused, and the message says why.
        return True
    doubts = case.case.doubts()
    if not doubts:
        return True
    buttons = QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
    answer = QMessageBox.question(
        parent,
        Texts.ASK_TITLE.format(name=case.name),
        Texts.ASK.format(doubts="\n".join(doubts)),
        buttons,
        QMessageBox.StandardButton.No,
    )
    return bool(answer == QMessageBox.StandardButton.Yes)


class Handover(QObject):
    """Signs, exports and goes on, for all docks of one viewer.

    Parameters
    ----------
    session : Session
    cases : Cases
    """

    told = Signal(str)
    warned = Signal(str)
    #: Emitted with the folder when the files of a slide are written.
    exported = Signal(object)

    def __init__(self, session: Session, cases: Cases) -> None:
        super().__init__()
        self._session = session
        self._cases = cases
        self._going_on: CaseModel | None = None
        self._job = Job(Analyse.EXPORT)
        self._job.done.connect(self._on_written)
        self._job.failed.connect(self._on_failed)
        cases.told.connect(self.told)
        cases.warned.connect(self.warned)

    def listen(self, widget: QWidget) -> None:
        """Make the key work in the window of a widget, wherever the cursor is: also on the canvas.

        Parameters
        ----------
        widget : QWidget
        """
        window = widget.window()
        while window.parentWidget() is not None:
            # A dock that floats has a window of its own.
            window = window.parentWidget().window()
        if window is widget or window.findChildren(QShortcut, "leukocls_go"):
            return
        shortcut = QShortcut(QKeySequence(KEY), window)
        shortcut.setObjectName("leukocls_go")
        shortcut.activated.connect(lambda: self.go(window))

    def go(self, parent: QWidget | None = None) -> None:
        """Analyse the slide if it is not; else sign it, write its files and show the next one.

        Parameters
        ----------
        parent : QWidget, optional
            The window of questions.
        """
        self._cases.flush()
        case = self._session.case
        if case is None or not case.fields:
            self.warned.emit(Texts.NO_ONE)
        elif self._job.running:
            return
        elif self._session.blind:
            self.warned.emit(Texts.BLIND)
        elif not case.complete:
            self._session.analyse_wanted.emit()
        else:
            try:
                self._hand_over(parent, case)
            except LeukoclsError as error:
                self.warned.emit(str(error))

    def _hand_over(self, parent: QWidget | None, case: CaseModel) -> None:
        if not case.signature().is_signed:
            if not self._session.reviewer:
                raise ArgumentError(Texts.WHO)
            if not may_sign(parent, case):
                self.told.emit(Texts.NOT_SIGNED)
                return
            folder_name(preferences.export_pattern(), case, self._session.reviewer, date.today())
            if not self._folder(parent):
                return
            case.sign_off(self._session.reviewer)
        self._going_on = case
        self.export(parent)

    def export(self, parent: QWidget | None = None, ask: bool = False) -> None:
        """Write the files of the slide that is shown.

        Parameters
        ----------
        parent : QWidget, optional
            The window of questions.
        ask : bool
            Whether to ask for the folder although one is remembered.
        """
        case = self._session.case
        if case is None or not case.analysed:
            return
        if self._session.blind:
            self.warned.emit(Texts.BLIND)
            return
        folder = self._folder(parent, ask)
        if not folder:
            self._going_on = None
            return
        try:
            day = date.today()
            name = folder_name(preferences.export_pattern(), case, self._session.reviewer, day)
            results = case.for_export(name)
            counts = case.result.counts
        except LeukoclsError as error:
            self._on_failed(str(error))
            return
        formats = preferences.export_formats()
        self._job.start(lambda _: written(name, results, Path(folder), formats, counts))

    @staticmethod
    def _folder(parent: QWidget | None, ask: bool = False) -> str:
        """The folder for results, asked for where none is remembered."""
        folder = preferences.export_folder()
        if ask or not folder:
            folder = QFileDialog.getExistingDirectory(parent, Analyse.EXPORT_TITLE, folder)
            if folder:
                preferences.keep_export_folder(folder)
        return str(folder)

    def _on_written(self, folder: Path) -> None:
        case, self._going_on = self._going_on, None
        self.exported.emit(folder)
        if case is None:
            return
        text = Texts.DONE.format(name=case.name, folder=folder)
        try:
            if self._session.case is case and not self._cases.next():
                text = f"{text} {Texts.NO_NEXT}"
        except LeukoclsError as error:
            text = f"{text} {error}"
        self.told.emit(text)

    def _on_failed(self, error: str) -> None:
        self._going_on = None
        self.warned.emit(error)


_handovers: PerViewer[Handover] = PerViewer(lambda viewer: Handover(session_of(viewer), cases_of(viewer)))


def handover_of(viewer: Any) -> Handover:
    """Return the handover of a viewer, and create it if needed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer itself, or the proxy that napari gives to plugins.

    Returns
    -------
    Handover
    """
    return _handovers.of(viewer)
