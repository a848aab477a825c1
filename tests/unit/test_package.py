"""The package: public names, manifest, version."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import napari_leukocls

ROOT = Path(__file__).resolve().parents[2]


def test_public_names_are_there() -> None:
    assert callable(napari_leukocls.analyze) and callable(napari_leukocls.render_smear)
    assert napari_leukocls.SmearResult.__module__ == "napari_leukocls.types"
    assert napari_leukocls.SmearResult is napari_leukocls.FieldResult
    assert set(napari_leukocls.__all__) <= set(dir(napari_leukocls))
    with pytest.raises(AttributeError, match="no attribute 'nix'"):
        _ = napari_leukocls.nix


def test_the_version_is_said_once_and_alike() -> None:
    version = napari_leukocls.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_manifest_is_valid_and_every_command_can_be_imported() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    manifest.validate_imports()
    commands = manifest.contributions.commands or []
    assert commands
    for command in commands:
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_samples_are_layers(tmp_path: Path) -> None:
    from napari_leukocls import _sample_data

    for sample in (
        _sample_data.sample_normal,
        _sample_data.sample_left_shift,
        _sample_data.sample_eosinophilia,
    ):
        ((data, options, kind),) = sample()
        assert kind == "image" and data.shape[-1] == 3 and options["rgb"]
        assert options["scale"][0] == options["scale"][1] > 0


def test_the_reader_leaves_other_files_to_others(tmp_path: Path) -> None:
    from napari_leukocls._reader import get_reader

    (tmp_path / "labels.tif").touch()
    assert get_reader(tmp_path / "labels.tif") is None
    assert get_reader(tmp_path) is None
    assert get_reader([]) is None
