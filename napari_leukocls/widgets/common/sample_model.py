"""Values of the sample as a dock shows and reads them, and what follows from them. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from napari_leukocls.measurement.samples import SampleValues, make_sample
from napari_leukocls.widgets.common.case_model import CaseModel
from napari_leukocls.widgets.texts import Sample


def as_texts(sample: SampleValues) -> dict[str, str]:
    """Write the values for the lines of a form.

    Parameters
    ----------
    sample : SampleValues

    Returns
    -------
    dict of str to str
        ``wbc``, ``rbc``, ``patient``, ``age`` and ``sex``; "" for what is not known.
    """
    numbers = {name: getattr(sample, name) for name in ("wbc", "rbc", "age")}
    texts = {name: "" if value is None else f"{value:.6g}" for name, value in numbers.items()}
    # A large number is read again only with its unit.
    if sample.wbc is not None and sample.wbc > 100:
        texts["wbc"] += " 10^9/L"
    return {**texts, "patient": sample.patient, "sex": sample.sex}


def read_texts(texts: Mapping[str, str], before: SampleValues) -> SampleValues:
    """Read the lines of a form.

    Parameters
    ----------
    texts : mapping of str to str
        As `as_texts` gives them.
    before : SampleValues
        What was known; a line that still shows a value keeps it as exact as it was.

    Returns
    -------
    SampleValues

    Raises
    ------
    ArgumentError
        If a value is not possible, or not clear.
    """
    read = make_sample(
        texts["wbc"], texts["rbc"], texts["age"], texts["sex"], patient=texts["patient"].strip()
    )
    shown = as_texts(before)
    same = {
        name: getattr(before, name) for name in ("wbc", "rbc", "age") if texts[name].strip() == shown[name]
    }
    sample = replace(read, **same)
    if sample == SampleValues():
        return sample
    kept = before if before != SampleValues() else sample
    return replace(sample, identifier=kept.identifier, source=kept.source, wbc_corrected=kept.wbc_corrected)


def said_of(case: CaseModel) -> list[str]:
    """Leukocytes per litre, flags that are certain or possible, and changes since the last count of the patient.

    Parameters
    ----------
    case : CaseModel
        Analysed.

    Returns
    -------
    list of str
    """
    from napari_leukocls.measurement.flags import CERTAIN, PERHAPS
    from napari_leukocls.measurement.judgement import judge

    judged = judge(case.with_sample(case.result))
    lines = [one.text for one in judged.result.findings if one.name.startswith("wbc_")]
    for weight, word in ((CERTAIN, Sample.ABNORMAL), (PERHAPS, Sample.UNCERTAIN)):
        lines += [word.format(text=flag.finding.text) for flag in judged.flags if flag.weight == weight]
    changed = [one.text for one in judged.delta if one.state != "absent"]
    return [*lines, *changed] or [Sample.NOTHING]
