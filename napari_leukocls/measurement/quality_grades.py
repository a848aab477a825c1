"""Quality of a field or a slide in words: green, amber or red, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

from napari_leukocls.measurement.cells import add_review
from napari_leukocls.measurement.quality import FieldQuality
from napari_leukocls.measurement.stain_reference import StainReference
from napari_leukocls.types import Finding, FindingState

Grade = Literal["green", "amber", "red"]
GRADES: tuple[Grade, ...] = ("green", "amber", "red")
#: Where ``run.json`` holds it.
KEY = "quality"
#: Why cells need review.
OUT_OF_FOCUS, STAIN_TOO_PALE = "out of focus", "nuclei too pale"
NO_SMEAR = "not the colour of a stained nucleus"
EXCHANGED = "red and blue may be exchanged"
NO_GROUND = "the picture does not look like a smear in bright field"
#: A smaller field than this, square micrometres, says nothing of how densely the cells lie.
LEAST_AREA_UM2 = 1500.0
#: A field whose pixels are coarser than this share of an edge's width cannot show a sharper edge.
PIXELS_AN_EDGE = 3.0
_START = "quality: "
_GROUND = "bright_ground"
_NO_SMEAR_TEXT = "This does not look like a blood smear in bright field"


@dataclass(frozen=True)
class Limits:
    """Where a figure is no longer good (amber), and where the count is in doubt (red).

    Attributes
    ----------
    amber, red : float
        The figure is worse from here on; ``red`` is infinite where there is no such limit.
    worse_is_less : bool
        Whether smaller figures are worse.
    """

    amber: float
    red: float
    worse_is_less: bool = False

    def grade(self, value: float) -> Grade:
        """Grade a figure.

        Parameters
        ----------
        value : float

        Returns
        -------
        {"green", "amber", "red"}
        """
        if self.worse_is_less:
            return "red" if value < self.red else "amber" if value < self.amber else "green"
        return "red" if value > self.red else "amber" if value > self.amber else "green"


#: Limits of the figures. How they were found is in docs/quality.md.
GROUND = Limits(78.0, 71.0, worse_is_less=True)
FOCUS = Limits(0.75, 1.05)
NUCLEI = Limits(0.05, 0.0, worse_is_less=True)
#: Density of nuclei in blue light as a share of that in green light: the stain takes up little blue.
NUCLEAR_COLOUR = Limits(0.8, 1.2)
#: Density of nuclei in blue light less that in red light, as a share of that in green light (docs/quality.md).
NUCLEAR_BLUE = Limits(0.05, 0.12)
#: Where no nucleus is in view: the same of red cells, red less blue.
RED_CELL_RED = Limits(0.12, math.inf)
#: Density of red cells in red and blue light, as a share of that in green light.
RED_CELL_COLOUR = Limits(0.95, 1.1)
#: ... if they are at least so dense in green light.
LEAST_DENSITY = 0.08
FEW_RED_CELLS = Limits(10.0, 3.0, worse_is_less=True)
MANY_RED_CELLS = Limits(72.0, 85.0)
NOT_OUTLINED = Limits(15.0, 40.0)
IN_HEAPS = Limits(10.0, 40.0)
GRAINS = Limits(10.0, 30.0)
DRYING = Limits(35.0, math.inf)
#: Of the stain, in robust standard deviations of the reference slides.
FROM_REFERENCE = Limits(3.0, 6.0)


@dataclass(frozen=True)
class Check:
    """One figure, its grade, and what to do.

    Attributes
    ----------
    name : str
        As in ``findings.csv``, with ``quality_`` before it.
    value : float
        nan where it could not be measured.
    unit : str
        UCUM.
    grade : {"green", "amber", "red"}
    limits : str
        The limits in words.
    text : str
        What was measured and, unless green, what to do.
    """

    name: str
    value: float
    unit: str
    grade: Grade
    limits: str
    text: str

    def finding(self) -> Finding:
        """Return it as a row of ``findings.csv``: red is certain, amber is possible."""
        states: dict[Grade, FindingState] = {"green": "absent", "amber": "possible", "red": "certain"}
        nan = math.nan
        return Finding(
            f"quality_{self.name}",
            self.value,
            nan,
            nan,
            self.unit,
            states[self.grade],
            self.limits,
            self.text,
        )


@dataclass(frozen=True)
class Quality:
    """The quality of a field, or of all fields of a slide.

    Attributes
    ----------
    grade : {"green", "amber", "red"}
        The worst of the checks.
    checks : tuple of Check
    measured : tuple of FieldQuality
    """

    grade: Grade
    checks: tuple[Check, ...]
    measured: tuple[FieldQuality, ...]

    @property
    def is_no_smear(self) -> bool:
        """Whether the picture does not look like a smear in bright field, so that no count of it holds."""
        return any(check.name == _GROUND and check.grade == "red" for check in self.checks)

    def warnings(self) -> list[str]:
        """Return a line for each check that is not green."""
        return [
            f"{_START}{check.grade}: {check.text}"
            for check in sorted(self.checks, key=lambda check: -GRADES.index(check.grade))
            if check.grade != "green"
        ]

    def findings(self) -> list[Finding]:
        """Return the rows of ``findings.csv``: the grade of all, then each check."""
        worst: dict[Grade, FindingState] = {"green": "absent", "amber": "possible", "red": "certain"}
        nan = math.nan
        reasons = "; ".join(
            check.name.replace("_", " ") for check in self.checks if check.grade == self.grade
        )
        text = "Nothing speaks against this count." if self.grade == "green" else f"{self.grade}: {reasons}."
        overall = Finding(
            "quality_grade", nan, nan, nan, "", worst[self.grade], "the worst of the checks", text
        )
        return [overall, *(check.finding() for check in self.checks)]

    def record(self) -> dict[str, Any]:
        """Return what ``run.json`` holds of it."""
        return {
            KEY: {
                "grade": self.grade,
                "checks": {check.name: check.grade for check in self.checks},
                "measured": [one.record() for one in self.measured],
            }
        }


def is_quality_warning(warning: str) -> bool:
    """Tell whether a warning is one of these.

    Parameters
    ----------
    warning : str

    Returns
    -------
    bool
    """
    return warning.startswith(_START)


def says_no_smear(warning: str) -> bool:
    """Tell whether a warning says that a picture is no smear in bright field.

    Parameters
    ----------
    warning : str

    Returns
    -------
    bool
    """
    return is_quality_warning(warning) and _NO_SMEAR_TEXT in warning


def read_measured(run: Mapping[str, Any]) -> list[FieldQuality]:
    """Read the figures of a result.

    Parameters
    ----------
    run : mapping
        Its ``run.json``.

    Returns
    -------
    list of FieldQuality
        Empty for results of versions that measured none.
    """
    return [FieldQuality.read(one) for one in (run.get(KEY) or {}).get("measured", [])]


def grade_quality(
    measured: Sequence[FieldQuality], um_per_px: float, reference: StainReference | None = None
) -> Quality:
    """Grade the quality of a field, or of all fields of a slide by their medians.

    Parameters
    ----------
    measured : sequence of FieldQuality
        Of each field.
    um_per_px : float
        Micrometres per pixel: coarse pixels widen every edge.
    reference : StainReference, optional
        Of the laboratory's own slides.

    Returns
    -------
    Quality
    """
    if not measured:
        return Quality("green", (), ())
    middle = middle_of(measured)
    order = _order_of_colours(middle)
    checks = [
        _ground(middle, measured),
        _focus(middle, um_per_px, measured),
        _nuclei(middle, order),
        *_nuclear_colour(middle),
        *order,
        *_red_cell_colour(middle),
        *_density_of_cells(middle, sum(one.area_um2 for one in measured)),
        _percent(middle.not_outlined, NOT_OUTLINED, "not_outlined", _NOT_OUTLINED_TEXT),
        _percent(middle.heaps, IN_HEAPS, "heaps", _HEAPS_TEXT),
        _grains(middle),
        _percent(middle.drying, DRYING, "drying_artefacts", _DRYING_TEXT),
        *_against(middle, reference),
    ]
    worst = max((check.grade for check in checks), key=GRADES.index)
    return Quality(worst, tuple(checks), tuple(measured))


def review_quality(cells: pd.DataFrame, quality: Quality) -> None:
    """Send the nucleated cells of a field to review where its focus or its stain is red, all where it is no smear.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``; ``needs_review`` and ``review_reason`` are changed in place.
    quality : Quality
        Of the field that they lie in.
    """
    red = {check.name for check in quality.checks if check.grade == "red"}
    reasons = (
        ("focus", OUT_OF_FOCUS),
        ("nuclear_stain", STAIN_TOO_PALE),
        ("nuclear_colour", NO_SMEAR),
        ("order_of_colours", EXCHANGED),
    )
    why = [text for name, text in reasons if name in red]
    if why:
        rows = ~cells["class"].isin(["red_cell", "platelet"]).to_numpy()
        add_review(cells, rows, "; ".join(why))
    if quality.is_no_smear:
        add_review(cells, np.ones(len(cells), bool), NO_GROUND)


def middle_of(measured: Sequence[FieldQuality]) -> FieldQuality:
    """Take the median of each figure over the fields in which it was measured.

    Parameters
    ----------
    measured : sequence of FieldQuality

    Returns
    -------
    FieldQuality
    """
    values = {}
    for one in fields(FieldQuality):
        known = [v for v in (float(getattr(field, one.name)) for field in measured) if math.isfinite(v)]
        values[one.name] = float(np.median(known)) if known else math.nan
    count = values.pop("red_cells")
    return FieldQuality(**values, red_cells=0 if math.isnan(count) else round(count))


def _ground(middle: FieldQuality, measured: Sequence[FieldQuality]) -> Check:
    """Whether the glass is bright, and the cells are darker than it."""
    value = 100 * middle.bright_ground
    words = f"less than {GROUND.amber:.0f} % (amber), {GROUND.red:.0f} % (red) of what is no cell is as bright as glass"
    bad = sum(bool(one.inverted) or GROUND.grade(100 * one.bright_ground) == "red" for one in measured)
    if 2 * bad >= len(measured):
        why = (
            "the picture is inverted: its cells are brighter than the glass"
            if middle.inverted
            else f"only {value:.0f} % of what is no cell is as bright as glass"
        )
        text = f"{why}. {_NO_SMEAR_TEXT}, and nothing that is counted in it holds."
        return Check(_GROUND, value, "%", "red", words, text)
    if math.isnan(value):
        text = "the glass cannot be measured: cells cover all of the picture."
        return Check(_GROUND, value, "%", "green", words, text)
    text = f"{value:.0f} % of what is no cell is as bright as glass"
    if bad:
        are = "does" if bad == 1 else "do"
        text += f", and {bad} of {len(measured)} fields {are} not look like a smear in bright field: leave them out."
        return Check(_GROUND, value, "%", "amber", words, text)
    grade = GROUND.grade(value)
    text += (
        "." if grade == "green" else ": check that this is a stained smear in bright field, and its light."
    )
    return Check(_GROUND, value, "%", grade, words, text)


def _focus(middle: FieldQuality, um_per_px: float, measured: Sequence[FieldQuality]) -> Check:
    value = middle.focus_um
    coarse = PIXELS_AN_EDGE * um_per_px
    limits = Limits(max(FOCUS.amber, coarse), max(FOCUS.red, coarse + FOCUS.red - FOCUS.amber))
    words = f"edges wider than {limits.amber:.2g} um (amber), {limits.red:.3g} um (red)"
    if math.isnan(value):
        text = "the focus cannot be measured: there are too few red cells beside empty glass."
        return Check("focus", value, "um", "green", words, text)
    blurred = sum(limits.grade(one.focus_um) == "red" for one in measured)
    grade = limits.grade(value)
    if grade == "green" and blurred:
        grade = "amber"
    text = f"edges of red cells are {value:.2f} um wide"
    if len(measured) > 1 and blurred:
        text += f", and {blurred} of {len(measured)} fields {'is' if blurred == 1 else 'are'} out of focus"
    todo = {
        "green": ".",
        "amber": ": slightly out of focus; focus again, and clean the lens and the slide of old oil.",
        "red": ": out of focus, and classes are not reliable; focus and take the picture again.",
    }
    return Check("focus", value, "um", grade, words, text + todo[grade])


def _nuclei(middle: FieldQuality, order: Sequence[Check]) -> Check:
    value = middle.nuclear_density_r - (0.0 if math.isnan(middle.red_density_r) else middle.red_density_r)
    words = f"nuclei darker than red cells by less than {NUCLEI.amber:.2f} (amber), {NUCLEI.red:.2f} (red)"
    if math.isnan(value):
        text = "the stain of nuclei cannot be measured: no leukocyte is in view."
        return Check("nuclear_stain", value, "", "green", words, text)
    grade = NUCLEI.grade(value)
    text = f"nuclei are darker than red cells by {value:.2f} (optical density, red light)"
    if value < 0:
        text = f"nuclei are paler than red cells by {-value:.2f} (optical density, red light)"
    if grade == "green":
        text += "."
    elif any(check.grade == "red" for check in order):
        text += ", as where red and blue are exchanged."
    else:
        text += ": the stain is too pale; stain longer, or check the buffer and the age of the stain."
    return Check("nuclear_stain", value, "", grade, words, text)


def _nuclear_colour(middle: FieldQuality) -> list[Check]:
    """Whether nuclei are violet. Those of a grey image are not, nor what is no nucleus."""
    if not middle.nuclear_density_g > 0:
        return []
    value = middle.nuclear_density_b / middle.nuclear_density_g
    grade = NUCLEAR_COLOUR.grade(value)
    words = (
        f"nuclei as dark in blue light as {NUCLEAR_COLOUR.amber:.1f} (amber), {NUCLEAR_COLOUR.red:.1f} (red) "
        "of green light"
    )
    text = f"nuclei are {value:.2f} times as dark in blue light as in green light"
    todo = {
        "green": ".",
        "amber": ": they are not violet, as in a grey image; classes are less certain.",
        "red": ": they are not violet; check that this is a stained blood smear, and its colours.",
    }
    return [Check("nuclear_colour", value, "", grade, words, text + todo[grade])]


def _order_of_colours(middle: FieldQuality) -> list[Check]:
    """Whether red and blue are exchanged: nuclei take up more red than blue light, red cells more blue than red."""
    if middle.nuclear_density_g > 0:
        what, limits = "nuclei", NUCLEAR_BLUE
        value = (middle.nuclear_density_b - middle.nuclear_density_r) / middle.nuclear_density_g
        more, less = "blue", "red"
    elif middle.red_density_g >= LEAST_DENSITY:
        what, limits = "red cells", RED_CELL_RED
        value = (middle.red_density_r - middle.red_density_b) / middle.red_density_g
        more, less = "red", "blue"
    else:
        return []
    grade = limits.grade(value)
    words = f"{what} darker in {more} than in {less} light by more than {limits.amber:.2f} (amber)"
    if math.isfinite(limits.red):
        words += f", {limits.red:.2f} (red)"
    words += " of green light"
    text = f"{what} are {'darker' if value > 0 else 'paler'} in {more} than in {less} light"
    if grade != "green":
        text += ": red and blue may be exchanged; save the picture again with its colours in the right order."
    else:
        text += "."
    return [Check("order_of_colours", value, "", grade, words, text)]


def _red_cell_colour(middle: FieldQuality) -> list[Check]:
    """Whether red cells take up green light most."""
    if not middle.red_density_g >= LEAST_DENSITY:
        return []
    value = (middle.red_density_r + middle.red_density_b) / 2 / middle.red_density_g
    grade = RED_CELL_COLOUR.grade(value)
    words = (
        f"red cells as dark in red and blue light as {RED_CELL_COLOUR.amber:.2f} (amber), "
        f"{RED_CELL_COLOUR.red:.1f} (red) of green light"
    )
    text = f"red cells are {value:.2f} times as dark in red and blue light as in green light"
    todo = {
        "green": ".",
        "amber": ": they are not red, as in a grey image; check that this is a stained blood smear.",
        "red": ": they are not red; check that this is a stained blood smear, and its colours.",
    }
    return [Check("red_cell_colour", value, "", grade, words, text + todo[grade])]


def _density_of_cells(middle: FieldQuality, area_um2: float) -> list[Check]:
    """Whether the field lies where cells are side by side."""
    value = 100 * middle.red_coverage
    if math.isnan(value) or area_um2 < LEAST_AREA_UM2:
        return []
    few, many = FEW_RED_CELLS.grade(value), MANY_RED_CELLS.grade(value)
    grade = max(few, many, key=GRADES.index)
    text = f"red cells cover {value:.0f} % of the field"
    if few != "green":
        text += ": few; take fields further from the thin end of the smear, unless the patient has so few red cells."
    elif many != "green":
        text += ": too many, and they lie on each other; take fields nearer to the thin end of the smear."
    else:
        text += "."
    words = (
        f"below {FEW_RED_CELLS.amber:.0f} % or above {MANY_RED_CELLS.amber:.0f} % (amber), "
        f"below {FEW_RED_CELLS.red:.0f} % or above {MANY_RED_CELLS.red:.0f} % (red)"
    )
    return [Check("red_cell_coverage", value, "%", grade, words, text)]


_NOT_OUTLINED_TEXT = (
    "{value:.0f} % of the stained area has no outline",
    ": cells are missing from the count of red cells; take fields in which the cells lie side by side.",
)
_HEAPS_TEXT = (
    "{value:.0f} % of the area lies in heaps too thick to count",
    ": take fields nearer to the thin end of the smear.",
)
_DRYING_TEXT = (
    "{value:.0f} % of the red cells have glassy spots",
    ": a drying artefact; do not grade red-cell shapes, dry smears quickly and renew the methanol.",
)


def _percent(share: float, limits: Limits, name: str, texts: tuple[str, str]) -> Check:
    value = 100 * share
    words = f"above {limits.amber:.0f} % (amber)"
    if math.isfinite(limits.red):
        words = f"above {limits.amber:.0f} % (amber), {limits.red:.0f} % (red)"
    grade = limits.grade(value)
    if math.isnan(value):
        return Check(name, value, "%", "green", words, "not measured: too few red cells are in view.")
    text = texts[0].format(value=value)
    return Check(name, value, "%", grade, words, text + ("." if grade == "green" else texts[1]))


def _grains(middle: FieldQuality) -> Check:
    value = middle.grains
    words = f"more than {GRAINS.amber:.0f} (amber), {GRAINS.red:.0f} (red) in 1000 um2"
    if math.isnan(value):
        return Check(
            "precipitate", value, "{grains}", "green", words, "not measured: no leukocyte is in view."
        )
    grade = GRAINS.grade(value)
    text = f"{value:.1f} dark grains in 1000 square micrometres beside the cells"
    text += (
        "."
        if grade == "green"
        else ": precipitate or dirt; filter the stain, rinse longer. Platelets may be counted too high."
    )
    return Check("precipitate", value, "{grains}", grade, words, text)


def _against(middle: FieldQuality, reference: StainReference | None) -> list[Check]:
    """Density and hue of the stain against the laboratory's own slides."""
    if reference is None:
        return []
    words = (
        f"further than {FROM_REFERENCE.amber:.0f} (amber), {FROM_REFERENCE.red:.0f} (red) standard deviations from "
        f"the {reference.n_slides} reference slides"
    )
    checks = []
    for name, what, value in reference.distances(middle):
        if math.isnan(value):
            continue
        grade = FROM_REFERENCE.grade(abs(value))
        side = "above" if value > 0 else "below"
        text = f"{what} is {abs(value):.1f} standard deviations {side} the reference slides"
        text += (
            "."
            if grade == "green"
            else ": check the stain, its buffer and the lamp, or make a new reference."
        )
        checks.append(Check(name, value, "", grade, words, text))
    return checks
