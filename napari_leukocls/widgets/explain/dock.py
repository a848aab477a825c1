"""The Explain dock: the heatmap of a cell, whether it can be trusted, and its morphology in words."""

from __future__ import annotations

import html
import weakref
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QSlider, QVBoxLayout, QWidget

from napari_leukocls.widgets.common.controls import (
    Folded,
    ProgressLine,
    Scrolling,
    combo,
    fill,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.header import CaseHeader
from napari_leukocls.widgets.common.layer_geometry import placement_of
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.pictures import Picture
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.explain.model import TOP, Answer, Question, answer, heat_over, methods
from napari_leukocls.widgets.texts import Canvas, Common, Explain

#: Milliseconds between the selection of a cell and its explanation.
PAUSE_MS = 150
#: Transparent where the map is low, so that the cell stays visible; red where it is high.
HEAT = Colormap([[1, 0.85, 0, 0], [1, 0.6, 0, 0.3], [1, 0.3, 0, 0.6], [1, 0, 0, 0.85]], name="leukocls heat")
_BADGE_COLOURS = {
    "trusted": ("#1a7f37", "#ffffff"),
    "weak": ("#9a6700", "#ffffff"),
    "failed": ("#b3261e", "#ffffff"),
    "unchecked": ("#57606a", "#ffffff"),
}


class ExplainDock(Dock, Scrolling):
    """The Explain dock, for the selected cell of the current slide.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._job = self._subscriptions.job(Explain.TITLE)
        self._layer: weakref.ref[Image] | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE_MS)
        self._build()
        self._lay_out()
        self._connect()
        self._on_slide(self._session.current)

    def _build(self) -> None:
        self.target = combo(Explain.TARGET, Explain.TARGET_TIP)
        self.why_not = combo(Explain.WHY_NOT, Explain.WHY_NOT_TIP)
        entries = [(Explain.OWN_METHOD, None), *((Explain.METHODS.get(m, m), m) for m in methods())]
        self.method = combo(Explain.METHOD, Explain.METHOD_TIP, entries)
        self.opacity = named(QSlider(Qt.Orientation.Horizontal), Explain.OPACITY, Explain.OPACITY_TIP)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(80)
        self.badge = label()
        self.figures = label(small=True)
        self.checks = Folded(Explain.CHECKS, Explain.CHECKS_TIP)
        self.checks.body.addWidget(self.figures)
        self.words = label()
        self.classes = label()
        self.pictures = [Picture(Explain.FIRST_PICTURE), Picture(Explain.SECOND_PICTURE)]
        self.captions = [label(), label()]
        self.message = Message()
        self.progress = ProgressLine(self._job)
        self.content = QWidget()

    def _lay_out(self) -> None:
        lines = form()
        form_row(lines, Explain.TARGET, self.target)
        form_row(lines, Explain.WHY_NOT, self.why_not)
        form_row(lines, Explain.METHOD, self.method)
        form_row(lines, Explain.OPACITY, self.opacity)
        inside = QVBoxLayout(self.content)
        inside.setContentsMargins(0, 0, 0, 0)
        side = QHBoxLayout()
        for picture, caption in zip(self.pictures, self.captions, strict=True):
            column = QVBoxLayout()
            caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            column.addWidget(picture)
            column.addWidget(caption)
            side.addLayout(column)
        inside.addLayout(side)
        inside.addWidget(self.badge)
        inside.addWidget(self.classes)
        inside.addWidget(self.words)
        inside.addWidget(self.checks)
        self.body.addWidget(CaseHeader(self._viewer))
        self.body.addLayout(lines)
        self.body.addWidget(self.message)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        self.content.hide()

    def _connect(self) -> None:
        for box in (self.target, self.why_not, self.method):
            box.currentIndexChanged.connect(lambda _: self._pause.start())
        self.opacity.valueChanged.connect(self._on_opacity)
        self._pause.timeout.connect(self._ask)
        self._job.done.connect(self._on_answer)
        self._job.failed.connect(self.message.warn)
        self._subscriptions.listen(self._session.slide_changed, self._on_slide)
        self._subscriptions.listen(self._session.blind_changed, self._on_blind)

    def _on_blind(self, blind: bool) -> None:
        """Hide all explanations during a blind second read."""
        # Afterwards the cell may be another one, or the dock behind another: it is explained anew.
        self._hide_layer()
        if blind:
            self._job.cancel()
            self.content.hide()
            self.message.tell(Explain.BLIND)
        else:
            self.message.tell(Explain.CHOOSE)
            self._pause.start()

    def _on_front(self, front: bool) -> None:
        """Explain the chosen cell when the dock comes to the front, and take the heatmap away when it goes."""
        if front:
            self._pause.start()
            return
        self._job.cancel()
        self.progress.hide()
        self.content.hide()
        self._hide_layer()

    def _hide_layer(self) -> None:
        layer = self._layer() if self._layer is not None else None
        if layer is not None:
            layer.visible = False

    def _on_slide(self, slide: SlideModel | None) -> None:
        self._follow(slide, selected=self._on_selected, changed=self._on_changed)
        self.content.hide()
        # It lies on a cell of the last field.
        self._hide_layer()
        for one in (self.target, self.why_not, self.method, self.opacity):
            one.setEnabled(slide is not None)
        if slide is None:
            self.message.tell(Common.NO_SLIDE)
            return
        self._on_changed()
        self._on_selected(slide.selection, "")

    def _on_changed(self) -> None:
        if self._slide is None:
            return
        known = [(self._slide.scheme[n].display, n) for n in self._slide.classes if n in self._slide.scheme]
        fill(self.target, [(Explain.BEST, None), *known])
        fill(self.why_not, [(Explain.SECOND_BEST, None), *known])

    def _on_selected(self, cell_ids: tuple[int, ...], _origin: str) -> None:
        if self._session.blind:
            return
        if len(cell_ids) == 1:
            self._pause.start()
        else:
            self._pause.stop()
            self._job.cancel()
            self._hide_layer()
            self.message.tell(Explain.CHOOSE)

    def _ask(self) -> None:
        slide = self._slide
        # Behind another tab nothing is computed or drawn.
        if slide is None or len(slide.selection) != 1 or self._session.blind or not self._front:
            return
        question = Question(
            slide.selection[0],
            self.target.currentData(),
            self.why_not.currentData(),
            self.method.currentData(),
        )
        self.message.tell("")
        self.progress.begin()
        self._job.start(lambda token: answer(self._session, slide, question, token), show_activity=False)

    def _on_answer(self, found: Answer) -> None:
        slide = self._slide
        if slide is None or slide.selection != (found.cell_id,) or self._session.blind or not self._front:
            return
        self.content.show()
        scheme = slide.scheme
        for picture, caption, name, heat in zip(
            self.pictures, self.captions, found.names, found.maps, strict=True
        ):
            picture.show_pixels(heat_over(found.crop, heat))
            display = scheme[name].display if name in scheme else name
            share = 100 * found.probabilities[name]
            text = Explain.WHY if picture is self.pictures[0] else Explain.WHY_NOT_SHARE
            caption.setText(text.format(display=display, percent=share))
        background, ink = _BADGE_COLOURS[found.state]
        text = html.escape(Explain.BADGES[found.state])
        self.badge.setText(f'<span style="background:{background}; color:{ink};">&nbsp;{text}&nbsp;</span>')
        self.badge.setToolTip(found.figures)
        self.figures.setText(found.figures.replace("; ", "\n"))
        top = [
            Explain.SHARE.format(display=scheme[n].display if n in scheme else n, percent=100 * p)
            for n, p in list(found.probabilities.items())[:TOP]
        ]
        self.classes.setText(Explain.CLASSES.format(id=found.cell_id, classes=", ".join(top)))
        self.words.setText(Explain.WORDS.format(words=found.words) if found.words else Explain.NO_WORDS)
        self._show_layer(found)

    def _show_layer(self, found: Answer) -> None:
        """Show the heatmap over the cell on the canvas."""
        image = self._canvas.image
        if image is None:
            return
        placement: dict[str, Any] = placement_of(image)
        # Shear and rotation act between scale and translation, so that only these two change.
        corner = np.asarray(image.data_to_world(found.top_left))
        placement["scale"] = np.asarray(image.scale) * found.step
        placement["translate"] = np.asarray(image.affine.inverse(corner))
        layer = self._layer() if self._layer is not None else None
        if layer is None or layer not in self._viewer.layers:
            active = self._viewer.layers.selection.active
            layer = self._viewer.add_image(
                found.maps[0],
                name=Canvas.HEATMAP,
                colormap=HEAT,
                contrast_limits=(0, 1),
                blending="translucent",
                opacity=self.opacity.value() / 100,
                interpolation2d="linear",
                metadata={"leukocls_overlay": True},
                **placement,
            )
            self._layer = weakref.ref(layer)
            self._viewer.layers.selection.active = active
            cells = self._canvas.layer
            if cells is not None:
                # Under the outlines and the ring.
                self._viewer.layers.move(len(self._viewer.layers) - 1, self._viewer.layers.index(cells))
            return
        layer.visible = True
        layer.data = found.maps[0]
        layer.scale, layer.translate = placement["scale"], placement["translate"]

    def _on_opacity(self, percent: int) -> None:
        layer = self._layer() if self._layer is not None else None
        if layer is not None:
            layer.opacity = percent / 100
