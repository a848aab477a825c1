"""What the compact segmenter is shown in its training: targets, tight cuts, and views of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cellpose.dynamics import masks_to_flows_gpu

from scripts.train_compact import Warper, flow_targets, leukocyte_boxes


def drawn_labels() -> np.ndarray:
    """A round cell, a bent one, and one at the image's edge."""
    labels = np.zeros((90, 120), np.int32)
    y, x = np.mgrid[:90, :120]
    labels[(y - 30) ** 2 + (x - 30) ** 2 < 22**2] = 1
    bent = ((y - 50) ** 2 + (x - 85) ** 2 < 26**2) & ~((y - 50) ** 2 + (x - 70) ** 2 < 14**2)
    labels[bent] = 2
    labels[75:, 20:50] = 3
    return labels


def test_flow_targets_are_those_of_cellpose() -> None:
    labels = drawn_labels()
    theirs, _ = masks_to_flows_gpu(labels, device=torch.device("cpu"))
    ours = flow_targets(labels)
    assert not ours[:, labels == 0].any()
    agreement = (ours * theirs).sum(axis=0)[labels > 0]
    assert agreement.mean() > 0.98
    assert np.percentile(agreement, 5) > 0.95


@pytest.fixture
def example(tmp_path: Path) -> tuple[Path, Path]:
    """A picture with one leukocyte (label 2) beside two red cells, and its truth."""
    labels = drawn_labels().astype(np.uint16)
    pixels = np.full((90, 120, 3), 230, np.uint8)
    pixels[labels > 0] = (190, 140, 145)
    pixels[labels == 2] = (95, 50, 140)
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), pixels[..., ::-1])
    np.savez_compressed(tmp_path / "a.npz", labels=labels, kinds=np.array([1, 2, 1], np.uint8))
    return image, tmp_path / "a.npz"


def test_only_whole_leukocytes_are_cut_tight(example: tuple[Path, Path]) -> None:
    (box,) = leukocyte_boxes(example)
    rows, columns = np.nonzero(drawn_labels() == 2)
    assert box.tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def test_a_tight_cut_is_measured_from_its_own_stain(
    example: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.train_compact.TIGHT_SHARE", 1.0)
    warper = Warper({"krd": [example]}, torch.device("cpu"), seed=0)
    cut, (y0, x0, y1, x1) = warper._cut("krd", 0)
    inside = cut[:3, y0:y1, x0:x1]
    assert torch.quantile(inside.flatten(1), 0.02, dim=1).numpy() == pytest.approx(np.zeros(3), abs=0.02)
    assert torch.quantile(inside.flatten(1), 0.99, dim=1).numpy() == pytest.approx(np.ones(3), abs=0.02)
    cut[:, y0:y1, x0:x1] = 0
    assert not cut.any(), "nothing is seen outside of the cut"


def test_views_of_a_cut_keep_the_leukocyte_whole_and_its_flows_point_inwards(
    example: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.train_compact.TIGHT_SHARE", 1.0)
    warper = Warper({"krd": [example]}, torch.device("cpu"), seed=3)
    image, flow, kind, valid, inside = warper.batch(6, 96)
    assert image.shape == (6, 3, 96, 96) and flow.shape == (6, 2, 96, 96)
    for one in range(6):
        leukocyte = (kind[one] == 2).numpy()
        assert leukocyte.sum() > 100
        assert not (leukocyte & (inside[one] == 0).numpy()).any()
        assert not valid[one][inside[one] == 0].any()
        y, x = np.nonzero(leukocyte)
        to_centre = np.stack([y.mean() - y, x.mean() - x])
        along = (flow[one].numpy()[:, y, x] * to_centre).sum(axis=0) / np.linalg.norm(to_centre, axis=0)
        assert along.mean() > 0.6
