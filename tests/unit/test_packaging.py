"""The files of packaging follow pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from napari_leukocls import __version__

ROOT = Path(__file__).resolve().parents[2]
#: Names of conda-forge that differ.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "opencv-python-headless": "py-opencv"}


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    found: dict[str, Any] = settings()["project"]
    return found


def split(requirement: str) -> tuple[str, str]:
    """Name and bounds of a requirement."""
    found = re.match(r"([\w.-]+)(\[[\w,]+\])?\s*(.*)", requirement)
    assert found
    return found[1], found[3].replace(" ", "")


def test_the_conda_recipe_has_the_same_dependencies() -> None:
    recipe = (ROOT / "packaging" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    lowest = re.search(r'set python_min = "([\d.]+)"', recipe)
    assert lowest
    recipe = recipe.replace("{{ python_min }}", lowest[1])
    run = recipe.split("  run:\n")[1].split("\ntest:")[0]
    listed = dict(split(line) for line in re.findall(r"^    - (.+)$", run, re.M))
    python = listed.pop("python")
    wanted = dict(split(one) for one in project()["dependencies"])
    assert listed == {CONDA.get(name, name): bounds for name, bounds in wanted.items()}
    assert python == project()["requires-python"]
    host = recipe.split("  host:\n")[1].split("  run:\n")[0]
    assert all(
        f"    - {one}\n" in host.replace(" >=", ">=") for one in settings()["build-system"]["requires"]
    )
    assert f"leukocls = {project()['scripts']['leukocls']}" in recipe
    assert f'set version = "{__version__.split(".dev")[0]}"' in recipe


def test_the_container_copies_what_the_wheel_is_built_from() -> None:
    recipe = (ROOT / "packaging" / "Dockerfile").read_text(encoding="utf-8")
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "napari_leukocls",
        "models",
        "sample_data",
    ):
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", recipe, re.M), name
    extras = re.search(r"\.\[([\w,]+)\]", recipe)
    assert extras and set(extras[1].split(",")) <= set(project()["optional-dependencies"])


def test_every_dependency_has_a_lower_bound_and_a_pin() -> None:
    pins = {
        line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    for requirement in project()["dependencies"]:
        name, bounds = split(requirement)
        assert bounds.startswith(">="), requirement
        assert name.lower().replace("_", "-") in pins, requirement


def test_the_container_runs_what_the_page_says() -> None:
    recipe = (ROOT / "packaging" / "Dockerfile").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    call = re.search(r"^#   (docker run .*)$", recipe, re.M)
    assert call and call[1] in page and "--user" in call[1]
    assert "constraints.txt" in recipe and "--no-cache-dir" in recipe
    ignored = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    assert not ignored & {"models", "sample_data", "napari_leukocls"}
    # Whoever runs it may write where the program keeps what it remembers.
    folder = re.search(r"LEUKOCLS_DATA=(\S+)", recipe)
    assert folder and re.search(rf"--mode=1777 {folder[1]}$", recipe, re.M)
