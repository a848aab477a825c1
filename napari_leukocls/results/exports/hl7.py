"""HL7 v2.5.1 ORU^R01: one OBX a result, as laboratory systems take them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hl7apy.core import Message

from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.results.exports._laboratory import (
    NOTICE,
    OWN_SHORT,
    PANEL,
    Coded,
    clean,
    coded,
    issued_at,
    method,
    released_at,
    report_id,
    sample_name,
    state_lines,
)
from napari_leukocls.types import SlideResult

#: What the separators of the message are written as within a text.
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


def status_of(result: SlideResult) -> str:
    """Tell whether a person has signed the count.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
        ``F``, final, or ``P``, preliminary.
    """
    return "F" if result.signature.is_signed else "P"


def write(result: SlideResult, path: Path) -> None:
    """Write the message; segments end with a carriage return, as the standard has it.

    The patient is left open: the slide's name is the specimen's (OBR-3), and whose it is, is known to the
    laboratory system.

    Parameters
    ----------
    result : SlideResult
    path : Path
        Within a folder that is being filled.
    """
    message = _message(result)
    message.validate()
    path.write_bytes(message.to_er7().encode("utf-8"))


def escaped(text: str) -> str:
    """Escape the separators of a message in a text.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return "".join(_ESCAPES.get(sign, sign) for sign in clean(text))


def _message(result: SlideResult) -> Any:
    stamp = issued_at().strftime("%Y%m%d%H%M%S+0000")
    message = Message("ORU_R01", version="2.5.1")
    head = message.msh
    head.msh_3, head.msh_4 = "napari-leukocls", "research"
    head.msh_7, head.msh_9, head.msh_10 = stamp, "ORU^R01^ORU_R01", report_id(result)
    # T: training, the nearest that the standard has to "not for diagnosis".
    head.msh_11, head.msh_12, head.msh_18 = "T", "2.5.1", "UNICODE UTF-8"
    group = message.add_group("ORU_R01_PATIENT_RESULT")
    patient = group.add_group("ORU_R01_PATIENT").add_segment("PID")
    patient.pid_3, patient.pid_5 = escaped(sample_of(result).patient) or '""', '""'
    order = group.add_group("ORU_R01_ORDER_OBSERVATION")
    request = order.add_segment("OBR")
    request.obr_1, request.obr_3 = "1", escaped(sample_name(result))
    request.obr_4 = f"{PANEL[0]}^{PANEL[1]}^{OWN_SHORT}"
    status = status_of(result)
    request.obr_7, request.obr_22 = stamp, released_at(result).strftime("%Y%m%d%H%M%S+0000")
    request.obr_25 = status
    said = (NOTICE, *state_lines(result), method(result), *result.warnings)
    for number, text in enumerate(said, start=1):
        note = order.add_segment("NTE")
        note.nte_1, note.nte_3 = str(number), escaped(text)
    for number, one in enumerate(coded(result), start=1):
        _observation(order.add_group("ORU_R01_OBSERVATION"), number, one, stamp, status)
    return message


def _observation(group: Any, number: int, one: Coded, stamp: str, status: str) -> None:
    line = group.add_segment("OBX")
    own = f"{one.code}^{escaped(one.display)}^{OWN_SHORT}"
    code = f"{one.loinc}^{escaped(one.display)}^LN^{own}" if one.loinc else own
    known = math.isfinite(one.value)
    line.obx_1, line.obx_2, line.obx_3 = str(number), "NM" if known else "ST", code
    line.obx_5 = f"{one.value:g}" if known else escaped(one.text) or "not measured"
    if known and one.unit:
        line.obx_6 = f"{one.unit}^{one.unit}^UCUM"
    if one.interpretation in ("A", "N"):
        # Table 0078 of version 2.5.1 has no word for undecided: the note says it.
        line.obx_8 = one.interpretation
    line.obx_11, line.obx_14 = status, stamp
    notes = [escaped(one.text)] if one.text and known else []
    if one.low is not None and one.high is not None:
        cells = "" if one.count is None else f"{one.count} cells; "
        notes.append(escaped(f"{cells}95 % limits {one.low:g} to {one.high:g} {one.unit}".strip()))
    for place, text in enumerate(notes, start=1):
        note = group.add_segment("NTE")
        note.nte_1, note.nte_3 = str(place), text
