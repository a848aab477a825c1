"""Opens the docks together."""

from __future__ import annotations

from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_leukocls import widgets
from napari_leukocls.widgets.common.per_viewer import real_viewer
from napari_leukocls.widgets.common.workplace import MARK

#: Same titles as for the entries of `Plugins > Leukocls`, so that both open the same dock.
TITLE = "{name} (Leukocls)"
DOCKS = ("Analyse", "Review", "Explain", "Train", "Batch")


def open_workplace(viewer: Viewer) -> None:
    """Open the docks as tabs, with Analyse in front.

    Parameters
    ----------
    viewer : napari.Viewer
    """
    first, *others = (show_dock(viewer, name) for name in DOCKS)
    window = first.window()
    for dock in others:
        # The window is a QMainWindow in all versions of napari.
        window.tabifyDockWidget(first, dock)
    first.raise_()
    _bring_forward(first, [first, *others])


def _bring_forward(first: QDockWidget, docks: list[QDockWidget]) -> None:
    """Bring a dock to the front once all are placed, as each comes to the front then; a tab that was chosen stays."""
    timer = QTimer(first)

    def look() -> None:
        if all(dock.property(MARK) for dock in docks):
            timer.deleteLater()
            if not docks[-1].visibleRegion().isEmpty():
                first.raise_()

    timer.timeout.connect(look)
    timer.start(20)


def show_dock(viewer: Viewer, name: str) -> QDockWidget:
    """Show a dock, and open it where it is not open yet.

    Parameters
    ----------
    viewer : napari.Viewer
    name : str
        ``Analyse``, ``Review``, ``Explain``, ``Train`` or ``Batch``.

    Returns
    -------
    QDockWidget
    """
    viewer = real_viewer(viewer)
    title = TITLE.format(name=name)
    # napari before 0.6.2 has no public list of its docks.
    parent: QWidget | None = getattr(viewer.window, "dock_widgets", {}).get(title)
    if parent is None:
        return viewer.window.add_dock_widget(getattr(widgets, f"{name}Dock")(viewer), name=title)
    while not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    parent.show()
    return parent
