"""A classifier measured on labelled crops, cut exactly as analysis cuts them."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.types import CancelToken, Predictions, Progress

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.classification.dataset import LabelledCrop
    from napari_leukocls.classification.predict import Classifier
    from napari_leukocls.segmentation.compact import CompactSegmenter

log = logging.getLogger(__name__)
#: Crops classified together.
BATCH = 64


def readable(crops: list[LabelledCrop]) -> tuple[list[LabelledCrop], list[tuple[int, ...]]]:
    """Keep the crops whose files are images, with their (height, width).

    Raises
    ------
    InputError
        Where more than 5 % are none.
    """
    from PIL import Image

    from napari_leukocls.classification.dataset import MAX_UNREADABLE

    kept: list[LabelledCrop] = []
    sizes: list[tuple[int, ...]] = []
    bad: list[str] = []
    for crop in crops:
        try:
            with Image.open(crop.path) as image:
                sizes.append((image.height, image.width))
            kept.append(crop)
        except (OSError, ValueError, Image.DecompressionBombError):
            bad.append(crop.file)
    if len(bad) > MAX_UNREADABLE * len(crops):
        raise InputError(
            f"{len(bad)} of {len(crops)} crops cannot be read (first {bad[0]}): check the data's files."
        )
    for name in bad:
        log.warning("%s is no readable image and was skipped.", name)
    return kept, sizes


def assess(
    model: str,
    data: str | Path,
    device: str,
    um_per_px: float | None,
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, tuple[pd.DataFrame, dict[str, Any]]]:
    """Predict labelled crops and measure the predictions.

    Parameters
    ----------
    model : str
    data : path-like
    device : str
    um_per_px : float or None
        Of crops whose row does not say it.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    table : pandas.DataFrame
        As ``predictions.csv``.
    metrics : dict
        As ``metrics.json``, with ``scale_notes`` beside.
    """
    from napari_leukocls.classification.checkpoint import load_classifier
    from napari_leukocls.classification.dataset import read_labelled_crops
    from napari_leukocls.compute import resolve_device
    from napari_leukocls.evaluation.metrics import classification_metrics
    from napari_leukocls.evaluation.report import predictions_table
    from napari_leukocls.resources import find_model
    from napari_leukocls.scheme import default_scheme
    from napari_leukocls.segmentation.catalogue import compact

    place = resolve_device(device)
    classifier = load_classifier(find_model(model).path, place)
    scheme = default_scheme()
    crops, sizes = readable(read_labelled_crops(data, scheme))
    truth = [scheme.coarsen(crop.class_name, classifier.classes) for crop in crops]
    token = cancel or CancelToken()
    predictions, notes = yield from predict_crops(crops, sizes, classifier, compact(place), um_per_px, token)
    probability = predictions.probabilities.max(axis=1)
    review = (probability < classifier.card.review_threshold) | (
        predictions.ood_score >= predictions.ood_threshold
    )
    groups = [crop.patient or crop.slide for crop in crops]
    metrics = classification_metrics(
        truth,
        predictions.probabilities,
        classifier.classes,
        predictions.ood_score,
        review,
        temperature=classifier.card.temperature,
        groups=np.array(groups) if all(groups) else None,
    )
    metrics |= {"model": classifier.card.name, "weights_sha256": classifier.digest, "scale_notes": notes}
    files = [crop.file for crop in crops]
    table = predictions_table(
        files, truth, predictions.probabilities, classifier.classes, review, predictions.ood_score
    )
    return table, metrics


def predict_crops(
    crops: list[LabelledCrop],
    sizes: list[tuple[int, ...]],
    classifier: Classifier,
    segmenter: CompactSegmenter,
    um_per_px: float | None,
    token: CancelToken,
) -> Generator[Progress, None, tuple[Predictions, list[str]]]:
    """Cut and classify crops in batches, so that memory does not grow with their number.

    Returns
    -------
    predictions : Predictions
    notes : list of str
        How the scale was found.
    """
    from napari_leukocls.classification.predict import join_kinds
    from napari_leukocls.cutting import common_scales, cut_central
    from napari_leukocls.io.images import read_image

    def load(index: int) -> np.ndarray:
        return read_image(crops[index].path).pixels

    rule = classifier.card.crop.rule()
    yield Progress("scale", 0, 1, "reading the scale")
    given = [um_per_px if crop.um_per_px is None else crop.um_per_px for crop in crops]
    scales, notes = common_scales(sizes, load, given, rule.um_per_px, segmenter)
    for note in notes:
        log.info(note)
    parts: list[Predictions] = []
    for start in range(0, len(crops), BATCH):
        token.check()
        yield Progress("classify", start, len(crops))
        batch = [
            cut_central(load(index), scales[index], segmenter, rule)
            for index in range(start, min(start + BATCH, len(crops)))
        ]
        seen = classifier.predict(np.stack([cell.crop for cell in batch]))
        parts.append(join_kinds(seen, np.stack([cell.kind for cell in batch])))
    joined = Predictions(
        parts[0].classes,
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.ood_score for part in parts]),
        parts[0].ood_threshold,
    )
    return joined, notes
