"""A model as a BioImage.IO package, made, validated and run by bioimageio's own libraries."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bioimageio.core as core
import numpy as np
import onnx
import torch
from bioimageio.spec import save_bioimageio_package
from bioimageio.spec.model import v0_5 as spec
from loguru import logger
from PIL import Image

from napari_leukocls._version import __version__
from napari_leukocls.errors import ModelError
from napari_leukocls.exchange.onnx import example_crops, left_out, whole_network, write_onnx
from napari_leukocls.exchange.segmenter import (
    DARK,
    GLASS,
    MAPS,
    MapsOfTiles,
    example_tiles,
    segmenter_page,
    stretched,
    write_segmenter_onnx,
)
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX, TILE

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier
    from napari_leukocls.models.crop_rule import CropRule
    from napari_leukocls.segmentation.compact import CompactSegmenter


def write_package(classifier: Classifier, path: Path) -> float:
    """Write a BioImage.IO package with ONNX weights, and test it as other programs will.

    Parameters
    ----------
    classifier : Classifier
    path : Path
        Of the zip.

    Returns
    -------
    float
        Largest difference of a probability between the exported network and the original.

    Raises
    ------
    ModelError
        If a library of the export to ONNX is missing, or the package does not pass bioimageio.core's test.
    """
    return _packed(path, lambda folder: _describe(classifier, folder))


def write_segmenter_package(segmenter: CompactSegmenter, card: Mapping[str, Any], path: Path) -> float:
    """Write the network of a segmenter as a BioImage.IO package with ONNX weights, and test it.

    Parameters
    ----------
    segmenter : CompactSegmenter
    card : mapping
        Of the model.
    path : Path
        Of the zip.

    Returns
    -------
    float
        Largest difference of an output between the exported network and the original.

    Raises
    ------
    ModelError
        As `write_package`.
    """
    return _packed(path, lambda folder: _describe_segmenter(segmenter, card, folder))


def _packed(path: Path, describe: Callable[[Path], tuple[Any, float]]) -> float:
    """Save what `describe` writes into a folder as a package, and test it."""
    logger.disable("bioimageio")
    with tempfile.TemporaryDirectory(prefix="leukocls-bioimageio-") as scratch:
        description, difference = describe(Path(scratch))
        save_bioimageio_package(description, output_path=path)
        summary = core.test_model(path)
    if summary.status == "failed":
        problems = [
            f"{'.'.join(map(str, e.loc))}: {e.msg}" for detail in summary.details for e in detail.errors
        ]
        raise ModelError(f"the package does not pass bioimageio.core's test: {'; '.join(problems[:3])}.")
    return difference


def _describe(classifier: Classifier, folder: Path) -> tuple[Any, float]:
    """Write the package's files into a folder and describe them."""
    card = classifier.card
    difference = write_onnx(classifier, folder / "weights.onnx")
    crops = example_crops(classifier)
    np.save(folder / "crops.npy", crops)
    np.save(folder / "probabilities.npy", _run(whole_network(classifier), crops))
    _cover(crops, folder / "cover.png")
    (folder / "README.md").write_text(_readme(classifier), encoding="utf-8")
    side = card.crop.side_px
    inputs = spec.InputTensorDescr(
        id=spec.TensorId("crops"),
        description=f"RGB crops, 0-255, {_side(card.crop)}, the cell in the middle",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[spec.Identifier(c) for c in ("red", "green", "blue")]),
            spec.SpaceInputAxis(id=spec.AxisId("y"), size=side),
            spec.SpaceInputAxis(id=spec.AxisId("x"), size=side),
        ],
        test_tensor=spec.FileDescr(source=folder / "crops.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 255.0)),
    )
    outputs = spec.OutputTensorDescr(
        id=spec.TensorId("probabilities"),
        description="calibrated probability of each class",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[spec.Identifier(_identifier(c)) for c in card.classes]),
        ],
        test_tensor=spec.FileDescr(source=folder / "probabilities.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
    )
    facts = {
        "name": f"Leukocyte classifier {card.name}",
        "description": card.intended_use or "Classes of leukocytes on stained smears; not for diagnosis.",
        "licence": card.licence,
        "tags": ["classification", "leukocyte", card.architecture.replace("_", "-")],
    }
    return _description(folder, facts, inputs, outputs), difference


def _description(folder: Path, facts: Mapping[str, Any], inputs: Any, outputs: Any) -> Any:
    """What the package says of itself; its files are in the folder."""
    weights = folder / "weights.onnx"
    (opset,) = [o.version for o in onnx.load(weights).opset_import if o.domain in ("", "ai.onnx")]
    return spec.ModelDescr(
        name=facts["name"][:128],
        description=facts["description"][:1024],
        authors=[spec.Author(name="napari-leukocls contributors")],
        license=_licence(facts["licence"]),
        documentation=spec.FileDescr(source=folder / "README.md"),
        covers=[spec.FileDescr(source=folder / "cover.png")],
        tags=[*facts["tags"], "blood smear", "2d"],
        version=spec.Version(__version__),
        inputs=[inputs],
        outputs=[outputs],
        weights=spec.WeightsDescr(onnx=spec.OnnxWeightsDescr(source=weights, opset_version=opset)),
    )


def _describe_segmenter(
    segmenter: CompactSegmenter, card: Mapping[str, Any], folder: Path
) -> tuple[Any, float]:
    """Write the files of a segmenter's package into a folder and describe them."""
    tiles = example_tiles()
    difference = write_segmenter_onnx(segmenter, folder / "weights.onnx")
    np.save(folder / "tiles.npy", tiles)
    np.save(folder / "maps.npy", _run(MapsOfTiles(segmenter.net), stretched(tiles)))
    _cover(tiles, folder / "cover.png")
    (folder / "README.md").write_text(segmenter_page(card), encoding="utf-8")
    y, x = spec.AxisId("y"), spec.AxisId("x")
    inputs = spec.InputTensorDescr(
        id=spec.TensorId("tiles"),
        description=f"RGB tiles of a smear, 0-255, red cells about {NETWORK_DIAMETER_PX:g} pixels across",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[spec.Identifier(c) for c in ("red", "green", "blue")]),
            spec.SpaceInputAxis(id=y, size=TILE),
            spec.SpaceInputAxis(id=x, size=TILE),
        ],
        test_tensor=spec.FileDescr(source=folder / "tiles.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 255.0)),
        preprocessing=[
            spec.ScaleRangeDescr(
                kwargs=spec.ScaleRangeKwargs(axes=(y, x), min_percentile=DARK, max_percentile=GLASS)
            )
        ],
    )
    outputs = spec.OutputTensorDescr(
        id=spec.TensorId("maps"),
        description="flows to the middle of each cell, cell probability (logit), and logits of the kinds",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[spec.Identifier(name) for name in MAPS]),
            spec.SpaceOutputAxis(id=y, size=TILE),
            spec.SpaceOutputAxis(id=x, size=TILE),
        ],
        test_tensor=spec.FileDescr(source=folder / "maps.npy"),
    )
    facts = {
        "name": f"Blood smear segmenter {card['name']}",
        "description": str(card.get("intended_use", "Outlines of cells; not for diagnosis.")),
        "licence": str(card.get("licence", "")),
        "tags": ["segmentation", "cellpose", "blood cells"],
    }
    return _description(folder, facts, inputs, outputs), difference


def _run(net: Any, crops: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        array: np.ndarray = net(torch.from_numpy(crops)).numpy()
        return array


def _cover(crops: np.ndarray, path: Path) -> None:
    row = np.concatenate(list(crops.transpose(0, 2, 3, 1)), axis=1).astype(np.uint8)
    Image.fromarray(row).resize((row.shape[1] * 2, row.shape[0] * 2)).save(path)


def _identifier(name: str) -> str:
    """A class name as the specification wants identifiers."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return plain if plain[:1].isalpha() else f"c_{plain}"


def _licence(text: str) -> Any:
    """The SPDX identifier that a card's licence names; the project's own where it names none."""
    for words, identifier in (("CC BY 4.0", "CC-BY-4.0"), ("Apache-2.0", "Apache-2.0"), ("MIT", "MIT")):
        if words in text:
            return identifier
    return "BSD-3-Clause"


def _side(rule: CropRule) -> str:
    return f"{rule.side_um:g} um a side" if rule.side_known else "of unknown size on the slide"


def _made(rule: CropRule) -> str:
    """How the crops of a rule are made, in words."""
    if rule.whole_image:
        share = (
            "" if rule.central_share == 1 else f" (the middle {100 * rule.central_share:.0f} % of each side)"
        )
        return f"whole images of one cell{share}, resized and otherwise unchanged"
    return (
        f"white-balanced by the glass (to {rule.white}), what is farther than {rule.margin_um} um from the cell's\n"
        "outline painted in that colour (None: nothing is)"
    )


def _readme(classifier: Classifier) -> str:
    card = classifier.card
    data = card.training_data
    named = [data] if isinstance(data, str) else (data.sources or []) if data is not None else []
    sources = "\n".join(f"- {source}" for source in named) or "- not stated"
    limits = "\n".join(f"- {limit}" for limit in card.known_limits) or "- none are stated"
    missing = "\n".join(f"- {part}" for part in left_out(card)) or "- nothing"
    return f"""# {card.name}

{card.intended_use}

Architecture: {card.architecture}. Classes, in order: {", ".join(card.classes)}.
Input: RGB crops of {card.crop.side_px} x {card.crop.side_px} px, {_side(card.crop)}, 0-255;
{_made(card.crop)}.

Trained on:

{sources}

# Validation

The figures in the card of the model are those of napari-leukocls with this model, on images that were not trained on.

## What napari-leukocls does with this model and this package does not

{missing}

## Known limits

{limits}
"""
