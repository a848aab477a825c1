"""The part of the Review dock for a second reader and for the signature."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLineEdit

from napari_leukocls.widgets.controls import Folded, button, form, label, named, row
from napari_leukocls.widgets.texts import Common, Review


class SecondPanel(Folded):
    """Name of the second reader, the buttons of a blind read, and the signature."""

    begun = Signal()
    finished = Signal()
    left = Signal()
    signing = Signal()

    def __init__(self) -> None:
        super().__init__(Review.SECOND, Review.SECOND_TIP)
        self.reader = named(QLineEdit(), Review.READER, Review.READER_TIP)
        self.reader.setPlaceholderText(Common.REVIEWER_HINT)
        self.start = button(Review.START, Review.START_TIP, self.begun.emit)
        self.finish = button(Review.FINISH, Review.FINISH_TIP, self.finished.emit)
        self.leave = button(Review.LEAVE, Review.LEAVE_TIP, self.left.emit)
        self.sign = button(Review.SIGN, Review.SIGN_TIP, self.signing.emit)
        self.signed = label()
        name = form()
        row(name, Review.READER, self.reader)
        self.body.addLayout(name)
        self.body.addWidget(self.start)
        ends = QHBoxLayout()
        ends.addWidget(self.finish)
        ends.addWidget(self.leave)
        self.body.addLayout(ends)
        self.body.addWidget(self.sign)
        self.body.addWidget(self.signed)
