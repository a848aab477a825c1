"""The first page of the Proficiency dock: slides with a reference, settings of a round, and the record over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QLineF, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import (
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.widgets.common.controls import as_list, button, combo, form, form_row, label, named
from napari_leukocls.widgets.common.number_boxes import WholeBox
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.tables import fill_table
from napari_leukocls.widgets.proficiency.model import NUMBERS, Overview
from napari_leukocls.widgets.texts import Common, Proficiency, plural

_KEY = Qt.ItemDataRole.UserRole


class Trend(QWidget):
    """Agreement of each finished round with its limits, as points over time."""

    def __init__(self) -> None:
        super().__init__()
        named(self, Proficiency.TREND, Proficiency.TREND_TIP)
        self._points: list[tuple[float, float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_rounds(self, points: Sequence[tuple[float, float, float]]) -> None:
        """Show the rounds; with fewer than two there is nothing to see over time.

        Parameters
        ----------
        points : sequence of tuple of float
            Agreement, and its low and high limit, 0-1.
        """
        self._points = list(points)
        self.setVisible(len(self._points) > 1)
        self.setAccessibleDescription(", ".join(f"{100 * one:.0f} %" for one, _, _ in self._points))
        self.update()

    def sizeHint(self) -> QSize:
        """Return a height of seven lines of text."""
        return QSize(self.fontMetrics().averageCharWidth() * 40, self.fontMetrics().height() * 7)

    def minimumSizeHint(self) -> QSize:
        """Return a width for the title."""
        return QSize(self.fontMetrics().averageCharWidth() * 30, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the title, the axis, and a point with its limits for each round.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        line, char = self.fontMetrics().height(), self.fontMetrics().averageCharWidth()
        area = QRectF(char * 5, line * 1.6, self.width() - char * 6, self.height() - line * 2.2)
        painter.setPen(ink)
        painter.drawText(
            QRectF(0, 0, self.width(), line), int(Qt.AlignmentFlag.AlignHCenter), Proficiency.TREND
        )
        right = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        faint = QColor(ink)
        faint.setAlpha(70)
        for share in (0.0, 0.5, 1.0):
            y = area.bottom() - area.height() * share
            painter.setPen(ink)
            painter.drawText(QRectF(0, y - line / 2, char * 4.5, line), right, f"{100 * share:.0f}")
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QLineF(area.left(), y, area.right(), y))
        step = area.width() / len(self._points) if self._points else 0.0
        dots = []
        for i, (share, low, high) in enumerate(self._points):
            x = area.left() + (i + 0.5) * step
            top, bottom = (area.bottom() - area.height() * one for one in (high, low))
            painter.setPen(QPen(faint, 3))
            painter.drawLine(QLineF(x, top, x, bottom))
            dots.append(QPointF(x, area.bottom() - area.height() * share))
        painter.setPen(QPen(QColor("#e69f00"), 2))
        painter.drawPolyline(QPolygonF(dots))
        painter.setBrush(QColor("#e69f00"))
        for dot in dots:
            painter.drawEllipse(dot, 3, 3)
        painter.end()


class StartPage(QWidget):
    """Slides, settings and record.

    Parameters
    ----------
    session : Session
    """

    begin = Signal()
    open_round = Signal(int, bool)
    learner_changed = Signal(str)
    problem = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._rounds: list[tuple[int, bool]] = []
        self._offered: object = None
        self.learner = named(QLineEdit(session.reviewer), Proficiency.LEARNER, Proficiency.LEARNER_TIP)
        self.learner.setPlaceholderText(Proficiency.LEARNER_HINT)
        self.slides = named(QListWidget(), Proficiency.SLIDES, Proficiency.SLIDES_TIP)
        self.slides.setMinimumHeight(self.fontMetrics().height() * 5)
        self.slides.setMaximumHeight(self.fontMetrics().height() * 9)
        self.slides.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        numbers = [(Proficiency.ALL if n is None else str(n), n) for n in NUMBERS]
        self.number = combo(Proficiency.CELLS, Proficiency.CELLS_TIP, numbers)
        self.number.setCurrentIndex(1)
        depths = [(text, key) for key, text in Common.DEPTHS.items()]
        self.depth = combo(Proficiency.COMPARE, Proficiency.COMPARE_TIP, depths)
        self.required = named(WholeBox(), Proficiency.REQUIRED, Proficiency.REQUIRED_TIP)
        self.required.setRange(0, 100)
        self.required.setSuffix(" %")
        self.required.setSpecialValueText(Proficiency.NOT_REQUIRED)
        self.required.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.start = button(Proficiency.START, Proficiency.START_TIP, self.begin.emit)
        self.heading = label()
        self.record = named(
            QTableWidget(0, len(Proficiency.RECORD_COLUMNS)), Proficiency.RECORD_NAME, Proficiency.RECORD_TIP
        )
        self.record.setHorizontalHeaderLabels(Proficiency.RECORD_COLUMNS)
        as_list(self.record, stretched=1)
        self.open = button(Proficiency.OPEN, Proficiency.OPEN_TIP, self._open)
        self.trend = Trend()
        self._lay_out()
        self.learner.editingFinished.connect(lambda: self.learner_changed.emit(self.learner.text()))
        self.record.cellDoubleClicked.connect(lambda *_: self._open())
        for one in (self.record, self.open, self.trend):
            one.hide()

    def _lay_out(self) -> None:
        lines = form()
        form_row(lines, Proficiency.LEARNER, self.learner)
        form_row(lines, Proficiency.CELLS, self.number)
        form_row(lines, Proficiency.COMPARE, self.depth)
        form_row(lines, Proficiency.REQUIRED, self.required)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(label(Proficiency.SLIDES))
        column.addWidget(self.slides)
        column.addLayout(lines)
        for one in (self.start, self.heading, self.record, self.trend, self.open):
            column.addWidget(one)

    def show_overview(self, found: Overview) -> None:
        """Show the slides with a reference, and the record of the learner. What was ticked stays ticked.

        Parameters
        ----------
        found : Overview
        """
        offered = (found.references, found.seen)
        if offered != self._offered:
            self._offered = offered
            self._show_slides(found)
        self._show_record(found)

    def _show_slides(self, found: Overview) -> None:
        ticked = set(self.keys()) if self.slides.count() else {one.key for one in found.references[:1]}
        self.slides.clear()
        for one in found.references:
            is_open = one.key in found.seen
            forms = Proficiency.TEACHING if one.is_teaching else Proficiency.SIGNED
            text = plural(forms, one.n, name=one.name, by=one.by)
            item = QListWidgetItem(Proficiency.IS_OPEN.format(name=one.name) if is_open else text)
            item.setToolTip(item.text())
            item.setData(_KEY, one.key)
            item.setFlags(
                Qt.ItemFlag.NoItemFlags if is_open else item.flags() | Qt.ItemFlag.ItemIsUserCheckable
            )
            on = one.key in ticked and not is_open
            item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
            self.slides.addItem(item)

    def _show_record(self, found: Overview) -> None:
        name = self.learner.text().strip()
        self.heading.setText(Proficiency.RECORD.format(learner=name) if found.records else "")
        self.heading.setVisible(bool(found.records))
        row = self.record.currentRow()
        chosen = self._rounds[row][0] if 0 <= row < len(self._rounds) else None
        rows, points = [], []
        self._rounds = []
        for one in reversed(found.records):
            self._rounds.append((one.id, not one.finished_at))
            if one.outcome is None:
                rows.append([one.started_at[:10], one.name, "–", Proficiency.NOT_FINISHED, "–"])
                continue
            mine = one.outcome.agreement
            kappa = "–" if mine.kappa != mine.kappa else f"{mine.kappa:.2f}"
            share = f"{100 * mine.observed:.0f} %"
            rows.append([one.finished_at[:10], one.name, str(one.outcome.answered), share, kappa])
            points.append((mine.observed, one.outcome.observed_low, one.outcome.observed_high))
        fill_table(self.record, rows, tips=[row[1] for row in rows])
        # The table is read anew each time the page is shown: the round that a person chose meanwhile stays chosen.
        kept = next((i for i, (number, _) in enumerate(self._rounds) if number == chosen), -1)
        self.record.setCurrentCell(kept, 0)
        self.record.setVisible(bool(rows))
        self.open.setVisible(bool(rows))
        self.trend.show_rounds(points[::-1])

    def keys(self) -> list[str]:
        """Return the keys of the ticked slides."""
        found = []
        for i in range(self.slides.count()):
            item: Any = self.slides.item(i)
            if item.checkState() == Qt.CheckState.Checked:
                found.append(str(item.data(_KEY)))
        return found

    def wanted(self) -> float | None:
        """Return the agreement that the laboratory wants, 0-1; None if it wants none."""
        percent = self.required.value()
        return percent / 100 if percent else None

    def _open(self) -> None:
        row = self.record.currentRow()
        if not 0 <= row < len(self._rounds):
            self.problem.emit(Proficiency.CHOOSE_ROUND)
            return
        self.open_round.emit(*self._rounds[row])
