"""Platelets, and objects that are no cells: precipitate, dust, grains out of focus, scale bars and arrows."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_leukocls.synthetic.canvas import AZURE, BASOPHILIA, DIRT, NUCLEUS, Canvas, Drawing
from napari_leukocls.synthetic.shapes import ANGLES, Textures, make_patch, stretch_outline, wavy_outline


def platelet_outline(rng: np.random.Generator) -> np.ndarray:
    """Draw the outline of a platelet: 1.5 to 4 um in diameter, rarely up to 6.5.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, (256,)
        Radii, micrometres.
    """
    outline = wavy_outline(rng, rng.uniform(0.03, 0.1), modes=7, decay=0.8)
    if rng.random() < 0.25:
        fringe = np.fft.rfft(rng.standard_normal(len(ANGLES)))
        fringe[:6], fringe[24:] = 0, 0
        wave = np.fft.irfft(fringe, len(ANGLES))
        outline = outline + 0.06 * wave / wave.std()
    outline = stretch_outline(outline, 1 + abs(rng.normal(0, 0.2)), rng.uniform(0, np.pi))
    diameter = float(np.clip(rng.lognormal(np.log(2.6), 0.26), 1.5, 4.0))
    if rng.random() < 0.04:
        diameter = rng.uniform(4.0, 6.5)
    return np.asarray(np.clip(outline / np.sqrt(np.mean(outline**2)), 0.5, 1.8) * diameter / 2)


def draw_platelet(
    rng: np.random.Generator,
    textures: Textures,
    outline_um: np.ndarray,
    centre_px: tuple[float, float],
    um_per_px: float,
) -> Drawing:
    """Draw one platelet: purple granules in a pale blue body.

    Parameters
    ----------
    rng : numpy.random.Generator
    textures : Textures
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
    shape = patch.rho.shape
    u = patch.rho / np.maximum(patch.radius, 1e-3)
    core = np.exp(-((u / rng.uniform(0.6, 1.2)) ** 3))
    grains = np.clip(
        0.75 + 0.28 * textures.cut("mid", shape, rng) + 0.22 * textures.cut("fine", shape, rng), 0, 1.6
    )
    dark = rng.uniform(0.4, 1.1)
    dyes = {
        BASOPHILIA: patch.coverage * rng.uniform(0.1, 0.45),
        AZURE: patch.coverage * core * grains * dark * rng.uniform(0.5, 1.0),
        NUCLEUS: patch.coverage * core * grains * dark * rng.uniform(0.0, 0.6),
    }
    dyes = {dye: density.astype(np.float32) for dye, density in dyes.items()}
    return Drawing(patch.y0, patch.x0, dyes, patch.coverage, displaces=0.5)


def draw_speck(
    rng: np.random.Generator, textures: Textures, height: int, width: int, um_per_px: float
) -> Drawing:
    """Draw an object that is no cell, at a random position.

    Parameters
    ----------
    rng : numpy.random.Generator
    textures : Textures
    height, width : int
        Of the field, pixels.
    um_per_px : float

    Returns
    -------
    Drawing
    """
    kind = rng.choice(["precipitate", "dust", "grain", "stain cloud"], p=[0.35, 0.25, 0.25, 0.15])
    centre = (rng.uniform(0, height), rng.uniform(0, width))
    size = {
        "precipitate": rng.uniform(0.2, 0.7),
        "dust": rng.uniform(0.3, 1.6),
        "grain": rng.uniform(0.5, 1.3),
        "stain cloud": rng.uniform(1.0, 4.0),
    }[str(kind)]
    outline = wavy_outline(rng, 0.05 if kind == "grain" else 0.2, modes=5, decay=1.3) * size
    if kind != "grain":
        outline = stretch_outline(outline, rng.uniform(1.0, 2.4), rng.uniform(0, np.pi))
    patch = make_patch(outline, *centre, um_per_px, margin_um=2.5)
    if kind == "grain":
        # Out of focus: a pale centre and a dark ring, as of a speck above the focal plane.
        ring = np.exp(-(((patch.rho - size) / (0.35 * size)) ** 2))
        middle = np.exp(-((patch.rho / (0.7 * size)) ** 2))
        dyes = {DIRT: rng.uniform(0.05, 0.3) * ring - rng.uniform(0.0, 0.12) * middle}
    elif kind == "dust":
        dyes = {
            DIRT: rng.uniform(0.3, 1.0)
            * ndimage.gaussian_filter(patch.coverage, rng.uniform(0, 0.45) / um_per_px)
        }
    elif kind == "precipitate":
        dyes = {AZURE: rng.uniform(0.6, 1.4) * patch.coverage, NUCLEUS: rng.uniform(0, 0.6) * patch.coverage}
    else:
        body = np.clip(patch.depth / size, 0, 1) * np.clip(
            0.6 + 0.4 * textures.cut("mid", patch.rho.shape, rng), 0, 2
        )
        dyes = {AZURE: rng.uniform(0.05, 0.3) * body, BASOPHILIA: rng.uniform(0.05, 0.35) * body}
    dyes = {dye: np.asarray(density, np.float32) for dye, density in dyes.items()}
    return Drawing(patch.y0, patch.x0, dyes, patch.coverage)


def add_scale_bar(rng: np.random.Generator, pixels: np.ndarray, um_per_px: float) -> None:
    """Draw a scale bar with ticks into a corner of an image.

    Parameters
    ----------
    rng : numpy.random.Generator
    pixels : numpy.ndarray, (H, W, 3), uint8
        It is changed.
    um_per_px : float
    """
    height, width = pixels.shape[:2]
    choices = [um for um in (2, 5, 10, 20, 50, 100) if 0.08 * width < um / um_per_px < 0.4 * width]
    if not choices:
        return
    length = int(round(rng.choice(choices) / um_per_px))
    thick = max(1, height // 240)
    y = int(height * rng.uniform(0.9, 0.95))
    x = int(width * 0.03) if rng.random() < 0.5 else int(width * 0.97) - length
    ink = rng.choice([0, 255])
    pixels[y : y + thick, x : x + length] = ink
    tick = 3 * thick
    pixels[y - tick : y + thick + tick, x : x + thick] = ink
    pixels[y - tick : y + thick + tick, x + length - thick : x + length] = ink


def add_arrow(rng: np.random.Generator, pixels: np.ndarray, um_per_px: float) -> None:
    """Draw a coloured arrow into an image, as in teaching material.

    Parameters
    ----------
    rng : numpy.random.Generator
    pixels : numpy.ndarray, (H, W, 3), uint8
        It is changed.
    um_per_px : float
    """
    height, width = pixels.shape[:2]
    tip_y, tip_x = rng.uniform(0, 1, 2) * (height, width)
    angle, length, thick = (
        rng.uniform(0, 2 * np.pi),
        rng.uniform(4, 9) / um_per_px,
        rng.uniform(0.5, 1.1) / um_per_px,
    )
    y, x = np.mgrid[:height, :width]
    along = (y - tip_y) * np.sin(angle) + (x - tip_x) * np.cos(angle)
    across = np.abs((x - tip_x) * np.sin(angle) - (y - tip_y) * np.cos(angle))
    head = 3.2 * thick
    shaft = (along > head) & (along < length) & (across < thick)
    pixels[shaft | ((along >= 0) & (along <= head) & (across < 0.6 * along))] = rng.choice(
        [(255, 240, 0), (0, 0, 0), (255, 255, 255), (230, 30, 30), (0, 160, 40)]
    )


def add_specks(
    rng: np.random.Generator, textures: Textures, canvas: Canvas, count: int, um_per_px: float
) -> None:
    """Add objects that are no cells to a field.

    Parameters
    ----------
    rng : numpy.random.Generator
    textures : Textures
    canvas : Canvas
        It is changed.
    count : int
    um_per_px : float
    """
    height, width = canvas.labels.shape
    for _ in range(count):
        canvas.lay(draw_speck(rng, textures, height, width, um_per_px))
