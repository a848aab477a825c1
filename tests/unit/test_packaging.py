"""The files of packaging follow pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Names of conda-forge that differ.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "opencv-python-headless": "py-opencv"}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]


def split(requirement: str) -> tuple[str, str]:
    """Name and bounds of a requirement."""
    found = re.match(r"([\w.-]+)(\[[\w,]+\])?\s*(.*)", requirement)
    assert found
    return found[1], found[3].replace(" ", "")


def test_the_conda_recipe_has_the_same_dependencies() -> None:
    recipe = (ROOT / "packaging" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.split("  run:\n")[1].split("\ntest:")[0]
    listed = dict(split(line) for line in re.findall(r"^    - (.+)$", run, re.M))
    python = listed.pop("python")
    wanted = dict(split(one) for one in project()["dependencies"])  # type: ignore[attr-defined]
    assert listed == {CONDA.get(name, name): bounds for name, bounds in wanted.items()}
    assert python == project()["requires-python"]


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
    assert extras and set(extras[1].split(",")) <= set(project()["optional-dependencies"])  # type: ignore[call-overload]


def test_every_dependency_has_a_lower_bound_and_a_pin() -> None:
    pins = {
        line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    for requirement in project()["dependencies"]:  # type: ignore[attr-defined]
        name, bounds = split(requirement)
        assert bounds.startswith(">="), requirement
        assert name.lower().replace("_", "-") in pins, requirement
