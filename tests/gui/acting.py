"""What a person does to a window: looks for a control by its name, clicks, types, drags, waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QMimeData, QPoint, QPointF, QRect, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QDockWidget,
    QFileDialog,
    QLabel,
    QLineEdit,
    QMessageBox,
    QScrollArea,
    QTabBar,
    QWidget,
)

from napari_leukocls.widgets.common.controls import Folded


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
    if not found and _unfold(root, name):
        return control(root, name)
    assert found, f"there is no control called {name!r}"
    assert len(found) == 1, f"{len(found)} controls are called {name!r}"
    return found[0]


def _unfold(root: QWidget, name: str) -> bool:
    """Open the line under which a control is folded away, and say whether there is one."""
    for one in root.findChildren(QWidget):
        parent = one.parentWidget() if one.accessibleName() == name else None
        while parent is not None and parent is not root:
            if isinstance(parent, Folded) and parent.inside.isHidden() and parent.head.isVisible():
                QTest.mouseClick(parent.head, Qt.MouseButton.LeftButton)
                pump()
                return not parent.inside.isHidden()
            parent = parent.parentWidget()
    return False


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
    """Open a list of choices with the mouse, and choose the entry that begins with a text with the keys."""
    box: QComboBox = control(root, name)
    texts = [box.itemText(i) for i in range(box.count())]
    wanted = [i for i, one in enumerate(texts) if one.startswith(text)]
    assert wanted, f"{name!r} has no {text!r}, but {texts}"
    for _ in range(5):
        click(root, name)
        pump(0.1)
        if QApplication.activePopupWidget() is not None:
            break
        # A list that has just closed takes the next click for the one that closed it.
        pump(0.5)
    opened = QApplication.activePopupWidget()
    assert opened is not None, f"{name!r} did not open"
    keys = opened.focusWidget() or opened
    QTest.keyClick(keys, Qt.Key.Key_Home)
    for _ in range(wanted[0]):
        QTest.keyClick(keys, Qt.Key.Key_Down)
    QTest.keyClick(keys, Qt.Key.Key_Return)
    pump()
    assert box.currentIndex() == wanted[0]


def menu(window: QWidget, *path: str) -> None:
    """Go through the menus of a window with the mouse, by the words that their entries begin with."""
    at: Any = window.menuBar()
    for words in path:
        entry = next(one for one in at.actions() if one.text().replace("&", "").startswith(words))
        place = at.actionGeometry(entry).center()
        QTest.mouseClick(at, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        pump(0.2)
        if words != path[-1]:
            before = at
            until(lambda before=before: QApplication.activePopupWidget() not in (None, before), 20)
            at = QApplication.activePopupWidget()


def front(dock: QWidget) -> None:
    """Click the tab of a dock that lies behind others; nothing where it is seen already."""
    if dock.isVisible() and not dock.visibleRegion().isEmpty():
        return
    title = _frame(dock).windowTitle()
    for bar in dock.window().findChildren(QTabBar):
        for place in range(bar.count()):
            if bar.isVisible() and bar.tabText(place).replace("&", "") == title:
                middle = bar.tabRect(place).center()
                QTest.mouseClick(bar, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, middle)
                pump(0.2)
                return
    raise AssertionError(f"there is no tab {title!r}")


def _frame(dock: QWidget) -> QDockWidget:
    parent = dock.parentWidget()
    while not isinstance(parent, QDockWidget):
        assert parent is not None, "the dock is in no window"
        parent = parent.parentWidget()
    return parent


def says(root: QWidget, name: str = "Details") -> str:
    """The words of a label with an accessible name, "" while it is hidden."""
    found = [one for one in root.findChildren(QLabel) if one.accessibleName() == name and one.isVisible()]
    return found[0].text() if found else ""


def is_there(root: QWidget, name: str) -> bool:
    """Whether a control with an accessible name is seen."""
    return any(one.accessibleName() == name and one.isVisible() for one in root.findChildren(QWidget))


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


def _bring_into_view(target: QWidget) -> None:
    """Turn the wheel over the dock until a control is seen whole."""
    parent = target.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            for _ in range(200):
                port = parent.viewport()
                seen = port.rect()
                place = QRect(target.mapTo(port, QPoint(0, 0)), target.size())
                if place.bottom() > seen.bottom() and place.top() > seen.top():
                    wheel(port, -120)
                elif place.top() < seen.top():
                    wheel(port, 120)
                else:
                    break
        parent = parent.parentWidget()
    pump(0.02)


def wheel(target: QWidget, delta: int, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    """Turn the wheel over a control."""
    middle = QPointF(target.rect().center())
    event = QWheelEvent(
        middle,
        QPointF(target.mapToGlobal(target.rect().center())),
        QPoint(),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        modifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(target, event)
    pump(0.01)


def answer_file_dialog(path: Any) -> None:
    """Type a path into the file dialog that opens next, and accept it."""

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, QFileDialog):
            QTimer.singleShot(100, answer)
            return
        field = next(one for one in dialog.findChildren(QLineEdit) if one.isVisible())
        for _ in range(10):
            # The dialog reads its folder beside the window, and may take what was typed before it is done.
            pump(0.3)
            QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
            QTest.keyClicks(field, str(path))
            if field.text() == str(path):
                QTest.keyClick(field, Qt.Key.Key_Return)
                return
        QTest.keyClick(dialog, Qt.Key.Key_Escape)

    QTimer.singleShot(200, answer)


def drop_files(viewer: Any, files: list[Any]) -> None:
    """Let go of files over napari's window."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file)) for file in files])
    drop(data, viewer.window._qt_viewer)
    pump(0.3)


def answer_question(yes: bool) -> list[str]:
    """Answer the question that opens next; the list holds its words once it was asked."""
    asked: list[str] = []

    def answer() -> None:
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(50, answer)
            return
        asked.append(box.text())
        wanted = QMessageBox.StandardButton.Yes if yes else QMessageBox.StandardButton.No
        QTest.mouseClick(box.button(wanted), Qt.MouseButton.LeftButton)

    QTimer.singleShot(100, answer)
    return asked
