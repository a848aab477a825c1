"""From which share of cells on a finding of red cells is graded, as data that a laboratory may change.

The limits that ship are ``data/red_cells.toml``, whose head describes the form; a laboratory changes them with a file
of its own: ``red_cells.toml`` in the user's data folder, or what ``LEUKOCLS_RED_CELLS`` names.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from napari_leukocls.errors import ArgumentError
from napari_leukocls.paths import user_data_dir
from napari_leukocls.scheme import default_scheme

GRADES_FILE = Path(__file__).parents[1] / "data" / "red_cells.toml"
FORMAT_VERSION = 1
#: What is graded by measurements; everything else in ``of`` is a shape of the scheme.
MEASURED = ("anisocytes", "microcytes", "macrocytes", "hypochromic", "polychromatic", "inclusions")

_NAME = re.compile(r"red_cell_[a-z0-9_]+")


@dataclass(frozen=True)
class RedCellLimits:
    """Limits of the measurements; the head of ``data/red_cells.toml`` describes each.

    Attributes
    ----------
    least_cells : int
    least_share : float
        0-1.
    most_unsure : float
        0-1.
    blurred_um : float
    microcyte_um, macrocyte_um : float
    anisocyte : float
    hypochromic_pallor, hypochromic_diameter : float
    polychromatic_blueness, polychromatic_spread : float
    always_review : tuple of str
    """

    least_cells: int
    least_share: float
    most_unsure: float
    blurred_um: float
    microcyte_um: float
    macrocyte_um: float
    anisocyte: float
    hypochromic_pallor: float
    hypochromic_diameter: float
    polychromatic_blueness: float
    polychromatic_spread: float
    always_review: tuple[str, ...]

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not 0 < self.microcyte_um < self.macrocyte_um:
            raise ValueError("microcyte_um must be above 0 and below macrocyte_um")
        if self.least_cells < 1 or not 0 <= self.least_share <= 1:
            raise ValueError("least_cells is 1 or more, and least_share is 0 to 1")
        unknown = [name for name in self.always_review if name not in default_scheme().shapes()]
        if unknown:
            raise ValueError(f"always_review: {unknown[0]!r} is no shape of red cells")


@dataclass(frozen=True)
class Grade:
    """The limits of one finding, % of the measured red cells.

    Attributes
    ----------
    name, text : str
        Of the finding, for tables and for people.
    of : str
        One of `MEASURED`, or a shape.
    moderate, many : float
        From which it is 2+ and 3+.
    few : float or None
        From which it is 1+; None if there is no 1+.
    """

    name: str
    text: str
    of: str
    moderate: float
    many: float
    few: float | None = None

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("a name is red_cell_ and lower-case letters, digits and underscores")
        if self.of not in (*MEASURED, *default_scheme().shapes()):
            raise ValueError(f"{self.of!r} is neither a shape nor one of {', '.join(MEASURED)}")
        steps = [value for value in (self.few, self.moderate, self.many) if value is not None]
        if steps != sorted(steps) or not 0 < steps[0] or steps[-1] > 100:
            raise ValueError("few, moderate and many rise, from above 0 to at most 100")

    def grade(self, percent: float) -> int:
        """Grade a share.

        Parameters
        ----------
        percent : float
            Of the measured red cells.

        Returns
        -------
        int
            0 to 3.
        """
        if percent >= self.many:
            return 3
        if percent >= self.moderate:
            return 2
        return int(self.few is not None and percent >= self.few)


@dataclass(frozen=True)
class RedCellGrades:
    """All limits.

    Attributes
    ----------
    limits : RedCellLimits
    grades : tuple of Grade
        In the order in which the findings are listed.
    """

    limits: RedCellLimits
    grades: tuple[Grade, ...]


def load_grades(file: Path | None = None) -> RedCellGrades:
    """Read the limits that ship, changed by a laboratory's file.

    Parameters
    ----------
    file : Path, optional
        By default what ``LEUKOCLS_RED_CELLS`` names, else ``red_cells.toml`` in the user's data folder, if it is there.

    Returns
    -------
    RedCellGrades

    Raises
    ------
    ArgumentError
        If a file cannot be read or an entry is wrong; in one line that names it.
    """
    asked = os.environ.get("LEUKOCLS_RED_CELLS")
    own = file or (Path(asked) if asked else user_data_dir() / "red_cells.toml")
    stamp = own.stat().st_mtime_ns if own.is_file() else 0
    if not stamp and (file is not None or asked):
        raise ArgumentError(f"there is no file '{own}' with limits of red cells.")
    return _loaded(own, stamp)


@lru_cache(maxsize=4)
def _loaded(own: Path, stamp: int) -> RedCellGrades:
    shipped = _read(GRADES_FILE)
    limits, grades = dict(shipped["limits"]), {entry["name"]: entry for entry in shipped["grades"]}
    if stamp:
        changes = _read(own)
        limits |= changes.get("limits", {})
        for entry in changes.get("grades", []):
            if not isinstance(entry, dict) or "name" not in entry:
                raise ArgumentError(f"'{own}': each entry of [[grades]] needs a name.")
            grades[entry["name"]] = {**grades.get(entry["name"], {}), **entry}
    try:
        return RedCellGrades(
            TypeAdapter(RedCellLimits).validate_python(limits),
            tuple(TypeAdapter(list[Grade]).validate_python(list(grades.values()))),
        )
    except ValidationError as error:
        first = error.errors()[0]
        names = list(grades)
        where = [str(names[part]) if isinstance(part, int) else str(part) for part in first["loc"]]
        what = first["msg"].removeprefix("Value error, ")
        raise ArgumentError(
            f"'{own if stamp else GRADES_FILE}': {'.'.join(where) or 'limits'}: {what}."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"'{path}' cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"'{path}' is not valid TOML ({error}).") from error
    if found.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise ArgumentError(
            f"'{path}': format_version {found['format_version']} is not known: update napari-leukocls."
        )
    unknown = [key for key in found if key not in ("format_version", "limits", "grades")]
    if unknown:
        raise ArgumentError(f"'{path}': {unknown[0]!r} is not known; there are [limits] and [[grades]].")
    if not isinstance(found.get("limits", {}), dict) or not isinstance(found.get("grades", []), list):
        raise ArgumentError(f"'{path}': limits is a table, and grades a list of tables.")
    return found


__all__ = ["MEASURED", "Grade", "RedCellGrades", "RedCellLimits", "load_grades"]
