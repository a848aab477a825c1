"""Red cells: biconcave discs of haemoglobin, and the other shapes that they take."""

from __future__ import annotations

import numpy as np

from napari_leukocls.synthetic.canvas import BASOPHILIA, HAEMOGLOBIN, Drawing
from napari_leukocls.synthetic.recipe import RedCellRecipe
from napari_leukocls.synthetic.shapes import (
    ANGLES,
    Patch,
    Textures,
    make_patch,
    stretch_outline,
    wavy_outline,
)

#: Shapes other than the round one, and how often each is drawn among them.
SHAPES = {
    "ovalocyte": 0.3,
    "teardrop": 0.12,
    "echinocyte": 0.16,
    "spherocyte": 0.12,
    "target": 0.12,
    "stomatocyte": 0.1,
    "fragment": 0.08,
}
#: Shapes that are drawn only where a recipe names them.
RARE_SHAPES = ("elliptocyte", "hypochromic", "microcyte", "macrocyte")


def choose_shape(rng: np.random.Generator, recipe: RedCellRecipe) -> str:
    """Draw the shape of one red cell.

    Parameters
    ----------
    rng : numpy.random.Generator
    recipe : RedCellRecipe

    Returns
    -------
    str
        A key of `SHAPES`, one of `RARE_SHAPES`, ``round`` or ``polychromatic``.
    """
    if rng.random() < recipe.polychromasia:
        return "polychromatic"
    if rng.random() >= recipe.poikilocytosis:
        return "round"
    shares = recipe.shapes or SHAPES
    names = list(shares)
    return str(rng.choice(names, p=np.array(list(shares.values())) / sum(shares.values())))


def red_cell_outline(rng: np.random.Generator, shape: str, diameter_um: float) -> np.ndarray:
    """Draw the outline of a red cell, before its neighbours press on it.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : str
        As `choose_shape` gives it.
    diameter_um : float

    Returns
    -------
    numpy.ndarray, (256,)
        Radii, micrometres.
    """
    angle = rng.uniform(0, 2 * np.pi)
    outline = wavy_outline(rng, rng.uniform(0.015, 0.05), modes=5)
    ratio = 1 + abs(rng.normal(0, 0.09))
    if shape == "ovalocyte":
        ratio = rng.uniform(1.2, 1.8)
    elif shape == "elliptocyte":
        ratio = rng.uniform(2.0, 2.7)
    elif shape == "microcyte":
        diameter_um *= rng.uniform(0.66, 0.76)
    elif shape == "macrocyte":
        diameter_um *= rng.uniform(1.24, 1.36)
    elif shape == "spherocyte":
        diameter_um, ratio = diameter_um * rng.uniform(0.72, 0.88), 1.02
    elif shape == "polychromatic":
        diameter_um *= rng.uniform(1.02, 1.18)
    elif shape == "teardrop":
        turned = np.angle(np.exp(1j * (ANGLES - angle)))
        outline = 0.93 * outline + rng.uniform(0.3, 0.75) * np.exp(
            -(np.abs(turned / rng.uniform(0.18, 0.32)) ** 1.3)
        )
    elif shape == "echinocyte":
        spikes, phase = rng.integers(9, 17), rng.uniform(0, 6.3)
        wobble = phase + spikes * ANGLES + rng.normal(0, 0.8) * np.sin(2 * ANGLES + phase)
        outline = 0.94 * outline + rng.uniform(0.04, 0.12) * (0.5 + 0.5 * np.cos(wobble))
    elif shape == "fragment":
        diameter_um *= rng.uniform(0.5, 0.85)
        facing = np.cos(ANGLES - angle)
        cut = rng.uniform(0.05, 0.5)
        outline = np.minimum(outline, np.where(facing > 0.02, cut / np.maximum(facing, 0.02), 9.0))
    return stretch_outline(outline, ratio, angle) * diameter_um / 2


def _thickness(
    rng: np.random.Generator, textures: Textures, patch: Patch, shape: str, recipe: RedCellRecipe
) -> np.ndarray:
    """Relative haemoglobin along the line of sight, about 1 at the rim."""
    # The pale centre sits off the middle and is not quite round.
    shift = rng.normal(0, 0.07, 2) * patch.radius.mean()
    u = np.clip(patch.rho / np.maximum(patch.radius, 1e-3), 0, 1.5)
    turned = np.hypot(patch.y - shift[0], patch.x - shift[1]) / np.maximum(patch.radius, 1e-3)
    rim = np.clip(1 - u ** rng.uniform(4, 9), 0, 1) ** max(0.6 * recipe.rim, 0.02)
    turned = np.maximum(turned + rng.uniform(0, 0.1) * textures.cut("broad", u.shape, rng), 0)
    depth = float(np.clip(recipe.pallor * rng.lognormal(0, 0.25), 0, 0.97))
    size = float(np.clip(recipe.pallor_size * rng.lognormal(0, 0.16), 0.12, 0.8))
    if shape in ("spherocyte", "polychromatic", "fragment"):
        depth *= 0.15
    if shape == "hypochromic":
        depth, size = rng.uniform(0.86, 0.95), rng.uniform(0.68, 0.78)
    if shape == "stomatocyte":
        angle = rng.uniform(0, np.pi)
        along = (patch.x * np.cos(angle) + patch.y * np.sin(angle)) / np.maximum(patch.radius, 1e-3)
        across = (-patch.x * np.sin(angle) + patch.y * np.cos(angle)) / np.maximum(patch.radius, 1e-3)
        turned, size, depth = np.hypot(along * 0.8, across * 2.6), 0.5, max(depth, 0.5)
    sharpness = rng.uniform(2.0, 5.0)
    hollow = np.exp(-((turned / size) ** sharpness))
    thick = 1 - depth * hollow
    if shape == "target":
        thick = 1 - max(depth, 0.45) * np.exp(-(((turned - 0.52) / 0.2) ** 2))
    return np.asarray(rim * thick)


def _refractile_hole(rng: np.random.Generator, patch: Patch) -> np.ndarray:
    """A glassy drying artefact: factor on the cell's density, bright within and dark on its edge."""
    scale = float(patch.radius.mean())
    outline = wavy_outline(rng, 0.25, modes=4) * scale * rng.uniform(0.15, 0.45)
    cy, cx = rng.normal(0, 0.15, 2) * scale
    angle = np.arctan2(patch.y - cy, patch.x - cx) % (2 * np.pi)
    radius = outline[(angle * (len(outline) / (2 * np.pi))).astype(np.intp) % len(outline)]
    inside = radius - np.hypot(patch.y - cy, patch.x - cx)
    hole = 1 / (1 + np.exp(np.clip(-inside / 0.12, -30, 30)))
    edge = np.exp(-((inside / 0.2) ** 2))
    return np.asarray(1 - rng.uniform(0.5, 0.95) * hole + rng.uniform(0.0, 0.5) * edge)


def draw_red_cell(
    rng: np.random.Generator,
    textures: Textures,
    recipe: RedCellRecipe,
    shape: str,
    outline_um: np.ndarray,
    centre_px: tuple[float, float],
    um_per_px: float,
) -> Drawing:
    """Draw one red cell of a given outline.

    Parameters
    ----------
    rng : numpy.random.Generator
    textures : Textures
    recipe : RedCellRecipe
    shape : str
        As `choose_shape` gives it.
    outline_um : numpy.ndarray, (256,)
        Radii, micrometres.
    centre_px : tuple of float
        (y, x) in the field.
    um_per_px : float

    Returns
    -------
    Drawing
    """
    patch = make_patch(outline_um, *centre_px, um_per_px)
    thick = _thickness(rng, textures, patch, shape, recipe)
    if rng.random() < recipe.refractile:
        thick = thick * _refractile_hole(rng, patch)
    thick = thick * (
        1 + 0.035 * textures.cut("coarse", thick.shape, rng) + 0.02 * textures.cut("fine", thick.shape, rng)
    )
    amount = rng.lognormal(0, 0.09) * (1.15 if shape == "spherocyte" else 1.0)
    soft = np.clip(patch.depth / 0.35 + 0.5, 0, 1) * 0.35 + 0.65
    dyes = {HAEMOGLOBIN: (amount * thick * soft * patch.coverage).astype(np.float32)}
    if shape == "polychromatic":
        dyes[BASOPHILIA] = (0.14 * rng.uniform(0.4, 1.4) * patch.coverage * thick).astype(np.float32)
        dyes[HAEMOGLOBIN] *= 0.85
    return Drawing(patch.y0, patch.x0, dyes, patch.coverage, displaces=recipe.opacity)
