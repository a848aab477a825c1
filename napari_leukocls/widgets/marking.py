"""The ring around chosen cells, and the camera that goes to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Points

from napari_leukocls.layers import placement_of
from napari_leukocls.widgets.texts import Canvas as Texts

#: Diameter of a ring in those of its cell.
_WIDER = 1.5
#: Pixels of a canvas of ordinary size; zoom is in these.
CANVAS_PX = 600
#: The window shows this many red-cell diameters across after a jump.
JUMP_WIDTH_CELLS = 14


def ring_around(viewer: Any, cells: Labels, ring: Points | None, rows: list[Any]) -> Points | None:
    """Draw rings around cells, in the layer of the last ones where it is still there.

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
        # What the person works in stays the active layer.
        active = viewer.layers.selection.active
        ring = viewer.add_points(
            centres,
            name=Texts.RING,
            size=_WIDER * max(spans),
            face_color="transparent",
            border_color="white",
            border_width=0.03,
            metadata={"leukocls_overlay": True},
            **placement_of(cells),
        )
        viewer.layers.selection.active = active
    else:
        ring.data = centres
    if spans:
        ring.size = _WIDER * np.array(spans, float)
        ring.border_color = "white"
        ring.face_color = "transparent"
    ring.selected_data = set()
    return ring


def camera_of(viewer: Any) -> Any:
    """Return the camera of a viewer, where this napari has it: on the scene since 0.9."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


class Jumps:
    """The camera's way to chosen cells, and back to where it was before the first."""

    def __init__(self) -> None:
        self._back: tuple[tuple[float, ...], float] | None = None

    def to(self, viewer: Any, layer: Labels, cell: Any, red_cell_px: float) -> None:
        """Bring a cell (a row of ``cells.csv``) into the middle, near enough to be looked at."""
        camera = camera_of(viewer)
        if self._back is None:
            self._back = (tuple(camera.center), float(camera.zoom))
        centre = layer.data_to_world((cell["centroid_y"], cell["centroid_x"]))
        camera.center = tuple(centre[-2:])
        pixel = float(np.abs(np.asarray(layer.scale)[-1]))
        camera.zoom = max(camera.zoom, CANVAS_PX / (JUMP_WIDTH_CELLS * red_cell_px * pixel))

    def back(self, viewer: Any) -> None:
        """Return to the view before the first jump."""
        if self._back is not None:
            camera = camera_of(viewer)
            camera.center, camera.zoom = self._back
            self._back = None
