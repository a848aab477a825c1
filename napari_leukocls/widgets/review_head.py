"""The upper part of the Review dock: who reviews, how many cells, which ones, and how far that is."""

from __future__ import annotations

from qtpy.QtWidgets import QLineEdit, QProgressBar, QVBoxLayout, QWidget

from napari_leukocls.widgets.controls import combo, form, label, named, row
from napari_leukocls.widgets.texts import Common, Review


class ReviewHead(QWidget):
    """Name of the reviewer, goal, group and order of the gallery, and the progress.

    Parameters
    ----------
    reviewer : str
    """

    def __init__(self, reviewer: str) -> None:
        super().__init__()
        self.reviewer = named(QLineEdit(reviewer), Common.REVIEWER, Common.REVIEWER_TIP)
        self.reviewer.setPlaceholderText(Common.REVIEWER_HINT)
        self.goal = combo(Review.GOAL, Review.GOAL_TIP, [(text, n) for n, text in Review.GOALS.items()])
        self.group = combo(Review.SHOW, Review.SHOW_TIP)
        self.sort = combo(Review.SORT, Review.SORT_TIP, [(text, key) for key, text in Review.SORTS.items()])
        self.bar = named(QProgressBar(), Review.PROGRESS_NAME, Review.PROGRESS_NAME)
        self.bar.setTextVisible(False)
        self.progress = label()
        lines = form()
        row(lines, Common.REVIEWER, self.reviewer)
        row(lines, Review.GOAL, self.goal)
        row(lines, Review.SHOW, self.group)
        row(lines, Review.SORT, self.sort)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(lines)
        column.addWidget(self.bar)
        column.addWidget(self.progress)
