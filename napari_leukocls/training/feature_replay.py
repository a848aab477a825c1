"""Features of the classes that a model knows, kept beside it, so that it can learn new ones and keep the old.

``replay.safetensors`` holds features, the input of the last layer, in half precision and under 4 MB: some of cells
that the model was trained on (to rehearse) and some of cells that it was not (to check what is remembered).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from napari_leukocls.errors import ModelError

FILE = "replay.safetensors"

#: Bytes of features at most.
BUDGET = 3_800_000
#: Share of the features that are of cells that were not trained on.
CHECK_SHARE = 0.3


@dataclass(frozen=True)
class Replay:
    """Features of known cells.

    Attributes
    ----------
    features : numpy.ndarray, (N, D), float32
    classes : numpy.ndarray, (N,), int
        Index into the model's classes.
    check : numpy.ndarray, (N,), bool
        Of cells that the model was not trained on.
    """

    features: np.ndarray
    classes: np.ndarray
    check: np.ndarray

    def rehearse(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features and classes to train on.

        Returns
        -------
        tuple of numpy.ndarray
        """
        return self.features[~self.check], self.classes[~self.check]

    def checked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features and classes to measure on.

        Returns
        -------
        tuple of numpy.ndarray
        """
        return self.features[self.check], self.classes[self.check]


def choose(
    trained: tuple[np.ndarray, np.ndarray], held_back: tuple[np.ndarray, np.ndarray], seed: int = 0
) -> Replay:
    """Choose features, as many of each class as the budget allows.

    Parameters
    ----------
    trained, held_back : tuple of numpy.ndarray
        Features (N, D) and classes (N,) of cells that were trained on, and that were not.
    seed : int

    Returns
    -------
    Replay
    """
    random = np.random.default_rng(seed)
    n_classes = len(np.unique(trained[1]))
    each = max(2, BUDGET // (2 * trained[0].shape[1] * max(n_classes, 1)))
    parts = []
    for (features, classes), share in ((trained, 1 - CHECK_SHARE), (held_back, CHECK_SHARE)):
        count = max(1, int(each * share))
        rows = np.concatenate(
            [random.permutation(np.flatnonzero(classes == k))[:count] for k in np.unique(classes)]
        )
        parts.append((features[rows], classes[rows]))
    check = np.repeat([False, True], [len(parts[0][1]), len(parts[1][1])])
    return Replay(
        np.concatenate([parts[0][0], parts[1][0]]).astype(np.float32),
        np.concatenate([parts[0][1], parts[1][1]]).astype(np.intp),
        check,
    )


def save_replay(path: Path, replay: Replay, weights_sha256: str) -> None:
    """Write features beside the weights that gave them.

    Parameters
    ----------
    path : Path
    replay : Replay
    weights_sha256 : str
        Of the weights that gave the features.
    """
    # Past half precision's range a feature would become infinite.
    tensors = {
        "features": np.clip(replay.features, -65000, 65000).astype(np.float16),
        "classes": replay.classes.astype(np.int16),
        "check": replay.check.astype(np.uint8),
    }
    path.write_bytes(save(tensors, metadata={"weights_sha256": weights_sha256}))


def read_replay(folder: Path, weights_sha256: str, n_classes: int) -> Replay:
    """Read the features of a model.

    Parameters
    ----------
    folder : Path
        Of the model.
    weights_sha256 : str
    n_classes : int

    Returns
    -------
    Replay

    Raises
    ------
    ModelError
        Where there are none, or they are of other weights.
    """
    path = folder / FILE
    if not path.is_file():
        raise ModelError(
            f"the model {folder.name} keeps no features of its classes ({FILE}): train with --no-rehearse, "
            "or start from another model."
        )
    try:
        with safe_open(path, framework="np") as file:
            made_for = (file.metadata() or {}).get("weights_sha256")
            raw = {name: file.get_tensor(name) for name in ("features", "classes", "check")}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model again.") from error
    if made_for != weights_sha256:
        raise ModelError(f"{path} is of other weights than the model's: copy the whole model again.")
    classes = raw["classes"].astype(np.intp)
    if classes.size == 0 or classes.min() < 0 or classes.max() >= n_classes:
        raise ModelError(f"{path} names classes that the model does not have: copy the model again.")
    return Replay(raw["features"].astype(np.float32), classes, raw["check"].astype(bool))
