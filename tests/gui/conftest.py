"""Tests that open a window: the display is there before anything asks Qt for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acting import click, front, menu, pump, write


@pytest.fixture(autouse=True)
def _display(display: str) -> None:
    """Every test of this folder has a display."""


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests neither see nor change what the person who runs them has set in napari."""
    from napari_leukocls.widgets.common import preferences

    monkeypatch.setattr(preferences, "_settings", lambda: None)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """Threads of docks end before the next test begins, as they do before napari quits."""
    yield
    from superqt.utils import WorkerBase

    WorkerBase.await_workers(60_000)


@pytest.fixture(scope="session")
def qapp_args(display: str) -> list[str]:
    """Make pytest-qt's application wait for the display."""
    return ["leukocls-tests"]


@pytest.fixture
def plugin() -> None:
    """The plugin as it was installed, by its entry point."""
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    assert "napari-leukocls" in manager, "install the package first: make env-test"


@pytest.fixture(scope="session")
def field() -> np.ndarray:
    """A corner of the bundled smear with six leukocytes: small, so that analysing it takes seconds."""
    from napari_leukocls.io.images import read_image
    from napari_leukocls.paths import sample_smear

    return read_image(sample_smear()).pixels[:420, :560].copy()


@pytest.fixture(scope="session")
def large(field: np.ndarray) -> np.ndarray:
    """The field many times over: its analysis is at work for seconds on the fastest machine."""
    return np.tile(field, (6, 6, 1))


@pytest.fixture
def viewer(plugin: None, make_napari_viewer: Callable[..., Any]) -> Iterator[Any]:
    """A real napari window."""
    made = make_napari_viewer(show=True)
    made.window.resize(1500, 1000)
    yield made
    # A test that failed may leave a training behind, and closing the window would ask about it.
    from napari_leukocls.widgets.common.session import session_of

    session = session_of(made)
    if session.training is not None:
        session.training.kill()
        session.training = None


@pytest.fixture
def smear(viewer: Any, field: np.ndarray) -> Any:
    """The field, opened."""
    return viewer.add_image(field, name="smear", scale=(0.16, 0.16), units=("um", "um"))


@pytest.fixture
def dock(viewer: Any) -> Callable[[str], Any]:
    """Open a dock by its name in the menu."""

    def open_dock(name: str) -> Any:
        opened = viewer.window.add_plugin_dock_widget("napari-leukocls", name)[1]
        pump(0.2)
        return opened

    return open_dock


@pytest.fixture
def docks(viewer: Any, tmp_path: Path) -> tuple[Any, Any]:
    """Analyse and Review, opened by the menu, with a name and a folder for results: chosen once."""
    menu(viewer.window._qt_window, "Layers", "Classify", "Open the docks")
    analysis, review = (viewer.window.dock_widgets[f"{name} (Leukocls)"] for name in ("Analyse", "Review"))
    front(review)
    write(review, "Reviewer", "A. Reader")
    click(review, "Slide details")
    write(review, "Folder for results", str(tmp_path / "out"))
    click(review, "Slide details")
    return analysis, review
