"""Flags: what the rules of a laboratory say of a count.

A flag is *certain* only where the 95 % limits of its figure lie beyond the limit of the rule, and no class that the
cells under review may get changes that; *absent* where they lie on the other side; else *possible*, with the number of
cells to count, or to review, until it is decided.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from napari_leukocls.measurement.absolute import WhiteCells, class_count, counted_leukocytes
from napari_leukocls.measurement.differential import exact_limits, per_100_limits, settled
from napari_leukocls.measurement.findings import limits_text, short_number
from napari_leukocls.measurement.red_cell_findings import shapes_to_review
from napari_leukocls.measurement.rules import OF_A_CLASS, UNITS, ReferenceRange, Rule, RuleSet
from napari_leukocls.measurement.samples import SampleValues, sample_of
from napari_leukocls.scheme import Scheme, whole_class
from napari_leukocls.types import Finding, FindingState, SlideResult

#: Beginning of the names of the findings that rules and ranges make.
FLAG = "flag_"
#: More cells than this are never asked for.
MOST_MORE = 10_000
#: How much a flag matters, the most first.
CERTAIN, PERHAPS, NOT_EXCLUDED, NOT_JUDGED, ABSENT = range(5)
#: What is counted for findings that are shares of a count, by the beginning of their names.
_COUNTED = {"platelet_": "platelets", "leukocyte_": "cells"}


@dataclass(frozen=True)
class Flag:
    """What one rule says.

    Attributes
    ----------
    finding : Finding
        As ``findings.csv`` states it. Its value is nan if the rule could not be judged.
    weight : int
        `CERTAIN`; `PERHAPS`: the figure is beyond the rule's limit, or cells under review may bring it there;
        `NOT_EXCLUDED`: the figure is not, but its limits are; `NOT_JUDGED`; or `ABSENT`.
    display : str
        What the rule finds, for people.
    advice : str
        What to do; "" for nothing.
    of_class : str
        The class that it is about; "" for none.
    of_the_count : bool
        Whether it says something of the count, not of the blood.
    """

    finding: Finding
    weight: int
    display: str
    advice: str = ""
    of_class: str = ""
    of_the_count: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure that is compared with a limit.

    Attributes
    ----------
    value, low, high : float
        With 95 % limits.
    unit : str
        UCUM.
    least, most : float
        The figure if the cells that wait for review are of another class, or all of this one.
    waiting : int
        How many of them are of this class as far as the classifier knows.
    undecided : int
        How many wait altogether.
    at : callable or None
        Limits of the figure if its share stays and so many more cells are counted; None if that is not known.
    missing : str
        Why there is no figure; "" if there is one.
    doubt : str
        Why the figure is not sure; "" if it is.
    what : str
        The cells to count more of, plural; "" for leukocytes.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    least: float = math.nan
    most: float = math.nan
    waiting: int = 0
    undecided: int = 0
    at: Callable[[int], tuple[float, float]] | None = None
    missing: str = ""
    doubt: str = ""
    what: str = ""


@dataclass(frozen=True)
class _Slide:
    """What rules need of a slide."""

    counts: pd.DataFrame
    waiting: Mapping[str, int]
    known: frozenset[str]
    findings: Mapping[str, Finding]
    white: WhiteCells | None
    scheme: Scheme
    signed: bool
    sample: SampleValues
    shapes: Mapping[str, tuple[int, float]]
    memo: dict[str, Flag] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return counted_leukocytes(self.counts)

    def count(self, names: Iterable[str]) -> int:
        return class_count(self.counts, names, self.scheme)

    def wait(self, names: Iterable[str]) -> int:
        wanted = set(names)
        return sum(n for name, n in self.waiting.items() if self.scheme.coarsen(name, wanted) in wanted)

    def wait_in_differential(self) -> int:
        return sum(
            n
            for name, n in self.waiting.items()
            if name in self.scheme and self.scheme[name].counted_in_differential
        )

    def tells(self, name: str) -> bool:
        """Whether the count can have cells of a class: the classifier knows it, or a person has looked at all."""
        wanted = {name}
        return self.signed or any(self.scheme.coarsen(one, wanted) == name for one in self.known)


def flags(
    result: SlideResult,
    rules: RuleSet,
    scheme: Scheme,
    white: WhiteCells | None = None,
    findings: Iterable[Finding] = (),
) -> tuple[Flag, ...]:
    """Judge a count by the rules and the reference ranges.

    Parameters
    ----------
    result : SlideResult
    rules : RuleSet
    scheme : Scheme
    white : WhiteCells, optional
        Leukocytes per litre.
    findings : iterable of Finding
        What rules may refer to by name.

    Returns
    -------
    tuple of Flag
        Of the rules that are shown and hold for this person, in the order of the file; then of the ranges.
    """
    slide = _slide_of(result, scheme, white, findings)
    by_name = {rule.name: rule for rule in rules.rules}
    found = [
        _flag(rule, slide, by_name)
        for rule in rules.rules
        if rule.shown and rule.holds_for(slide.sample) is not False
    ]
    return (*found, *(_range_flag(one, slide) for one in chosen_ranges(rules, slide.sample)))


def _slide_of(
    result: SlideResult, scheme: Scheme, white: WhiteCells | None, findings: Iterable[Finding]
) -> _Slide:
    # Of a signed count, the cells that wait come after its goal.
    open_cells = ~settled(result.cells) & (not result.signature.is_signed)
    waiting = result.cells.loc[open_cells, "class"].astype(str).map(whole_class).value_counts()
    rows = set(result.counts["class"].astype(str).map(whole_class))
    return _Slide(
        result.counts,
        {str(name): int(n) for name, n in waiting.items()},
        frozenset({*rows, *waiting.index}),
        {one.name: one for one in findings},
        white,
        scheme,
        result.signature.is_signed,
        sample_of(result),
        shapes_to_review(result),
    )


def chosen_ranges(rules: RuleSet, sample: SampleValues) -> tuple[ReferenceRange, ...]:
    """Choose the reference ranges of a person.

    Parameters
    ----------
    rules : RuleSet
    sample : SampleValues

    Returns
    -------
    tuple of ReferenceRange
        Of several of one figure, the first that holds for certain.
    """
    chosen: dict[tuple[str, str, str], ReferenceRange] = {}
    for one in rules.ranges:
        if one.holds_for(sample):
            chosen.setdefault((one.figure, one.of_class, one.finding), one)
    return tuple(chosen.values())


# figures


def _figure(rule: Rule | ReferenceRange, slide: _Slide) -> Figure:
    """The figure that a rule or a range is about."""
    if rule.finding:
        return _of_finding(rule.finding, slide)
    if rule.figure == "leukocytes":
        n, waiting = slide.total, slide.wait_in_differential()
        return Figure(n, n, n, UNITS["leukocytes"], n, n + waiting, waiting, waiting)
    if rule.figure == "wbc":
        if slide.white is None:
            return Figure(missing="it needs the number of leukocytes per litre")
        white = slide.white
        return Figure(white.value, white.low, white.high, UNITS["wbc"], white.value, white.value)
    return _of_class(rule, slide)


def _of_finding(name: str, slide: _Slide) -> Figure:
    found = slide.findings.get(name)
    if found is None or not math.isfinite(found.value):
        return Figure(missing="it was not measured")
    waiting, share = slide.shapes.get(name, (0, 0.0))
    bounded = math.isfinite(found.low) and math.isfinite(found.high)
    low, high = (found.low, found.high) if bounded else (found.value, found.value)
    if waiting:
        most = min(100.0, found.value + share)
        return Figure(
            found.value, low, high, found.unit, found.value, most, waiting=waiting, undecided=waiting
        )
    if found.rule and found.state == "possible":
        # It is not sure that there is any: such as outlines that may be clumps.
        return Figure(
            found.value,
            low,
            high,
            found.unit,
            min(0.0, found.value),
            found.value,
            doubt=found.text.rstrip("."),
        )
    what = next((cells for start, cells in _COUNTED.items() if name.startswith(start)), "")
    at = share_at(found) if what and bounded and found.unit == "%" else None
    return Figure(found.value, low, high, found.unit, found.value, found.value, at=at, what=what)


def share_at(found: Finding) -> Callable[[int], tuple[float, float]] | None:
    """Limits of a share of cells after more of them were counted, if it stays.

    Parameters
    ----------
    found : Finding
        A share in %, with exact limits (Clopper-Pearson).

    Returns
    -------
    callable or None
        From the number of further cells to the lower and upper limit; None if the limits are not those of a count.
    """
    share = found.value / 100

    def limits(n: int) -> tuple[float, float]:
        ((low,), (high,)) = 100 * exact_limits(np.array([share * n]), n)
        return float(low), float(high)

    # Of how many cells it is: the more, the nearer are the limits.
    n, step = 0, MOST_MORE
    while step:
        if sum(np.abs(np.subtract(limits(n + step), found.value))) >= found.high - found.low - 1e-6:
            n += step
        step //= 2
    if not n or not np.allclose(limits(n), (found.low, found.high), atol=0.01):
        return None
    return lambda more: limits(n + more)


def _of_class(rule: Rule | ReferenceRange, slide: _Slide) -> Figure:
    names, unit = [rule.of_class], UNITS[rule.figure]
    if not slide.tells(rule.of_class):
        parent = slide.scheme[rule.of_class].parent
        finer = "; count the finer classes too" if parent and slide.tells(parent) else ""
        return Figure(missing=f"the classifier does not tell these cells apart{finer}")
    x, waiting = slide.count(names), slide.wait(names)
    if rule.figure == "count":
        return Figure(x, x, x, unit, x, x + waiting, waiting, waiting)
    of = getattr(rule, "of", ())
    n = slide.count(of) if of else slide.total
    undecided = slide.wait(of) if of else slide.wait_in_differential()
    if rule.figure == "absolute" and slide.white is None:
        return Figure(missing="it needs the number of leukocytes per litre")
    if not n:
        return Figure(missing="no leukocyte was counted")
    if rule.figure == "per_100":
        return _per_100(x, n, waiting, undecided)
    return _share(rule.figure, x, n, waiting, max(undecided - waiting, 0), slide.white)


def _share(figure: str, x: int, n: int, waiting: int, others: int, white: WhiteCells | None) -> Figure:
    """A percentage, or cells per litre, of a class that x of n cells have."""
    total, scale, spread = n, 100.0, (1.0, 1.0)
    at: Callable[[int], tuple[float, float]] | None
    if figure == "absolute" and white is not None:
        scale = white.value
        if white.source == "corrected":
            # The given number holds the erythroblasts too.
            total, scale = n + white.erythroblasts, white.given
        if white.source == "estimated" and white.value:
            spread = (white.low / white.value, white.high / white.value)

    def limits(count: float, of: float) -> tuple[float, float]:
        ((low,), (high,)) = exact_limits(np.array([min(count, of)]), of)
        return float(scale * low * spread[0]), float(scale * high * spread[1])

    def at_more(more: int) -> tuple[float, float]:
        return limits(x * (total + more) / total, total + more)

    at = None if figure == "absolute" and white is not None and white.source == "estimated" else at_more
    least, most = scale * x / (total + others), scale * (x + waiting) / (total + waiting)
    low, high = limits(x, total)
    return Figure(scale * x / total, low, high, UNITS[figure], least, most, waiting, waiting + others, at)


def _per_100(x: int, n: int, waiting: int, others: int) -> Figure:
    """Cells beside n leukocytes."""

    def at_more(more: int) -> tuple[float, float]:
        return per_100_limits(x * (n + more) / n, n + more)

    least, most = 100 * x / (n + others), 100 * (x + waiting) / n
    low, high = per_100_limits(x, n)
    return Figure(100 * x / n, low, high, UNITS["per_100"], least, most, waiting, waiting + others, at_more)


# judging


def _flag(rule: Rule, slide: _Slide, by_name: Mapping[str, Rule]) -> Flag:
    if rule.name not in slide.memo:
        if rule.holds_for(slide.sample) is None:
            slide.memo[rule.name] = _unjudged(rule, "the age or sex is not known")
        elif rule.sign:
            slide.memo[rule.name] = _judged(rule, _figure(rule, slide), slide)
        else:
            parts = [_flag(by_name[name], slide, by_name) for name in rule.any_of or rule.all_of]
            slide.memo[rule.name] = _joined(rule, parts)
    return slide.memo[rule.name]


def _unjudged(rule: Rule, why: str, words: str = "") -> Flag:
    text = f"{rule.display}: not judged: {why}."
    nothing = Finding(
        FLAG + rule.name, math.nan, math.nan, math.nan, "", "possible", words or rule.words(), text
    )
    return Flag(nothing, NOT_JUDGED, rule.display, rule.advice, rule.of_class)


def compare(figure: Figure, sign: str, limit: float) -> tuple[FindingState, bool]:
    """Compare a figure with a limit.

    Parameters
    ----------
    figure : Figure
    sign : {">=", ">", "<=", "<"}
    limit : float

    Returns
    -------
    state : {"certain", "possible", "absent"}
    beyond : bool
        Whether the figure itself is beyond the limit.
    """
    operation = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}[sign]

    def beyond(value: float) -> bool:
        return bool(operation(value, limit))

    worst = (figure.low, figure.least) if sign.startswith(">") else (figure.high, figure.most)
    best = (figure.high, figure.most) if sign.startswith(">") else (figure.low, figure.least)
    state: FindingState = (
        "certain" if all(map(beyond, worst)) else "possible" if any(map(beyond, best)) else "absent"
    )
    return state, beyond(figure.value)


def cells_to_decide(figure: Figure, sign: str, limit: float) -> int | None:
    """Cells to count until the limits of a figure lie on one side of a rule's limit, if the share stays.

    Parameters
    ----------
    figure : Figure
    sign : {">=", ">", "<=", "<"}
    limit : float

    Returns
    -------
    int or None
        0 if they do already; None if `MOST_MORE` do not decide it, or if more cells do not change the limits.
    """
    if figure.at is None:
        return None
    at = figure.at

    def decided(more: int) -> bool:
        low, high = at(more)
        return compare(Figure(figure.value, low, high, least=low, most=high), sign, limit)[0] != "possible"

    if decided(0):
        return 0
    enough = 1
    while not decided(enough):
        enough *= 2
        if enough > MOST_MORE:
            if not decided(MOST_MORE):
                return None
            enough = MOST_MORE
            break
    short = enough // 2
    while enough - short > 1:
        middle = (enough + short) // 2
        short, enough = (short, middle) if decided(middle) else (middle, enough)
    return enough


def _judged(rule: Rule, figure: Figure, slide: _Slide) -> Flag:
    if figure.missing:
        return _unjudged(rule, figure.missing)
    state, beyond = compare(figure, rule.sign, rule.limit)
    weight = {"certain": CERTAIN, "absent": ABSENT}.get(state)
    if weight is None:
        brought = compare(replace(figure, low=figure.value, high=figure.value), rule.sign, rule.limit)[0]
        weight = PERHAPS if beyond or brought == "possible" else NOT_EXCLUDED
    text = f"{rule.display}: {_figure_text(rule, figure, slide)}"
    if state == "possible":
        text += f"; {to_decide(figure, rule.sign, rule.limit)}"
    limits = (math.nan, math.nan) if figure.low == figure.high else (figure.low, figure.high)
    finding = Finding(FLAG + rule.name, figure.value, *limits, figure.unit, state, rule.words(), f"{text}.")
    return Flag(finding, weight, rule.display, rule.advice, rule.of_class, rule.about == "count")


def _figure_text(rule: Rule, figure: Figure, slide: _Slide) -> str:
    """The figure in words, with what a count of none cannot exclude."""
    number = _number_text(figure)
    if rule.figure == "count":
        noun = "cell" if figure.value == 1 else "cells"
        number = f"{figure.value:.0f} {noun}"
        if not figure.value and slide.total:
            share = 100 * exact_limits(np.array([0]), slide.total)[1][0]
            number = (
                f"none among {slide.total} leukocyte{'' if slide.total == 1 else 's'}; "
                f"up to {short_number(float(share))} % may be missed"
            )
    elif rule.figure == "leukocytes":
        number = f"{figure.value:.0f}"
    return f"{number}, limit {rule.sign} {short_number(rule.limit)}"


def _number_text(figure: Figure) -> str:
    """A figure with its limits, if it has any."""
    low, high = (math.nan, math.nan) if figure.low == figure.high else (figure.low, figure.high)
    return limits_text(Finding("x", figure.value, low, high, figure.unit, "certain", "", ""))


def to_decide(figure: Figure, sign: str, limit: float) -> str:
    """What to do until a flag is decided.

    Parameters
    ----------
    figure : Figure
        One that is neither certain nor absent.
    sign : {">=", ">", "<=", "<"}
    limit : float

    Returns
    -------
    str
        For example ``review 3 cells first, then count 83 more``.
    """
    steps = [figure.doubt] if figure.doubt else []
    alone = replace(figure, low=figure.value, high=figure.value)
    if figure.undecided and compare(alone, sign, limit)[0] == "possible":
        steps.append(f"review {figure.undecided} cell{'' if figure.undecided == 1 else 's'}")
    settled_only = replace(figure, least=figure.value, most=figure.value)
    if compare(settled_only, sign, limit)[0] == "possible":
        more = cells_to_decide(figure, sign, limit)
        if more:
            steps.append(f"count {more} more{f' {figure.what}' if figure.what else ''}")
        elif figure.at is not None:
            steps.append(f"more than {MOST_MORE} cells would be needed to decide")
        else:
            steps.append("its limits lie on both sides")
    return ", then ".join(steps)


def _joined(rule: Rule, parts: Sequence[Flag]) -> Flag:
    """One flag of several rules: any of them, or all of them."""
    judged = [part for part in parts if part.weight != NOT_JUDGED]
    words = f"{rule.display}: {(' or ' if rule.any_of else ' and ').join(p.finding.rule for p in parts)}"
    if not judged or (rule.all_of and len(judged) < len(parts) and all(p.weight != ABSENT for p in judged)):
        why = next(part.finding.text for part in parts if part.weight == NOT_JUDGED)
        return _unjudged(rule, why.split("not judged: ", 1)[1].rstrip("."), words)
    # The strongest decides "any of", the weakest "all of".
    pick = min if rule.any_of else max
    decisive = pick(judged, key=lambda part: part.weight)
    said = [part.finding.text.rstrip(".") for part in judged if part.weight == decisive.weight]
    finding = replace(
        decisive.finding,
        name=FLAG + rule.name,
        rule=words,
        text=f"{rule.display}: {'; '.join(said)}.",
    )
    return Flag(finding, decisive.weight, rule.display, rule.advice, decisive.of_class, rule.about == "count")


# ranges


def _range_flag(one: ReferenceRange, slide: _Slide) -> Flag:
    """Compare a figure with its usual values, on both sides."""
    what = one.finding or "_".join(filter(None, (one.figure, one.of_class)))
    display = slide.scheme[one.of_class].display if one.of_class else what.replace("_", " ").capitalize()
    if one.figure == "wbc":
        display = "Leukocytes"
    unit = {"absolute": ", absolute", "per_100": ", per 100 leukocytes"}.get(one.figure, "")
    source = f" ({one.source})" if one.source else ""
    rule = f"{display}{unit}: usual {one.words()}{source}"
    figure = _figure(one, slide)
    name = f"{FLAG}range_{what}"
    if figure.missing:
        text = f"{display}{unit}: not compared with the usual values: {figure.missing}."
        nothing = Finding(name, math.nan, math.nan, math.nan, "", "possible", rule, text)
        return Flag(nothing, NOT_JUDGED, display, of_class=one.of_class)
    sides = [(limit, sign) for limit, sign in ((one.low, "<"), (one.high, ">")) if limit is not None]
    compared = [(*compare(figure, sign, limit), sign, limit) for limit, sign in sides]
    order = {"certain": 0, "possible": 1, "absent": 2}
    state, beyond, sign, limit = min(compared, key=lambda side: (order[side[0]], not side[1]))
    weight = {"certain": CERTAIN, "absent": ABSENT}.get(state, PERHAPS if beyond else NOT_EXCLUDED)
    number = _number_text(figure)
    word = {"absent": "usual", "certain": "low" if sign == "<" else "high"}.get(
        state, "perhaps low" if sign == "<" else "perhaps high"
    )
    text = f"{display}{unit}: {number}: {word} (usual {one.words()})"
    if state == "possible":
        text += f"; {to_decide(figure, sign, limit)}"
    finding = Finding(name, figure.value, figure.low, figure.high, figure.unit, state, rule, f"{text}.")
    return Flag(finding, weight, f"{display} {word}", of_class=one.of_class)


__all__ = [
    "ABSENT",
    "CERTAIN",
    "FLAG",
    "MOST_MORE",
    "NOT_EXCLUDED",
    "NOT_JUDGED",
    "OF_A_CLASS",
    "PERHAPS",
    "Figure",
    "Flag",
    "cells_to_decide",
    "chosen_ranges",
    "compare",
    "flags",
    "share_at",
    "to_decide",
]
