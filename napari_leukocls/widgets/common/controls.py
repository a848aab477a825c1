"""Controls that all docks use: named controls, forms, messages and progress."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.progress import Progress
from napari_leukocls.widgets.common.into_view import IntoView
from napari_leukocls.widgets.common.jobs import Job
from napari_leukocls.widgets.texts import Common, Stages

#: Width of the narrowest dock, in characters.
NARROWEST_CHARS = 58


def named(control: Any, name: str, tip: str) -> Any:
    """Set the accessible name, the tool tip and the object name of a control.

    Parameters
    ----------
    control : QWidget
    name : str
        Accessible name.
    tip : str
        Tool tip, also read by screen readers.

    Returns
    -------
    QWidget
        The same control.
    """
    control.setAccessibleName(name)
    control.setAccessibleDescription(tip)
    control.setToolTip(tip)
    control.setObjectName("leukocls_" + "".join(c if c.isalnum() else "_" for c in name.lower()))
    return control


def button(text: str, tip: str, clicked: Any, name: str | None = None) -> QPushButton:
    """Make a push button that can be reached with the keyboard.

    Parameters
    ----------
    text : str
    tip : str
        Tool tip, also read by screen readers.
    clicked : callable
        Called without arguments.
    name : str or None
        Accessible name; `text` by default.

    Returns
    -------
    QPushButton
    """
    made: QPushButton = named(QPushButton(text), name or text, tip)
    made.clicked.connect(lambda _checked=False: clicked())
    made.setAutoDefault(False)
    return made


def combo(name: str, tip: str, entries: Iterable[tuple[str, Any]] = ()) -> QComboBox:
    """Make a list of choices whose width does not depend on its entries.

    Parameters
    ----------
    name : str
        Accessible name.
    tip : str
        Tool tip, also read by screen readers.
    entries : iterable of tuple
        Text and data of each choice.

    Returns
    -------
    QComboBox
    """
    made: QComboBox = named(QComboBox(), name, tip)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(10)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    fill(made, entries)
    return made


def fill(box: QComboBox, entries: Iterable[tuple[str, Any]]) -> None:
    """Replace the choices of a list. The selected choice is kept if it is still there.

    Parameters
    ----------
    box : QComboBox
    entries : iterable of tuple
        Text and data of each choice.
    """
    entries = list(entries)
    if [data for _, data in entries] == [box.itemData(i) for i in range(box.count())]:
        for i, (text, _) in enumerate(entries):
            if box.itemText(i) != text:
                box.setItemText(i, text)
                box.setItemData(i, text, Qt.ItemDataRole.ToolTipRole)
        return
    chosen = box.currentData()
    was_blocked = box.blockSignals(True)
    box.clear()
    for text, data in entries:
        box.addItem(text, data)
        box.setItemData(box.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
    at = find(box, chosen)
    box.setCurrentIndex(max(at, 0) if box.count() else -1)
    box.blockSignals(was_blocked)


def find(box: QComboBox, data: Any) -> int:
    """Find a choice of a list by its data.

    Parameters
    ----------
    box : QComboBox
    data : object

    Returns
    -------
    int
        Index of the choice; -1 if there is none.
    """
    return next((i for i in range(box.count()) if box.itemData(i) == data), -1)


def label(text: str = "", small: bool = False) -> QLabel:
    """Make a label whose text wraps and can be copied.

    Parameters
    ----------
    text : str
    small : bool
        Use a smaller font.

    Returns
    -------
    QLabel
    """
    made = QLabel(text)
    made.setWordWrap(True)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    if small:
        made.setStyleSheet("font-size: 85%;")
    return made


class Line(QLabel):
    """One line of text whose room does not depend on the text; its end is left out if it is too long."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._whole = ""

    def setText(self, text: str) -> None:
        """Show a text.

        Parameters
        ----------
        text : str
        """
        if text != self._whole:
            self._whole = text
            self.setToolTip(text)
            self.setAccessibleDescription(text)
            self.update()

    def text(self) -> str:
        """Return the whole text."""
        return self._whole

    def sizeHint(self) -> QSize:
        """Return the height of a line."""
        return QSize(self.fontMetrics().averageCharWidth() * 20, self.fontMetrics().lineSpacing() + 2)

    def minimumSizeHint(self) -> QSize:
        """Return the same size."""
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the text.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        text = self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignVCenter), text)
        painter.end()


def form() -> QFormLayout:
    """Make a form whose fields take all remaining width."""
    made = QFormLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    made.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return made


def form_row(layout: QFormLayout, text: str, control: QWidget, *more: QWidget) -> None:
    """Add a row to a form: a label, and one or more controls.

    Parameters
    ----------
    layout : QFormLayout
    text : str
        Text of the label.
    control : QWidget
        The control that the keyboard reaches from the label.
    *more : QWidget
        Further controls, to the right.
    """
    caption = QLabel(text)
    caption.setBuddy(control)
    if not more:
        layout.addRow(caption, control)
        return
    side = QHBoxLayout()
    side.setContentsMargins(0, 0, 0, 0)
    side.addWidget(control, 1)
    for one in more:
        side.addWidget(one)
    layout.addRow(caption, side)


def as_list(table: QTableView, stretched: int = 0) -> None:
    """Set up a table for reading: whole rows are selected, there is no grid, and Tab leaves the table.

    Parameters
    ----------
    table : QTableView
    stretched : int
        Index of the column that takes the remaining width.
    """
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setTabKeyNavigation(False)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(round(table.fontMetrics().height() * 1.5))
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(stretched, QHeaderView.ResizeMode.Stretch)
    header.setHighlightSections(False)


class Scrolling(QScrollArea):
    """A dock that scrolls vertically in a low window and is never cut off at the sides.

    Parameters
    ----------
    parent : QWidget or None
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        inside = QWidget()
        self.body = QVBoxLayout(inside)
        self.setWidget(inside)

    def sizeHint(self) -> QSize:
        """Return the preferred width of the contents."""
        return QSize(self.minimumSizeHint().width(), self.widget().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """Return a width that shows the narrowest contents."""
        # The same width with and without contents, so that nothing moves or is cut off.
        least = self.fontMetrics().averageCharWidth() * NARROWEST_CHARS
        inside = max(self.widget().minimumSizeHint().width(), least)
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(inside + bar, self.fontMetrics().height() * 12)


class Bar(QWidget):
    """A thin bar of progress. Qt's own bar draws the whole window at each step, this one with the next picture."""

    def __init__(self) -> None:
        super().__init__()
        self._value, self._most = 0, 1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return a height of half a line."""
        return QSize(self.fontMetrics().averageCharWidth() * 12, round(self.fontMetrics().height() * 0.55))

    def minimumSizeHint(self) -> QSize:
        """Return a smaller width."""
        return QSize(self.fontMetrics().averageCharWidth() * 6, self.sizeHint().height())

    def setRange(self, least: int, most: int) -> None:
        """Set the values of an empty and a full bar.

        Parameters
        ----------
        least, most : int
            `least` is 0.
        """
        self._most = max(1, most)
        self.update()

    def setValue(self, value: int) -> None:
        """Set how full the bar is.

        Parameters
        ----------
        value : int
        """
        if value != self._value:
            self._value = value
            self.setAccessibleDescription(f"{value} / {self._most}")
            self.update()

    def value(self) -> int:
        """Return how full the bar is."""
        return self._value

    def maximum(self) -> int:
        """Return the value of a full bar."""
        return self._most

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bar.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(ink)
        faint.setAlpha(50)
        painter.fillRect(self.rect(), faint)
        share = min(1.0, max(0.0, self._value / self._most))
        painter.fillRect(0, 0, round(self.width() * share), self.height(), QColor("#2f9e6b"))
        painter.end()


class ProgressLine(QWidget):
    """Progress of a `Job`: a bar, the stage, the remaining time, and a button that stops the job.

    Parameters
    ----------
    job : Job
    """

    cancelled = Signal()

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self.bar = named(Bar(), Common.WORKING, Common.WORKING)
        self.bar.setRange(0, 1000)
        self.text = label()
        self.stop = button(Common.CANCEL, Common.CANCEL_TIP, self._stop)
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.bar, 1)
        line.addWidget(self.stop)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(line)
        column.addWidget(self.text)
        job.progressed.connect(self._on_progress)
        job.ended.connect(self.hide)
        # Two lines, however long the stage is: in a low dock the second one would be cut off.
        self.text.setMinimumHeight(2 * self.text.fontMetrics().lineSpacing() + 2)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self._into_view = IntoView(self)
        self.hide()

    def begin(self) -> None:
        """Show the line for work that starts now."""
        self.bar.setValue(0)
        self.text.setText(f"{Common.WORKING}…")
        self.show()
        self._into_view.start()

    def _stop(self) -> None:
        self._job.cancel()
        self.cancelled.emit()

    def _on_progress(self, step: Progress, share: float, seconds_left: object) -> None:
        self.bar.setValue(round(1000 * share))
        # The stages of several fields have the index of the field before their name.
        stage = step.stage.rpartition(":")[2]
        text = Stages.NAMES.get(stage, stage)
        if step.message:
            text += f": {step.message}"
        if isinstance(seconds_left, float):
            text += ", " + Common.LEFT.format(time=duration(seconds_left))
        self.text.setText(text)


def duration(seconds: float) -> str:
    """Write a duration in seconds or minutes.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
        Rounded up, with its unit.
    """
    if seconds < 90:
        return Common.SECONDS.format(n=max(1, math.ceil(seconds)))
    return Common.MINUTES.format(n=math.ceil(seconds / 60))


class Folded(QWidget):
    """A line that opens to show more controls.

    Parameters
    ----------
    name : str
        Text of the line.
    tip : str
        Tool tip, also read by screen readers.
    """

    def __init__(self, name: str, tip: str) -> None:
        super().__init__()
        self.head = named(QToolButton(), name, tip)
        self.head.setText(name)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setArrowType(Qt.ArrowType.RightArrow)
        self.head.setAutoRaise(True)
        self.inside = QWidget()
        self.body = QVBoxLayout(self.inside)
        self.body.setContentsMargins(self.fontMetrics().averageCharWidth() * 2, 0, 0, 0)
        self.inside.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.head)
        column.addWidget(self.inside)
        self.head.toggled.connect(self._on_toggled)

    def _on_toggled(self, opened: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.inside.setVisible(opened)
