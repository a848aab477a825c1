"""The Batch dock: it analyses all slides of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
)

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.progress import Progress
from napari_leukocls.threads import cores
from napari_leukocls.widgets.analyse.form import AnalyseForm
from napari_leukocls.widgets.batch.model import (
    DONE,
    FAILED,
    Order,
    Row,
    Table,
    find_slides,
    opened,
    rows_of,
    work,
)
from napari_leukocls.widgets.common.analysed import Analysed
from napari_leukocls.widgets.common.cases import cases_of
from napari_leukocls.widgets.common.controls import (
    Folded,
    ProgressLine,
    Scrolling,
    as_list,
    button,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.header import CaseHeader
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.number_boxes import WholeBox
from napari_leukocls.widgets.texts import Batch, Common, plural


class BatchDock(Dock, Scrolling):
    """The Batch dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._job = self._subscriptions.job(Batch.TITLE)
        self._open_job = self._subscriptions.job(Batch.OPEN)
        self._model = Table()
        self._cases = cases_of(self._viewer)
        self._opening = ""
        self._opened: set[str] = set()
        self._build()
        self._lay_out()
        self._connect()

    def _build(self) -> None:
        self.source = named(QLineEdit(), Batch.FOLDER, Batch.FOLDER_TIP)
        self.target = named(QLineEdit(), Batch.OUT, Batch.OUT_TIP)
        self.choose_source = button(
            Common.BROWSE, Batch.FOLDER_TIP, lambda: self._choose(self.source), "Choose folder of slides"
        )
        self.choose_target = button(
            Common.BROWSE, Batch.OUT_TIP, lambda: self._choose(self.target), "Choose folder for results"
        )
        self.options = AnalyseForm(self._viewer, self._session, for_batch=True)
        self.options_fold = Folded(Batch.OPTIONS, Batch.OPTIONS_TIP)
        self.options_fold.body.addWidget(self.options)
        self.workers = named(WholeBox(), Batch.WORKERS, Batch.WORKERS_TIP)
        self.workers.setRange(1, cores())
        self.workers.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.resume = named(QCheckBox(Batch.RESUME), Batch.RESUME, Batch.RESUME_TIP)
        self.resume.setChecked(True)
        self.start = button(Batch.START, Batch.START_TIP, self._start)
        self.progress = ProgressLine(self._job)
        self.message = Message()
        self.summary = label()
        self.table = named(QTableWidget(0, len(Batch.COLUMNS)), Batch.TABLE, Batch.TABLE_TIP)
        self.table.setHorizontalHeaderLabels(Batch.COLUMNS)
        as_list(self.table)
        self.table.setMinimumHeight(self.fontMetrics().height() * 8)
        self.open = button(Batch.OPEN, Batch.OPEN_TIP, self._open)
        self.show_folder = button(Batch.SHOW, Batch.SHOW_TIP, self._show_folder)

    def _lay_out(self) -> None:
        lines = form()
        form_row(lines, Batch.FOLDER, self.source, self.choose_source)
        form_row(lines, Batch.OUT, self.target, self.choose_target)
        form_row(lines, Batch.WORKERS, self.workers)
        column = self.body
        column.addWidget(CaseHeader(self._viewer))
        column.addLayout(lines)
        column.addWidget(self.resume)
        column.addWidget(self.options_fold)
        column.addWidget(self.start)
        column.addWidget(self.progress)
        column.addWidget(self.message)
        column.addWidget(self.table, 1)
        column.addWidget(self.summary)
        line = QHBoxLayout()
        line.addWidget(self.open)
        line.addWidget(self.show_folder)
        column.addLayout(line)

    def _connect(self) -> None:
        self.source.editingFinished.connect(self._on_folders)
        self.target.editingFinished.connect(self._on_folders)
        self.options.problem.connect(self.message.warn)
        self.table.doubleClicked.connect(lambda _: self._open())
        self._job.progressed.connect(self._on_progress)
        self._job.done.connect(self._on_done)
        self._job.failed.connect(self._on_failed)
        self._job.stopped.connect(self._on_stopped)
        self._job.ended.connect(lambda: self.start.setEnabled(True))
        self._open_job.done.connect(self._on_opened)
        self._open_job.failed.connect(self.message.warn)
        self._session.next_of_batch = self.open_next
        self.destroyed.connect(lambda *_, session=self._session: setattr(session, "next_of_batch", None))

    # Folders -------------------------------------------------------------------------------------------

    def _choose(self, line: QLineEdit) -> None:
        folder = QFileDialog.getExistingDirectory(self, line.accessibleName(), line.text())
        if folder:
            line.setText(folder)
            self._on_folders()

    def _on_folders(self) -> None:
        """Show what is in the folder before anything is done."""
        if self._job.running or not self.source.text().strip():
            return
        source = Path(self.source.text().strip())
        if not self.target.text().strip():
            self.target.setText(str(source / "leukocls-results"))
        try:
            slides = find_slides(source)
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        self.message.tell("")
        out = Path(self.target.text().strip())
        self._model.rows, self._model.out = rows_of(slides, out), out
        self._fill()

    # Running -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._job.running:
            return
        try:
            slides = find_slides(Path(self.source.text().strip()))
            config = self.options.config()
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        out = Path(self.target.text().strip() or str(Path(self.source.text().strip()) / "leukocls-results"))
        self.target.setText(str(out))
        order = Order(slides, out, config, self.workers.value(), self.resume.isChecked())
        self._model.begin([Row(slide.slide_id, slide.source) for slide in slides], out)
        self._fill()
        self.message.tell("")
        self.start.setEnabled(False)
        self.progress.begin()
        self._job.start(lambda token: work(order, token), {"compare": 0.02, "slides": 1.0})

    def _on_progress(self, step: Progress, _share: float, _left: object) -> None:
        self._model.on_progress(step)
        self._fill()

    def _on_done(self, outcomes: list[Any]) -> None:
        self._model.on_outcomes(outcomes)
        self._fill()
        failed = sum(outcome.status != "done" for outcome in outcomes)
        # What went wrong comes first: the end of a long message is left out. Of the warnings one is enough here: the
        # table has the others.
        wrong = [Batch.FAILED_SOME.format(n=failed)] if failed else []
        wrong += [f"{line[:1].upper()}{line[1:]}" for line in self._model.run_warnings(outcomes)[:1]]
        text = plural(Batch.FINISHED, len(outcomes) - failed, folder=self._model.out)
        if wrong:
            self.message.warn(" ".join([*wrong, text]))
        else:
            self.message.tell(text)

    def _on_failed(self, error: str) -> None:
        self._model.interrupted()
        self._fill()
        self.message.warn(error)

    def _on_stopped(self) -> None:
        self._model.interrupted()
        self._fill()
        self.message.tell(Batch.STOPPED)

    def _fill(self) -> None:
        """Show the table as it is now, with the row that was chosen."""
        rows = self._model.rows
        if self.table.rowCount() != len(rows):
            self.table.setRowCount(len(rows))
        for i, one in enumerate(rows):
            texts = [one.slide_id, Batch.STATES.get(one.state, one.state)]
            counts = (one.cells, one.leukocytes, one.to_review)
            # A slide that failed has no cells, which is not the same as none.
            texts += ["" if n is None or one.state == FAILED else str(n) for n in counts]
            for j, text in enumerate(texts):
                self._set(i, j, text, one.note or one.source)
        counted = [one for one in rows if one.leukocytes is not None]
        parts = (
            plural(Batch.SLIDES_DONE, len(rows), done=sum(one.state == "done" for one in rows)),
            plural(Batch.LEUKOCYTES, sum(one.leukocytes or 0 for one in counted)),
            plural(Batch.TO_REVIEW, sum(one.to_review or 0 for one in counted)),
        )
        self.summary.setText(", ".join(parts) + "." if rows else "")

    def _set(self, i: int, j: int, text: str, tip: str) -> None:
        item = self.table.item(i, j)
        if item is None:
            item = QTableWidgetItem()
            if j > 1:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(i, j, item)
        if item.text() != text:
            item.setText(text)
        item.setToolTip(tip)

    # Opening -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        chosen = self.table.currentRow()
        if chosen < 0 or chosen >= len(self._model.rows):
            self.message.tell(Batch.CHOOSE)
            return
        self._opening = self._model.rows[chosen].slide_id
        self._opened.add(self._opening)
        folder = self._model.out / self._opening
        self._open_job.start(lambda token: opened(self._session, folder, token))

    def _on_opened(self, found: list[Analysed]) -> None:
        name = self._opening
        self._cases.open(name, found)
        self.message.tell(Batch.OPENED.format(slide=name))

    def open_next(self) -> bool:
        """Open the next slide of the table that is done and was not opened yet.

        Returns
        -------
        bool
            False if there is none.
        """
        rows = self._model.rows
        start = self.table.currentRow() + 1
        for at in range(start, len(rows)):
            if rows[at].state == DONE and rows[at].slide_id not in self._opened:
                self.table.setCurrentCell(at, 0)
                self._open()
                return True
        return False

    def _show_folder(self) -> None:
        if self._model.out.is_dir() and str(self._model.out) != ".":
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._model.out)))
        else:
            self.message.tell(Batch.NO_FOLDER)
