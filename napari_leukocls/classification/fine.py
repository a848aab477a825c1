"""Finer classes within the classes of a model: segmented and band neutrophils, stages of immature granulocytes.

A small linear head lies beside the classifier's weights (``fine_classes.safetensors`` and ``fine_classes.json``). It
takes the features of the classifier and gives the probability of each finer class *within* its class. The probability
of a finer class is P(class) x P(finer class | class), so the finer classes of a class sum to the class exactly, and
the class itself does not depend on the head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load
from scipy.special import softmax

from napari_leukocls.errors import ModelError
from napari_leukocls.models.registry import read_card_json
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FineShares

#: Files beside the weights of a classifier.
WEIGHTS_NAME = "fine_classes.safetensors"
CARD_NAME = "fine_classes.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FineHead:
    """A linear head on the features of one set of weights.

    Attributes
    ----------
    parts : dict of str to tuple of str
        The finer classes of each class, in the order of the outputs.
    thresholds : dict of str to float
        By class: below this P(finer class | class) a cell is not told apart.
    weight : numpy.ndarray, (L, D)
        L finer classes of all classes, one after the other.
    bias : numpy.ndarray, (L,)
    weights_sha256 : str
        Of the classifier's weights that it was fitted on.
    """

    parts: dict[str, tuple[str, ...]]
    thresholds: dict[str, float]
    weight: np.ndarray
    bias: np.ndarray
    weights_sha256: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The finer classes, in the order of the outputs."""
        return tuple(name for names in self.parts.values() for name in names)

    def shares(self, features: np.ndarray) -> FineShares:
        """Give the probability of each finer class within its class.

        Parameters
        ----------
        features : numpy.ndarray, (N, D)
            As `napari_leukocls.classification.classifier.Classifier.outputs` returns them.

        Returns
        -------
        FineShares

        Raises
        ------
        ModelError
            If the features are those of another network.
        """
        if len(features) and features.shape[1] != self.weight.shape[1]:
            raise ModelError("the finer classes do not fit the network: copy the model again.")
        parents = tuple(parent for parent, names in self.parts.items() for _ in names)
        shares = np.zeros((len(features), len(self.bias)), np.float32)
        if len(features):
            logits = features.astype(np.float32) @ self.weight.T + self.bias
            for parent in self.parts:
                mine = np.array([one == parent for one in parents])
                shares[:, mine] = softmax(logits[:, mine], axis=1)
        return FineShares(self.classes, parents, shares, tuple(self.thresholds[one] for one in parents))


def read_fine_head(folder: Path) -> FineHead:
    """Read the head in a model's folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    FineHead

    Raises
    ------
    ModelError
        If there is none, or it is damaged.
    """
    try:
        card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
        tensors = load((folder / WEIGHTS_NAME).read_bytes())
        head = FineHead(
            {str(name): tuple(map(str, names)) for name, names in card["classes"].items()},
            {str(name): float(value) for name, value in card["thresholds"].items()},
            tensors["weight"].astype(np.float32),
            tensors["bias"].astype(np.float32),
            str(card["weights_sha256"]),
        )
    except FileNotFoundError as error:
        raise ModelError(_has_none(folder)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(
            f"the finer classes in {folder} are damaged ({error}): copy the model again."
        ) from error
    whole = head.thresholds.keys() == head.parts.keys() and head.weight.ndim == 2
    if not whole or not len(head.classes) == len(head.weight) == len(head.bias):
        raise ModelError(f"the finer classes in {folder} do not fit their card: copy the model again.")
    return head


def load_fine_head(
    folder: Path, digest: str, classes: tuple[str, ...], scheme: Scheme | None = None
) -> FineHead:
    """Read the head in a model's folder, and refuse one that does not belong to the model or to the class scheme.

    Parameters
    ----------
    folder : Path
    digest : str
        SHA-256 of the classifier's weights.
    classes : tuple of str
        Of the classifier.
    scheme : Scheme, optional

    Returns
    -------
    FineHead

    Raises
    ------
    ModelError
        If there is none, it is damaged, or it does not fit; in one line.
    """
    head = read_fine_head(folder)
    if head.weights_sha256 != digest:
        raise ModelError(
            f"the finer classes in {folder} were fitted on other weights: fit them again, or count at depth 'classes'."
        )
    scheme = scheme or default_scheme()
    for parent, names in head.parts.items():
        for name in names:
            if parent not in classes or name not in scheme or scheme[name].parent != parent:
                raise ModelError(
                    f"the finer classes in {folder} hold {name!r} to be a part of {parent!r}, but the class scheme "
                    "does not: count at depth 'classes', or correct your scheme.toml."
                )
    return head


def offered_fine_classes(folder: Path) -> tuple[str, ...]:
    """List the finer classes of a model without reading its weights.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    tuple of str
        Empty where there is no head, or one of other weights.
    """
    try:
        card: Mapping[str, Any] = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
        wanted = read_card_json(folder).get("weights_sha256")
        if wanted is None or card["weights_sha256"] != wanted or not (folder / WEIGHTS_NAME).is_file():
            return ()
        return tuple(str(name) for names in card["classes"].values() for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError):
        return ()


def _has_none(folder: Path) -> str:
    return (
        f"the model '{folder.name}' does not tell finer classes apart: count its own classes (depth 'classes'), or "
        "choose another model."
    )
