"""Classifiers measured on labelled crops, cut exactly as analysis cuts them."""

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
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import CancelToken, Progress, Steps, drain
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.types import Predictions

if TYPE_CHECKING:
    import pandas as pd

    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.evaluation.report import Details
    from napari_leukocls.models.card import CropRule
    from napari_leukocls.segmentation.compact import CompactSegmenter

log = logging.getLogger(__name__)

#: Crops classified together.
BATCH = 64
#: Crops that are kept to time models on.
SAMPLES = 64


@dataclass(frozen=True)
class Seen:
    """What one model says of crops.

    Attributes
    ----------
    predictions : Predictions
    uncalibrated : numpy.ndarray, (N, C)
        Probabilities without the model's temperature.
    features : numpy.ndarray, (N, D)
        Of the layer before the last.
    needs_review : numpy.ndarray, (N,), bool
    """

    predictions: Predictions
    uncalibrated: np.ndarray
    features: np.ndarray
    needs_review: np.ndarray


@dataclass(frozen=True)
class Looks:
    """What several models say of the same crops.

    Attributes
    ----------
    seen : list of Seen
        One a model, in the order of the crops.
    notes : list of str
        How the scale was found.
    samples : list of numpy.ndarray
        A few crops as each model sees them, taken evenly from all.
    """

    seen: list[Seen]
    notes: list[str]
    samples: list[np.ndarray]


def read_crops(data: str | Path) -> Steps[Dataset]:
    """Read the labelled crops that models are measured on, and warn of those that cannot be read.

    Parameters
    ----------
    data : path-like
        Labelled crops; of a table with a column ``split`` those of the test part alone.

    Yields
    ------
    Progress

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there is none, or more than 5 % cannot be read.
    """
    dataset = yield from read_dataset(data, test_only=True)
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
    details : Details
        What the figures show beside these.
    """
    place = resolve_device(device)
    classifier = cached_classifier(find_model(model).path, place)
    dataset = yield from read_crops(data)
    token = cancel or CancelToken()
    looks = yield from predict_models(dataset, [classifier], compact(place), um_per_px, token)
    return summarize(dataset, classifier, looks.seen[0], looks.notes)


def summarize(
    dataset: Dataset, classifier: Classifier, seen: Seen, notes: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict[str, Any], Details]:
    """Measure a model's predictions; as `assess` returns it."""
    truth = truth_of(dataset, classifier.classes)
    predictions = seen.predictions
    metrics = classification_metrics(
        truth,
        predictions.probabilities,
        classifier.classes,
        predictions.ood_score,
        seen.needs_review,
        temperature=classifier.card.temperature,
        groups=dataset.groups,
    )
    details = details_of(
        truth, classifier.classes, predictions.probabilities, seen.uncalibrated, seen.features
    )
    metrics |= details.figures
    metrics |= {
        "model": classifier.card.name,
        "weights_sha256": classifier.digest,
        "scale_notes": list(notes),
        "skipped": dataset.skipped,
    }
    table = predictions_table(
        [crop.file for crop in dataset.crops],
        truth,
        predictions.probabilities,
        classifier.classes,
        seen.needs_review,
        predictions.ood_score,
    )
    return table, metrics, details


def predict_models(
    dataset: Dataset,
    classifiers: Sequence[Classifier],
    segmenter: CompactSegmenter,
    um_per_px: float | None,
    token: CancelToken,
) -> Generator[Progress, None, Looks]:
    """Cut crops and show them to models in batches, so that memory does not grow with the images.

    Models with the same crop rule see the very same crops, which are cut once.

    Returns
    -------
    Looks
    """
    rules: list[CropRule] = []
    for classifier in classifiers:
        if classifier.card.crop not in rules:
            rules.append(classifier.card.crop)

    check_um_per_px(um_per_px)
    yield Progress("scale", 0, 1, "reading the scale")
    given = [um_per_px if crop.um_per_px is None else crop.um_per_px for crop in dataset.crops]
    # Where there is no red cell each model falls back on its own scale.
    scales, notes = common_scales(
        dataset.sizes, lambda row: dataset.crops[row].pixels(), given, float("nan"), segmenter
    )
    for note in notes:
        log.info(note)
    parts: list[list[Seen]] = [[] for _ in classifiers]
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
            for place, classifier in enumerate(classifiers):
                if classifier.card.crop == rule:
                    parts[place].append(look(classifier, crops, kinds))
                    samples[place].append(crops[[row % step == 0 for row in rows]])
    return Looks(
        [_joined(part) for part in parts], notes, [np.concatenate(part)[:SAMPLES] for part in samples]
    )


def look(classifier: Classifier, crops: np.ndarray, kinds: np.ndarray) -> Seen:
    """Show crops (N, side, side, 3) with the segmenter's votes (N, 3) to a model."""
    logits, features = drain(classifier.outputs(crops))
    predictions = join_kinds(classifier.conclude(logits, features), kinds)
    raw = join_kinds(classifier.conclude(logits, features, temperature=1.0), kinds)
    unsure = predictions.probabilities.max(axis=1) < classifier.card.review_threshold
    strange = predictions.ood_score >= predictions.ood_threshold
    return Seen(predictions, raw.probabilities, features, unsure | strange)


def _joined(parts: Sequence[Seen]) -> Seen:
    predictions = replace(
        parts[0].predictions,
        probabilities=np.concatenate([part.predictions.probabilities for part in parts]),
        ood_score=np.concatenate([part.predictions.ood_score for part in parts]),
    )
    return Seen(
        predictions,
        np.concatenate([part.uncalibrated for part in parts]),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.needs_review for part in parts]),
    )
