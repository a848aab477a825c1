"""What the Analyse dock shows of an analysed slide: totals, warnings, filter, counts, chart."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_leukocls.widgets.controls import Folded, button, combo, fill, form, label, named, row
from napari_leukocls.widgets.counts_view import Chart, CountsView
from napari_leukocls.widgets.slide_model import SlideModel
from napari_leukocls.widgets.texts import Analyse


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
        self.table = CountsView()
        self.chart = Chart()
        self.warnings = Folded(Analyse.NO_WARNING, Analyse.WARNINGS_TIP)
        self.warning_text = label()
        self.warnings.body.addWidget(self.warning_text)
        self.shown = combo(Analyse.SHOW, Analyse.SHOW_TIP)
        self.only_review = named(QCheckBox(Analyse.ONLY_REVIEW), Analyse.ONLY_REVIEW, Analyse.ONLY_REVIEW_TIP)
        self.as_filled = named(QCheckBox(Analyse.FILLED), Analyse.FILLED, Analyse.FILLED_TIP)
        self._lay_out()
        self.shown.currentIndexChanged.connect(self._on_filter)
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
        row(shown, Analyse.SHOW, self.shown)
        column.addLayout(shown)
        line = QHBoxLayout()
        line.addWidget(self.only_review)
        line.addWidget(self.as_filled)
        line.addStretch(1)
        column.addLayout(line)
        column.addWidget(self.table)
        column.addWidget(self.more)
        column.addWidget(self.chart)
        column.addWidget(button(Analyse.EXPORT, Analyse.EXPORT_TIP, self.export.emit, "Export slide"))

    def show_slide(self, slide: SlideModel | None) -> None:
        """Show the counts of a slide; nothing where there is none."""
        self.setVisible(slide is not None)
        if slide is None:
            return
        totals = slide.totals()
        self.totals.setText(
            Analyse.TOTALS.format(
                leukocytes=totals.leukocytes,
                to_review=totals.to_review,
                red_cells=totals.red_cells,
                platelets=totals.platelets,
            )
        )
        source = Analyse.SCALE_SOURCES.get(totals.scale_source, totals.scale_source)
        self.scale.setText(Analyse.SCALE_LINE.format(um=totals.um_per_px, source=source))
        rows = slide.count_rows()
        self.table.set_rows(rows)
        self.chart.set_rows(rows)
        more = slide.more_to_count()
        if totals.leukocytes == 0:
            self.more.setText(Analyse.NOTHING)
        else:
            self.more.setText(Analyse.MORE.format(n=more) if more else Analyse.ENOUGH)
        self._show_warnings(slide.result.warnings)
        before = self.shown.currentData()
        names = [(slide.scheme[name].display, name) for name in slide.present()]
        fill(self.shown, [(Analyse.ALL_CLASSES, None), *names])
        if self.shown.currentData() != before:
            self._on_filter()

    def _show_warnings(self, warnings: tuple[str, ...]) -> None:
        one = Analyse.ONE_WARNING if len(warnings) == 1 else Analyse.WARNINGS.format(n=len(warnings))
        self.warnings.head.setText(one if warnings else Analyse.NO_WARNING)
        self.warnings.head.setEnabled(bool(warnings))
        self.warning_text.setText("\n".join(warnings))
        if not warnings:
            self.warnings.head.setChecked(False)

    def _on_filter(self, _value: object = None) -> None:
        self.filtered.emit(self.shown.currentData(), self.only_review.isChecked())
