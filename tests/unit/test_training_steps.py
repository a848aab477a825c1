"""The parts of a training step: losses, schedules, variation of crops, freezing, stain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crops_for_training import disc
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from napari_leukocls.architectures import registry
from napari_leukocls.classification import stain
from napari_leukocls.training.augment import augment, generator_for, mix
from napari_leukocls.training.batches import BatchLoader, epoch_rows
from napari_leukocls.training.config import make_train_config
from napari_leukocls.training.loss import class_weights, distillation, loss_of, targets_of
from napari_leukocls.training.optimiser import (
    make_average,
    make_optimiser,
    make_schedule,
    set_modes,
    set_trainable,
)

NOTHING = dict.fromkeys(
    "hflip vflip rotation translation zoom brightness contrast saturation hue stain blur noise erasing".split(),
    0.0,
)


def config(**more):
    return make_train_config(data="d", out="o", arch="resnet18", **more)


@pytest.fixture
def crops():
    random = np.random.default_rng(0)
    many = np.stack([disc((120, 60, 160), random) for _ in range(16)])
    return torch.from_numpy(many).permute(0, 3, 1, 2).float() / 255


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0, 0.3))
def test_cross_entropy_is_torchs(seed, n_classes, smoothing):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((7, n_classes), generator=generator) * 3
    truth = torch.randint(0, n_classes, (7,), generator=generator)
    mine = loss_of(logits, targets_of(truth, n_classes, smoothing), config(), None)
    torch.testing.assert_close(mine, functional.cross_entropy(logits, truth, label_smoothing=smoothing))


def test_focal_loss_is_its_formula_and_cross_entropy_at_gamma_zero():
    logits, truth = torch.randn(9, 4), torch.randint(0, 4, (9,))
    alpha = torch.tensor([0.5, 1.0, 2.0, 0.7])
    targets = targets_of(truth, 4, 0)
    mine = loss_of(logits, targets, config(loss="focal", focal_gamma=2), alpha)
    p = logits.softmax(1)[torch.arange(9), truth]
    torch.testing.assert_close(mine, (alpha[truth] * (1 - p) ** 2 * -p.log()).mean())
    plain = loss_of(logits, targets, config(loss="focal", focal_gamma=0), None)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, truth))


@pytest.mark.parametrize("how", ["balanced", "sqrt", "effective"])
def test_class_weights_favour_the_rare_and_average_to_one(how):
    counts = np.array([100, 10, 1, 0])
    weights = class_weights(counts, how)
    assert weights[0] < weights[1] < weights[2] and weights[3] == 1
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    assert (class_weights(counts, "none") == 1).all()


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [50, 20, 5])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(np.bincount(labels), "balanced"), expected)


def test_a_teacher_that_agrees_pulls_nowhere():
    logits = torch.randn(5, 4)
    assert distillation(logits, logits[:, [0, 2]], [0, 2], 2.0).item() == pytest.approx(0, abs=1e-6)
    assert distillation(logits, -logits[:, [0, 2]], [0, 2], 2.0) > 0


def test_no_variation_leaves_crops_as_they_are(crops):
    torch.testing.assert_close(augment(crops.clone(), config(**NOTHING), generator_for(0), 0.9), crops)


def test_variation_depends_on_its_numbers_alone_and_differs_between_crops(crops):
    same = crops[:1].expand(16, -1, -1, -1)
    settings_ = config(erasing=0.5, blur=0.3, noise=0.05)
    first = augment(same.clone(), settings_, generator_for(1, 2, 3), 0.9)
    torch.manual_seed(99)
    again = augment(same.clone(), settings_, generator_for(1, 2, 3), 0.9)
    other = augment(same.clone(), settings_, generator_for(1, 2, 4), 0.9)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert len({view.numpy().tobytes() for view in first}) == 16
    assert first.min() >= 0 and first.max() <= 1


def test_a_policy_varies_each_crop_and_depends_on_its_numbers_alone(crops):
    asked = config(**NOTHING, policy="autoaugment")
    state = torch.get_rng_state()
    first, again = (augment(crops.clone(), asked, generator_for(5), 0.9) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert torch.equal(state, torch.get_rng_state())
    changed = (first - crops).abs().amax((1, 2, 3)) > 0.02
    assert changed.float().mean() > 0.5 and first.min() >= 0 and first.max() <= 1


def test_without_augmentation_crops_stay_as_they_are(crops):
    same = augment(crops.clone(), config(augmentation=False, erasing=1.0, noise=0.5), generator_for(0), 0.9)
    torch.testing.assert_close(same, crops, rtol=0, atol=0)


def test_turning_leaves_glass_around_the_crop(crops):
    moved = augment(crops.clone(), config(**{**NOTHING, "rotation": 45.0}), generator_for(0), 235 / 255)
    # Corners come from outside the crop; a quarter of the turns are too small to show.
    corners = moved[:, :, 0, 0]
    assert (corners - 235 / 255).abs().median() < 0.02


def test_mirroring_is_exact(crops):
    flipped = augment(crops.clone(), config(**{**NOTHING, "hflip": 1.0}), generator_for(0), 0.9)
    torch.testing.assert_close(flipped, crops.flip(-1))


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 0.2}])
def test_mixing_keeps_probabilities(crops, options):
    targets = targets_of(torch.arange(16) % 3, 3, 0)
    for seed in range(8):
        images, mixed = mix(crops, targets, config(**options), generator_for(seed))
        assert images.shape == crops.shape
        torch.testing.assert_close(mixed.sum(1), torch.ones(16))


def test_an_epoch_shows_every_crop_once_and_a_balanced_one_every_class_as_often():
    labels = np.repeat([0, 1], [300, 20])
    rows = epoch_rows(np.arange(320), labels, config(batch_size=32), 0, 0)
    assert sorted(np.concatenate(rows).tolist()) == list(range(320)) and {len(r) for r in rows} == {32}
    assert [len(r) for r in epoch_rows(np.arange(33), labels, config(batch_size=32), 0, 0)] == [17, 16]
    drawn = np.concatenate(epoch_rows(np.arange(320), labels, config(sampler="balanced"), 0, 0))
    assert 0.4 < (labels[drawn] == 1).mean() < 0.6
    other = epoch_rows(np.arange(320), labels, config(), 0, 1)
    assert not np.array_equal(np.concatenate(rows), np.concatenate(other))


def test_a_fault_while_batches_are_made_reaches_the_one_who_asks():
    def make(step):
        if step == 2:
            raise ValueError("no such crop")
        return step

    seen = []
    with pytest.raises(ValueError, match="no such crop"), BatchLoader(make, range(5)) as loader:
        for item in loader:
            seen.append(item)
    assert seen == [0, 1]
    with BatchLoader(lambda step: step, range(100)) as loader:
        assert next(iter(loader)) == 0  # and leaving early does not hang


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_rates_rise_to_the_largest_and_fall(schedule, optimiser):
    settings_ = config(schedule=schedule, optimiser=optimiser, epochs=10, lr=0.1)
    made = make_optimiser(torch.nn.Linear(4, 2), settings_)
    plan = make_schedule(made, settings_, 10)
    rates = []
    for _ in range(100):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        plan.step()
    assert max(rates) == pytest.approx(0.1, rel=0.01) and rates[0] < 0.1
    assert (rates[-1] < 0.01) == (schedule != "constant")
    assert made.param_groups[1]["weight_decay"] == 0


def test_freezing_by_stage_and_frozen_normalisations():
    net, entry = registry.create("resnet18", 3), registry.entry("resnet18")
    count = {}
    for epoch in (0, 2, 4):
        set_trainable(net, entry, config(freeze="progressive", unfreeze_every=2), epoch)
        count[epoch] = sum(parameter.requires_grad for parameter in net.parameters())
    assert 0 < count[0] < count[2] < count[4]
    assert net.fc.weight.requires_grad and not net.conv1.weight.requires_grad
    set_modes(net)
    assert not net.bn1.training and net.layer4[0].bn1.training
    last = set_trainable(net, entry, config(freeze="progressive", unfreeze_every=1, keep_frozen=2), 50)
    assert last == 3 and not net.layer1[0].conv1.weight.requires_grad
    set_trainable(net, entry, config(), 0)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_moving_average_follows_closely_at_first_and_slowly_later():
    net = torch.nn.Linear(1, 1, bias=False)
    average = make_average(net, 0.99)
    with torch.no_grad():
        net.weight.fill_(0)
    average.update_parameters(net)
    with torch.no_grad():
        net.weight.fill_(1)
    average.update_parameters(net)
    first = average.module.weight.item()
    assert first > 0.5
    for _ in range(2000):
        average.update_parameters(net)
    with torch.no_grad():
        net.weight.fill_(2)
    average.update_parameters(net)
    assert average.module.weight.item() == pytest.approx(1.01, abs=0.005)


def dyed(stains, random):
    """A cell on glass: a nucleus of the first dye within cytoplasm of the second, from dyes as optics mix them."""
    y, x = np.mgrid[:32, :32]
    away = np.hypot(y - 16 + random.uniform(-2, 2), x - 16 + random.uniform(-2, 2))
    amounts = np.stack([1.2 * (away < 6) + 0.1 * (away < 11), 0.2 * (away < 6) + 0.8 * (away < 11)])
    amounts = amounts * random.uniform(0.8, 1.2, (2, 32, 32))
    return np.clip(235 * np.exp(-np.einsum("cs,shw->hwc", stains, amounts)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", stain.METHODS)
def test_stain_normalisation_brings_another_stain_nearer(method):
    random = np.random.default_rng(1)
    ours = np.array([[0.65, 0.15], [0.70, 0.95], [0.29, 0.25]])
    others = np.array([[0.95, 0.25], [0.60, 0.45], [0.20, 0.55]]) * 0.7
    mine, theirs = (np.stack([dyed(dyes, random) for _ in range(20)]) for dyes in (ours, others))
    reference = stain.fit_reference(mine, method)
    moved = stain.normalise(theirs, reference)

    def away(crops):
        return sum(
            np.abs(crops[area].mean((0, 1, 2)) - mine[area].mean((0, 1, 2))).sum()
            for area in (np.s_[:, 14:18, 14:18], np.s_[:, 14:18, 6:8])
        )

    assert away(moved) < 0.6 * away(theirs)
    # Glass stays glass, and crops without stain are left alone.
    assert np.abs(moved[:, 0].astype(int) - theirs[:, 0]).max() <= 1
    glass = np.full((1, 32, 32, 3), 235, np.uint8)
    np.testing.assert_array_equal(stain.normalise(glass, reference), glass)
    np.testing.assert_array_equal(stain.normalise(theirs, {}), theirs)
