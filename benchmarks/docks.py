"""How quick the docks are, in a real napari window: run with a display (or `xvfb-run -a`).

    python benchmarks/docks.py [--only NAME]

Prints one line a figure, with what was asked of it. Figures are of this machine at this moment: look at what else
it does. Docks are opened in a process that has napari up; a stall is the longest turn of the event loop.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import tempfile
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

PLUGIN = "napari-leukocls"
DOCKS = ("Analyse", "Review", "Explain", "Train", "Batch")


def say(what: str, value: float, unit: str, wanted: str) -> None:
    print(f"{what:<58} {value:9.1f} {unit:<8} wanted {wanted}", flush=True)


def turn(seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> list[float]:
    """Let the window live; the seconds that each turn of its loop took."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    turns, began = [], perf_counter()
    while not until():
        before = perf_counter()
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        turns.append(perf_counter() - before)
        if perf_counter() - began > seconds:
            break
    return turns


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def big_smear() -> np.ndarray:
    """The bundled smear, laid side by side to 4096 x 3072 pixels."""
    from napari_leukocls.io.images import read_image
    from napari_leukocls.resources import sample_smear

    return np.tile(read_image(sample_smear()).pixels, (2, 2, 1))[:3072, :4096].copy()


def opening(viewer: Any) -> None:
    for name in DOCKS:
        began = perf_counter()
        opened = dock(viewer, name)
        opened.repaint()
        say(f"{name} dock opens", perf_counter() - began, "s", "<= 1")
        turn(2)
        viewer.window.remove_dock_widget(opened)
        turn(0.2)


def analysing(viewer: Any) -> None:
    viewer.add_image(big_smear(), name="smear", scale=(0.16, 0.16), units=("um", "um"))
    opened = dock(viewer, "Analyse")
    turn(300, lambda: not opened._warm_job.running)
    turn(2)
    opened.run.click()
    turns = turn(900, lambda: not opened._job.running)
    say("longest stall while 4096 x 3072 is analysed", 1000 * max(turns), "ms", "<= 100")
    say("99.9 % of the turns are shorter than", 1000 * float(np.quantile(turns, 0.999)), "ms", "")
    print(opened.message.text())
    turn(3)
    opened.run.click()
    turn(3)
    began = perf_counter()
    opened.progress.stop.click()
    turn(0.01)
    say("Cancel until the dock is ready again", perf_counter() - began, "s", "<= 1")
    viewer.window.remove_dock_widget(opened)


def correcting(viewer: Any) -> None:
    from napari_leukocls.config import AnalyzeConfig
    from napari_leukocls.widgets.session import session_of
    from napari_leukocls.widgets.slide_model import SlideModel
    from tests.results import make_result

    result = make_result("ten thousand", (4000, 4000), 40, every=1)
    session = session_of(viewer)
    session.set_reviewer("A. Reader")
    slide = SlideModel(result, session.store.add_slide(result), AnalyzeConfig())
    session.show(slide)
    began = perf_counter()
    opened = dock(viewer, "Review")
    opened.group.setCurrentIndex(1)
    cells = len(opened.gallery.cells.ids)
    turn(0.5)
    began = perf_counter()
    opened.gallery.pictures._cache.clear()
    opened.gallery.viewport().repaint()
    say(f"gallery of {cells} cells, first paint", 1000 * (perf_counter() - began), "ms", "<= 500")
    bar = opened.gallery.verticalScrollBar()
    began, frames = perf_counter(), 0
    while perf_counter() - began < 3:
        bar.setValue((bar.value() + 40) % max(bar.maximum(), 1))
        opened.gallery.viewport().repaint()
        frames += 1
    say("gallery, scrolling", frames / 3, "frames/s", ">= 30")
    times = []
    for cell in opened.gallery.cells.ids[:20]:
        began = perf_counter()
        session.store.correct(slide.key, int(cell), "monocyte", "A. Reader")
        times.append(perf_counter() - began)
    say("a correction is on the disk, median of 20", 1000 * float(np.median(times)), "ms", "<= 50")
    viewer.window.remove_dock_widget(opened)
    session.show(None)


def memory(viewer: Any) -> None:
    def rounds(name: str, n: int) -> None:
        for _ in range(n):
            opened = dock(viewer, name)
            turn(0.02)
            viewer.window.remove_dock_widget(opened)
            turn(0.02)
        turn(0.5)
        gc.collect()

    for name in DOCKS:
        rounds(name, 5)
        before = _resident()
        rounds(name, 50)
        say(f"{name} dock opened and closed 50 times", _resident() - before, "MiB", "no growth")


def _resident() -> float:
    """Memory that the process holds, MiB."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parts = {"opening": opening, "analysing": analysing, "correcting": correcting, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(parts))
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEUKOCLS_DATA"] = folder
        import napari

        from napari_leukocls.widgets import preferences

        preferences._settings = lambda: None
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1500, 1000)
        turn(1)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        for name, part in parts.items():
            if only in (None, name):
                part(viewer)
        viewer.close()


if __name__ == "__main__":
    main()
