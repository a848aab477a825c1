"""The class scheme: names, colours, keys, codes and spellings of cell classes, kept as data.

The scheme that ships is ``data/scheme.toml``; a laboratory changes it or adds to it with a file of its own:
``scheme.toml`` in the user's data folder, or what ``LEUKOCLS_SCHEME`` names.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from napari_leukocls.errors import ArgumentError
from napari_leukocls.paths import changed_at, own_file

SCHEME_FILE = Path(__file__).parent / "data" / "scheme.toml"

FORMAT_VERSION = 1

Kind = Literal["leukocyte", "nucleated", "platelet", "red_cell", "other"]

#: Class and kind of red cells; their shapes are classes of this kind whose parent is this class.
RED_CELL = "red_cell"

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")

_LOINC = re.compile(r"\d{1,7}-\d")

#: Ends the name of "this class, but which of its finer classes is not told apart".
NOT_TOLD_APART = "_not_told_apart"

#: Words that a folder's name may carry and that do not tell classes apart.
_FILLERS = frozenset({"cell", "wbc", "leukocyte", "leucocyte"})


@dataclass(frozen=True)
class CellClass:
    """One class of the scheme.

    Attributes
    ----------
    name : str
        Lower-case letters, digits and underscores.
    short, display : str
        Abbreviation, and name for people.
    colour : str
        ``#rrggbb``.
    key : str
        The key that gives a cell this class; empty for none.
    kind : {"leukocyte", "nucleated", "platelet", "red_cell", "other"}
    counted_in_differential : bool
        Whether its share of the leukocytes is reported.
    per_100_wbc : bool
        Whether it is reported for each 100 leukocytes instead.
    loinc : str
        LOINC code; empty for none.
    parent : str
        The class that it is a part of; empty for none.
    aliases : tuple of str
        Other spellings.
    """

    name: str
    short: str
    display: str
    colour: str
    key: str = ""
    kind: Kind = "other"
    counted_in_differential: bool = False
    per_100_wbc: bool = False
    loinc: str = ""
    parent: str = ""
    aliases: tuple[str, ...] = ()

    # Read by pydantic, which validates a scheme file against this plain dataclass.
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("a class name is lower-case letters, digits and underscores")
        if not _COLOUR.fullmatch(self.colour):
            raise ValueError("a colour is written #rrggbb")
        if self.loinc and not _LOINC.fullmatch(self.loinc):
            raise ValueError("a LOINC code is digits, a hyphen and a check digit")
        if self.counted_in_differential and self.per_100_wbc:
            raise ValueError("a class counted in the differential is not also reported per 100 leukocytes")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Colour as 0-255 red, green, blue."""
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)


@dataclass(frozen=True)
class Scheme:
    """All classes in order, found by name or by spelling.

    Attributes
    ----------
    classes : tuple of CellClass
        In the order in which they are shown.
    spellings : mapping
        Class name by spelling, as `resolve` compares it.
    """

    classes: tuple[CellClass, ...]
    spellings: Mapping[str, str]

    @cached_property
    def _by_name(self) -> dict[str, CellClass]:
        return {entry.name: entry for entry in self.classes}

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in order."""
        return tuple(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name or (isinstance(name, str) and whole_class(name) in self._by_name)

    def __iter__(self) -> Iterator[CellClass]:
        return iter(self.classes)

    def __getitem__(self, name: str) -> CellClass:
        entry = self._by_name.get(name) or self._not_told_apart(name)
        if entry is None:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f"did you mean {near[0]!r}? If not, " if near else ""
            hint += "add it to scheme.toml in your data folder."
            raise ArgumentError(f"{name!r} is not a class of the scheme; {hint}")
        return entry

    def _not_told_apart(self, name: str) -> CellClass | None:
        """The cells of a class whose finer class is not told apart: shown as that class, and never offered as one."""
        whole = self._by_name.get(whole_class(name))
        if whole is None:
            return None
        display = f"{whole.display}, not told apart"
        return replace(whole, name=name, display=display, key="", loinc="", parent=whole.name, aliases=())

    def finer(self, name: str) -> list[str]:
        """List the classes that are directly part of a class, in the scheme's order.

        Parameters
        ----------
        name : str
            Class name.

        Returns
        -------
        list of str
        """
        return [entry.name for entry in self.classes if entry.parent == name]

    def shapes(self) -> list[str]:
        """List the shapes of red cells, in the scheme's order.

        Returns
        -------
        list of str
        """
        return self.finer(RED_CELL)

    def resolve(self, text: str) -> str | None:
        """Find the class that a spelling means.

        Letter case, plural, spaces, hyphens, underscores, CamelCase, a leading number ("01_Basophils") and
        words such as "cell" do not matter.

        Parameters
        ----------
        text : str
            Such as the name of a class folder, an entry of a table, or an abbreviation.

        Returns
        -------
        str or None
            The class name; None if the spelling is not known.
        """
        words = _words(text)
        for candidate in (words, words[1:] if words and words[0].isdigit() else []):
            for key in (_key(candidate), _key([word for word in candidate if word not in _FILLERS])):
                if key and key in self.spellings:
                    return self.spellings[key]
        return None

    def coarsen(self, name: str, to: Iterable[str]) -> str:
        """Find the class among some that a class is, or is a part of.

        Parameters
        ----------
        name : str
            Class name.
        to : iterable of str
            For example, the classes of a model.

        Returns
        -------
        str
            A member of `to`; `name` itself if there is none.
        """
        allowed = set(to)
        current = name
        while current not in allowed:
            entry = self._by_name.get(current)
            if entry is None or not entry.parent:
                return name
            current = entry.parent
        return current

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Sort class names in the scheme's order, without repeats.

        Parameters
        ----------
        names : iterable of str

        Returns
        -------
        list of str

        Raises
        ------
        ArgumentError
            If a name is not a class of the scheme.
        """
        wanted = {self[name].name for name in names}
        both = (one for name in self.names for one in (name, name + NOT_TOLD_APART))
        return [name for name in both if name in wanted]


def whole_class(name: str) -> str:
    """Give the class of a name that may say that its finer classes are not told apart.

    Parameters
    ----------
    name : str
        Such as ``neutrophil_not_told_apart``.

    Returns
    -------
    str
        Such as ``neutrophil``; any other name as it is.
    """
    return name.removesuffix(NOT_TOLD_APART)


def _words(text: str) -> list[str]:
    """Lower-case singular words of a spelling."""
    plain = unicodedata.normalize("NFKC", str(text))
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    parts = re.findall(r"\d+|[^\W\d_]+", plain)
    return [re.sub(r"(?<=..[^s])s$", "", part) for part in parts]


def _key(words: list[str]) -> str:
    return "".join(words)


def _read(path: Path) -> dict[str, Any]:
    """Parse a TOML or JSON scheme file."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ArgumentError(f"class scheme {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"class scheme {path} is not valid TOML or JSON: {error}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("classes"), list):
        raise ArgumentError(f"class scheme {path} needs a list 'classes' ([[classes]] in TOML).")
    if data.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise ArgumentError(
            f"class scheme {path} has format_version {data['format_version']!r}; give {FORMAT_VERSION}."
        )
    unknown = sorted(set(data) - {"classes", "format_version"})
    if unknown:
        raise ArgumentError(f"class scheme {path} has an unknown setting {unknown[0]!r}; remove it.")
    return data


@lru_cache(maxsize=1)
def _validator() -> Any:
    return TypeAdapter(CellClass)


def _entry(raw: Any, base: Mapping[str, CellClass], path: Path) -> CellClass:
    """Validate one entry; an entry of a class that is already known states only what it changes."""
    name = raw.get("name") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and isinstance(name, str):
        defaults: dict[str, Any] = {"short": name[:4].upper(), "display": name.replace("_", " ").capitalize()}
        if name in base:
            defaults = asdict(base[name]) | {"aliases": ()}
        raw = {**defaults, **raw}
    try:
        value: CellClass = _validator().validate_python(raw)
        return value
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "entry"
        raise ArgumentError(f"class scheme {path}: class {name!r}, {where}: {first['msg']}.") from error


def _merge(known: dict[str, CellClass], spellings: dict[str, str], path: Path) -> None:
    """Add the entries of a file to the classes and spellings known so far; the later file wins."""
    added: dict[str, str] = {}
    names: set[str] = set()
    for raw in _read(path)["classes"]:
        entry = _entry(raw, known, path)
        if entry.name in names:
            raise ArgumentError(f"class scheme {path} has {entry.name!r} twice; merge the two entries.")
        names.add(entry.name)
        for alias in (entry.name, *entry.aliases):
            key = _key(_words(alias))
            if added.setdefault(key, entry.name) != entry.name:
                raise ArgumentError(
                    f"class scheme {path}: {alias!r} is both {added[key]!r} and {entry.name!r}; keep one."
                )
        before = known[entry.name].aliases if entry.name in known else ()
        known[entry.name] = replace(entry, aliases=tuple(dict.fromkeys((*before, *entry.aliases))))
    spellings.update(added)
    # A class's own name always means that class, whatever a later file calls an alias.
    spellings.update({_key(_words(name)): name for name in known})


def _check(known: Mapping[str, CellClass], path: Path) -> None:
    """Refuse a parent that is not there or that leads back, and a key used twice."""
    keys: dict[str, str] = {}
    for entry in known.values():
        if entry.key and keys.setdefault(entry.key, entry.name) != entry.name:
            raise ArgumentError(
                f"class scheme {path}: {keys[entry.key]!r} and {entry.name!r} share a key; change one."
            )
        chain = [entry.name]
        while parent := known[chain[-1]].parent:
            if parent not in known or parent in chain:
                raise ArgumentError(
                    f"class scheme {path}: {parent!r} cannot be the parent of {chain[-1]!r}; correct it."
                )
            chain.append(parent)


def load_scheme(path: str | Path | None = None) -> Scheme:
    """Load the class scheme.

    Parameters
    ----------
    path : str or Path, optional
        A laboratory's own file, TOML or JSON in the form of ``data/scheme.toml``: its classes are added to those
        that ship, or change them.

    Returns
    -------
    Scheme

    Raises
    ------
    ArgumentError
        If the file cannot be read, or an entry is wrong.
    """
    return _load(None if path is None else Path(path))


def _load(path: Path | None) -> Scheme:
    known: dict[str, CellClass] = {}
    spellings: dict[str, str] = {}
    for layer in (SCHEME_FILE, *(() if path is None else (path,))):
        _merge(known, spellings, layer)
        _check(known, layer)
    return Scheme(tuple(known.values()), spellings)


def lab_scheme_file() -> Path | None:
    """Find the file of the laboratory's own classes.

    Returns
    -------
    Path or None
        The file that ``LEUKOCLS_SCHEME`` names, else the user's ``scheme.toml``; None if there is neither.
    """
    return own_file("LEUKOCLS_SCHEME", "scheme.toml")


def default_scheme() -> Scheme:
    """Load the scheme that ships with the laboratory's own classes, if it has any.

    Returns
    -------
    Scheme

    Raises
    ------
    ArgumentError
        If the laboratory's file cannot be read, or an entry in it is wrong.
    """
    own = lab_scheme_file()
    return _loaded(own, changed_at(own))


@lru_cache(maxsize=4)
def _loaded(own: Path | None, changed: int | None) -> Scheme:
    """Load a scheme once for each state of the laboratory's file."""
    return load_scheme(own)
