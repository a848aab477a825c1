"""A map of cells: features before the last layer, in two dimensions, and how well classes part there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from napari_leukocls.errors import ArgumentError

#: Cells on a map: more make it no clearer, and t-SNE slow.
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
        Mean over cells of how much nearer a cell is to its own class than to the nearest other, -1 to 1; of
        these points. NaN with fewer than two classes.
    explained : tuple of float
        Share of the variance along each axis of ``pca``; empty else.
    """

    method: str
    points: np.ndarray
    labels: np.ndarray
    silhouette: float
    explained: tuple[float, ...] = ()


def chosen(n: int, limit: int = MAX_CELLS, seed: int = 0) -> np.ndarray:
    """Rows for a map: all, or `limit` of them drawn at random, in order."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette; NaN where there are fewer than two classes, or one for each cell."""
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(points, labels))


def embed(
    features: np.ndarray, labels: np.ndarray, method: Literal["tsne", "pca"] = "tsne", seed: int = 0
) -> Embedding:
    """Put cells on a map.

    Parameters
    ----------
    features : numpy.ndarray, (M, D)
    labels : array_like of str, (M,)
    method : {"tsne", "pca"}
        t-SNE shows neighbourhoods (its distances between groups mean nothing), PCA the largest variance.
    seed : int

    Raises
    ------
    ArgumentError
        Where there are fewer than four cells, or features that are no numbers.
    """
    given, names = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if len(given) < 4 or not np.isfinite(given).all():
        raise ArgumentError("a map needs four cells or more with finite features.")
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
