"""A line over the gallery that says in which class its upper edge is."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QLabel

from napari_leukocls.widgets.gallery import Gallery
from napari_leukocls.widgets.texts import Review


class SectionLine(QLabel):
    """Follows the gallery as it scrolls; a gallery that is virtual has no headings of its own.

    Parameters
    ----------
    gallery : Gallery
    name_of : callable
        Gives the name of the section that a cell is in; "" where the gallery is not in sections.
    """

    def __init__(self, gallery: Gallery, name_of: Callable[[int], str]) -> None:
        super().__init__()
        self._gallery = gallery
        self._name_of = name_of
        #: Row at which each section begins, and how many cells it has.
        self._sections: dict[str, tuple[int, int]] = {}
        self.setAccessibleName(Review.SECTION_NAME)
        gallery.cells.modelReset.connect(self._count)
        gallery.verticalScrollBar().valueChanged.connect(self._follow)
        self.hide()

    def _count(self) -> None:
        self._sections = {}
        for row, cell in enumerate(self._gallery.cells.ids):
            name = self._name_of(cell)
            start, n = self._sections.get(name, (row, 0))
            self._sections[name] = (start, n + 1)
        self._sections.pop("", None)
        self.setVisible(bool(self._sections))
        self._follow()

    def _follow(self, _value: int = 0) -> None:
        if not self._sections:
            return
        edge = self._gallery.spacing() + self._gallery.pictures.side // 2
        at = self._gallery.indexAt(QPoint(edge, edge))
        row = at.row() if at.isValid() else 0
        name = self._name_of(self._gallery.cells.ids[row])
        start, n = self._sections[name]
        self.setText(Review.SECTION.format(display=name, place=row - start + 1, n=n))
