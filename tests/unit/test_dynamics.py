"""Flow dynamics and tiling without cellpose's own modules: the same results to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cellpose.core import run_net
from cellpose.dynamics import compute_masks, masks_to_flows_gpu

from napari_leukocls.segmentation.compact_net import CompactNet
from napari_leukocls.segmentation.dynamics import follow_flows, masks_from_flows
from napari_leukocls.segmentation.network_tiles import run_in_tiles

ARGUMENTS = {"steps": 72, "threshold": 0.0, "min_area": 18, "max_share": 0.9, "device": "cpu"}


def by_cellpose(flow: np.ndarray, cell: np.ndarray) -> np.ndarray:
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        return compute_masks(
            flow,
            cell,
            niter=72,
            cellprob_threshold=0.0,
            flow_threshold=0,
            min_size=18,
            max_size_fraction=0.9,
            device=torch.device("cpu"),
        )


def noisy_field(
    seed: int, noise: float, shape: tuple[int, int] = (230, 310)
) -> tuple[np.ndarray, np.ndarray]:
    """Flows and cell logits of discs with rings and holes, blurred by noise."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for cell in range(1, 40):
        cy, cx, radius = random.uniform(0, shape[0]), random.uniform(0, shape[1]), random.uniform(2, 22)
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = cell
    labels = np.unique(labels, return_inverse=True)[1].reshape(shape).astype(np.int32)
    flow = 5 * np.asarray(masks_to_flows_gpu(labels)[0], np.float32)
    logit = np.where(labels > 0, 3.0, -3.0) + noise * 2 * random.normal(size=shape)
    flow += noise * random.normal(size=flow.shape)
    return flow.astype(np.float32), logit.astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_cells_are_those_of_cellpose(seed: int, noise: float) -> None:
    flow, logit = noisy_field(seed, noise)
    found = masks_from_flows(flow, logit, **ARGUMENTS)
    np.testing.assert_array_equal(found, by_cellpose(flow, logit))
    assert found.max() > 10 and found.dtype == np.int32
    assert len(np.unique(found)) == found.max() + 1


def test_an_empty_field_and_one_without_a_meeting_point_have_no_cells() -> None:
    flow = np.zeros((2, 40, 50), np.float32)
    assert not masks_from_flows(flow, np.full((40, 50), -1, np.float32), **ARGUMENTS).any()
    assert not masks_from_flows(flow, np.ones((40, 50), np.float32), **ARGUMENTS).any()


def test_what_covers_nearly_all_of_the_image_is_no_cell() -> None:
    y, x = np.mgrid[:40, :40] - 19.5
    away = np.maximum(np.hypot(y, x), 1)
    flow = (-5 * np.stack([y, x]) / away).astype(np.float32)
    logit = np.ones((40, 40), np.float32)
    assert not masks_from_flows(flow, logit, **ARGUMENTS).any()
    assert masks_from_flows(flow, logit, **{**ARGUMENTS, "max_share": 1.0}).max() == 1


def test_pixels_follow_the_flow_and_stay_in_the_image() -> None:
    flow = np.zeros((2, 30, 40), np.float32)
    flow[0], flow[1] = 1, -1
    ends = follow_flows(flow, (np.array([3, 10]), np.array([35, 4])), steps=6).numpy()
    np.testing.assert_allclose(ends[:, 0], [9, 29], atol=0.6)
    assert ends[1, 1] == 0


@pytest.mark.parametrize(
    ("shape", "side"), [((300, 410), 256), ((97, 120), 128), ((64, 600), 256), ((12, 9), 16)]
)
def test_tiles_are_blended_as_by_cellpose(shape: tuple[int, int], side: int) -> None:
    torch.manual_seed(0)
    net = CompactNet((8, 12, 16, 20)).eval()
    image = np.random.default_rng(1).random((*shape, 3), np.float32)
    blended = run_in_tiles(net, image, sides=(side, side), overlap=0.1, batch_size=3)
    theirs, _ = run_net(net, image[None], batch_size=3, tile_overlap=0.1, bsize=side)
    np.testing.assert_array_equal(blended, theirs[0].transpose(2, 0, 1))
