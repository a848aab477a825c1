"""Common ground: predictions of models with different classes, made comparable on the same crops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

#: Column of what a model says that is none of the common classes.
OTHER = "(other)"
Coarsen = Callable[[str, Iterable[str]], str]


@dataclass(frozen=True)
class Ground:
    """Crops whose truth all models can be asked for.

    Attributes
    ----------
    classes : tuple of str, length C
    rows : numpy.ndarray, (N,), int
        Among all crops.
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    """

    classes: tuple[str, ...]
    rows: np.ndarray
    truth: np.ndarray

    @property
    def columns(self) -> tuple[str, ...]:
        """Of what `project` gives: the classes, and what is none of them."""
        return (*self.classes, OTHER)

    def count(self, place: int) -> int:
        """Crops of a class."""
        return int((self.truth == place).sum())


def common_classes(models: Sequence[Sequence[str]], coarsen: Coarsen) -> tuple[str, ...]:
    """Classes that every model knows, a finer one standing for the coarser; in the first model's order."""
    every = list(dict.fromkeys(name for classes in models for name in classes))
    return tuple(
        name
        for name in every
        if all(any(coarsen(fine, (name,)) == name for fine in classes) for classes in models)
    )


def ground_of(labels: Sequence[str], classes: Sequence[str], coarsen: Coarsen) -> Ground:
    """Crops whose label is, or is part of, one of the classes.

    Parameters
    ----------
    labels : sequence of str, length M
        True class of each crop, as fine as it is known.
    classes : sequence of str
    coarsen : callable
        As `napari_leukocls.scheme.Scheme.coarsen`.
    """
    column = {name: place for place, name in enumerate(classes)}
    index = np.array([column.get(coarsen(label, classes), -1) for label in labels], dtype=np.intp)
    rows = np.flatnonzero(index >= 0)
    return Ground(tuple(classes), rows, index[rows])


def project(
    ground: Ground, probabilities: np.ndarray, classes: Sequence[str], coarsen: Coarsen
) -> np.ndarray:
    """Bring a model's probabilities onto common ground.

    Parameters
    ----------
    ground : Ground
    probabilities : numpy.ndarray, (M, K)
        Of all crops.
    classes : sequence of str, length K
        The model's. Those that are part of a common class are added up; others go to the last column.
    coarsen : callable

    Returns
    -------
    numpy.ndarray, (N, C + 1)
    """
    column = {name: place for place, name in enumerate(ground.classes)}
    projected = np.zeros((len(ground.rows), len(ground.classes) + 1))
    for place, name in enumerate(classes):
        target = column.get(coarsen(name, ground.classes), len(ground.classes))
        projected[:, target] += probabilities[ground.rows, place]
    return projected
