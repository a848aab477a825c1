"""The last layer for one laboratory: chosen by cross-validation, and never worse by its own check."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.progress import drain
from napari_leukocls.training.config import make_train_config
from napari_leukocls.training.feature_replay import Replay
from napari_leukocls.training.site_calibration import fit_on_site, site_limit, site_temperature
from napari_leukocls.training.site_layer import PULLS, Layer, SiteCells, fit_layers, folds_of, judge
from napari_leukocls.training.site_shift import learn_unlabelled, shift_of

#: Directions of three old classes and a new one, in eight dimensions.
MEANS = 3.0 * np.eye(8)[:4]
CONFIG = make_train_config("adapt", data="-", out="-", from_model="default")


def cells_of(classes: np.ndarray, seed: int, shift: float = 0.0, noise: float = 0.6) -> np.ndarray:
    """Features of cells; a laboratory with another stain has all of them moved."""
    random = np.random.default_rng(seed)
    return (MEANS[classes] + random.normal(0, noise, (len(classes), 8)) + shift * THEIRS).astype(np.float32)


#: The direction in which another stain moves features: old class 0 looks like class 1.
THEIRS = np.array([-1.0, 1.0, 0.2, 0.0, 0.4, 0.0, 0.0, 0.3])


@pytest.fixture(scope="module")
def model() -> tuple[Layer, Replay]:
    """A layer that tells the three old classes apart, and stored cells of them."""
    classes = np.arange(180) % 3
    features = cells_of(classes, 1)
    replay = Replay(features, classes, np.arange(180) >= 120)
    weight = np.concatenate([MEANS[:3], np.zeros((1, 8))])
    return Layer(weight, np.array([-4.5, -4.5, -4.5, 0.0])), replay


def site(n: int, seed: int, shift: float, classes: int = 3, each: int = 4, views: int = 2) -> SiteCells:
    """Cells of a laboratory, `each` of a slide."""
    truth = np.arange(n) % classes
    made = np.stack([cells_of(truth, seed + 100 * view, shift) for view in range(views)])
    return SiteCells(made, truth, np.arange(n) // each)


def accuracy(layer: Layer, cells: SiteCells, n_old: int = 4) -> float:
    logits = layer.logits(cells.plain)
    logits[:, n_old:] = -np.inf
    return float((logits.argmax(axis=1) == cells.classes).mean())


def test_another_stain_is_learnt_and_holds_on_other_slides(model):
    start, replay = model
    given_cells, others = site(60, 5, 2.0), site(90, 6, 2.0)
    judged = drain(judge(given_cells, replay, start, 3, 0))
    assert judged.chosen is not None
    fitted = fit_layers(given_cells, replay, start, 3)[judged.chosen]
    assert accuracy(fitted, others) > accuracy(start, others, 3) + 0.2
    check = judged.check
    assert check.gain_ci95[0] <= check.gain <= check.gain_ci95[1] and check.gain > 0.1
    old, old_classes = replay.checked()
    assert (fitted.logits(old).argmax(axis=1) == old_classes).mean() > 0.85


def test_a_new_class_of_few_cells_is_found_and_swallows_no_old_one(model):
    start, replay = model
    random = np.random.default_rng(2)
    truth = np.concatenate([np.arange(60) % 3, np.full(10, 3)])[random.permutation(70)]
    cells = SiteCells(cells_of(truth, 7, 0.5)[None], truth, np.arange(70))
    judged = drain(judge(cells, replay, start, 3, 0))
    assert judged.chosen is not None and judged.check.known_after >= judged.check.known_before - 0.02
    fitted = fit_layers(cells, replay, start, 3)[judged.chosen]
    others = np.arange(80) % 4
    guess = fitted.logits(cells_of(others, 8, 0.5)).argmax(axis=1)
    assert (guess[others == 3] == 3).mean() > 0.8
    assert (guess[others < 3] == others[others < 3]).mean() > 0.85


def test_cells_that_teach_nothing_keep_the_model(model):
    start, replay = model
    cells = site(60, 9, 0.0)
    shuffled = SiteCells(cells.views, np.random.default_rng(0).permutation(cells.classes), cells.units)
    judged = drain(judge(shuffled, replay, start, 3, 0))
    assert judged.chosen is None or judged.check.gain >= 0
    alone = SiteCells(cells.views[:, :1], cells.classes[:1], cells.units[:1])
    assert drain(judge(alone, replay, start, 3, 0)).chosen is None


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(4, 40),
    shift=st.floats(-3, 3),
    wrong=st.floats(0, 1),
    each=st.integers(1, 12),
    classes=st.integers(1, 4),
)
def test_no_change_is_worse_by_its_own_check(model, seed, n, shift, wrong, each, classes):
    start, replay = model
    cells = site(n, seed, shift, classes, each)
    random = np.random.default_rng(seed)
    truth = np.where(random.random(n) < wrong, random.integers(0, classes, n), cells.classes)
    cells = SiteCells(cells.views, truth, cells.units)
    judged = drain(judge(cells, replay, start, 3, seed))
    assert judged.logits.shape == (len(PULLS), n, 4)
    if judged.chosen is None:
        return
    assert judged.check.gain >= 0 and judged.check.loss_gain > 0
    known = truth < 3
    right = judged.logits[judged.chosen].argmax(axis=1) == truth
    assert right[known].sum() >= (judged.before.argmax(axis=1) == truth)[known].sum()


def test_a_slide_is_never_on_both_sides(model):
    cells = site(60, 3, 1.0, each=7)
    fold = folds_of(cells, 0)
    assert all(len(set(fold[cells.units == unit])) == 1 for unit in np.unique(cells.units))
    one_slide = SiteCells(cells.views, cells.classes, np.zeros(60, int))
    assert len(set(folds_of(one_slide, 0))) == 5


def test_the_cells_of_the_laboratory_do_not_all_go_to_review(model):
    start, replay = model
    cells, others = site(90, 5, 2.0), site(150, 6, 2.0)
    judged = drain(judge(cells, replay, start, 3, 0))
    assert judged.chosen is not None
    layer = fit_layers(cells, replay, start, 3)[judged.chosen]
    fitted = fit_on_site(cells, judged.fold, judged.logits[judged.chosen], layer, replay, CONFIG, 1.3)
    from scipy.special import softmax

    from napari_leukocls.classification import ood

    logits = layer.logits(others.plain)
    best = softmax(logits / fitted.temperature, axis=1).max(axis=1)
    score = ood.score(others.plain, logits, fitted.ood_tensors)
    review = (best < fitted.review_threshold) | (score >= fitted.ood_threshold)
    right = logits.argmax(axis=1) == others.classes
    assert review.mean() <= 0.2 and right[~review].mean() >= 0.95
    assert fitted.validation["n"] == 90 and fitted.validation["target_error"] == CONFIG.target_error
    strange = np.full((20, 8), -6.0, np.float32)
    assert (ood.score(strange, layer.logits(strange), fitted.ood_tensors) >= fitted.ood_threshold).all()


def test_a_temperature_from_few_cells_stays_near_the_one_before():
    sure = np.array([[9.0, 0.0], [0.0, 9.0]])
    assert site_temperature(sure, np.array([0, 1]), 1.4) == pytest.approx(1.4, rel=0.05)
    many, truth = np.tile(sure, (60, 1)), np.tile([0, 1], 60)
    truth[:30] = 1 - truth[:30]
    assert site_temperature(many, truth, 1.4) > 3
    absent = np.array([[2.0, 1.0, -np.inf]] * 5)
    assert site_temperature(absent, np.full(5, 2), 1.4) == pytest.approx(1.4, rel=0.01)


def test_the_limit_reaches_the_target_where_it_can():
    random = np.random.default_rng(0)
    best = random.uniform(0.5, 1, 400)
    truth = (random.random(400) > best).astype(int)
    probabilities = np.stack([best, 1 - best], axis=1)
    limit, error = site_limit(probabilities, truth, 0.05)
    kept = best >= limit
    assert 0.85 < limit < 0.99 and error <= 0.05 and truth[kept].mean() < 0.1
    sure = np.tile([[0.99, 0.01]], (50, 1))
    assert site_limit(sure, np.zeros(50, int), 0.03)[0] == 0.3


def test_without_labels_a_stain_is_told_from_other_shares_of_the_classes(model):
    start, replay = model
    old = Layer(start.weight[:3], start.bias[:3])
    truth = np.repeat([0, 1, 2], [70, 20, 10])
    moved = cells_of(truth, 4, 1.0)
    learnt = learn_unlabelled(moved, old, replay, 1.0)
    assert learnt.layer is not None and learnt.why == ""
    assert (learnt.layer.logits(moved).argmax(axis=1) == truth).mean() >= accuracy(
        start, SiteCells(moved[None], truth, truth), 3
    )
    # Other shares of the classes in the old stain are no shift.
    same = shift_of(cells_of(truth, 5), old, 1.0, replay)
    assert np.linalg.norm(same) < 0.3 < np.linalg.norm(shift_of(moved, old, 1.0, replay))


def test_without_labels_the_model_is_kept_where_nothing_can_be_told(model):
    start, replay = model
    old = Layer(start.weight[:3], start.bias[:3])
    few = learn_unlabelled(cells_of(np.arange(6) % 3, 4, 1.0), old, replay, 1.0)
    assert few.layer is None and "too few" in few.why
    noise = np.random.default_rng(0).normal(0, 5, (40, 8)).astype(np.float32)
    kept = learn_unlabelled(noise, old, replay, 1.0)
    assert kept.layer is None and kept.why
