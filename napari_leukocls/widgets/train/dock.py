"""The Train dock: it trains a model on corrections and crops, and compares it with the current model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QGroupBox, QHBoxLayout, QPlainTextEdit, QProgressBar, QVBoxLayout

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.models.registry import active_classifier
from napari_leukocls.training.events import LAST
from napari_leukocls.widgets.common.controls import (
    Folded,
    ProgressLine,
    Scrolling,
    button,
    duration,
    label,
    named,
)
from napari_leukocls.widgets.common.header import CaseHeader
from napari_leukocls.widgets.common.into_view import IntoView
from napari_leukocls.widgets.common.lifetime import Dock, guard
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.tables import fill_table, table
from napari_leukocls.widgets.common.training_run import TrainingRun
from napari_leukocls.widgets.common.wording import in_dock_words
from napari_leukocls.widgets.texts import Common, Train, plural
from napari_leukocls.widgets.train.curves import Curves
from napari_leukocls.widgets.train.data_model import adapt_config, iter_prepare, new_folder
from napari_leukocls.widgets.train.form import DataForm, SettingsForm
from napari_leukocls.widgets.train.pace import EPOCHS, Pace
from napari_leukocls.widgets.train.preview_model import Preview, iter_check
from napari_leukocls.widgets.train.results import ResultsPage, split_rows
from napari_leukocls.widgets.train.results_model import (
    Results,
    iter_promote,
    iter_recheck_heatmaps,
    iter_results,
    keep,
    what_was_kept,
)
from napari_leukocls.widgets.train.verdict import why

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.events import TrainEvent

#: Milliseconds between two readings of the training's events.
POLL_MS = 150
#: Milliseconds between a change of the data and its check.
CHECK_AFTER_MS = 600


class TrainDock(Dock, Scrolling):
    """The Train dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._check_job = self._subscriptions.job(Train.CHECK)
        self._prepare_job = self._subscriptions.job(Train.START)
        self._results_job = self._subscriptions.job(Train.RESULTS)
        self._promote_job = self._subscriptions.job(Train.PROMOTE)
        self._recheck_job = self._subscriptions.job(Train.RECHECK)
        self._results: Results | None = None
        self._run: TrainingRun | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        # The dock can scroll to the results only after the layout has been updated.
        self._shown = QTimer(self)
        self._shown.setSingleShot(True)
        self._shown.timeout.connect(self._scroll_to_results)
        # Several sources are often added one after the other: they are checked together.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(CHECK_AFTER_MS)
        self._pace: Pace | None = None
        self._stopping = False
        self._build()
        self._lay_out()
        self._connect()
        if self._session.training is not None:
            self._attach(self._session.training)

    def _build(self) -> None:
        self.data = DataForm(self._session)
        self.settings = SettingsForm()
        self.check = button(Train.CHECK, Train.CHECK_TIP, self._check)
        self.split = table(Train.SPLIT_NAME, Train.SPLIT_COLUMNS)
        self.split.hide()
        self.checked = label()
        self.checked.hide()
        self.start = button(Train.START, Train.START_TIP, self._start)
        self.adapt = button(Train.ADAPT, Train.ADAPT_TIP, self._choose_laboratory)
        self.stop = button(Train.STOP, Train.STOP_TIP, self._stop)
        self.stop.setEnabled(False)
        self.bar = named(QProgressBar(), Train.PROGRESS, Train.PROGRESS)
        self.state = label()
        # Start is at the end of a long form: what it starts is below the lower edge of a low window.
        self._place_in_view = IntoView(self.state)
        self.loss = Curves(Train.LOSS, Train.LINES)
        self.score = Curves(Train.SCORE, Train.SCORE_LINE, 1.0)
        self.log = named(QPlainTextEdit(), Train.LOG, Train.LOG_TIP)
        self.log.setReadOnly(True)
        self.log.setTabChangesFocus(True)
        self.log.setMinimumHeight(self.fontMetrics().height() * 8)
        self.log_fold = Folded(Train.LOG, Train.LOG_TIP)
        self.log_fold.body.addWidget(self.log)
        # Why a model was kept takes more than two lines.
        self.message = Message(lines=5)
        self.progress = ProgressLine(self._check_job)
        self.results_progress = ProgressLine(self._results_job)
        self.recheck_progress = ProgressLine(self._recheck_job)
        self.results = ResultsPage(self._session)
        for one in (self.bar, self.loss, self.score, self.log_fold):
            one.hide()

    def _lay_out(self) -> None:
        data, model = QGroupBox(Train.DATA), QGroupBox(Train.TITLE)
        inside = QVBoxLayout(data)
        for one in (self.data, self.check, self.progress, self.checked, self.split):
            inside.addWidget(one)
        inside = QVBoxLayout(model)
        inside.addWidget(self.settings)
        line = QHBoxLayout()
        line.addWidget(self.start)
        line.addWidget(self.stop)
        inside.addLayout(line)
        for one in (self.message, self.bar, self.state):
            inside.addWidget(one)
        for one in (self.loss, self.score, self.log_fold, self.results_progress):
            inside.addWidget(one)
        laboratory = QGroupBox(Train.ADAPT_GROUP)
        inside = QVBoxLayout(laboratory)
        for one in (label(Train.ADAPT_TEXT), self.adapt):
            inside.addWidget(one)
        self.body.addWidget(CaseHeader(self._viewer))
        self.body.addWidget(laboratory)
        self.body.addWidget(data)
        self.body.addWidget(model)
        self.body.addWidget(self.results)
        self.body.addWidget(self.recheck_progress)
        self.body.addStretch(1)

    def _connect(self) -> None:
        self._timer.timeout.connect(self._poll)
        self.data.problem.connect(self.message.warn)
        self.data.changed.connect(self._on_data)
        self.settings.model.currentIndexChanged.connect(lambda _: self._on_data())
        self.settings.preset.currentIndexChanged.connect(lambda _: self._on_data())
        self._soon.timeout.connect(lambda: self._check(by_itself=True))
        self._prepare_job.done.connect(self._on_prepared)
        self._prepare_job.failed.connect(self._on_not_prepared)
        self._check_job.done.connect(self._on_preview)
        self._check_job.failed.connect(self.message.warn)
        self._results_job.done.connect(self._on_results)
        self._results_job.failed.connect(self.message.warn)
        self._results_job.ended.connect(self.state.clear)
        self._promote_job.done.connect(self._on_promoted)
        self._promote_job.failed.connect(self.message.warn)
        self.results.promote.connect(self._promote)
        self.results.keep.connect(self._keep)
        self.results.recheck.connect(self._recheck)
        self._recheck_job.done.connect(self._on_rechecked)
        self._recheck_job.failed.connect(self.message.warn)
        self._subscriptions.listen(self._session.models_changed, self.settings.refresh_models)

    def showEvent(self, event: QShowEvent) -> None:
        """Update slides and models: some may have been added while the dock was hidden.

        Parameters
        ----------
        event : QShowEvent
        """
        super().showEvent(event)
        self.data.refresh_slides()
        self.settings.refresh_models()
        guard(self, self._session)

    # Data ----------------------------------------------------------------------------------------------

    def _settings(self) -> TrainConfig | None:
        """Return the settings, without their data; None, and a message, where something is wrong."""
        try:
            # What lies where is settled when the data is brought together.
            value: TrainConfig | None = self.settings.config(self._folder())
            return value
        except LeukoclsError as error:
            self.message.warn(in_dock_words(str(error)))
            return None

    def _folder(self) -> Path:
        return new_folder(self.settings.name.text().strip())

    def _on_data(self) -> None:
        """Check the data a moment after it has changed."""
        self._check_job.cancel()
        for one in (self.checked, self.split):
            one.hide()
        if self.data.sources():
            self._soon.start()
        else:
            self._soon.stop()

    def _check(self, by_itself: bool = False) -> None:
        self._soon.stop()
        config, sources = self._settings(), self.data.sources()
        if config is not None:
            if not by_itself:
                self.message.tell("")
            self.progress.begin()
            self._check_job.start(
                lambda token: iter_check(self._session, sources, config, token), {"read": 0.5, "check": 0.5}
            )

    def _on_preview(self, found: Preview) -> None:
        lines = [" ".join(found.warnings) or Train.NO_WARNINGS]
        if found.left_out:
            scheme = self._session.scheme
            names = (
                Train.CLASS_COUNT.format(name=scheme[name].display if name in scheme else name, n=n)
                for name, n in found.left_out.items()
            )
            lines.append(Train.LEFT_OUT.format(classes=", ".join(names)))
        by = Train.GROUPS.get(found.grouped_by, found.grouped_by)
        text = plural(Train.PREVIEW, found.crops, by=by, warnings=" ".join(lines))
        self.checked.setText(text)
        self.checked.show()
        fill_table(self.split, split_rows(found, self._session.scheme))
        self.split.show()

    # Training ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        config, sources, folder = self._settings(), self.data.sources(), self._folder()
        if config is None or self._is_training():
            return
        self._soon.stop()
        self._check_job.cancel()
        self.message.tell("")
        self.state.setText(Train.PREPARING)
        self._place_in_view.start()
        self.start.setEnabled(False)
        self._prepare_job.start(lambda token: iter_prepare(self._session, sources, config, folder, token))

    def _on_prepared(self, made: tuple[TrainConfig, dict[str, int]]) -> None:
        self.state.setText("")
        self.start.setEnabled(True)
        self._begin(made[0])

    def _on_not_prepared(self, error: str) -> None:
        self.state.setText("")
        self.start.setEnabled(True)
        self.message.warn(error)

    def _is_training(self) -> bool:
        return self._session.training is not None and self._session.training.running

    def _choose_laboratory(self) -> None:
        self.adapt_to(QFileDialog.getExistingDirectory(self, Train.ADAPT))

    def adapt_to(self, folder: str) -> None:
        """Adapt the active model to a laboratory, in a separate process.

        Parameters
        ----------
        folder : str
            Of images, or of folders named after classes; nothing is done if it is empty.
        """
        if not folder:
            return
        try:
            config = adapt_config(folder, self.settings.name.text().strip(), active_classifier())
        except LeukoclsError as error:
            self.message.warn(in_dock_words(str(error)))
            return
        self._begin(config)

    def _begin(self, config: TrainConfig) -> None:
        """Start a training, if none is running."""
        if self._is_training():
            return
        training = TrainingRun(config)
        try:
            training.start()
        except OSError as error:
            self.message.warn(Train.FAILED.format(error=error))
            return
        self._session.training = training
        self.message.tell("")
        self.results.hide()
        self._attach(training)
        self._place_in_view.start()

    def _attach(self, training: TrainingRun) -> None:
        """Follow a training, from its first event on."""
        if self._run is not None:
            self._subscriptions.forget(self._run.happened, self._on_event)
        self._run = training
        self._pace = Pace(training.config)
        self._stopping = False
        self.log.clear()
        self.bar.show()
        self.log_fold.show()
        # Presets that train only the last layer have no epochs, and therefore no curves.
        self.loss.hide()
        self.score.hide()
        self.loss.clear(training.config.epochs)
        self.score.clear(training.config.epochs)
        self.bar.setRange(0, 0)
        for event in training.events:
            self._on_event(event)
        self._subscriptions.listen(training.happened, self._on_event)
        self.start.setEnabled(not training.running)
        self.adapt.setEnabled(not training.running)
        self.stop.setEnabled(training.running)
        if training.running:
            self._timer.start()

    def _poll(self) -> None:
        if self._run is None or not self._run.running:
            self._timer.stop()
            return
        self._run.poll()

    def _stop(self) -> None:
        if self._run is not None:
            self._stopping = True
            self._run.stop()
            self.state.setText(Train.STOPPING)
            self.stop.setEnabled(False)

    def _on_event(self, event: TrainEvent) -> None:
        data = event.data
        if event.kind == "started":
            classes = plural(Train.CLASSES, len(data["classes"]))
            text = plural(Train.STARTED, int(data["crops"]), device=data["device"], classes=classes)
            self.state.setText(text)
            self._say(text)
        elif event.kind in ("warning", "log"):
            self._say(in_dock_words(str(data.get("message", ""))))
        elif event.kind == "progress":
            self._show_place(str(data["stage"]), int(data["done"]), int(data["total"]))
        elif event.kind == "epoch":
            self._on_epoch(data)
        elif event.kind in LAST:
            self._on_end(event)

    def _on_epoch(self, data: dict[str, Any]) -> None:
        if data.get("repeat") is not None:
            return
        self.loss.show()
        self.score.show()
        self.loss.add(data.get("loss"), data.get("val_loss"))
        self.score.add(data.get("val_macro_f1"))
        self._show_place(EPOCHS, int(data["epoch"]), int(data["epochs"]))
        text = Train.EPOCH.format(epoch=data["epoch"], epochs=data["epochs"])
        figures = ", ".join(
            f"{name} {data[name]:.4g}"
            for name in ("loss", "val_loss", "val_macro_f1", "val_accuracy")
            if data.get(name) is not None
        )
        self._say(f"{text}: {figures}")

    def _show_place(self, step: str, done: int, total: int) -> None:
        """Show which step runs, how far it is, and how long it may still take."""
        if self._pace is None or self._stopping:
            return
        place = self._pace.at(step, done, total)
        what = Train.STEPS.get(step, step)
        if step == EPOCHS:
            text = Train.EPOCHS_LEFT.format(number=place.number, of=place.of, epoch=done, epochs=total)
        else:
            if total > 1:
                what = Train.STEP_COUNT.format(what=what, done=done, total=total)
            text = Train.STEP.format(number=place.number, of=place.of, what=what) if place.number else what
        if place.seconds_left is not None:
            text += ", " + Common.LEFT.format(time=duration(place.seconds_left))
            if step == EPOCHS:
                text += "; " + Train.MAY_END
        self.state.setText(text)
        self.bar.setRange(0, max(1, total) if total > 1 else 0)
        self.bar.setValue(done)

    def _say(self, text: str) -> None:
        self.log.appendPlainText(text)

    def _on_end(self, event: TrainEvent) -> None:
        self.start.setEnabled(True)
        self.adapt.setEnabled(True)
        self.stop.setEnabled(False)
        self.bar.setRange(0, 1)
        self.bar.setValue(1)
        training = self._run
        if event.kind == "failed":
            self.state.setText("")
            self.bar.hide()
            if self._stopping:
                self.message.tell(Train.STOPPED_FIRST)
                return
            error = in_dock_words(str(event.data.get("message", "")))
            self.message.warn(Train.FAILED.format(error=error))
            return
        if event.kind == "kept":
            self.state.setText("")
            self.bar.hide()
            text = in_dock_words(str(event.data["message"]))
            self.message.tell(text[:1].upper() + text[1:])
            return
        if training is None or "model" not in event.data:
            return
        self.message.tell(what_was_kept(event, training))
        self.state.setText(Train.TRAINED)
        self.results_progress.begin()
        model = Path(event.data["model"])
        self._results_job.start(lambda token: iter_results(self._session, model, training.config, token))

    # Results -------------------------------------------------------------------------------------------

    def _on_results(self, found: Results) -> None:
        self._results = found
        self.state.setText("")
        self.results.show_results(found)
        self._shown.start()

    def _scroll_to_results(self) -> None:
        self.ensureWidgetVisible(self.results.promote_button)

    def _promote(self) -> None:
        found = self._results
        if found is not None and not self._promote_job.running and self._run is not None:
            device = self._run.config.device
            self._promote_job.start(lambda token: iter_promote(found, device, token))

    def _on_promoted(self, decision: Any) -> None:
        if decision.promote:
            text = Train.PROMOTED.format(name=active_classifier())
            if self._results is not None and self._results.lost:
                text += " " + Train.HAS_LOST.format(what=", ".join(self._results.lost))
            self.message.tell(text)
        else:
            self.message.warn(Train.REFUSED.format(reason=in_dock_words(why(decision.reason))))
        self._session.models_changed.emit()

    def _recheck(self) -> None:
        found = self._results
        if found is not None and self._run is not None and not self._recheck_job.running:
            device = self._run.config.device
            self.recheck_progress.begin()
            self._recheck_job.start(
                lambda token: iter_recheck_heatmaps(self._session, found, device, token),
                {"read": 0.2, "check": 0.8},
            )

    def _on_rechecked(self, found: Results) -> None:
        self._results = found
        self.results.show_lost(found)

    def _keep(self) -> None:
        if self._results is None:
            return
        try:
            name = keep(self._results)
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        self.message.tell(Train.KEPT.format(name=name))
        self._session.models_changed.emit()
