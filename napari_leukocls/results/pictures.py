"""Pictures of single cells and small charts, inside the page of a report."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from napari_leukocls.measurement.differential import settled
from napari_leukocls.measurement.fine import shown_classes, shown_probability
from napari_leukocls.results.overlay import jpeg
from napari_leukocls.scheme import Scheme, whole_class
from napari_leukocls.types import FieldResult

#: Pictures of all cells, and those of the first page: typical ones of a class, typical ones altogether, flagged ones.
MAX_CROPS = 60
PER_CLASS, MAX_TYPICAL, MAX_FLAGGED = 2, 8, 8
#: Red cells of flagged shapes on the first page: of each shape, and altogether.
PER_SHAPE, MAX_SHAPES = 2, 3
_CROP_PX = 96
_PICTURE_WIDTH = 1400
_BAR = (300, 20)
_GREY = "#808080"


@dataclass(frozen=True)
class CellPicture:
    """A cell as reports show it.

    Attributes
    ----------
    cell_id : int
    field : str
        Name of the field; "" where there is one field.
    name : str
        Its class, as it is shown.
    display, short, colour : str
    probability : float
        Of that class.
    waiting : bool
        Whether it waits for review.
    reason : str
        Why it needs review; "" if it does not.
    corrected : bool
        Whether a person has given its class.
    picture : str
        Data URI.
    """

    cell_id: int
    field: str
    name: str
    display: str
    short: str
    colour: str
    probability: float
    waiting: bool
    reason: str
    corrected: bool
    picture: str


def gallery(result: FieldResult, scheme: Scheme, most: int = MAX_CROPS) -> list[CellPicture]:
    """Cut pictures of the nucleated cells and of those that need review, least certain first.

    Parameters
    ----------
    result : FieldResult
    scheme : Scheme
    most : int

    Returns
    -------
    list of CellPicture
    """
    cells = _nucleated(result, scheme)
    return _cut(result, scheme, cells.sort_values(["probability", "cell_id"], kind="stable").head(most))


def first_page_cells(
    result: FieldResult, scheme: Scheme, flagged: Sequence[str] = (), field: str = ""
) -> list[CellPicture]:
    """Cut pictures of typical cells of each class, and of those that a reader must see.

    Parameters
    ----------
    result : FieldResult
    scheme : Scheme
    flagged : sequence of str
        Classes that a rule has flagged, and shapes of red cells.
    field : str
        Name that the pictures carry.

    Returns
    -------
    list of CellPicture
        `choose_typical` and `choose_flagged` choose among those of several fields.
    """
    cells = _nucleated(result, scheme)
    by_certainty = cells.sort_values(["sure", "cell_id"], ascending=[False, True], kind="stable")
    typical = by_certainty[~by_certainty["waiting"].astype(bool)].groupby("shown", sort=False).head(PER_CLASS)
    part = np.array([_is_part(str(name), flagged, scheme) for name in cells["class"]], bool)
    doubtful = cells[cells["waiting"].to_numpy(bool) | part].sort_values(
        ["probability", "cell_id"], kind="stable"
    )
    chosen = typical.index.union(doubtful.head(MAX_FLAGGED).index, sort=False)
    return [*_cut(result, scheme, cells.loc[chosen], field), *_shapes(result, scheme, flagged, field)]


def _shapes(result: FieldResult, scheme: Scheme, flagged: Sequence[str], field: str) -> list[CellPicture]:
    """Red cells of flagged shapes, most certain first."""
    table = result.red_cells
    if table is None or not len(table):
        return []
    mine = table[table["shape"].isin([name for name in flagged if name in scheme.shapes()])]
    mine = mine.sort_values(["probability", "cell_id"], ascending=[False, True], kind="stable")
    mine = mine.groupby("shape", sort=False).head(PER_SHAPE)
    rows = mine.assign(
        shown=mine["shape"],
        sure=mine["probability"],
        waiting=mine["needs_review"],
        corrected_class=mine["reviewer"],
    )
    return _cut(result, scheme, rows, field)


def choose_typical(cells: Sequence[CellPicture], scheme: Scheme) -> list[CellPicture]:
    """Choose the most certain settled cells of each class.

    Parameters
    ----------
    cells : sequence of CellPicture
    scheme : Scheme

    Returns
    -------
    list of CellPicture
        In the order of the scheme.
    """
    order = {name: i for i, name in enumerate(scheme.names)}
    by_class: dict[str, list[CellPicture]] = {}
    for one in sorted(cells, key=lambda one: -one.probability):
        if not one.waiting and one.name not in scheme.shapes():
            by_class.setdefault(one.name, []).append(one)
    # One of each class, then a second one, as far as there is room.
    ranked = [(rank, one) for known in by_class.values() for rank, one in enumerate(known[:PER_CLASS])]
    chosen = [one for _, one in sorted(ranked, key=lambda pair: pair[0])[:MAX_TYPICAL]]
    return sorted(
        chosen, key=lambda one: (order.get(whole_class(one.name), len(order)), one.name, -one.probability)
    )


def choose_flagged(cells: Sequence[CellPicture], flagged: Sequence[str], scheme: Scheme) -> list[CellPicture]:
    """Choose cells of flagged classes, cells that wait for review, and red cells of flagged shapes.

    Parameters
    ----------
    cells : sequence of CellPicture
    flagged : sequence of str
        Classes that a rule has flagged.
    scheme : Scheme

    Returns
    -------
    list of CellPicture
    """
    least_certain = sorted(cells, key=lambda one: one.probability)
    shapes = [one for one in least_certain[::-1] if one.name in scheme.shapes()][:MAX_SHAPES]
    least_certain = [one for one in least_certain if one.name not in scheme.shapes()]
    mine = [one for one in least_certain if _is_part(one.name, flagged, scheme)]
    waiting = [one for one in least_certain if one.waiting and one not in mine]
    room = max(MAX_FLAGGED // 2, MAX_FLAGGED - len(waiting))
    return [*[*mine[:room], *waiting][: MAX_FLAGGED - len(shapes)], *shapes]


def _is_part(name: str, wanted: Sequence[str], scheme: Scheme) -> bool:
    return scheme.coarsen(whole_class(name), wanted) in set(wanted)


def _nucleated(result: FieldResult, scheme: Scheme) -> Any:
    """The cells that reports show, with their class as it is shown."""
    cells = result.cells.assign(
        shown=shown_classes(result.cells),
        sure=shown_probability(result.cells),
        waiting=~settled(result.cells),
    )
    names = cells["class"].astype(str)
    nucleated = names.map(lambda name: name in scheme and scheme[name].kind in ("leukocyte", "nucleated"))
    return cells[nucleated.astype(bool) | cells["needs_review"].astype(bool)]


def _cut(result: FieldResult, scheme: Scheme, cells: Any, field: str = "") -> list[CellPicture]:
    pictures = []
    for row in cells.to_dict("records"):
        name = str(row["shown"])
        entry = scheme[name] if name in scheme else None
        pictures.append(
            CellPicture(
                int(row["cell_id"]),
                field,
                name,
                entry.display if entry else name,
                entry.short if entry else name,
                entry.colour if entry else _GREY,
                float(row["sure"]),
                bool(row["waiting"]),
                str(row["review_reason"]),
                bool(row["corrected_class"]),
                embedded(_crop(result.image.pixels, row)),
            )
        )
    return pictures


def _crop(pixels: np.ndarray, row: dict[str, Any]) -> Image.Image:
    """A square around a cell with a quarter of its size as margin; what lies outside the image is white."""
    y0, x0, y1, x1 = (int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1"))
    half = max(4, math.ceil(0.625 * max(y1 - y0, x1 - x0)))
    top, left = (y0 + y1) // 2 - half, (x0 + x1) // 2 - half
    inner = pixels[max(top, 0) : top + 2 * half, max(left, 0) : left + 2 * half]
    square = np.full((2 * half, 2 * half, 3), 255, np.uint8)
    down, right = max(-top, 0), max(-left, 0)
    square[down : down + inner.shape[0], right : right + inner.shape[1]] = inner
    return Image.fromarray(square).resize((_CROP_PX, _CROP_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)


def reduced(picture: Image.Image) -> Image.Image:
    """Reduce a large picture to the width of a page.

    Parameters
    ----------
    picture : PIL.Image.Image

    Returns
    -------
    PIL.Image.Image
    """
    if picture.width <= _PICTURE_WIDTH:
        return picture
    size = (_PICTURE_WIDTH, max(1, round(picture.height * _PICTURE_WIDTH / picture.width)))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def embedded(picture: Image.Image) -> str:
    """Write a picture as a data URI, JPEG.

    Parameters
    ----------
    picture : PIL.Image.Image

    Returns
    -------
    str
    """
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode("ascii")


def limits_bar(percent: float, low: float, high: float, colour: str) -> str:
    """Draw a share with its limits as a bar from 0 to 100 %, which every program that shows HTML can show.

    Parameters
    ----------
    percent, low, high : float
        nan draws an empty bar.
    colour : str
        ``#rrggbb``.

    Returns
    -------
    str
        Data URI, PNG.
    """
    width, height = _BAR
    pixels = np.full((height, width, 3), 238, np.uint8)
    if all(map(math.isfinite, (percent, low, high))):
        at, left, right = (
            round(min(max(value, 0), 100) * (width - 1) / 100) for value in (percent, low, high)
        )
        pixels[3 : height - 3, : at + 1] = ImageColor.getrgb(colour)
        middle = height // 2
        for grow, shade in ((2, 255), (0, 0)):
            y = slice(middle - 1 - grow // 2, middle + 1 + grow // 2)
            pixels[y, max(left - grow, 0) : right + 1 + grow] = shade
            for x in (left, right):
                pixels[4 - grow // 2 : height - 4 + grow // 2, max(x - grow, 0) : x + 2 + grow] = shade
    buffer = BytesIO()
    Image.fromarray(pixels).quantize(16).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


__all__ = [
    "MAX_CROPS",
    "CellPicture",
    "choose_flagged",
    "choose_typical",
    "embedded",
    "first_page_cells",
    "gallery",
    "limits_bar",
    "reduced",
]
