"""The layers of the current slide: its labels layer, edits of outlines, the ring of the selected cell, the camera."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Points
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QWidget

from napari_leukocls.measurement.fine import depth_of, shown_classes
from napari_leukocls.types import FieldResult
from napari_leukocls.widgets.common.analysed import Analysed, edit_of, edited
from napari_leukocls.widgets.common.canvas_keys import CanvasKeys, Taker, keys_of
from napari_leukocls.widgets.common.cell_focus import Jumps, camera_of, ring_around
from napari_leukocls.widgets.common.jobs import Job
from napari_leukocls.widgets.common.layer_geometry import placement_of
from napari_leukocls.widgets.common.outlines import colours_alone, outlines_of, unlisted, width_at
from napari_leukocls.widgets.common.per_viewer import PerViewer
from napari_leukocls.widgets.common.result_layers import (
    METADATA_KEY,
    cells_layer_name,
    hide_classes,
    label_colormap,
    pixels_of,
    result_layers,
    result_of,
    update_features,
)
from napari_leukocls.widgets.common.session import Session, session_of
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.common.units import before_units_are_read, harmonise
from napari_leukocls.widgets.texts import Canvas as Texts

if TYPE_CHECKING:
    from napari.layers import Image

#: Milliseconds between the last stroke and the comparison of the outlines.
EDIT_PAUSE_MS = 400
#: Milliseconds between the last change of the zoom and a change of the width of the outlines.
ZOOM_PAUSE_MS = 150
#: Pixels of the largest image whose cells are outlined by default; in larger images they are filled.
MOST_OUTLINED = 20_000_000
#: Most cells that have a ring.
MOST_RINGS = 60


class Canvas(QObject):
    """The layers of the current slide of one viewer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    session : Session
    """

    edited = Signal(int)
    failed = Signal(str)

    def __init__(self, viewer: Any, session: Session) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self._session = session
        self._layer: weakref.ref[Labels] | None = None
        self._image: weakref.ref[Image] | None = None
        self._ring: weakref.ref[Points] | None = None
        self._marks: weakref.ref[Points] | None = None
        self._slide: SlideModel | None = None
        self._filter: tuple[str | None, bool] = (None, False)
        self._filled = False
        #: State at the last colouring: layer, cells, their classes, and the cells shown.
        self._coloured: tuple[Any, ...] = ()
        #: The labels that the layer got last.
        self._shown_labels: np.ndarray | None = None
        self._blind = False
        self._jumps = Jumps()
        self._ours = False
        self._job = Job(Texts.MEASURING)
        self._job.done.connect(self._on_measured)
        self._job.failed.connect(self.failed)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(EDIT_PAUSE_MS)
        self._pause.timeout.connect(self._compare_outlines)
        self._zoomed = QTimer(self)
        self._zoomed.setSingleShot(True)
        self._zoomed.setInterval(ZOOM_PAUSE_MS)
        self._zoomed.timeout.connect(self._follow_zoom)
        camera_of(viewer).events.zoom.connect(lambda _event=None: self._zoomed.start())
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._on_layers)
        self._on_layers()
        before_units_are_read(viewer, self._on_layers)
        self.keys: CanvasKeys | None = keys_of(viewer, self._keep_tools_away)

    def _on_layers(self, _event: Any = None) -> None:
        viewer = self._viewer()
        if viewer is not None:
            harmonise(viewer.layers)

    @property
    def layer(self) -> Labels | None:
        """The labels layer of the current slide; None if it is not in the viewer."""
        viewer, layer = self._viewer(), self._layer() if self._layer is not None else None
        return layer if viewer is not None and layer is not None and layer in viewer.layers else None

    @property
    def image(self) -> Image | None:
        """The image layer of the current slide; None if it is not in the viewer."""
        viewer, layer = self._viewer(), self._image() if self._image is not None else None
        return layer if viewer is not None and layer is not None and layer in viewer.layers else None

    def show(self, slide: SlideModel, image: Image) -> None:
        """Show a slide over its image layer, in its labels layer if there is one, else in a new one.

        Parameters
        ----------
        slide : SlideModel
        image : napari.layers.Image
        """
        viewer = self._viewer()
        if viewer is None:
            return
        if slide is not self._slide:
            if self._slide is not None:
                self._slide.changed.disconnect(self._on_changed)
                self._slide.selected.disconnect(self._on_selected)
            slide.changed.connect(self._on_changed)
            slide.selected.connect(self._on_selected)
        self._slide = slide
        self._image = weakref.ref(image)
        layer = self._find_layer(viewer, image, slide.result)
        self._layer = weakref.ref(layer)
        self._on_changed()
        if self._blind:
            hide_classes(layer)

    def _find_layer(self, viewer: Any, image: Image, result: FieldResult) -> Labels:
        name = cells_layer_name(image.name)
        for layer in viewer.layers:
            shown = result_of(layer)
            mine = shown is not None and shown.slide_id == result.slide_id
            if isinstance(layer, Labels) and (mine or layer.name == name):
                if not layer.metadata.get("leukocls_listens") and not self._filled:
                    # It was opened from a folder of results.
                    layer.opacity = 0.9
                    outlines_of(layer).start(self._contour(result), result.segmentation)
                self._listen(layer)
                self._shown_labels = None
                return layer
        ((data, options, _),) = result_layers(result, image.name, self._session.scheme, **placement_of(image))
        # napari computes outlines again for the whole image after every change of colour.
        self._filled = self._filled or result.labels.size > MOST_OUTLINED
        options |= {"opacity": 0.5 if self._filled else 0.9}
        layer = viewer.add_labels(data, **options)
        names = shown_classes(result.cells, depth_of(result.run))
        self._coloured = (weakref.ref(layer), result.cells["cell_id"].tolist(), names.tolist(), None)
        outlines_of(layer).start(0 if self._filled else self._contour(result), result.segmentation)
        self._shown_labels = result.labels
        layer.brush_size = max(3, round(result.segmentation.scale.red_cell_diameter_px / 4))
        self._listen(layer)
        return layer

    def _listen(self, layer: Labels) -> None:
        if layer.metadata.get("leukocls_listens"):
            return
        layer.metadata["leukocls_listens"] = True
        for event in (layer.events.paint, layer.events.set_data, layer.events.data):
            event.connect(self._on_touched)

    def _contour(self, result: FieldResult) -> int:
        return width_at(self._pixel_on_screen(), result.segmentation.scale.red_cell_diameter_px)

    def _pixel_on_screen(self) -> float:
        """Return the size of a pixel of the image on the screen, pixels of the screen."""
        viewer, layer = self._viewer(), self.image
        if viewer is None or layer is None:
            return 1.0
        return float(camera_of(viewer).zoom * np.abs(np.asarray(layer.scale)[-1]))

    def _follow_zoom(self) -> None:
        """Fit the width of the outlines to the zoom."""
        layer, slide = self.layer, self._slide
        if layer is not None and slide is not None and not self._filled:
            red_cell_px = slide.result.segmentation.scale.red_cell_diameter_px
            outlines_of(layer).follow(self._pixel_on_screen(), red_cell_px)

    def _on_changed(self) -> None:
        """Update pixels, features and colours of the layer from the slide."""
        layer, slide = self.layer, self._slide
        if layer is None or slide is None:
            return
        self._ours = True
        try:
            labels = slide.result.labels
            if labels is not self._shown_labels:
                if layer.data.shape != labels.shape or not np.array_equal(layer.data, labels):
                    layer.data = pixels_of(labels)
                    layer.selected_label = int(labels.max(initial=0)) + 1
                self._shown_labels = labels
            outlines_of(layer).overlap(slide.result.segmentation)
            if self._blind:
                layer.metadata[METADATA_KEY] = slide.result
            else:
                with unlisted(self._viewer(), layer):
                    update_features(layer, slide.result)
        finally:
            self._ours = False
        # At once, so that the window is drawn once for a key.
        self._recolour()

    def _recolour(self) -> None:
        layer, slide = self.layer, self._slide
        if layer is None or slide is None or self._blind:
            return
        self._ours = True
        try:
            shown = slide.visible(*self._filter)
            wanted = (weakref.ref(layer), slide.cells["cell_id"].tolist(), slide.shown.tolist(), shown)
            if wanted == self._coloured:
                return
            colormap = label_colormap(slide.cells, self._session.scheme, shown, slide.depth)
            with colours_alone(self._viewer(), layer):
                layer.colormap = colormap
            self._coloured = wanted
        finally:
            self._ours = False

    def filter(self, class_name: str | None, only_review: bool) -> None:
        """Colour only some cells.

        Parameters
        ----------
        class_name : str or None
            None for all classes.
        only_review : bool
            Only cells that need review.
        """
        self._filter = (class_name, only_review)
        self._recolour()

    @property
    def filled(self) -> bool:
        """Whether cells are filled instead of outlined."""
        return self._filled

    def fill(self, filled: bool) -> None:
        """Fill the cells, or draw their outlines.

        Parameters
        ----------
        filled : bool
            True fills them.
        """
        self._filled = filled
        if self.layer is not None and self._slide is not None:
            outlines_of(self.layer).start(
                0 if filled else self._contour(self._slide.result), self._slide.result.segmentation
            )
            self.layer.opacity = 0.5 if filled else 0.9

    def blind(self, hidden: bool) -> None:
        """Hide the classes during a blind second read, in the layers of all fields, and show them afterwards.

        Parameters
        ----------
        hidden : bool
            True hides them.
        """
        viewer = self._viewer()
        if self._blind == hidden or viewer is None:
            return
        self._blind = hidden
        self._coloured = ()
        for layer in list(viewer.layers):
            result = result_of(layer)
            if result is None:
                continue
            if hidden:
                hide_classes(layer)
            else:
                update_features(layer, result)
                layer.colormap = label_colormap(
                    result.cells, self._session.scheme, None, depth_of(result.run)
                )
        if self.layer is not None:
            self.layer.visible = not hidden
            # The status bar shows the class of the active layer's cells.
            viewer.layers.selection.active = self.image if hidden else self.layer
        if not hidden:
            self._recolour()

    def leave(self) -> None:
        """Show no slide any more, and take the ring around its selected cells away."""
        viewer = self._viewer()
        if self._slide is not None:
            self._slide.changed.disconnect(self._on_changed)
            self._slide.selected.disconnect(self._on_selected)
        self._slide = self._layer = self._image = None
        self._coloured = ()
        ring = self._ring() if self._ring is not None else None
        self._ring = None
        if viewer is not None and ring is not None and ring in viewer.layers:
            viewer.layers.remove(ring)

    # Edits of outlines ---------------------------------------------------------------------------------

    def _on_touched(self, _event: Any = None) -> None:
        if not self._ours:
            self._pause.start()

    def _compare_outlines(self) -> None:
        layer, slide = self.layer, self._slide
        if layer is None or slide is None or layer.data.shape != slide.result.labels.shape:
            return
        if self._job.running:
            self._pause.start()
            return
        edit = edit_of(slide.result.labels, np.asarray(layer.data))
        if edit is None:
            return
        labels = np.array(layer.data, np.int32)
        before = slide.result

        def steps(token: Any) -> Generator[Any, None, tuple[SlideModel, FieldResult, Analysed, int]]:
            found = yield from edited(self._session, slide, labels, edit, token)
            return slide, before, found, len(edit.cell_ids)

        self._job.start(steps)

    def _on_measured(self, found: tuple[SlideModel, FieldResult, Analysed, int]) -> None:
        slide, before, analysed, count = found
        result = analysed.result
        if slide.result is not before:
            # The slide was corrected in the meantime: measure again with the corrections.
            self._pause.start()
            return
        layer = self.layer
        later = layer is not None and not np.array_equal(layer.data, result.labels)
        self._ours = True
        try:
            slide.result, slide.added = result, analysed.added
            self._shown_labels = result.labels
            if layer is not None:
                update_features(layer, result)
        finally:
            self._ours = False
        self._recolour()
        # The pixels of the layer stay as the person edited them; the docks update the rest.
        slide.changed.disconnect(self._on_changed)
        slide.changed.emit()
        slide.changed.connect(self._on_changed)
        self.edited.emit(count)
        if later:
            self._pause.start()

    # The chosen cell -----------------------------------------------------------------------------------

    def _on_mouse(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        """Select a cell that is clicked, with Ctrl one more; a drag moves the canvas."""
        layer, slide = self.layer, self._slide
        if layer is None or slide is None or event.button != 1 or self.tool:
            return
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - start).max() > 3:
                return
            yield
        cell = self._cell_at(event.position)
        if cell is None:
            return
        chosen: tuple[int, ...] = (cell,)
        if "Control" in {str(one) for one in event.modifiers}:
            rest = tuple(one for one in slide.selection if one != cell)
            chosen = rest if cell in slide.selection else (*rest, cell)
        slide.select(chosen, "canvas")

    @property
    def tool(self) -> bool:
        """Whether a tool of napari is in use, on the layer that has the mouse."""
        viewer = self._viewer()
        active = None if viewer is None else viewer.layers.selection.active
        return str(getattr(active, "mode", "pan_zoom")) not in ("pan_zoom", "Mode.PAN_ZOOM")

    def _cell_at(self, position: Any) -> int | None:
        """Return the cell at a point of the world, also where its layer is hidden."""
        layer, slide = self.layer, self._slide
        if layer is None or slide is None:
            return None
        place = layer.world_to_data(np.asarray(position, float)[-layer.ndim :])[-2:]
        y, x = (round(float(one)) for one in place)
        height, width = layer.data.shape[-2:]
        if not (0 <= y < height and 0 <= x < width):
            return None
        cell = int(np.asarray(layer.data[y, x]))
        return cell if cell and slide.row(cell) is not None else None

    # Keys ----------------------------------------------------------------------------------------------

    def watch_keys(self, part: QWidget) -> None:
        """Take the keys that a part of the window does not use, too.

        Parameters
        ----------
        part : QWidget
            Such as the frame of a dock.
        """
        if self.keys is not None:
            self.keys.watch(part)

    def offer_keys_to(self, owner: QObject, taker: Taker) -> None:
        """Offer the keys that are pressed over the smear to a dock, before napari gets them.

        Parameters
        ----------
        owner : QObject
        taker : callable
            Returns whether the key is used up.
        """
        if self.keys is not None:
            self.keys.offer_to(owner, taker)

    @property
    def takes_keys(self) -> bool:
        """Whether keys over the smear are for its cells: none of napari's tools is in use, and no layer of others."""
        viewer = self._viewer()
        if viewer is None or self.layer is None or self.tool:
            return False
        active = viewer.layers.selection.active
        mine = (self.layer, self.image, self._ring() if self._ring is not None else None)
        return active is None or active in mine or bool(active.metadata.get("leukocls_overlay"))

    def _keep_tools_away(self, event: QKeyEvent) -> bool:
        """Take the keys of classes that no dock has taken: napari would arm a tool with them."""
        viewer, slide = self._viewer(), self._slide
        plain = event.modifiers() in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier)
        key = event.text().lower()
        if viewer is None or slide is None or not plain or not key.strip() or not self.takes_keys:
            return False
        if not any(entry.key == key for entry in slide.scheme):
            return False
        viewer.status = Texts.NO_REVIEW_DOCK
        return True

    # Selection -----------------------------------------------------------------------------------------

    def _on_selected(self, cell_ids: tuple[int, ...], origin: str) -> None:
        some = cell_ids[:MOST_RINGS]
        rows = [row for cell in some if (row := self._slide.row(cell)) is not None] if self._slide else []
        self._mark(rows)
        if origin != "canvas" and len(rows) == 1:
            self._jump(rows[0])

    def _mark(self, rows: list[Any]) -> None:
        """Draw a ring around the selected cells."""
        viewer, cells = self._viewer(), self.layer
        if viewer is None or cells is None:
            return
        ring = self._ring() if self._ring is not None else None
        shown = ring_around(viewer, cells, ring, rows)
        self._ring = None if shown is None else weakref.ref(shown)

    def mark_counted(self, cells: Mapping[int, str]) -> None:
        """Mark cells that a person has counted, so that none is counted twice.

        Parameters
        ----------
        cells : mapping of int to str
            Colour of the mark, as ``#rrggbb``, by the number of the cell within the case.
        """
        viewer, layer, slide, case = self._viewer(), self.layer, self._slide, self._session.case
        marks = self._marks() if self._marks is not None else None
        if viewer is None or layer is None or slide is None or case is None:
            return
        found = [case.local(number) for number in cells]
        rows = [slide.row(cell) if of is slide else None for of, cell in found]
        places = [[row["centroid_y"], row["centroid_x"]] for row in rows if row is not None]
        inks = [ink for row, ink in zip(rows, cells.values(), strict=True) if row is not None]
        if marks is not None and marks in viewer.layers:
            viewer.layers.remove(marks)
        self._marks = None
        if not places:
            return
        active = viewer.layers.selection.active
        marks = viewer.add_points(
            np.array(places, float),
            name=Texts.COUNTED,
            size=slide.scale.red_cell_diameter_px / 3,
            symbol="disc",
            face_color=inks,
            border_color="white",
            metadata={"leukocls_overlay": True},
            **placement_of(layer),
        )
        self._marks = weakref.ref(marks)
        viewer.layers.selection.active = active

    def _jump(self, cell: Any) -> None:
        viewer, layer, slide = self._viewer(), self.layer, self._slide
        if viewer is not None and layer is not None and slide is not None:
            self._jumps.to(viewer, layer, cell, slide.result.segmentation.scale.red_cell_diameter_px)

    def go_back(self) -> None:
        """Return to the view before the first jump."""
        viewer = self._viewer()
        if viewer is not None:
            self._jumps.back(viewer)


_canvases: PerViewer[Canvas] = PerViewer(lambda viewer: Canvas(viewer, session_of(viewer)))


def canvas_of(viewer: Any) -> Canvas:
    """Return the canvas of a viewer, and create it if needed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer itself, or the proxy that napari gives to plugins.

    Returns
    -------
    Canvas
    """
    return _canvases.of(viewer)
