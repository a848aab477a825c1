"""The page of a running round: one cell after another, and a key for each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QPalette
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.scheme import CellClass, Scheme
from napari_leukocls.widgets.analyse.results import swatch
from napari_leukocls.widgets.common.controls import button, label, named
from napari_leukocls.widgets.common.pictures import Picture
from napari_leukocls.widgets.texts import Proficiency, plural

if TYPE_CHECKING:
    from napari_leukocls.review.proficiency import Round

_COLUMNS = 2
#: Height of the picture, in lines of text, and on a low screen.
_LINES, _LINES_LOW = 20, 12
#: Height of a screen on which the buttons would not fit below a high picture, pixels.
_LOW_SCREEN = 900


class ExamPage(QWidget):
    """Shows the cells of a round one by one, without their class.

    Parameters
    ----------
    scheme : Scheme
    """

    finish = Signal()
    leave = Signal()
    problem = Signal(str)

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self._scheme = scheme
        self._round: Round | None = None
        self._answers: list[str | None] = []
        self._keys: dict[str, str] = {}
        self.place = 0
        self.progress = named(QProgressBar(), Proficiency.TITLE, Proficiency.TITLE)
        self.where = label()
        low = self.screen().availableGeometry().height() < _LOW_SCREEN
        self.picture = Picture(Proficiency.PICTURE, _LINES_LOW if low else _LINES, marked=True)
        self.picture.setToolTip(Proficiency.PICTURE_TIP)
        self.answer = label()
        self.classes = QWidget()
        self._grid = QGridLayout(self.classes)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self.back = button(Proficiency.BACK, Proficiency.BACK_TIP, self._back)
        self.next = button(Proficiency.NEXT, Proficiency.NEXT_TIP, self._next)
        self.end = button(Proficiency.FINISH, Proficiency.FINISH_TIP, self._finish)
        self.away = button(Proficiency.LEAVE, Proficiency.LEAVE_TIP, self.leave.emit)
        for one in (self.back, self.next, self.end, self.away):
            one.installEventFilter(self)
        self._lay_out()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for one in (self.where, self.progress, self.picture, self.answer, self.classes):
            column.addWidget(one)
        for pair in ((self.back, self.next), (self.end, self.away)):
            line = QHBoxLayout()
            for one in pair:
                line.addWidget(one)
            column.addLayout(line)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Give the class of a key; the arrows go to the cell before and to the next.

        Parameters
        ----------
        event : QKeyEvent
        """
        plain = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.NoModifier
        name = self._keys.get(event.text())
        if plain and event.key() in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            (self._back if event.key() == Qt.Key.Key_Left else self._next)()
        elif plain and name is not None:
            self._give(name)()
        else:
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take the arrows from the buttons, which would move the focus by them.

        Parameters
        ----------
        watched : QObject
        event : QEvent

        Returns
        -------
        bool
        """
        if event.type() == QEvent.Type.KeyPress:
            key = cast("QKeyEvent", event)
            if key.key() in (Qt.Key.Key_Left, Qt.Key.Key_Right):
                self.keyPressEvent(key)
                return True
        return False

    def show_round(self, one: Round, names: list[str]) -> None:
        """Show a round, at its first cell without an answer.

        Parameters
        ----------
        one : Round
        names : list of str
            Of the classes that can be given.
        """
        self._round = one
        self._answers = one.answers()
        self._show_classes(names)
        self.progress.setRange(0, len(self._answers))
        self._go(
            next((i for i, answer in enumerate(self._answers) if answer is None), len(self._answers) - 1)
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFocus()

    def _show_classes(self, names: list[str]) -> None:
        self._keys = {self._scheme[name].key: name for name in names if self._scheme[name].key}
        while self._grid.count():
            item = self._grid.takeAt(0).widget()
            if item is not None:
                item.deleteLater()
        for i, name in enumerate(names):
            self._grid.addWidget(self._class_button(self._scheme[name]), i // _COLUMNS, i % _COLUMNS)

    def _class_button(self, entry: CellClass) -> QPushButton:
        tip = Proficiency.CLASS_TIP.format(display=entry.display, key=entry.key or "–")
        made = button(f"{entry.key} {entry.display}", tip, self._give(entry.name), f"Class {entry.display}")
        side = round(self.fontMetrics().height() * 0.8)
        ink = QColor(self.palette().color(QPalette.ColorRole.WindowText))
        made.setIcon(QIcon(swatch(entry.colour, ink, side)))
        made.setIconSize(QSize(side, side))
        made.setStyleSheet("text-align: left; padding: 3px 2px;")
        made.installEventFilter(self)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        return made

    def _give(self, name: str) -> Callable[[], None]:
        def give() -> None:
            if self._round is None:
                return
            try:
                self._round.answer(self.place, name)
            except LeukoclsError as error:
                self.problem.emit(str(error))
                return
            self.problem.emit("")
            self._answers[self.place] = name
            self._next()

        return give

    def _back(self) -> None:
        self._go(max(0, self.place - 1))

    def _next(self) -> None:
        """Go on to the next cell without an answer; without any, to the next one."""
        n = len(self._answers)
        ahead = [*range(self.place + 1, n), *range(self.place)]
        without = [i for i in ahead if self._answers[i] is None]
        self._go(without[0] if without else min(n - 1, self.place + 1))

    def _go(self, place: int) -> None:
        if self._round is None:
            return
        self.place = place
        n, answered = len(self._answers), sum(one is not None for one in self._answers)
        self.where.setText(
            f"{Proficiency.PLACE.format(place=place + 1, n=n)}. "
            + Proficiency.ANSWERED.format(answered=answered, n=n)
        )
        self.progress.setValue(answered)
        pixels = self._round.picture(place)
        self.picture.show_pixels(pixels)
        if pixels is None:
            self.picture.setText(Proficiency.NO_PICTURE)
        given = self._answers[place]
        text = Proficiency.NO_ANSWER
        if given is not None:
            text = Proficiency.ANSWER.format(display=self._scheme[given].display)
        if answered == n:
            text += " " + Proficiency.ALL_ANSWERED
        self.answer.setText(text)
        self.back.setEnabled(place > 0)

    def _finish(self) -> None:
        left = sum(one is None for one in self._answers)
        if left and left < len(self._answers):
            buttons = QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No
            answer = QMessageBox.question(
                self,
                Proficiency.FINISH,
                plural(Proficiency.UNANSWERED, left),
                buttons,
                QMessageBox.StandardButton.No,
            )
            if answer != QMessageBox.StandardButton.Yes:
                return
        self.finish.emit()
