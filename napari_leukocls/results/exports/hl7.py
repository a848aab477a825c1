"""HL7 v2.5.1 ORU^R01: one OBX a result, as laboratory systems take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hl7apy.core import Message

from napari_leukocls.results.exports._laboratory import (
    NOTICE,
    OWN_SHORT,
    PANEL,
    Coded,
    clean,
    coded,
    issued_at,
    method,
    report_id,
)
from napari_leukocls.types import SlideResult

#: What the separators of the message are written as within a text.
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
#: P: preliminary; no laboratory has released it.
STATUS = "P"


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
    patient.pid_3, patient.pid_5 = '""', '""'
    order = group.add_group("ORU_R01_ORDER_OBSERVATION")
    request = order.add_segment("OBR")
    request.obr_1, request.obr_3 = "1", escaped(result.slide_id) or "slide"
    request.obr_4 = f"{PANEL[0]}^{PANEL[1]}^{OWN_SHORT}"
    request.obr_7 = request.obr_22 = stamp
    request.obr_25 = STATUS
    for number, text in enumerate((NOTICE, method(result), *result.warnings), start=1):
        note = order.add_segment("NTE")
        note.nte_1, note.nte_3 = str(number), escaped(text)
    for number, one in enumerate(coded(result), start=1):
        _observation(order.add_group("ORU_R01_OBSERVATION"), number, one, stamp)
    return message


def _observation(group: Any, number: int, one: Coded, stamp: str) -> None:
    line = group.add_segment("OBX")
    own = f"{one.code}^{escaped(one.display)}^{OWN_SHORT}"
    code = f"{one.loinc}^{escaped(one.display)}^LN^{own}" if one.loinc else own
    line.obx_1, line.obx_2, line.obx_3 = str(number), "NM", code
    line.obx_5, line.obx_6 = f"{one.value:g}", f"{one.unit}^{one.unit}^UCUM"
    line.obx_11, line.obx_14 = STATUS, stamp
    if one.low is not None and one.high is not None:
        note = group.add_segment("NTE")
        note.nte_1 = "1"
        note.nte_3 = escaped(f"{one.count} cells; 95 % limits {one.low:g} to {one.high:g} {one.unit}")
