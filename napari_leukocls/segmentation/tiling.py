"""Images larger than a block: cut with halos, and put together so that each cell comes out once and whole."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage
from scipy.special import softmax

from napari_leukocls.progress import stop_here
from napari_leukocls.segmentation.base import Outlines

#: Share of a cell that lies on cells of an earlier block before it is taken for the same cell.
SAME_CELL = 0.4
#: Fewest glass pixels (network scale) for a glass colour.
MIN_GLASS = 200


@dataclass(frozen=True)
class Block:
    """A core that is owned and the window that is seen, as half-open slices in network pixels."""

    core: tuple[slice, slice]
    window: tuple[slice, slice]


def _spans(length: int, block: int, halo: int) -> list[tuple[slice, slice]]:
    count = max(1, int(np.ceil(length / block)))
    edges = np.linspace(0, length, count + 1).round().astype(int)
    return [
        (slice(int(a), int(b)), slice(max(0, int(a) - halo), min(length, int(b) + halo)))
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]


def blocks(shape: tuple[int, int], block: int, halo: int) -> list[Block]:
    """Cover an image (h, w) with equal blocks of at most `block` pixels a side.

    Parameters
    ----------
    shape : tuple of int
    block, halo : int
        Pixels; a window reaches `halo` beyond its core where the image does.
    """
    return [
        Block((core_y, core_x), (window_y, window_x))
        for core_y, window_y in _spans(shape[0], block, halo)
        for core_x, window_x in _spans(shape[1], block, halo)
    ]


class Assembly:
    """Collects the cells of blocks into one full-resolution label image.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the full-resolution image.
    factor : float
        Network pixels per pixel.
    """

    def __init__(self, shape: tuple[int, int], factor: float) -> None:
        self.shape = shape
        self.factor = factor
        self.network_shape = (max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor)))
        self._labels = np.zeros(self.network_shape, np.int32)
        self._votes: list[np.ndarray] = []
        self._doubtful: list[bool] = []
        self._sums = np.zeros((1, 5))
        self._glass: list[np.ndarray] = []

    def _full_window(self, block: Block) -> tuple[slice, slice]:
        scale = (self.shape[0] / self.network_shape[0], self.shape[1] / self.network_shape[1])
        return tuple(
            slice(int(np.floor(part.start * s)), min(full, int(np.ceil(part.stop * s))))
            for part, s, full in zip(block.window, scale, self.shape, strict=True)
        )  # type: ignore[return-value]

    def read(self, pixels: np.ndarray, block: Block) -> np.ndarray:
        """Read the window of a block at the network's scale.

        Parameters
        ----------
        pixels : numpy.ndarray, (H, W, 3), uint8
            The whole image.
        block : Block

        Returns
        -------
        numpy.ndarray, (h, w, 3), uint8
        """
        window = pixels[self._full_window(block)]
        height, width = (part.stop - part.start for part in block.window)
        method = cv2.INTER_AREA if self.factor < 1 else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(window), (width, height), interpolation=method)

    def add(
        self,
        block: Block,
        found: np.ndarray,
        kind_logits: np.ndarray,
        cell_logit: np.ndarray,
        window: np.ndarray,
        doubtful: np.ndarray | None = None,
    ) -> None:
        """Take the cells whose centres lie in the block's core, save those that are there already.

        Parameters
        ----------
        block : Block
        found : numpy.ndarray, (h, w), int32
            Labels of the window.
        kind_logits : numpy.ndarray, (4, h, w)
        cell_logit : numpy.ndarray, (h, w)
        window : numpy.ndarray, (h, w, 3), uint8
        doubtful : numpy.ndarray, (N,), bool, optional
            Which of the labels are, as `Outlines` has them; by default none.
        """
        self._note_glass(cell_logit, window)
        if not found.any():
            return
        votes = mean_votes(found, kind_logits)
        there = self._labels[block.window]
        for index, where in enumerate(ndimage.find_objects(found)):
            if where is None or not self._owned(block, where):
                continue
            cell = found[where] == index + 1
            target = there[where]
            if (target[cell] > 0).mean() > SAME_CELL:
                continue
            self._votes.append(votes[index])
            self._doubtful.append(doubtful is not None and bool(doubtful[index]))
            target[cell & (target == 0)] = len(self._votes)

    def _owned(self, block: Block, where: tuple[slice, ...]) -> bool:
        """Whether the middle of a cell's box lies in the core, or within a pixel or two of it.

        Two blocks see a cell on their seam a little differently; the margin lets both claim it, and the
        second is refused because the cell is there already.
        """
        for part, core, window in zip(where, block.core, block.window, strict=True):
            middle = window.start + (part.start + part.stop) / 2
            if not core.start - 3 <= middle <= core.stop + 3:
                return False
        return True

    def _note_glass(self, cell_logit: np.ndarray, window: np.ndarray) -> None:
        empty = cell_logit < -2
        if empty.sum() >= MIN_GLASS:
            self._glass.append(np.median(window[empty], axis=0))

    def vote(self, block: Block, labels: np.ndarray, kind_logits: np.ndarray) -> None:
        """Add the class map of a block to the votes on its cells.

        Parameters
        ----------
        block : Block
        labels : numpy.ndarray, (H, W), int
            Of the whole image, at full resolution.
        kind_logits : numpy.ndarray, (4, h, w)
            Class map of the block.
        """
        height, width = (part.stop - part.start for part in block.window)
        small = cv2.resize(
            np.ascontiguousarray(labels[self._full_window(block)]).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        ).astype(np.int64)
        probabilities = softmax(kind_logits, axis=0)
        length = int(labels.max()) + 1
        if len(self._sums) < length:
            self._sums = np.concatenate([self._sums, np.zeros((length - len(self._sums), 5))])
        inner = tuple(
            slice(core.start - window.start, core.stop - window.start)
            for core, window in zip(block.core, block.window, strict=True)
        )
        flat = small[inner].ravel()
        for channel in range(4):
            self._sums[:, channel] += np.bincount(flat, probabilities[channel][inner].ravel(), length)
        self._sums[:, 4] += np.bincount(flat, minlength=length)

    def votes(self, count: int) -> np.ndarray:
        """Return the mean votes that `vote` collected.

        Parameters
        ----------
        count : int
            Number of cells, N.

        Returns
        -------
        numpy.ndarray, (N, 4), float32
        """
        sums = np.zeros((count + 1, 5))
        sums[: len(self._sums)] = self._sums[: count + 1]
        return (sums[1:, :4] / np.maximum(sums[1:, 4:], 1)).astype(np.float32)

    def finish(self) -> Outlines:
        """Return the labels at full resolution, smooth and numbered without gaps."""
        large, present = _enlarge(self._labels, self.shape)
        votes = np.array(self._votes, np.float32).reshape(-1, 4)[present]
        glass = np.median(self._glass, axis=0) if self._glass else np.full(3, np.nan)
        doubtful = np.array(self._doubtful, bool)[present]
        colour = (float(glass[0]), float(glass[1]), float(glass[2]))
        return Outlines(large, votes, colour, doubtful=doubtful if doubtful.any() else None)


def _enlarge(labels: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, list[int]]:
    """Draw each cell at full resolution from its own smoothed mask.

    Nearest-neighbour enlargement would leave steps several pixels high, which spoil outlines and areas.

    Returns
    -------
    large : numpy.ndarray, (H, W), int32
    present : list of int
        Which rows of the small labels (label - 1) the large labels 1..N are.
    """
    large = np.zeros(shape, np.int32)
    present: list[int] = []
    scale = [full / small for full, small in zip(shape, labels.shape, strict=True)]
    for index, where in enumerate(ndimage.find_objects(labels)):
        stop_here()
        if where is None:
            continue
        small = cv2.copyMakeBorder(
            (labels[where] == index + 1).astype(np.float32), 2, 2, 2, 2, cv2.BORDER_CONSTANT
        )
        small = _extend_at_edges(small, where, labels.shape)
        start = [int(np.floor((part.start - 1) * s)) for part, s in zip(where, scale, strict=True)]
        stop = [int(np.ceil((part.stop + 1) * s)) for part, s in zip(where, scale, strict=True)]
        start = [max(0, value) for value in start]
        stop = [min(full, value) for value, full in zip(stop, shape, strict=True)]
        offset = [
            (a + 0.5) / s - 0.5 - (part.start - 2) for a, s, part in zip(start, scale, where, strict=True)
        ]
        to_small = np.array([[1 / scale[1], 0, offset[1]], [0, 1 / scale[0], offset[0]]])
        drawn = cv2.warpAffine(
            cv2.GaussianBlur(small, (3, 3), 0.7),
            to_small,
            (stop[1] - start[1], stop[0] - start[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        target = large[start[0] : stop[0], start[1] : stop[1]]
        cell = (drawn > 0.5) & (target == 0)
        if cell.any():
            present.append(index)
            target[cell] = len(present)
    return large, present


def _extend_at_edges(small: np.ndarray, where: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Continue a cell that the image's edge cuts, so that smoothing does not pull it off the edge."""
    if where[0].start == 0:
        small[:2] = small[2]
    if where[0].stop == shape[0]:
        small[-2:] = small[-3]
    if where[1].start == 0:
        small[:, :2] = small[:, 2:3]
    if where[1].stop == shape[1]:
        small[:, -2:] = small[:, -3:-2]
    return small


def mean_votes(found: np.ndarray, kind_logits: np.ndarray) -> np.ndarray:
    """Average the class map over cells.

    Parameters
    ----------
    found : numpy.ndarray, (h, w), int32
        Labels 1..N.
    kind_logits : numpy.ndarray, (4, h, w)

    Returns
    -------
    numpy.ndarray, (N, 4), float32
    """
    length = int(found.max()) + 1
    flat = found.ravel()
    counts = np.maximum(np.bincount(flat, minlength=length), 1)
    probabilities = softmax(kind_logits, axis=0)
    sums = [np.bincount(flat, channel.ravel(), length) / counts for channel in probabilities]
    return np.stack(sums, axis=1)[1:].astype(np.float32)
