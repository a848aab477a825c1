"""Heatmaps of the cells of an analysed smear, for the canvas and for the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.classification.crops import cut_crops
from napari_leukocls.classification.single_cell import mask_in_crop
from napari_leukocls.errors import ArgumentError
from napari_leukocls.explanation import cam, morphology
from napari_leukocls.explanation.report import Explained, strip
from napari_leukocls.measurement.nuclei import nuclear_shares
from napari_leukocls.progress import Steps, drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.illumination import EvenPixels
from napari_leukocls.types import FieldResult

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.classification.classifier import Classifier

_BOX = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]


def rows_of(result: FieldResult, cell_ids: Iterable[int]) -> pd.DataFrame:
    """Return the rows of cells, in the given order.

    Parameters
    ----------
    result : FieldResult
    cell_ids : iterable of int

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ArgumentError
        If a cell does not exist.
    """
    table = result.cells.set_index("cell_id", drop=False)
    wanted = list(cell_ids)
    missing = [cell for cell in wanted if cell not in table.index]
    if missing:
        raise ArgumentError(f"{result.slide_id} has no cell {missing[0]}: choose one of its table.")
    return table.loc[wanted]


def crops_of(result: FieldResult, classifier: Classifier, rows: pd.DataFrame) -> np.ndarray:
    """Cut the crops of cells exactly as the analysis cuts them.

    Parameters
    ----------
    result : FieldResult
    classifier : Classifier
    rows : pandas.DataFrame
        Of ``result.cells``.

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px, 3), uint8

    Returns
    -------
    numpy.ndarray, (N, side_px, side_px, 3), uint8
    """
    segmentation = result.segmentation
    return cut_crops(
        EvenPixels(result.image.pixels, segmentation.light),
        segmentation.labels,
        rows["cell_id"].to_numpy(),
        rows[_BOX].to_numpy(),
        segmentation.scale.um_per_px,
        segmentation.glass_colour,
        classifier.card.crop,
        segmentation.red_cell_density,
    )


def targets_of(classifier: Classifier, names: Sequence[str], crops: np.ndarray) -> np.ndarray:
    """Return the columns of classes in the classifier's probabilities.

    Parameters
    ----------
    classifier : Classifier
    names : sequence of str, length N
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8

    Returns
    -------
    numpy.ndarray, (N,), int
        For a class that the classifier does not know, the class that it predicts for the crop.
    """
    targets = np.array([classifier.classes.index(n) if n in classifier.classes else -1 for n in names], int)
    unknown = np.flatnonzero(targets < 0)
    if len(unknown):
        targets[unknown] = classifier.predict(crops[unknown]).probabilities.argmax(axis=1)
    return targets


def iter_smear_heatmap(
    result: FieldResult,
    classifier: Classifier,
    cell_ids: Iterable[int],
    target: str | None = None,
    method: str | None = None,
    masked: bool = False,
    how: str = "max",
) -> Steps[np.ndarray]:
    """Draw the heatmaps of cells and put them at their positions on the smear.

    Parameters
    ----------
    result : FieldResult
    classifier : Classifier
    cell_ids : iterable of int
    target : str, optional
        Class that is explained; by default each cell's predicted class.
    method : str, optional
        One of `napari_leukocls.explanation.cam.METHODS`; by default the card's own.
    masked : bool
        Whether each map is limited to the outline of its cell.
    how : {"max", "mean"}
        How overlapping maps are combined.

    Yields
    ------
    Progress
        Cells done, and how many there are.

    Returns
    -------
    numpy.ndarray, (H, W), float32
        0 to 1.

    Raises
    ------
    ArgumentError
        If a cell, the class or the method does not exist.
    """
    rows = rows_of(result, cell_ids)
    if target is not None and target not in classifier.classes:
        raise ArgumentError(
            f"{classifier.card.name} knows no {target}: choose one of {', '.join(classifier.classes)}."
        )
    crops = crops_of(result, classifier, rows)
    names = [target or str(name) for name in rows["predicted_class"]]
    targets = targets_of(classifier, names, crops)
    maps = yield from cam.iter_heatmaps(classifier, crops, targets, method)
    windows = cam.cell_windows(rows, result.um_per_px, classifier.card.crop)
    return cam.compose(result.labels.shape[:2], maps, windows, result.labels if masked else None, how)


def smear_heatmap(
    result: FieldResult,
    classifier: Classifier,
    cell_ids: Iterable[int],
    target: str | None = None,
    method: str | None = None,
    masked: bool = False,
    how: str = "max",
) -> np.ndarray:
    """Do the same as `iter_smear_heatmap`, without progress.

    Parameters
    ----------
    result : FieldResult
    classifier : Classifier
    cell_ids, target, method, masked, how
        As for `iter_smear_heatmap`.

    Returns
    -------
    numpy.ndarray, (H, W), float32
        0 to 1.

    Raises
    ------
    ArgumentError
        As `iter_smear_heatmap`.
    """
    return drain(iter_smear_heatmap(result, classifier, cell_ids, target, method, masked, how))


def explained_cells(
    result: FieldResult,
    classifier: Classifier,
    rows: pd.DataFrame,
    method: str | None = None,
    folder: Any = None,
) -> list[Explained]:
    """Return cells with the heatmaps of their predicted classes, and their morphology in words.

    Parameters
    ----------
    result : FieldResult
    classifier : Classifier
    rows : pandas.DataFrame
        Of ``result.cells``.
    method : str, optional
        One of `napari_leukocls.explanation.cam.METHODS`; by default the card's own.
    labels : array-like, (H, W), optional
        Where the result does not hold the labels, as for a whole slide.
    folder : Path, optional
        Of the model, for its morphology.

    Returns
    -------
    list of Explained
        In the order of the rows.
    """
    crops = crops_of(result, classifier, rows)
    names = [str(name) for name in rows[_predicted(rows)]]
    targets = targets_of(classifier, names, crops)
    maps = cam.heatmaps(classifier, crops, targets, method)
    descriptions = morphology.describe(classifier, crops, folder)
    rule, um_per_px = classifier.card.crop, result.um_per_px
    shares = nuclear_shares(result.image.pixels, result.labels, rows["cell_id"].to_numpy())
    return [
        Explained(
            name=f"cell {int(row['cell_id'])}",
            crop=crop,
            heatmap=heat,
            class_name=classifier.classes[i],
            probability=float(row.get(f"prob_{classifier.classes[i]}", row["probability"])),
            mask=mask_in_crop(
                result.labels, int(row["cell_id"]), [row[side] for side in _BOX], um_per_px, rule
            ),
            words=morphology.words(description, float(share)),
        )
        for row, crop, heat, i, description, share in zip(
            rows.to_dict("records"), crops, maps, targets, descriptions, shares, strict=True
        )
    ]


def surest_cells(cells: pd.DataFrame, per_class: int, classes: Sequence[str]) -> pd.DataFrame:
    """Return the most probable cells of each leukocyte class.

    Parameters
    ----------
    cells : pandas.DataFrame
    per_class : int
        Largest number of cells of each class.
    classes : sequence of str
        Of the classifier.

    Returns
    -------
    pandas.DataFrame
        By class, most probable first.
    """
    scheme = default_scheme()
    shown = [name for name in classes if name in scheme and scheme[name].kind in ("leukocyte", "nucleated")]
    column = _predicted(cells)
    known = cells[cells[column].isin(shown)]
    ordered = known.sort_values([column, "probability", "cell_id"], ascending=[True, False, True])
    return ordered.groupby(column, sort=True).head(per_class)


def _predicted(cells: pd.DataFrame) -> str:
    """Name of the column of the predicted class: whole slides keep ``class`` alone."""
    return "predicted_class" if "predicted_class" in cells else "class"


def report_cells(result: FieldResult, classifier: Classifier, per_class: int) -> list[dict[str, Any]]:
    """Return the heatmaps for a report: the most probable cells of each leukocyte class.

    Parameters
    ----------
    result : FieldResult
    classifier : Classifier
    per_class : int
        Largest number of cells of each class.

    Returns
    -------
    list of dict
        ``id``, ``class``, ``probability``, ``words``, and ``picture``: crop, map and overlay, (h, 3 w, 3)
        uint8.
    """
    rows = surest_cells(result.cells, per_class, classifier.classes) if per_class else result.cells[:0]
    if len(rows) == 0:
        return []
    cells = explained_cells(result, classifier, rows)
    return [
        {
            "id": int(number),
            "class": cell.class_name,
            "probability": cell.probability,
            "words": cell.words,
            "picture": strip(cell),
        }
        for number, cell in zip(rows["cell_id"], cells, strict=True)
    ]
