"""Points a person to cells on the canvas: rings around them, and jumps of the camera."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from napari.layers import Labels, Points

from napari_leukocls.widgets.common.layer_geometry import placement_of
from napari_leukocls.widgets.common.outlines import unlisted, unrefreshed
from napari_leukocls.widgets.texts import Canvas as Texts

#: Diameter of a ring relative to its cell.
_WIDER = 1.5
#: Colour of a ring: a smear is light around its cells, and no class is black.
RING_COLOUR = "black"
#: Width of a canvas of usual size, pixels of the screen.
CANVAS_PX = 600
#: Width of the view after a jump, red-cell diameters.
JUMP_WIDTH_CELLS = 14


def ring_around(viewer: Any, cells: Labels, ring: Points | None, rows: list[Any]) -> Points | None:
    """Draw rings around cells, in the layer of the earlier rings if it is still there.

    Parameters
    ----------
    viewer : napari.Viewer
    cells : napari.layers.Labels
    ring : napari.layers.Points or None
        The layer of the last rings.
    rows : list of rows of ``cells.csv``
        None takes the rings away.

    Returns
    -------
    napari.layers.Points or None
    """
    centres = np.array([[row["centroid_y"], row["centroid_x"]] for row in rows], float).reshape(-1, 2)
    spans = [max(row["bbox_y1"] - row["bbox_y0"], row["bbox_x1"] - row["bbox_x0"]) for row in rows]
    if ring is None or ring not in viewer.layers:
        if not rows:
            return None
        # The active layer stays the same.
        active = viewer.layers.selection.active
        ring = viewer.add_points(
            centres,
            name=Texts.RING,
            size=_WIDER * np.array(spans, float),
            face_color="transparent",
            border_color=RING_COLOUR,
            border_width=0.035,
            metadata={"leukocls_overlay": True},
            **placement_of(cells),
        )
        viewer.layers.selection.active = active
    else:
        more = len(rows) > len(ring.data)
        with unlisted(viewer, ring), unrefreshed(ring), _bounds_kept(viewer, ring):
            ring.data = centres
            if spans:
                ring.size = _WIDER * np.array(spans, float)
            if more:
                ring.border_color = RING_COLOUR
                ring.face_color = "transparent"
        with unlisted(viewer, ring):
            ring.refresh(thumbnail=False, extent=False)
    with unlisted(viewer, ring):
        ring.selected_data = set()
    return ring


def _bounds_kept(viewer: Any, ring: Points) -> AbstractContextManager[Any]:
    """A context in which napari does not measure all layers again: rings lie within the image."""
    measure = getattr(viewer, "_on_layers_change", None)
    found: AbstractContextManager[Any] = (
        nullcontext() if measure is None else ring.events.data.blocker(measure)
    )
    return found


def camera_of(viewer: Any) -> Any:
    """Return the camera of a viewer. napari 0.9 moved it to the scene.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer itself, or the proxy that napari gives to plugins.

    Returns
    -------
    object
    """
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


class Jumps:
    """Moves the camera to selected cells, and back to the view before the first."""

    def __init__(self) -> None:
        self._back: tuple[tuple[float, ...], float] | None = None

    def to(self, viewer: Any, layer: Labels, cell: Any, red_cell_px: float) -> None:
        """Centre the view on a cell, and zoom in if it is small on the screen.

        Parameters
        ----------
        viewer : napari.viewer.Viewer
            The viewer itself, or the proxy that napari gives to plugins.
        layer : napari.layers.Labels
            The labels layer of the slide.
        cell : row of ``cells.csv``
        red_cell_px : float
            Diameter of a red cell in pixels of the image.
        """
        camera = camera_of(viewer)
        if self._back is None:
            self._back = (tuple(camera.center), float(camera.zoom))
        centre = layer.data_to_world((cell["centroid_y"], cell["centroid_x"]))
        camera.center = tuple(centre[-2:])
        pixel = float(np.abs(np.asarray(layer.scale)[-1]))
        camera.zoom = max(camera.zoom, CANVAS_PX / (JUMP_WIDTH_CELLS * red_cell_px * pixel))

    def back(self, viewer: Any) -> None:
        """Return to the view before the first jump.

        Parameters
        ----------
        viewer : napari.viewer.Viewer
            The viewer itself, or the proxy that napari gives to plugins.
        """
        if self._back is not None:
            camera = camera_of(viewer)
            camera.center, camera.zoom = self._back
            self._back = None
