"""The results of a training: the new model compared with the current one."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QPixmap, QResizeEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_leukocls.scheme import Scheme
from napari_leukocls.widgets.common.controls import Folded, button, label, named
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.common.tables import Matrix, fill_table, table
from napari_leukocls.widgets.common.wording import in_dock_words
from napari_leukocls.widgets.texts import Train
from napari_leukocls.widgets.train.preview_model import Preview
from napari_leukocls.widgets.train.results_model import Results
from napari_leukocls.widgets.train.verdict import verdict_of

#: Colours of the verdicts: only what is better or as good is green.
_COLOURS = {"better": "#2da44e", "as good": "#2da44e", "worse": "#e5484d", "cannot tell": "#d29922"}


def split_rows(found: Preview, scheme: Scheme) -> list[list[str]]:
    """Return the number of crops of each class in each part, as rows of a table.

    Parameters
    ----------
    found : Preview
        How the data would be split.
    scheme : Scheme
        The class scheme, with names and colours.

    Returns
    -------
    list of list of str
    """
    rows = []
    for name in found.classes:
        counts = [found.counts.get(part, {}).get(name, 0) for part in ("train", "validation", "test")]
        if any(counts):
            rows.append([scheme[name].display if name in scheme else name, *map(str, counts)])
    return rows


class Figure(QLabel):
    """An image from a file, as wide as the dock."""

    def __init__(self) -> None:
        super().__init__()
        self._source = QPixmap()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_file(self, path: Any, name: str) -> None:
        """Show an image file.

        Parameters
        ----------
        path : pathlib.Path
        name : str
            Accessible name.
        """
        self._source = QPixmap(str(path))
        named(self, name, name)
        self.setVisible(not self._source.isNull())
        self._scale()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the image to the new width.

        Parameters
        ----------
        event : QResizeEvent
        """
        super().resizeEvent(event)
        self._scale()

    def _scale(self) -> None:
        if not self._source.isNull() and self.width() > 20:
            width = min(self.width(), self._source.width())
            fitted = self._source.scaledToWidth(width, Qt.TransformationMode.SmoothTransformation)
            self.setPixmap(fitted)
            self.setFixedHeight(fitted.height())


class ResultsPage(QWidget):
    """The verdict, the recall of each class, figures, and buttons to promote or keep the model.

    Parameters
    ----------
    session : Session
    """

    promote = Signal()
    keep = Signal()
    recheck = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._results: Results | None = None
        #: Whether the verdict is better or as good.
        self._sure = False
        self.verdict = label()
        self.headline = label()
        self.recall = table(Train.RECALL_NAME, Train.RECALL_COLUMNS)
        self.figures = Folded(Train.CONFUSION, Train.CONFUSION)
        self.reliability = Folded(Train.RELIABILITY, Train.RELIABILITY)
        self.lost = label()
        self.recheck_button = button(Train.RECHECK, Train.RECHECK_TIP, self.recheck.emit)
        self.matrices: list[Matrix] = []
        self._shown: list[Figure] = []
        for which in (Train.NEW, Train.CURRENT):
            self.matrices.append(Matrix(Train.MATRIX.format(which=which)))
            self._shown.append(Figure())
            for fold, one in ((self.figures, self.matrices[-1]), (self.reliability, self._shown[-1])):
                fold.body.addWidget(label(which, small=True))
                fold.body.addWidget(one)
        self.promote_button = button(Train.PROMOTE, Train.PROMOTE_TIP, self.promote.emit)
        self.keep_button = button(Train.KEEP, Train.KEEP_TIP, self.keep.emit)
        self.report = button(Train.REPORT, Train.REPORT_TIP, self._open_report)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for one in (
            self.verdict,
            self.lost,
            self.recheck_button,
            self.headline,
            self.recall,
            self.figures,
            self.reliability,
        ):
            column.addWidget(one)
        line = QHBoxLayout()
        for one in (self.promote_button, self.keep_button, self.report):
            line.addWidget(one)
        column.addLayout(line)
        self.hide()

    def show_results(self, found: Results) -> None:
        """Show the results of a training.

        Parameters
        ----------
        found : Results
        """
        self._results = found
        decision = found.decision
        verdict = verdict_of(decision) if decision is not None else None
        head = Train.NO_VERDICT if verdict is None else verdict.headline
        text = in_dock_words(found.problem if verdict is None else verdict.text)
        if found.note:
            self.verdict.setText(html.escape(Train.ADAPTED.format(text=found.note)))
        else:
            colour = _COLOURS["cannot tell" if verdict is None else verdict.kind]
            self.verdict.setText(f'<b style="color:{colour}">{html.escape(head)}</b> {html.escape(text)}')
        self.promote_button.setEnabled(decision is not None and decision.promote)
        self._sure = verdict is not None and verdict.kind in ("better", "as good")
        self.show_lost(found)
        self.headline.setText("\n".join(map(in_dock_words, decision.notes)) if decision is not None else "")
        self.headline.setVisible(bool(self.headline.text()))
        for one in (self.recall, self.figures, self.reliability, self.report):
            one.setVisible(bool(found.reports))
        if found.reports:
            self._show_measured(found)
        self.show()

    def show_lost(self, found: Results) -> None:
        """State what the current model can do and the new one cannot, and what was carried over.

        Parameters
        ----------
        found : Results
        """
        plain = self._sure and not found.lost
        self.promote_button.setText(Train.PROMOTE if plain else Train.PROMOTE_ANYWAY)
        lines = []
        if found.lost:
            lines.append(Train.LOST.format(what=", ".join(found.lost)))
        if found.carried:
            lines.append(Train.CARRIED.format(what=", ".join(found.carried)))
        self.recheck_button.setVisible(found.unchecked and found.decision is not None)
        self.lost.setText("\n".join(lines))
        self.lost.setVisible(bool(lines))

    def _show_measured(self, found: Results) -> None:
        self._fill_recall(found)
        for i, which in enumerate((Train.NEW, Train.CURRENT)):
            name = Train.FIGURE.format(what=Train.RELIABILITY, which=which)
            self._shown[i].show_file(found.reports[i] / "reliability.png", name)
            measured = found.metrics[i]
            self.matrices[i].show_counts(
                np.array(measured["confusion_matrix"]), measured["classes"], self._session.scheme
            )

    def _fill_recall(self, found: Results) -> None:
        verdicts = {row.name: row for row in found.decision.classes} if found.decision is not None else {}
        new, current = (one["per_class"] for one in found.metrics)
        scheme = self._session.scheme
        rows, tips = [], []
        for name in dict.fromkeys([*current, *new]):
            n = max(one.get(name, {}).get("n", 0) for one in (new, current))
            if not n:
                continue
            verdict = verdicts.get(name)
            rows.append(
                [
                    scheme[name].short if name in scheme else name,
                    str(n),
                    _recall(current.get(name)),
                    _recall(new.get(name)),
                    Train.VERDICTS.get(verdict.verdict, verdict.verdict) if verdict is not None else "",
                ]
            )
            display = scheme[name].display if name in scheme else name
            tips.append(f"{display}: {verdict.why}" if verdict is not None else display)
        fill_table(self.recall, rows, tips)

    def _open_report(self) -> None:
        if self._results is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._results.reports[0] / "report.html")))


def _recall(row: dict[str, Any] | None) -> str:
    """A recall with its limits, per cent."""
    if not row or row.get("recall") is None or not math.isfinite(row["recall"]):
        return "–"
    text = f"{100 * row['recall']:.0f}"
    limits = row.get("recall_ci95")
    return text + (f" ({100 * limits[0]:.0f}–{100 * limits[1]:.0f})" if limits else "")
