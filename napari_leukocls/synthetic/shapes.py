"""Outlines, soft masks and textures from which cells are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

#: Number of angles at which an outline is tabulated.
N_ANGLES = 256
#: These angles, radians.
ANGLES = np.linspace(0, 2 * np.pi, N_ANGLES, endpoint=False)


def wavy_outline(
    rng: np.random.Generator, roughness: float, modes: int = 6, decay: float = 1.2
) -> np.ndarray:
    """Radius of a closed outline round 1, perturbed by a few Fourier modes.

    Parameters
    ----------
    rng : numpy.random.Generator
    roughness : float
        Relative amplitude of the lowest mode (two-fold).
    modes : int
        Number of modes, from the two-fold up.
    decay : float
        The amplitude of mode k falls as (k - 1) ** -decay.

    Returns
    -------
    numpy.ndarray, (256,), float
    """
    orders = np.arange(2, 2 + modes)
    amplitude = roughness * rng.normal(0, 1, modes) / (orders - 1.0) ** decay
    phase = rng.uniform(0, 2 * np.pi, modes)
    radius = 1 + (amplitude[:, None] * np.cos(orders[:, None] * ANGLES + phase[:, None])).sum(0)
    return np.asarray(np.clip(radius, 0.4, 1.8))


def stretch_outline(radius: np.ndarray, ratio: float, angle: float) -> np.ndarray:
    """Make an outline elliptic without changing its area.

    Parameters
    ----------
    radius : numpy.ndarray, (256,)
    ratio : float
        Long axis over short axis.
    angle : float
        Of the long axis, radians.

    Returns
    -------
    numpy.ndarray, (256,)
    """
    turned = ANGLES - angle
    ellipse = 1 / np.sqrt((np.cos(turned) / ratio) ** 2 + np.sin(turned) ** 2)
    return np.asarray(radius * ellipse / np.sqrt(ratio))


def flatten_outline(radius: np.ndarray, angle: float, distance: float, softness: float = 0.08) -> np.ndarray:
    """Press an outline against a straight wall.

    Parameters
    ----------
    radius : numpy.ndarray, (256,)
    angle : float
        Direction of the wall, radians.
    distance : float
        Of the wall from the centre, in the unit of `radius`.
    softness : float
        Rounding of the corners, as a share of the mean radius.

    Returns
    -------
    numpy.ndarray, (256,)
    """
    facing = np.cos(ANGLES - angle)
    wall = np.where(facing > 0.05, distance / np.maximum(facing, 0.05), np.inf)
    k = softness * float(radius.mean())
    # Smooth minimum, so that a pressed cell keeps rounded corners.
    return np.asarray(-k * np.logaddexp(-radius / k, -np.minimum(wall, 1e3) / k))


@dataclass
class Patch:
    """A square window round one cell in polar coordinates about its centre.

    Attributes
    ----------
    y0, x0 : int
        Position of the window's first pixel in the field; may be negative.
    y, x : numpy.ndarray, (h, w), float32
        Micrometres from the cell's centre.
    rho : numpy.ndarray, (h, w), float32
        Distance from the centre, micrometres.
    radius : numpy.ndarray, (h, w), float32
        Radius of the outline in that direction, micrometres.
    coverage : numpy.ndarray, (h, w), float32
        0 outside, 1 inside, between the two on the outline.
    um_per_px : float
    """

    y0: int
    x0: int
    y: np.ndarray
    x: np.ndarray
    rho: np.ndarray
    radius: np.ndarray
    coverage: np.ndarray
    um_per_px: float

    @property
    def depth(self) -> np.ndarray:
        """Distance inside the outline along the ray from the centre, micrometres; negative outside."""
        return np.asarray(self.radius - self.rho)


def make_patch(
    outline_um: np.ndarray, y_px: float, x_px: float, um_per_px: float, margin_um: float = 0.6
) -> Patch:
    """Make a polar window on the pixel grid for an outline centred at (`y_px`, `x_px`).

    Parameters
    ----------
    outline_um : numpy.ndarray, (256,)
        Radii, micrometres.
    y_px, x_px : float
        Centre, pixels of the field.
    um_per_px : float
    margin_um : float
        Margin around the outline, micrometres.

    Returns
    -------
    Patch
    """
    half = int(np.ceil((outline_um.max() + margin_um) / um_per_px)) + 1
    y0, x0 = int(np.floor(y_px)) - half, int(np.floor(x_px)) - half
    line = np.arange(2 * half + 1, dtype=np.float32)
    y = ((line + (y0 - y_px)) * um_per_px)[:, None]
    x = ((line + (x0 - x_px)) * um_per_px)[None, :]
    y, x = np.broadcast_arrays(y.astype(np.float32), x.astype(np.float32))
    rho = np.hypot(y, x)
    position = (np.arctan2(y, x) % (2 * np.pi)) * (N_ANGLES / (2 * np.pi))
    low = np.floor(position).astype(np.intp)
    share = (position - low).astype(np.float32)
    table = outline_um.astype(np.float32)
    radius = table[low % N_ANGLES] * (1 - share) + table[(low + 1) % N_ANGLES] * share
    coverage = np.clip((radius - rho) / um_per_px + 0.5, 0, 1)
    return Patch(y0, x0, y, x, rho, radius, coverage, um_per_px)


def ellipse_field(patch: Patch, cy: float, cx: float, a: float, b: float, angle: float) -> np.ndarray:
    """Approximate signed distance to an ellipse.

    Parameters
    ----------
    patch : Patch
    cy, cx : float
        Centre, micrometres from the centre of the patch.
    a, b : float
        Semi-axes, micrometres.
    angle : float
        Radians.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    dy, dx = patch.y - cy, patch.x - cx
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / a
    v = (-dx * np.sin(angle) + dy * np.cos(angle)) / b
    return np.asarray((np.hypot(u, v) - 1) * min(a, b))


def capsule_field(
    patch: Patch, start: tuple[float, float], end: tuple[float, float], radius: float
) -> np.ndarray:
    """Signed distance to a thick line.

    Parameters
    ----------
    patch : Patch
    start, end : (float, float)
        y and x, micrometres from the centre of the patch.
    radius : float
        Half the thickness, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    ey, ex = end[0] - start[0], end[1] - start[1]
    dy, dx = patch.y - start[0], patch.x - start[1]
    along = np.clip((dy * ey + dx * ex) / max(ey * ey + ex * ex, 1e-6), 0, 1)
    return np.asarray(np.hypot(dy - along * ey, dx - along * ex) - radius)


def smooth_union(fields: list[np.ndarray], k: float = 0.25) -> np.ndarray:
    """Join shapes with rounded seams.

    Parameters
    ----------
    fields : list of numpy.ndarray, (h, w)
        Signed distances.
    k : float
        Radius of the seams, micrometres.

    Returns
    -------
    numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    """
    total = sum(np.exp(np.clip(-field / k, -40, 40)) for field in fields)
    return np.asarray(-k * np.log(total))


def soft_mask(field: np.ndarray, um_per_px: float) -> np.ndarray:
    """Convert a signed distance to a mask with an edge of one pixel.

    Parameters
    ----------
    field : numpy.ndarray, (h, w)
        Signed distance, micrometres; negative inside.
    um_per_px : float

    Returns
    -------
    numpy.ndarray, (h, w)
        0 to 1.
    """
    return np.asarray(np.clip(0.5 - field / um_per_px, 0, 1))


class Textures:
    """Band-limited noise of several grain sizes, made once for a field; a window of it is cut for each cell.

    Parameters
    ----------
    rng : numpy.random.Generator
    um_per_px : float
    """

    #: Names and grain sizes, micrometres.
    GRAINS = {"fine": 0.22, "mid": 0.45, "coarse": 1.0, "broad": 2.6}

    def __init__(self, rng: np.random.Generator, um_per_px: float) -> None:
        side = int(np.clip(scipy.fft.next_fast_len(int(26 / um_per_px)), 96, 1024))
        freq = np.hypot(scipy.fft.fftfreq(side)[:, None], scipy.fft.rfftfreq(side)[None, :])
        self._fields = {}
        for name, grain_um in self.GRAINS.items():
            grain = max(grain_um / um_per_px, 0.7)
            x = 2 * np.pi * freq * grain / 2
            band = x**2 * np.exp(-(x**2))
            spectrum = scipy.fft.rfft2(rng.standard_normal((side, side))) * band
            noise = scipy.fft.irfft2(spectrum, s=(side, side))
            self._fields[name] = (noise / max(float(noise.std()), 1e-9)).astype(np.float32)

    def cut(self, name: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Cut a random window of a texture.

        Parameters
        ----------
        name : str
            A key of `GRAINS`.
        shape : (int, int)
            Height and width.
        rng : numpy.random.Generator

        Returns
        -------
        numpy.ndarray, (h, w), float32
            Mean 0, standard deviation 1.
        """
        field = self._fields[name]
        y, x = rng.integers(0, field.shape[0], 2)
        rows = (np.arange(shape[0]) + y) % field.shape[0]
        cols = (np.arange(shape[1]) + x) % field.shape[1]
        return np.asarray(field[rows[:, None], cols[None, :]])
