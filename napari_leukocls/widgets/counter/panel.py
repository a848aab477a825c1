"""The counter of the Review dock: a legend of keys with their counts, and the program's count beside them."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QPainter, QPaintEvent, QPalette, QResizeEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.controls import (
    Bar,
    Line,
    as_list,
    button,
    combo,
    find,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.wording import kappa_words
from napari_leukocls.widgets.counter.model import CounterModel, KeyCount
from napari_leukocls.widgets.counter.sound import Sounds
from napari_leukocls.widgets.texts import Counter, Review, plural

#: Width of a key, characters.
KEY_CHARS = 14
#: Cells that two counts share, from which on their kappa is shown.
LEAST_FOR_KAPPA = 10


class KeyButton(QPushButton):
    """A key of the counter: its letter, its class, and how many cells were counted with it.

    Parameters
    ----------
    shown : KeyCount
    """

    def __init__(self, shown: KeyCount) -> None:
        super().__init__()
        self._shown = shown
        name = Counter.KEY_NAME.format(display=shown.entry.display)
        named(self, name, Counter.KEY_TIP.format(display=shown.entry.display, key=shown.entry.key))
        self.setAutoDefault(False)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_count(self, shown: KeyCount) -> None:
        """Show a count.

        Parameters
        ----------
        shown : KeyCount
        """
        if shown != self._shown:
            self._shown = shown
            self.setAccessibleDescription(str(shown.count))
            self.update()

    @property
    def count(self) -> int:
        """The count that is shown."""
        return self._shown.count

    def sizeHint(self) -> QSize:
        """Return the size of two lines of text."""
        metrics = self.fontMetrics()
        return QSize(metrics.averageCharWidth() * KEY_CHARS, round(metrics.height() * 2.6))

    def minimumSizeHint(self) -> QSize:
        """Return the same height, and a smaller width."""
        return QSize(self.sizeHint().width() // 2, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the key.

        Parameters
        ----------
        event : QPaintEvent
        """
        super().paintEvent(event)
        entry, count, share = self._shown.entry, self._shown.count, self._shown.share
        painter = QPainter(self)
        ink = self.palette().color(QPalette.ColorRole.ButtonText)
        room = self.rect().adjusted(8, 3, -8, -3)
        painter.fillRect(3, 5, 4, self.height() - 10, QColor(entry.colour))
        line = self.fontMetrics().height()
        top = room.adjusted(4, 0, 0, line - room.height())
        bottom = room.adjusted(4, room.height() - round(line * 1.3), 0, 0)
        painter.setPen(ink)
        left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        middle = Qt.AlignmentFlag.AlignVCenter
        text = Review.CLASS_BUTTON.format(
            key=entry.key, short=Review.CLASS_SHORT.get(entry.name, entry.short)
        )
        painter.drawText(top, int(left | middle), text)
        painter.drawText(bottom, int(right | middle), "" if share is None or not count else f"{share:.0f} %")
        bold = painter.font()
        bold.setBold(True)
        bold.setPointSizeF(bold.pointSizeF() * 1.25)
        painter.setFont(bold)
        painter.drawText(bottom, int(left | middle), str(count))
        painter.end()


class Keys(QWidget):
    """The legend: all keys of the counter, in as many columns as there is room for."""

    pressed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self.buttons: dict[str, KeyButton] = {}
        self._columns = 0

    def show_keys(self, keys: list[KeyCount]) -> None:
        """Show keys with their counts.

        Parameters
        ----------
        keys : list of KeyCount
        """
        if [one.entry.name for one in keys] != list(self.buttons):
            for old in self.buttons.values():
                self._grid.removeWidget(old)
                old.deleteLater()
            self.buttons = {one.entry.name: KeyButton(one) for one in keys}
            for name, made in self.buttons.items():
                made.clicked.connect(self._press(name))
            self._columns = 0
            self._arrange()
        for one in keys:
            self.buttons[one.entry.name].show_count(one)

    def _press(self, name: str) -> Callable[[], None]:
        return lambda *_: self.pressed.emit(name)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Use the new width.

        Parameters
        ----------
        event : QResizeEvent
        """
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        columns = max(3, self.width() // max(1, self.fontMetrics().averageCharWidth() * KEY_CHARS))
        if columns == self._columns:
            return
        self._columns = columns
        for one in self.buttons.values():
            self._grid.removeWidget(one)
        for i, one in enumerate(self.buttons.values()):
            # Else the columns that there are would keep the dock from becoming narrower.
            one.setMinimumWidth(1)
            self._grid.addWidget(one, i // columns, i % columns)


class CounterPanel(QWidget):
    """The counter: goal, keys, undo, and the finished count beside the program's.

    Parameters
    ----------
    session : Session
    """

    said = Signal(str)
    failed = Signal(str)
    #: Emitted after each press and undo, and when the program's classes are hidden or shown.
    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.model = CounterModel(session)
        self.sounds = Sounds()
        self.sounds.on = preferences.sound()
        self.what = Line()
        self.total = label()
        self.bar = named(Bar(), Counter.PROGRESS, Counter.PROGRESS)
        goals = [(text, n) for n, text in Counter.GOALS.items()]
        self.goal = combo(Counter.GOAL, Counter.GOAL_TIP, goals)
        self.goal.setCurrentIndex(max(0, find(self.goal, self.model.goal)))
        self.sound = named(QCheckBox(Counter.SOUND), Counter.SOUND, Counter.SOUND_TIP)
        self.sound.setChecked(self.sounds.on)
        self.hidden = named(QCheckBox(Counter.HIDE), Counter.HIDE, Counter.HIDE_TIP)
        self.hidden.setChecked(True)
        self.keys = Keys()
        self.undo = button(Counter.UNDO, Counter.UNDO_TIP, self._undo)
        self.again = button(Counter.AGAIN, Counter.AGAIN_TIP, self._again)
        self.finish = button(Counter.FINISH, Counter.FINISH_TIP, self._finish)
        self.table = named(QTableWidget(0, len(Counter.COLUMNS)), Counter.TABLE, Counter.TABLE_TIP)
        self.agreement = label()
        self._lay_out()
        self._connect()
        self.show_count()

    def _lay_out(self) -> None:
        font = self.total.font()
        font.setPointSizeF(font.pointSizeF() * 1.9)
        font.setBold(True)
        self.total.setFont(font)
        as_list(self.table)
        self.table.setHorizontalHeaderLabels(list(Counter.COLUMNS))
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for i, tip in enumerate(Counter.COLUMN_TIPS):
            self.table.horizontalHeaderItem(i).setToolTip(tip)
        self.table.setMinimumHeight(self.fontMetrics().height() * 9)
        lines = form()
        form_row(lines, Counter.GOAL, self.goal, self.sound)
        ends = QHBoxLayout()
        ends.setSpacing(2)
        for one in (self.undo, self.finish, self.again):
            ends.addWidget(one)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.what)
        column.addLayout(lines)
        column.addWidget(self.hidden)
        column.addWidget(self.total)
        column.addWidget(self.bar)
        column.addWidget(self.keys)
        column.addLayout(ends)
        column.addWidget(self.table, 1)
        column.addWidget(self.agreement)
        column.addStretch(0)
        self.table.hide()
        self.agreement.hide()

    def _connect(self) -> None:
        self.goal.currentIndexChanged.connect(self._on_goal)
        self.sound.toggled.connect(self._on_sound)
        self.hidden.toggled.connect(lambda _: self.changed.emit())
        self.keys.pressed.connect(self.press)

    @property
    def hides(self) -> bool:
        """Whether the program's classes are hidden: while a person counts, not after the count."""
        return bool(self.hidden.isChecked()) and self.model.beside is None

    def open(self) -> None:
        """Go on with the open count of the slide, or be ready for a new one."""
        try:
            if self.model.resume():
                self.said.emit(plural(Counter.RESUMED, self.model.leukocytes))
        except LeukoclsError as error:
            self.failed.emit(str(error))
        was_blocked = self.goal.blockSignals(True)
        self.goal.setCurrentIndex(max(0, find(self.goal, self.model.goal)))
        self.goal.blockSignals(was_blocked)
        self.show_count()

    def take_key(self, event: QKeyEvent) -> bool:
        """Take the key of a class, or that of undo.

        Parameters
        ----------
        event : QKeyEvent

        Returns
        -------
        bool
            Whether the key is used up.
        """
        plain = event.modifiers() in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)
        if plain and event.key() == Qt.Key.Key_Backspace:
            self._undo()
            return True
        name = self.model.class_of_key(event.text().lower()) if plain else None
        if name is None:
            return False
        # A key that is held down counts once.
        if not event.isAutoRepeat():
            self.press(name)
        return True

    def press(self, class_name: str) -> None:
        """Count a cell.

        Parameters
        ----------
        class_name : str
        """
        before = self.model.reached
        try:
            counted = self.model.press(class_name)
        except LeukoclsError as error:
            self.sounds.play("refused")
            self.failed.emit(str(error))
            return
        if not counted:
            self.sounds.play("refused")
            self.failed.emit(Counter.FULL.format(goal=self.model.goal))
        elif self.model.reached and not before:
            self.sounds.play("goal")
            self.said.emit(Counter.REACHED.format(goal=self.model.goal))
        else:
            self.sounds.play("count")
            self.said.emit("")
        self.show_count()
        self.changed.emit()

    def _undo(self) -> None:
        try:
            last = self.model.undo()
        except LeukoclsError as error:
            self.failed.emit(str(error))
            return
        self.sounds.play("undo" if last is not None else "refused")
        if last is not None:
            display = self.model.session.scheme[last.class_name].display
            self.said.emit(Counter.UNDONE.format(display=display))
        else:
            self.said.emit(Counter.NOTHING)
        self.show_count()
        self.changed.emit()

    def _again(self) -> None:
        self.model.again()
        self.said.emit(Counter.STARTED)
        self.show_count()
        self.changed.emit()

    def _finish(self) -> None:
        try:
            compared = self.model.finish()
        except LeukoclsError as error:
            self.failed.emit(str(error))
            return
        self.said.emit(Counter.FINISHED if compared else Counter.FINISHED_ALONE)
        self.show_count()
        self.changed.emit()

    def _on_goal(self, _index: int) -> None:
        try:
            self.model.set_goal(self.goal.currentData())
        except LeukoclsError as error:
            self.failed.emit(str(error))
        self.show_count()

    def _on_sound(self, on: bool) -> None:
        self.sounds.on = on
        preferences.keep_sound(on)

    def show_count(self) -> None:
        """Show the count, and the program's beside it once it is finished."""
        model = self.model
        self.what.setText(Counter.WHAT.format(name=model.name))
        done, goal = model.leukocytes, model.goal
        self.total.setText(str(done) if goal is None else Counter.OF_GOAL.format(n=done, goal=goal))
        self.bar.setRange(0, goal or max(done, 1))
        self.bar.setValue(done)
        self.keys.show_keys(model.keys())
        found = model.beside
        self.table.setVisible(found is not None)
        self.agreement.setVisible(found is not None)
        if found is None:
            return
        scheme = model.session.scheme
        self.table.setRowCount(len(found.rows))
        for i, row in enumerate(found.rows):
            texts = (
                scheme[row.class_name].display,
                str(row.counted),
                f"{row.percent:.1f}",
                f"{row.program_percent:.1f}",
                f"{row.low:.0f}–{row.high:.0f}",
                Counter.DIFFERS if row.outside else "",
            )
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                if 0 < column < len(texts) - 1:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(i, column, item)
        self.agreement.setText(self._agreement_text())

    def _agreement_text(self) -> str:
        found = self.model.beside
        if found is None:
            return ""
        matched = found.agreement
        if matched is None:
            return Counter.NOT_MATCHED
        text = plural(Counter.MATCHED, matched.n, agreed=matched.n - len(matched.disagreements))
        # Of a handful of cells kappa says nothing.
        return f"{text} {kappa_words(matched)}".rstrip() if matched.n >= LEAST_FOR_KAPPA else text
