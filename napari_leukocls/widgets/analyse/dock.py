"""The Analyse dock: it analyses a smear, and shows its cells and its differential count with limits."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFileDialog

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.analyse.form import AnalyseForm
from napari_leukocls.widgets.analyse.model import STAGE_WEIGHTS, analysis, slide_warnings, warm_up, written
from napari_leukocls.widgets.analyse.results import ResultsPanel
from napari_leukocls.widgets.common.analysed import Analysed
from napari_leukocls.widgets.common.controls import Message, ProgressLine, Scrolling, button, duration, label
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.open_docks import show_dock
from napari_leukocls.widgets.common.slide_model import SlideModel
from napari_leukocls.widgets.common.texts import NOT_FOR_DIAGNOSIS, Analyse, Common, plural

if TYPE_CHECKING:
    from napari.layers import Image

#: Milliseconds until the libraries of an analysis are imported. The import would delay the display of the dock.
WARM_UP_AFTER_MS = 700


class AnalyseDock(Dock, Scrolling):
    """The Analyse dock.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._job = self._subscriptions.job(Analyse.TITLE)
        self._export_job = self._subscriptions.job(Analyse.EXPORT)
        self._warm_job = self._subscriptions.job(Analyse.TITLE)
        self._target: weakref.ref[Image] | None = None
        self._started = 0.0
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._refresh_now)
        self.form = AnalyseForm(self._viewer, self._session)
        self.results = ResultsPanel()
        self._build()
        self._connect()
        self._on_layer(self.form.chosen_layer())
        warm = QTimer(self)
        warm.setSingleShot(True)
        warm.timeout.connect(lambda: self._warm_job.start(warm_up, show_activity=False))
        warm.start(WARM_UP_AFTER_MS)

    def _build(self) -> None:
        self.run = button(Analyse.RUN, Analyse.RUN_TIP, self._run, "Run analysis")
        self.run.setDefault(True)
        again = QShortcut(QKeySequence("Ctrl+Return"), self)
        again.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        again.activated.connect(self._run)
        self.progress = ProgressLine(self._job)
        self.message = Message()
        self.adapt = button(Analyse.ADAPT, Analyse.ADAPT_TIP, self._adapt)
        self.adapt.hide()
        self.body.addWidget(self.form)
        self.body.addWidget(self.run)
        self.body.addWidget(self.progress)
        self.body.addWidget(self.message)
        self.body.addWidget(self.adapt)
        self.body.addWidget(self.results)
        self.body.addStretch(1)
        self.body.addWidget(label(NOT_FOR_DIAGNOSIS, small=True))

    def _connect(self) -> None:
        self.form.layer_chosen.connect(self._on_layer)
        self.form.problem.connect(self.message.warn)
        self._job.done.connect(self._on_done)
        self._job.failed.connect(self._on_failed)
        self._job.stopped.connect(lambda: self.message.tell(Common.STOPPED))
        self._job.ended.connect(lambda: self.run.setEnabled(True))
        self._export_job.done.connect(
            lambda folder: self.message.tell(Analyse.EXPORTED.format(folder=folder))
        )
        self._export_job.failed.connect(self.message.warn)
        self._canvas.edited.connect(self._on_edited)
        self._canvas.failed.connect(self._on_failed)
        self.results.filtered.connect(self._canvas.filter)
        self.results.filled.connect(self._canvas.fill)
        self.results.export.connect(self._export)
        self._subscriptions.listen(self._session.slide_changed, self._on_slide)

    # Running -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._job.running:
            return
        try:
            request = self.form.request()
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        layer = self.form.chosen_layer()
        assert layer is not None
        self._target = weakref.ref(layer)
        self._started = time.monotonic()
        self.message.tell("")
        self.run.setEnabled(False)
        self.progress.begin()
        self._job.start(lambda token: analysis(self._session, request, token), STAGE_WEIGHTS)

    def _on_done(self, found: Analysed) -> None:
        layer = self._target() if self._target is not None else None
        if layer is None or layer not in self._viewer.layers:
            self.message.warn(Analyse.LAYER_GONE)
            return
        slide = self._session.of_layer.get(layer)
        if slide is None:
            slide = SlideModel(found.result, found.key, found.config, self._session.scheme)
            self._session.of_layer[layer] = slide
        else:
            slide.key, slide.config = found.key, found.config
            slide.result = found.result
        slide.added = found.added
        self._canvas.show(slide, layer)
        was_blocked = self.results.as_filled.blockSignals(True)
        self.results.as_filled.setChecked(self._canvas.filled)
        self.results.as_filled.blockSignals(was_blocked)
        # The canvas shows the result already; the docks follow.
        slide.changed.emit()
        self._session.show(slide)
        self._on_slide(slide)
        # The counts are shown before the message "Done".
        self._refresh_now()
        parts = [Analyse.DONE.format(time=duration(time.monotonic() - self._started))]
        if found.restored:
            parts.append(plural(Analyse.RESTORED, found.restored))
        unknown = slide_warnings(found.result.warnings)
        self.adapt.setVisible(bool(unknown))
        if unknown:
            self.message.warn(" ".join([*parts, *unknown]))
        else:
            self.message.tell(" ".join(parts))

    def _adapt(self) -> None:
        """Show the Train dock where a model is adapted."""
        show_dock(self._viewer, "Train").raise_()

    def _on_failed(self, error: str) -> None:
        self.message.warn(error)
        self.form.refresh_models()

    def _on_edited(self, count: int) -> None:
        self.message.tell(plural(Analyse.EDITED, count))

    # Showing -------------------------------------------------------------------------------------------

    def _on_layer(self, layer: Image | None) -> None:
        """Show the slide of the selected image layer, if it was analysed."""
        self.run.setEnabled(layer is not None and not self._job.running)
        if layer is None:
            self.message.tell(Analyse.NO_LAYER)
            return
        if self.message.text() == Analyse.NO_LAYER:
            self.message.tell("")
        slide = self._session.of_layer.get(layer)
        if slide is not None and slide is not self._session.current:
            self._canvas.show(slide, layer)
            self._session.show(slide)
        self._on_slide(slide)

    def _on_slide(self, slide: SlideModel | None) -> None:
        if slide is not self._slide:
            # What was said of one slide does not stand beside the next.
            self.message.tell("")
            self.adapt.hide()
            self._follow(slide, changed=self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        # Not during the key press of a correction: the counts may follow a moment later.
        self._later.start()

    def _refresh_now(self) -> None:
        # Behind another tab nothing is drawn, so that a key in the Review dock need not wait for it.
        if self._front:
            self.results.show_slide(self._slide)

    def _on_front(self, front: bool) -> None:
        if front:
            self._refresh()

    # Export --------------------------------------------------------------------------------------------

    def _export(self) -> None:
        if self._slide is None:
            return
        folder = QFileDialog.getExistingDirectory(self, Analyse.EXPORT_TITLE)
        if folder:
            result = self._slide.result
            self._export_job.start(lambda _: written(result, Path(folder)))
