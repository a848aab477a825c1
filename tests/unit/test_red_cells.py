"""The stain's strength, read from red cells."""

from __future__ import annotations

import numpy as np

from napari_leukocls.classification.crops import stain_power, white_balance
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.segmentation.stain_density import red_cell_density, without_nucleus

REFERENCE = (0.2, 0.3, 0.2)


def smear(density: tuple[float, float, float], glass: tuple[int, int, int] = (230, 225, 240)) -> np.ndarray:
    """Two round red cells, the second with a leukocyte's dark colour."""
    y, x = np.mgrid[:80, :160]
    pixels = np.empty((80, 160, 3))
    pixels[:] = glass
    pixels[np.hypot(y - 40, x - 40) < 25] = np.array(glass) * np.exp(-np.array(density))
    pixels[np.hypot(y - 40, x - 120) < 25] = (90, 40, 120)
    return pixels.round().astype(np.uint8)


def labels() -> np.ndarray:
    y, x = np.mgrid[:80, :160]
    return ((np.hypot(y - 40, x - 40) < 25) + 2 * (np.hypot(y - 40, x - 120) < 25)).astype(np.int32)


def test_red_cells_alone_are_measured() -> None:
    found = red_cell_density(smear((0.1, 0.25, 0.15)), labels(), np.array([0.9, 0.05]), (230, 225, 240))
    assert found is not None and np.allclose(found, (0.1, 0.25, 0.15), atol=0.02)


def test_nothing_is_said_without_red_cells_or_glass() -> None:
    pixels = smear((0.1, 0.25, 0.15))
    assert red_cell_density(pixels, labels(), np.array([0.3, 0.05]), (230, 225, 240)) is None
    assert red_cell_density(pixels, labels(), np.array([0.9, 0.05]), (np.nan,) * 3) is None
    assert red_cell_density(pixels, labels() * 0, np.zeros(0), (230, 225, 240)) is None
    assert np.array_equal(stain_power(None, CropRule(red_cell=REFERENCE)), np.ones(3))


def test_a_cell_as_pale_as_the_red_cells_has_no_nucleus() -> None:
    pixels, glass, both = smear((0.1, 0.25, 0.15)), (230, 225, 240), np.array([True, True])
    density = (0.1, 0.25, 0.15)
    assert without_nucleus(pixels, labels(), both, glass, density).tolist() == [True, False]
    assert not without_nucleus(pixels, labels(), ~both, glass, density).any()
    assert not without_nucleus(pixels, labels(), both, glass, None).any()
    # A nucleus that fills a fifth of the cell is enough.
    y, x = np.mgrid[:80, :160]
    pixels[np.hypot(y - 40, x - 40) < 12] = (90, 40, 120)
    assert not without_nucleus(pixels, labels(), both, glass, density).any()


def test_a_pale_smear_is_drawn_towards_the_reference() -> None:
    rule = CropRule(red_cell=REFERENCE, red_cell_share=1.0)
    pixels, glass = smear((0.15, 0.22, 0.15)), (230.0, 225.0, 240.0)
    found = red_cell_density(pixels, labels(), np.array([0.9, 0.05]), glass)
    balanced = white_balance(pixels, glass, rule.white, stain_power(found, rule))
    cell = balanced[40, 40].astype(float)
    assert np.allclose(-np.log(cell / 235.0), REFERENCE, atol=0.03)
    assert np.all(balanced[0, 0] == 235)


def test_a_rule_without_reference_leaves_the_stain_alone() -> None:
    pixels = smear((0.1, 0.25, 0.15))
    plain = white_balance(pixels, (230, 225, 240), 235.0)
    power = stain_power((0.1,) * 3, CropRule())
    assert np.array_equal(plain, white_balance(pixels, (230, 225, 240), 235.0, power))
