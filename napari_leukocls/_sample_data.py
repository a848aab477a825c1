"""Napari's sample hooks."""

from __future__ import annotations

from pathlib import Path

from napari_leukocls._reader import LayerData, layer_scale
from napari_leukocls.io.download import fetch
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear


def sample_normal() -> list[LayerData]:
    """The synthetic smear with a normal differential."""
    return _sample("synthetic_teaching_normal")


def sample_left_shift() -> list[LayerData]:
    """The synthetic smear with immature granulocytes."""
    return _sample("synthetic_teaching_left_shift")


def sample_eosinophilia() -> list[LayerData]:
    """The synthetic smear with many eosinophils."""
    return _sample("synthetic_teaching_eosinophilia")


def open_neutrophil() -> list[LayerData]:
    """A real smear with a neutrophil, fetched on first use."""
    return _open_smear("bccd_neutrophil")


def open_eosinophil() -> list[LayerData]:
    """A real smear with an eosinophil, fetched on first use."""
    return _open_smear("bccd_eosinophil")


def open_lymphocyte() -> list[LayerData]:
    """A real smear with a lymphocyte, fetched on first use."""
    return _open_smear("bccd_lymphocyte")


def open_monocyte() -> list[LayerData]:
    """A real smear with a monocyte, fetched on first use."""
    return _open_smear("bccd_monocyte")


def _sample(name: str) -> list[LayerData]:
    return _image_layer(sample_smear(name), name)


def _open_smear(name: str) -> list[LayerData]:
    return _image_layer(fetch(name), name)


def _image_layer(path: Path, name: str) -> list[LayerData]:
    image = read_image(path)
    options = {"name": name, "rgb": True, "metadata": {"source": image.source, "notes": image.notes}}
    return [(image.pixels, options | layer_scale(image.um_per_px), "image")]
