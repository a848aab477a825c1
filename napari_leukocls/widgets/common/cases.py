"""The cases of one viewer: which layers are the fields of which slide, which are shown, and when they are closed."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.layers import Labels
from qtpy.QtCore import QObject, QTimer, Signal

from napari_leukocls.errors import ReviewError
from napari_leukocls.io.inputs import safe_id
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.types import FieldResult
from napari_leukocls.widgets.common.analysed import Analysed, Place, opened
from napari_leukocls.widgets.common.canvas import Canvas, canvas_of
from napari_leukocls.widgets.common.case_model import CaseModel, Field
from napari_leukocls.widgets.common.jobs import Job
from napari_leukocls.widgets.common.per_viewer import PerViewer
from napari_leukocls.widgets.common.result_layers import (
    CASE_KEY,
    RESULT_KEY,
    cells_layer_name,
    hide_classes,
    layer_options,
    result_of,
)
from napari_leukocls.widgets.common.session import Session, session_of
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.common.smear_layers import is_smear
from napari_leukocls.widgets.common.software_gl import keep_programs
from napari_leukocls.widgets.texts import Case as Texts

if TYPE_CHECKING:
    from napari.layers import Image

#: Milliseconds after the last image until what was opened becomes a slide.
ARRIVED_MS = 30
#: Signed slides that stay open; the one that was signed first is closed before more are kept.
MOST_SIGNED = 8


def is_opening() -> bool:
    """Say whether napari is in the middle of opening files: it lets the window live between them.

    Returns
    -------
    bool
    """
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if (
            code.co_name == "open"
            and "napari" in code.co_filename
            and code.co_filename.endswith("viewer_model.py")
        ):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


class Cases(QObject):
    """The cases of one viewer.

    Images that are opened together are the fields of one slide. Another slide takes their place: the layers of the last
    one are closed, and come back when it is chosen again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    session : Session
    """

    told = Signal(str)
    warned = Signal(str)

    def __init__(self, viewer: Any, session: Session) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self._session = session
        #: Whether images that are opened become fields of the slide that is shown.
        self.joins = False
        self._arrived: list[Any] = []
        self._moving = False
        self._followed: CaseModel | None = None
        self._job = Job(Texts.OPENING)
        self._job.done.connect(self._on_read)
        self._job.failed.connect(self.warned)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.flush)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        session.case_changed.connect(self._follow)
        keep_programs()
        self._begin(viewer)

    def _begin(self, viewer: Any) -> None:
        """Take the images that are open before the first dock: each is a slide, and the active one is shown."""
        images = [layer for layer in viewer.layers if is_smear(layer)]
        active = viewer.layers.selection.active
        # Nobody knows whether they were opened together, and a count must not mix slides.
        alone = [layer for layer in images if not layer.metadata.get(CASE_KEY)]
        groups = [group for layer in alone for group in self._groups([layer])]
        groups += self._groups([layer for layer in images if layer not in alone])
        for name, layers in groups:
            self._new_case(name, layers)
        if groups:
            chosen = next(
                (case for case in self._session.cases if active in [f.layer for f in case.fields]),
                self._session.cases[-1],
            )
            self.choose(chosen)
        self._read(images)

    @property
    def canvas(self) -> Canvas:
        """What the viewer shows of the current field."""
        return canvas_of(self._viewer())

    # Layers that come and go ---------------------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        if self._moving:
            return
        if is_smear(event.value):
            self._arrived.append(event.value)
            self._soon.start(ARRIVED_MS)
        elif self._session.learner and isinstance(event.value, Labels) and "class" in event.value.features:
            # Nobody knows yet whether they are cells of the round; if they are not, their slide shows them again.
            hide_classes(event.value)
            event.value.visible = False
            self.warned.emit(Texts.ROUND.format(learner=self._session.learner))

    def flush(self) -> None:
        """Make a slide of the images that were just opened, and show it."""
        if is_opening():
            # napari draws its window between two of the images that are opened together.
            self._soon.start(ARRIVED_MS)
            return
        self._soon.stop()
        viewer = self._viewer()
        arrived, self._arrived = self._arrived, []
        if viewer is None:
            return
        images = [layer for layer in arrived if layer in viewer.layers]
        if not images:
            return
        case = self._session.case
        if self.joins and case is not None:
            for layer in images:
                case.add_field(self._unique(case, layer.name), layer)
            self.show_field(case.fields[-1])
        else:
            for name, layers in self._groups(images):
                case = self._new_case(name, layers)
            if case is not None:
                self.choose(case)
        self._read(images)

    @staticmethod
    def _groups(images: list[Any]) -> list[tuple[str, list[Any]]]:
        """The images of each slide: those of one folder, and those that were opened together."""
        groups: dict[str, list[Any]] = {}
        for layer in images:
            groups.setdefault(str(layer.metadata.get(CASE_KEY) or ""), []).append(layer)
        return [(name or safe_id(layers[0].name), layers) for name, layers in groups.items()]

    def _new_case(self, name: str, layers: list[Any]) -> CaseModel:
        case = self._session.new_case(name)
        for layer in layers:
            case.add_field(self._unique(case, layer.name), layer)
        return case

    @staticmethod
    def _unique(case: CaseModel, name: str) -> str:
        """A name of a field that no other field of the slide has, and that can name a folder."""
        base, taken = safe_id(name), {field.name for field in case.fields}
        found, number = base, 2
        while found in taken:
            found, number = f"{base}_{number}", number + 1
        return found

    def _on_removed(self, event: Any) -> None:
        """Forget an image that a person has removed before it was analysed."""
        if self._moving:
            return
        for case in list(self._session.cases):
            field = next((one for one in case.fields if one.layer is event.value), None)
            if field is not None and field.slide is None:
                case.fields.remove(field)
                case.state_changed.emit()
                if not case.fields:
                    self._session.drop_case(case)
                    if case is self._session.case:
                        self.choose(self._session.cases[-1] if self._session.cases else None)

    def _on_active(self, event: Any) -> None:
        """Show the field whose image is chosen in napari's list of layers."""
        case = self._session.case
        if self._moving or case is None or event.value is None:
            return
        field = next((one for one in case.fields if one.layer is event.value), None)
        if field is not None and (field.slide is None or field.slide is not self._session.current):
            self.show_field(field)

    # Showing -------------------------------------------------------------------------------------------

    def choose(self, case: CaseModel | None) -> None:
        """Show a slide, and close the layers of the last one.

        Parameters
        ----------
        case : CaseModel or None
        """
        viewer = self._viewer()
        if viewer is None or case is self._session.case:
            return
        # A blind read belongs to one slide; it can be continued later.
        self._session.set_blind(False)
        self.canvas.blind(False)
        with self._moved():
            self.canvas.leave()
            for layer in [one for one in viewer.layers if one.metadata.get("leukocls_overlay")]:
                # A heatmap belongs to a cell of the last slide.
                viewer.layers.remove(layer)
            shown = () if case is None else case.fields
            for other in self._session.cases:
                if other is not case:
                    self._close(viewer, other)
            for field in shown:
                if field.layer is not None and field.layer not in viewer.layers:
                    viewer.layers.append(field.layer)
        self._session.show_case(case)
        if case is not None and case.fields:
            self.show_field(next((one for one in case.fields if one.slide is not None), case.fields[0]))
            viewer.reset_view()

    @staticmethod
    def _close(viewer: Any, case: CaseModel) -> None:
        for field in case.fields:
            for layer in (field.layer, field.cells):
                if layer is not None and layer in viewer.layers:
                    viewer.layers.remove(layer)
            field.cells = None

    def show_field(self, field: Field) -> None:
        """Show a field of the current slide on the canvas, and hide its other fields.

        Parameters
        ----------
        field : Field
        """
        viewer, case = self._viewer(), self._session.case
        if viewer is None or case is None or field not in case.fields:
            return
        with self._moved():
            if field.slide is not None and field.layer is not None and field.layer in viewer.layers:
                self.canvas.show(field.slide, field.layer)
                field.cells = self.canvas.layer
            else:
                self.canvas.leave()
            for one in case.fields:
                for layer in (one.layer, one.cells):
                    if layer is not None:
                        layer.visible = one is field and not (layer is one.cells and self._session.blind)
            if (
                viewer.layers.selection.active not in (field.layer, field.cells)
                and field.layer in viewer.layers
            ):
                viewer.layers.selection.active = field.cells or field.layer
        self._session.show_field(field.slide)

    def show_layer(self, layer: Image | None) -> None:
        """Show the field of an image layer.

        Parameters
        ----------
        layer : napari.layers.Image or None
        """
        field = self.field_of(layer)
        if field is not None:
            self.show_field(field)

    def field_of(self, layer: Any) -> Field | None:
        """Find the field of the current slide that an image layer shows.

        Parameters
        ----------
        layer : napari.layers.Image or None

        Returns
        -------
        Field or None
        """
        case = self._session.case
        fields = [] if case is None or layer is None else case.fields
        return next((field for field in fields if field.layer is layer), None)

    @property
    def shown(self) -> Field | None:
        """The field that the canvas shows."""
        case = self._session.case
        if case is None:
            return None
        found = case.field_of(self._session.current)
        visible = (one for one in case.fields if one.layer is not None and one.layer.visible)
        return found or next(visible, None)

    def _follow(self, case: CaseModel | None) -> None:
        if self._followed is not None:
            self._followed.field_shown.disconnect(self._on_field)
        self._followed = case
        if case is not None:
            case.field_shown.connect(self._on_field)

    def _on_field(self, field: Field) -> None:
        if field.slide is not self._session.current:
            self.show_field(field)

    @contextmanager
    def _moved(self) -> Iterator[None]:
        """Layers that come and go meanwhile are moved by this object, and not by a person."""
        before, self._moving = self._moving, True
        try:
            yield
        finally:
            self._moving = before

    # Results -------------------------------------------------------------------------------------------

    def enter(self, field: Field, analysed: Analysed) -> str:
        """Give a field of a slide the result of its analysis.

        The same picture twice in one slide is taken once: else its cells would be counted twice.

        Parameters
        ----------
        field : Field
        analysed : Analysed

        Returns
        -------
        str
            What is to be said of it; "" if nothing.
        """
        case = next((one for one in self._session.cases if field in one.fields), None)
        if case is None:
            return ""
        slides = {one.slide.key: one for one in case.fields if one.slide is not None and one is not field}
        if field.slide is None and analysed.key in slides:
            self._leave_out(case, field)
            return Texts.TWICE.format(name=field.name, other=slides[analysed.key].name)
        slide = field.slide
        if slide is None:
            slide = SlideModel(analysed.result, analysed.key, analysed.config, self._session.scheme)
        else:
            slide.key, slide.config, slide.result = analysed.key, analysed.config, analysed.result
        slide.added = analysed.added
        slide.set_depth(self._session.depth)
        case.set_slide(field, slide)
        self._forget_double(case)
        return ""

    def _leave_out(self, case: CaseModel, field: Field) -> None:
        """Close a field that has no result."""
        viewer = self._viewer()
        with self._moved():
            if viewer is not None and field.layer in viewer.layers:
                viewer.layers.remove(field.layer)
        case.fields.remove(field)
        case.state_changed.emit()

    def _forget_double(self, case: CaseModel) -> None:
        """Close the same slide where it was opened before under another name."""
        for other in [one for one in self._session.cases if one is not case and one.key == case.key]:
            self._session.drop_case(other)
            viewer = self._viewer()
            if viewer is not None:
                with self._moved():
                    self._close(viewer, other)

    def open(self, name: str, found: list[Analysed]) -> None:
        """Show a slide whose results were read from a folder; one that is open already is chosen.

        Parameters
        ----------
        name : str
            Of the slide.
        found : list of Analysed
            Its fields.
        """
        viewer = self._viewer()
        if viewer is None or not found:
            return
        self.flush()
        keys = {one.key for one in found}
        for case in self._session.cases:
            if keys == {slide.key for slide in case.slides}:
                self.choose(case)
                return
        case = self._session.new_case(name)
        # Before its layers come, those of the last slide go: names of layers stay as they are.
        self.choose(case)
        with self._moved():
            for analysed in found:
                image = analysed.result.image
                layer = viewer.add_image(image.pixels, **layer_options(image))
                case.add_field(self._unique(case, image.slide_id), layer)
        for field, analysed in zip(case.fields, found, strict=True):
            self.enter(field, analysed)
        self.show_field(case.fields[0])
        viewer.reset_view()

    def _read(self, images: list[Any]) -> None:
        """Enter the results that came with image layers: a folder of results was dropped."""
        with_results = [layer for layer in images if isinstance(layer.metadata.get(RESULT_KEY), FieldResult)]
        case = self._session.case
        fields = [field for layer in with_results if (field := self.field_of(layer)) is not None]
        if case is None or not fields:
            return
        viewer = self._viewer()
        layers = [] if viewer is None else list(viewer.layers)
        for field in fields:
            result = field.layer.metadata[RESULT_KEY]
            cells = next((one for one in layers if result_of(one) is result), None)
            if cells is not None:
                # napari gives layers other names where another slide has a field of this name.
                cells.name = cells_layer_name(field.layer.name)
                field.cells = cells
        results = [field.layer.metadata.pop(RESULT_KEY) for field in fields]
        place = Place(case.key, case.name, case.identifier)

        def steps(token: CancelToken) -> Generator[Progress, None, tuple[list[Field], list[Analysed], str]]:
            try:
                found = yield from opened(self._session, results, place, token)
            except ReviewError as error:
                return fields, [], str(error)
            return fields, found, ""

        self._job.start(steps)

    def _on_read(self, read: tuple[list[Field], list[Analysed], str]) -> None:
        fields, found, refused = read
        if refused:
            self._refuse(fields, refused)
            return
        for field, analysed in zip(fields, found, strict=True):
            self.enter(field, analysed)
        case = self._session.case
        if case is not None and fields[0] in case.fields:
            self.show_field(fields[0])
            n = sum(one.restored for one in found)
            if n:
                self.told.emit(Texts.BACK[n != 1].format(name=case.name, n=n))

    def _refuse(self, fields: list[Field], refused: str) -> None:
        """Show only the images of fields whose results the review store did not take."""
        viewer = self._viewer()
        with self._moved():
            for field in fields:
                if viewer is not None and field.cells is not None and field.cells in viewer.layers:
                    viewer.layers.remove(field.cells)
                field.cells = None
        self.warned.emit(refused)

    # From slide to slide -------------------------------------------------------------------------------

    def join(self) -> None:
        """Make one slide of all open images that are not analysed."""
        case = self._session.case
        if case is None:
            return
        for other in list(self._session.cases):
            if other is not case and not other.analysed:
                self._session.drop_case(other)
                for field in other.fields:
                    case.add_field(self._unique(case, field.name), field.layer)
        viewer = self._viewer()
        with self._moved():
            for field in case.fields:
                if viewer is not None and field.layer is not None and field.layer not in viewer.layers:
                    viewer.layers.append(field.layer)
        self.show_field(self.shown or case.fields[0])

    def close(self) -> None:
        """Close the slide that is shown, and show another one. The review store keeps its cells and its review."""
        viewer, case = self._viewer(), self._session.case
        if viewer is None or case is None:
            return
        self._session.drop_case(case)
        self.choose(self._session.cases[-1] if self._session.cases else None)
        with self._moved():
            self._close(viewer, case)

    def next(self) -> bool:
        """Show the next slide that is not signed: of those that are open, then of the batch.

        Returns
        -------
        bool
            False if there is none.
        """
        cases, now = self._session.cases, self._session.case
        start = cases.index(now) + 1 if now in cases else 0
        for case in [*cases[start:], *cases[:start]]:
            if case is not now and not case.signature().is_signed:
                self.choose(case)
                self._forget_signed()
                return True
        found = self._session.next_of_batch is not None and self._session.next_of_batch()
        if found:
            self._forget_signed()
        return found

    def _forget_signed(self) -> None:
        """Keep the memory free: of many signed slides the first are closed."""
        signed = [case for case in self._session.cases if case.signature().is_signed]
        for case in signed[: max(0, len(signed) - MOST_SIGNED)]:
            if case is not self._session.case:
                self._session.drop_case(case)


_cases: PerViewer[Cases] = PerViewer(lambda viewer: Cases(viewer, session_of(viewer)))


def cases_of(viewer: Any) -> Cases:
    """Return the cases of a viewer, and create them if needed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer itself, or the proxy that napari gives to plugins.

    Returns
    -------
    Cases
    """
    return _cases.of(viewer)
