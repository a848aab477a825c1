"""Where the tiles and headings of the gallery lie. No Qt."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle of the gallery's contents, pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Rows:
    """Tiles of one section that lie in a band: those from `first` to before `end`, by their place in the gallery."""

    section: int
    first: int
    end: int


class Arrangement:
    """Tiles of one size in sections, each below its heading.

    The first section has no heading of its own: the gallery shows the heading of the section at its upper edge above
    the tiles.

    Parameters
    ----------
    counts : sequence of int
        Number of tiles of each section.
    width : int
        Of the gallery, pixels.
    tile : tuple of int
        Width and height of a tile, pixels.
    heading : int
        Height of a heading, pixels.
    """

    def __init__(self, counts: Sequence[int], width: int, tile: tuple[int, int], heading: int) -> None:
        self.counts = tuple(counts)
        self.tile = tile
        self.heading = heading
        self.width = width
        self.columns = max(1, width // tile[0])
        #: Place of the first tile, and upper edge of the heading, of each section.
        self.starts: list[int] = []
        self.tops: list[int] = []
        start = top = 0
        for i, count in enumerate(self.counts):
            self.starts.append(start)
            self.tops.append(top)
            start += count
            top += self._heading(i) + -(-count // self.columns) * tile[1]
        self.height = top
        self.total = start

    def _heading(self, section: int) -> int:
        return self.heading if section else 0

    def section_of(self, place: int) -> int:
        """Return the section of a tile.

        Parameters
        ----------
        place : int
            Of the tile in the gallery, from 0.
        """
        section = bisect_right(self.starts, place) - 1
        # Sections without tiles start where the next one does.
        while section and not self.counts[section]:
            section -= 1
        return section

    def section_at(self, y: int) -> int:
        """Return the section at a height; that of the last tile below all of them.

        Parameters
        ----------
        y : int
        """
        return max(0, bisect_right(self.tops, y) - 1)

    def box(self, place: int) -> Box:
        """Return where a tile lies.

        Parameters
        ----------
        place : int
        """
        section = self.section_of(place)
        row, column = divmod(place - self.starts[section], self.columns)
        width, height = self.tile
        top = self.tops[section] + self._heading(section)
        return Box(column * width, top + row * height, width, height)

    def heading_box(self, section: int) -> Box:
        """Return where the heading of a section lies; it has no height for the first.

        Parameters
        ----------
        section : int
        """
        return Box(0, self.tops[section], self.width, self._heading(section))

    def place_at(self, x: int, y: int) -> int | None:
        """Return the tile at a point.

        Parameters
        ----------
        x, y : int

        Returns
        -------
        int or None
            None between tiles and on headings.
        """
        if not self.counts or y < 0 or x < 0:
            return None
        section = self.section_at(y)
        row = (y - self.tops[section] - self._heading(section)) // self.tile[1]
        column = x // self.tile[0]
        if row < 0 or column >= self.columns:
            return None
        inside = row * self.columns + column
        return self.starts[section] + inside if inside < self.counts[section] else None

    def heading_at(self, y: int) -> int | None:
        """Return the section whose heading is at a height, if any.

        Parameters
        ----------
        y : int
        """
        section = self.section_at(y)
        inside = bool(self.counts) and 0 <= y - self.tops[section] < self._heading(section)
        return section if inside else None

    def within(self, top: int, bottom: int) -> list[Rows]:
        """Return the tiles whose rows meet a band.

        Parameters
        ----------
        top, bottom : int
            Half-open.

        Returns
        -------
        list of Rows
        """
        found = []
        for section in range(self.section_at(top), len(self.counts)):
            if self.tops[section] >= bottom:
                break
            start = self.tops[section] + self._heading(section)
            first = max(0, (top - start) // self.tile[1]) * self.columns
            end = min(self.counts[section], (max(0, bottom - start - 1) // self.tile[1] + 1) * self.columns)
            begin = self.starts[section]
            found.append(Rows(section, begin + min(first, end), begin + end))
        return found

    def beside(self, place: int, step: int) -> int:
        """Return the tile in the next or the last line, in the same column where there is one.

        Parameters
        ----------
        place : int
        step : int
            1 for the line below, -1 for the one above.
        """
        section = self.section_of(place)
        inside = place - self.starts[section]
        column = inside % self.columns
        to = inside + step * self.columns
        count = self.counts[section]
        if 0 <= to < count:
            return self.starts[section] + to
        if step > 0 and inside // self.columns < (count - 1) // self.columns:
            return self.starts[section] + count - 1
        others = range(section + 1, len(self.counts)) if step > 0 else range(section - 1, -1, -1)
        for other in others:
            n = self.counts[other]
            if n:
                line = 0 if step > 0 else (n - 1) // self.columns * self.columns
                return self.starts[other] + min(line + column, n - 1)
        return place
