"""The page of a finished round: agreement, counts with limits, and the cells that differ side by side."""

from __future__ import annotations

import html

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from napari_leukocls.scheme import Scheme
from napari_leukocls.widgets.common.controls import Folded, button, label
from napari_leukocls.widgets.common.pictures import Picture
from napari_leukocls.widgets.common.tables import Matrix, fill_table, table
from napari_leukocls.widgets.proficiency.model import Differing, Finished
from napari_leukocls.widgets.texts import Proficiency, plural

_LINES = 7
#: Share of a picture that is cut off at each side where cells are compared.
_CUT = 0.18


class OutcomePage(QWidget):
    """Result of a round.

    Parameters
    ----------
    scheme : Scheme
    """

    certificate = Signal()
    done = Signal()

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self._scheme = scheme
        self.heading = label()
        self.verdict = label()
        self.text = label()
        self.classes = table(Proficiency.CLASS_TABLE, Proficiency.CLASS_COLUMNS)
        self.matrix = Matrix(Proficiency.CONFUSION)
        self.confusion = Folded(Proficiency.CONFUSION, Proficiency.CONFUSION_TIP)
        self.confusion.body.addWidget(self.matrix)
        self.counts = table(Proficiency.COUNT_TABLE, Proficiency.COUNT_COLUMNS)
        self.differing = label()
        self.pairs = QWidget()
        self._grid = QGridLayout(self.pairs)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self.more = label(small=True)
        self.save = button(Proficiency.CERTIFICATE, Proficiency.CERTIFICATE_TIP, self.certificate.emit)
        self.back = button(Proficiency.DONE, Proficiency.DONE_TIP, self.done.emit)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        line = QHBoxLayout()
        line.addWidget(self.save)
        line.addWidget(self.back)
        for one in (self.heading, self.verdict, self.text):
            column.addWidget(one)
        column.addLayout(line)
        for one in (
            label(Proficiency.CLASS_TABLE),
            self.classes,
            self.confusion,
            label(Proficiency.COUNT_TABLE),
            self.counts,
            label(Proficiency.COUNT_NOTE, small=True),
            self.differing,
            self.pairs,
            self.more,
        ):
            column.addWidget(one)

    def show_outcome(self, found: Finished) -> None:
        """Show the result of a round.

        Parameters
        ----------
        found : Finished
        """
        outcome = found.record.outcome
        assert outcome is not None
        self.heading.setText(
            Proficiency.HEADING.format(
                learner=found.record.learner, slides=found.record.name, date=found.record.finished_at[:10]
            )
        )
        text = html.escape(found.verdict)
        colour = "#e5484d"
        if outcome.reached:
            # Reached by chance alone, perhaps, where the limits include less.
            certain = outcome.observed_low >= (outcome.required or 0)
            colour = "#2da44e" if certain else "#d29922"
        self.verdict.setText(f'<b style="color:{colour}">{text}</b>' if text else "")
        self.verdict.setVisible(bool(text))
        self.text.setText("\n".join(outcome.words(self._scheme)))
        fill_table(
            self.classes,
            [
                [row["display"], str(row["reference"]), str(row["learner"]), str(row["both"])]
                + [Proficiency.FOUND.format(found=row["found"], limits=row["limits"])]
                for row in found.class_rows
            ],
            tips=[row["display"] for row in found.class_rows],
        )
        agreement = outcome.agreement
        names = self._scheme.ordered(agreement.table.index)
        self.matrix.show_counts(agreement.table.loc[names, names].to_numpy(), names, self._scheme)
        fill_table(
            self.counts,
            [
                [row["display"], row["reference"], row["limits"], row["learner"]]
                + [Proficiency.YES if row["within"] else Proficiency.NO]
                for row in found.count_rows
            ],
            tips=[row["display"] for row in found.count_rows],
        )
        self._show_differing(found.differing, len(agreement.disagreements))

    def _show_differing(self, differing: tuple[Differing, ...], n: int) -> None:
        self.differing.setText(plural(Proficiency.DIFFERING, n) if n else Proficiency.NONE_DIFFERS)
        self.differing.setToolTip(Proficiency.DIFFERING_TIP)
        self.more.setText(Proficiency.MORE_DIFFER.format(n=len(differing)))
        self.more.setVisible(len(differing) < n)
        while self._grid.count():
            item = self._grid.takeAt(0).widget()
            if item is not None:
                item.deleteLater()
        for row, one in enumerate(differing):
            texts = (
                Proficiency.THE_CELL.format(place=one.place + 1),
                Proficiency.YOU.format(display=self._display(one.learner)),
                Proficiency.REFERENCE.format(display=self._display(one.reference)),
            )
            pictures = (one.picture, one.of_learner, one.of_reference)
            for column, (text, pixels) in enumerate(zip(texts, pictures, strict=True)):
                self._grid.addWidget(_captioned(text, pixels), row, column)

    def _display(self, name: str) -> str:
        return self._scheme[name].display if name in self._scheme else name


def _captioned(text: str, pixels: np.ndarray | None) -> QWidget:
    """A picture with its caption below."""
    made = QWidget()
    column = QVBoxLayout(made)
    column.setContentsMargins(0, 0, 0, 0)
    picture = Picture(text, _LINES)
    if pixels is None:
        picture.setText(Proficiency.NO_EXAMPLE)
    else:
        # The middle, so that the cell is large beside the others.
        away = round(min(pixels.shape[:2]) * _CUT)
        picture.show_pixels(pixels[away : pixels.shape[0] - away, away : pixels.shape[1] - away])
    caption = label(text, small=True)
    caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
    column.addWidget(picture)
    column.addWidget(caption)
    return made
