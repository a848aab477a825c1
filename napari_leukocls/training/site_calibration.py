"""Temperature, review threshold and out-of-distribution score of a model that was adapted to a laboratory.

All are fitted on cross-validated outputs: each of the laboratory's cells as a model sees it that did not learn from its
unit. About a hundred cells are few, so the estimates are careful: the temperature is drawn towards the one before, and
the error of cells that need no review is the mean of what was counted and of what the probabilities state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.metrics import f1_score

from napari_leukocls.classification import ood
from napari_leukocls.evaluation.calibration import ece
from napari_leukocls.training.calibrate import MIN_FOR_THRESHOLD, Fitted, some_of_each

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig
    from napari_leukocls.training.feature_replay import Replay
    from napari_leukocls.training.site_layer import Layer, SiteCells

#: Standard deviation of the prior on the logarithm of the temperature, around the one before.
TEMPERATURE_SPREAD = 0.4
#: Stored cells of each old class that the out-of-distribution score is fitted on.
OLD_CELLS = 40
#: Limits of the temperature, as its logarithm.
TEMPERATURE_RANGE = (-1.5, 2.0)
#: Largest share of the cells that goes to review for its probability, if the rest then errs at most `SLACK` times as
#: often as wished.
MOST_REVIEWED = 0.2
SLACK = 2.0


def fit_on_site(
    cells: SiteCells,
    fold: np.ndarray,
    logits: np.ndarray,
    layer: Layer,
    replay: Replay,
    config: TrainConfig,
    temperature: float,
) -> Fitted:
    """Fit what decides on review, on the laboratory's own cells.

    Parameters
    ----------
    cells : SiteCells
    fold : numpy.ndarray, (N,), int
        Part of the cross-validation in which each cell was judged.
    logits : numpy.ndarray, (N, C)
        Cross-validated.
    layer : Layer
        The adapted layer.
    replay : Replay
    config : TrainConfig
        With the target error and the share of cells that may count as unknown.
    temperature : float
        Of the model before.

    Returns
    -------
    Fitted
    """
    truth = cells.classes
    fitted = site_temperature(logits, truth, temperature)
    probabilities = softmax(np.asarray(logits, float) / fitted, axis=1)
    limit, error = site_limit(probabilities, truth, config.target_error)
    tensors, scores = site_scores(cells, fold, logits, layer, replay)
    threshold = float(np.quantile(scores, 1 - config.ood_share))
    best = probabilities.max(axis=1)
    guess = probabilities.argmax(axis=1)
    review = (best < limit) | (scores >= threshold)
    figures = {
        "n": len(truth),
        "of": "this laboratory's cells, each judged without its own unit",
        "accuracy": float((guess == truth).mean()),
        "macro_f1": float(f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)),
        "ece": float(ece(probabilities, truth)),
        "review_rate": float(review.mean()),
        "accuracy_not_reviewed": float((guess == truth)[~review].mean()) if (~review).any() else None,
        "target_error": config.target_error,
        "expected_error": error,
    }
    few = len(truth) < MIN_FOR_THRESHOLD
    return Fitted(fitted, max(limit, 0.9) if few else limit, tensors, threshold, figures)


def site_temperature(logits: np.ndarray, truth: np.ndarray, before: float) -> float:
    """Fit a temperature on few cells, drawn towards the one before.

    Parameters
    ----------
    logits : numpy.ndarray, (N, C)
        Minus infinity for classes that are not in question.
    truth : numpy.ndarray, (N,), int
    before : float

    Returns
    -------
    float
    """
    raw = np.asarray(logits, float)
    rows = np.arange(len(truth))
    # A class that was not in question says nothing about the temperature.
    possible = np.isfinite(raw[rows, truth])
    raw, right = raw[possible], truth[possible]

    def cost(logarithm: float) -> float:
        scaled = raw / np.exp(logarithm)
        loss = logsumexp(scaled, axis=1) - scaled[np.arange(len(right)), right]
        return float(loss.sum() + 0.5 * ((logarithm - np.log(before)) / TEMPERATURE_SPREAD) ** 2)

    found = minimize_scalar(cost, bounds=TEMPERATURE_RANGE, method="bounded")
    return float(np.exp(found.x))


def site_limit(probabilities: np.ndarray, truth: np.ndarray, target_error: float) -> tuple[float, float]:
    """Choose the probability below which a cell goes to review.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
    target_error : float
        Share of wrong cells that is accepted among those above the limit.

    Returns
    -------
    limit : float
        The smallest that reaches the target; or, if that sends more than `MOST_REVIEWED` to review and the rest errs
        little more often, the one that sends that share there. 0.3 to 0.99.
    error : float
        Expected share of wrong cells above the limit.
    """
    best, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != truth
    limits = np.round(np.arange(0.3, 0.995, 0.01), 2)
    errors, reviewed = np.ones(len(limits)), np.ones(len(limits))
    for i, limit in enumerate(limits):
        kept = best >= limit
        reviewed[i] = 1 - kept.mean()
        if kept.any():
            errors[i] = (wrong[kept].mean() + (1 - best[kept]).mean()) / 2
    reaches = np.flatnonzero(errors <= target_error)
    first = int(reaches[0]) if len(reaches) else len(limits) - 1
    few = np.flatnonzero(reviewed <= MOST_REVIEWED)
    if len(few) and reviewed[first] > MOST_REVIEWED and errors[few[-1]] <= SLACK * target_error:
        first = int(few[-1])
    return float(limits[first]), float(errors[first])


def site_scores(
    cells: SiteCells, fold: np.ndarray, logits: np.ndarray, layer: Layer, replay: Replay
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Score each cell by how unlike the old cells and the laboratory's other cells it is.

    Parameters
    ----------
    cells : SiteCells
    fold : numpy.ndarray, (N,), int
    logits : numpy.ndarray, (N, C)
        Cross-validated.
    layer : Layer
    replay : Replay

    Returns
    -------
    tensors : dict of numpy.ndarray
        Of the score that the model keeps: the part whose cells' scores are in the middle.
    scores : numpy.ndarray, (N,)
        Each by a score that was fitted without its part.
    """
    old, old_classes = replay.rehearse()
    rows = some_of_each(np.arange(len(old)), old_classes, OLD_CELLS)
    old, old_classes = old[rows], old_classes[rows]
    checked, _ = replay.checked()
    scores = np.zeros(len(cells))
    made: list[tuple[float, dict[str, np.ndarray]]] = []
    for number in np.unique(fold):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        # The laboratory's cells come first: the score keeps the first of each class.
        features = np.concatenate([cells.plain[inside], old])
        classes = np.concatenate([cells.classes[inside], old_classes])
        some = np.unique(np.linspace(0, len(checked) - 1, min(len(checked), len(outside))).astype(np.intp))
        held_back = (
            np.concatenate([cells.plain[outside], checked[some]]),
            np.concatenate([logits[outside], layer.logits(checked[some])]),
        )
        tensors = ood.fit(features, layer.logits(features), classes, held_back)
        scores[outside] = ood.score(cells.plain[outside], logits[outside], tensors)
        made.append((float(np.median(scores[outside])), tensors))
    middle = np.argsort([value for value, _ in made])[len(made) // 2]
    return made[int(middle)][1], scores
