"""FHIR R4B: a Bundle with a DiagnosticReport, its Observations, the specimen and the software."""

from __future__ import annotations

import html
import math
import uuid
from pathlib import Path
from typing import Any

from fhir.resources.R4B.bundle import Bundle

from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.results.exports._laboratory import (
    LOINC,
    NOTICE,
    OWN,
    PANEL,
    UCUM,
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

_CATEGORY = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "laboratory",
            "display": "Laboratory",
        }
    ]
}

_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_MEANINGS = {"A": "Abnormal", "N": "Normal", "IND": "Indeterminate"}
_NAMES = uuid.UUID("6f0d3a9c-3d53-5c57-9d2a-7e0f3e4a1b11")


def write(result: SlideResult, path: Path) -> None:
    """Write the bundle; it has been validated against FHIR's own definitions.

    The subject is left open: the slide's name is the specimen's identifier, and the laboratory system knows the
    patient.

    Parameters
    ----------
    result : SlideResult
    path : Path
        Within a folder that is being filled.
    """
    bundle = Bundle.model_validate(_bundle(result))
    path.write_text(bundle.model_dump_json(indent=2) + "\n", encoding="utf-8", newline="\n")


def status_of(result: SlideResult) -> str:
    """Tell whether a person has signed the count: a system that stores it can see whether it may still change.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
        ``final`` or ``preliminary``.
    """
    return "final" if result.signature.is_signed else "preliminary"


def _bundle(result: SlideResult) -> dict[str, Any]:
    name = report_id(result)
    specimen, device = _url(name, "specimen"), _url(name, "device")
    results = list(coded(result))
    urls = [_url(name, f"observation {one.code}") for one in results]
    resources = [
        (_url(name, "report"), _report(result, results, urls, specimen, name)),
        *((url, _observation(result, one, specimen, device)) for url, one in zip(urls, results, strict=True)),
        (
            specimen,
            {"resourceType": "Specimen", "identifier": [{"system": OWN, "value": sample_name(result)}]},
        ),
        (
            device,
            {
                "resourceType": "Device",
                "deviceName": [{"name": "napari-leukocls", "type": "model-name"}],
                "version": [{"value": clean(str(result.run.get("version", ""))) or "unknown"}],
                "note": [{"text": method(result)}, {"text": NOTICE}],
            },
        ),
    ]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "identifier": {"system": OWN, "value": name},
        "timestamp": issued_at().isoformat(),
        "entry": [{"fullUrl": url, "resource": resource} for url, resource in resources],
    }


def _report(
    result: SlideResult, results: list[Coded], urls: list[str], specimen: str, name: str
) -> dict[str, Any]:
    limits = clean(str(result.counts.attrs.get("limits", "")))
    state = " ".join(state_lines(result))
    rows = "".join(
        f"<tr><td>{html.escape(one.display)}</td><td>{html.escape(_shown(one))}</td></tr>" for one in results
    )
    narrative = (
        f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{NOTICE}</p><p>{html.escape(_slide(result))}</p>'
        f"<p>{html.escape(state)}</p><table>{rows}</table><p>{html.escape(limits)}</p></div>"
    )
    signature, patient = result.signature, clean(sample_of(result).patient)
    who = {"resultsInterpreter": [{"display": clean(signature.signed_by)}]} if signature.is_signed else {}
    return {
        **who,
        **({"subject": {"identifier": {"value": patient}}} if patient else {}),
        "conclusion": state,
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": OWN, "value": name}],
        "text": {"status": "generated", "div": narrative},
        "status": status_of(result),
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
                        "code": "HM",
                        "display": "Hematology",
                    }
                ]
            }
        ],
        "code": _code(*PANEL),
        "issued": released_at(result).isoformat(),
        "specimen": [{"reference": specimen}],
        "result": [{"reference": url} for url in urls],
    }


def _observation(result: SlideResult, one: Coded, specimen: str, device: str) -> dict[str, Any]:
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "status": status_of(result),
        "category": [_CATEGORY],
        "code": _code(one.code, clean(one.display), one.loinc),
        **_value(one),
        "specimen": {"reference": specimen},
        "device": {"reference": device},
        "method": {"text": method(result)},
        "note": [*([{"text": clean(one.text)}] if one.text else []), {"text": NOTICE}],
    }
    if one.interpretation:
        meaning = {"code": one.interpretation, "display": _MEANINGS[one.interpretation]}
        observation["interpretation"] = [{"coding": [{"system": _INTERPRETATION, **meaning}]}]
    parts = [
        ("count", "Cells counted", one.count, "{cells}"),
        ("ci95-low", "Lower 95 % confidence limit", one.low, one.unit),
        ("ci95-high", "Upper 95 % confidence limit", one.high, one.unit),
    ]
    components = [
        {"code": _code(code, display), "valueQuantity": _quantity(value, unit)}
        for code, display, value, unit in parts
        if value is not None
    ]
    if one.unit != "{cells}" and components:
        observation["component"] = components
    return observation


def _value(one: Coded) -> dict[str, Any]:
    if math.isfinite(one.value):
        return {"valueQuantity": _quantity(one.value, one.unit)}
    return {"valueString": clean(one.text) or "not measured"}


def _shown(one: Coded) -> str:
    return clean(one.text) if one.text else f"{one.value:g} {one.unit}"


def _code(code: str, display: str, loinc: str = "") -> dict[str, Any]:
    known = [{"system": LOINC, "code": loinc}] if loinc else []
    return {"coding": [*known, {"system": OWN, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str) -> dict[str, Any]:
    # UCUM writes a number without a unit as 1.
    return {"value": float(f"{value:.6g}"), "unit": unit or "1", "system": UCUM, "code": unit or "1"}


def _slide(result: SlideResult) -> str:
    return clean(result.slide_id) or "slide"


def _url(name: str, what: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMES, f'{name} {what}')}"
