"""The classes that several models have in common, and their predictions in these classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

#: Name of the last column of `project`: the classes that are not common to all models.
OTHER = "(other)"
Coarsen = Callable[[str, Iterable[str]], str]


@dataclass(frozen=True)
class SharedCrops:
    """Crops whose true class is one that all models know.

    Attributes
    ----------
    classes : tuple of str, length C
    rows : numpy.ndarray, (N,), int
        Row of each crop among all crops.
    truth : numpy.ndarray, (N,), int
        Column of the true class.
    """

    classes: tuple[str, ...]
    rows: np.ndarray
    truth: np.ndarray

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `project`: the classes, and `OTHER`."""
        return (*self.classes, OTHER)

    def count(self, column: int) -> int:
        """Count the crops of a class.

        Parameters
        ----------
        column : int
            Of the class.

        Returns
        -------
        int
        """
        return int((self.truth == column).sum())


def common_classes(models: Sequence[Sequence[str]], coarsen: Coarsen) -> tuple[str, ...]:
    """Find the classes that every model knows, in the first model's order.

    A model that knows only finer classes of a coarse class (as band and segmented neutrophils) knows the coarse one.

    Parameters
    ----------
    models : sequence of sequence of str
        Classes of each model.
    coarsen : callable
        As `napari_leukocls.scheme.Scheme.coarsen`.

    Returns
    -------
    tuple of str
    """
    every = list(dict.fromkeys(name for classes in models for name in classes))
    return tuple(
        name
        for name in every
        if all(any(coarsen(fine, (name,)) == name for fine in classes) for classes in models)
    )


def shared_crops(labels: Sequence[str], classes: Sequence[str], coarsen: Coarsen) -> SharedCrops:
    """Find the crops whose label is one of the classes, or a finer class of one.

    Parameters
    ----------
    labels : sequence of str, length M
        True class of each crop, as fine as it is known.
    classes : sequence of str
    coarsen : callable
        As `napari_leukocls.scheme.Scheme.coarsen`.

    Returns
    -------
    SharedCrops
    """
    column = {name: i for i, name in enumerate(classes)}
    index = np.array([column.get(coarsen(label, classes), -1) for label in labels], dtype=np.intp)
    rows = np.flatnonzero(index >= 0)
    return SharedCrops(tuple(classes), rows, index[rows])


def project(
    shared: SharedCrops, probabilities: np.ndarray, classes: Sequence[str], coarsen: Coarsen
) -> np.ndarray:
    """Convert a model's probabilities to the common classes.

    Parameters
    ----------
    shared : SharedCrops
    probabilities : numpy.ndarray, (M, K)
        Of all crops.
    classes : sequence of str, length K
        Of the model. Finer classes of a common class are added up; all others go to the last column.
    coarsen : callable
        As `napari_leukocls.scheme.Scheme.coarsen`.

    Returns
    -------
    numpy.ndarray, (N, C + 1)
    """
    column = {name: i for i, name in enumerate(shared.classes)}
    projected = np.zeros((len(shared.rows), len(shared.classes) + 1))
    for i, name in enumerate(classes):
        target = column.get(coarsen(name, shared.classes), len(shared.classes))
        projected[:, target] += probabilities[shared.rows, i]
    return projected
