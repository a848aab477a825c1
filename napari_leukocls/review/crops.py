"""Pictures of cells in the store, and corrected cells as training crops."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Connection

from napari_leukocls.classification.crop_table import MASKS_FOLDER, crop_cells
from napari_leukocls.classification.crops import cut_window, window_around
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.classification.single_cell import CONTEXT_UM
from napari_leukocls.errors import LeukoclsError
from napari_leukocls.io.atomic import atomic_bytes, make_folder
from napari_leukocls.io.serialise import write_table
from napari_leukocls.models.card import read_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import find_model
from napari_leukocls.review import cases, counting, schema, signing
from napari_leukocls.review.schema import analyses, cells, corrections, crops, slides
from napari_leukocls.review.slides import model_of
from napari_leukocls.scheme import Scheme
from napari_leukocls.segmentation.illumination import EvenPixels
from napari_leukocls.types import FieldResult

#: Side of the picture of a cell if the scale is not known, pixels.
UNSCALED_PX = 256
#: Longest side of a stored picture, pixels.
MAX_PX = 640
#: Grey level around an image whose glass has no colour.
_OUTSIDE = 235.0


@dataclass(frozen=True)
class StoredCrop(LabelledCrop):
    """A labelled crop whose image and outline are in the store and not in files.

    Attributes
    ----------
    image : bytes
        PNG with the surroundings of the cell; the centre of its box is the centre of the picture.
    mask : bytes
        PNG, 0 or 255: the cell in `image`.
    cell_id : int
    predicted_class : str
        Class that the model predicted.
    reviewer : str
        Who corrected the cell; "" for a cell of a signed slide that nobody corrected.
    key : str
        Of the slide.
    """

    image: bytes = b""
    mask: bytes = b""
    cell_id: int = 0
    predicted_class: str = ""
    reviewer: str = ""
    key: str = ""

    def raw(self) -> bytes:
        """Return the image as PNG."""
        return self.image

    def pixels(self) -> np.ndarray:
        """The picture.

        Returns
        -------
        numpy.ndarray, (h, w, 3), uint8
        """
        return decode_png(self.image)

    def raw_mask(self) -> bytes:
        """Return the mask as PNG."""
        return self.mask

    def cell_mask(self) -> np.ndarray:
        """Return the mask of the cell, (h, w) uint8, 0 or 255."""
        return decode_png(self.mask)


@dataclass(frozen=True)
class CropTable:
    """Labelled crops, sorted by ``file``."""

    rows: tuple[StoredCrop, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[StoredCrop]:
        return iter(self.rows)

    def class_counts(self) -> dict[str, int]:
        """The number of crops of each class, largest first."""
        return dict(Counter(row.class_name for row in self.rows).most_common())

    def to_frame(self) -> pd.DataFrame:
        """``file, class, patient, slide, um_per_px, predicted_class, reviewer``, without the pictures."""
        names = ("file", "class", "patient", "slide", "um_per_px", "predicted_class", "reviewer")
        data = [
            (r.file, r.class_name, r.patient, r.slide, r.um_per_px, r.predicted_class, r.reviewer)
            for r in self.rows
        ]
        return pd.DataFrame(data, columns=list(names))

    def write(self, folder: str | Path) -> Path:
        """Write the crops and their outlines as PNG files, with a table that ``train`` and ``evaluate`` read.

        Parameters
        ----------
        folder : path-like
            Gets ``crops.csv``, a folder of crops for each class, and the outlines in ``masks``.

        Returns
        -------
        Path
            ``crops.csv`` in `folder`.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        target = make_folder(folder)
        table = self.to_frame()
        for row in self.rows:
            for file, content in ((row.file, row.image), (f"{MASKS_FOLDER}/{row.file}", row.mask)):
                make_folder((target / file).parent)
                atomic_bytes(target / file, content)
        cells = [crop_cells(row) for row in self.rows]
        for name in ("um_per_px", "glass", "red_cell_density"):
            table[name] = [one[name] for one in cells]
        table["mask"] = [f"{MASKS_FOLDER}/{row.file}" for row in self.rows]
        return write_table(table, target / "crops.csv")


def crop_table(
    connection: Connection,
    scheme: Scheme,
    keys: Collection[str] | None,
    reviewers: Collection[str] | None,
    signed: bool,
    leave_out: Collection[str],
    shapes: bool = False,
) -> CropTable:
    """Labelled crops of the corrected cells that have a picture.

    Parameters
    ----------
    connection : Connection
    scheme : Scheme
    keys : collection of str or None
        Slides; None for all.
    reviewers : collection of str or None
        Only corrections by these people; None for all.
    signed : bool
        Whether to add the counted cells of signed slides that nobody had to correct.
    leave_out : collection of str
        Classes to leave out.
    shapes : bool
        Whether to take the shapes of red cells, and nothing else; else they are left out.

    Returns
    -------
    CropTable
    """
    of_red_cells = set(scheme.shapes())
    rows = _corrected(connection, reviewers)
    if signed:
        rows += _signed(connection, scheme)
    found = [
        _stored(row)
        for row in rows
        if (keys is None or row["key"] in keys)
        and row["class_name"] not in leave_out
        and (row["class_name"] in of_red_cells) == shapes
    ]
    return CropTable(tuple(sorted(found, key=lambda crop: crop.file)))


def _columns() -> list[Any]:
    return [
        slides.c.key,
        slides.c.slide_id,
        slides.c.slide_group,
        slides.c.patient,
        analyses.c.glass,
        analyses.c.red_cell_density,
        cells.c.cell_id,
        cells.c.predicted_class,
        crops.c.um_per_px,
        crops.c.image,
        crops.c.mask,
    ]


def _joined() -> Any:
    """The pictures of the cells of each slide's current analysis."""
    same = sa.and_(crops.c.analysis == cells.c.analysis, crops.c.cell_id == cells.c.cell_id)
    return (
        slides.join(analyses, slides.c.current_analysis == analyses.c.id)
        .join(cells, cells.c.analysis == analyses.c.id)
        .join(crops, same)
    )


def _corrected(connection: Connection, reviewers: Collection[str] | None) -> list[dict[str, Any]]:
    query = sa.select(*_columns(), corrections.c.to_class.label("class_name"), corrections.c.reviewer)
    query = query.select_from(_joined().join(corrections, corrections.c.id == cells.c.in_force))
    if reviewers is not None:
        query = query.where(corrections.c.reviewer.in_(list(reviewers)))
    return [dict(row._mapping) for row in connection.execute(query)]


def _signed(connection: Connection, scheme: Scheme) -> list[dict[str, Any]]:
    """The counted cells of signed slides that were not corrected: a person has accepted their class."""
    found: list[dict[str, Any]] = []
    for case in connection.execute(sa.select(schema.cases)).all():
        if signing.signed(connection, case, scheme) is None:
            continue
        rows = counting.counted(cases.state(connection, case, scheme), scheme, case.goal)
        mine = {(row.analysis, row.cell_id) for row in rows if row.corrected is None}
        numbers = list(cases.keys_of(connection, case))
        query = sa.select(*_columns(), cells.c.analysis).select_from(_joined())
        for row in connection.execute(query.where(cells.c.analysis.in_(numbers))):
            if (row.analysis, row.cell_id) in mine:
                found.append({**row._mapping, "class_name": row.predicted_class, "reviewer": ""})
    return found


def _stored(row: dict[str, Any]) -> StoredCrop:
    file = f"{row['class_name']}/{row['key'][:16]}-{row['cell_id']}.png"
    return StoredCrop(
        file=file,
        path=Path(file),
        class_name=row["class_name"],
        um_per_px=row["um_per_px"],
        patient=row["patient"],
        # The key separates two slides of the same name; a group joins the fields of one slide.
        slide=row["slide_group"] or f"{row['slide_id']} {row['key'][:12]}",
        image=row["image"],
        mask=row["mask"],
        cell_id=row["cell_id"],
        predicted_class=row["predicted_class"],
        reviewer=row["reviewer"] or "",
        key=row["key"],
        glass=_colour(row["glass"]),
        red_cell_density=_colour(row["red_cell_density"]),
    )


def _colour(text: str | None) -> tuple[float, float, float] | None:
    """The three numbers of a colour; NaN if it could not be measured, None if it was never stored."""
    if text is None:
        return None
    red, green, blue = (
        float("nan") if value is None else float(value) for value in json.loads(text) or (None,) * 3
    )
    return red, green, blue


def needs_picture(cells: pd.DataFrame) -> np.ndarray:
    """Which cells have a picture in the store: all except certain red cells and platelets.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    plain = cells["predicted_class"].isin(["red_cell", "platelet"]).to_numpy()
    chosen: np.ndarray = ~plain | cells["needs_review"].to_numpy(dtype=bool)
    return chosen


def has_picture(connection: Connection, analysis: int, cell_id: int) -> bool:
    """Whether the store has a picture of a cell.

    Parameters
    ----------
    connection : Connection
    analysis, cell_id : int

    Returns
    -------
    bool
    """
    query = sa.select(crops.c.cell_id).where(crops.c.analysis == analysis, crops.c.cell_id == cell_id)
    return connection.execute(query).first() is not None


def pictures(result: FieldResult, cell_ids: Iterable[int]) -> list[dict[str, Any]]:
    """Cut the pictures of cells, with the light of the image evened out.

    Parameters
    ----------
    result : FieldResult
    cell_ids : iterable of int

    Returns
    -------
    list of dict
        ``cell_id``, ``um_per_px`` (of the picture; None if the scale is not known), ``image`` and ``mask``
        (PNG).
    """
    table = result.cells.set_index("cell_id")
    scale = float(result.um_per_px)
    native = scale if math.isfinite(scale) and scale > 0 else None
    rule = _window_rule(native, _model_um_per_px(result))
    glass = np.asarray(result.segmentation.glass_colour, float)
    outside = list(glass) if np.isfinite(glass).all() else [_OUTSIDE] * 3
    evened = EvenPixels(result.image.pixels, result.segmentation.light)
    found = []
    for cell_id in cell_ids:
        row = table.loc[cell_id]
        box = [int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1")]
        image, mask = _cut(evened, result.labels, int(cell_id), box, native or 1.0, rule, outside)
        found.append(
            {
                "cell_id": int(cell_id),
                "um_per_px": rule.um_per_px if native else None,
                "image": encode_png(image),
                "mask": encode_png(mask),
            }
        )
    return found


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode pixels as PNG.

    Parameters
    ----------
    pixels : numpy.ndarray, (h, w) or (h, w, 3), uint8

    Returns
    -------
    bytes
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decode a picture from the store.

    Parameters
    ----------
    data : bytes
        PNG.

    Returns
    -------
    numpy.ndarray, (h, w) or (h, w, 3), uint8
    """
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        pixels: np.ndarray = np.asarray(picture)
    return pixels


def _model_um_per_px(result: FieldResult) -> float:
    """Pixel size of the crops of the classifier, um; that of the usual rule if the model is not installed."""
    name, _ = model_of(result, "classifier")
    try:
        return read_card(find_model(name).path).crop.um_per_px
    except LeukoclsError:
        # The model may have been removed; the picture is useful at any scale.
        return CropRule().um_per_px


def _window_rule(native: float | None, model: float) -> CropRule:
    """A window of `CONTEXT_UM`, at the scale of the model, or of the image if that is coarser."""
    if native is None:
        return CropRule(float(UNSCALED_PX), UNSCALED_PX, None, None)
    side = min(MAX_PX, max(16, round(CONTEXT_UM / max(native, model))))
    return CropRule(CONTEXT_UM, side, None, None)


def _cut(
    evened: EvenPixels,
    labels: np.ndarray,
    cell_id: int,
    box: list[int],
    um_per_px: float,
    rule: CropRule,
    outside: list[float],
) -> tuple[np.ndarray, np.ndarray]:
    centre = ((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2)
    reach = rule.side_um / um_per_px / 2 + 2
    near, local = window_around(centre, reach, labels.shape)
    pixels = evened[near]
    mask = (np.asarray(labels[near]) == cell_id).astype(np.uint8) * 255
    return (
        cut_window(pixels, local, um_per_px, rule, outside),
        cut_window(mask, local, um_per_px, rule, [0.0]),
    )
