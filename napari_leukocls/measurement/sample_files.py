"""Counts of the analyser from a file: a table, or messages of HL7 version 2, by the identifier of the sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from napari_leukocls.datasets.tables import read_table
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.measurement.samples import (
    SampleValues,
    parse_age,
    parse_concentration,
    parse_sex,
)

Count = Literal["WBC", "RBC"]

#: Names of columns, letters and digits only.
_COLUMNS = {
    "slide": "slide slideid".split(),
    "identifier": "identifier id sample sampleid specimen specimenid barcode accession accessionnumber".split(),
    "patient": "patient patientid patientnumber subject subjectid".split(),
    "wbc": "wbc leukocytes leucocytes whitecells whitebloodcells leukozyten leucocitos".split(),
    "wbc_unit": "wbcunit unit".split(),
    "wbc_corrected": "wbccorrected correctedwbc".split(),
    "rbc": "rbc erythrocytes redcells redbloodcells erythrozyten".split(),
    "rbc_unit": "rbcunit".split(),
    "age": "age ageyears years".split(),
    "sex": "sex gender".split(),
}
#: LOINC: leukocytes and erythrocytes per volume of blood, by an automated count or by any method.
_LOINC: dict[str, Count] = {"6690-2": "WBC", "26464-8": "WBC", "789-8": "RBC", "26453-1": "RBC"}
_OWN: dict[str, Count] = {"WBC": "WBC", "RBC": "RBC"}
_YES = frozenset({"1", "yes", "y", "true", "ja", "x"})
_NO = frozenset({"", "0", "no", "n", "false", "nein"})
#: Results of HL7 that are none: cannot be obtained, deleted, posted as wrong, not asked for.
_NO_RESULT = frozenset({"X", "D", "W", "N", "I", "O"})


@dataclass(frozen=True)
class SampleFile:
    """What a file says of samples.

    Attributes
    ----------
    samples : mapping of str to SampleValues
        By the name of the slide or the identifier of the sample, in lower case.
    problems : tuple of str
        One line for each value that is not used, and why.
    """

    samples: Mapping[str, SampleValues]
    problems: tuple[str, ...] = ()

    def of(self, *names: str) -> SampleValues | None:
        """Find the values of a slide.

        Parameters
        ----------
        *names : str
            Its name, and what else identifies it; whole names are compared, without regard to letter case.

        Returns
        -------
        SampleValues or None
        """
        for name in names:
            found = self.samples.get(_key(name))
            if found is not None:
                return found
        return None

    def problems_of(self, *names: str) -> tuple[str, ...]:
        """Find the lines that are about a slide.

        Parameters
        ----------
        *names : str

        Returns
        -------
        tuple of str
        """
        marks = [mark for name in names for mark in (f"({_key(name)}):", f"{_key(name)!r} stands")]
        return tuple(line for line in self.problems if any(mark in _key(line) for mark in marks))


@dataclass
class _Collected:
    """Samples as they are read, with what is wrong with them."""

    path: Path
    samples: dict[str, SampleValues] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def add(self, key: str, sample: SampleValues, where: str) -> None:
        """Keep a sample; of two that differ none is kept."""
        if key in self.samples and self.samples[key] != sample:
            self.twice.add(key)
            name = sample.identifier or key
            self.problems.append(
                f"{self.path.name}: {name!r} stands in {self.where[key]} and in {where} with different values: none of "
                "them is used."
            )
            return
        self.samples[key] = sample
        self.where.setdefault(key, where)

    def done(self) -> SampleFile:
        """Everything that is clear."""
        kept = {key: sample for key, sample in self.samples.items() if key not in self.twice}
        return SampleFile(kept, tuple(self.problems))


def read_samples(path: str | Path) -> SampleFile:
    """Read the values of samples from a file.

    Parameters
    ----------
    path : path-like
        A table (CSV with any separator, XLSX, ODS) with a column ``slide_id`` or ``sample``, and any of ``wbc``,
        ``rbc``, ``patient``, ``age``, ``sex``; a unit stands in the name of a column (``WBC (/uL)``), in a column
        ``wbc_unit``, or beside the number. Or messages of HL7 version 2 (ORU) with results by LOINC.

    Returns
    -------
    SampleFile

    Raises
    ------
    InputError
        If the file cannot be read, or has no column that names samples.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if head.lstrip(b"\xef\xbb\xbf\x0b\r\n ").startswith(b"MSH"):
        return _messages(path)
    return _rows(path)


def _key(name: str) -> str:
    return " ".join(name.split()).casefold()


# tables


def _rows(path: Path) -> SampleFile:
    table = read_table(path, needed=())
    columns, units = _known_columns(table.columns)
    if "slide" not in columns and "identifier" not in columns:
        raise InputError(
            f"{path} has no column that names samples: call one slide_id, or sample (it has "
            f"{', '.join(table.columns)[:80]})."
        )
    found = _Collected(path)
    for number, row in zip(table.numbers, table.rows, strict=True):
        texts = {name: row.get(column, "") for name, column in columns.items()}
        key = _key(texts.get("slide") or texts.get("identifier", ""))
        where = f"row {number}"
        if not key:
            found.problems.append(f"{path.name}: {where} names no sample: it is not used.")
            continue
        found.add(key, _sample_of_row(texts, units, path, where, found.problems), where)
    return found.done()


def _known_columns(columns: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Column of each value, and the units in the names of columns."""
    known: dict[str, str] = {}
    units: dict[str, str] = {}
    for column in columns:
        match = re.fullmatch(r"(.+?)\s*[\[(](.+)[\])]\s*|([a-z]+)[ _]+(x?\s*10\s*[*^e].*|[^ ]*/.*)", column)
        name, unit = (column, "") if match is None else (match[1] or match[3], match[2] or match[4])
        plain = re.sub(r"[\W_]", "", name)
        for value, spellings in _COLUMNS.items():
            if plain in spellings and value not in known:
                known[value] = column
                units[value] = unit
    return known, units


def _sample_of_row(
    texts: Mapping[str, str], units: Mapping[str, str], path: Path, where: str, problems: list[str]
) -> SampleValues:
    """Values of a row; what is wrong is left out and noted."""
    sample = SampleValues(
        identifier=texts.get("identifier") or texts.get("slide", ""),
        patient=texts.get("patient", ""),
        source=path.name,
    )

    def concentration(what: Count) -> Callable[[str], float]:
        name = what.lower()
        unit = texts.get(f"{name}_unit", "") or units.get(name, "")
        return lambda text: parse_concentration(text, what, unit)

    readers: dict[str, Callable[[str], Any]] = {
        "wbc": concentration("WBC"),
        "rbc": concentration("RBC"),
        "age": parse_age,
        "sex": parse_sex,
        "wbc_corrected": _yes_or_no,
    }
    for name, read in readers.items():
        text = texts.get(name, "").strip()
        try:
            sample = replace(sample, **{name: read(text)}) if text else sample
        except ArgumentError as error:
            problems.append(f"{path.name}, {where} ({sample.identifier}): {str(error)[:-1]}; it is not used.")
    return sample


def _yes_or_no(text: str) -> bool:
    word = text.casefold()
    if word not in _YES | _NO:
        raise ArgumentError(f"wbc_corrected {text!r} is neither yes nor no.")
    return word in _YES


# messages


def _messages(path: Path) -> SampleFile:
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    segments = [line.strip("\x0b\x1c ") for line in re.split(r"[\r\n]+", text)]
    found = _Collected(path)
    for number, message in enumerate(_split(segment for segment in segments if segment), start=1):
        _read_message(message, f"message {number}", found)
    return found.done()


def _split(segments: Iterable[str]) -> Iterator[list[str]]:
    """Messages of a file, each from its segment MSH."""
    message: list[str] = []
    for segment in segments:
        if segment.startswith("MSH") and message:
            yield message
            message = []
        message.append(segment)
    if message:
        yield message


class _Segment:
    """A segment of a message, read by the numbers of the standard."""

    def __init__(self, text: str, signs: str) -> None:
        self.fields = text.split(signs[0])
        self.component, self.repetition, self.sub = signs[1], signs[2], signs[4]
        self.escapes = {
            f"{signs[3]}{letter}{signs[3]}": sign
            for letter, sign in zip("FSRT", (signs[0], signs[1], signs[2], signs[4]), strict=True)
        } | {f"{signs[3]}E{signs[3]}": signs[3]}
        self.name = self.fields[0]

    def get(self, number: int, component: int = 1) -> str:
        """First repetition and subcomponent of a field."""
        if number >= len(self.fields):
            return ""
        parts = self.fields[number].split(self.repetition)[0].split(self.component)
        text = parts[component - 1].split(self.sub)[0].strip() if component <= len(parts) else ""
        for written, sign in self.escapes.items():
            text = text.replace(written, sign)
        return "" if text == '""' else text


def _signs_of(head: str) -> str:
    """The separators that a message states in MSH: of fields, components, repetitions, escapes, subcomponents."""
    usual = "^~\\&"
    stated = head[4:].split(head[3])[0]
    return head[3] + stated + usual[len(stated) :]


def _read_message(message: Sequence[str], where: str, found: _Collected) -> None:
    if not message[0].startswith("MSH") or len(message[0]) < 8:
        found.problems.append(f"{found.path.name}: {where} does not begin with MSH: it is not used.")
        return
    signs = _signs_of(message[0])
    head, *segments = (_Segment(text, signs) for text in message)
    # The separators are a field of MSH themselves, so that its numbers are one less.
    day = _date_of(head.get(6))
    person = SampleValues(source=found.path.name)
    order: _Order | None = None
    for segment in segments:
        if segment.name == "PID":
            person = _person(segment, day, person)
        elif segment.name == "OBR":
            _close(order, where, found)
            identifier = segment.get(3) or segment.get(2)
            order = _Order(replace(person, identifier=identifier))
        elif segment.name == "SPM" and order is not None and segment.get(2):
            order.sample = replace(order.sample, identifier=segment.get(2))
        elif segment.name == "OBX" and order is not None:
            _observe(segment, order, where, found)
    _close(order, where, found)


@dataclass
class _Order:
    """The sample of one order, and which of its values are stated twice."""

    sample: SampleValues
    twice: set[str] = field(default_factory=set)


def _person(segment: _Segment, day: date | None, empty: SampleValues) -> SampleValues:
    """Identifier, age and sex of PID; the name is not read."""
    born = _date_of(segment.get(7))
    age = None if born is None or day is None or day < born else (day - born).days / 365.25
    sex = segment.get(8) if segment.get(8).casefold() in ("f", "m") else ""
    return replace(empty, patient=segment.get(3), age=age, sex=parse_sex(sex))


def _close(order: _Order | None, where: str, found: _Collected) -> None:
    """Keep the values of an order, joined with those of the same sample in the same message."""
    if order is None or (order.sample.wbc is None and order.sample.rbc is None):
        return
    sample = order.sample
    key = _key(sample.identifier)
    if not key:
        found.problems.append(f"{found.path.name}: {where} names no sample (OBR-3): it is not used.")
        return
    before = found.samples.get(key)
    if before is not None and found.where[key] == where and _agree(before, sample):
        joined = {name: getattr(before, name) for name in ("wbc", "rbc") if getattr(sample, name) is None}
        found.samples[key] = replace(sample, **joined)
        return
    found.add(key, sample, where)


def _agree(one: SampleValues, other: SampleValues) -> bool:
    return all(
        None in (getattr(one, name), getattr(other, name)) or getattr(one, name) == getattr(other, name)
        for name in ("wbc", "rbc")
    )


def _observe(segment: _Segment, order: _Order, where: str, found: _Collected) -> None:
    """Take the count of leukocytes or of red cells from a result."""
    codes = [segment.get(3, 1), segment.get(3, 4)]
    what = next((_LOINC[code] for code in codes if code in _LOINC), None)
    what = what or next((_OWN[code.upper()] for code in codes if code.upper() in _OWN), None)
    status = segment.get(11).upper()
    if what is None or status in _NO_RESULT:
        return
    name, whose = what.lower(), f"{found.path.name}, {where} ({order.sample.identifier})"
    # The unit 10^3/uL holds the sign that separates components.
    unit = f"10^{segment.get(6, 2)}" if segment.get(6) == "10" else segment.get(6)
    try:
        value = parse_concentration(segment.get(5), what, unit)
    except ArgumentError as error:
        found.problems.append(f"{whose}: {str(error)[:-1]}; it is not used.")
        return
    before = getattr(order.sample, name)
    if name in order.twice or (before not in (None, value) and status != "C"):
        if name not in order.twice:
            found.problems.append(f"{whose}: it has two values of {what}: none of them is used.")
        order.twice.add(name)
        order.sample = _with_count(order.sample, what, None)
        return
    order.sample = _with_count(order.sample, what, value)


def _with_count(sample: SampleValues, what: Count, value: float | None) -> SampleValues:
    return replace(sample, wbc=value) if what == "WBC" else replace(sample, rbc=value)


def _date_of(text: str) -> date | None:
    match = re.match(r"(\d{4})(\d{2})(\d{2})", text)
    try:
        return None if match is None else date(*(int(part) for part in match.groups()))
    except ValueError:
        return None


__all__ = ["SampleFile", "read_samples"]
