"""Make the animation of the documentation anew: a smear from the drop to the signed report, in a real napari window.

    xvfb-run -a -s "-screen 0 1280x1024x24" python -m scripts.make_animation docs/images/session.gif

Does what a person would do, by the helpers of the window tests. What takes long is shortened, and the caption says so.
The smear is a bundled one, which is drawn. The user's own data folder is not touched.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "gui"))

#: Size of napari's window and width of the animation, pixels.
WINDOW, WIDTH = (1080, 700), 900
#: Height of the line of text below the window, and the number of colours.
CAPTION, COLOURS = 32, 112
#: Colours of chosen tabs, cells, bars and badges.
OWN_COLOURS = ("#4b6bd6", "#ffe14d", "#2f9e6b", "#1a7f37", "#9a6700", "#b3261e", "#ffffff")
#: Milliseconds of a moment that is looked at, of one step of a movement, and of one key.
LOOK, STEP, KEY = 1300, 120, 420
#: Frames of the work of the models; it may take longer.
WORKING = 6
#: Cells that are confirmed or named one by one before the picture jumps to the last.
SHOWN_KEYS = 6
#: Largest file, bytes.
LARGEST = 5_000_000
KEYS = {"neutrophil": "1", "eosinophil": "2", "basophil": "3", "lymphocyte": "4", "monocyte": "5"}


class Film:
    """Frames of a window with a line of text, each with the time that it is shown.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        from matplotlib.font_manager import findfont

        self.viewer = viewer
        self.window = viewer.window._qt_window
        self.caption = ""
        self.frames: list[Image.Image] = []
        self.times: list[int] = []
        #: Zoom at which the whole smear is seen.
        self.whole = 1.0
        self._font = ImageFont.truetype(findfont("DejaVu Sans"), 15)

    def shot(self, milliseconds: int, pause: float = 0.15) -> None:
        """Take a frame of the window."""
        from acting import pump
        from qtpy.QtCore import QBuffer

        pump(pause)
        buffer = QBuffer()
        buffer.open(QBuffer.OpenModeFlag.WriteOnly)
        self.window.grab().save(buffer, "PNG")
        self.add(Image.open(io.BytesIO(bytes(buffer.data()))), milliseconds)

    def add(self, picture: Image.Image, milliseconds: int) -> None:
        """Add a picture; one that is the same as the last makes that stand longer."""
        height = round(WIDTH * WINDOW[1] / WINDOW[0])
        made = Image.new("RGB", (WIDTH, height + CAPTION), "#16181d")
        made.paste(picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS), (0, 0))
        ImageDraw.Draw(made).text((12, height + 7), self.caption, "white", self._font)
        if self.frames and made.tobytes() == self.frames[-1].tobytes():
            self.times[-1] += milliseconds
            return
        self.frames.append(made)
        self.times.append(milliseconds)

    def next_step(self) -> None:
        """Press Ctrl+Return on the canvas."""
        from acting import press, until
        from qtpy.QtCore import Qt

        canvas = self.viewer.window._qt_viewer.canvas.native
        # Without a window manager no window is active by itself, and shortcuts go nowhere.
        self.window.activateWindow()
        until(self.window.isActiveWindow, 20)
        canvas.setFocus()
        press(canvas, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)

    def move(self, centre: tuple[float, float], zoom: float, steps: int = 7) -> None:
        """Move the camera, slowly at the beginning and at the end."""
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        before, at = camera.zoom, camera.center[-2:]
        for step in range(1, steps + 1):
            share = step / steps
            share = share * share * (3 - 2 * share)
            camera.zoom = before * (zoom / before) ** share
            camera.center = (0, *(a + (b - a) * share for a, b in zip(at, centre, strict=True)))
            self.shot(STEP, 0.05)

    def save(self, file: Path) -> None:
        """Write the animation with one palette, so that what stands still costs nothing."""
        from napari_leukocls.scheme import default_scheme

        sample = Image.new("RGB", (WIDTH, len(self.frames) * 80))
        for i, frame in enumerate(self.frames):
            sample.paste(frame.resize((WIDTH, 80)), (0, 80 * i))
        palette = sample.quantize(COLOURS, Image.Quantize.MEDIANCUT)
        # Colours of classes and controls cover few pixels, and would be lost.
        colours = [default_scheme()[name].colour for name in default_scheme().names]
        own = [value for one in [*colours, *OWN_COLOURS] for value in ImageColor.getrgb(one)]
        palette.putpalette((palette.getpalette() or [])[: 3 * COLOURS] + own)
        small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        small[0].save(
            file, save_all=True, append_images=small[1:], duration=self.times, loop=0, optimize=True
        )
        seconds, size = sum(self.times) / 1000, file.stat().st_size
        print(f"{len(small)} frames, {seconds:.1f} s, {size / 1e6:.2f} MB")
        if size > LARGEST:
            raise SystemExit(f"{file} is larger than {LARGEST / 1e6:.0f} MB: use fewer colours or frames.")


def open_and_analyse(film: Film, dock: Callable[[str], Any], smear: Path) -> None:
    """Drop the smear, and analyse it."""
    from acting import drop_files, front, pump, says, until

    analysis = dock("Analyse")
    front(analysis)
    film.caption = "Drop a photograph of a stained smear into napari."
    film.shot(LOOK)
    drop_files(film.viewer, [smear])
    pump(0.5)
    film.viewer.reset_view()
    film.shot(LOOK)
    film.caption = "Ctrl+Return analyses it: outlines, classes, count (shortened)."
    film.next_step()
    until(lambda: analysis.progress.isVisible(), 60)
    seen: set[str] = set()
    while not says(analysis).startswith("Done"):
        pump(0.3)
        text = analysis.progress.text.text().split(",")[0]
        if text not in seen and len(seen) < WORKING:
            seen.add(text)
            # How long it takes says nothing of another machine.
            analysis.progress.text.setText(text)
            film.shot(STEP * 4, 0)
    film.viewer.reset_view()
    analysis.message.tell("")
    film.caption = "Each leukocyte has a class, each percentage its 95 % limits."
    film.shot(2 * LOOK, 0.5)


def look(film: Film) -> None:
    """Look at the outlines, near."""
    extent = film.viewer.layers[0].extent.world
    middle = tuple((extent[0] + extent[1]) / 2)
    zoom = film.whole = film.viewer.scene.camera.zoom
    film.caption = "The outlines have the colours of the classes; they can be painted anew."
    film.move((middle[0] * 0.8, middle[1] * 0.9), 3.2 * zoom)
    film.shot(LOOK)
    film.viewer.reset_view()


def true_key(case: Any, cell: int) -> str:
    """The key of the class that a cell of the smear was drawn as."""
    import numpy as np
    import pandas as pd
    import tifffile

    from napari_leukocls.paths import sample_smear

    drawn = sample_smear()
    truth = pd.read_csv(drawn.with_name(f"{drawn.stem}_truth.csv")).set_index("cell_id")["class"]
    labels = tifffile.imread(drawn.with_name(f"{drawn.stem}_labels.tif"))
    slide, number = case.local(cell)
    under = truth[int(np.bincount(labels[slide.result.labels == number]).argmax())]
    return KEYS.get(under.removeprefix("segmented_").removeprefix("band_"), "0")


def review(film: Film, dock: Callable[[str], Any]) -> None:
    """Judge the unsure cells with keys."""
    from acting import click, click_tile, control, front, press, pump, write

    from napari_leukocls.widgets.common.session import session_of

    window = dock("Review")
    front(window)
    film.caption = "The cells of which the model is unsure come first, and are in no percentage yet."
    film.shot(LOOK, 0.5)
    write(window, "Reviewer", "A. Reader")
    click(window, "Settings of the review")
    gallery = control(window, "Gallery of cells")
    click_tile(gallery, 0)
    pump(0.5)
    film.shot(LOOK)
    case = session_of(film.viewer).case
    assert case is not None
    film.caption = "One key a cell: 1 neutrophil, 2 eosinophil, 4 lymphocyte... each is saved at once."
    done = 0
    while case.offered():
        cell = case.offered()[0]
        gallery.select([cell])
        key = true_key(case, cell)
        press(gallery, key)
        if done < SHOWN_KEYS:
            film.shot(KEY)
        done += 1
    film.caption = "Nothing is left to review."
    film.shot(LOOK, 0.5)


def explain(film: Film, dock: Callable[[str], Any]) -> None:
    """Show on what the class of a cell rests."""
    from acting import front, pump, until

    from napari_leukocls.widgets.common.session import session_of

    case = session_of(film.viewer).case
    assert case is not None
    window = dock("Explain")
    front(window)
    same = (case.cells["class"] == "eosinophil") & (case.cells["predicted_class"] == "eosinophil")
    found = case.cells[same].sort_values("probability")["cell_id"].tolist()[-1:]
    case.select((int(found[0]),), "canvas")
    film.caption = "Why an eosinophil? The heatmap, its checks, and the morphology in words."
    until(lambda: window.content.isVisible(), 300)
    pump(0.5)
    ring = case.cells.set_index("cell_id").loc[found[0]]
    layer = film.viewer.layers[0]
    centre = layer.data_to_world((ring["centroid_y"], ring["centroid_x"]))
    film.move((float(centre[-2]), float(centre[-1])), 5 * film.whole)
    film.shot(2 * LOOK, 0.5)
    film.viewer.reset_view()


def sign(film: Film, dock: Callable[[str], Any], folder: Path) -> None:
    """Sign, export, and read the report."""
    from acting import answer_question, front, pump, until

    from napari_leukocls.widgets.common import preferences
    from napari_leukocls.widgets.common.session import session_of

    preferences.keep_export_folder(str(folder))
    case = session_of(film.viewer).case
    assert case is not None
    window = dock("Analyse")
    front(window)
    film.caption = "Ctrl+Return again: signed, the files written, the next slide shown."
    film.shot(LOOK, 0.5)
    answer_question(yes=True)
    film.next_step()
    until(lambda: list(folder.glob("*/report.html")), 120)
    pump(1)
    film.shot(2 * LOOK)
    film.caption = "The report: findings, the count with limits, who signed it and when."
    film.add(page(next(folder.glob("*/report.html"))), 3 * LOOK)


def page(file: Path) -> Image.Image:
    """The top of a report, as Qt shows it."""
    from qtpy.QtCore import QBuffer
    from qtpy.QtGui import QColor, QImage, QPainter, QTextDocument

    from napari_leukocls.paths import sample_smear

    document = QTextDocument()
    source = str(sample_smear().parent) + os.sep
    document.setHtml(file.read_text(encoding="utf-8").replace(source, ""))
    document.setTextWidth(WINDOW[0])
    made = QImage(*WINDOW, QImage.Format.Format_RGB32)
    made.fill(QColor("white"))
    painter = QPainter(made)
    document.drawContents(painter)
    painter.end()
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    made.save(buffer, "PNG")
    return Image.open(io.BytesIO(bytes(buffer.data())))


def play(file: Path) -> None:
    """Do the session and write the animation."""
    import napari
    from acting import menu, pump
    from superqt.utils import WorkerBase

    from napari_leukocls.paths import sample_smear
    from napari_leukocls.widgets.common import preferences

    preferences._settings = lambda: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        viewer = napari.Viewer(show=True)
        window = viewer.window._qt_window
        window.resize(*WINDOW)
        for dock in ("dockLayerControls", "dockLayerList"):
            getattr(viewer.window._qt_viewer, dock).hide()
        pump(1.5)
        menu(window, "Layers", "Classify", "Open the docks")
        pump(1.5)

        def opened(dock: str) -> Any:
            return viewer.window.dock_widgets[f"{dock} (Leukocls)"]

        film = Film(viewer)
        open_and_analyse(film, opened, sample_smear())
        look(film)
        review(film, opened)
        explain(film, opened)
        sign(film, opened, Path(name))
        viewer.close()
        WorkerBase.await_workers(60_000)
    film.save(file)


def main() -> None:
    """Parse the command line and make the animation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        os.environ["LEUKOCLS_DATA"] = data
        os.environ["NAPARI_CONFIG"] = f"{data}/napari.yaml"
        play(args.file.resolve())


if __name__ == "__main__":
    main()
