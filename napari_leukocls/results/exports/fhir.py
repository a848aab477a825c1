"""FHIR R4B: a Bundle with a DiagnosticReport, its Observations, the specimen and the software."""

from __future__ import annotations

import html
import uuid
from pathlib import Path
from typing import Any

from fhir.resources.R4B.bundle import Bundle

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
    report_id,
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

#: Whoever takes it into a record knows from this that no laboratory has released it.
STATUS = "preliminary"
_NAMES = uuid.UUID("6f0d3a9c-3d53-5c57-9d2a-7e0f3e4a1b11")


def write(result: SlideResult, path: Path) -> None:
    """Write the bundle; it has been validated against FHIR's own definitions.

    The subject is left open: the slide's name is the specimen's identifier, and whose it is, is known to the
    laboratory system.

    Parameters
    ----------
    result : SlideResult
    path : Path
        Within a folder that is being filled.
    """
    bundle = Bundle.model_validate(_bundle(result))
    path.write_text(bundle.model_dump_json(indent=2) + "\n", encoding="utf-8", newline="\n")


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
            {"resourceType": "Specimen", "identifier": [{"system": OWN, "value": _slide(result)}]},
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
    rows = "".join(
        f"<tr><td>{html.escape(one.display)}</td><td>{one.value:g} {html.escape(one.unit)}</td></tr>"
        for one in results
    )
    narrative = (
        f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{NOTICE}</p><p>{html.escape(_slide(result))}</p>'
        f"<table>{rows}</table><p>{html.escape(limits)}</p></div>"
    )
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": OWN, "value": name}],
        "text": {"status": "generated", "div": narrative},
        "status": STATUS,
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
        "issued": issued_at().isoformat(),
        "specimen": [{"reference": specimen}],
        "result": [{"reference": url} for url in urls],
    }


def _observation(result: SlideResult, one: Coded, specimen: str, device: str) -> dict[str, Any]:
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "status": STATUS,
        "category": [_CATEGORY],
        "code": _code(one.code, one.display, one.loinc),
        "valueQuantity": _quantity(one.value, one.unit),
        "specimen": {"reference": specimen},
        "device": {"reference": device},
        "method": {"text": method(result)},
        "note": [{"text": NOTICE}],
    }
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
    if one.unit != "{cells}":
        observation["component"] = components
    return observation


def _code(code: str, display: str, loinc: str = "") -> dict[str, Any]:
    known = [{"system": LOINC, "code": loinc}] if loinc else []
    return {"coding": [*known, {"system": OWN, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _slide(result: SlideResult) -> str:
    return clean(result.slide_id) or "slide"


def _url(name: str, what: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMES, f'{name} {what}')}"
