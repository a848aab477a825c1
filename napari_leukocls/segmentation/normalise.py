"""Pixels as the compact network sees them: how far each one is from the glass, whatever the camera."""

from __future__ import annotations

import numpy as np

#: A channel with less contrast than this (grey levels) is not stretched: an empty field stays empty.
MIN_RANGE = 40.0
#: Pixels looked at to find the range of a large image; more change the percentiles by under a level.
MAX_SAMPLES = 500_000


def colour_range(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the glass and the darkest stain of an image, per channel.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8

    Returns
    -------
    glass, dark : numpy.ndarray, (3,), float32
        98th and 1st percentile in grey levels; `glass - dark` is at least `MIN_RANGE`.
    """
    step = max(1, int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / MAX_SAMPLES))))
    sample = pixels[::step, ::step].reshape(-1, 3)
    dark, glass = np.percentile(sample, [1, 98], axis=0).astype(np.float32)
    dark = np.minimum(dark, glass - MIN_RANGE)
    return glass, dark


def absorbance(pixels: np.ndarray, limits: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Turn pixels into distance from the glass.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    limits : tuple of numpy.ndarray, optional
        Glass and dark of the whole image, from `colour_range`; by default those of `pixels`.

    Returns
    -------
    numpy.ndarray, (H, W, 3), float32
        0 is glass and 1 the darkest stain, per channel; not clipped.
    """
    glass, dark = colour_range(pixels) if limits is None else limits
    return (glass - pixels.astype(np.float32)) / (glass - dark)
