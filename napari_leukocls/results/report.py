"""The report of a slide: one HTML file that holds its pictures and needs nothing else; its first page says it all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from napari_leukocls.io.html import render
from napari_leukocls.measurement.absolute import counted_leukocytes
from napari_leukocls.measurement.differential import per_100_limits
from napari_leukocls.measurement.findings import limits_text, shown_state
from napari_leukocls.measurement.fine import PART_OF, left_shift, of_differential
from napari_leukocls.measurement.flags import CERTAIN, FLAG, NOT_EXCLUDED, NOT_JUDGED, PERHAPS, Flag
from napari_leukocls.measurement.judgement import Judgement, cells_to_review
from napari_leukocls.measurement.quality_grades import is_quality_warning
from napari_leukocls.measurement.red_cell_findings import shapes_to_review
from napari_leukocls.measurement.red_cell_grades import load_grades
from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.results.pictures import (
    CellPicture,
    choose_flagged,
    choose_typical,
    embedded,
    first_page_cells,
    gallery,
    limits_bar,
    reduced,
)
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult, Finding, Scale, Signature, SlideResult

if TYPE_CHECKING:
    import pandas as pd

#: Warnings on the first page; the others follow with the details.
MAX_WARNINGS = 3
#: Lines of what is abnormal, and of what is uncertain, on the first page.
MAX_LINES = 7
#: Side of the cells, pixels, on a page with room and on a full one; and the lines that fill it.
_PICTURES, _MANY_LINES = (64, 46), 18
#: Part of a warning that the findings of platelets repeat.
_CLUMPS = "of platelets: their count is too low"
#: Width of the bars, pixels, beside none, one or two further columns.
_BAR_WIDTHS = (190, 120, 75)
_QUALITY, _GRADE, _RED_CELL = "quality_", "quality_grade", "red_cell_"
#: Rows of one part of the first page; the others stand with the details.
_MAX_ROWS = 8
#: Findings with a rule that are shown among the figures, and not among what is abnormal.
_ONLY_FIGURES = (_QUALITY, "leukocyte_", "platelet_estimate", "red_cell_heaps")
#: Parts of the first page, by the beginning of the names of their findings.
_PARTS = (
    ("Leukocytes", ("wbc_", "leukocyte_")),
    ("Red cells", ("red_cell_",)),
    ("Platelets", ("platelet_",)),
    ("Quality", ("quality_",)),
)


def render_report(
    judged: Judgement[FieldResult],
    scheme: Scheme,
    overlay: Image.Image,
    heatmaps: dict[str, Any] | None = None,
) -> str:
    """Render the report of a field or of a whole slide.

    Parameters
    ----------
    judged : Judgement
        As `napari_leukocls.measurement.judgement.judge` gives it.
    scheme : Scheme
    overlay : PIL.Image.Image
        As `napari_leukocls.results.overlay.draw_overlay` gives it.
    heatmaps : dict, optional
        As `napari_leukocls.explanation.report_heatmaps` gives it.

    Returns
    -------
    str
        The page ``report.html``.
    """
    result = judged.result
    cells = first_page_cells(result, scheme, flagged_classes(judged))
    return render(
        "report",
        {},
        **_of_the_count(judged, scheme, cells),
        fields=[],
        picture=embedded(reduced(overlay)),
        crops=gallery(result, scheme),
        heatmaps=_heatmaps(heatmaps, scheme),
        scale=_scale_text(result),
    )


def render_joint_report(
    judged: Judgement[Any],
    scheme: Scheme,
    fields: Sequence[Mapping[str, Any]],
    cells: Sequence[CellPicture] = (),
) -> str:
    """Render the report of a slide of several fields: the joint count, and links to the fields' reports.

    Parameters
    ----------
    judged : Judgement
        Of all fields together.
    scheme : Scheme
    fields : sequence of mapping
        ``name``, ``link``, ``n_wbc``, ``n_review``, ``n_rbc`` and ``um_per_px`` of each.
    cells : sequence of CellPicture
        `napari_leukocls.results.pictures.first_page_cells` of each field.

    Returns
    -------
    str
        The page ``report.html``.
    """
    return render(
        "report", {}, **_of_the_count(judged, scheme, cells), fields=fields, picture="", heatmaps=None
    )


def flagged_classes(judged: Judgement[Any]) -> tuple[str, ...]:
    """The classes that a rule has flagged, for certain or perhaps, and shapes of red cells that are found or wait.

    Parameters
    ----------
    judged : Judgement

    Returns
    -------
    tuple of str
        A class that most cells have, such as neutrophils in a range, is not among them.
    """
    names = [
        flag.of_class
        for flag in judged.flags
        if flag.of_class and flag.weight <= PERHAPS and not flag.finding.name.startswith(f"{FLAG}range_")
    ]
    waiting = shapes_to_review(judged.result)
    found = {one.name for one in judged.result.findings if one.state != "absent"}
    shapes = default_scheme().shapes()
    names += [
        grade.of
        for grade in load_grades().grades
        if grade.of in shapes and (grade.name in waiting or grade.name in found)
    ]
    return tuple(dict.fromkeys(names))


def _of_the_count(judged: Judgement[Any], scheme: Scheme, cells: Sequence[CellPicture]) -> dict[str, Any]:
    """What the reports of a field and of several have in common."""
    result: SlideResult = judged.result
    counts = result.counts
    above = of_differential(counts)
    shift = left_shift(counts)
    flagged = flagged_classes(judged)
    if result.signature.is_signed:
        # Cells that wait come after the goal of a signed count.
        cells = [one for one in cells if not one.waiting]
    warnings = list(dict.fromkeys(result.warnings))
    # What is said of the quality has a place of its own on the page.
    others = [one for one in warnings if not is_quality_warning(one) and _CLUMPS not in one]
    boxes = _boxes(judged)
    lines = len(boxes["abnormal"]) + len(boxes["uncertain"]) + int(above.sum())
    absolute = "absolute" in counts
    usual = any(flag.finding.name.startswith(f"{FLAG}range_percent") for flag in judged.flags)
    return {
        "slide_id": result.slide_id,
        "source": result.source,
        "sample": sample_of(result),
        "signature": result.signature,
        "state": _state(result.signature),
        "warnings": warnings,
        "first_warnings": others[:MAX_WARNINGS],
        **boxes,
        "more_uncertain": boxes["more_uncertain"] + len(others[MAX_WARNINGS:]),
        "picture_size": _PICTURES[lines > _MANY_LINES],
        "counted": _count_rows(counts[above], scheme, judged),
        "beside": _count_rows(counts[~above], scheme, judged),
        "absolute": absolute,
        "usual": usual,
        # What is left of the line, so that it fits the paper.
        "bar_width": _BAR_WIDTHS[absolute + usual],
        "left_shift": "" if shift is None else shift.text,
        "n_wbc": counted_leukocytes(counts),
        "n_review": cells_to_review(result),
        "limits": counts.attrs.get("limits", ""),
        "parts": _parts(judged, scheme),
        "typical": choose_typical(cells, scheme),
        "flagged_cells": choose_flagged(cells, flagged, scheme),
        "findings": [_finding_row(one) for one in result.findings],
        "run": _flat(result.run),
        "number": _number,
    }


# the first page


def _boxes(judged: Judgement[Any]) -> dict[str, Any]:
    """What is abnormal, what is uncertain, and what this count cannot say."""
    # Of the quality, the worst grade stands for all; its part of the page has each figure.
    others = [one for one in judged.others if one.name == _GRADE or not one.name.startswith(_ONLY_FIGURES)]
    flags = [*judged.flags, *(_as_flag(one) for one in (*others, *judged.delta))]

    # That few cells were counted is no finding about the blood, but makes all others uncertain.
    doubts = [_line(flag) for flag in flags if flag.weight == CERTAIN and flag.of_the_count]
    reasons: dict[str, list[str]] = {}
    for flag in flags:
        if flag.weight == NOT_JUDGED:
            reasons.setdefault(flag.finding.text.split(": ")[-1].rstrip("."), []).append(flag.display.lower())
    abnormal = [_line(flag) for flag in flags if flag.weight == CERTAIN and not flag.of_the_count]
    uncertain = [
        *doubts,
        *_perhaps_shapes(flags),
        *(_line(flag) for flag in flags if flag.weight == PERHAPS and not _is_shape(flag)),
    ]
    return {
        "abnormal": abnormal[:MAX_LINES],
        "more_abnormal": len(abnormal[MAX_LINES:]),
        "uncertain": uncertain[:MAX_LINES],
        "more_uncertain": len(uncertain[MAX_LINES:]),
        "not_excluded": [
            f"{flag.display} ({flag.finding.text.rstrip('.').split('; ')[-1]})"
            for flag in flags
            if flag.weight == NOT_EXCLUDED
        ],
        "not_judged": [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()],
    }


def _short(finding: Finding) -> str:
    """The first clause of a finding, with its figure; all of it stands with the details."""
    text = re.split(r"; |\. |\.$", finding.text)[0]
    has_figure = re.search(r"\d", text) or not math.isfinite(finding.value)
    return text if has_figure else f"{text}: {limits_text(finding)}"


def _is_shape(flag: Flag) -> bool:
    return flag.finding.name.startswith(_RED_CELL)


def _perhaps_shapes(flags: Sequence[Flag]) -> list[dict[str, str]]:
    """One line for all grades of red cells that are only possible: there may be a dozen."""
    names = [flag.finding.name for flag in flags if flag.weight == PERHAPS and _is_shape(flag)]
    words = ", ".join(name.removeprefix(_RED_CELL).replace("_", " ") for name in names)
    return [{"title": "Red cells", "text": f"perhaps {words}", "advice": ""}] if names else []


def _as_flag(finding: Finding) -> Flag:
    """A finding that brings its own rule, as a flag."""
    weight = {"certain": CERTAIN, "possible": PERHAPS}.get(finding.state, NOT_JUDGED + 1)
    if finding.state == "possible" and not math.isfinite(finding.value) and finding.name != _GRADE:
        weight = NOT_JUDGED
    title = "Quality" if finding.name == _GRADE else finding.text.split(":")[0]
    text = f"Quality: {finding.text}" if finding.name == _GRADE else _short(finding)
    shown = replace(finding, text=text)
    return Flag(shown, weight, title, of_the_count=finding.name.startswith(_QUALITY))


def _line(flag: Flag) -> dict[str, str]:
    """A flag in two parts: what it is, and its figure."""
    title, colon, rest = flag.finding.text.rstrip(".").partition(": ")
    if not colon:
        title, rest = "", title
    return {"title": title, "text": rest.replace(">=", "≥").replace("<=", "≤"), "advice": flag.advice}


def _state(signature: Signature) -> dict[str, str]:
    """The state in one large word, and the rest of it."""
    words = signature.words()
    title = re.match(r"\w+", words)
    word = title[0] if title else ""
    return {"title": word.upper(), "text": words[len(word) :].lstrip(" ,:;")}


def _parts(judged: Judgement[Any], scheme: Scheme) -> list[dict[str, Any]]:
    """Red cells, platelets and the rest: figures with their limits."""
    result: SlideResult = judged.result
    counts = dict(zip(result.counts["class"], result.counts["count"], strict=True))
    counted = {"Red cells": "red_cell", "Platelets": "platelet"}
    parts = []
    for title, starts in _PARTS:
        lines = [one for one in result.findings if one.name.startswith(starts)]
        # What was looked for and is not there stands with the details.
        lines = [one for one in lines if one.state != "absent" or one.name == _GRADE]
        urgent = sorted(lines, key=lambda one: _ORDER[shown_state(one)])[:_MAX_ROWS]
        rows = [{"text": _short(one), "state": shown_state(one)} for one in lines if one in urgent]
        if len(lines) > len(urgent):
            rows.append({"text": f"{len(lines) - len(urgent)} more with the details", "state": ""})
        if title in counted:
            n = int(counts.get(counted[title], 0))
            noun = scheme[counted[title]].display.lower()
            rows.insert(0, {"text": f"{n} {noun}{'' if n == 1 else 's'} in view", "state": ""})
        if rows:
            parts.append({"title": title, "rows": rows})
    return parts


#: Which rows are left out last.
_ORDER = {"certain": 0, "possible": 1, "": 2, "absent": 3}


def _count_rows(counts: pd.DataFrame, scheme: Scheme, judged: Judgement[Any]) -> list[dict[str, Any]]:
    usual = {
        flag.of_class: flag.finding.rule.split("usual ", 1)[1].split(" (")[0]
        for flag in judged.flags
        if flag.finding.name.startswith(f"{FLAG}range_percent") and flag.of_class
    }
    weights: dict[str, int] = {}
    for flag in judged.flags:
        if flag.of_class:
            weights[flag.of_class] = min(flag.weight, weights.get(flag.of_class, NOT_JUDGED))
    leukocytes = counted_leukocytes(judged.result.counts)
    return [
        {
            "display": scheme[row["class"]].display,
            "colour": scheme[row["class"]].colour,
            "count": int(row["count"]),
            "percent": float(row["percent"]),
            "low": float(row["ci95_low"]),
            "high": float(row["ci95_high"]),
            "per_100": float(row["per_100_wbc"]),
            "per_100_limits": _per_100(row, leukocytes),
            "absolute": _absolute(row),
            "usual": usual.get(row["class"], ""),
            "css": _row_css(weights.get(str(row["class"]), NOT_JUDGED), bool(row.get(PART_OF))),
            "known": math.isfinite(row["percent"]),
            "bar": limits_bar(row["percent"], row["ci95_low"], row["ci95_high"], scheme[row["class"]].colour),
            "part": bool(row.get(PART_OF)),
        }
        for row in counts.to_dict("records")
    ]


def _per_100(row: Mapping[Any, Any], leukocytes: int) -> str:
    """Limits of a number per 100 leukocytes."""
    if not leukocytes or not math.isfinite(float(row["per_100_wbc"])):
        return ""
    low, high = per_100_limits(float(row["count"]), leukocytes)
    return f"{low:.1f} – {high:.1f}"


def _row_css(weight: int, is_part: bool) -> str:
    """Classes of a row: how much its flag matters, and whether it is counted in another one."""
    words = [{CERTAIN: "certain-row", PERHAPS: "possible-row"}.get(weight, ""), "part" if is_part else ""]
    return " ".join(filter(None, words))


def _absolute(row: Mapping[Any, Any]) -> str:
    value = float(row.get("absolute", math.nan))
    if not math.isfinite(value):
        return ""
    return f"{value:.2f} ({float(row['absolute_low']):.2f} – {float(row['absolute_high']):.2f})"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


# the details


def _finding_row(finding: Finding) -> dict[str, str]:
    return {
        "text": finding.text,
        "rule": finding.rule,
        "state": shown_state(finding),
    }


def _heatmaps(heatmaps: dict[str, Any] | None, scheme: Scheme) -> dict[str, Any] | None:
    """Heatmaps of the report, with the pictures inside the page."""
    if heatmaps is None:
        return None
    cells = [
        {
            **cell,
            "picture": embedded(Image.fromarray(cell["picture"])),
            "display": scheme[cell["class"]].display if cell["class"] in scheme else cell["class"],
        }
        for cell in heatmaps["cells"]
    ]
    return {**heatmaps, "cells": cells}


def _of_what(scale: Scale) -> str:
    if scale.n_cells:
        return f"by {scale.n_cells} red cells, taken to be 7.5 µm across"
    return f"by the nuclei of leukocytes, uncertain by {100 * (2**scale.octaves - 1):.0f} %"


def _scale_text(result: FieldResult) -> str:
    scale = result.segmentation.scale
    sources = {
        "user": "given by the user",
        "metadata": "from the file",
        "red_cell_ruler": f"from {scale.n_cells} red cells, taken to be 7.5 µm across",
        "other_images": f"from {scale.n_images} images that were measured together, {_of_what(scale)}",
        "nuclei": f"read from the nuclei of leukocytes, uncertain by {100 * (2**scale.octaves - 1):.0f} %",
        "model": "the classifier's own; not measured",
        "unknown": "not known",
    }
    if not math.isfinite(scale.um_per_px):
        return "not known"
    unsure = "" if scale.sure else "; unsure, please check"
    return f"{scale.um_per_px:.4g} µm per pixel ({sources[scale.source]}{unsure})"


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of name and text, sorted by name at each level."""
    if isinstance(value, dict):
        return [
            row
            for key in sorted(value, key=str)
            for row in _flat(value[key], f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, (list, tuple)):
        return [(prefix, ", ".join(str(item) for item in value))]
    return [(prefix, "" if value is None else str(value))]
