"""The docks that a differential count needs, opened together."""

from __future__ import annotations

from napari.viewer import Viewer

PLUGIN = "napari-leukocls"
DOCKS = ("Analyse", "Review", "Explain")


def open_workplace(viewer: Viewer) -> None:
    """Open Analyse, Review and Explain as tabs, with Analyse in front.

    Parameters
    ----------
    viewer : napari.Viewer
    """
    first, *others = (viewer.window.add_plugin_dock_widget(PLUGIN, name)[0] for name in DOCKS)
    window = first.window()
    for dock in others:
        # The window that holds the docks is Qt's own kind; older and newer napari alike.
        window.tabifyDockWidget(first, dock)
    first.raise_()
