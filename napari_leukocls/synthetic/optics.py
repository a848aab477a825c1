"""From dye densities to the pixels of a camera: Beer-Lambert law, lens, light, sensor, JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_leukocls.synthetic.canvas import AZURE, BASOPHILIA, DIRT, EOSIN, HAEMOGLOBIN, NUCLEUS
from napari_leukocls.synthetic.recipe import CameraRecipe, SmearRecipe, StainRecipe


def optical_density(density: np.ndarray, stain: StainRecipe) -> np.ndarray:
    """Mix dyes into optical density.

    Parameters
    ----------
    density : numpy.ndarray, (6, H, W), float32
        One plane a dye.
    stain : StainRecipe

    Returns
    -------
    numpy.ndarray, (3, H, W), float32
        Density (log10) in red, green and blue.
    """
    vectors = np.zeros((3, len(density)), np.float32)
    for dye, vector in (
        (NUCLEUS, stain.nucleus),
        (BASOPHILIA, stain.basophilia),
        (EOSIN, stain.eosin),
        (HAEMOGLOBIN, stain.haemoglobin),
        (AZURE, stain.azure),
    ):
        vectors[:, dye] = vector
    vectors[:, DIRT] = 1.0
    flat = vectors @ density.reshape(len(density), -1)
    return np.asarray(flat.reshape(3, *density.shape[1:]))


def _smooth_field(rng: np.random.Generator, shape: tuple[int, int], grain_px: float) -> np.ndarray:
    """Slowly changing noise, standard deviation about 1."""
    coarse = rng.standard_normal((max(int(shape[0] / grain_px), 1) + 3, max(int(shape[1] / grain_px), 1) + 3))
    zoom = (shape[0] / (coarse.shape[0] - 2), shape[1] / (coarse.shape[1] - 2))
    field = ndimage.zoom(coarse.astype(np.float32), zoom, order=3, mode="nearest")
    return np.asarray(field[: shape[0], : shape[1]])


def _light(rng: np.random.Generator, camera: CameraRecipe, shape: tuple[int, int]) -> np.ndarray:
    """Relative brightness of the lamp over the field."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    off_y, off_x = rng.normal(0, 0.15, 2)
    corner = ((y - off_y) ** 2 + (x - off_x) ** 2) / 2
    return np.asarray((1 + camera.gradient_y * y + camera.gradient_x * x) * (1 - camera.vignette * corner))


def _scale_about_centre(plane: np.ndarray, shift_px: float) -> np.ndarray:
    """Magnify a plane so that its corner moves by `shift_px`."""
    if abs(shift_px) < 0.05:
        return plane
    height, width = plane.shape
    scale = 1 + shift_px / (np.hypot(height, width) / 2)
    offset = [(side - 1) / 2 * (1 - 1 / scale) for side in (height, width)]
    return np.asarray(
        ndimage.affine_transform(plane, [1 / scale, 1 / scale], offset, order=1, mode="nearest")
    )


def _through_lens(density: np.ndarray, camera: CameraRecipe, um_per_px: float) -> np.ndarray:
    """Transmission (3, H, W) after refraction, defocus and lateral colour."""
    sigma = camera.defocus_um / um_per_px
    # The width of a pixel itself always blurs a little.
    sigma = float(np.hypot(sigma, 0.45))
    transmission = np.empty_like(density)
    for channel in range(3):
        plane = density[channel]
        if camera.fringe:
            wide = ndimage.gaussian_filter(plane, max(0.45 / um_per_px, 0.8), truncate=3)
            plane = plane + camera.fringe * (plane - wide)
        # Simple lenses have a slightly different focus for blue and red.
        blur = sigma * (1.0, 1.03, 1.15)[channel]
        plane = ndimage.gaussian_filter(np.power(np.float32(10), -plane), blur, truncate=3)
        transmission[channel] = _scale_about_centre(plane, camera.chromatic_px * (0.5, 0.0, -0.5)[channel])
    return transmission


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.array(image.convert("RGB"))


def take_picture(rng: np.random.Generator, density: np.ndarray, recipe: SmearRecipe) -> np.ndarray:
    """Photograph a field of dyes.

    Parameters
    ----------
    rng : numpy.random.Generator
    density : numpy.ndarray, (6, H, W), float32
    recipe : SmearRecipe

    Returns
    -------
    numpy.ndarray, (H, W, 3), uint8
        RGB, before JPEG.
    """
    camera = recipe.camera
    shape = density.shape[1:]
    mixed = optical_density(density, recipe.stain)
    if camera.mottle:
        tint = np.asarray(recipe.stain.eosin, np.float32) + np.asarray(recipe.stain.basophilia, np.float32)
        mottle = camera.mottle * _smooth_field(rng, shape, 9.0 / recipe.um_per_px)
        mixed += mottle * (tint / tint.mean())[:, None, None]
    transmission = _through_lens(mixed, camera, recipe.um_per_px)
    transmission = (1 - camera.flare) * transmission + camera.flare
    glass = np.asarray(camera.glass, np.float32)[:, None, None]
    picture = glass * _light(rng, camera, shape) * transmission
    if camera.sharpen:
        for channel in range(3):
            soft = ndimage.gaussian_filter(picture[channel], 1.0, truncate=3)
            picture[channel] += camera.sharpen * (picture[channel] - soft)
    if camera.noise:
        grain = rng.standard_normal(picture.shape, dtype=np.float32)
        if camera.noise_grain_px > 0.2:
            grain = ndimage.gaussian_filter(
                grain, (0, camera.noise_grain_px, camera.noise_grain_px), truncate=3
            )
            grain /= max(float(grain.std()), 1e-6)
        # Photon noise increases with the square root of the light; a quarter of the noise is read-out noise.
        picture += camera.noise * grain * (0.25 + 0.75 * np.sqrt(np.clip(picture, 0, 255) / 255))
    return np.asarray(np.clip(np.moveaxis(picture, 0, -1) + 0.5, 0, 255).astype(np.uint8))


def compress(pixels: np.ndarray, camera: CameraRecipe) -> np.ndarray:
    """Compress an image by JPEG and decode it, if the recipe has a JPEG quality.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    camera : CameraRecipe

    Returns
    -------
    numpy.ndarray, (H, W, 3), uint8
    """
    return pixels if camera.jpeg_quality is None else _jpeg(pixels, camera.jpeg_quality)
