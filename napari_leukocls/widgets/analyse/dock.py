"""The Analyse dock: it analyses a smear, and shows its cells and its differential count with limits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.analyse.form import AnalyseForm
from napari_leukocls.widgets.analyse.model import analyses, slide_warnings, stage_weights, warm_up
from napari_leukocls.widgets.analyse.results import ResultsPanel
from napari_leukocls.widgets.common.analysed import Analysed, Place
from napari_leukocls.widgets.common.case_model import CaseModel, Field
from napari_leukocls.widgets.common.cases import cases_of
from napari_leukocls.widgets.common.controls import ProgressLine, Scrolling, button, duration, label
from napari_leukocls.widgets.common.handover import handover_of
from napari_leukocls.widgets.common.header import CaseHeader
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.open_docks import show_dock
from napari_leukocls.widgets.common.turns import Turns
from napari_leukocls.widgets.texts import NOT_FOR_DIAGNOSIS, Analyse, Common, plural

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
        self._warm_job = self._subscriptions.job(Analyse.TITLE)
        self._cases, self._handover = cases_of(self._viewer), handover_of(self._viewer)
        self._targets: list[Field] = []
        self._started = 0.0
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._refresh_now)
        self._turns = Turns(self)
        self.form = AnalyseForm(self._viewer, self._session)
        self.results = ResultsPanel()
        self._build()
        self._connect()
        self._on_layer(self.form.chosen_layer())
        self._on_case(self._session.case)
        warm = QTimer(self)
        warm.setSingleShot(True)
        warm.timeout.connect(lambda: self._warm_job.start(warm_up, show_activity=False))
        warm.start(WARM_UP_AFTER_MS)

    def _build(self) -> None:
        self.run = button(Analyse.RUN, Analyse.RUN_TIP, self._run, "Run analysis")
        self.run.setDefault(True)
        self.header = CaseHeader(self._viewer)
        self.progress = ProgressLine(self._job)
        self.message = Message()
        self.adapt = button(Analyse.ADAPT, Analyse.ADAPT_TIP, self._adapt)
        self.adapt.hide()
        self.body.addWidget(self.header)
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
        self._handover.exported.connect(self._on_exported)
        self._handover.warned.connect(self.message.warn)
        self._canvas.edited.connect(self._on_edited)
        self._canvas.failed.connect(self._on_failed)
        self.results.filtered.connect(self._canvas.filter)
        self.results.filled.connect(self._canvas.fill)
        self.results.export.connect(self._export)
        self._subscriptions.listen(self._session.case_changed, self._on_case)
        self._subscriptions.listen(self._session.slide_changed, self._on_shown)
        self._subscriptions.listen(self._session.blind_changed, self._on_blind)
        self._subscriptions.listen(self._session.analyse_wanted, self._run)

    # Running -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._job.running:
            return
        self._cases.flush()
        layer = self.form.chosen_layer()
        fields = self._to_analyse(layer)
        try:
            requests = [self.form.request(field.layer) for field in fields]
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        case = self._session.case
        if case is None or not requests:
            self.message.warn(Analyse.NO_LAYER)
            return
        self._targets = fields
        self._started = time.monotonic()
        self.message.tell("")
        self.run.setEnabled(False)
        self.progress.begin()
        place = Place(case.key, case.name, case.identifier)
        weights = stage_weights(len(requests))
        self._job.start(lambda token: analyses(self._session, requests, place, token), weights)

    def _to_analyse(self, layer: Image | None) -> list[Field]:
        """The fields that Analyse means: the new ones of the slide, else all; one where a part of it is chosen."""
        case, chosen = self._session.case, self._cases.field_of(layer)
        if case is None or chosen is None or not self.form.whole:
            return [] if chosen is None else [chosen]
        new = [field for field in case.fields if field.slide is None]
        return new or [field for field in case.fields if field.layer in self._viewer.layers]

    def _on_done(self, found: list[Analysed]) -> None:
        both = zip(self._targets, found, strict=True)
        there = [(field, analysed) for field, analysed in both if self._is_open(field)]
        if not there:
            self.message.warn(Analyse.LAYER_GONE)
            return
        twice = [text for field, analysed in there if (text := self._cases.enter(field, analysed))]
        # A labels layer takes as long as all the rest.
        self._turns.then(lambda: self._show_layer_of(there[0][0]), lambda: self._tell(there, twice))

    def _show_layer_of(self, field: Field) -> None:
        """Show the outlines of what was analysed: of the chosen field, if it is of the same slide."""
        case = self._session.case
        chosen = self._cases.field_of(self.form.chosen_layer())
        if case is not None and field in case.fields:
            self._cases.show_field(chosen if chosen in case.fields else field)
        was_blocked = self.results.as_filled.blockSignals(True)
        self.results.as_filled.setChecked(self._canvas.filled)
        self.results.as_filled.blockSignals(was_blocked)

    def _tell(self, there: list[tuple[Field, Analysed]], twice: list[str]) -> None:
        """Show the counts, and then that the analysis is done."""
        self._on_case(self._session.case)
        # Set once, the settings make room for the counts.
        self.form.settings.head.setChecked(False)
        self._refresh_now()
        parts = [Analyse.DONE.format(time=duration(time.monotonic() - self._started))]
        corrected = sum(analysed.restored for _, analysed in there)
        if corrected:
            parts.append(plural(Analyse.RESTORED, corrected))
        warnings = [line for _, analysed in there for line in slide_warnings(analysed.result.warnings)]
        unknown = list(dict.fromkeys(warnings))
        self.adapt.setVisible(bool(unknown))
        if unknown or twice:
            self.message.warn(" ".join([*parts, *twice, *unknown]))
        else:
            self.message.tell(" ".join(parts))

    def _is_open(self, field: Field) -> bool:
        """Whether the image of a field was not removed meanwhile: it is shown, or its slide is in the background."""
        case = next((one for one in self._session.cases if field in one.fields), None)
        return case is not None and (case is not self._session.case or field.layer in self._viewer.layers)

    def _adapt(self) -> None:
        """Show the Train dock where a model is adapted."""
        show_dock(self._viewer, "Train").raise_()

    def _on_exported(self, folder: Path) -> None:
        self.message.tell(Analyse.EXPORTED.format(folder=folder))

    def _on_failed(self, error: str) -> None:
        self.message.warn(error)
        if not self._front:
            # Where the key was pressed, in the header of another dock.
            self._cases.warned.emit(error)
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
        self._cases.show_layer(layer)

    def _on_shown(self, _slide: object) -> None:
        """Name the field that is shown, wherever it was chosen."""
        field = self._cases.shown
        if field is not None and field.layer is not None:
            self.form.show_layer(field.layer)

    def _on_case(self, case: CaseModel | None) -> None:
        if case is not self._slide:
            # What was said of one slide does not stand beside the next.
            self.message.tell("")
            self.adapt.hide()
            self._follow(case, changed=self._refresh)
            if case is None or not case.analysed:
                # No count of the last slide stays for a moment.
                self.results.show_slide(None)
        self._refresh()

    def _on_blind(self, blind: bool) -> None:
        if blind:
            self.results.show_slide(None)
        self._refresh()

    def _refresh(self) -> None:
        # Not during the key press of a correction: the counts may follow a moment later.
        self._later.start()

    def _refresh_now(self) -> None:
        # Behind another tab nothing is drawn, so that a key in the Review dock need not wait for it.
        if self._front:
            case = self._slide
            shown = case is not None and case.analysed and not self._session.blind
            self.results.show_slide(case if shown else None)

    def _on_front(self, front: bool) -> None:
        if front:
            self._refresh()

    # Export --------------------------------------------------------------------------------------------

    def _export(self) -> None:
        self._handover.export(self, ask=True)
