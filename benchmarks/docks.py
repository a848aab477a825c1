"""How quick the docks are, in a real napari window: run with a display (or `xvfb-run -a`).

    python benchmarks/docks.py [--only PART] [--why]

Prints one line a figure, with what was asked of it. Figures are of this machine at this moment: look at what else
it does. Each part runs in a process of its own, and each dock is opened as the first one of its process. A stall is
the time by which a timer of 10 ms comes late; `--why` says what the window was at in the longest ones.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from time import perf_counter, sleep, thread_time
from typing import Any

import numpy as np

PLUGIN = "napari-leukocls"
DOCKS = ("Analyse", "Review", "Explain", "Train", "Batch")
TICK = 0.01


def say(what: str, value: float, unit: str, wanted: str) -> None:
    print(f"{what:<66} {value:9.1f} {unit:<8} wanted {wanted}", flush=True)


def live(seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> None:
    """Run the window's event loop for a time, or until something is true."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    timer = QTimer()
    timer.timeout.connect(lambda: loop.quit() if until() else None)
    timer.start(20)
    QTimer.singleShot(max(1, round(1000 * seconds)), loop.quit)
    loop.exec()


class Stalls:
    """Measures how late a timer comes while other things go on.

    Parameters
    ----------
    why : bool
        Look from another thread at what the main thread does when it is late.
    """

    def __init__(self, why: bool) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[tuple[float, str]] = []
        #: Seconds that the main thread itself computed between two ticks: what other processes do is not in them.
        self.busy: list[float] = []
        self.stage: Callable[[], str] = lambda: ""
        self._stacks: dict[str, int] = {}
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last, self._worked = perf_counter(), thread_time()
        self._going = True
        if why:
            threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True).start()
        self._timer.start(round(1000 * TICK))

    def _tick(self) -> None:
        now = perf_counter()
        worked = thread_time()
        self.late.append((now - self._last - TICK, self.stage()))
        self.busy.append(worked - self._worked)
        self._last, self._worked = now, worked

    def _watch(self, main: int) -> None:
        while self._going:
            sleep(0.02)
            if perf_counter() - self._last > 0.06:
                frames = traceback.extract_stack(sys._current_frames()[main])
                names = [f"{os.path.basename(one.filename)}:{one.lineno} {one.name}" for one in frames[-9:]]
                stack = " < ".join(reversed(names))
                self._stacks[stack] = self._stacks.get(stack, 0) + 1

    def tell(self, what: str) -> None:
        """Print the longest stall, and where it was."""
        self._timer.stop()
        self._going = False
        longest, stage = max(self.late, default=(0.0, ""))
        say(f"longest stall while {what}", 1000 * longest, "ms", "<= 100")
        busy = np.array(self.busy)
        say("    of the window's thread's own work, the longest piece", 1000 * busy.max(), "ms", "<= 100")
        over = [stage for late, stage in self.late if late > 0.1]
        print(f"    in: {stage!r}; {len(over)} of {len(self.late)} turns over 100 ms: {sorted(set(over))}")
        for stack, n in sorted(self._stacks.items(), key=lambda one: -one[1])[:12]:
            print(f"    {n:4d} x {stack}")


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def big_smear() -> np.ndarray:
    """The bundled smear, laid side by side to 4096 x 3072 pixels."""
    from napari_leukocls.io.images import read_image
    from napari_leukocls.paths import sample_smear

    return np.tile(read_image(sample_smear()).pixels, (2, 2, 1))[:3072, :4096].copy()


def opening(viewer: Any, name: str) -> None:
    from qtpy.QtWidgets import QApplication

    began = perf_counter()
    opened = dock(viewer, name)
    QApplication.processEvents()
    opened.repaint()
    say(f"{name} dock opens, first of its process", perf_counter() - began, "s", "<= 1")
    live(0.3)


def analysing(viewer: Any, why: bool) -> None:
    viewer.add_image(big_smear(), name="smear", scale=(0.16, 0.16), units=("um", "um"))
    live(2)
    opened = dock(viewer, "Analyse")
    for what in ("4096 x 3072 is analysed, the first time", "it is analysed again"):
        live(1)
        stalls = Stalls(why)
        stalls.stage = lambda: opened.progress.text.text().split(",")[0] if opened._job.running else "after"
        opened.run.click()
        live(1800, lambda: not opened._job.running)
        live(3)
        stalls.tell(what)
        print("   ", opened.message.text())


def cancelling(viewer: Any) -> None:
    from superqt.utils._qthreading import WorkerBase

    viewer.add_image(big_smear(), name="smear", scale=(0.16, 0.16), units=("um", "um"))
    opened = dock(viewer, "Analyse")
    live(2)
    live(300, lambda: not opened._warm_job.running)
    ready, ended = [], []
    for after in (0.2, 1.0, 3.0, 6.0, 10.0):
        live(1)
        opened.run.click()
        live(after)
        began = perf_counter()
        opened.progress.stop.click()
        live(10, opened.run.isEnabled)
        ready.append(perf_counter() - began)
        live(60, lambda: not WorkerBase._worker_set)
        ended.append(perf_counter() - began)
    say("Cancel until the dock is ready again, worst of 5 moments", max(ready), "s", "<= 1")
    say("Cancel until the thread has ended, worst of 5 moments", max(ended), "s", "")


def full_gallery(viewer: Any) -> Any:
    """The Review dock with a slide of some thousand leukocytes."""
    from napari_leukocls.widgets.common.session import session_of
    from tests.results import make_result

    began = perf_counter()

    def told(what: str) -> None:
        print(f"    {what}, {perf_counter() - began:.0f} s", flush=True)

    result = make_result("ten thousand", (4240, 4240), 40, every=1)
    told(f"a slide of {len(result.cells)} cells is drawn")
    session = session_of(viewer)
    session.set_reviewer("A. Reader")
    opened = dock(viewer, "Review")
    told("the dock is open")
    show(viewer, result)
    told("the slide is in the review store and in the window")
    return opened


def gallery(viewer: Any) -> None:
    from qtpy.QtCore import QEvent, QObject
    from qtpy.QtWidgets import QApplication

    from napari_leukocls.widgets.review.tile_view import LARGEST, SMALLEST

    class Frames(QObject):
        n = 0

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            self.n += event.type() == QEvent.Type.Paint
            return False

    opened = full_gallery(viewer)
    live(1)
    shown, port = opened.gallery, opened.gallery.viewport()
    frames = Frames()
    port.installEventFilter(frames)
    began = perf_counter()
    opened.group.setCurrentIndex(1)
    opened.group.setCurrentIndex(0)
    while not frames.n:
        QApplication.processEvents()
    say(
        f"gallery of {len(shown.cells.ids)} cells, first paint",
        1000 * (perf_counter() - began),
        "ms",
        "<= 500",
    )
    bare = one_picture(viewer)
    say("a picture of the window in which a label changes", 1000 * bare, "ms", "")
    bar = shown.verticalScrollBar()
    for side in (SMALLEST, 72, 160, LARGEST):
        shown.set_side(side)
        live(0.5)
        for what, step in (("a few lines", 40), ("a page", port.height())):
            frames.n, began, before = 0, perf_counter(), thread_time()
            while perf_counter() - began < 3:
                bar.setValue((bar.value() + step) % max(bar.maximum(), 1))
                seen = frames.n
                while frames.n == seen:
                    QApplication.processEvents()
            own = 1000 * (thread_time() - before) / max(frames.n, 1)
            took = (perf_counter() - began) / max(frames.n, 1)
            say(f"tiles of {side} px, scrolling {what} a frame", 1 / took, "frames/s", ">= 30")
            say("    of the window's thread's own work, a frame", own, "ms", "<= 33")
            say("    a frame relative to a picture of the window", took / bare, "times", "")


def one_picture(viewer: Any, canvas: bool = False) -> float:
    """Seconds until the window is free after a label, or the canvas, is drawn again: median of 15."""
    from qtpy.QtWidgets import QLabel

    window = viewer.window._qt_window
    labels = (one for one in window.findChildren(QLabel) if not one.visibleRegion().isEmpty())
    part = viewer.window._qt_viewer.canvas.native if canvas else next(labels)
    taken = []
    for _ in range(15):
        live(0.1)
        began = perf_counter()
        part.update()
        free()
        taken.append(perf_counter() - began)
    return float(np.median(taken))


def free() -> None:
    """Process all events, also those that these cause: then the window is free for the next key."""
    from qtpy.QtWidgets import QApplication

    for _ in range(3):
        QApplication.processEvents()


def field_of(viewer: Any, shape: tuple[int, int]) -> Any:
    """The Review dock of a slide over its image, with the Analyse and Explain docks behind it."""
    from napari_leukocls.widgets.common.session import session_of
    from tests.results import make_result

    result = make_result(f"{shape[1]} x {shape[0]}", shape, 48, every=6)
    session = session_of(viewer)
    session.set_reviewer("A. Reader")
    for name in ("Analyse", "Explain"):
        dock(viewer, name)
    opened = dock(viewer, "Review")
    live(0.5)
    show(viewer, result)
    live(1)
    return opened


def show(viewer: Any, result: Any) -> None:
    """Open a result as a slide."""
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.widgets.common.analysed import Analysed
    from napari_leukocls.widgets.common.cases import cases_of
    from napari_leukocls.widgets.common.session import session_of

    key = session_of(viewer).store.add_slide(result)
    cases_of(viewer).open(result.slide_id, [Analysed(result, key, AnalyzeConfig(), 0, result)])


def keys(viewer: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    for shape in ((960, 1280), (3072, 4096)):
        opened = field_of(viewer, shape)
        gallery = opened.gallery
        bare = one_picture(viewer, canvas=True)
        size = f"{shape[1]} x {shape[0]}"
        say(f"{size}: window free after its canvas is drawn", 1000 * bare, "ms", "")
        gallery.setCurrentIndex(gallery.cells.index(0))
        taken, worked = [], []
        for i in range(25):
            live(0.15)
            began, before = perf_counter(), thread_time()
            QTest.keyClick(gallery, Qt.Key.Key_5 if i % 2 else Qt.Key.Key_4)
            free()
            taken.append(perf_counter() - began)
            worked.append(thread_time() - before)
        middle = float(np.median(taken[5:]))
        say(f"{size}: key until the window is free, median of 20", 1000 * middle, "ms", "<= 100")
        say("    the best", 1000 * min(taken[5:]), "ms", "<= 100")
        own = 1000 * float(np.median(worked[5:]))
        say("    of the window's thread's own work, without the drawing of OpenGL", own, "ms", "<= 100")
        say("    relative to a picture of the canvas", middle / bare, "times", "")


def correcting(viewer: Any) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    opened = full_gallery(viewer)
    live(1)
    store, disk, whole = opened._session.store, [], []
    correct = store.correct

    def timed(*args: Any) -> Any:
        done = correct(*args)
        disk.append(perf_counter() - began)
        return done

    store.correct = timed
    opened.gallery.setCurrentIndex(opened.gallery.cells.index(0))
    for _ in range(30):
        began = perf_counter()
        QTest.keyClick(opened.gallery, Qt.Key.Key_5)
        whole.append(perf_counter() - began)
        live(0.1)
    assert len(disk) == 30
    n = len(opened.gallery.cells.ids)
    say("key until the correction is on the disk, median of 30", 1000 * float(np.median(disk)), "ms", "<= 50")
    say("    the slowest", 1000 * max(disk), "ms", "<= 50")
    say(f"key until the next of {n} cells is chosen, median", 1000 * float(np.median(whole)), "ms", "")


def memory(viewer: Any, name: str) -> None:
    from superqt.utils._qthreading import WorkerBase

    def cycle() -> None:
        opened = dock(viewer, name)
        live(0.15)
        viewer.window.remove_dock_widget(opened)
        live(0.05)

    # What is imported and filled once is no growth.
    opened = dock(viewer, name)
    live(2)
    live(300, lambda: not WorkerBase._worker_set)
    viewer.window.remove_dock_widget(opened)
    cycle()
    held = {}
    for n in range(1, 51):
        cycle()
        if n in (10, 50):
            live(60, lambda: not WorkerBase._worker_set)
            live(0.5)
            gc.collect()
            held[n] = _resident()
    what = f"{name} dock: MiB held after 50 cycles less those after 10 ({held[10]:.0f})"
    say(what, held[50] - held[10], "MiB", "no growth")
    kept = sum(type(one).__name__ == f"{name}Dock" for one in gc.get_objects())
    say("    closed docks that are still held", kept, "", "at most 1")


def _resident() -> float:
    """Memory that the process holds, MiB."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


EACH_DOCK = {"opening": opening, "memory": memory}
ONCE: dict[str, Callable[..., None]] = {
    "gallery": gallery,
    "keys": keys,
    "correcting": correcting,
    "cancelling": cancelling,
    "analysing": analysing,
}


def one(part: str, name: str | None, why: bool) -> None:
    """Run one part in this process."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEUKOCLS_DATA"] = folder
        import napari
        from superqt.utils._qthreading import WorkerBase

        from napari_leukocls.widgets.common import preferences

        preferences._settings = lambda: None
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1500, 1000)
        live(2)
        if part in EACH_DOCK:
            EACH_DOCK[part](viewer, name or DOCKS[0])
        else:
            ONCE[part](viewer, why) if part == "analysing" else ONCE[part](viewer)
        viewer.close()
        # As napari does when it quits.
        WorkerBase.await_workers()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=(*EACH_DOCK, *ONCE))
    parser.add_argument("--dock", choices=DOCKS)
    parser.add_argument("--why", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        one(given.only, given.dock, given.why)
        return
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
    for part in (*EACH_DOCK, *ONCE):
        if given.only not in (None, part):
            continue
        names = DOCKS if given.dock is None else (given.dock,)
        for name in names if part in EACH_DOCK else (None,):
            command = [sys.executable, __file__, "--here", "--only", part]
            command += ["--dock", name] if name else []
            subprocess.run(command + ["--why"] * given.why, check=True)


if __name__ == "__main__":
    main()
