"""Nuclei of leukocytes and erythroblasts as signed distances (micrometres, negative inside)."""

from __future__ import annotations

import numpy as np

from napari_leukocls.synthetic.shapes import Patch, capsule_field, ellipse_field, smooth_union


def _lobes(
    rng: np.random.Generator, patch: Patch, centres: np.ndarray, sizes: np.ndarray, strand_um: float
) -> np.ndarray:
    """Ellipses at `centres` (n, 2), each joined to the next by a strand."""
    fields = []
    for (cy, cx), size in zip(centres, sizes, strict=True):
        ratio = rng.uniform(1.0, 1.5)
        fields.append(
            ellipse_field(patch, cy, cx, size * ratio**0.5, size / ratio**0.5, rng.uniform(0, np.pi))
        )
    for start, end in zip(centres[:-1], centres[1:], strict=True):
        fields.append(capsule_field(patch, tuple(start), tuple(end), strand_um * rng.uniform(0.7, 1.4)))
    return smooth_union(fields, 0.22)


def _arc(rng: np.random.Generator, n: int, radius: float, sweep: float) -> np.ndarray:
    """Points (n, 2) along an irregular arc around the cell's centre."""
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(-sweep / 2, sweep / 2, n) + rng.normal(0, 0.12, n)
    radii = radius * rng.uniform(0.72, 1.12, n)
    return np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)


def segmented(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """Two to five lobes joined by strands.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    n = int(rng.choice([2, 3, 4, 5], p=[0.18, 0.42, 0.3, 0.1]))
    size = r * {2: 0.37, 3: 0.33, 4: 0.29, 5: 0.255}[n]
    centres = _arc(rng, n, r * 0.46, rng.uniform(0.75, 1.25) * {2: 2.6, 3: 3.3, 4: 4.2, 5: 5.0}[n])
    centres += rng.normal(0, 0.08 * r, 2)
    return _lobes(rng, patch, centres, size * rng.uniform(0.82, 1.18, n), 0.07 * r)


def bilobed(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """Two, rarely three, plump lobes to one side, as in eosinophils and basophils.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    n = 2 if rng.random() < 0.8 else 3
    centres = _arc(rng, n, r * 0.47, rng.uniform(1.7, 2.6))
    centres += rng.normal(0, 0.06 * r, 2)
    return _lobes(rng, patch, centres, r * (0.42 if n == 2 else 0.34) * rng.uniform(0.88, 1.12, n), 0.12 * r)


def band(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """A curved band of even width, in the form of a C, a U or an S.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    n = 9
    t = np.linspace(-1, 1, n)
    sweep = rng.uniform(2.2, 4.2)
    angles = t * sweep / 2
    radius = r * rng.uniform(0.42, 0.55)
    path = np.stack([radius * np.sin(angles), radius * np.cos(angles)], axis=1)
    if rng.random() < 0.2:
        path = np.stack([r * 0.55 * t, r * 0.3 * np.sin(t * 2.6)], axis=1)
    turn = rng.uniform(0, 2 * np.pi)
    turned = path @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = turned - turned.mean(0) * 0.6 + rng.normal(0, 0.05 * r, 2)
    width = (
        r
        * rng.uniform(0.22, 0.3)
        * (1 + 0.12 * np.cos(t * np.pi * rng.uniform(0.5, 1.5)) + rng.normal(0, 0.05, n))
    )
    fields = [
        capsule_field(patch, tuple(a), tuple(b), w)
        for a, b, w in zip(turned[:-1], turned[1:], width[:-1], strict=True)
    ]
    return smooth_union(fields, 0.15)


def kidney(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """A large folded nucleus with one to three notches, as in monocytes.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    a, b = r * rng.uniform(0.68, 0.85), r * rng.uniform(0.5, 0.68)
    angle = rng.uniform(0, 2 * np.pi)
    cy, cx = rng.normal(0, 0.12 * r, 2)
    body = ellipse_field(patch, cy, cx, a, b, angle)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
        side = angle + np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.5)
        out = b * rng.uniform(0.85, 1.2)
        notch = ellipse_field(
            patch,
            cy + out * np.sin(side),
            cx + out * np.cos(side),
            b * rng.uniform(0.4, 0.8),
            b * rng.uniform(0.18, 0.4),
            side,
        )
        body = -smooth_union([-body, notch], 0.25)
    return body


def indented(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """The large, eccentric, round to bean-shaped nucleus of an immature granulocyte.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    a, b = r * rng.uniform(0.62, 0.78), r * rng.uniform(0.5, 0.66)
    angle, side = rng.uniform(0, 2 * np.pi, 2)
    off = rng.uniform(0.12, 0.32) * r
    cy, cx = off * np.sin(side), off * np.cos(side)
    body = ellipse_field(patch, cy, cx, a, b, angle)
    if rng.random() < 0.5:
        # The dent faces the wide side of the cytoplasm.
        dent = ellipse_field(
            patch,
            cy - 0.95 * b * np.sin(side),
            cx - 0.95 * b * np.cos(side),
            b * 0.5,
            b * rng.uniform(0.2, 0.45),
            side,
        )
        body = -smooth_union([-body, dent], 0.4)
    return body


def round_large(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """The nucleus of a lymphocyte, which fills nearly the whole cell, sometimes with a notch.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    fill = rng.choice([rng.uniform(0.86, 0.95), rng.uniform(0.78, 0.86)], p=[0.7, 0.3])
    ratio = rng.uniform(1.0, 1.18)
    angle, side = rng.uniform(0, 2 * np.pi, 2)
    off = (1 - fill) * r * rng.uniform(0.2, 0.95)
    cy, cx = off * np.sin(side), off * np.cos(side)
    body = ellipse_field(patch, cy, cx, fill * r * ratio**0.5, fill * r / ratio**0.5, angle)
    if rng.random() < 0.2:
        out = fill * r * rng.uniform(1.0, 1.15)
        dent = ellipse_field(patch, cy - out * np.sin(side), cx - out * np.cos(side), 0.3 * r, 0.12 * r, side)
        body = -smooth_union([-body, dent], 0.3)
    return body


def round_small(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """The small round nucleus of an erythroblast, central or eccentric.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    fill = rng.uniform(0.5, 0.72)
    side = rng.uniform(0, 2 * np.pi)
    off = rng.uniform(0, 0.9) * (1 - fill) * r
    ratio = rng.uniform(1.0, 1.1)
    return ellipse_field(
        patch,
        off * np.sin(side),
        off * np.cos(side),
        fill * r * ratio**0.5,
        fill * r / ratio**0.5,
        rng.uniform(0, np.pi),
    )


def smear_all(rng: np.random.Generator, patch: Patch, r: float) -> np.ndarray:
    """A burst nucleus: a smudge as large as the outline of the cell.

    Parameters
    ----------
    rng : numpy.random.Generator
    patch : Patch
    r : float
        Radius of the cell, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    return -patch.depth + 0.1 * r * rng.uniform(0, 1)
