"""Other ways to calibrate than the model's own temperature, and what each would give on given cells.

References
----------
.. [1] Zadrozny, B. and Elkan, C. (2002). Transforming classifier scores into accurate multiclass probability
   estimates. KDD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation.calibration import brier, ece, fit_temperature


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities (N, C) by a temperature; below 1 it makes them surer."""
    from scipy.special import softmax

    logits = np.log(np.clip(np.asarray(probabilities, dtype=float), 1e-30, None))
    return softmax(logits / temperature, axis=1)


@dataclass(frozen=True)
class Isotonic:
    """A rising step-wise map for each class, instead of one temperature for all.

    It follows any miscalibration, and needs more cells than a temperature; it may change the best class.

    Attributes
    ----------
    knots : tuple of (numpy.ndarray, numpy.ndarray)
        One pair a class: probabilities, and what each becomes; linear between them.
    """

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Map probabilities (N, C) and make rows sum to 1; a row that becomes nothing stays as it was."""
        given = np.asarray(probabilities, dtype=float)
        mapped = np.stack([np.interp(given[:, k], *knots) for k, knots in enumerate(self.knots)], axis=1)
        total = mapped.sum(axis=1, keepdims=True)
        return np.where(total > 0, mapped / np.where(total > 0, total, 1), given)


def fit_isotonic(probabilities: np.ndarray, truth: np.ndarray) -> Isotonic:
    """Fit isotonic regression of each class against the others; on validation data alone [1]_.

    Raises
    ------
    ArgumentError
        Nothing to fit on, or probabilities that are no numbers.
    """
    from sklearn.isotonic import IsotonicRegression

    given = np.asarray(probabilities, dtype=float)
    if len(truth) == 0 or not np.isfinite(given).all():
        raise ArgumentError(
            "isotonic calibration needs crops and finite probabilities; check the validation set."
        )
    knots = []
    for place in range(given.shape[1]):
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            given[:, place], truth == place
        )
        knots.append((np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_, dtype=float)))
    return Isotonic(tuple(knots))


def recalibration(
    probabilities: np.ndarray, truth: np.ndarray, folds: int = 5, seed: int = 0
) -> dict[str, dict[str, float]] | None:
    """What fitting anew on these cells would give: each fold is calibrated by a fit on the others.

    Parameters
    ----------
    probabilities : numpy.ndarray, (N, C)
    truth : numpy.ndarray, (N,), int
    folds, seed : int

    Returns
    -------
    dict or None
        ``as_is``, ``temperature`` and ``isotonic``, each with ``ece``, ``brier`` and ``accuracy``; None where
        there are fewer than ten cells a fold.
    """
    from sklearn.model_selection import KFold

    if len(truth) < 10 * folds:
        return None
    given = np.asarray(probabilities, dtype=float)
    fitted = {"as_is": given, "temperature": np.empty_like(given), "isotonic": np.empty_like(given)}
    logits = np.log(np.clip(given, 1e-30, None))
    for rest, part in KFold(folds, shuffle=True, random_state=seed).split(given):
        fitted["temperature"][part] = at_temperature(given[part], fit_temperature(logits[rest], truth[rest]))
        fitted["isotonic"][part] = fit_isotonic(given[rest], truth[rest]).apply(given[part])
    return {
        name: {
            "ece": ece(values, truth),
            "brier": brier(values, truth),
            "accuracy": float((values.argmax(axis=1) == truth).mean()),
        }
        for name, values in fitted.items()
    }
