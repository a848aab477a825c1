"""HTML pages as PDF, by Qt's own printing."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QBuffer, QIODevice, QMarginsF, QSizeF, QUrl
from qtpy.QtGui import (
    QGuiApplication,
    QPageLayout,
    QPageSize,
    QPdfWriter,
    QTextDocument,
    QTextFormat,
)

from napari_leukocls.errors import OutputError
from napari_leukocls.io.atomic import atomic_bytes

#: Margin of a page, mm.
MARGIN_MM = 15.0
#: Points per inch at which a page is laid out.
_DPI = 96
#: The letter in whose place Qt sets a picture.
_PICTURE = "\ufffc"
_HEIGHT = QTextFormat.Property.ImageHeight.value
_application: QGuiApplication | None = None


def print_html(
    html: str, path: Path, title: str = "", paper_name: str = "A4", margin_mm: float = MARGIN_MM
) -> Path:
    """Print a page as PDF. It works without a screen, too, and outside the main thread.

    Qt knows a part of HTML and CSS: text, lists, tables and pictures are printed, and drawings in SVG are left out.
    Pictures that are wider than the paper are made smaller.

    Parameters
    ----------
    html : str
        With its pictures inside, as ``data:`` addresses.
    path : pathlib.Path
        Of the PDF; it is written whole or not at all.
    title : str
        Title of the document.
    paper_name : {"A4", "Letter"}
    margin_mm : float

    Returns
    -------
    pathlib.Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    _have_application()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    writer = QPdfWriter(buffer)
    writer.setTitle(title or path.stem)
    writer.setResolution(_DPI)
    writer.setPageSize(QPageSize(QPageSize.PageSizeId[paper_name]))
    writer.setPageMargins(QMarginsF(*[margin_mm] * 4), QPageLayout.Unit.Millimeter)
    document = QTextDocument()
    paper = QSizeF(writer.width(), writer.height())
    document.setPageSize(paper)
    document.setHtml(html)
    _fit_pictures(document, paper.width())
    document.print_(writer)
    del writer
    data = bytes(buffer.data())
    buffer.close()
    if not data.startswith(b"%PDF"):
        raise OutputError(f"'{path.name}' could not be printed: save the page as HTML instead.")
    atomic_bytes(path, data)
    return path


def _have_application() -> None:
    """Qt needs an application for its fonts; a command without a window gets one that needs no screen."""
    global _application
    if QGuiApplication.instance() is None:
        _application = QGuiApplication(["leukocls", "-platform", "offscreen"])


def _fit_pictures(document: QTextDocument, width: float) -> None:
    """Make pictures that are wider than the paper smaller."""
    cursor = document.find(_PICTURE)
    while not cursor.isNull():
        picture = cursor.charFormat().toImageFormat()
        if picture.isValid() and (picture.width() or _width_of(document, picture.name())) > width:
            picture.setWidth(width)
            picture.clearProperty(_HEIGHT)
            cursor.setCharFormat(picture)
        cursor = document.find(_PICTURE, cursor)


def _width_of(document: QTextDocument, name: str) -> float:
    """Width of a picture in pixels; Qt gives it as an image or a pixmap, by the thread."""
    found = document.resource(QTextDocument.ResourceType.ImageResource.value, QUrl(name))
    return float(found.width()) if hasattr(found, "width") else 0.0
