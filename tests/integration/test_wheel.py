"""What the built wheel holds is enough to run: models, smears, manifest, command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("napari_leukocls", "models", "sample_data")
FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources without a network, and unpacked."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist")]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=300)
    (wheel,) = (source / "dist").glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def _run(unpacked: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, *words], cwd=unpacked, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bundled_files_are_found_within_the_package(unpacked: Path) -> None:
    script = "from napari_leukocls import paths as r; print(*r.sample_smears().values(), sep='\\n')"
    paths = _run(unpacked, "-c", script).splitlines()
    assert len(paths) >= 3 and all(path.startswith(str(unpacked)) for path in paths)


def test_the_command_lists_the_bundled_models(unpacked: Path) -> None:
    text = _run(unpacked, "-m", "napari_leukocls", "models", "list")
    shipped = [folder.name for folder in (ROOT / "models").iterdir() if (folder / "model.json").is_file()]
    assert shipped and all(f" {name} " in text for name in shipped)


def test_the_manifest_and_the_entry_points_are_in_it(unpacked: Path) -> None:
    assert (unpacked / "napari_leukocls" / "napari.yaml").is_file()
    assert (unpacked / "napari_leukocls" / "data" / "scheme.toml").is_file()
    (points,) = unpacked.glob("*.dist-info/entry_points.txt")
    text = points.read_text()
    assert (
        "leukocls = napari_leukocls.cli:main" in text
        and "napari-leukocls = napari_leukocls:napari.yaml" in text
    )
