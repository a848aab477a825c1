"""The controls above and below the gallery of the Review dock: what is shown, settings, second read, signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_leukocls.widgets.common.controls import (
    Bar,
    Folded,
    Line,
    button,
    combo,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.workplace import VIEWS
from napari_leukocls.widgets.review.tile_view import LARGEST, SMALLEST
from napari_leukocls.widgets.texts import Common, Review

if TYPE_CHECKING:
    from collections.abc import Callable

#: The page that is shown is underlined, on light and on dark.
PAGE_STYLE = (
    "QToolButton { padding: 3px 10px; border: none; border-bottom: 3px solid transparent; }"
    "QToolButton:checked { border-bottom: 3px solid #2f9e6b; font-weight: bold; }"
)


class ReviewHead(QWidget):
    """Gallery or counter, how large, which cells, and progress; the settings fold away once they are set.

    Parameters
    ----------
    reviewer : str
    depth : QComboBox
        In which the depth of the classes is chosen.
    """

    counter_wanted = Signal(bool)
    view_wanted = Signal(str)
    side_wanted = Signal(int)

    def __init__(self, reviewer: str, depth: QComboBox) -> None:
        super().__init__()
        self.reviewer = named(QLineEdit(reviewer), Common.REVIEWER, Common.REVIEWER_TIP)
        self.reviewer.setPlaceholderText(Common.REVIEWER_HINT)
        self.goal = combo(Review.GOAL, Review.GOAL_TIP, [(text, n) for n, text in Review.GOALS.items()])
        self.kind = combo(Review.KIND, Review.KIND_TIP)
        self.group = combo(Review.SHOW, Review.SHOW_TIP)
        self.sort = combo(Review.SORT, Review.SORT_TIP, [(text, key) for key, text in Review.SORTS.items()])
        self.depth = depth
        self.size = named(QSlider(Qt.Orientation.Horizontal), Review.SIZE, Review.SIZE_TIP)
        self.size.setRange(SMALLEST, LARGEST)
        self.size.setMaximumWidth(self.fontMetrics().averageCharWidth() * 14)
        self.size.valueChanged.connect(self.side_wanted)
        self.bar = named(Bar(), Review.PROGRESS_NAME, Review.PROGRESS_NAME)
        self.progress = Line()
        self.gallery_page = self._page(Review.GALLERY_PAGE, Review.GALLERY_PAGE_TIP)
        self.counter_page = self._page(Review.COUNTER_PAGE, Review.COUNTER_PAGE_TIP)
        self.gallery_page.setChecked(True)
        pages = QButtonGroup(self)
        for one in (self.gallery_page, self.counter_page):
            pages.addButton(one)
        self.counter_page.toggled.connect(self.counter_wanted)
        self.view = self._view_menu()
        self.settings = Folded(Review.SETTINGS, Review.SETTINGS_TIP)
        self.settings.head.setChecked(not reviewer)
        self._lay_out()

    @staticmethod
    def _page(text: str, tip: str) -> QToolButton:
        made: QToolButton = named(QToolButton(), text, tip)
        made.setText(text)
        made.setCheckable(True)
        made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        made.setStyleSheet(PAGE_STYLE)
        return made

    def _view_menu(self) -> QToolButton:
        made: QToolButton = named(QToolButton(), Review.VIEW, Review.VIEW_TIP)
        made.setText(Review.VIEW)
        made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        made.setStyleSheet("QToolButton { padding: 3px 18px 3px 8px; }")
        menu = QMenu(made)
        for view in VIEWS:
            menu.addAction(Review.VIEWS[view], self._wants(view))
        made.setMenu(menu)
        return made

    def _wants(self, view: str) -> Callable[[], None]:
        return lambda *_: self.view_wanted.emit(view)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(2)
        for one in (self.gallery_page, self.counter_page):
            top.addWidget(one)
        top.addStretch(1)
        top.addWidget(self.view)
        settings = form()
        form_row(settings, Common.REVIEWER, self.reviewer)
        form_row(settings, Review.GOAL, self.goal)
        form_row(settings, Review.SORT, self.sort)
        form_row(settings, Common.DEPTH, self.depth)
        self.settings.body.addLayout(settings)
        lines = form()
        form_row(lines, Review.KIND, self.kind)
        form_row(lines, Review.SHOW, self.group, self.size)
        self.lines = lines
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.settings)
        self.below = QWidget()
        below = QVBoxLayout(self.below)
        below.setContentsMargins(0, 0, 0, 0)
        below.setSpacing(4)
        below.addLayout(lines)
        below.addWidget(self.bar)
        below.addWidget(self.progress)
        column.addWidget(self.below)

    def show_lines(self, shown: bool) -> None:
        """Show or hide what belongs to the gallery.

        Parameters
        ----------
        shown : bool
        """
        self.below.setVisible(shown)

    def show_kinds(self, entries: list[tuple[str, str]]) -> None:
        """Show the kinds of cells that a slide has; the switch is hidden if it has one.

        Parameters
        ----------
        entries : list of tuple
            Text and name of each kind.
        """
        self.lines.setRowVisible(self.kind, len(entries) > 1)

    def summarise(self) -> None:
        """Show the settings in the line that unfolds them."""
        parts = [self.reviewer.text().strip() or Review.NO_NAME, self.goal.currentText()]
        self.settings.head.setText(Review.SETTINGS_LINE.format(text=", ".join(parts)))


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
        form_row(name, Review.READER, self.reader)
        self.body.addLayout(name)
        self.body.addWidget(self.start)
        ends = QHBoxLayout()
        ends.addWidget(self.finish)
        ends.addWidget(self.leave)
        self.body.addLayout(ends)
        self.body.addWidget(self.sign)
        self.body.addWidget(self.signed)
