"""Crops that show the same picture: the same file, or one that looks the same, turned or mirrored.

Pictures are first compared by a perceptual hash (signs of the low frequencies of a cosine transform, as in
pHash), then by the correlation of small colour pictures, since cells in the middle of glass have much in
common in their low frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Side of the block of low frequencies; its signs are the hash.
FREQUENCIES = 12
#: Share of the hash's signs that may differ.
MAX_DIFFERENT = 0.12
#: Least correlation of the small colour pictures.
MIN_CORRELATION = 0.985
_ROWS = 1024


def same_pictures(hashes: Sequence[str], thumbs: np.ndarray, near: bool = True) -> np.ndarray:
    """Group crops that show the same picture.

    Parameters
    ----------
    hashes : sequence of str, length N
        Of the files: equal ones are one picture.
    thumbs : numpy.ndarray, (N, S, S, 3), uint8
        Small pictures.
    near : bool
        Whether to compare the small pictures.

    Returns
    -------
    numpy.ndarray, (N,), int
        Number of each crop's group.
    """
    _, first = np.unique(np.asarray(hashes), return_inverse=True)
    if not near or len(hashes) < 2:
        return first
    pairs = near_pairs(thumbs)
    return join(first, pairs)


def join(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Merge the groups of rows that are paired.

    Parameters
    ----------
    groups : numpy.ndarray, (N,), int
        0 or more.
    pairs : numpy.ndarray, (P, 2), int
        Rows.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count = int(groups.max(initial=-1)) + 1
    ends = groups[np.asarray(pairs, np.intp).reshape(-1, 2)]
    graph = csr_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, merged = connected_components(graph, directed=False)
    return merged[groups]


def near_pairs(thumbs: np.ndarray) -> np.ndarray:
    """Rows (P, 2) of pictures that look the same, in any of the eight turns and mirror images."""
    signs = _signs(thumbs)
    colours = _unit(thumbs)
    found = [np.zeros((0, 2), np.intp)]
    limit = signs.shape[1] * (1 - 2 * MAX_DIFFERENT)
    for turned in _turns(thumbs):
        other, their_colours = _signs(turned), _unit(turned)
        for start in range(0, len(thumbs), _ROWS):
            row, column = np.nonzero(signs[start : start + _ROWS] @ other.T >= limit)
            row += start
            ahead = row < column
            row, column = row[ahead], column[ahead]
            alike = np.einsum("nd,nd->n", colours[row], their_colours[column]) >= MIN_CORRELATION
            found.append(np.stack([row[alike], column[alike]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _turns(thumbs: np.ndarray) -> list[np.ndarray]:
    mirrored = thumbs[:, :, ::-1]
    return [np.rot90(side, turn, (1, 2)) for side in (thumbs, mirrored) for turn in range(4)]


def _signs(thumbs: np.ndarray) -> np.ndarray:
    """Perceptual hash (N, D) of -1 and 1."""
    from scipy.fft import dctn

    grey = np.asarray(thumbs, np.float32).mean(axis=3)
    low = dctn(grey, axes=(1, 2))[:, :FREQUENCIES, :FREQUENCIES].reshape(len(grey), -1)[:, 1:]
    return np.where(low > 0, 1, -1).astype(np.float32)


def _unit(thumbs: np.ndarray) -> np.ndarray:
    """Colour pictures as vectors of length 1 and mean 0; a picture of one colour alone is its own."""
    flat = np.asarray(thumbs, np.float32).reshape(len(thumbs), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
