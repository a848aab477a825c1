"""Variation of Romanowsky stains and cameras between laboratories.

Each dye is a vector of optical densities in red, green and blue. By the Beer-Lambert law, the densities of objects
that overlap add up. The anchors were measured in images of several laboratories; a recipe mixes them.

References
----------
.. [1] Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution,
   Anal Quant Cytol Histol 23, 291-299 (2001).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Colour = tuple[float, float, float]

#: Vectors that are mixed for the dye of a laboratory: density in red, green, blue per unit of dye.
ANCHORS: dict[str, tuple[Colour, ...]] = {
    "nucleus": (
        (0.78, 0.80, 0.28),
        (0.62, 0.86, 0.30),
        (0.46, 0.72, 0.14),
        (0.40, 0.70, 0.03),
        (0.26, 0.86, 0.34),
    ),
    "basophilia": ((0.50, 0.38, 0.12), (0.36, 0.34, 0.16), (0.22, 0.36, 0.12)),
    "eosin": ((0.04, 0.38, 0.20), (0.06, 0.32, 0.36), (0.16, 0.44, 0.26)),
    "haemoglobin": (
        (0.05, 0.24, 0.18),
        (0.26, 0.32, 0.22),
        (0.32, 0.34, 0.08),
        (0.05, 0.22, 0.28),
        (0.10, 0.42, 0.28),
    ),
    "azure": ((0.40, 0.66, 0.20), (0.20, 0.70, 0.26), (0.52, 0.60, 0.12)),
}
#: Colours of empty glass that are mixed for a camera, RGB.
GLASS: tuple[Colour, ...] = (
    (250, 248, 246),
    (252, 234, 200),
    (240, 192, 168),
    (198, 210, 200),
    (226, 222, 232),
    (188, 204, 196),
    (214, 228, 236),
    (236, 214, 226),
    (216, 212, 178),
)
#: Range of the strength of each dye, as factors.
STRENGTH = {
    "nucleus": (0.5, 1.3),
    "basophilia": (0.5, 1.4),
    "eosin": (0.5, 1.3),
    "haemoglobin": (0.35, 1.35),
    "azure": (0.6, 1.2),
}


def _mix(rng: np.random.Generator, anchors: tuple[Colour, ...]) -> np.ndarray:
    # With a small concentration, most laboratories are near one anchor and a few between two.
    weights = rng.dirichlet(np.full(len(anchors), 0.45))
    return np.asarray(weights @ np.array(anchors, dtype=float))


def random_stain_vectors(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the five dye vectors of one laboratory.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to tuple of float
        Fields of `StainRecipe`.
    """
    # A long staining time makes all dyes darker; each dye varies by itself as well.
    overall = np.exp(rng.normal(0, 0.12))
    vectors = {}
    for dye, anchors in ANCHORS.items():
        low, high = STRENGTH[dye]
        vector = _mix(rng, anchors) * rng.uniform(low, high) * overall
        vector = np.clip(vector * np.exp(rng.normal(0, 0.1, 3)), 0.01, 1.6)
        vectors[dye] = tuple(float(v) for v in vector)
    return vectors


def random_camera_colours(rng: np.random.Generator) -> Colour:
    """Draw the colour of empty glass.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    tuple of float
        RGB, 0-255.
    """
    glass = _mix(rng, GLASS) * rng.choice(
        [rng.uniform(0.85, 1.04), rng.uniform(0.6, 0.85)], p=[0.75, 0.25]
    ) + rng.normal(0, 5, 3)
    red, green, blue = (float(v) for v in np.clip(glass, 80, 255))
    return red, green, blue
