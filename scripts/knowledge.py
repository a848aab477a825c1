"""What a network knows of its laboratories, and what it says of packed cells, computed as the product does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from napari_leukocls import architectures
from napari_leukocls.classification import familiarity, ood
from napari_leukocls.classification.classifier import Classifier, Outputs
from napari_leukocls.classification.crops import cut_window, paint_out, stain_power
from napari_leukocls.models.card import ModelCard
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.progress import drain
from scripts.laboratories import Cells
from scripts.left_out import Predicted
from scripts.pack_crops import RULE
from scripts.packs import Pack

#: Training cells of each class that the unknown score is fitted on: of the largest pack, and of each other one.
LARGEST, OTHERS = 160, 40
#: Validation cells that the score's scale is set with, and cells of a pack that the reference of slides is fitted on.
HELD_BACK, REFERENCE = 600, 400
#: Classes that the test of slides leaves out: few laboratories have labelled them.
NOT_OF_SLIDES = ("platelet",)


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
    white = float(rule.white or 255)
    for place, row in enumerate(rows):
        window = pack.crops[row].permute(1, 2, 0).contiguous().numpy()
        crop = cut_window(window, middle, RULE.um_per_px, rule, [white] * 3)
        # The packed crops are white-balanced already: only the strength of the stain is changed.
        power = stain_power(pack.red_cells[row], rule)
        crop = (white * (crop / white).clip(1e-3) ** power).clip(0, 255).round().astype(np.uint8)
        mask = cut_window(pack.masks[row, 0].numpy(), middle, RULE.um_per_px, rule, [0.0])
        out[place] = paint_out(crop, mask, rule)
    return out


def slide_names(cells: Cells) -> np.ndarray:
    """Names of the slides where they are known, else of the pack: groups whose pictures differ within a laboratory."""
    if len(np.unique(cells.slide)) > len(cells.slide) // 4:
        return np.full(len(cells.slide), f"{cells.laboratory} {len(cells.slide)}")
    return np.array([f"{cells.laboratory} {one}" for one in cells.slide])


def of_slides(cells: Cells, rows: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Those rows whose class the test of slides takes."""
    left_out = [k for k, name in enumerate(classes) if name in NOT_OF_SLIDES]
    return rows[~np.isin(cells.target[rows], left_out)]


class Network:
    """A network with what it knows of its laboratories.

    Parameters
    ----------
    card : dict
        Of the model so far.
    weights : dict of torch.Tensor
    known : list of Cells
        What it was trained on.
    opinion : Classifier, optional
    """

    def __init__(
        self,
        card: dict[str, Any],
        weights: dict[str, torch.Tensor],
        known: list[Cells],
        opinion: Classifier | None = None,
    ) -> None:
        network = architectures.create(card["architecture"], len(card["classes"]), **card["arguments"])
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
        self.classifier = Classifier(ModelCard(**card), network.eval(), {}, "", "cpu", opinion)
        self.known = known
        self.tensors = self._unknown_score() | self._reference()

    def look(self, one: Cells, rows: np.ndarray) -> Outputs:
        """Outputs for cells of a set."""
        crops = product_crops(one.pack, rows, self.classifier.card.crop)
        return drain(self.classifier.look(crops, 64))

    def predict(self, one: Cells, rows: np.ndarray, strange: np.ndarray | None = None) -> Predicted:
        """Logits, unknown score and classes of cells of a set; `strange` are crops of cells that no class has."""
        found = self.look(one, rows)
        return Predicted(
            found.logits,
            self._score(found),
            one.target[rows],
            None if strange is None else self._of_no_class(strange),
        )

    def _of_no_class(self, crops: np.ndarray) -> Predicted:
        found = drain(self.classifier.look(crops, 64))
        return Predicted(found.logits, self._score(found), np.full(len(crops), -1))

    def _score(self, found: Outputs) -> np.ndarray:
        return ood.score(found.features, found.logits, self.tensors, found.stage)

    def differences(self, one: Cells, rows: np.ndarray) -> np.ndarray:
        """How the pictures of cells differ from known ones, for the test of slides."""
        found = self.look(one, rows)
        return familiarity.differences(found.layers, self._probabilities(found), self.tensors)

    def _unknown_score(self) -> dict[str, np.ndarray]:
        largest = max(self.known, key=lambda one: len(one.rows("train")))
        # The largest set last: the score keeps the first cells of each class.
        order = sorted(self.known, key=lambda one: one is largest)
        chosen = [
            (one, some_of_each(one.rows("train"), one.target, LARGEST if one is largest else OTHERS))
            for one in order
        ]
        back = [(one, spread_over(one.rows("validation"), HELD_BACK // len(order))) for one in order]
        fitted = _joined([self.look(one, rows) for one, rows in chosen])
        held = _joined([self.look(one, rows) for one, rows in back])
        truth = np.concatenate([one.target[rows] for one, rows in chosen])
        held_back = (held.features, held.logits, held.stage)
        return ood.fit(fitted.features, fitted.logits, truth, held_back, fitted.stage)

    def _reference(self) -> dict[str, np.ndarray]:
        layers, probabilities, slides, laboratories = [], [], [], []
        for one in self.known:
            rows = spread_over(of_slides(one, one.rows("train"), self.classifier.classes), REFERENCE)
            found = self.look(one, rows)
            layers.append(found.layers)
            probabilities.append(self._probabilities(found))
            slides.append(slide_names(one)[rows])
            laboratories.append(np.full(len(rows), one.laboratory))
        return familiarity.fit(
            *(np.concatenate(part) for part in (layers, probabilities, slides, laboratories))
        )

    @staticmethod
    def _probabilities(found: Outputs) -> np.ndarray:
        return torch.softmax(torch.from_numpy(found.logits), 1).numpy()


def _joined(parts: list[Outputs]) -> Outputs:
    some = [part for part in parts if len(part.logits)]
    names = ("logits", "features", "layers", "stage")
    return Outputs(*(np.concatenate([getattr(part, name) for part in some]) for name in names))
