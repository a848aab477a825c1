"""The red cells of the Review dock, by shape. Without Qt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_leukocls.scheme import RED_CELL
from napari_leukocls.widgets.common.case_model import NUMBERS
from napari_leukocls.widgets.review.correctable_cells import CorrectableCells
from napari_leukocls.widgets.review.kinds import Group, Section, Tile
from napari_leukocls.widgets.texts import Review, plural

if TYPE_CHECKING:
    from napari_leukocls.scheme import CellClass
    from napari_leukocls.widgets.common.case_model import CaseModel
    from napari_leukocls.widgets.common.session import Session

#: Groups that are not one shape.
WAITING, ALL, UNMEASURED = ":waiting", ":all", ":unmeasured"
#: Keys of the shapes, in the scheme's order.
KEYS = "1234567890-="
#: Classes that a person can give besides shapes, for what is no red cell.
OTHERS = ("platelet", "artefact", "not_classed")


def red_cells_of(session: Session, slide: CaseModel) -> RedCells | None:
    """Make the kind of the red cells, if the fields of a case have a table of them.

    Parameters
    ----------
    session : Session
    slide : CaseModel

    Returns
    -------
    RedCells or None
    """
    kind = RedCells(session, slide)
    return kind if len(kind.table()) else None


class RedCells(CorrectableCells):
    """The red cells of one case by shape: a `napari_leukocls.widgets.review.kinds.Kind`.

    Parameters
    ----------
    session : Session
    slide : CaseModel
        Its cells have numbers within the case.
    """

    def __init__(self, session: Session, slide: CaseModel) -> None:
        super().__init__(session, slide)
        self._shapes = slide.scheme.shapes()
        self._tables: list[Any] = []
        self._table = pd.DataFrame()
        self._rows: dict[int, int] = {}

    def table(self) -> pd.DataFrame:
        """Return the red cells of all fields, columns as in ``red_cells.csv``, with numbers within the case."""
        tables = [result.red_cells for _, result in self.slide.pictures()]
        same = len(tables) == len(self._tables) and all(
            one is other for one, other in zip(tables, self._tables, strict=True)
        )
        if not same:
            parts = [
                result.red_cells.assign(cell_id=result.red_cells["cell_id"] + start)
                for start, result in self.slide.pictures()
                if result.red_cells is not None
            ]
            self._table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
            self._tables = tables
            ids = self._table["cell_id"].tolist() if len(self._table) else []
            self._rows = {cell: row for row, cell in enumerate(ids)}
        return self._table

    # What is shown -------------------------------------------------------------------------------------

    def groups(self) -> list[Group]:
        """Return the groups that the gallery can show, with the number of cells in each."""
        table = self.table()
        count = Counter(table["shape"].tolist())
        found = [
            Group(ALL, Review.ALL_RED_CELLS, len(table) - count[""]),
            Group(WAITING, Review.WAITING, int(table["needs_review"].sum())),
        ]
        found += [Group(name, self.display(name), count[name]) for name in self._present(count)]
        return [*found, Group(UNMEASURED, Review.UNMEASURED, count[""])]

    def _present(self, count: Counter[str]) -> list[str]:
        return self.slide.scheme.ordered([name for name in count if name])

    def sections(self, group: str, sort: str) -> list[Section]:
        """Return the red cells of a group under their headings: first those to review, then each shape.

        Parameters
        ----------
        group : str
            Name of a shape, or `ALL`, `WAITING`, `UNMEASURED`.
        sort : {"doubt", "size", "place"}

        Returns
        -------
        list of Section
        """
        table = self.table()
        shape = table["shape"].to_numpy(dtype=object)
        waits = table["needs_review"].to_numpy(dtype=bool)
        if group == UNMEASURED:
            return self._section("", Review.UNMEASURED, "", np.flatnonzero(shape == ""), sort)
        mine = shape != "" if group in (ALL, WAITING) else shape == group
        found = self._section("", Review.WAITING, "", np.flatnonzero(mine & waits), sort)
        if group == WAITING:
            return found
        for name in self._present(Counter(shape[mine & ~waits].tolist())):
            rows = np.flatnonzero(mine & ~waits & (shape == name))
            found += self._section(name, self.display(name), self.slide.scheme[name].colour, rows, sort)
        return found

    def _section(self, name: str, title: str, colour: str, rows: np.ndarray, sort: str) -> list[Section]:
        if not len(rows):
            return []
        part = self.table().iloc[rows]
        if sort == "size":
            key = -part["diameter_um"].to_numpy(float)
        elif sort == "place":
            line = max(1.0, self.slide.scale.red_cell_diameter_px)
            key = np.floor(part["centroid_y"].to_numpy() / line) * 1e6 + part["centroid_x"].to_numpy()
            key += part["cell_id"].to_numpy() // NUMBERS * 1e12
        else:
            key = np.nan_to_num(part["probability"].to_numpy(float))
        ids = part["cell_id"].to_numpy()[np.argsort(key, kind="stable")].tolist()
        return [Section(name, title, str(len(ids)), colour, tuple(ids))]

    def tile(self, cell_id: int) -> Tile | None:
        """Return the caption and frame of a red cell.

        Parameters
        ----------
        cell_id : int

        Returns
        -------
        Tile or None
            None if there is no such red cell.
        """
        table = self.table()
        if cell_id not in self._rows:
            return None
        row = table.iloc[self._rows[cell_id]]
        entry = self.slide.scheme[row["shape"] or RED_CELL]
        corrected, waiting = bool(row["reviewer"]), bool(row["needs_review"])
        return Tile.of_class(entry, row["shape"], float(row["probability"]), waiting, corrected)

    def buttons(self) -> list[CellClass]:
        """Return the shapes, each with its key."""
        scheme = self.slide.scheme
        keys = dict(zip(self._shapes, KEYS, strict=False))
        return [replace(scheme[name], key=keys.get(name, "")) for name in self._shapes]

    def more(self) -> list[CellClass]:
        """Return the classes of what is no red cell."""
        return [self.slide.scheme[name] for name in OTHERS]

    def classes_with_keys(self) -> list[CellClass]:
        """Return the shapes, each with its key."""
        return self.buttons()

    # What people say -----------------------------------------------------------------------------------

    def confirm(self, cell_ids: list[int]) -> None:
        """Save that the shapes shown are right; cells without a shape stay as they are.

        Parameters
        ----------
        cell_ids : list of int
        """
        table = self.table()
        by_shape: dict[str, list[int]] = {}
        for cell in cell_ids:
            if cell in self._rows:
                by_shape.setdefault(str(table["shape"].iloc[self._rows[cell]]), []).append(cell)
        for name, cells in by_shape.items():
            if name:
                self.correct(cells, name)

    def progress(self) -> tuple[int, int, str]:
        """Return the number of red cells that were looked at, the number of those to look at, and both as text."""
        table = self.table()
        done, waiting = int((table["reviewer"] != "").sum()), int(table["needs_review"].sum())
        total = done + waiting
        return done, total, plural(Review.SHAPES_REVIEWED, total, done=done)
