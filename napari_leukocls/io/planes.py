"""Stacks: which of several planes (depths, times, pages, frames) is the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from napari_leukocls.errors import ArgumentError, InputError

#: Planes that have a name; focus, mean, minimum and maximum are taken over all planes, pixel by pixel.
PLANES = ("first", "middle", "last", "sharpest", "focus", "mean", "min", "max")
_WHOLE_STACK = {"mean": "mean", "min": "minimum", "max": "maximum"}
_FOCUS = "focus"
#: Width of the neighbourhood by which the sharpest plane of a place is chosen (standard deviation), pixels.
_FOCUS_SIGMA = 4.0
#: The sharpest plane is found on a middle part of this size of larger pictures.
_SHARPNESS_PIXELS = 4_000_000


def parse_plane(plane: int | str) -> int | str:
    """Check the choice of a plane.

    Parameters
    ----------
    plane : int or str
        A number from 1, or one of `PLANES`.

    Returns
    -------
    int or str

    Raises
    ------
    ArgumentError
        If it is neither.
    """
    text = str(plane).strip().lower()
    if text in PLANES:
        return text
    # isdecimal() is also true for the digits of other scripts, which int() reads as well.
    if text.isdecimal() and 0 < int(text) < 10**9:
        return int(text)
    raise ArgumentError(
        f"'{plane}' names no plane of a stack: give a number from 1, or one of {', '.join(PLANES)}."
    )


def take_plane(
    read: Callable[[int], np.ndarray],
    count: int,
    plane: int | str,
    notes: list[str],
    source: str,
    what: str = "planes",
) -> np.ndarray:
    """Read the chosen plane of a stack.

    Parameters
    ----------
    read : callable
        Gives the pixels of a plane by its index from 0.
    count : int
        How many planes there are.
    plane : int or str
        A number from 1, or one of `PLANES`.
    notes : list of str
        Where there are several planes, the one that was used is appended.
    source : str
        Name of the file, for the error.
    what : str
        What the planes are, in the plural, for the note.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    InputError
        If the stack has no such plane, or its planes differ in shape.
    """
    chosen = parse_plane(plane)
    if isinstance(chosen, int) and chosen > count:
        if count == 1:
            raise InputError(
                f"'{source}' is one picture and no stack: there is no plane {chosen}; leave it at 1."
            )
        raise InputError(f"'{source}' has {count} {what}: there is no number {chosen}; choose a lower one.")
    if count <= 1:
        return read(0)
    if chosen == _FOCUS:
        notes.append(f"{count} {what}, each place from its sharpest plane (extended depth of field)")
        return extended_focus(read, count, source)
    if chosen in _WHOLE_STACK:
        notes.append(f"{count} {what}, their {_WHOLE_STACK[str(chosen)]} was used")
        return _over_all(read, count, str(chosen), source)
    index, word = _index(read, count, chosen)
    notes.append(f"{count} {what}, {word} was used")
    return read(index)


def _index(read: Callable[[int], np.ndarray], count: int, chosen: int | str) -> tuple[int, str]:
    """Index of one plane, and what it is called in the note."""
    if isinstance(chosen, int):
        return chosen - 1, "the first one" if chosen == 1 else f"number {chosen}"
    if chosen == "sharpest":
        best = max(range(count), key=lambda number: sharpness(read(number)))
        return best, f"the sharpest one (number {best + 1})"
    index = {"first": 0, "middle": (count - 1) // 2, "last": count - 1}[chosen]
    return index, "the first one" if index == 0 else f"the {chosen} one (number {index + 1})"


def sharpness(pixels: np.ndarray) -> float:
    """How sharp a picture is: the mean squared difference of pixels two apart, relative to the mean value.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W) or (H, W, C)

    Returns
    -------
    float

    References
    ----------
    Brenner et al., An automated microscope for cytologic research, J. Histochem. Cytochem. 24 (1976) 100-111.
    """
    share = min(1.0, (_SHARPNESS_PIXELS / max(1, pixels.shape[0] * pixels.shape[1])) ** 0.5)
    # A part at full resolution: fine detail is what tells sharp from blurred.
    height, width = int(pixels.shape[0] * share), int(pixels.shape[1] * share)
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    part = pixels[top : top + height, left : left + width].astype(np.float64)
    grey = part.mean(axis=-1) if part.ndim == 3 else part
    mean = float(np.nan_to_num(grey).mean()) or 1.0
    difference = np.nan_to_num(grey[:, 2:] - grey[:, :-2])
    return float((difference**2).mean()) / mean**2 if difference.size else 0.0


def extended_focus(read: Callable[[int], np.ndarray], count: int, source: str) -> np.ndarray:
    """Take each place of a picture from the plane in which its neighbourhood is sharpest; one plane is read at a time.

    Sharpness is the squared Laplacian of the grey values, averaged over the neighbourhood.

    Parameters
    ----------
    read : callable
        Gives the pixels of a plane by its index from 0.
    count : int
        How many planes there are.
    source : str
        Name of the file, for the error.

    Returns
    -------
    numpy.ndarray, (H, W) or (H, W, C)

    Raises
    ------
    InputError
        If the planes differ in shape.

    References
    ----------
    Pieper & Korpel, Image processing for extended depth of field, Applied Optics 22 (1983) 1449-1453.
    """
    result = np.array(read(0))
    best = _local_sharpness(result)
    for number in range(1, count):
        plane = read(number)
        _check_shape(plane, result, source)
        mine = _local_sharpness(plane)
        sharper = mine > best
        result[sharper] = plane[sharper]
        np.maximum(best, mine, out=best)
    return result


def _local_sharpness(pixels: np.ndarray) -> np.ndarray:
    grey = np.nan_to_num(pixels.astype(np.float32))
    if grey.ndim == 3:
        grey = grey.mean(axis=-1)
    edges: np.ndarray = ndimage.laplace(grey) ** 2
    smooth: np.ndarray = ndimage.gaussian_filter(edges, _FOCUS_SIGMA, mode="nearest")
    return smooth


def _check_shape(plane: np.ndarray, first: np.ndarray, source: str) -> None:
    if plane.shape != first.shape:
        raise InputError(f"'{source}' has planes of different shapes; choose one of them by its number.")


def _over_all(read: Callable[[int], np.ndarray], count: int, how: str, source: str) -> np.ndarray:
    """The mean, minimum or maximum of all planes; one plane is in memory at a time."""
    first = read(0)
    total = first.astype(np.float64) if how == "mean" else first.copy()
    for number in range(1, count):
        plane = read(number)
        _check_shape(plane, first, source)
        if how == "mean":
            total += plane
        else:
            (np.minimum if how == "min" else np.maximum)(total, plane, out=total)
    if how != "mean":
        return total
    mean = total / count
    return mean if first.dtype.kind == "f" else np.rint(mean).astype(first.dtype)
