"""The report of a slide as PDF, printed by Qt: with or without a window."""

from __future__ import annotations

from pathlib import Path

from napari_leukocls.measurement.judgement import judge
from napari_leukocls.results.overlay import draw_overlay
from napari_leukocls.results.report import render_joint_report, render_report
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult, SlideResult
from napari_leukocls.widgets.common.printing import print_html

#: Margin of the page, mm: what is printed fits A4 and Letter.
MARGIN_MM = 10.0


def write(result: SlideResult, path: Path) -> None:
    """Write ``report.pdf``.

    Parameters
    ----------
    result : SlideResult
    path : Path
        The page ``report.html`` beside it is printed; if there is none, it is made anew.
    """
    page = path.with_name("report.html")
    html = page.read_text(encoding="utf-8") if page.is_file() else report_html(result)
    print_html(html, path, f"{result.slide_id}: differential count", margin_mm=MARGIN_MM)


def report_html(result: SlideResult) -> str:
    """Render the report of any slide.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
        HTML.
    """
    scheme = default_scheme()
    if isinstance(result, FieldResult):
        return render_report(judge(result, scheme=scheme), scheme, draw_overlay(result, scheme))
    return render_joint_report(judge(result, scheme=scheme), scheme, [])


__all__ = ["report_html", "write"]
