"""A classifier out: as ONNX, as a BioImage.IO package, or as a zip of its folder."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.errors import ArgumentError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_leukocls.classification.predict import Classifier

log = logging.getLogger(__name__)
#: Largest difference of a probability between the exported and the own network.
TOLERANCE = 1e-3


def export_model(name: str, path: str | Path) -> dict[str, Any]:
    """Write a classifier as a file that other programs read.

    Parameters
    ----------
    name : str
        Of the model, or its folder.
    path : path-like
        ``*.onnx``: RGB crops (N, 3, side, side) of 0-255 in, probabilities (N, C) out, normalisation and
        temperature inside; classes and crop rule are in its metadata. ``*.bioimageio.zip``: the same in a
        package after the BioImage.IO specification. Any other ``*.zip``: the model folder, for `import_model`.

    Returns
    -------
    dict
        ``path``, ``kind``, and ``largest_difference`` where the result was run and compared.

    Raises
    ------
    ModelError
        Where the network cannot be exported (and why), or a library is missing.
    OutputError
        Where the file cannot be written.
    """
    from napari_leukocls.classification.checkpoint import load_classifier
    from napari_leukocls.resources import find_model

    target = Path(path)
    entry = find_model(name)
    if target.suffix == ".onnx":
        with _renamed(target) as partial:
            difference = write_onnx(load_classifier(entry.path, "cpu"), partial)
        return {"path": str(target), "kind": "onnx", "largest_difference": difference}
    if target.name.endswith(".bioimageio.zip"):
        from napari_leukocls.exchange.bioimage import write_package

        with _renamed(target) as partial:
            difference = write_package(load_classifier(entry.path, "cpu"), partial)
        return {"path": str(target), "kind": "bioimageio", "largest_difference": difference}
    if target.suffix == ".zip":
        with _renamed(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(entry.path.iterdir()):
                if file.suffix in {".json", ".safetensors"}:
                    archive.write(file, f"{entry.name}/{file.name}")
        return {"path": str(target), "kind": "folder"}
    raise ArgumentError(f"'{target.name}' says no kind: name it *.onnx, *.bioimageio.zip or *.zip.")


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    """Give a path in a hidden folder beside `target`, and rename what was written there at the end."""
    from napari_leukocls.io.atomic import make_folder, output_error

    make_folder(target.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".leukocls-", dir=target.parent) as scratch:
            partial = Path(scratch) / target.name
            yield partial
            os.replace(partial, target)
    except OSError as error:
        raise output_error(target, error) from error


def whole_network(classifier: Classifier) -> nn.Module:
    """Return a network from RGB crops (N, 3, side, side) of 0-255 to probabilities (N, C)."""
    import torch
    from torch import nn

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
    """Return crops (count, 3, side, side) float32 of 0-255 of the bundled synthetic smear."""
    from napari_leukocls.io.images import read_image
    from napari_leukocls.resources import sample_smear

    pixels = read_image(sample_smear()).pixels
    side = classifier.card.crop.side_px
    starts = np.linspace(0, min(pixels.shape[:2]) - side, count).astype(int)
    crops = [pixels[start : start + side, start : start + side] for start in starts]
    return np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)


def write_onnx(classifier: Classifier, path: Path) -> float:
    """Export to ONNX, run the result with onnxruntime, and compare.

    Returns
    -------
    float
        Largest difference of a probability.

    Raises
    ------
    ModelError
        Where a library is missing, the architecture cannot be exported, or the results differ by more than
        `TOLERANCE`.
    """
    import torch

    from napari_leukocls import architectures

    refusal = architectures.entry(classifier.card.architecture).onnx_refusal
    if refusal:
        raise ModelError(f"{classifier.card.architecture} cannot be exported to ONNX: {refusal}")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ModelError(
            f"ONNX export needs {error.name}: install napari-leukocls[onnx] (pip or uv)."
        ) from error
    net = whole_network(classifier)
    crops = torch.from_numpy(example_crops(classifier))
    names: dict[str, Any] = {"input_names": ["crops"], "output_names": ["probabilities"]}
    how: dict[str, Any] = {"dynamo": True, "optimize": False, "verbose": False, "external_data": False}
    with warnings.catch_warnings():  # the exporter's own, of no concern to whoever exports
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch")
        torch.onnx.export(net, (crops[:2],), path, dynamic_shapes=({0: batch},), **names, **how)
    model = onnx.load(path)
    card = classifier.card
    metadata = {
        "classes": json.dumps(list(card.classes)),
        "crop": card.crop.model_dump_json(),
        "weights_sha256": classifier.digest,
        "not_for_diagnosis": "For research and training; not for diagnosis.",
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"crops": crops.numpy()})
    with torch.no_grad():
        difference = float(np.abs(given - net(crops).numpy()).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported network's probabilities differ by {difference:.2g}: this torch and onnxruntime do not "
            "fit each other; update both."
        )
    return difference
