"""Values of the sample in a dock: counts of the analyser, the patient's number, age and sex; and the flags."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QLineEdit

from napari_leukocls.errors import LeukoclsError
from napari_leukocls.measurement.samples import SampleValues
from napari_leukocls.widgets.common.case_model import CaseModel
from napari_leukocls.widgets.common.controls import (
    Folded,
    combo,
    fill,
    find,
    form,
    form_row,
    label,
    named,
)
from napari_leukocls.widgets.common.message import Message
from napari_leukocls.widgets.common.sample_model import as_texts, read_texts, said_of
from napari_leukocls.widgets.texts import Sample


class SampleGroup(Folded):
    """A group that folds: it shows and sets the values of the case, and shows its flags.

    Parameters
    ----------
    reviewer : callable
        Gives the name of the person at the window.
    """

    def __init__(self, reviewer: Callable[[], str]) -> None:
        super().__init__(Sample.TITLE, Sample.TITLE_TIP)
        self._reviewer = reviewer
        self._case: CaseModel | None = None
        self.wbc = named(QLineEdit(), Sample.WBC, Sample.WBC_TIP)
        self.wbc.setPlaceholderText(Sample.WBC_HINT)
        self.rbc = named(QLineEdit(), Sample.RBC, Sample.RBC_TIP)
        self.rbc.setPlaceholderText(Sample.RBC_HINT)
        self.patient = named(QLineEdit(), Sample.PATIENT, Sample.PATIENT_TIP)
        self.age = named(QLineEdit(), Sample.AGE, Sample.AGE_TIP)
        self.sex = combo(Sample.SEX, Sample.SEX_TIP)
        fill(self.sex, ((Sample.NOT_KNOWN, ""), (Sample.FEMALE, "female"), (Sample.MALE, "male")))
        self.message = Message()
        self.said = label()
        rows = form()
        for name, control in (
            (Sample.WBC, self.wbc),
            (Sample.RBC, self.rbc),
            (Sample.PATIENT, self.patient),
            (Sample.AGE, self.age),
            (Sample.SEX, self.sex),
        ):
            form_row(rows, name, control)
        self.body.addLayout(rows)
        self.body.addWidget(self.message)
        self.body.addWidget(self.said)
        for line in (self.wbc, self.rbc, self.patient, self.age):
            line.editingFinished.connect(self._apply)
        self.sex.activated.connect(lambda _: self._apply())
        self.head.toggled.connect(lambda _: self.refresh())

    def set_case(self, case: CaseModel | None) -> None:
        """Show the values of another case.

        Parameters
        ----------
        case : CaseModel or None
        """
        self._case = case if case is not None and case.key is not None else None
        self.inside.setEnabled(self._case is not None)
        sample = SampleValues() if self._case is None else self._case.sample
        texts = as_texts(sample)
        for name in ("wbc", "rbc", "patient", "age"):
            getattr(self, name).setText(texts[name])
        self.sex.setCurrentIndex(find(self.sex, texts["sex"]))
        self.message.tell("" if self._case is not None else Sample.NO_CASE)
        self.refresh()

    def refresh(self) -> None:
        """Show the leukocytes per litre and the flags of the count as it is now, if the group is open."""
        if self.head.isChecked() and self._case is not None:
            self.said.setText("\n".join(said_of(self._case)))

    def _apply(self) -> None:
        if self._case is None:
            return
        texts = {name: getattr(self, name).text() for name in ("wbc", "rbc", "patient", "age")}
        try:
            sample = read_texts({**texts, "sex": self.sex.currentData()}, self._case.sample)
            if sample != self._case.sample:
                self._case.set_sample(sample, self._reviewer())
        except LeukoclsError as error:
            self.message.warn(str(error))
            return
        self.message.tell("")
        self.refresh()
