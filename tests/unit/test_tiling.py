"""Large images in blocks: each cell comes out once and whole, and smooth at full resolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.evaluation.detection import mask_average_precision
from napari_leukocls.progress import drain
from napari_leukocls.segmentation import compact as compact_module
from napari_leukocls.segmentation.base import Outlines
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.segmentation.tiling import Assembly, blocks
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear

SHAPE = (260, 330)


def draw_discs(discs: list[tuple[float, float, float]], shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Labels of discs (y, x, radius); a disc that would come near an earlier one is left out."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for cy, cx, radius in discs:
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
        reach = (y - cy) ** 2 + (x - cx) ** 2 <= (radius + 3) ** 2
        if disc.sum() > 20 and not labels[reach].any():
            labels[disc] = labels.max() + 1
    return labels


def assemble(truth: np.ndarray, block: int, halo: int, change=lambda window: window) -> Outlines:
    """What comes out when every block finds the true cells of its window, cut where its window ends."""
    assembly = Assembly(truth.shape, 1.0)
    for number, part in enumerate(blocks(assembly.network_shape, block, halo)):
        found = change(truth[part.window].copy()) if number % 2 else truth[part.window].copy()
        ids, found = np.unique(found, return_inverse=True)
        found = found.reshape(truth[part.window].shape).astype(np.int32) + (ids[0] > 0)
        kinds = np.zeros((4, *found.shape), np.float32)
        kinds[1] = 10
        window = np.full((*found.shape, 3), 230, np.uint8)
        assembly.add(part, found, kinds, np.where(found > 0, 5.0, -5.0), window)
    return assembly.finish()


def overlaps(truth: np.ndarray, labels: np.ndarray) -> list[float]:
    """Intersection over union of each true cell with the label that covers it most."""
    out = []
    for cell in range(1, int(truth.max()) + 1):
        mask = truth == cell
        best = np.bincount(labels[mask]).argmax()
        out.append(float((mask & (labels == best)).sum() / (mask | (labels == best)).sum()) if best else 0.0)
    return out


discs = st.lists(
    st.tuples(st.floats(0, SHAPE[0]), st.floats(0, SHAPE[1]), st.floats(4, 18)), min_size=1, max_size=60
)


@settings(max_examples=25, deadline=None)
@given(discs)
def test_each_cell_comes_out_once_and_whole_wherever_the_seams_lie(cells):
    truth = draw_discs(cells)
    outlines = assemble(truth, block=90, halo=44)
    assert outlines.labels.dtype == np.int32
    assert outlines.labels.max() == truth.max() == len(outlines.kind_votes)
    assert np.array_equal(np.unique(outlines.labels[outlines.labels > 0]), np.arange(1, truth.max() + 1))
    assert min(overlaps(truth, outlines.labels), default=1.0) > 0.85
    assert (outlines.kind_votes.argmax(axis=1) == 1).all()


@pytest.mark.parametrize("wider", [True, False])
def test_a_cell_that_two_blocks_see_differently_is_still_one(wider):
    from scipy import ndimage

    # Centres on the seams of both directions, and some beside them.
    truth = draw_discs([(86.7, 82.5, 14), (130, 165, 12), (173.3, 247.5, 15), (40, 82.9, 9), (84, 200, 13)])

    def differently(window: np.ndarray) -> np.ndarray:
        if wider:
            return ndimage.grey_dilation(window, size=3)
        return window * (ndimage.grey_erosion(window, size=3) > 0)

    outlines = assemble(truth, block=90, halo=44, change=differently)
    assert outlines.labels.max() == truth.max()
    assert min(overlaps(truth, outlines.labels)) > 0.75


def test_blocks_cover_the_image_once():
    for shape in [(1, 1), (960, 960), (961, 2000), (50, 3000)]:
        seen = np.zeros(shape, int)
        for part in blocks(shape, 960, 128):
            seen[part.core] += 1
            assert all(
                w.start <= c.start and c.stop <= w.stop for c, w in zip(part.core, part.window, strict=True)
            )
            assert all(c.stop - c.start <= 960 for c in part.core)
        assert (seen == 1).all()


def enlarged(small: np.ndarray, factor: float) -> np.ndarray:
    """Labels found at the network's scale, at full resolution `factor` times as large."""
    shape = (round(small.shape[0] * factor), round(small.shape[1] * factor))
    assembly = Assembly(shape, small.shape[0] / shape[0])
    assert assembly.network_shape == small.shape
    (block,) = blocks(small.shape, 4000, 0)
    assembly.add(
        block,
        small,
        np.zeros((4, *small.shape), np.float32),
        np.where(small > 0, 5.0, -5.0),
        np.zeros((*small.shape, 3), np.uint8),
    )
    return assembly.finish().labels


@pytest.mark.parametrize("centre", [(40, 50), (40.5, 50.5), (39.8, 50.3)])
@pytest.mark.parametrize("radius", [9, 15])
def test_an_enlarged_disc_is_round(centre, radius):
    factor = 3.4
    large = enlarged(draw_discs([(*centre, radius)], (80, 100)), factor)
    y, x = np.mgrid[: large.shape[0], : large.shape[1]]
    middle = [(value + 0.5) * factor - 0.5 for value in centre]
    truth = np.hypot(y - middle[0], x - middle[1]) <= radius * factor
    both, either = (truth & (large > 0)).sum(), (truth | (large > 0)).sum()
    assert both / either > 0.96 if radius < 12 else both / either > 0.97


def test_a_cell_that_the_edge_cuts_reaches_the_edge():
    factor = 3.4
    small = draw_discs([(0, 30, 10), (40, 0, 10), (79, 99, 10), (79, 40, 8)], (80, 100))
    large = enlarged(small, factor)
    assert large.max() == 4
    for line in (large[0], large[-1], large[:, 0], large[:, -1]):
        assert line.any()
    # The half disc at the top is as wide at the edge as its diameter.
    assert (large[0] > 0).sum() == pytest.approx(20 * factor, rel=0.08)


def test_small_blocks_find_the_same_cells_as_one_block(monkeypatch):
    smear = render_smear(
        SmearRecipe(
            height=720,
            width=760,
            um_per_px=0.22,
            red_cells=RedCellRecipe(count=220),
            leukocytes={"lymphocyte": 4, "segmented_neutrophil": 5, "monocyte": 3},
            platelets=25,
        ),
        seed=11,
    )
    segmenter = compact("cpu")
    diameter = 7.5 / smear.um_per_px
    monkeypatch.setattr(compact_module, "BLOCK", 4000)
    whole = drain(segmenter.segment(smear.pixels, diameter))
    monkeypatch.setattr(compact_module, "BLOCK", 256)
    steps = list(segmenter.segment(smear.pixels, diameter))
    assert len(steps) == 9
    parts = drain(segmenter.segment(smear.pixels, diameter))
    # Slivers at the field's edge and the faintest platelets may go either way with the network's tiles.
    sizes = [2 * np.sqrt(np.bincount(o.labels.ravel())[1:] / np.pi) * smear.um_per_px for o in (whole, parts)]
    counts = [int((size > 3).sum()) for size in sizes]
    assert counts[0] > 200
    assert counts[1] == pytest.approx(counts[0], rel=0.01)
    assert mask_average_precision(parts.labels, whole.labels, (0.5,))[0] >= 0.97
    kinds = [np.bincount(part.kind_votes.argmax(axis=1), minlength=4) for part in (whole, parts)]
    assert np.abs(kinds[0] - kinds[1])[1:3].max() <= 2
