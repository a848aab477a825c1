"""Training on several laboratories: nothing that is held out or for checks only reaches a batch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from scripts import stain_views as views
from scripts.laboratories import CHECKS_ONLY, CLASSES, HELDOUT_SLIDE, Cells
from scripts.pack_crops import Row, is_heldout, write_shard
from scripts.packs import Pack, is_validation
from scripts.train_laboratories import SHARES, Batches, mix_statistics, powers, restained


@pytest.fixture
def packed(tmp_path):
    """Forty crops of two classes, written and read back."""
    rows = []
    for index in range(40):
        crop = np.full((176, 176, 3), 3 * index, np.uint8)
        outline = np.zeros((176, 176), np.uint8)
        cv2.circle(outline, (88, 88), 40, 255, -1)
        name = f"cell_{index}.png"
        image, mask = (cv2.imencode(".png", one)[1].tobytes() for one in (crop, outline))
        red = (0.2, 0.3, 0.2) if index % 2 else None
        rows.append(Row(name, ("neutrophil", "monocyte")[index % 2], is_heldout(name), image, mask, red))
    write_shard(tmp_path / "raabin_0.npz", rows)
    return Pack(tmp_path, "raabin", torch.device("cpu"))


def cells_of(pack: Pack, laboratory: str, slide: str = "1") -> Cells:
    target = np.array([CLASSES.index(name) for name in pack.classes])
    slides = np.array([slide] * len(target), dtype=object)
    return Cells(laboratory, pack, target, np.full(len(target), -1), slides)


def test_the_parts_of_a_laboratory_do_not_overlap(packed):
    cells = cells_of(packed, "raabin")
    train, validation, heldout = (set(cells.rows(part)) for part in ("train", "validation", "heldout"))
    assert not train & validation and not train & heldout and not validation & heldout
    assert train | validation | heldout == set(cells.rows("all"))
    assert all(is_heldout(packed.names[row]) for row in heldout)
    assert all(is_validation(packed.names[row]) for row in validation)


@pytest.mark.parametrize(("laboratory", "slide"), [("bcisc", HELDOUT_SLIDE), (CHECKS_ONLY[0], "1")])
def test_a_held_out_slide_and_a_laboratory_for_checks_are_never_trained_on(packed, laboratory, slide):
    cells = cells_of(packed, laboratory, slide)
    assert len(cells.rows("train")) == len(cells.rows("validation")) == 0
    assert laboratory in SHARES or laboratory in CHECKS_ONLY


def test_a_batch_holds_training_cells_alone(packed):
    cells = cells_of(packed, "raabin")
    batches = Batches({"raabin": cells}, "train", np.random.default_rng(0))
    crops, masks, wanted, finer, trust = batches.draw_batch(64)
    assert crops.shape == (64, 3, 176, 176) and masks.max() == 1 and set(wanted.tolist()) <= {5, 6}
    assert (finer == -1).all() and (trust == 1).all()
    allowed = {round(float(packed.crops[row].float().mean())) for row in cells.rows("train") if row % 2 == 0}
    drawn = {round(255 * float(one.mean())) for one, k in zip(crops, wanted, strict=True) if k == 6}
    assert drawn <= allowed


def test_stain_moves_towards_the_reference_and_glass_stays(packed):
    pale = np.array([[0.1, 0.15, 0.09]])
    crop = torch.full((1, 3, 4, 4), 235 / 255)
    crop[..., 0] = 0.5
    moved = restained(crop, powers(pale, 0.5))
    assert torch.allclose(moved[..., 1:], crop[..., 1:], atol=1e-4)
    assert (moved[..., 0] < crop[..., 0]).all()
    assert torch.allclose(powers(np.full((2, 3), np.nan), 0.5), torch.ones(2, 3))


def test_mixed_statistics_keep_the_pattern_of_a_cell():
    torch.manual_seed(0)
    features = torch.randn(6, 4, 8, 8) * torch.arange(1, 7)[:, None, None, None]
    mixed = mix_statistics(features)
    assert mixed.shape == features.shape
    for before, after in zip(features.flatten(2), mixed.flatten(2), strict=True):
        for one, other in zip(before, after, strict=True):
            assert np.corrcoef(one, other)[0, 1] > 0.999


def test_grain_and_hue_stay_within_the_range_and_leave_glass_white():
    torch.manual_seed(0)
    crops = torch.ones(8, 3, 64, 64)
    crops[:, 1, 20:40, 20:40] = 0.4
    for changed in (views.grain(crops, 1.0), views.turn_hue(crops, 1.0, 40.0)):
        assert changed.min() >= 0 and changed.max() <= 1
        assert torch.allclose(changed[..., :12, :12], crops[..., :12, :12], atol=1e-3)
        assert not torch.allclose(changed, crops)
    assert torch.equal(views.grain(crops, 0.0), crops)
