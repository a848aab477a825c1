"""The Proficiency dock: a learner classifies cells with a known class, blind, and sees how well both agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.viewer import Viewer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.widgets.common.controls import Scrolling, label
from napari_leukocls.widgets.common.header import CaseHeader
from napari_leukocls.widgets.common.lifetime import Dock
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.printing import print_html
from napari_leukocls.widgets.proficiency.exam import ExamPage
from napari_leukocls.widgets.proficiency.model import (
    Finished,
    Overview,
    begun,
    certificate,
    continued,
    offered,
    overview,
    result,
    save_html,
)
from napari_leukocls.widgets.proficiency.outcome import OutcomePage
from napari_leukocls.widgets.proficiency.start import StartPage
from napari_leukocls.widgets.texts import NOT_FOR_DIAGNOSIS, Proficiency

if TYPE_CHECKING:
    from napari_leukocls.review.proficiency import Round


class ProficiencyDock(Dock, Scrolling):
    """The Proficiency dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._overview_job = self._subscriptions.job(Proficiency.TITLE)
        self._begin_job = self._subscriptions.job(Proficiency.START)
        self._result_job = self._subscriptions.job(Proficiency.FINISH)
        self._round: Round | None = None
        self._finished: Finished | None = None
        self.start = StartPage(self._session)
        self.exam = ExamPage(self._session.scheme)
        self.outcome = OutcomePage(self._session.scheme)
        self.message = Message()
        self.body.addWidget(CaseHeader(self._viewer))
        self.body.addWidget(self.message)
        for page in (self.start, self.exam, self.outcome):
            self.body.addWidget(page)
        self.body.addStretch(1)
        self.body.addWidget(label(NOT_FOR_DIAGNOSIS, small=True))
        self._turn_to(self.start)
        self._connect()

    def _connect(self) -> None:
        for job in (self._overview_job, self._begin_job, self._result_job):
            job.failed.connect(self.message.warn)
        self._overview_job.done.connect(self._on_overview)
        self._begin_job.done.connect(self._on_begun)
        self._begin_job.ended.connect(lambda: self.start.start.setEnabled(True))
        self._result_job.done.connect(self._on_result)
        self.start.begin.connect(self._begin)
        self.start.open_round.connect(self._open)
        self.start.learner_changed.connect(lambda _: self._look())
        self.start.problem.connect(self.message.warn)
        self.exam.problem.connect(self.message.warn)
        self.exam.finish.connect(self._finish)
        self.exam.leave.connect(self._leave)
        self.outcome.certificate.connect(self._save)
        self.outcome.done.connect(self._leave)
        self._subscriptions.listen(self._session.reviewer_changed, self._on_reviewer)
        self.destroyed.connect(lambda *_, session=self._session: setattr(session, "learner", ""))

    def showEvent(self, event: QShowEvent) -> None:
        """Read the slides and the record anew: slides may have been signed while the dock was hidden.

        Parameters
        ----------
        event : QShowEvent
        """
        super().showEvent(event)
        if self.start.isVisibleTo(self):
            self._look()

    def _turn_to(self, page: QWidget) -> None:
        for one in (self.start, self.exam, self.outcome):
            one.setVisible(one is page)
        self.verticalScrollBar().setValue(0)

    # Start ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        learner = self.start.learner.text()
        self._overview_job.start(lambda _: overview(self._session, learner), show_activity=False)

    def _on_overview(self, found: Overview) -> None:
        self.start.show_overview(found)

    def _on_reviewer(self, name: str) -> None:
        """Offer the reviewer as the learner, if nobody else was named."""
        if not self.start.learner.text().strip():
            self.start.learner.setText(name)

    def _begin(self) -> None:
        self.message.tell("")
        page = self.start
        learner, keys, n = page.learner.text(), page.keys(), page.number.currentData()
        depth, wanted = page.depth.currentData(), page.wanted()
        page.start.setEnabled(False)
        self._begin_job.start(
            lambda _: begun(self._session, learner, keys, n, depth, wanted), show_activity=False
        )

    def _open(self, number: int, unfinished: bool) -> None:
        self.message.tell("")
        if not unfinished:
            self._show_result(number, end=False)
            return
        self._begin_job.start(lambda _: continued(self._session, number), show_activity=False)

    # Round ---------------------------------------------------------------------------------------------

    def _on_begun(self, started: Round) -> None:
        self._round = started
        self._turn_to(self.exam)
        self.exam.show_round(started, offered(self._session, started))
        # The names of the classes may be wider than the first page: nothing is cut off at the side.
        self.updateGeometry()

    def _leave(self) -> None:
        self.message.tell("")
        self._round = self._finished = None
        self._session.learner = ""
        self._turn_to(self.start)
        self._look()

    def _finish(self) -> None:
        if self._round is not None:
            self._show_result(self._round.id, end=True)

    # Result --------------------------------------------------------------------------------------------

    def _show_result(self, number: int, end: bool) -> None:
        self._result_job.start(lambda _: result(self._session, number, end), show_activity=False)

    def _on_result(self, found: Finished) -> None:
        self._finished = found
        self._session.learner = ""
        self.message.tell("")
        self._turn_to(self.outcome)
        self.outcome.show_outcome(found)

    def _save(self) -> None:
        if self._finished is None:
            return
        name, kind = QFileDialog.getSaveFileName(
            self, Proficiency.CERTIFICATE, self._suggested(), Proficiency.CERTIFICATE_KINDS
        )
        if not name:
            return
        path = Path(name)
        if path.suffix.lower() not in (".pdf", ".html", ".htm"):
            path = path.with_name(path.name + (".html" if "html" in kind else ".pdf"))
        try:
            page = certificate(self._session, self._finished)
            if path.suffix.lower() == ".pdf":
                print_html(page, path)
            else:
                save_html(page, path)
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        self.message.tell(Proficiency.SAVED.format(file=path))

    def _suggested(self) -> str:
        assert self._finished is not None
        record = self._finished.record
        learner = "".join(sign if sign.isalnum() else "_" for sign in record.learner)
        return f"proficiency_{learner}_{record.finished_at[:10]}.pdf"
