"""Export of a classifier: as ONNX, as a BioImage.IO package, or as a zip of its folder."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.exchange.onnx import write_onnx
from napari_leukocls.io.atomic import make_folder, output_error
from napari_leukocls.models.registry import find_model

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier

log = logging.getLogger(__name__)


def export_model(name: str, path: str | Path) -> dict[str, Any]:
    """Write a classifier as a file that other programs read.

    Parameters
    ----------
    name : str
        Name or folder of the model.
    path : path-like
        ``*.onnx``: RGB crops (N, 3, side, side) of 0-255 in, probabilities (N, C) out, normalisation and
        temperature inside; classes and crop rule are in its metadata. ``*.bioimageio.zip``: the same in a
        package of the BioImage.IO specification. Any other ``*.zip``: the model folder, for `import_model`.

    Returns
    -------
    dict
        ``path``, ``kind``, and ``largest_difference`` if the result was run and compared.

    Raises
    ------
    ModelError
        If the network cannot be exported (and why), or a library is missing.
    ArgumentError
        If the file's name does not end in one of these ways.
    OutputError
        If the file cannot be written.
    """
    target = Path(path)
    entry = find_model(name)
    if target.suffix == ".onnx":
        with _renamed(target) as partial:
            difference = write_onnx(load_classifier(entry.path, "cpu"), partial)
        return {"path": str(target), "kind": "onnx", "largest_difference": difference}
    if target.name.endswith(".bioimageio.zip"):
        write_package = _package_writer()
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


def _package_writer() -> Callable[[Classifier, Path], float]:
    """The writer of BioImage.IO packages; its libraries need not be installed."""
    try:
        from napari_leukocls.exchange.bioimage import write_package
    except ImportError as error:
        raise ModelError(
            f"a BioImage.IO package needs {error.name}: install napari-leukocls[bioimageio] (pip or uv)."
        ) from error
    return write_package


@contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    """Give a path in a hidden folder beside `target`, and rename what was written there at the end."""
    make_folder(target.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".leukocls-", dir=target.parent) as scratch:
            partial = Path(scratch) / target.name
            yield partial
            os.replace(partial, target)
    except OSError as error:
        raise output_error(target, error) from error
