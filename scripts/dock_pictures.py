"""Pictures of each dock empty, at work, full and in error, in a real napari window: to be looked at, not shipped.

    python -m scripts.dock_pictures FOLDER --fields IMAGE [IMAGE ...] --crops FOLDER

Runs once for each size of the screen and of the controls (``QT_SCALE_FACTOR``), each time dark and light, and puts the
pictures of one dock beside each other into ``sheet-DOCK-STATE.png``. Needs ``xvfb-run``. The user's own data folder is
not touched.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "gui"))

#: Screens, pixels.
SCREENS = ((1280, 800), (1600, 1000))
#: Sizes of the controls.
SCALES = (1.0, 1.5)
THEMES = ("dark", "light")
DOCKS = ("Analyse", "Review", "Batch", "Explain", "Train", "Proficiency")
#: Width of one picture on a sheet, pixels.
ON_SHEET = 800
#: Classes of the crops that are trained on, and how many of each.
CLASSES = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte")
CROPS_A_CLASS = 12


class Camera:
    """Takes pictures of napari's window.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    out : pathlib.Path
        Folder of the pictures.
    """

    def __init__(self, viewer: Any, out: Path) -> None:
        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.out = out
        size = self.window.screen().size() * self.window.devicePixelRatioF()
        self.how = f"{size.width()}x{size.height()}-{round(100 * self.window.devicePixelRatioF())}"

    def open(self, dock: str) -> Any:
        """Bring a dock to the front."""
        from acting import front, pump

        made = self.viewer.window.add_plugin_dock_widget("napari-leukocls", dock, tabify=True)[1]
        pump(0.3)
        front(made)
        return made

    def shoot(self, dock: str, state: str, widget: Any = None, themes: tuple[str, ...] = THEMES) -> None:
        """Save the window, or another widget, in each theme."""
        from acting import pump

        for theme in themes:
            self.viewer.theme = theme
            pump(0.4)
            file = self.out / f"{dock.lower()}-{state}-{self.how}-{theme}.png"
            (widget or self.window).grab().save(str(file))
        self.viewer.theme = THEMES[0]


def empty(camera: Camera, _work: Path, _args: argparse.Namespace) -> None:
    """All docks before anything was opened."""
    from acting import pump

    for dock in DOCKS:
        camera.open(dock)
    pump(2)
    for dock in DOCKS:
        camera.open(dock)
        camera.shoot(dock, "empty")


def analyse(camera: Camera, _work: Path, args: argparse.Namespace) -> None:
    """An image without cells; then a slide of several fields, while it is analysed and afterwards."""
    import numpy as np
    from acting import click, drop_files, pump, says, until

    dock = camera.open("Analyse")
    camera.viewer.add_image(np.full((20, 20, 3), 200, np.uint8), name="tiny", rgb=True)
    pump(0.5)
    click(dock, "Run analysis")
    until(lambda: says(dock) and not dock._job.running, 200)
    camera.shoot("Analyse", "error")
    camera.viewer.layers.clear()
    drop_files(camera.viewer, args.fields)
    pump(1.5)
    click(dock, "Run analysis")
    until(lambda: dock.progress.isVisible(), 60)
    pump(2)
    camera.shoot("Analyse", "working")
    until(lambda: says(dock).startswith("Done"), 900)
    camera.viewer.reset_view()
    camera.shoot("Analyse", "full")
    dock.verticalScrollBar().setValue(dock.verticalScrollBar().maximum())
    camera.shoot("Analyse", "full-below")
    click(dock, "Settings of the analysis")
    dock.verticalScrollBar().setValue(0)
    camera.shoot("Analyse", "settings")
    click(dock, "Settings of the analysis")


def review(camera: Camera, _work: Path, args: argparse.Namespace) -> None:
    """Real fields; then a drawn smear with many cells: the gallery large, the counter, a second read, a signature."""
    from acting import click, click_tile, control, press, pump, until, wheel, write
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_leukocls.widgets.common.workplace import frame_of, show_as

    dock = camera.open("Review")
    camera.shoot("Review", "first")
    gallery = control(dock, "Gallery of cells")
    click_tile(gallery, 0)
    press(gallery, "1")
    camera.shoot("Review", "no-name")
    write(dock, "Reviewer", "A. Reader")
    click(dock, "Settings of the review")
    camera.shoot("Review", "real")
    camera.viewer.open(args.drawn, plugin="napari-leukocls")
    until(lambda: case_name(camera) == args.drawn.name, 100)
    camera.viewer.reset_view()
    camera.open("Analyse")
    pump(1)
    camera.shoot("Analyse", "many")
    dock = camera.open("Review")
    click_tile(gallery, 0)
    for key in "11":
        press(gallery, key)
    camera.shoot("Review", "working")
    click(dock, "Second read and signature")
    click(dock, "Sign the slide")
    camera.shoot("Review", "error")
    click(dock, "Second read and signature")
    show_as(dock, "wide")
    for _ in range(2):
        wheel(gallery.viewport(), 120, Qt.KeyboardModifier.ControlModifier)
    click(dock, "Next class")
    QTest.mouseClick(gallery.heading, Qt.MouseButton.LeftButton)
    camera.shoot("Review", "wide")
    show_as(dock, "window")
    pump(1)
    camera.shoot("Review", "window", frame_of(dock))
    show_as(dock, "narrow")
    for _ in range(2):
        wheel(gallery.viewport(), -120, Qt.KeyboardModifier.ControlModifier)
    pump(0.5)
    _count(camera, dock)
    _settle(camera, dock, gallery)


def case_name(camera: Camera) -> str:
    """The name of the analysed slide that is shown; "" if there is none."""
    from napari_leukocls.widgets.common.session import session_of

    case = session_of(camera.viewer).case
    return case.name if case is not None and case.analysed else ""


def _count(camera: Camera, dock: Any) -> None:
    """The counter at work, and with its result."""
    from acting import click, press, pump

    click(dock, "Counter")
    for key in "11114152":
        press(dock.counter, key)
    camera.shoot("Review", "counter")
    click(dock, "Finish and compare")
    pump(0.5)
    camera.shoot("Review", "counter-result")
    click(dock, "Gallery")


def _settle(camera: Camera, dock: Any, gallery: Any) -> None:
    """Nothing left to review; a blind second read; the signed slide."""
    from acting import answer_question, click, press, pump, write
    from qtpy.QtCore import Qt

    from napari_leukocls.widgets.common.session import session_of

    case = session_of(camera.viewer).case
    assert case is not None
    while case.offered():
        gallery.select([case.offered()[0]])
        press(gallery, Qt.Key.Key_Return)
    camera.shoot("Review", "full")
    click(dock, "Second read and signature")
    write(dock, "Second reader", "B. Second")
    click(dock, "Start blind read")
    pump(0.5)
    camera.shoot("Review", "second-read")
    dock.verticalScrollBar().setValue(dock.verticalScrollBar().maximum())
    camera.shoot("Review", "second-read-below")
    while gallery.cells.ids:
        gallery.select([gallery.cells.ids[0]])
        press(gallery, "1")
    click(dock, "Finish read")
    pump(0.5)
    camera.shoot("Review", "readers")
    asked = answer_question(yes=True)
    click(dock, "Sign the slide")
    pump(1)
    camera.shoot("Review", f"signed{'-asked' if asked else ''}")
    click(dock, "Second read and signature")


def explain(camera: Camera, _work: Path, _args: argparse.Namespace) -> None:
    """No cell chosen, a heatmap while it is computed, and an explained cell."""
    from acting import pump, until

    from napari_leukocls.widgets.common.session import session_of

    case = session_of(camera.viewer).case
    assert case is not None
    dock = camera.open("Explain")
    cells = case.cells[case.cells["class"].isin(CLASSES)]["cell_id"].tolist()
    case.select(tuple(int(one) for one in cells[:2]), "canvas")
    pump(0.5)
    camera.shoot("Explain", "error")
    case.select((int(cells[0]),), "canvas")
    pump(0.15)
    camera.shoot("Explain", "working", themes=("dark",))
    until(lambda: dock.content.isVisible(), 300)
    camera.viewer.scene.camera.zoom = 9.0
    pump(1)
    camera.shoot("Explain", "full")
    dock.verticalScrollBar().setValue(dock.verticalScrollBar().maximum())
    camera.shoot("Explain", "full-below")


def batch(camera: Camera, work: Path, args: argparse.Namespace) -> None:
    """A folder that is not there; slides of which one is damaged; one of them opened."""
    from acting import click, control, pump, until, write

    dock = camera.open("Batch")
    write(dock, "Slides in", str(work / "not-there"))
    click(dock, "Start batch")
    pump(0.5)
    camera.shoot("Batch", "error")
    slides = work / "slides"
    slides.mkdir()
    for number, file in enumerate(args.fields, 1):
        (slides / f"slide_{number}{file.suffix}").write_bytes(file.read_bytes())
    (slides / "damaged.jpg").write_bytes(b"no picture")
    write(dock, "Results in", str(work / "results"))
    write(dock, "Slides in", str(slides))
    camera.shoot("Batch", "ready")
    click(dock, "Start batch")
    until(lambda: any(row.state == "done" for row in dock._model.rows), 900)
    camera.shoot("Batch", "working")
    until(lambda: " done. Results in" in dock.message.text(), 900)
    control(dock, "Slides of the batch").setCurrentCell(1, 0)
    camera.shoot("Batch", "full")
    click(dock, "Open for review")
    until(lambda: "is open" in dock.message.text(), 100)
    pump(1)
    camera.shoot("Batch", "opened")


def train(camera: Camera, work: Path, args: argparse.Namespace) -> None:
    """A folder without crops; a training while it runs; its verdict."""
    from acting import click, is_there, pick, pump, says, until, write

    dock = camera.open("Train")
    (work / "nothing").mkdir()
    dock.data.add(str(work / "nothing"))
    pump(2)
    camera.shoot("Train", "error")
    dock.data.paths.setCurrentRow(0)
    click(dock, "Remove")
    for name in CLASSES:
        (work / "crops" / name).mkdir(parents=True)
        for file in sorted((args.crops / name).iterdir())[:CROPS_A_CLASS]:
            (work / "crops" / name / file.name).write_bytes(file.read_bytes())
    dock.data.add(str(work / "crops"))
    until(lambda: is_there(dock, "Split of the crops"), 200)
    camera.shoot("Train", "ready")
    pick(dock, "Recipe", "adapt")
    write(dock, "Name", "ours")
    click(dock, "Start training")
    until(lambda: dock.state.text().startswith("Step"), 300)
    camera.shoot("Train", "working")
    until(lambda: is_there(dock, "Promote") or says(dock), 1500)
    pump(1)
    dock.verticalScrollBar().setValue(dock.verticalScrollBar().maximum())
    camera.shoot("Train", "full")
    camera.shoot("Train", "whole", dock.widget())


def proficiency(camera: Camera, _work: Path, _args: argparse.Namespace) -> None:
    """No name; a cell that is asked; the result of a round; the record."""
    from acting import click, control, is_there, press, pump, until, write

    from napari_leukocls.widgets.common.session import session_of
    from scripts.take_pictures import earlier_rounds

    dock = camera.open("Proficiency")
    until(lambda: control(dock, "Slides with a reference").count() >= 3, 100)
    control(dock, "Learner").clear()
    click(dock, "Start round")
    pump(0.6)
    camera.shoot("Proficiency", "error")
    write(dock, "Learner", "B. Learner")
    earlier_rounds(session_of(camera.viewer).store)
    dock._look()
    until(lambda: is_there(dock, "Rounds so far"), 60)
    camera.shoot("Proficiency", "ready")
    click(dock, "Start round")
    until(lambda: is_there(dock, "Cell to classify"), 60)
    press(dock.exam, "1")
    camera.shoot("Proficiency", "working")
    click(dock, "Interrupt")
    until(lambda: is_there(dock, "Rounds so far"), 60)
    pump(2)
    control(dock, "Rounds so far").setCurrentCell(1, 0)
    click(dock, "Open round")
    until(lambda: is_there(dock, "Save certificate…"), 60)
    camera.shoot("Proficiency", "full")
    camera.shoot("Proficiency", "whole", dock.widget())


PARTS: dict[str, Callable[[Camera, Path, argparse.Namespace], None]] = {
    "empty": empty,
    "analyse": analyse,
    "review": review,
    "explain": explain,
    "batch": batch,
    "proficiency": proficiency,
    "train": train,
}


def take(args: argparse.Namespace) -> int:
    """Take the pictures of this screen; a part that fails does not keep the others from being taken."""
    import napari
    from acting import pump
    from superqt.utils import WorkerBase

    from napari_leukocls.widgets.common import preferences

    preferences._settings = lambda: None  # type: ignore[assignment]
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        viewer = napari.Viewer(show=True)
        window = viewer.window._qt_window
        window.setGeometry(window.screen().geometry())
        pump(1.5)
        camera = Camera(viewer, args.out)
        for part in args.only:
            try:
                PARTS[part](camera, Path(name), args)
            except Exception:  # noqa: BLE001 - the other parts are taken all the same
                failed += 1
                traceback.print_exc()
                window.grab().save(str(args.out / f"failed-{part}-{camera.how}.png"))
        viewer.close()
        WorkerBase.await_workers(60_000)
    return failed


def sheets(out: Path) -> None:
    """Put the pictures of one state beside each other."""
    states: dict[str, list[Path]] = {}
    for file in sorted(out.glob("*-*x*-*-*.png")):
        if not file.name.startswith(("sheet-", "failed-")):
            states.setdefault(file.name.rsplit("-", 3)[0], []).append(file)
    for state, files in states.items():
        pictures = []
        for file in files:
            with Image.open(file) as picture:
                small = picture.convert("RGB")
                small.thumbnail((ON_SHEET, 4 * ON_SHEET), Image.Resampling.LANCZOS)
                pictures.append(small)
        height = max(one.height for one in pictures)
        rows = -(-len(pictures) // 2)
        made = Image.new("RGB", (2 * ON_SHEET + 8, rows * (height + 8)), "white")
        for i, one in enumerate(pictures):
            made.paste(one, (i % 2 * (ON_SHEET + 8), i // 2 * (height + 8)))
        made.save(out / f"sheet-{state}.png", optimize=True)


def everywhere(args: argparse.Namespace) -> int:
    """Start this script once for each screen and size of the controls."""
    failed = 0
    args.drawn = args.drawn or _drawn(args.out)
    for scale in args.scales:
        for width, height in args.screens:
            with tempfile.TemporaryDirectory() as data:
                settings = {
                    "QT_SCALE_FACTOR": str(scale),
                    "LEUKOCLS_DATA": data,
                    "NAPARI_CONFIG": f"{data}/napari.yaml",
                }
                command = ["xvfb-run", "-a", "-s", f"-screen 0 {width}x{height}x24", sys.executable, "-m"]
                command += ["scripts.dock_pictures", str(args.out), "--here", "--fields"]
                command += [*map(str, args.fields), "--crops", str(args.crops)]
                command += ["--drawn", str(args.drawn), "--only", *args.only]
                failed += subprocess.run(command, env=os.environ | settings, check=False).returncode
    sheets(args.out)
    return failed


def _drawn(out: Path) -> Path:
    """Analyse a bundled smear: once for all screens."""
    command = [sys.executable, "-m", "napari_leukocls", "demo", "--out", str(out / "drawn")]
    subprocess.run(command, check=True)
    return next((out / "drawn").glob("*/labels.tif")).parent


def _screen(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--fields", type=Path, nargs="+", required=True, help="fields of one smear")
    parser.add_argument("--crops", type=Path, required=True, help="folder with one folder per class")
    parser.add_argument("--drawn", type=Path, help="results of a bundled smear; made if it is not given")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--screens", type=_screen, nargs="+", default=SCREENS)
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--here", action="store_true", help="on the display that is there, with its scale")
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    raise SystemExit(min(1, take(args) if args.here else everywhere(args)))


if __name__ == "__main__":
    main()
