"""The last layer of a network for one laboratory: fitted on few cells, chosen and checked by cross-validation.

A layer is fitted on the laboratory's cells and on stored features of the old ones, and pulled towards the old layer
(maximum a posteriori with a normal prior around the old weights [1]_). How strong the pull is, or whether the biases
alone are changed, or nothing, is chosen by cross-validation in whole units (patients, slides). A choice of the best of
several looks better than it is: so the choice is repeated on bootstrap samples of the units, and measured on the units
that are in none of them [2]_. If that shows no gain, the old layer is kept.

References
----------
.. [1] Li, X., Grandvalet, Y. & Davoine, F. (2018). Explicit inductive bias for transfer learning. ICML.
.. [2] Tsamardinos, I. et al. (2018). Bootstrapping the out-of-sample predictions for efficient and accurate
   cross-validation. Mach. Learn. 107, 1895-1922.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from napari_leukocls.progress import Progress, Steps
from napari_leukocls.training.calibrate import some_of_each
from napari_leukocls.training.split import assign

if TYPE_CHECKING:
    from napari_leukocls.training.feature_replay import Replay

#: Parts of the cross-validation.
FOLDS = 5
#: Strengths of the pull towards the old weights, strongest first; infinite changes the biases alone. They are relative
#: to the mean squared length of the features.
PULLS = (np.inf, 0.4, 0.12, 0.04, 0.012, 0.004, 0.0012)
#: Pull of the old classes' biases.
BIAS_PULL = 0.3
#: Weight of the old cells, all together, relative to that of the new ones.
REHEARSED = 0.3
#: Stored cells of each old class that are rehearsed.
OLD_CELLS = 50
#: Principal directions of the features in which weights change.
DIRECTIONS = 128
#: Bootstrap samples of the check.
SAMPLES = 400
#: A class that a model does not have gets this probability in the loss.
ABSENT = 1e-3


@dataclass(frozen=True)
class Layer:
    """A last layer.

    Attributes
    ----------
    weight : numpy.ndarray, (C, D)
    bias : numpy.ndarray, (C,)
    """

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Apply the layer.

        Parameters
        ----------
        features : numpy.ndarray, (N, D)

        Returns
        -------
        numpy.ndarray, (N, C), float32
        """
        array: np.ndarray = (features @ self.weight.T + self.bias).astype(np.float32)
        return array


@dataclass(frozen=True)
class SiteCells:
    """Features of the new laboratory's crops.

    Attributes
    ----------
    views : numpy.ndarray, (V, N, D)
        The first view is the crop as it is.
    classes : numpy.ndarray, (N,), int
    units : numpy.ndarray, (N,), int
        Crops of one unit are judged together.
    """

    views: np.ndarray
    classes: np.ndarray
    units: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def plain(self) -> np.ndarray:
        """Features (N, D) of the crops as they are."""
        array: np.ndarray = self.views[0]
        return array

    def keep(self, rows: np.ndarray) -> SiteCells:
        """Return some of the crops, in all views.

        Parameters
        ----------
        rows : numpy.ndarray, int

        Returns
        -------
        SiteCells
        """
        return SiteCells(self.views[:, rows], self.classes[rows], self.units[rows])


@dataclass(frozen=True)
class Check:
    """What the choice of a layer gains on units that it was not chosen on; NaN where there are too few units.

    Attributes
    ----------
    accuracy_before, accuracy_after : float
        Of all cells; a cell of a class that the old model does not know is wrong before.
    gain : float
        Mean difference of the accuracies in bootstrap samples.
    gain_ci95 : tuple of float
    known_before, known_after : float
        Accuracy of the cells whose class the old model knows; NaN without such cells.
    loss_gain : float
        Mean fall of the log loss, nats a cell.
    """

    accuracy_before: float
    accuracy_after: float
    gain: float
    gain_ci95: tuple[float, float]
    known_before: float
    known_after: float
    loss_gain: float


@dataclass(frozen=True)
class Judged:
    """Cross-validated logits of each strength, and what was chosen by them.

    Attributes
    ----------
    fold : numpy.ndarray, (N,), int
        Part in which each cell was judged.
    logits : numpy.ndarray, (S, N, C)
        Of each strength of `PULLS`: each cell is judged by a layer that was fitted without its unit.
    before : numpy.ndarray, (N, C)
        Of the old layer; minus infinity for classes that it does not have.
    chosen : int or None
        Index into `PULLS`; None keeps the old layer.
    check : Check
        Of the choice, whether it is kept or not.
    """

    fold: np.ndarray
    logits: np.ndarray
    before: np.ndarray
    chosen: int | None
    check: Check


def fit_layers(cells: SiteCells, replay: Replay, start: Layer, n_old: int) -> list[Layer]:
    """Fit a last layer with each strength of the pull.

    Parameters
    ----------
    cells : SiteCells
    replay : Replay
    start : Layer
        Of all classes. Rows of classes that the model did not know count as zero.
    n_old : int
        Classes that the model knew: the first rows.

    Returns
    -------
    list of Layer
        In the order of `PULLS`.
    """
    old, old_classes = replay.rehearse()
    few = some_of_each(np.arange(len(old)), old_classes, OLD_CELLS)
    old, old_classes = old[few], old_classes[few]
    centre = old.mean(axis=0, dtype=np.float64)
    weight = np.where(np.arange(len(start.weight))[:, None] < n_old, start.weight, 0.0)
    bias = np.where(np.arange(len(start.bias)) < n_old, start.bias + weight @ centre, 0.0)
    axes, length = _directions(np.concatenate([old, cells.plain]) - centre)
    new = cells.views.reshape(-1, cells.views.shape[-1]) - centre
    features = np.concatenate([new, old - centre])
    fixed = features @ weight.T + bias
    each = np.concatenate(
        [
            np.full(len(new), 1 / len(cells.views)),
            np.full(len(old), REHEARSED * len(cells) / max(len(old), 1)),
        ]
    )
    problem = _Problem(
        features @ axes / length, np.tile(cells.classes, len(cells.views)), old_classes, fixed, each, n_old
    )
    layers = []
    for pull in PULLS:
        change, shift = problem.solve(pull)
        fitted = weight + change @ axes.T / length
        layers.append(Layer(fitted, bias + shift - fitted @ centre))
    return layers


def _directions(centred: np.ndarray) -> tuple[np.ndarray, float]:
    """Principal directions (D, r), and the root mean squared length of the features."""
    values, vectors = np.linalg.eigh(centred @ centred.T)
    count = min(DIRECTIONS, int((values > 1e-6 * values[-1]).sum()))
    axes = centred.T @ vectors[:, -count:] / np.sqrt(values[-count:])
    return axes, float(np.sqrt(max(values.sum() / len(centred), 1e-12)))


class _Problem:
    """The weighted log loss of a change of the layer, with a penalty; solved from the strongest pull on."""

    def __init__(
        self,
        features: np.ndarray,
        new_classes: np.ndarray,
        old_classes: np.ndarray,
        fixed: np.ndarray,
        each: np.ndarray,
        n_old: int,
    ) -> None:
        self._features, self._fixed, self._each = features, fixed, each[:, None]
        self._truth = np.zeros_like(fixed)
        self._truth[np.arange(len(fixed)), np.concatenate([new_classes, old_classes])] = 1
        self._bias_pull = np.where(np.arange(fixed.shape[1]) < n_old, BIAS_PULL, 1e-3)
        self._now = np.zeros((fixed.shape[1], features.shape[1] + 1))

    def solve(self, pull: float) -> tuple[np.ndarray, np.ndarray]:
        """Change of weights (C, r) and of biases (C,)."""
        free = self._now[:, -1:] if np.isinf(pull) else self._now
        found = minimize(
            self._loss,
            free.ravel(),
            args=(pull,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 60, "ftol": 1e-6},
        )
        free[...] = found.x.reshape(free.shape)
        return self._now[:, :-1].copy(), self._now[:, -1].copy()

    def _loss(self, flat: np.ndarray, pull: float) -> tuple[float, np.ndarray]:
        now = flat.reshape(self._fixed.shape[1], -1)
        change, shift = now[:, :-1], now[:, -1]
        logits = self._fixed + shift
        if change.size:
            logits = logits + self._features @ change.T
        total = logsumexp(logits, axis=1, keepdims=True)
        residual = (np.exp(logits - total) - self._truth) * self._each
        loss = float((self._each * total).sum() - (self._each * self._truth * logits).sum())
        loss += 0.5 * float((self._bias_pull * shift**2).sum())
        slope = [residual.sum(axis=0)[:, None] + (self._bias_pull * shift)[:, None]]
        if change.size:
            loss += 0.5 * pull * float((change**2).sum())
            slope.insert(0, residual.T @ self._features + pull * change)
        return loss, np.concatenate(slope, axis=1).ravel()


def folds_of(cells: SiteCells, seed: int) -> np.ndarray:
    """Choose the part of the cross-validation in which each crop is judged.

    Parameters
    ----------
    cells : SiteCells
    seed : int

    Returns
    -------
    numpy.ndarray, (N,), int
        Units stay whole, and classes are spread over the parts. Where all crops are of one unit, they are parted
        singly.
    """
    units = cells.units
    if len(np.unique(units)) < 2:
        units = np.arange(len(cells))
    count = min(FOLDS, len(np.unique(units)))
    return assign(units, cells.classes, [1 / count] * count, np.random.default_rng(seed))


def judge(cells: SiteCells, replay: Replay, start: Layer, n_old: int, seed: int) -> Steps[Judged]:
    """Judge each crop by layers that were fitted without it, choose a strength, and check the choice.

    Parameters
    ----------
    cells : SiteCells
    replay : Replay
    start : Layer
        Of all classes.
    n_old : int
        Classes of the model before.
    seed : int

    Yields
    ------
    Progress
        Parts done, and how many there are.

    Returns
    -------
    Judged
    """
    fold = folds_of(cells, seed)
    before = start.logits(cells.plain)
    before[:, n_old:] = -np.inf
    logits = np.stack([before] * len(PULLS))
    for number in np.unique(fold):
        yield Progress("judge", int(number), int(fold.max()) + 1)
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(inside) == 0:
            continue
        for strength, layer in enumerate(fit_layers(cells.keep(inside), replay, start, n_old)):
            logits[strength, outside] = layer.logits(cells.plain[outside])
    units = cells.units if len(np.unique(cells.units)) > 1 else np.arange(len(cells))
    table = _Table(np.concatenate([before[None], logits]), cells.classes, units, n_old)
    chosen, check = table.choose(np.ones(len(cells))), table.check(seed)
    # The first column is the old layer.
    better = chosen > 0 and check.gain >= 0 and check.loss_gain > 0
    return Judged(fold, logits, before, chosen - 1 if better else None, check)


class _Table:
    """Loss and success of every option on every cell."""

    def __init__(self, logits: np.ndarray, truth: np.ndarray, units: np.ndarray, n_old: int) -> None:
        rows = np.arange(len(truth))
        probabilities = softmax(logits, axis=2)[:, rows, truth]
        self.loss = -np.log(np.maximum(probabilities, ABSENT))
        self.right = logits.argmax(axis=2) == truth
        self.known = truth < n_old
        _, self.unit = np.unique(units, return_inverse=True)

    def choose(self, weights: np.ndarray) -> int:
        """Option with the smallest loss of those that do not get fewer known cells right than the old layer."""
        known = (self.right * (weights * self.known)).sum(axis=1)
        loss = (self.loss * weights).sum(axis=1)
        return int(np.where(known >= known[0] - 1e-9, loss, np.inf).argmin())

    def check(self, seed: int) -> Check:
        """Choose on bootstrap samples of the units, and measure on the units outside."""
        random = np.random.default_rng(seed)
        count = int(self.unit.max()) + 1
        rows = []
        for _ in range(SAMPLES):
            times = np.bincount(random.integers(0, count, count), minlength=count)[self.unit]
            outside = times == 0
            if not outside.any():
                continue
            option = self.choose(times.astype(float))
            known = outside & self.known
            rows.append(
                [
                    *(self.right[k, outside].mean() for k in (0, option)),
                    *(self.right[k, known].mean() if known.any() else np.nan for k in (0, option)),
                    (self.loss[0, outside] - self.loss[option, outside]).mean(),
                ]
            )
        if not rows:
            nan = float("nan")
            return Check(nan, nan, nan, (nan, nan), nan, nan, nan)
        table = np.array(rows)
        low, high = np.quantile(table[:, 1] - table[:, 0], [0.025, 0.975])
        before, after, known_before, known_after, loss = (_mean(column) for column in table.T)
        return Check(
            before, after, after - before, (float(low), float(high)), known_before, known_after, loss
        )


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")
