"""Draws the tiles of the gallery, the headings of its sections, and the picture of dragged cells."""

from __future__ import annotations

from qtpy.QtCore import QRect, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QPixmap

from napari_leukocls.widgets.review.kinds import Section, Tile
from napari_leukocls.widgets.review.pictures import Pictures

#: Width of a tile below which its caption is left out.
CAPTION_FROM = 56
#: Pixels around the image of a cell.
MARGIN = 5
#: Frame of a chosen cell: seen on light and on dark, and the colour of no class.
CHOSEN, CHOSEN_EDGE = QColor("#ffe14d"), QColor("#000000")


class TilePainter:
    """Draws cells: the image in a frame of the colour of the class, and the caption.

    Parameters
    ----------
    pictures : Pictures
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._pens: dict[tuple[str, bool, int], QPen] = {}

    def draw(self, painter: QPainter, cell: int, tile: Tile, box: QRect, chosen: bool, caption: int) -> None:
        """Draw one tile.

        Parameters
        ----------
        painter : QPainter
        cell : int
            Number of the cell.
        tile : Tile
        box : QRect
            Of the whole tile.
        chosen : bool
            Whether the cell is selected.
        caption : int
            Height of the caption, pixels; 0 for none.
        """
        side = self._pictures.side
        frame = QRect(box.left() + MARGIN, box.top() + MARGIN, side, side)
        if chosen:
            painter.fillRect(box.adjusted(0, 0, -1, -1), CHOSEN_EDGE)
            painter.fillRect(box.adjusted(1, 1, -2, -2), CHOSEN)
        self._pictures.draw(painter, cell, QRectF(frame))
        painter.setPen(self._pen(tile))
        painter.drawRect(frame)
        if caption:
            painter.setPen(CHOSEN_EDGE if chosen else painter.background().color())
            text = QRect(box.left(), frame.bottom() + 2, box.width(), caption)
            painter.drawText(text, int(Qt.AlignmentFlag.AlignCenter), tile.caption)

    def _pen(self, tile: Tile) -> QPen:
        key = (tile.colour, tile.waiting, 3 if self._pictures.side >= CAPTION_FROM else 2)
        if key not in self._pens:
            style = Qt.PenStyle.DashLine if tile.waiting else Qt.PenStyle.SolidLine
            self._pens[key] = QPen(QColor(tile.colour), key[2], style)
        return self._pens[key]


def draw_heading(painter: QPainter, section: Section, box: QRect, palette: QPalette) -> None:
    """Draw the heading of a section.

    Parameters
    ----------
    painter : QPainter
    section : Section
    box : QRect
    palette : QPalette
        Of the gallery.
    """
    ink = palette.color(QPalette.ColorRole.Text)
    tint = QColor(ink)
    tint.setAlpha(34)
    painter.fillRect(box.adjusted(0, 1, 0, -1), tint)
    side = round(box.height() * 0.5)
    left = box.left() + side // 2
    if section.colour:
        mark = QRect(left, box.center().y() - side // 2, side, side)
        painter.fillRect(mark, QColor(section.colour))
        painter.setPen(ink)
        painter.drawRect(mark)
        left += side + side // 2
    bold = painter.font()
    bold.setBold(True)
    painter.save()
    painter.setFont(bold)
    painter.setPen(ink)
    middle = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
    painter.drawText(box.adjusted(left - box.left(), 0, 0, 0), middle, section.title)
    left += painter.fontMetrics().horizontalAdvance(section.title) + side
    painter.restore()
    painter.setPen(ink)
    painter.drawText(box.adjusted(left - box.left(), 0, 0, 0), middle, section.figures)


def dragged_picture(pictures: Pictures, ids: list[int], side: int) -> QPixmap:
    """Make the picture of dragged cells: the first cell, and how many there are.

    Parameters
    ----------
    pictures : Pictures
    ids : list of int
        Numbers of the cells.
    side : int
        Width and height, pixels of the screen.

    Returns
    -------
    QPixmap
    """
    made = QPixmap(side, side)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setOpacity(0.8)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    pictures.draw(painter, ids[0], QRectF(0, 0, side, side))
    painter.setOpacity(1)
    if len(ids) > 1:
        height = round(side * 0.45)
        badge = QRect(side - round(height * 1.6), side - height, round(height * 1.6), height)
        painter.fillRect(badge, CHOSEN)
        painter.setPen(CHOSEN_EDGE)
        painter.drawText(badge, int(Qt.AlignmentFlag.AlignCenter), str(len(ids)))
    painter.end()
    return made
