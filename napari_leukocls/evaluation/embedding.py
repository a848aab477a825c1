"""Maps of cells: the features before the network's last layer in two dimensions, and their silhouette.

References
----------
.. [1] van der Maaten, L. and Hinton, G. (2008). Visualizing data using t-SNE. JMLR 9, 2579-2605.
.. [2] Rousseeuw, P. J. (1987). Silhouettes. J. Comput. Appl. Math. 20, 53-65.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from napari_leukocls.errors import ArgumentError

#: Most cells on a map: more make t-SNE slow and the map no clearer.
MAX_CELLS = 1000
#: Principal components that t-SNE starts from, as van der Maaten and Hinton (2008) do.
COMPONENTS = 50


@dataclass(frozen=True)
class Embedding:
    """Cells in two dimensions.

    Attributes
    ----------
    method : str
        ``tsne`` or ``pca``.
    points : numpy.ndarray, (M, 2)
    labels : numpy.ndarray, (M,), str
    silhouette : float
        Mean silhouette of these points, -1 to 1; NaN with fewer than two classes.
    explained : tuple of float
        Share of the variance along each axis of ``pca``; empty for ``tsne``.
    """

    method: str
    points: np.ndarray
    labels: np.ndarray
    silhouette: float
    explained: tuple[float, ...] = ()


def sample_rows(n: int, limit: int = MAX_CELLS, seed: int = 0) -> np.ndarray:
    """Choose the rows that are shown on a map.

    Parameters
    ----------
    n : int
        Rows in all.
    limit : int
        Most rows that are chosen.
    seed : int

    Returns
    -------
    numpy.ndarray, int
        All rows, or `limit` of them drawn at random, in ascending order.
    """
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of labelled points [2]_.

    Parameters
    ----------
    points : numpy.ndarray, (M, D)
    labels : numpy.ndarray, (M,)

    Returns
    -------
    float
        -1 to 1; NaN where there are fewer than two classes, or each point has its own.
    """
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(points, labels))


def embed(
    features: np.ndarray, labels: np.ndarray, method: Literal["tsne", "pca"] = "tsne", seed: int = 0
) -> Embedding:
    """Reduce the features of cells to two dimensions.

    Parameters
    ----------
    features : numpy.ndarray, (M, D)
    labels : array_like of str, (M,)
    method : {"tsne", "pca"}
        t-SNE shows which cells are neighbours (its distances between groups have no meaning); PCA shows the
        directions of largest variance.
    seed : int

    Returns
    -------
    Embedding

    Raises
    ------
    ArgumentError
        If there are fewer than four cells, or the features are not finite.
    """
    given, names = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if len(given) < 4 or not np.isfinite(given).all():
        raise ArgumentError("a map needs at least four cells with finite features.")
    size = min(COMPONENTS if method == "tsne" else 2, *given.shape)
    pca = PCA(size, svd_solver="full", random_state=seed)
    reduced = pca.fit_transform(given)
    if method == "pca":
        points = np.pad(reduced, ((0, 0), (0, 2 - size)))
        shares = tuple(float(share) for share in np.nan_to_num(pca.explained_variance_ratio_))
        return Embedding(method, points, names, silhouette(points, names), shares)

    perplexity = min(30.0, (len(given) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    points = np.asarray(tsne.fit_transform(reduced), dtype=np.float64)
    return Embedding(method, points, names, silhouette(points, names))
