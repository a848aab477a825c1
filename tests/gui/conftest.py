"""Tests that open a window: the display is there before anything asks Qt for one."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _display(display: str) -> None:
    """Every test of this folder has a display."""


@pytest.fixture(scope="session")
def qapp_args(display: str) -> list[str]:
    """Make pytest-qt's application wait for the display."""
    return ["leukocls-tests"]
