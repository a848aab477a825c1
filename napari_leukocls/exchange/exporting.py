"""Export of a model: as ONNX, as a BioImage.IO package, or as a zip of its folder."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.exchange.onnx import left_out, write_onnx
from napari_leukocls.exchange.segmenter import LEFT_OUT, write_segmenter_onnx
from napari_leukocls.io.atomic import make_folder, output_error
from napari_leukocls.models.registry import ModelEntry, find_model
from napari_leukocls.segmentation.compact import load_compact

log = logging.getLogger(__name__)


def export_model(name: str, path: str | Path) -> dict[str, Any]:
    """Write a model as a file that other programs read.

    Parameters
    ----------
    name : str
        Name or folder of the model.
    path : path-like
        ``*.onnx``: RGB crops (N, 3, side, side) of 0-255 in, probabilities (N, C) out, normalisation and
        temperature inside; classes and crop rule are in its metadata. Of a segmenter: tiles in, maps out.
        ``*.bioimageio.zip``: the same in a package of the BioImage.IO specification. Any other ``*.zip``: the model
        folder, for `import_model`.

    Returns
    -------
    dict
        ``path`` and ``kind``; ``largest_difference`` if the result was run and compared; ``left_out``: sentences on
        what this program does with the model and the file does not.

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
    if target.suffix == ".onnx" or target.name.endswith(".bioimageio.zip"):
        kind = "onnx" if target.suffix == ".onnx" else "bioimageio"
        if entry.card().get("kind") == "segmenter":
            return _segmenter(entry, target, kind)
        return _network(entry.path, target, kind)
    if target.suffix == ".zip":
        with _renamed(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(entry.path.iterdir()):
                if file.suffix in {".json", ".safetensors"}:
                    archive.write(file, f"{entry.name}/{file.name}")
        return {"path": str(target), "kind": "folder", "left_out": _asked(entry.card())}
    raise ArgumentError(f"'{target.name}' says no kind: name it *.onnx, *.bioimageio.zip or *.zip.")


def _network(folder: Path, target: Path, kind: str) -> dict[str, Any]:
    """Write the network of a classifier, and say what the file lacks."""
    write = write_onnx if kind == "onnx" else _package_writers()[0]
    classifier = load_classifier(folder, "cpu")
    with _renamed(target) as partial:
        difference = write(classifier, partial)
    return _record(target, kind, difference, left_out(classifier.card))


def _segmenter(entry: ModelEntry, target: Path, kind: str) -> dict[str, Any]:
    """Write the network of a segmenter, and say what the file lacks."""
    card, segmenter = entry.card(), load_compact(entry.path, "cpu")
    with _renamed(target) as partial:
        if kind == "onnx":
            difference = write_segmenter_onnx(segmenter, partial)
        else:
            difference = _package_writers()[1](segmenter, card, partial)
    return _record(target, kind, difference, LEFT_OUT)


def _record(target: Path, kind: str, difference: float, missing: Sequence[str]) -> dict[str, Any]:
    return {
        "path": str(target),
        "kind": kind,
        "largest_difference": difference,
        "left_out": list(missing),
    }


def _asked(card: Mapping[str, Any]) -> list[str]:
    """What the zip of a folder says of the model that this one asks about unsure cells."""
    asked = card.get("second_opinion")
    if not isinstance(asked, Mapping):
        return []
    return [
        f"It asks the model {asked.get('model')} about unsure cells, which is not in this file: install that one too "
        "where this one is used."
    ]


def _package_writers() -> tuple[Callable[..., float], Callable[..., float]]:
    """The writers of BioImage.IO packages, of classifiers and of segmenters; their libraries need not be installed."""
    try:
        from napari_leukocls.exchange.bioimage import write_package, write_segmenter_package
    except ImportError as error:
        raise ModelError(
            f"a BioImage.IO package needs {error.name}: install napari-leukocls[bioimageio] (pip or uv)."
        ) from error
    return write_package, write_segmenter_package


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
