"""What a person does to a window: looks for a control by its name, clicks, types, drags, waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QWidget


def pump(seconds: float = 0.05) -> None:
    """Let the window live for a moment."""
    QTest.qWait(round(1000 * seconds))


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something to come true."""
    waited = 0.0
    while not true():
        assert waited < seconds, "it never came"
        pump(0.05)
        waited += 0.05


def control(root: QWidget, name: str) -> Any:
    """The visible control with an accessible name, as a screen reader finds it."""
    found = [one for one in root.findChildren(QWidget) if one.accessibleName() == name and one.isVisible()]
    assert found, f"there is no control called {name!r}"
    assert len(found) == 1, f"{len(found)} controls are called {name!r}"
    return found[0]


def click(root: QWidget, name: str) -> None:
    """Click a control; one that is scrolled away is brought into view first."""
    target = control(root, name)
    assert target.isEnabled(), f"{name!r} is greyed out"
    _bring_into_view(target)
    QTest.mouseClick(target, Qt.MouseButton.LeftButton)
    pump()


def write(root: QWidget, name: str, text: str) -> None:
    """Type into a field, and leave it."""
    target = control(root, name)
    _bring_into_view(target)
    QTest.mouseClick(target, Qt.MouseButton.LeftButton)
    QTest.keyClick(target, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(target, text)
    QTest.keyClick(target, Qt.Key.Key_Return)
    pump()


def press(target: QWidget, key: Any, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    """Press a key."""
    QTest.keyClick(target, key, modifier)
    pump()


def pick(root: QWidget, name: str, text: str) -> None:
    """Choose the entry of a list that begins with a text, with the keyboard."""
    box: QComboBox = control(root, name)
    texts = [box.itemText(i) for i in range(box.count())]
    wanted = [i for i, one in enumerate(texts) if one.startswith(text)]
    assert wanted, f"{name!r} has no {text!r}, but {texts}"
    _bring_into_view(box)
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Home)
    for _ in range(wanted[0]):
        QTest.keyClick(box, Qt.Key.Key_Down)
    assert box.currentIndex() == wanted[0]
    pump()


def click_tile(gallery: Any, row: int, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    """Click a cell of a gallery."""
    place = gallery.visualRect(gallery.model().index(row, 0)).center()
    QTest.mouseClick(gallery.viewport(), Qt.MouseButton.LeftButton, modifier, place)
    pump()


def drop(data: QMimeData, target: QWidget) -> None:
    """Let go of a drag over a control; the drag's own loop belongs to the desktop, which tests have not."""
    middle = target.rect().center()
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(target, QDragEnterEvent(QPoint(middle), copy, data, left, none))
    QApplication.sendEvent(target, QDropEvent(QPointF(middle), copy, data, left, none))
    pump()


def stalls(seconds: float, done: Callable[[], bool]) -> Iterator[float]:
    """Run the event loop until something is done, and say how long each turn took."""
    from time import perf_counter

    began = perf_counter()
    while not done() and perf_counter() - began < seconds:
        before = perf_counter()
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        yield perf_counter() - before
        QTest.qSleep(1)


def _bring_into_view(target: QWidget) -> None:
    from qtpy.QtWidgets import QScrollArea

    parent = target.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            parent.ensureWidgetVisible(target)
        parent = parent.parentWidget()
    pump(0.02)


def answer_file_dialog(path: Any) -> None:
    """Type a path into the file dialog that opens next, and accept it."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QDialogButtonBox, QFileDialog, QLineEdit

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, QFileDialog):
            QTimer.singleShot(100, answer)
            return
        field = next(one for one in dialog.findChildren(QLineEdit) if one.isVisible())
        field.selectAll()
        QTest.keyClicks(field, str(path))
        buttons = dialog.findChild(QDialogButtonBox).buttons()
        accept = QDialogButtonBox.ButtonRole.AcceptRole
        box = dialog.findChild(QDialogButtonBox)
        QTest.mouseClick(next(b for b in buttons if box.buttonRole(b) == accept), Qt.MouseButton.LeftButton)

    QTimer.singleShot(200, answer)
