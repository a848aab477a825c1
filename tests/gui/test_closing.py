"""Closing napari: no thread outlives it, and a training is ended only after one question."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from acting import pump, until
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QDialog, QLabel, QMessageBox, QPushButton

from napari_leukocls.widgets.common.session import session_of

#: A script without an event loop of its own: nothing waits for threads but Python's own end.
SCRIPT = """
import sys
import napari
from qtpy.QtTest import QTest
viewer = napari.Viewer()
for name in ("Analyse", "Review", "Explain", "Train", "Batch"):
    viewer.window.add_plugin_dock_widget("napari-leukocls", name)
QTest.qWait(round(1000 * float(sys.argv[1])))
viewer.close()
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", (0.0, 0.4, 0.8, 1.2, 2.0))
def test_a_script_that_opens_the_docks_and_closes_ends_well(plugin: None, seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(seconds)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "has been deleted" not in done.stderr


class Running:
    """A training that never ends by itself."""

    running = True
    killed = False

    def kill(self) -> None:
        self.killed, self.running = True, False


@pytest.fixture
def training(viewer: Any, dock: Callable[[str], Any]) -> Iterator[Running]:
    """A training that runs, with a window that knows of it and has a layer."""
    viewer.add_image(np.zeros((20, 20, 3), np.uint8))
    dock("Train")
    # The test's own viewer closes its window once more.
    viewer.window._qt_window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    made = Running()
    session_of(viewer).training = made  # type: ignore[assignment]
    yield made
    made.running = False


def answer_questions(yes: bool, asked: list[str]) -> QTimer:
    """Answer every question that opens, napari's too, and note its words."""

    def answer() -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            asked.append(box.text())
            kinds = QMessageBox.StandardButton
            box.button(kinds.Yes if yes else kinds.No).click()
        elif isinstance(box, QDialog):
            asked.append(" ".join(one.text() for one in box.findChildren(QLabel)))
            names = ("Close",) if yes else ("Cancel",)
            next(one for one in box.findChildren(QPushButton) if one.text() in names).click()

    timer = QTimer()
    timer.timeout.connect(answer)
    timer.start(100)
    return timer


def test_closing_napari_over_a_training_asks_once_and_no_keeps_both(viewer: Any, training: Running) -> None:
    asked: list[str] = []
    window = viewer.window._qt_window
    timer = answer_questions(False, asked)
    window.close()
    pump(0.5)
    timer.stop()
    assert len(asked) == 1 and "Stop the training" in asked[0]
    assert window.isVisible() and not training.killed


def test_closing_napari_over_a_training_asks_once_and_yes_ends_both(viewer: Any, training: Running) -> None:
    asked: list[str] = []
    window = viewer.window._qt_window
    timer = answer_questions(True, asked)
    window.close()
    until(lambda: training.killed, 20)
    pump(0.3)
    timer.stop()
    assert len(asked) == 1


@pytest.mark.parametrize("yes", (True, False))
def test_the_question_of_napari_speaks_of_the_training_and_is_the_only_one(
    viewer: Any, training: Running, yes: bool
) -> None:
    asked: list[str] = []
    window = viewer.window._qt_window
    timer = answer_questions(yes, asked)
    # As File > Close Window does.
    window.close(quit_app=False, confirm_need=True)
    pump(0.5)
    timer.stop()
    assert len(asked) == 1 and "Stop the training" in asked[0]
    assert training.killed is yes
