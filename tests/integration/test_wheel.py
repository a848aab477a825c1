"""What the built sdist and wheel hold is enough to run: models, smears, manifest, command; and how large they are."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("napari_leukocls", "models", "sample_data")
FILES = (
    "pyproject.toml",
    "hatch_build.py",
    "README.md",
    "LICENSE",
    "constraints.txt",
    "CHANGELOG.md",
    "CITATION.cff",
)
#: Python runs this before anything else.
BLOCKED = """
import socket

def refuse(*args, **kwargs):
    raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
"""


#: Nearly all of it are weights and smears.
LARGEST_WHEEL = 40_000_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, built from a copy of the sources without a network, and the wheel, built from it."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(source / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    target = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def _run(unpacked: Path, *words: str, timeout: int = 120) -> str:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
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


def test_the_wheel_is_pure_python_and_no_larger_than_stated(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < LARGEST_WHEEL
    for page in ("docs/install.md", "packaging/README.md"):
        stated = re.search(r"[Tt]he wheel is (\d+) MB", (ROOT / page).read_text(encoding="utf-8"))
        assert stated and abs(wheel.stat().st_size / 1e6 - int(stated[1])) < 2, page
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "docs/", "scripts/", "models/"))]
    assert not [name for name in names if name.endswith((".pth", ".pt", ".pkl", ".pyc"))]


def test_the_sdist_holds_what_a_wheel_is_built_from_and_no_more(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "LICENSE", "README.md", "models/default/model.json"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", ".github/"))]


def test_the_manifest_is_valid_for_napari(unpacked: Path) -> None:
    manifest = unpacked / "napari_leukocls" / "napari.yaml"
    assert "valid" in _run(unpacked, "-m", "npe2", "validate", str(manifest)).lower()


def test_the_metadata_say_what_the_napari_hub_reads(unpacked: Path) -> None:
    (path,) = unpacked.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(path.read_text(encoding="utf-8"))
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "BSD-3-Clause" and metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"] and len(metadata.get_payload()) > 1000
    assert metadata["Description-Content-Type"] == "text/markdown"
    required = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert not [one for one in required if re.match(r"(?i)pyqt|pyside", one)], (
        "the Qt binding is the user's choice"
    )


def test_the_demonstration_runs_with_the_network_blocked(unpacked: Path, tmp_path: Path) -> None:
    (unpacked / "sitecustomize.py").write_text(BLOCKED)
    try:
        text = _run(unpacked, "-m", "napari_leukocls", "demo", "--out", str(tmp_path / "demo"), timeout=500)
    finally:
        (unpacked / "sitecustomize.py").unlink()
    assert "neutrophil" in text.lower() and list(tmp_path.rglob("report.html"))
