"""Whether the stain and the camera of a slide are like those that a model was trained on.

A single cell says little about that: cells differ. The cells of a slide say it together. Earlier layers of the network
hold the colour, the sharpness and the grain of a picture. For each cell, the mean of known cells of its class is
subtracted from the statistics of these layers, so that it does not matter which classes a slide has. What is left is
averaged over the slide. This mean is compared with that of each known laboratory. It may differ by chance (less with
more cells) and as slides of one laboratory differ from each other; the distance to the nearest laboratory is
measured in units of both together (a Mahalanobis distance under a random-effects model [1]_).

References
----------
.. [1] Laird, N. M. & Ware, J. H. (1982). Random-effects models for longitudinal data. Biometrics 38, 963-974.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh

#: Directions that are kept.
DIRECTIONS = 24
#: Fewer cells than this say too little about a slide.
LEAST_CELLS = 20
#: How many labelled cells the warning advises to adapt with.
CELLS_TO_ADAPT = 100
#: No cell counts more than this many standard deviations of single cells in a direction.
_MOST = 4.0
#: Share of the mean variance that is added to each direction, so that the covariance can be inverted.
_SHRINKAGE = 0.02
#: Least variance between slides of a laboratory, in variances of single cells: no stain is twice the same.
_LEAST_BETWEEN = 0.05


@dataclass(frozen=True)
class SlideDifference:
    """How the cells of a slide differ from known cells, on average.

    Attributes
    ----------
    cells : int
    mean : tuple of float, length K
        Empty if the model has no test of slides.
    """

    cells: int = 0
    mean: tuple[float, ...] = ()

    @classmethod
    def of(cls, differences: np.ndarray | None) -> SlideDifference:
        """Average over cells.

        Parameters
        ----------
        differences : numpy.ndarray, (N, K), or None
            As `differences` returns them.

        Returns
        -------
        SlideDifference
        """
        if differences is None or differences.size == 0:
            return cls()
        return cls(len(differences), tuple(float(one) for one in differences.mean(axis=0)))

    @classmethod
    def read(cls, record: Mapping[str, Any] | None) -> SlideDifference:
        """Read what `record` wrote.

        Parameters
        ----------
        record : mapping or None
            ``familiarity`` of a ``run.json``.

        Returns
        -------
        SlideDifference
        """
        if not record:
            return cls()
        return cls(int(record["cells"]), tuple(float(one) for one in record["mean"]))

    @classmethod
    def joined(cls, parts: Iterable[SlideDifference]) -> SlideDifference:
        """Average over the cells of several fields, or of several slides of one microscope.

        Parameters
        ----------
        parts : iterable of SlideDifference

        Returns
        -------
        SlideDifference
        """
        some = [part for part in parts if part.cells]
        if not some:
            return cls()
        count = sum(part.cells for part in some)
        total = np.sum([part.cells * np.array(part.mean) for part in some], axis=0)
        return cls(count, tuple(float(one) for one in total / count))


def differences(
    layers: np.ndarray, probabilities: np.ndarray, tensors: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Compare cells with known cells of their classes.

    Parameters
    ----------
    layers : numpy.ndarray, (N, E)
        Statistics of earlier layers.
    probabilities : numpy.ndarray, (N, C)
        Without temperature; the means of the classes are weighted with them.
    tensors : mapping of str to numpy.ndarray
        From `fit`.

    Returns
    -------
    numpy.ndarray, (N, K)
        In standard deviations of single cells of one slide; no column without the tensors.
    """
    if "slide_axes" not in tensors or layers.shape[1] == 0:
        return np.zeros((len(layers), 0))
    left = layers - probabilities @ tensors["slide_centres"]
    array: np.ndarray = np.clip(left @ tensors["slide_axes"], -_MOST, _MOST)
    return array


def distance(slide: SlideDifference, tensors: Mapping[str, np.ndarray]) -> float:
    """Measure how far a slide is from the nearest known laboratory.

    Parameters
    ----------
    slide : SlideDifference
    tensors : mapping of str to numpy.ndarray
        From `fit`.

    Returns
    -------
    float
        About 1 for slides of known laboratories, whatever their number of cells; nan without cells.
    """
    if not slide.cells or "slide_known" not in tensors:
        return float("nan")
    away = np.array(slide.mean) - tensors["slide_known"]
    expected = 1 / slide.cells + tensors["slide_between"]
    return float(np.sqrt((away**2 / expected).mean(axis=1).min()))


def fit(
    layers: np.ndarray, probabilities: np.ndarray, slides: np.ndarray, laboratories: np.ndarray
) -> dict[str, np.ndarray]:
    """Fit the reference on cells of known laboratories.

    Parameters
    ----------
    layers : numpy.ndarray, (N, E)
        Statistics of earlier layers.
    probabilities : numpy.ndarray, (N, C)
        As the model predicts them without temperature.
    slides : numpy.ndarray, (N,)
        Names of slides, or of other groups of cells whose pictures differ as those of one laboratory may.
    laboratories : numpy.ndarray, (N,)
        Name of the laboratory of each cell.

    Returns
    -------
    dict of numpy.ndarray
        Stored as ``ood.slide_*`` in the weights.
    """
    layers, probabilities = np.asarray(layers, float), np.asarray(probabilities, float)
    names = np.unique(laboratories)
    # Each laboratory counts the same, however many cells it has.
    weight = np.array([1 / np.sum(laboratories == name) for name in laboratories])
    centres = _means_of_classes(layers, probabilities, weight)
    left = layers - probabilities @ centres
    scale = left.std(axis=0) + 1e-6
    left = left / scale
    groups = [slides == name for name in np.unique(slides)]
    inside = np.concatenate([left[rows] - left[rows].mean(axis=0) for rows in groups])
    within = np.cov(inside.T)
    within += _SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    means = {name: left[laboratories == name].mean(axis=0) for name in names}
    spread = [
        left[rows].mean(axis=0) - means[laboratories[rows][0]]
        for rows in groups
        if np.sum(laboratories == laboratories[rows][0]) > rows.sum()
    ]
    # Directions in which single cells of one slide differ least are those in which slides can be told apart.
    values, vectors = eigh(np.cov(left.T) + np.eye(len(within)) * 1e-6, within)
    axes = vectors[:, np.argsort(values)[::-1][:DIRECTIONS]]
    between = np.zeros(axes.shape[1])
    if spread:
        between = np.mean([(one @ axes) ** 2 for one in spread], axis=0)
    tensors = {
        "slide_centres": centres,
        "slide_axes": axes / scale[:, None],
        "slide_known": np.stack([means[name] @ axes for name in names]),
        "slide_between": np.maximum(between, _LEAST_BETWEEN),
    }
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}


def _means_of_classes(layers: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean (C, E) of each class; of a class without cells, that of all."""
    shares = probabilities * weight[:, None]
    total = shares.sum(axis=0)
    everything = np.average(layers, axis=0, weights=weight)
    array: np.ndarray = (shares.T @ layers + 1e-3 * everything) / (total[:, None] + 1e-3)
    return array
