"""Packed crops of several laboratories, and what a network says of them, as the product computes it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls import architectures
from napari_leukocls.classification import familiarity, ood
from napari_leukocls.classification.classifier import Classifier, Outputs
from napari_leukocls.classification.crops import cut_window, paint_out
from napari_leukocls.models.card import CropRule, ModelCard
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme
from scripts.left_out import Cells
from scripts.pack_crops import RULE
from scripts.packs import Pack, read_classes

#: Training cells of each class that the unknown score is fitted on: of the largest set, and of each other one.
LARGEST, OTHERS = 160, 40
#: Validation cells that the score's scale is set with, and cells of a set that the reference of slides is fitted on.
HELD_BACK, REFERENCE = 600, 400
#: Classes that the test of slides leaves out: few laboratories have labelled them.
NOT_OF_SLIDES = ("platelet",)


@dataclass(frozen=True)
class KnownSet:
    """Packed crops of one laboratory with their classes.

    Attributes
    ----------
    name : str
    pack : Pack
    truth : numpy.ndarray, (N,), int
        Index of each crop's class; -1 where the model does not have it, or it is not known.
    slides : numpy.ndarray, (N,), str
        Slide of each crop; the set's name where slides are not known.
    """

    name: str
    pack: Pack
    truth: np.ndarray
    slides: np.ndarray

    @classmethod
    def read(cls, folder: Path, name: str, classes: list[str], table: Path | None) -> KnownSet:
        """Read a set of a pack; the table has the columns file and class, and may have the column slide."""
        pack = Pack(folder, name, torch.device("cpu"))
        known = dict(zip(pack.names.tolist(), pack.classes.tolist(), strict=True))
        slides = {}
        if table is not None:
            known = {Path(file).name: value for file, value in read_classes(table).items()}
            with table.open(newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if row.get("slide")]
            slides = {Path(row["file"]).name: f"{name} {row['slide']}" for row in rows}
        scheme = default_scheme()
        named = [scheme.resolve(known.get(file, "")) or known.get(file, "") for file in pack.names.tolist()]
        truth = np.array([classes.index(one) if one in classes else -1 for one in named])
        return cls(name, pack, truth, np.array([slides.get(file, name) for file in pack.names.tolist()]))

    @property
    def training(self) -> np.ndarray:
        """Rows that may be trained on."""
        return np.flatnonzero(~self.pack.heldout.astype(bool) & ~self.pack.validation & (self.truth >= 0))

    @property
    def validation(self) -> np.ndarray:
        """Rows of the validation part, none of them held out."""
        return np.flatnonzero(~self.pack.heldout.astype(bool) & self.pack.validation & (self.truth >= 0))

    @property
    def heldout(self) -> np.ndarray:
        """Rows that are never trained on."""
        return np.flatnonzero(self.pack.heldout.astype(bool) & (self.truth >= 0))

    @property
    def labelled(self) -> np.ndarray:
        """All rows with a class that the model has."""
        return np.flatnonzero(self.truth >= 0)


def some_of_each(rows: np.ndarray, truth: np.ndarray, count: int) -> np.ndarray:
    """The first rows of each class."""
    return np.concatenate([rows[truth[rows] == k][:count] for k in np.unique(truth[rows])] or [rows])


def spread_over(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows, evenly chosen, not more than `count`."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]


def product_crops(pack: Pack, rows: np.ndarray, rule: CropRule) -> np.ndarray:
    """Cut crops (N, side, side, 3) from packed windows by the product's own functions."""
    out = np.empty((len(rows), rule.side_px, rule.side_px, 3), np.uint8)
    middle = ((RULE.side_px - 1) / 2,) * 2
    for place, row in enumerate(rows):
        window = pack.crops[row].permute(1, 2, 0).contiguous().numpy()
        crop = cut_window(window, middle, RULE.um_per_px, rule, [235.0] * 3)
        mask = cut_window(pack.masks[row, 0].numpy(), middle, RULE.um_per_px, rule, [0.0])
        out[place] = paint_out(crop, mask, rule)
    return out


class Network:
    """A network with what it knows of its laboratories.

    Parameters
    ----------
    card : dict
        Of the model so far.
    weights : dict of torch.Tensor
    known : list of KnownSet
        The sets that it was trained on.
    opinion : Classifier, optional
    """

    def __init__(
        self,
        card: dict[str, Any],
        weights: dict[str, torch.Tensor],
        known: list[KnownSet],
        opinion: Classifier | None = None,
    ) -> None:
        network = architectures.create(card["architecture"], len(card["classes"]), **card["arguments"])
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
        self.classifier = Classifier(ModelCard(**card), network.eval(), {}, "", "cpu", opinion)
        self.known = known
        self.tensors = self._unknown_score() | self._reference()

    def look(self, one: KnownSet, rows: np.ndarray) -> Outputs:
        """Outputs for cells of a set."""
        crops = product_crops(one.pack, rows, self.classifier.card.crop)
        return drain(self.classifier.look(crops, 64))

    def cells(self, one: KnownSet, rows: np.ndarray) -> Cells:
        """Logits, unknown score and classes of cells of a set."""
        found = self.look(one, rows)
        score = ood.score(found.features, found.logits, self.tensors)
        return Cells(found.logits, score, one.truth[rows])

    def differences(self, one: KnownSet, rows: np.ndarray) -> np.ndarray:
        """How the pictures of cells differ from known ones, for the test of slides."""
        found = self.look(one, rows)
        return familiarity.differences(found.layers, self._probabilities(found), self.tensors)

    def _unknown_score(self) -> dict[str, np.ndarray]:
        largest = max(self.known, key=lambda one: len(one.training))
        # The largest set last: the score keeps the first cells of each class.
        order = sorted(self.known, key=lambda one: one is largest)
        chosen = [
            (one, some_of_each(one.training, one.truth, LARGEST if one is largest else OTHERS))
            for one in order
        ]
        back = [(one, spread_over(one.validation, HELD_BACK // len(order))) for one in order]
        fitted = _joined([self.look(one, rows) for one, rows in chosen])
        held = _joined([self.look(one, rows) for one, rows in back])
        truth = np.concatenate([one.truth[rows] for one, rows in chosen])
        return ood.fit(fitted.features, fitted.logits, truth, (held.features, held.logits))

    def _reference(self) -> dict[str, np.ndarray]:
        layers, probabilities, slides, laboratories = [], [], [], []
        left_out = [k for k, name in enumerate(self.classifier.classes) if name in NOT_OF_SLIDES]
        for one in self.known:
            rows = one.training[~np.isin(one.truth[one.training], left_out)]
            rows = spread_over(rows, REFERENCE)
            found = self.look(one, rows)
            layers.append(found.layers)
            probabilities.append(self._probabilities(found))
            slides.append(one.slides[rows])
            # The originals of a set come from the same laboratory.
            laboratories.append(np.full(len(rows), one.name.removesuffix("_full")))
        return familiarity.fit(
            *(np.concatenate(part) for part in (layers, probabilities, slides, laboratories))
        )

    @staticmethod
    def _probabilities(found: Outputs) -> np.ndarray:
        return torch.softmax(torch.from_numpy(found.logits), 1).numpy()


def _joined(parts: list[Outputs]) -> Outputs:
    some = [part for part in parts if len(part.logits)]
    return Outputs(
        *(np.concatenate([getattr(part, name) for part in some]) for name in ("logits", "features", "layers"))
    )
