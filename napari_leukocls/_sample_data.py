"""Napari's sample hooks."""

from __future__ import annotations

from pathlib import Path

from napari_leukocls._reader import LayerData, layer_scale
from napari_leukocls.io.download import fetch
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear


def sample_normal() -> list[LayerData]:
    """Open the synthetic smear with a normal differential.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_normal")


def sample_left_shift() -> list[LayerData]:
    """Open the synthetic smear with immature granulocytes.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_left_shift")


def sample_eosinophilia() -> list[LayerData]:
    """Open the synthetic smear with many eosinophils.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_eosinophilia")


def sample_spherocytes() -> list[LayerData]:
    """Open the synthetic smear with spherocytes.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_spherocytes")


def sample_schistocytes() -> list[LayerData]:
    """Open the synthetic smear with schistocytes.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_schistocytes")


def sample_targets_and_teardrops() -> list[LayerData]:
    """Open the synthetic smear with target cells, teardrop cells and pale red cells.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_targets_and_teardrops")


def sample_rouleaux_and_heaps() -> list[LayerData]:
    """Open the synthetic smear with rouleaux and heaps.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_rouleaux_and_heaps")


def sample_platelet_clumps() -> list[LayerData]:
    """Open the synthetic smear with clumps of platelets.

    Returns
    -------
    list of layer data tuples
        One image layer.
    """
    return _sample("synthetic_teaching_platelet_clumps")


def open_neutrophil() -> list[LayerData]:
    """Open a real smear with a neutrophil; it is downloaded on first use.

    Returns
    -------
    list of layer data tuples
        One image layer.

    Raises
    ------
    LeukoclsError
        If it cannot be downloaded.
    """
    return _open_smear("bccd_neutrophil")


def open_eosinophil() -> list[LayerData]:
    """Open a real smear with an eosinophil; it is downloaded on first use.

    Returns
    -------
    list of layer data tuples
        One image layer.

    Raises
    ------
    LeukoclsError
        If it cannot be downloaded.
    """
    return _open_smear("bccd_eosinophil")


def open_lymphocyte() -> list[LayerData]:
    """Open a real smear with a lymphocyte; it is downloaded on first use.

    Returns
    -------
    list of layer data tuples
        One image layer.

    Raises
    ------
    LeukoclsError
        If it cannot be downloaded.
    """
    return _open_smear("bccd_lymphocyte")


def open_monocyte() -> list[LayerData]:
    """Open a real smear with a monocyte; it is downloaded on first use.

    Returns
    -------
    list of layer data tuples
        One image layer.

    Raises
    ------
    LeukoclsError
        If it cannot be downloaded.
    """
    return _open_smear("bccd_monocyte")


def _sample(name: str) -> list[LayerData]:
    return _image_layer(sample_smear(name), name)


def _open_smear(name: str) -> list[LayerData]:
    return _image_layer(fetch(name), name)


def _image_layer(path: Path, name: str) -> list[LayerData]:
    image = read_image(path)
    options = {"name": name, "rgb": True, "metadata": {"source": image.source, "notes": image.notes}}
    return [(image.pixels, options | layer_scale(image.um_per_px), "image")]
