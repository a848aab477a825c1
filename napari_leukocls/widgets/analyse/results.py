"""Totals, table and chart of the differential count."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPixmap
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QSizePolicy, QTableView, QVBoxLayout, QWidget

from napari_leukocls.io.convert import GREY_NOTE
from napari_leukocls.widgets.common import preferences
from napari_leukocls.widgets.common.controls import (
    Folded,
    as_list,
    button,
    combo,
    fill,
    find,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.slide_model import CellsModel, CountRow
from napari_leukocls.widgets.texts import Analyse, plural


def swatch(colour: str, ink: QColor, side: int = 12) -> QPixmap:
    """Make a small square of a colour, with a frame that is visible on any background.

    Parameters
    ----------
    colour : str
        As ``#rrggbb``.
    ink : QColor
        Colour of the frame.
    side : int
        Width and height, pixels of the screen.

    Returns
    -------
    QPixmap
    """
    made = QPixmap(side, side)
    made.fill(QColor(colour))
    painter = QPainter(made)
    painter.setPen(ink)
    painter.drawRect(0, 0, side - 1, side - 1)
    painter.end()
    return made


class CountsTable(QAbstractTableModel):
    """The rows of the table of counts, for Qt."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[CountRow] = []
        self.ink = QColor("grey")

    def set_rows(self, rows: list[CountRow]) -> None:
        """Replace the rows.

        Parameters
        ----------
        rows : list of CountRow
        """
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of classes.

        Parameters
        ----------
        parent : QModelIndex or None

        Returns
        -------
        int
        """
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns.

        Parameters
        ----------
        parent : QModelIndex or None

        Returns
        -------
        int
        """
        return len(Analyse.COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the name and the tool tip of a column.

        Parameters
        ----------
        section : int
        orientation : object
        role : int

        Returns
        -------
        object
        """
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return Analyse.COLUMNS[section]
        return Analyse.COLUMN_TIPS[section] if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text, colour, alignment or tool tip of one entry.

        Parameters
        ----------
        index : QModelIndex
        role : int

        Returns
        -------
        object
        """
        row = self.rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, index.column())
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            return swatch(row.colour, self.ink)
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() > 0:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.ToolTipRole:
            # The number of the whole slide, as below the table: another one for each class contradicts it.
            most = max((one.more or 0 for one in self.rows), default=0)
            return f"{row.display}. {plural(Analyse.MORE, most)}" if row.more else row.display
        return None

    @staticmethod
    def _text(row: CountRow, column: int) -> str:
        if column == 0:
            return Analyse.PART.format(display=row.display) if row.part else row.display
        if column == 1:
            return str(row.count)
        if column == 2:
            return "" if row.percent is None else f"{row.percent:.1f}"
        if row.per_100 is not None:
            return Analyse.PER_100.format(n=row.per_100)
        return "" if row.low is None else f"{row.low:.1f}–{row.high:.1f}"


class CountsView(QTableView):
    """The table of counts, as high as its rows."""

    def __init__(self) -> None:
        super().__init__()
        named(self, Analyse.TABLE_NAME, Analyse.TABLE_NAME)
        self.counts = CountsTable()
        self.setModel(self.counts)
        as_list(self)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_rows(self, rows: list[CountRow]) -> None:
        """Replace the rows.

        Parameters
        ----------
        rows : list of CountRow
        """
        self.counts.set_rows(rows)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Return a height that shows all rows: the dock scrolls, the table does not."""
        height = self.horizontalHeader().sizeHint().height() + 2 * self.frameWidth()
        height += sum(self.rowHeight(row) for row in range(self.counts.rowCount()))
        return QSize(self.fontMetrics().averageCharWidth() * 46, height + 2)

    def minimumSizeHint(self) -> QSize:
        """Return the same height, so that no row is hidden."""
        return QSize(self.fontMetrics().averageCharWidth() * 30, self.sizeHint().height())


class Chart(QWidget):
    """Bars of the differential with their limits, painted in the colours of the classes."""

    def __init__(self) -> None:
        super().__init__()
        named(self, Analyse.CHART_NAME, Analyse.CHART_TIP)
        self._rows: list[CountRow] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_rows(self, rows: list[CountRow]) -> None:
        """Replace the rows. Only classes of the differential have a bar.

        Parameters
        ----------
        rows : list of CountRow
        """
        self._rows = [row for row in rows if row.percent is not None]
        self.setVisible(bool(self._rows))
        text = ", ".join(f"{row.display} {row.percent:.0f} %" for row in self._rows)
        self.setAccessibleDescription(text)
        self.updateGeometry()
        self.update()

    def _line(self) -> float:
        number: float = self.fontMetrics().height() * 1.35
        return number

    def sizeHint(self) -> QSize:
        """Return one line per class, and the axis."""
        return QSize(
            self.fontMetrics().averageCharWidth() * 40, round(self._line() * (len(self._rows) + 1.2))
        )

    def minimumSizeHint(self) -> QSize:
        """Return the same height, so that no line is hidden."""
        return QSize(self.fontMetrics().averageCharWidth() * 24, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bars.

        Parameters
        ----------
        event : QPaintEvent
        """
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        names = max((self.fontMetrics().horizontalAdvance(row.display) for row in self._rows), default=0)
        left = names + self.fontMetrics().averageCharWidth() * 1.5
        width = max(20.0, self.width() - left - self.fontMetrics().averageCharWidth() * 2)
        top = max((row.high or 0 for row in self._rows), default=100)
        top = min(100.0, 10.0 * (int(top / 10) + 1))
        self._axis(painter, ink, left, width, top)
        for i, row in enumerate(self._rows):
            self._bar(painter, ink, row, QRectF(left, i * self._line(), width, self._line()), top)
        painter.end()

    def _axis(self, painter: QPainter, ink: QColor, left: float, width: float, top: float) -> None:
        bottom = self._line() * len(self._rows)
        step = 10 if top <= 50 else 20
        faint = QColor(ink)
        faint.setAlpha(60)
        for tick in range(0, int(top) + 1, step):
            x = left + width * tick / top
            painter.setPen(QPen(faint, 1))
            painter.drawLine(int(x), 0, int(x), int(bottom))
            painter.setPen(ink)
            box = QRectF(x - 30, bottom, 60, self._line())
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), f"{tick} %" if tick == 0 else f"{tick}")

    def _bar(self, painter: QPainter, ink: QColor, row: CountRow, line: QRectF, top: float) -> None:
        painter.setPen(ink)
        name = QRectF(0, line.top(), line.left() - self.fontMetrics().averageCharWidth(), line.height())
        painter.drawText(name, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), row.display)
        scale = line.width() / top
        body = QRectF(
            line.left(),
            line.top() + line.height() * 0.18,
            (row.percent or 0) * scale,
            line.height() * 0.64,
        )
        # With a frame, since some colours are close to the background's.
        painter.setPen(QPen(ink, 0.8))
        painter.setBrush(QColor(row.colour))
        painter.drawRect(body)
        if row.low is None or row.high is None:
            return
        middle = line.center().y()
        low, high = line.left() + row.low * scale, line.left() + row.high * scale
        painter.setPen(QPen(ink, 1.5))
        painter.drawLine(int(low), int(middle), int(high), int(middle))
        for x in (low, high):
            painter.drawLine(int(x), int(middle - body.height() / 3), int(x), int(middle + body.height() / 3))


class ResultsPanel(QWidget):
    """Counts, chart, filter and warnings of a slide."""

    filtered = Signal(object, bool)
    filled = Signal(bool)
    export = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.totals = label()
        self.scale = label(small=True)
        self.more = label()
        self.fine_note = label()
        self.table = CountsView()
        self.chart = Chart()
        self.warnings = Folded(Analyse.NO_WARNING, Analyse.WARNINGS_TIP)
        self.warning_text = label()
        self.warnings.body.addWidget(self.warning_text)
        self.shown = combo(Analyse.SHOW, Analyse.SHOW_TIP)
        self.only_review = named(QCheckBox(Analyse.ONLY_REVIEW), Analyse.ONLY_REVIEW, Analyse.ONLY_REVIEW_TIP)
        self.as_filled = named(QCheckBox(Analyse.FILLED), Analyse.FILLED, Analyse.FILLED_TIP)
        self._lay_out()
        self.only_review.setChecked(preferences.only_review())
        self.shown.currentIndexChanged.connect(self._on_filter)
        self.shown.activated.connect(
            lambda _: preferences.keep_coloured_class(self.shown.currentData() or "")
        )
        self.only_review.toggled.connect(self._on_filter)
        self.as_filled.toggled.connect(self.filled)
        self.hide()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.totals)
        column.addWidget(self.scale)
        column.addWidget(self.warnings)
        shown = form()
        form_row(shown, Analyse.SHOW, self.shown)
        column.addLayout(shown)
        line = QHBoxLayout()
        line.addWidget(self.only_review)
        line.addWidget(self.as_filled)
        line.addStretch(1)
        column.addLayout(line)
        column.addWidget(self.table)
        column.addWidget(self.fine_note)
        column.addWidget(self.more)
        column.addWidget(self.chart)
        column.addWidget(button(Analyse.EXPORT, Analyse.EXPORT_TIP, self.export.emit, "Export slide"))

    def show_slide(self, slide: CellsModel | None) -> None:
        """Show the counts of a slide.

        Parameters
        ----------
        slide : CellsModel or None
            None hides the panel.
        """
        self.setVisible(slide is not None)
        if slide is None:
            return
        totals = slide.totals()
        self.totals.setText(
            ", ".join(
                (
                    plural(Analyse.LEUKOCYTES, totals.leukocytes),
                    Analyse.TO_REVIEW.format(n=totals.to_review),
                    plural(Analyse.RED_CELLS, totals.red_cells),
                    plural(Analyse.PLATELETS, totals.platelets),
                )
            )
        )
        source = Analyse.SCALE_SOURCES.get(totals.scale_source, totals.scale_source)
        self.scale.setText(Analyse.SCALE_LINE.format(um=totals.um_per_px, source=source))
        rows = slide.count_rows()
        self.table.set_rows(rows)
        self.chart.set_rows(rows)
        note = slide.fine_note()
        self.fine_note.setText(note)
        self.fine_note.setVisible(bool(note))
        more = slide.more_to_count()
        if totals.leukocytes == 0:
            self.more.setText(Analyse.NOTHING)
        else:
            self.more.setText(plural(Analyse.MORE, more) if more else Analyse.ENOUGH)
        self._show_warnings(slide.result.warnings)
        before = self.shown.currentData()
        names = [(self._text_of(slide, name), name) for name in slide.present()]
        was_blocked = self.shown.blockSignals(True)
        fill(self.shown, [(Analyse.ALL_CLASSES, None), *names])
        # The class that a person has chosen last, also on another slide, where this one has it.
        self.shown.setCurrentIndex(max(0, find(self.shown, preferences.coloured_class() or None)))
        self.shown.blockSignals(was_blocked)
        if self.shown.currentData() != before:
            self._on_filter()

    @staticmethod
    def _text_of(slide: CellsModel, name: str) -> str:
        display = slide.scheme[name].display
        return Analyse.PART.format(display=display) if slide.is_part(name) else display

    def _show_warnings(self, warnings: tuple[str, ...]) -> None:
        text = plural(Analyse.WARNINGS, len(warnings)) if warnings else Analyse.NO_WARNING
        self.warnings.head.setText(text)
        self.warnings.head.setEnabled(bool(warnings))
        text = "\n".join(warnings)
        new = text != self.warning_text.text()
        self.warning_text.setText(text)
        if not warnings:
            self.warnings.head.setChecked(False)
        elif new and any(GREY_NOTE in line for line in warnings):
            # What makes every class less certain is not hidden behind a click.
            self.warnings.head.setChecked(True)

    def _on_filter(self, _value: object = None) -> None:
        preferences.keep_only_review(self.only_review.isChecked())
        self.filtered.emit(self.shown.currentData(), self.only_review.isChecked())
