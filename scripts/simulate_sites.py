"""Simulate the adaptation of a model to laboratories that it was not trained on, and measure what it gains.

    python -m scripts.simulate_sites --pack FOLDER --data ../shared/data --model NAME_OR_FOLDER \
        --sites bcisc bccd tecom --out FOLDER [--draws 10] [--new monocyte basophil]

A site gives about 100 of its crops to learn from, of some of its slides; the model is measured on its other slides
before and after. Sites without slides are parted by file, look-alikes together. With ``--new`` the model first forgets
classes (their outputs and stored features are removed; its network has still seen them). ``--model`` must not have been
trained on the classes of the sites; its replay features are read from its folder, or made from the pack of PBC.
Features are computed once and kept in ``--out``. The figures go to ``sites.json``; ``tecom`` is a check.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.special import softmax

from napari_leukocls.classification import ood
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.evaluation.calibration import ece
from napari_leukocls.io.serialise import json_text
from napari_leukocls.models.card_parts import Softening
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.adapt import learn, what_changed
from napari_leukocls.training.augment import augment, generator_for
from napari_leukocls.training.batches import Normalisation, to_unit
from napari_leukocls.training.calibrate import Fitted, fit_on_validation
from napari_leukocls.training.config import TrainConfig, make_train_config
from napari_leukocls.training.data import THUMB, same_pictures
from napari_leukocls.training.feature_replay import FILE, Replay, choose, read_replay
from napari_leukocls.training.site_layer import Layer, SiteCells
from napari_leukocls.training.site_shift import learn_unlabelled
from napari_leukocls.types import Predictions
from scripts.knowledge import product_crops
from scripts.laboratories import CLASSES, read_cells

log = logging.getLogger("simulate_sites")
#: Crops that a site gives, and the fewest that must be left to measure on.
GIVEN, LEAST_TEST = 100, 30


@dataclass(frozen=True)
class Known:
    """A model as the simulation needs it.

    Attributes
    ----------
    classes : tuple of str
    layer : Layer
    replay : Replay
    fitted : Fitted
        As its card states it.
    second_look : float
        Cells with a probability below it are looked at in mirror images.
    softening : Softening or None
    """

    classes: tuple[str, ...]
    layer: Layer
    replay: Replay
    fitted: Fitted
    second_look: float = 0.0
    softening: Softening | None = None

    def without(self, names: list[str]) -> Known:
        """Forget classes; their outputs become new classes at the end."""
        if not names:
            return self
        old = [i for i, name in enumerate(self.classes) if name not in names]
        number = np.full(len(self.classes), -1)
        number[old] = np.arange(len(old))
        rows = number[self.replay.classes] >= 0
        replay = Replay(
            self.replay.features[rows], number[self.replay.classes[rows]], self.replay.check[rows]
        )
        layer = Layer(self.layer.weight[old], self.layer.bias[old])
        classes = tuple(self.classes[i] for i in old)
        return Known(classes, layer, replay, fit_before(layer, replay), self.second_look)


@dataclass(frozen=True)
class Site:
    """Features of a laboratory's crops.

    Attributes
    ----------
    name : str
    views : numpy.ndarray, (V, N, D)
    labels : numpy.ndarray, (N,), str
    units : numpy.ndarray, (N,), int
        Slides; look-alikes where there are none.
    slides : bool
    used : Predictions
        By the model as it is used, which may ask a second opinion.
    stage : numpy.ndarray, (N, K)
        Of an earlier layer, for the model's own score of unknown cells.
    four : numpy.ndarray, (N, D)
        Features, averaged over the crop and its mirror images: what is taken of unsure cells.
    """

    name: str
    views: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    slides: bool
    used: Predictions
    stage: np.ndarray
    four: np.ndarray

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Choose crops of some slides to learn from; the crops of the others are measured."""
        wanted = min(GIVEN, 2 * len(self.labels) // 3)
        given = np.zeros(len(self.labels), bool)
        for unit in random.permutation(np.unique(self.units)):
            if given.sum() >= wanted or (self.slides and (~given).sum() - LEAST_TEST < 10):
                break
            given |= self.units == unit
        return np.flatnonzero(given), np.flatnonzero(~given)


def fit_before(layer: Layer, replay: Replay) -> Fitted:
    """Temperature and thresholds of a model without a card, from its stored features."""
    parts = [(f, layer.logits(f), k) for f, k in (replay.rehearse(), replay.checked())]
    return fit_on_validation(parts[0], parts[1], settings())


def settings() -> TrainConfig:
    """The settings of the product's preset."""
    return make_train_config("adapt", data="-", out="-", from_model="default")


def features(classifier: Any, crops: np.ndarray, view: int) -> np.ndarray:
    """Features of crops as they are (view 0) or of a random view, as the adaptation computes them."""
    card = classifier.card
    norm = Normalisation(card.mean, card.std, (card.crop.white or 235.0) / 255)
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(crops), 64):
            images = to_unit(crops[begin : begin + 64], torch.device("cpu"))
            if view:
                images = augment(images, settings(), generator_for(0, 3, view, begin), norm.outside)
            made, _ = ood.features_and_logits(classifier.fast_network("cpu"), norm.normalise(images))
            parts.append(made.numpy().copy())
    return np.concatenate(parts)


def site_of(name: str, classifier: Any, args: argparse.Namespace) -> Site:
    """Features of a site, computed or read again."""
    kept = args.out / f"{classifier.digest[:12]}-{name}.npz"
    if not kept.is_file():
        cells = read_cells(args.pack, args.data, name)
        rows = np.random.default_rng(0).permutation(cells.rows("all"))[: args.most]
        labels = [CLASSES[k] for k in cells.target[rows]]
        crops = product_crops(cells.pack, rows, classifier.card.crop)
        small = np.stack([cv2.resize(crop, (THUMB, THUMB), interpolation=cv2.INTER_AREA) for crop in crops])
        by_slide = len(np.unique(cells.slide[rows])) < len(rows)
        units = (
            np.unique(cells.slide[rows].astype(str), return_inverse=True)[1]
            if by_slide
            else same_pictures([str(row) for row in rows], small)
        )
        views = np.stack([features(classifier, crops, view) for view in range(args.views)])
        used = classifier.predict(crops)
        looks = [
            drain(classifier.first_look(view))
            for view in (crops, crops[:, :, ::-1], crops[:, ::-1], crops[:, ::-1, ::-1])
        ]
        np.savez(
            kept,
            views=views.astype(np.float16),
            labels=np.array(labels),
            units=units,
            slides=by_slide,
            probabilities=used.probabilities,
            score=used.ood_score,
            stage=looks[0].stage,
            four=np.mean([look.features for look in looks], axis=0),
        )
    held = np.load(kept)
    used = Predictions(
        classifier.classes, held["probabilities"], held["score"], classifier.card.ood.threshold or np.inf
    )
    views = held["views"].astype(np.float32)
    return Site(
        name, views, held["labels"], held["units"], bool(held["slides"]), used, held["stage"], held["four"]
    )


def known_of(classifier: Any, folder: Path, args: argparse.Namespace) -> Known:
    """The model's layer, thresholds and stored features."""
    head = classifier.net.get_classifier()
    layer = Layer(head.weight.detach().double().numpy(), head.bias.detach().double().numpy())
    classes = tuple(classifier.classes)
    if (folder / FILE).is_file():
        replay = read_replay(folder, classifier.digest, len(classes))
    else:
        home = site_of("pbc", classifier, argparse.Namespace(**{**vars(args), "views": 1, "most": 3000}))
        numbers = np.array([classes.index(one) if one in classes else -1 for one in home.labels])
        check = np.random.default_rng(0).random(len(numbers)) < 0.3
        train, test = (
            (home.views[0][rows], numbers[rows]) for rows in (~check & (numbers >= 0), check & (numbers >= 0))
        )
        replay = choose(train, test)
    card = classifier.card
    fitted = Fitted(
        card.temperature, card.review_threshold, classifier.ood_tensors, card.ood.threshold or float("inf")
    )
    return Known(classes, layer, replay, fitted, card.second_look, card.softening)


def of_layer(
    layer: Layer,
    fitted: Fitted,
    cells: tuple[np.ndarray, np.ndarray],
    second_look: float,
    stage: np.ndarray | None = None,
    softening: Softening | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and scores of a layer with its thresholds on cells, as a classifier without second opinion."""
    plain, four = cells
    unsure = softmax(layer.logits(plain), axis=1).max(axis=1) < second_look
    seen = np.where(unsure[:, None], four, plain)
    logits = layer.logits(seen)
    score = ood.score(seen, logits, fitted.ood_tensors, stage)
    divisor = fitted.temperature * ood.softening_factor(score, softening)
    return softmax(logits / divisor[:, None], axis=1), score


def measured(
    probabilities: np.ndarray, score: np.ndarray, fitted: Fitted, truth: np.ndarray, n_old: int
) -> dict[str, float]:
    """Figures of probabilities and scores of cells."""
    guess = probabilities.argmax(axis=1)
    review = (probabilities.max(axis=1) < fitted.review_threshold) | (score >= fitted.ood_threshold)
    right = guess == truth
    known = truth < n_old
    padded = np.pad(probabilities, ((0, 0), (0, max(0, int(truth.max()) + 1 - probabilities.shape[1]))))
    return {
        "accuracy": float(right.mean()),
        "known": float(right[known].mean()) if known.any() else float("nan"),
        "new": float(right[~known].mean()) if (~known).any() else float("nan"),
        "review": float(review.mean()),
        "review_ood": float((score >= fitted.ood_threshold).mean()),
        "accuracy_not_reviewed": float(right[~review].mean()) if (~review).any() else float("nan"),
        "ece": float(ece(padded, truth)),
    }


def simulate(site: Site, model: Known, new: list[str], draws: int) -> list[dict[str, Any]]:
    """Adapt to random draws of a site, with labels and without, and measure on its other units."""
    labels = [default_scheme().coarsen(one, (*model.classes, *new)) for one in site.labels]
    added = sorted(set(labels) - set(model.classes))
    classes = (*model.classes, *added)
    truth = np.array([classes.index(one) for one in labels])
    n_old, random = len(model.classes), np.random.default_rng(1)
    blank = np.zeros((len(added), model.layer.weight.shape[1]))
    start = Layer(
        np.concatenate([model.layer.weight, blank]), np.concatenate([model.layer.bias, np.zeros(len(added))])
    )
    rows = []
    for draw in range(draws):
        given, rest = site.draw(random)
        config = settings().model_copy(update={"seed": draw})
        cells = SiteCells(site.views[:, given], truth[given], site.units[given])
        seen, right = (site.views[0, rest], site.four[rest]), truth[rest]
        stage = site.stage[rest]
        alone = of_layer(model.layer, model.fitted, seen, model.second_look, stage, model.softening)
        whole = alone if new else (site.used.probabilities[rest], site.used.ood_score[rest])
        before = measured(*whole, model.fitted, right, n_old)
        row: dict[str, Any] = {"given": len(given), "measured": len(rest), "before": before}
        row["alone"] = measured(*alone, model.fitted, right, n_old)
        learnt = drain(learn(cells, model.replay, start, n_old, config, model.fitted.temperature))
        row["changed"] = what_changed(learnt.judged)
        row["check_gain"] = learnt.judged.check.gain
        row["after"] = before
        if learnt.layer is not None and learnt.fitted is not None:
            row["after"] = measured(
                *of_layer(learnt.layer, learnt.fitted, seen, model.second_look), learnt.fitted, right, n_old
            )
        moved = learn_unlabelled(cells.plain, model.layer, model.replay, model.fitted.temperature, draw)
        row["without_labels"] = before
        if moved.layer is not None:
            row["without_labels"] = measured(
                *of_layer(moved.layer, model.fitted, seen, model.second_look, stage, model.softening),
                model.fitted,
                right,
                n_old,
            )
        row["shift"] = moved.figures
        rows.append(row)
        log.info("%s %d: %s", site.name, draw, json.dumps({k: v for k, v in row.items() if k != "shift"}))
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over draws, and the mean gain with a bootstrap interval over draws."""
    random = np.random.default_rng(0)
    found: dict[str, Any] = {
        part: {name: float(np.nanmean([row[part][name] for row in rows])) for name in rows[0][part]}
        for part in ("before", "alone", "after", "without_labels")
    }
    for part in ("after", "without_labels"):
        gains = np.array([row[part]["accuracy"] - row["before"]["accuracy"] for row in rows])
        means = gains[random.integers(0, len(gains), (2000, len(gains)))].mean(axis=1)
        found[f"gain_{part}"] = {
            "mean": float(gains.mean()),
            "ci95": [float(limit) for limit in np.quantile(means, [0.025, 0.975])],
            "draws_worse": int((gains < -1e-9).sum()),
        }
    found |= {"draws": len(rows), "given": rows[0]["given"], "measured": rows[0]["measured"]}
    found["kept"] = sum(row["changed"] == "nothing" for row in rows)
    return found


def main() -> None:
    """Parse the command line, simulate, and write ``sites.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--sites", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--most", type=int, default=600, help="crops of a site, at most")
    parser.add_argument("--new", nargs="*", default=[], help="classes that the model forgets first")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    folder = find_model(args.model).path
    classifier = load_classifier(folder, "cpu")
    model = known_of(classifier, folder, args).without(args.new)
    file = args.out / "sites.json"
    figures = json.loads(file.read_text()) if file.is_file() else {}
    for name in args.sites:
        rows = simulate(site_of(name, classifier, args), model, args.new, args.draws)
        key = "+".join([name, *sorted(args.new)])
        figures.setdefault(f"{folder.name} {classifier.digest[:12]}", {})[key] = summary(rows)
        log.info("%s: %s", key, json.dumps(summary(rows), indent=1))
        file.write_text(json_text(figures))


if __name__ == "__main__":
    main()
