"""The differential corrected for what the classifier is known to mistake for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_leukocls.errors import InputError, LeukoclsError
from napari_leukocls.io.serialise import table_bytes
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import find_model
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import SlideResult

COLUMNS = (
    *("slide_id", "class", "predicted_count", "predicted_percent"),
    *("corrected_percent", "ci95_low", "ci95_high", "n_test"),
)

N_BOOT = 2000

_ROUNDS = 400

_ENOUGH = 1e-7


def corrected_differential(
    cells: pd.DataFrame,
    matrix: np.ndarray,
    classes: Sequence[str],
    scheme: Scheme | None = None,
    *,
    slide_id: str | None = None,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimate the true shares of the classes from what a classifier said and how it errs.

    The count of predictions is taken to be a mixture of the rows of the confusion matrix; the shares are the
    likeliest mixture, and so within 0 and 1. All cells that the classifier saw enter with their prediction, also
    those that need review and those that a person has corrected: the matrix is of predictions alone.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    matrix : numpy.ndarray, (C, C), int
        Confusion matrix of a test: rows are the truth, columns the prediction.
    classes : sequence of str
        Of its rows and columns.
    scheme : Scheme, optional
    slide_id : str, optional
        By default that of the cells.
    n_boot : int
        Resamples of both the count and the matrix, for the intervals.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`, the classes of the differential in the scheme's order; percents are of leukocytes, 0-100.
        ``n_test`` is how many cells of the class the matrix was measured on.

    Raises
    ------
    InputError
        Where the matrix does not fit the classes, or a class was never tested.

    References
    ----------
    .. [1] Tenenbein, A. (1972). Technometrics 14, 187-202. (misclassified multinomials)
    .. [2] Saerens, M., Latinne, P. & Decaestecker, C. (2002). Neural Computation 14, 21-41. (the iteration)
    """
    scheme = scheme or default_scheme()
    table = np.asarray(matrix, dtype=float)
    _check(table, classes)
    count = _predictions(cells, classes)
    order = [name for name in scheme.ordered(classes) if scheme[name].counted_in_differential]
    inside = [list(classes).index(name) for name in order]
    if slide_id is None:
        slide_id = str(cells["slide_id"].iloc[0]) if len(cells) else ""
    n_wbc = count[inside].sum()
    plain = count[inside] / n_wbc if n_wbc else np.full(len(order), np.nan)
    share, low, high = shares_with_limits(count, table, inside, n_boot, seed)
    n_test = table.sum(axis=1)[inside].astype(int)
    columns = (
        *([slide_id] * len(order), order, count[inside].astype(int), 100 * plain),
        *(100 * share, 100 * low, 100 * high, n_test),
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _predictions(cells: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """How many of the cells that the classifier saw it called each class, (C,) float."""
    seen = cells[[f"prob_{name}" for name in classes]].notna().all(axis=1)
    predicted = cells.loc[seen, "predicted_class"].astype(str)
    return np.array([(predicted == name).sum() for name in classes], dtype=float)


def shares_with_limits(
    count: np.ndarray, table: np.ndarray, inside: list[int], n_boot: int = N_BOOT, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the likeliest shares of some classes among themselves, and their 95 % limits.

    Parameters
    ----------
    count : numpy.ndarray, (C,)
        Predictions of each class.
    table : numpy.ndarray, (C, C)
        Confusion matrix of a test: rows are the truth, columns the prediction.
    inside : list of int
        The classes whose shares sum to 1.
    n_boot : int
        Resamples of both.
    seed : int

    Returns
    -------
    tuple of numpy.ndarray
        Shares, low and high limits, 0-1; nan where none was counted.
    """
    if not count[inside].sum():
        unknown = np.full(len(inside), np.nan)
        return unknown, unknown, unknown
    share = _within(true_shares(count[None], _rates(table)[None]), inside)[0]
    draws = _within(_resampled(count, table, n_boot, np.random.default_rng(seed)), inside)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    # The likeliest shares may lie on the edge, where nearly all resamples are beside them.
    return share, np.minimum(low, share), np.maximum(high, share)


def true_shares(counts: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Likeliest shares of the true classes, by expectation and maximisation; always within the simplex.

    Parameters
    ----------
    counts : numpy.ndarray, (B, C)
        Predictions of each class, of B counts.
    rates : numpy.ndarray, (B, C, C)
        Chance of each prediction (last axis) for each true class.

    Returns
    -------
    numpy.ndarray, (B, C)
    """
    total = counts.sum(axis=1, keepdims=True)
    observed = counts / np.maximum(total, 1)
    shares = np.full(counts.shape, 1 / counts.shape[1])
    for _ in range(_ROUNDS):
        expected = np.einsum("bi,bij->bj", shares, rates)
        ratio = np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)
        after = shares * np.einsum("bij,bj->bi", rates, ratio)
        after /= np.maximum(after.sum(axis=1, keepdims=True), 1e-300)
        change = np.abs(after - shares).max(initial=0)
        shares = after
        if change < _ENOUGH:
            break
    return shares


def write(result: SlideResult, path: Path) -> None:
    """Write ``corrected.csv`` with the confusion matrix in the card of the result's classifier.

    Parameters
    ----------
    result : SlideResult
    path : Path
        Within a folder that is being filled.

    Raises
    ------
    LeukoclsError
        Where the model is not at hand, is another one by now, or its card has no confusion matrix.
    """
    matrix, classes = card_matrix(result.run.get("classifier"))
    table = corrected_differential(result.cells, matrix, classes, slide_id=result.slide_id)
    path.write_bytes(table_bytes(table))


def card_matrix(classifier: Any) -> tuple[np.ndarray, list[str]]:
    """Read the confusion matrix of a run's classifier from its card.

    Parameters
    ----------
    classifier : mapping or str
        ``name`` and ``sha256`` as in ``run.json``, or the name alone.

    Returns
    -------
    matrix : numpy.ndarray, (C, C)
        Rows are the true classes, columns the predicted ones.
    classes : list of str
        Of the rows and columns.

    Raises
    ------
    LeukoclsError
        If the model is not there, is another one by now, or its card has no confusion matrix.
    """
    name = classifier.get("name", "") if isinstance(classifier, dict) else str(classifier or "")
    card = read_card(find_model(name).path)
    wanted = classifier.get("sha256") if isinstance(classifier, dict) else None
    if wanted and card.weights_sha256 and card.weights_sha256 != wanted:
        raise LeukoclsError(f"the model '{name}' is another one than the result's: leave out 'corrected'.")
    rows = card.tested_matrix
    if rows is None:
        raise LeukoclsError(f"the card of model '{name}' has no confusion matrix: leave out 'corrected'.")
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"the confusion matrix of '{name}' has rows of unequal length: measure it again.")
    return np.asarray(rows, float), card.classes


def _check(table: np.ndarray, classes: Sequence[str]) -> None:
    if table.shape != (len(classes), len(classes)) or not np.isfinite(table).all() or (table < 0).any():
        raise InputError(
            f"the confusion matrix is not {len(classes)} x {len(classes)} counts: measure it again."
        )
    never = [name for name, n in zip(classes, table.sum(axis=1), strict=True) if n == 0]
    if never:
        raise InputError(
            f"the confusion matrix has no {never[0]}: test the model on some, then correct by it."
        )


def _rates(table: np.ndarray) -> np.ndarray:
    array: np.ndarray = table / table.sum(axis=-1, keepdims=True)
    return array


def _resampled(count: np.ndarray, table: np.ndarray, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """Shares of resamples of both the count and the matrix.

    What was never seen among n may still be there: each class is lent a part of one cell, so that an interval
    does not end at nothing for want of luck (Jeffreys' prior, spread over the classes).
    """
    total = int(count.sum())
    lent = 0.5
    counts = rng.dirichlet(count + lent, n_boot) * total
    rates = np.stack([rng.dirichlet(row + lent / len(count), n_boot) for row in table], axis=1)
    return true_shares(counts, rates)


def _within(shares: np.ndarray, inside: list[int]) -> np.ndarray:
    """Shares among the classes of the differential."""
    mine = shares[:, inside]
    array: np.ndarray = mine / np.maximum(mine.sum(axis=1, keepdims=True), 1e-300)
    return array
