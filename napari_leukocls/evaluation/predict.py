"""Predictions of labelled crops by one or several models."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.analysis.engine import cached_classifier
from napari_leukocls.classification.classifier import join_kinds
from napari_leukocls.classification.dataset import Dataset, read_dataset, truth_of
from napari_leukocls.classification.single_cell import common_scales, cut_labelled
from napari_leukocls.config import check_um_per_px
from napari_leukocls.device import resolve_device
from napari_leukocls.evaluation.metrics import classification_metrics
from napari_leukocls.evaluation.report import details_of, predictions_table
from napari_leukocls.models.provenance import note_seen
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import CancelToken, Progress, Steps, drain
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.types import Predictions

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.evaluation.report import Details
    from napari_leukocls.models.crop_rule import CropRule
    from napari_leukocls.segmentation.compact import CompactSegmenter

log = logging.getLogger(__name__)

#: Crops that are classified in one batch.
BATCH = 64
#: Crops that are kept to time models on.
SAMPLES = 64


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of one model for crops.

    Attributes
    ----------
    predictions : Predictions
    uncalibrated : numpy.ndarray, (N, C)
        Probabilities without the model's temperature.
    features : numpy.ndarray, (N, D)
        Inputs of the last layer.
    needs_review : numpy.ndarray, (N,), bool
    """

    predictions: Predictions
    uncalibrated: np.ndarray
    features: np.ndarray
    needs_review: np.ndarray


@dataclass(frozen=True)
class DatasetOutputs:
    """The outputs of several models for the same crops.

    Attributes
    ----------
    models : list of ModelOutputs
        One a model; rows are in the order of the crops.
    notes : list of str
        How the scale was found.
    samples : list of numpy.ndarray
        A few crops as each model gets them, taken evenly from all.
    """

    models: list[ModelOutputs]
    notes: list[str]
    samples: list[np.ndarray]


def read_crops(data: str | Path) -> Steps[Dataset]:
    """Read the labelled crops that models are measured on, and warn of those that cannot be read.

    Parameters
    ----------
    data : path-like
        Labelled crops. Of a table with a column ``split``, the rows of the test part alone are used.

    Yields
    ------
    Progress

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there are none, or more than 5 % cannot be read.
    """
    dataset = yield from read_dataset(data, test_only=True)
    for note in dataset.notes:
        log.warning(note)
    for file in dataset.skipped:
        log.warning("%s is no readable image and was skipped.", file)
    return dataset


def assess(
    model: str,
    data: str | Path,
    device: str,
    um_per_px: float | None,
    cancel: CancelToken | None = None,
) -> Generator[Progress, None, tuple[pd.DataFrame, dict[str, Any], Details]]:
    """Classify labelled crops and measure the predictions.

    Parameters
    ----------
    model : str
        Name or folder.
    data : path-like
        Labelled crops.
    device : str
    um_per_px : float or None
        Pixel size of the crops whose row states none.
    cancel : CancelToken, optional

    Yields
    ------
    Progress

    Returns
    -------
    table : pandas.DataFrame
        As ``predictions.csv``.
    metrics : dict
        As ``metrics.json``.
    details : Details
        What the figures need besides.
    """
    device = resolve_device(device)
    entry = find_model(model)
    classifier = cached_classifier(entry.path, device)
    dataset = yield from read_crops(data)
    dataset = replace(dataset, notes=(*dataset.notes, *note_seen(entry, dataset.crops)))
    token = cancel or CancelToken()
    outputs = yield from predict_models(dataset, [classifier], compact(device), um_per_px, token)
    return summarize(dataset, classifier, outputs.models[0], outputs.notes)


def summarize(
    dataset: Dataset, classifier: Classifier, outputs: ModelOutputs, notes: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, Any], Details]:
    """Measure a model's predictions.

    Parameters
    ----------
    dataset : Dataset
    classifier : Classifier
    outputs : ModelOutputs
        For the dataset crops, in their order.
    notes : sequence of str
        How the scale was found.

    Returns
    -------
    table, metrics, details
        As `assess` returns them.
    """
    truth = truth_of(dataset, classifier.classes)
    predictions = outputs.predictions
    metrics = classification_metrics(
        truth,
        predictions.probabilities,
        classifier.classes,
        predictions.ood_score,
        outputs.needs_review,
        temperature=classifier.card.temperature,
        groups=dataset.groups,
    )
    details = details_of(
        truth, classifier.classes, predictions.probabilities, outputs.uncalibrated, outputs.features
    )
    metrics |= details.figures
    metrics |= {
        "model": classifier.card.name,
        "weights_sha256": classifier.digest,
        "scale_notes": list(notes),
        "data_notes": list(dataset.notes),
        "skipped": dataset.skipped,
    }
    table = predictions_table(
        [crop.file for crop in dataset.crops],
        truth,
        predictions.probabilities,
        classifier.classes,
        outputs.needs_review,
        predictions.ood_score,
    )
    return table, metrics, details


def predict_models(
    dataset: Dataset,
    classifiers: Sequence[Classifier],
    segmenter: CompactSegmenter,
    um_per_px: float | None,
    token: CancelToken,
) -> Generator[Progress, None, DatasetOutputs]:
    """Cut crops and classify them with each model in batches, so that memory does not grow with the images.

    Models with the same crop rule get the same crops, which are cut once.

    Parameters
    ----------
    dataset : Dataset
    classifiers : sequence of Classifier
    segmenter : CompactSegmenter
    um_per_px : float or None
        Pixel size of the crops whose row states none.
    token : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    DatasetOutputs
    """
    rules: list[CropRule] = []
    for classifier in classifiers:
        if classifier.card.crop not in rules:
            rules.append(classifier.card.crop)

    check_um_per_px(um_per_px)
    yield Progress("scale", 0, 1, "reading the scale")
    scales, notes = _scales(dataset, rules, segmenter, um_per_px)
    for note in notes:
        log.info(note)
    parts: list[list[ModelOutputs]] = [[] for _ in classifiers]
    samples: list[list[np.ndarray]] = [[] for _ in classifiers]
    step = max(1, len(dataset.crops) // SAMPLES)
    for start in range(0, len(dataset.crops), BATCH):
        token.check()
        yield Progress("classify", start, len(dataset.crops))
        rows = range(start, min(start + BATCH, len(dataset.crops)))
        for rule in rules:
            cells = [
                cut_labelled(
                    dataset.crops[row], scales[row] if scales[row] > 0 else rule.um_per_px, segmenter, rule
                )
                for row in rows
            ]
            crops, kinds = np.stack([cell.crop for cell in cells]), np.stack([cell.kind for cell in cells])
            for i, classifier in enumerate(classifiers):
                if classifier.card.crop == rule:
                    parts[i].append(outputs_of(classifier, crops, kinds))
                    samples[i].append(crops[[row % step == 0 for row in rows]])
    return DatasetOutputs(
        [_joined(part) for part in parts], notes, [np.concatenate(part)[:SAMPLES] for part in samples]
    )


def cut_all(
    dataset: Dataset,
    rule: CropRule,
    segmenter: CompactSegmenter,
    um_per_px: float | None,
    token: CancelToken,
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """Cut all crops of a dataset by one rule, as `predict_models` does batch by batch.

    Parameters
    ----------
    dataset : Dataset
    rule : CropRule
    segmenter : CompactSegmenter
    um_per_px : float or None
        Pixel size of the crops whose row states none.
    token : CancelToken

    Yields
    ------
    Progress

    Returns
    -------
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    kinds : numpy.ndarray, (N, 3)
        The segmenter's votes for the kind of each cell.
    """
    yield Progress("scale", 0, 1, "reading the scale")
    scales, _ = _scales(dataset, [rule], segmenter, um_per_px)
    cells = []
    for row, crop in enumerate(dataset.crops):
        token.check()
        yield Progress("cut", row, len(dataset.crops))
        scale = scales[row] if scales[row] > 0 or rule.whole_image else rule.um_per_px
        cells.append(cut_labelled(crop, scale, segmenter, rule))
    return np.stack([cell.crop for cell in cells]), np.stack([cell.kind for cell in cells])


def _scales(
    dataset: Dataset, rules: Sequence[CropRule], segmenter: CompactSegmenter, um_per_px: float | None
) -> tuple[list[float], list[str]]:
    """Pixel size of each crop; NaN where nothing shows it, and each model then uses its own scale."""
    if all(rule.whole_image for rule in rules) and all(crop.box is None for crop in dataset.crops):
        stated = [float("nan") if crop.um_per_px is None else crop.um_per_px for crop in dataset.crops]
        return stated, ["the images were taken whole, as the models take them."]
    given = [um_per_px if crop.um_per_px is None else crop.um_per_px for crop in dataset.crops]
    return common_scales(
        [crop.file for crop in dataset.crops],
        dataset.sizes,
        lambda row: dataset.crops[row].surroundings(),
        given,
        float("nan"),
        segmenter,
    )


def outputs_of(classifier: Classifier, crops: np.ndarray, kinds: np.ndarray) -> ModelOutputs:
    """Classify crops.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    kinds : numpy.ndarray, (N, 3)
        The segmenter's votes for the kind of each cell.

    Returns
    -------
    ModelOutputs
    """
    found = drain(classifier.look(crops))
    predictions = join_kinds(classifier.conclude(found), kinds)
    raw = join_kinds(classifier.conclude(found, temperature=1.0), kinds)
    unsure = predictions.probabilities.max(axis=1) < classifier.card.review_threshold
    strange = predictions.ood_score >= predictions.ood_threshold
    return ModelOutputs(predictions, raw.probabilities, found.features, unsure | strange)


def _joined(parts: Sequence[ModelOutputs]) -> ModelOutputs:
    predictions = replace(
        parts[0].predictions,
        probabilities=np.concatenate([part.predictions.probabilities for part in parts]),
        ood_score=np.concatenate([part.predictions.ood_score for part in parts]),
    )
    return ModelOutputs(
        predictions,
        np.concatenate([part.uncalibrated for part in parts]),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.needs_review for part in parts]),
    )
