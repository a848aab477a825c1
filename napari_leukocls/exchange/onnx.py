"""A network as ONNX: exported, run with onnxruntime, and compared."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_leukocls import architectures
from napari_leukocls.errors import ModelError
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.models.card import ModelCard

#: Largest difference of an output between the exported network and the original.
TOLERANCE = 1e-3


def left_out(card: ModelCard) -> list[str]:
    """List what this program does with a model that the exported network alone does not do.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    list of str
        Sentences; empty if the network does all of it.
    """
    parts = []
    if card.second_opinion is not None:
        parts.append(
            f"napari-leukocls asks the model {card.second_opinion.model} about cells with a probability below "
            f"{card.second_look:g}; this file is the network of {card.name} alone, which is less accurate on these "
            "cells."
        )
    elif card.second_look:
        parts.append(
            f"napari-leukocls shows the network cells with a probability below {card.second_look:g} a second time, "
            "as mirror images; this file looks at each cell once."
        )
    if card.softening is not None:
        parts.append(
            "The temperature is the same for all cells: of cells unlike the training cells, these probabilities are "
            "too sure."
        )
    if card.ood.threshold is not None:
        parts.append(
            "The score that finds cells unlike the training cells is not in this file: such a cell gets a "
            "probability like any other."
        )
    return parts


def whole_network(classifier: Classifier) -> nn.Module:
    """Join normalisation, network and temperature in one network.

    Parameters
    ----------
    classifier : Classifier

    Returns
    -------
    torch.nn.Module
        From RGB crops (N, 3, side, side) of 0-255 to probabilities (N, C).
    """
    card = classifier.card

    class Whole(nn.Module):
        pixel_mean: torch.Tensor
        pixel_std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.net = classifier.net
            self.register_buffer("pixel_mean", torch.tensor(card.mean).view(1, 3, 1, 1) * 255)
            self.register_buffer("pixel_std", torch.tensor(card.std).view(1, 3, 1, 1) * 255)

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.net((crops - self.pixel_mean) / self.pixel_std) / card.temperature, 1)

    return Whole().eval()


def example_crops(classifier: Classifier, count: int = 3) -> np.ndarray:
    """Cut squares from the bundled synthetic smear.

    Parameters
    ----------
    classifier : Classifier
        Its card says how large they are.
    count : int

    Returns
    -------
    numpy.ndarray, (count, 3, side, side), float32
        0-255.
    """
    pixels = read_image(sample_smear()).pixels
    side = classifier.card.crop.side_px
    starts = np.linspace(0, min(pixels.shape[:2]) - side, count).astype(int)
    crops = [pixels[start : start + side, start : start + side] for start in starts]
    return np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)


def write_onnx(classifier: Classifier, path: Path) -> float:
    """Export to ONNX, run the result with onnxruntime, and compare.

    Parameters
    ----------
    classifier : Classifier
    path : Path
        Of the file.

    Returns
    -------
    float
        Largest difference of a probability.

    Raises
    ------
    ModelError
        If a library is missing, the architecture cannot be exported, or the results differ by more than
        `TOLERANCE`.
    """
    card = classifier.card
    refusal = architectures.entry(card.architecture).onnx_refusal
    if refusal:
        raise ModelError(f"{card.architecture} cannot be exported to ONNX: {refusal}")
    metadata = {
        "classes": json.dumps(list(card.classes)),
        "crop": json.dumps(asdict(card.crop), separators=(",", ":")),
        "weights_sha256": classifier.digest,
        **({"left_out": " ".join(missing)} if (missing := left_out(card)) else {}),
    }
    crops = torch.from_numpy(example_crops(classifier))
    return export_network(whole_network(classifier), crops, path, ("crops", "probabilities"), metadata)


def export_network(
    net: nn.Module, examples: torch.Tensor, path: Path, names: tuple[str, str], metadata: Mapping[str, str]
) -> float:
    """Export a network to ONNX, run the result with onnxruntime, and compare.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode.
    examples : torch.Tensor, (N, ...)
        At least three inputs; the number of inputs of a batch may differ later.
    path : Path
        Of the file.
    names : tuple of str
        Of input and output.
    metadata : mapping of str to str
        Written into the file.

    Returns
    -------
    float
        Largest difference of an output.

    Raises
    ------
    ModelError
        If a library is missing, or the results differ by more than `TOLERANCE`.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ModelError(
            f"ONNX export needs {error.name}: install napari-leukocls[onnx] (pip or uv)."
        ) from error
    how: dict[str, Any] = {"dynamo": True, "optimize": False, "verbose": False, "external_data": False}
    how |= {"input_names": [names[0]], "output_names": [names[1]]}
    with warnings.catch_warnings():  # the exporter's own; they do not concern the user
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch")
        torch.onnx.export(net, (examples[:2],), path, dynamic_shapes=({0: batch},), **how)
    model = onnx.load(path)
    onnx.helper.set_model_props(
        model, {**metadata, "not_for_diagnosis": "For research and training; not for diagnosis."}
    )
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {names[0]: examples.numpy()})
    with torch.no_grad():
        difference = float(np.abs(given - net(examples).numpy()).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported network's outputs differ by {difference:.2g}: this torch and onnxruntime do not "
            "fit each other; update both."
        )
    return difference
