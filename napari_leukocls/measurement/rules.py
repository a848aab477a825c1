"""The rules of a laboratory: which figures a report flags, and its reference ranges. Data, not code.

The rules that ship are ``data/rules.toml``, whose head describes the form; a laboratory changes them with a file of its
own: ``rules.toml`` in the user's data folder, or what ``LEUKOCLS_RULES`` names.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.measurement.absolute import Counting
from napari_leukocls.measurement.findings import short_number
from napari_leukocls.measurement.samples import SampleValues, Sex
from napari_leukocls.paths import changed_at, own_file
from napari_leukocls.scheme import Scheme, default_scheme

RULES_FILE = Path(__file__).parents[1] / "data" / "rules.toml"
FORMAT_VERSION = 1

Figure = Literal["", "percent", "per_100", "count", "absolute", "leukocytes", "wbc"]
#: Figures of a class, and figures of the whole count.
OF_A_CLASS = ("percent", "per_100", "count", "absolute")
#: The limit of a rule, and the sign before it.
SIGNS = {"at_least": ">=", "above": ">", "at_most": "<=", "below": "<"}
UNITS = {
    "percent": "%",
    "per_100": "/100{WBCs}",
    "count": "{cells}",
    "leukocytes": "{cells}",
    "absolute": "10*9/L",
    "wbc": "10*9/L",
}
_WORDS = {"percent": "%", "per_100": "per 100 leukocytes", "absolute": "× 10⁹/L", "wbc": "× 10⁹/L"}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Fields of which an entry states one: the laboratory's takes the place of the one that ships.
_ONE_OF = (tuple(SIGNS), ("figure", "finding", "any_of", "all_of"))


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    name, text : str
        For tables, and for people.
    figure : str
        What is compared with the limit; "" if a finding or other rules are.
    of_class : str
        The class that the figure is of (``class`` in the file).
    of : tuple of str
        Classes that make 100 %; () for all leukocytes.
    finding : str
        Name of the finding that is compared instead.
    at_least, above, at_most, below : float or None
        The limit: exactly one, or none if other rules are joined.
    any_of, all_of : tuple of str
        Names of the rules that are joined.
    advice : str
        What to do.
    about : {"blood", "count"}
        Whether it finds something in the blood, or says how good the count is.
    shown, enabled : bool
    sex : {"", "female", "male"}
    age_from, age_to : float
        Years; `age_to` is not included.
    """

    name: str
    text: str = ""
    figure: Figure = ""
    of_class: str = ""
    of: tuple[str, ...] = ()
    finding: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    any_of: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()
    advice: str = ""
    about: Literal["blood", "count"] = "blood"
    shown: bool = True
    enabled: bool = True
    sex: Sex = ""
    age_from: float = 0.0
    age_to: float = math.inf

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("a name is lower-case letters, digits and underscores")
        kinds = [bool(one) for one in (self.figure, self.finding, self.any_of, self.all_of)]
        if sum(kinds) != 1:
            raise ValueError("state one of figure, finding, any_of and all_of")
        limits = sum(getattr(self, name) is not None for name in SIGNS)
        if (self.figure or self.finding) and limits != 1:
            raise ValueError("state one limit: at_least, above, at_most or below")
        if (self.any_of or self.all_of) and limits:
            raise ValueError("state no limit: the rules that are joined have theirs")
        if (self.figure in OF_A_CLASS) != bool(self.of_class):
            raise ValueError(
                "state a class with percent, per_100, count and absolute, and with no other figure"
            )
        if self.of and self.figure != "percent":
            raise ValueError("`of` goes with percent alone")

    @property
    def limit(self) -> float:
        """The figure that the rule compares with; nan if it joins other rules."""
        return next((value for name in SIGNS if (value := getattr(self, name)) is not None), math.nan)

    @property
    def sign(self) -> str:
        """The comparison, as in ``>=``; "" if the rule joins others."""
        return next((sign for name, sign in SIGNS.items() if getattr(self, name) is not None), "")

    @property
    def display(self) -> str:
        """What the rule finds, for people."""
        return self.text or self.name.replace("_", " ").capitalize()

    def words(self) -> str:
        """Write the rule as reports and ``findings.csv`` state it.

        Returns
        -------
        str
            For example ``Immature granulocytes >= 2 %``.
        """
        if not self.sign:
            names = self.any_of or self.all_of
            return f"{self.display}: {'any' if self.any_of else 'all'} of {', '.join(names)}"
        unit = _WORDS.get(self.figure, "")
        return f"{self.display} {self.sign} {short_number(self.limit)} {unit}".strip()

    def holds_for(self, sample: SampleValues) -> bool | None:
        """Whether the rule is about the person whom a sample is of.

        Parameters
        ----------
        sample : SampleValues

        Returns
        -------
        bool or None
            None if the age or sex is not known, and matters.
        """
        return holds_for(self.sex, self.age_from, self.age_to, sample)


@dataclass(frozen=True)
class ReferenceRange:
    """Usual values of a figure, as a laboratory has found or taken them over.

    Attributes
    ----------
    figure : {"percent", "per_100", "absolute", "wbc"}
    of_class : str
        The class that the figure is of (``class`` in the file).
    finding : str
        Name of the finding that the range is of, instead of a figure.
    low, high : float or None
        At least one of them.
    sex : {"", "female", "male"}
    age_from, age_to : float
        Years; `age_to` is not included.
    source : str
        Where the values are from.
    """

    figure: Figure = ""
    of_class: str = ""
    finding: str = ""
    low: float | None = None
    high: float | None = None
    sex: Sex = ""
    age_from: float = 0.0
    age_to: float = math.inf
    source: str = ""

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if bool(self.figure) == bool(self.finding):
            raise ValueError("state a figure or a finding")
        if self.figure in ("count", "leukocytes"):
            raise ValueError("the figure of a range is percent, per_100, absolute or wbc")
        if (self.figure in OF_A_CLASS) != bool(self.of_class):
            raise ValueError("state a class with percent, per_100 and absolute, and with no other figure")
        if self.low is None and self.high is None:
            raise ValueError("state low, high, or both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low is not below high")

    def holds_for(self, sample: SampleValues) -> bool | None:
        """Whether the range is that of the person whom a sample is of.

        Parameters
        ----------
        sample : SampleValues

        Returns
        -------
        bool or None
            None if the age or sex is not known, and matters.
        """
        return holds_for(self.sex, self.age_from, self.age_to, sample)

    def title(self) -> str:
        """Say what the range is of, and for whom.

        Returns
        -------
        str
            For example ``percent neutrophil: 40 to 75 (female, 18 to 65 years)``.
        """
        what = self.finding or " ".join(filter(None, (self.figure, self.of_class)))
        last = f" to {short_number(self.age_to)}" if math.isfinite(self.age_to) else " on"
        ages = (
            f"{short_number(self.age_from)}{last} years"
            if self.age_from or math.isfinite(self.age_to)
            else ""
        )
        whom = ", ".join(filter(None, (self.sex, ages, self.source)))
        return f"{what}: {self.words()}{f' ({whom})' if whom else ''}"

    def words(self) -> str:
        """Write the range.

        Returns
        -------
        str
            For example ``40 to 75``, ``up to 6`` or ``at least 0.5``.
        """
        if self.low is None:
            return f"up to {short_number(float(self.high or 0))}"
        if self.high is None:
            return f"at least {short_number(self.low)}"
        return f"{short_number(self.low)} to {short_number(self.high)}"


def holds_for(sex: str, age_from: float, age_to: float, sample: SampleValues) -> bool | None:
    """Whether a person belongs to a group.

    Parameters
    ----------
    sex : str
        "" for all.
    age_from, age_to : float
        Years; the second one not included.
    sample : SampleValues

    Returns
    -------
    bool or None
        None if the age or sex is not known, and matters.
    """
    by_age = age_from > 0 or math.isfinite(age_to)
    if (sex and sample.sex and sex != sample.sex) or (
        by_age and sample.age is not None and not age_from <= sample.age < age_to
    ):
        return False
    if (sex and not sample.sex) or (by_age and sample.age is None):
        return None
    return True


@dataclass(frozen=True)
class RuleSet:
    """All rules, ranges and settings.

    Attributes
    ----------
    rules : tuple of Rule
        Those that are enabled, in the order of the file; names are unique and no rule refers to itself.
    ranges : tuple of ReferenceRange
    counting : Counting
    sources : tuple of str
        The files that they were read from, for the record of a run.
    """

    rules: tuple[Rule, ...]
    ranges: tuple[ReferenceRange, ...] = ()
    counting: Counting = field(default_factory=Counting)
    sources: tuple[str, ...] = ()


def load_rules(path: str | Path | None = None, scheme: Scheme | None = None) -> RuleSet:
    """Load the rules.

    Parameters
    ----------
    path : path-like, optional
        A laboratory's own file: its entries are added to those that ship, or change them.
    scheme : Scheme, optional
        The classes that rules may name.

    Returns
    -------
    RuleSet

    Raises
    ------
    ArgumentError
        If a file cannot be read, or an entry is wrong; one line that names it.
    """
    scheme = scheme or default_scheme()
    known: dict[str, dict[str, Any]] = {}
    counting: dict[str, Any] = {}
    ranges: list[ReferenceRange] = []
    files = [RULES_FILE, *([] if path is None else [Path(path)])]
    for file in files:
        data = _read(file)
        counting |= data.get("counting", {})
        _validated(Counting, counting, file, "counting")
        _merge(known, data.get("rules", []), file, scheme)
        for number, raw in enumerate(data.get("ranges", []), start=1):
            where = f"range {number}"
            ranges.append(_validated(ReferenceRange, _with_class(raw, scheme, file, where), file, where))
    rules = [_validated(Rule, raw, files[-1], f"rule {name!r}") for name, raw in known.items()]
    enabled = tuple(rule for rule in rules if rule.enabled)
    _check_references(enabled, {rule.name for rule in rules}, files[-1])
    return RuleSet(
        enabled,
        tuple(ranges),
        _validated(Counting, counting, files[-1], "counting"),
        tuple(map(str, files[1:])),
    )


def _merge(known: dict[str, dict[str, Any]], entries: Any, path: Path, scheme: Scheme) -> None:
    """Add the entries of a file; one of a name that is known changes the fields that it states."""
    names: set[str] = set()
    for number, raw in enumerate(entries, start=1):
        name = raw.get("name") if isinstance(raw, dict) else None
        where = f"rule {number}" if not isinstance(name, str) else f"rule {name!r}"
        entry = _with_class(raw, scheme, path, where)
        if isinstance(name, str) and name in names:
            raise ArgumentError(f"rules {path}: there are two rules {name!r}; keep one.")
        base = dict(known.get(name, {})) if isinstance(name, str) else {}
        for group in _ONE_OF:
            if any(one in entry for one in group):
                base = {key: value for key, value in base.items() if key not in group}
        if "figure" in entry or "finding" in entry or "any_of" in entry or "all_of" in entry:
            base = {key: value for key, value in base.items() if key not in ("of_class", "of")}
        merged = {**base, **entry}
        checked = _validated(Rule, merged, path, where)
        names.add(checked.name)
        known[checked.name] = merged


def _with_class(raw: Any, scheme: Scheme, path: Path, where: str) -> dict[str, Any]:
    """An entry with the class's own names; ``class`` is a word of the language and becomes ``of_class``."""
    if not isinstance(raw, dict):
        raise ArgumentError(f"rules {path}: {where} is no table; begin it with [[rules]] or [[ranges]].")
    entry = dict(raw)
    if "of_class" in entry:
        raise ArgumentError(f"rules {path}: {where}: 'of_class' is not known; write class.")
    if "class" in entry:
        entry["of_class"] = _class_name(entry.pop("class"), scheme, path, where)
    if isinstance(entry.get("of"), list):
        entry["of"] = [_class_name(one, scheme, path, where) for one in entry["of"]]
    return entry


def _class_name(word: Any, scheme: Scheme, path: Path, where: str) -> str:
    found = scheme.resolve(str(word))
    if found is None:
        near = difflib.get_close_matches(str(word), scheme.names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "add it to the class scheme, or choose another."
        raise ArgumentError(f"rules {path}: {where}: there is no class {str(word)!r}; {hint}")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"rules {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"rules {path} is not valid TOML: {error}.") from error
    if data.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise ArgumentError(
            f"rules {path} has format_version {data['format_version']!r}; give {FORMAT_VERSION}."
        )
    unknown = sorted(set(data) - {"format_version", "counting", "rules", "ranges"})
    if unknown:
        raise ArgumentError(f"rules {path} has an unknown part {unknown[0]!r}; remove it.")
    if not isinstance(data.get("counting", {}), dict):
        raise ArgumentError(f"rules {path}: counting is no table; begin it with [counting].")
    for name in ("rules", "ranges"):
        if not isinstance(data.get(name, []), list):
            raise ArgumentError(f"rules {path}: {name} is no list; begin each entry with [[{name}]].")
    return data


@lru_cache(maxsize=4)
def _validator(kind: type) -> Any:
    return TypeAdapter(kind)


def _validated(kind: type, raw: Mapping[str, Any], path: Path, where: str) -> Any:
    try:
        return _validator(kind).validate_python(dict(raw))
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "unexpected_keyword_argument":
            message = "there is no such setting; docs/report.md has the form"
        raise ArgumentError(f"rules {path}: {where}{', ' + what if what else ''}: {message}.") from error


def _check_references(rules: tuple[Rule, ...], all_names: set[str], path: Path) -> None:
    """Refuse a rule that joins one that is not there, or that leads back to itself."""
    by_name = {rule.name: rule for rule in rules}
    for rule in rules:
        for name in (*rule.any_of, *rule.all_of):
            if name not in by_name:
                state = "is not enabled" if name in all_names else "is not there"
                raise ArgumentError(
                    f"rules {path}: rule {rule.name!r} refers to {name!r}, which {state}; correct it."
                )
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " -> ".join((*above[above.index(name) :], name))
            raise ArgumentError(
                f"rules {path}: the rules refer to each other in a circle ({circle}); break it."
            )
        if name not in done:
            rule = by_name[name]
            for other in (*rule.any_of, *rule.all_of):
                visit(other, (*above, name))
            done.add(name)

    for name in by_name:
        visit(name, ())


def lab_rules_file() -> Path | None:
    """Find the file of the laboratory's own rules.

    Returns
    -------
    Path or None
        The file that ``LEUKOCLS_RULES`` names, else the user's ``rules.toml``; None if there is neither.
    """
    return own_file("LEUKOCLS_RULES", "rules.toml")


def rules_digest() -> str:
    """Hash the file of the laboratory's own rules, by which earlier results are told from those of today's rules.

    Returns
    -------
    str
        SHA-256; "" if there is none.

    Raises
    ------
    ArgumentError
        If the file cannot be read, or an entry in it is wrong.
    """
    own = lab_rules_file()
    if own is None:
        return ""
    load_rules(own)
    return sha256_of(own)


def default_rules() -> RuleSet:
    """Load the rules that ship with the laboratory's own, if it has any.

    Returns
    -------
    RuleSet

    Raises
    ------
    ArgumentError
        If the laboratory's file cannot be read, or an entry in it is wrong.
    """
    own = lab_rules_file()
    return _loaded(own, changed_at(own), tuple(default_scheme().names))


@lru_cache(maxsize=4)
def _loaded(own: Path | None, changed: int | None, classes: tuple[str, ...]) -> RuleSet:
    """Load rules once for each state of the laboratory's file, and of its classes."""
    return load_rules(own)


__all__ = [
    "SIGNS",
    "UNITS",
    "ReferenceRange",
    "Rule",
    "RuleSet",
    "default_rules",
    "lab_rules_file",
    "load_rules",
    "rules_digest",
]
