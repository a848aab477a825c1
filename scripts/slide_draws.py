"""Slides drawn from packed crops, for the limit of the test whether a slide's stain and camera are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_leukocls.classification.familiarity import LEAST_CELLS, SlideDifference, distance
from napari_leukocls.evaluation.bootstrap import auroc
from scripts.knowledge import Network, of_slides, slide_names
from scripts.laboratories import Cells

#: Cells of a drawn slide: as few as are tested, and those of the figures.
SIZES = (LEAST_CELLS, 50)
#: Slides that are drawn of each laboratory, and cells that they are drawn from.
DRAWS, DRAWN_FROM = 200, 400
#: Concentration of the class shares of a slide: far more different than those of patients.
MIXED = 0.7


class SlideDraws:
    """Distances of drawn slides, of laboratories that the network knows and of such that it does not."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self.home: dict[str, dict[int, np.ndarray]] = {}
        self.left_out: dict[str, dict[int, np.ndarray]] = {}

    def add_home(self, network: Network, name: str, one: Cells) -> None:
        """Draw slides of cells that the network was not trained on."""
        rows = np.concatenate([one.rows("heldout"), one.rows("validation")])
        rows = of_slides(one, rows, network.classifier.classes)
        if len(rows) >= LEAST_CELLS:
            self.home[name] = self._draw(network, one, rows)

    def add_left_out(self, network: Network, name: str, one: Cells, rows: np.ndarray) -> None:
        """Draw slides of a laboratory that the network has not seen."""
        self.left_out[name] = self._draw(network, one, of_slides(one, rows, network.classifier.classes))

    def _draw(self, network: Network, one: Cells, rows: np.ndarray) -> dict[int, np.ndarray]:
        rows = self._random.permutation(rows)[:DRAWN_FROM]
        found = network.differences(one, rows)
        slides, truth = slide_names(one)[rows], one.target[rows]
        return {
            size: np.array([self._distance(found, slides, truth, size, network) for _ in range(DRAWS)])
            for size in SIZES
        }

    def _distance(
        self, found: np.ndarray, slides: np.ndarray, truth: np.ndarray, size: int, network: Network
    ) -> float:
        """Distance of one slide with a class mix of its own; no cell is drawn twice, which would count one for many."""
        mine = np.flatnonzero(slides == self._random.choice(slides))
        kinds, count = np.unique(truth[mine], return_counts=True)
        share = self._random.dirichlet(np.full(len(kinds), MIXED)) / count
        weight = share[np.searchsorted(kinds, truth[mine])]
        weight = np.maximum(weight / weight.sum(), 1e-9)
        drawn = self._random.choice(mine, min(size, len(mine)), replace=False, p=weight / weight.sum())
        return distance(SlideDifference.of(found[drawn]), network.tensors)

    def limit(self) -> float:
        """Between the farthest known slides and the nearest slides of left-out laboratories."""
        far = max((float(np.quantile(one[LEAST_CELLS], 0.995)) for one in self.home.values()), default=1.5)
        near = min(
            (float(np.quantile(one[LEAST_CELLS], 0.05)) for one in self.left_out.values()), default=far * 2
        )
        return round(float(np.sqrt(far * max(near, far))), 2)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Distances of slides and the share warned of; of left-out laboratories also the AUROC against known ones."""
        limit = self.limit()
        rows: dict[str, dict[str, Any]] = {}
        for name, drawn in self.home.items():
            rows[f"{name} slides"] = {"role": "trained; these cells were not", **_distances(drawn, limit)}
        for name, drawn in self.left_out.items():
            known = [one for other, one in self.home.items() if other.removesuffix("_full") != name]
            row = {"role": "left out", **_distances(drawn, limit)}
            for size in SIZES:
                home = np.concatenate([one[size] for one in known]) if known else np.zeros(0)
                both = np.concatenate([home, drawn[size]])
                row[f"auroc_{size}_cells"] = auroc(np.arange(len(both)) >= len(home), both) if known else None
            rows[f"{name} slides, left out"] = row
        return rows


def _distances(drawn: dict[int, np.ndarray], limit: float) -> dict[str, float]:
    found = {}
    for size, values in drawn.items():
        found[f"median_distance_{size}_cells"] = round(float(np.median(values)), 2)
        found[f"warned_of_{size}_cells"] = float((values >= limit).mean())
    return found
