"""The configuration for public hosts: it is valid, covers the systems, and runs what the Makefile has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs() -> dict[str, Any]:
    return {name: job for file in FILES for name, job in yaml.safe_load(file.read_text())["jobs"].items()}


def commands() -> list[str]:
    return [step["run"] for job in jobs().values() for step in job["steps"] if "run" in step]


def test_the_systems_and_versions() -> None:
    matrix = jobs()["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    stated = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert matrix["python"] == stated, "the versions of pyproject.toml"


def test_every_command_is_a_target_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert commands()
    for command in commands():
        words = command.split()
        assert words[0] == "make" and words[1] in targets, command
        for setting in re.findall(r"\b([A-Z_]+)=", command):
            assert re.search(rf"\b{setting}\b", makefile), setting
        for path in re.findall(r"\btests/\w+", command):
            assert (ROOT / path).is_dir(), path


def test_no_host_is_named_and_nothing_may_be_written() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "://" not in text and "index-url" not in text.lower()
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
