"""Single cells under the two sanity checks, and maps of several models side by side: data and figures.

References
----------
Adebayo et al. (2018). Sanity checks for saliency maps. NeurIPS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.evaluation.figures import class_names, new_figure, styled
from napari_leukocls.explanation import cam
from napari_leukocls.explanation.perturbation import class_probabilities, hidden_regions
from napari_leukocls.explanation.randomisation import randomised, similarity, stages
from napari_leukocls.explanation.report import overlaid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_leukocls.classification.classifier import Classifier


@dataclass(frozen=True)
class Samples:
    """Crops with their maps, with random weights and with hidden regions.

    Attributes
    ----------
    crops : numpy.ndarray, (N, h, w, 3), uint8
    classes : tuple of str
        Predicted.
    maps, random_maps : numpy.ndarray, (N, h, w)
        Of the model, and of the same model with random weights.
    correlation : numpy.ndarray, (N,)
        Of the two.
    important, other : numpy.ndarray, (N, h, w, 3), uint8
        The crop with the region of its map's largest values black, and with a region of the same shape elsewhere.
    confidence, random_confidence, important_confidence, other_confidence : numpy.ndarray, (N,)
        Probability of the class: of the crop, of the crop with random weights, and of the crops with a hidden region.
    """

    crops: np.ndarray
    classes: tuple[str, ...]
    maps: np.ndarray
    random_maps: np.ndarray
    correlation: np.ndarray
    important: np.ndarray
    other: np.ndarray
    confidence: np.ndarray
    random_confidence: np.ndarray
    important_confidence: np.ndarray
    other_confidence: np.ndarray

    def figures(self) -> dict[str, float]:
        """Return the mean of the size of the correlation, of the confidences and of the drops.

        Returns
        -------
        dict of str to float
        """
        return {
            "n": len(self.crops),
            "randomisation_r": float(np.abs(self.correlation).mean()),
            "confidence": float(self.confidence.mean()),
            "random_confidence": float(self.random_confidence.mean()),
            "occlusion_drop": float((self.confidence - self.important_confidence).mean()),
            "occlusion_random_drop": float((self.confidence - self.other_confidence).mean()),
        }


def make_samples(classifier: Classifier, crops: np.ndarray, method: str, seed: int = 0) -> Samples:
    """Draw the maps of crops, with the model's weights and with random ones, and hide regions.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    method : str
        Of the heatmaps.
    seed : int
        Of the random weights and the other regions.

    Returns
    -------
    Samples
    """
    targets = classifier.predict(crops).probabilities.argmax(axis=1)
    maps = cam.heatmaps(classifier, crops, targets, method)
    everything = [name for stage in stages(classifier) for name in stage]
    other_model = randomised(classifier, everything, crops, seed)
    random_maps = cam.heatmaps(other_model, crops, targets, method)
    important, other = hidden_regions(crops, maps, seed)
    return Samples(
        crops,
        tuple(classifier.classes[target] for target in targets),
        maps,
        random_maps,
        similarity(maps, random_maps)[0],
        important,
        other,
        class_probabilities(classifier, crops, targets),
        class_probabilities(other_model, crops, targets),
        class_probabilities(classifier, important, targets),
        class_probabilities(classifier, other, targets),
    )


@styled
def randomisation_figure(samples: Samples, title: str = "") -> Figure:
    """Show crops, their maps, and the maps with random weights.

    Parameters
    ----------
    samples : Samples
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = []
    for i, name in enumerate(class_names(samples.classes)):
        rows.append(
            [
                (samples.crops[i], name),
                (overlaid(samples.crops[i], samples.maps[i]), f"trained, {samples.confidence[i]:.3f}"),
                (
                    overlaid(samples.crops[i], samples.random_maps[i]),
                    f"random weights, {samples.random_confidence[i]:.3f}\nr = {samples.correlation[i]:.3f}",
                ),
            ]
        )
    return sheet(rows, title)


@styled
def occlusion_figure(samples: Samples, title: str = "") -> Figure:
    """Show crops, their maps, and what hiding two regions does to the probability.

    Parameters
    ----------
    samples : Samples
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = []
    for i, name in enumerate(class_names(samples.classes)):
        whole = samples.confidence[i]
        parts = ((samples.important, samples.important_confidence), (samples.other, samples.other_confidence))
        hidden = [
            (crops[i], f"{word} hidden, {values[i]:.3f}\ndrop {whole - values[i]:.3f}")
            for word, (crops, values) in zip(("important", "other"), parts, strict=True)
        ]
        rows.append(
            [
                (samples.crops[i], f"{name}, {whole:.3f}"),
                (overlaid(samples.crops[i], samples.maps[i]), "map"),
                *hidden,
            ]
        )
    return sheet(rows, title)


@styled
def across_models_figure(models: Mapping[str, tuple[np.ndarray, np.ndarray, Sequence[str]]]) -> Figure:
    """Show the maps of several models for the same images.

    Parameters
    ----------
    models : mapping of str to tuple
        Crops (N, h, w, 3), maps (N, h, w) and predicted classes, by model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    first = next(iter(models.values()))
    rows = []
    for i in range(len(first[0])):
        row = [(first[0][i], "image")]
        for name, (crops, maps, classes) in models.items():
            row.append((overlaid(crops[i], maps[i]), f"{class_names([name])[0]}\n{class_names(classes)[i]}"))
        rows.append(row)
    return sheet(rows, "")


@styled
def misclassified_figure(
    crops: Sequence[np.ndarray], true: Sequence[str], predicted: Sequence[str], title: str = ""
) -> Figure:
    """Show crops that a model takes for another class.

    Parameters
    ----------
    crops : sequence of numpy.ndarray, (h, w, 3), uint8
        Length N.
    true, predicted : sequence of str, length N
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = 4
    cells = [
        (crop, f"{own}\ntaken for {other}")
        for crop, own, other in zip(crops, class_names(true), class_names(predicted), strict=True)
    ]
    return sheet([cells[at : at + columns] for at in range(0, len(cells), columns)] or [[]], title)


def sheet(rows: Sequence[Sequence[tuple[np.ndarray, str]]], title: str) -> Figure:
    """Draw pictures with captions in rows.

    Parameters
    ----------
    rows : sequence of sequence of (numpy.ndarray, str)
        Pictures (h, w, 3), uint8, with their captions.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = max(max(len(row) for row in rows), 1)
    figure = new_figure(1.7 * columns, 2.1 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, line in zip(rows, grid, strict=True):
        for (picture, caption), axes in zip(row, line, strict=False):
            axes.imshow(picture)
            axes.set_title(caption, fontsize=7)
    if title:
        figure.suptitle(class_names([title])[0])
    return figure
