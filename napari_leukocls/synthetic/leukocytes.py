"""Leukocytes and erythroblasts: cytoplasm, granules and nucleus in their usual sizes and stains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_leukocls.synthetic import nuclei
from napari_leukocls.synthetic.canvas import AZURE, BASOPHILIA, EOSIN, HAEMOGLOBIN, NUCLEUS, Drawing
from napari_leukocls.synthetic.shapes import (
    ANGLES,
    Patch,
    Textures,
    make_patch,
    soft_mask,
    stretch_outline,
    wavy_outline,
)

NucleusField = Callable[[np.random.Generator, Patch, float], np.ndarray]


@dataclass(frozen=True)
class Granules:
    """Granules of one kind: number per square micrometre, radius (um), dyes, and density over the nucleus."""

    per_um2: tuple[float, float]
    radius_um: tuple[float, float]
    dyes: dict[int, tuple[float, float]]
    over_nucleus: float = 0.0


@dataclass(frozen=True)
class LeukocyteStyle:
    """Appearance of one class; each pair is a range from which the value of a cell is drawn."""

    diameter_um: tuple[float, float]
    nucleus: NucleusField
    dyes: dict[int, tuple[float, float]]
    chromatin: tuple[float, float]
    chromatin_grain: str
    nucleus_density: tuple[float, float] = (0.85, 1.15)
    roughness: float = 0.03
    ragged: float = 0.0
    elongation: tuple[float, float] = (1.0, 1.15)
    cytoplasm_texture: float = 0.15
    granules: tuple[Granules, ...] = ()
    vacuoles: tuple[int, int] = (0, 0)
    halo: float = 0.0
    tail: float = 0.0


#: Fine granules of neutrophils.
_FINE = Granules((1.2, 3.5), (0.10, 0.17), {EOSIN: (0.1, 0.35), AZURE: (0.08, 0.3)}, 0.15)

#: Azurophilic granules of immature cells.
_AZUROPHIL = Granules((0.3, 1.4), (0.11, 0.18), {AZURE: (0.25, 0.7)}, 0.2)

#: Appearance of each class.
STYLES: dict[str, LeukocyteStyle] = {
    "segmented_neutrophil": LeukocyteStyle(
        (11.5, 14.5),
        nuclei.segmented,
        {EOSIN: (0.04, 0.2), AZURE: (0.02, 0.12)},
        (0.15, 0.4),
        "mid",
        granules=(_FINE,),
        nucleus_density=(0.9, 1.25),
        cytoplasm_texture=0.2,
    ),
    "band_neutrophil": LeukocyteStyle(
        (11.5, 15.0),
        nuclei.band,
        {EOSIN: (0.04, 0.2), BASOPHILIA: (0.02, 0.12), AZURE: (0.02, 0.1)},
        (0.15, 0.4),
        "mid",
        granules=(_FINE,),
        nucleus_density=(0.85, 1.15),
        cytoplasm_texture=0.2,
    ),
    "eosinophil": LeukocyteStyle(
        (12.0, 15.5),
        nuclei.bilobed,
        {EOSIN: (0.1, 0.35), BASOPHILIA: (0.05, 0.2)},
        (0.18, 0.4),
        "mid",
        granules=(Granules((1.5, 2.4), (0.24, 0.36), {EOSIN: (0.5, 1.0), AZURE: (0.02, 0.2)}, 0.12),),
        nucleus_density=(0.75, 1.05),
    ),
    "basophil": LeukocyteStyle(
        (10.5, 14.0),
        nuclei.bilobed,
        {EOSIN: (0.05, 0.2), AZURE: (0.05, 0.25)},
        (0.1, 0.2),
        "mid",
        granules=(Granules((0.7, 2.0), (0.28, 0.45), {NUCLEUS: (0.4, 0.9), AZURE: (0.2, 0.5)}, 0.9),),
        nucleus_density=(0.45, 0.85),
        roughness=0.04,
        ragged=0.012,
    ),
    "lymphocyte": LeukocyteStyle(
        (7.8, 11.5),
        nuclei.round_large,
        {BASOPHILIA: (0.3, 0.75)},
        (0.15, 0.35),
        "coarse",
        nucleus_density=(0.85, 1.2),
        roughness=0.03,
        ragged=0.012,
        elongation=(1.0, 1.22),
    ),
    "monocyte": LeukocyteStyle(
        (13.5, 18.5),
        nuclei.kidney,
        {BASOPHILIA: (0.2, 0.45), AZURE: (0.02, 0.08)},
        (0.15, 0.35),
        "coarse",
        granules=(Granules((0.6, 2.0), (0.09, 0.14), {AZURE: (0.1, 0.3)}, 0.0),),
        nucleus_density=(0.6, 0.95),
        roughness=0.07,
        ragged=0.012,
        elongation=(1.0, 1.35),
        cytoplasm_texture=0.18,
        vacuoles=(0, 9),
        tail=0.15,
    ),
    "immature_granulocyte": LeukocyteStyle(
        (13.0, 18.0),
        nuclei.indented,
        {BASOPHILIA: (0.1, 0.5), EOSIN: (0.04, 0.22), AZURE: (0.03, 0.12)},
        (0.15, 0.4),
        "mid",
        granules=(_FINE, _AZUROPHIL),
        nucleus_density=(0.6, 1.0),
        roughness=0.04,
        cytoplasm_texture=0.25,
        halo=0.25,
    ),
    "erythroblast": LeukocyteStyle(
        (8.0, 11.5),
        nuclei.round_small,
        {HAEMOGLOBIN: (0.3, 0.9), BASOPHILIA: (0.1, 0.75)},
        (0.2, 0.5),
        "coarse",
        nucleus_density=(1.0, 1.35),
        roughness=0.05,
        cytoplasm_texture=0.08,
        halo=0.2,
        tail=0.04,
    ),
    "smudge_cell": LeukocyteStyle(
        (10.0, 17.0),
        nuclei.smear_all,
        {},
        (0.25, 0.5),
        "coarse",
        nucleus_density=(0.3, 0.65),
        roughness=0.16,
        ragged=0.03,
        elongation=(1.0, 1.6),
    ),
}


def leukocyte_outline(rng: np.random.Generator, name: str) -> np.ndarray:
    """Draw the outline of a cell, before its neighbours press on it.

    Parameters
    ----------
    rng : numpy.random.Generator
    name : str
        One of `LEUKOCYTE_CLASSES`.

    Returns
    -------
    numpy.ndarray, (256,)
        Radii, micrometres.
    """
    style = STYLES[name]
    outline = wavy_outline(rng, style.roughness * rng.lognormal(0, 0.45), modes=6)
    if style.ragged:
        fringe = np.fft.rfft(rng.standard_normal(len(ANGLES)))
        fringe[:7] = 0
        fringe *= np.exp(-((np.arange(len(fringe)) / 22.0) ** 2))
        wave = np.fft.irfft(fringe, len(ANGLES))
        outline = outline + style.ragged * rng.uniform(0.3, 1.6) * wave / wave.std()
    if rng.random() < style.tail:
        turned = np.angle(np.exp(1j * (ANGLES - rng.uniform(0, 6.3))))
        outline = outline + rng.uniform(0.2, 0.6) * np.exp(-((turned / rng.uniform(0.2, 0.5)) ** 2))
    # Spreading the blood deforms a few cells of every class.
    elongation = rng.uniform(1.25, 1.6) if rng.random() < 0.07 else rng.uniform(*style.elongation)
    outline = stretch_outline(outline, elongation, rng.uniform(0, np.pi))
    # The area is that of a circle with the drawn diameter.
    outline = outline / np.sqrt(np.mean(outline**2))
    return np.asarray(outline * rng.uniform(*style.diameter_um) / 2)


def _sprinkle(rng: np.random.Generator, patch: Patch, granules: Granules, where: np.ndarray) -> np.ndarray:
    """Density 0..1 of granules scattered over `where` (0..1)."""
    per_px = rng.uniform(*granules.per_um2) * patch.um_per_px**2
    grain = np.zeros(where.shape, np.float32)
    hits = rng.random(where.shape) < np.clip(per_px * where, 0, 1)
    grain[hits] = rng.uniform(0.5, 1.2, int(hits.sum()))
    sigma = max(rng.uniform(*granules.radius_um) / patch.um_per_px / 1.4, 0.35)
    blurred = ndimage.gaussian_filter(grain, sigma, truncate=3)
    # A single granule has a maximum of 1; the density of clusters saturates.
    return np.asarray(np.tanh(1.3 * blurred * (2 * np.pi * sigma**2)))


def _chromatin(
    rng: np.random.Generator, textures: Textures, style: LeukocyteStyle, shape: tuple[int, int]
) -> np.ndarray:
    """Relative density of the nucleus: clumps, and the thin pale lines between them."""
    clumps = textures.cut(style.chromatin_grain, shape, rng)
    lines = np.exp(-((textures.cut(style.chromatin_grain, shape, rng) / 0.28) ** 2))
    grain = textures.cut("fine", shape, rng)
    depth = rng.uniform(*style.chromatin)
    return np.asarray(
        np.clip(1 + depth * (0.55 * np.tanh(clumps) + 0.25 * grain) - 0.35 * depth * lines, 0.2, 1.8)
    )


def _vacuoles(rng: np.random.Generator, patch: Patch, style: LeukocyteStyle) -> np.ndarray:
    """Factor on the cytoplasm: near 0 in a vacuole."""
    clear = np.ones(patch.rho.shape, np.float32)
    if style.vacuoles[1] == 0 or rng.random() < 0.4:
        return clear
    for _ in range(int(rng.integers(*style.vacuoles, endpoint=True))):
        angle = rng.uniform(0, 2 * np.pi)
        out = rng.uniform(0.3, 0.92) * float(patch.radius.mean())
        size = rng.uniform(0.25, 0.7)
        d2 = (patch.y - out * np.sin(angle)) ** 2 + (patch.x - out * np.cos(angle)) ** 2
        clear *= 1 - rng.uniform(0.4, 0.85) * np.exp(-((d2 / size**2) ** 2))
    return clear


def _nucleus(
    rng: np.random.Generator, textures: Textures, style: LeukocyteStyle, patch: Patch
) -> tuple[np.ndarray, np.ndarray]:
    """The nucleus's signed distance and its density."""
    r = float(patch.radius.mean())
    field = style.nucleus(rng, patch, r)
    field = (
        field
        + 0.09 * textures.cut("coarse", field.shape, rng)
        + 0.1 * textures.cut("broad", field.shape, rng)
    )
    # The nucleus stays within the cell.
    field = np.maximum(field, rng.uniform(0.1, 0.35) - patch.depth)
    mask = soft_mask(field, patch.um_per_px)
    # Thinner towards its edge, but dark at the edge itself: there is chromatin at the envelope.
    body = 0.84 + 0.16 * np.clip(-field / 1.2, 0, 1) + 0.1 * np.exp(-(((field + 0.25) / 0.2) ** 2))
    density = rng.uniform(*style.nucleus_density) * body * _chromatin(rng, textures, style, field.shape)
    if style.nucleus is nuclei.smear_all:
        density = density * np.clip(0.55 + 0.35 * textures.cut("broad", field.shape, rng), 0.12, 1.4)
    return field, mask * density


def draw_leukocyte(
    rng: np.random.Generator,
    textures: Textures,
    name: str,
    outline_um: np.ndarray,
    centre_px: tuple[float, float],
    um_per_px: float,
) -> Drawing:
    """Draw one nucleated cell of a given outline.

    Parameters
    ----------
    rng : numpy.random.Generator
    textures : Textures
    name : str
        One of `LEUKOCYTE_CLASSES`.
    outline_um : numpy.ndarray, (256,)
        Radii, micrometres.
    centre_px : tuple of float
        (y, x) in the field.
    um_per_px : float

    Returns
    -------
    Drawing
    """
    style = STYLES[name]
    patch = make_patch(outline_um, *centre_px, um_per_px)
    shape = patch.rho.shape
    field, nucleus = _nucleus(rng, textures, style, patch)
    inside = soft_mask(field, um_per_px)
    outside = patch.coverage * (1 - 0.85 * inside)
    # The pale zone around some nuclei.
    clear = 1 - style.halo * np.exp(-((np.maximum(field, 0) / 0.8) ** 2)) * rng.uniform(0, 1)
    uneven = 1 + style.cytoplasm_texture * (
        0.6 * textures.cut("mid", shape, rng)
        + 0.5 * textures.cut("fine", shape, rng)
        + 0.5 * textures.cut("broad", shape, rng)
    )
    rim = 1 + 0.35 * rng.uniform(0, 1) * np.exp(-np.clip(patch.depth, 0, None) / 0.5)
    base = outside * clear * np.clip(uneven, 0.1, 2) * rim * _vacuoles(rng, patch, style)
    dyes = {dye: base * rng.uniform(*amount) for dye, amount in style.dyes.items()}
    dyes[NUCLEUS] = dyes.get(NUCLEUS, 0) + nucleus * patch.coverage
    for kind in style.granules:
        where = patch.coverage * (1 - (1 - kind.over_nucleus) * inside) * (patch.depth > 0.15)
        grains = _sprinkle(rng, patch, kind, where) * patch.coverage
        for dye, amount in kind.dyes.items():
            dyes[dye] = dyes.get(dye, 0) + grains * rng.uniform(*amount)
    dyes = {dye: np.asarray(density, np.float32) for dye, density in dyes.items()}
    return Drawing(patch.y0, patch.x0, dyes, patch.coverage, displaces=0.45 if name == "smudge_cell" else 0.9)
