"""Two ways of training compared over repeats: the same splits, one figure of each model a split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.errors import ModelError
from napari_leukocls.evaluation.significance import corrected_t, wilcoxon

FILE = "repeats.csv"
METRIC = "macro_f1"


def read_repeats(model: Path) -> dict[str, dict[str, float]]:
    """Repeats of a model, as its training left them in ``repeats.csv``: in its folder or beside it.

    Parameters
    ----------
    model : Path
        Folder of the model.

    Returns
    -------
    dict
        Of each test part (by the hash of its files): `METRIC`, ``n_train`` and ``n_test``. Empty where
        there are none.

    Raises
    ------
    ModelError
        Where the file is there and cannot be read.
    """
    found = [folder / FILE for folder in (model, model.parent) if (folder / FILE).is_file()]
    if not found:
        return {}
    try:
        with open(found[0], encoding="utf-8", newline="") as stream:
            return {
                row["test_sha256"]: {name: float(row[name]) for name in (METRIC, "n_train", "n_test")}
                for row in csv.DictReader(stream)
            }
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ModelError(f"'{found[0]}' cannot be read ({error}); copy it again, or move it away.") from error


def compare_repeats(
    first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]
) -> dict[str, Any] | None:
    """Compare two models over the test parts that both were measured on.

    Parameters
    ----------
    first, second : mapping
        As `read_repeats` gives them.

    Returns
    -------
    dict or None
        ``n``, ``metric``, both means, and p of Wilcoxon's test and of the t-test that allows for repeats which
        share crops; None where fewer than two parts are the same.
    """
    shared: Sequence[str] = [part for part in first if part in second]
    if len(shared) < 2:
        return None
    one, other = (np.array([rows[part][METRIC] for part in shared]) for rows in (first, second))
    test_share = float(np.mean([first[part]["n_test"] / first[part]["n_train"] for part in shared]))
    return {
        "n": len(shared),
        "metric": METRIC,
        "first": float(one.mean()),
        "second": float(other.mean()),
        "p_wilcoxon": wilcoxon(one.tolist(), other.tolist()),
        "p_corrected_t": corrected_t(one.tolist(), other.tolist(), test_share),
    }
