"""Take the pictures of the documentation anew: the docks at work on the bundled smears, in a real napari window.

    xvfb-run -a -s "-screen 0 1600x1300x24" python -m scripts.take_pictures docs/images

Each dock in each state and size, to be looked at: ``scripts.dock_pictures``. This script makes those that are shown.
Does what a person would do, by the helpers of the window tests, and looks at nothing: look at the pictures
afterwards. The user's own data folder is not touched.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "gui"))

#: Zoom at which a heatmap is looked at.
CLOSE = 9.0
#: Keys of the classes in the Review dock.
KEYS = {"neutrophil": "1", "eosinophil": "2", "basophil": "3", "lymphocyte": "4", "monocyte": "5"}


def save(widget: Any, file: Path) -> None:
    """Save what a widget shows."""
    from acting import pump

    pump(0.6)
    widget.grab().save(str(file))
    with Image.open(file) as picture:
        picture.convert("RGB").save(file, optimize=True)


def true_key(viewer: Any, cell: int) -> str:
    """The key of the class that a cell of the sample was drawn as."""
    import numpy as np
    import pandas as pd
    import tifffile

    from napari_leukocls.paths import sample_smear

    drawn = sample_smear()
    truth = pd.read_csv(drawn.with_name(f"{drawn.stem}_truth.csv")).set_index("cell_id")["class"]
    labels = tifffile.imread(drawn.with_name(f"{drawn.stem}_labels.tif"))
    found = next(layer for layer in viewer.layers if layer.name.endswith(" cells")).data
    under = truth[int(np.bincount(labels[found == cell]).argmax())]
    return KEYS[under.removeprefix("segmented_").removeprefix("band_")]


def analyse(viewer: Any, window: Any, out: Path) -> None:
    """The sample as the menu opens it, analysed."""
    from acting import click, pump, until

    viewer.open_sample("napari-leukocls", "synthetic_normal")
    dock = window("Analyse")
    until(lambda: not dock._warm_job.running, 300)
    click(dock, "Run analysis")
    until(lambda: dock.message.text().startswith("Done"), 600)
    viewer.reset_view()
    pump(0.5)
    save(viewer.window._qt_window, out / "plugin-analyse.png")


def review(viewer: Any, window: Any, out: Path) -> Any:
    """Some cells settled, one chosen; then read a second time."""
    from acting import click, click_tile, control, press, pump, write
    from qtpy.QtCore import Qt

    dock = window("Review")
    write(dock, "Reviewer", "A. Reader")
    gallery = control(dock, "Gallery of cells")
    click_tile(gallery, 0)
    for _ in range(3):
        press(gallery, true_key(viewer, gallery.selected_ids()[0]))
    click(dock, "Settings of the review")
    pump(0.5)
    save(viewer.window._qt_window, out / "plugin-review.png")
    large(viewer, dock, gallery, out)
    counter(viewer, dock, out)
    click(dock, "Second read and signature")
    write(dock, "Second reader", "B. Second")
    click(dock, "Start blind read")
    click_tile(gallery, 2)
    save(viewer.window._qt_window, out / "plugin-second-read.png")
    click(dock, "Interrupt")
    press(gallery, Qt.Key.Key_Home)
    return gallery


def large(viewer: Any, dock: Any, gallery: Any, out: Path) -> None:
    """The gallery large beside the smear, with a whole class chosen."""
    from acting import click, pump, wheel
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_leukocls.widgets.common.workplace import show_as

    show_as(dock, "wide")
    for _ in range(2):
        wheel(gallery.viewport(), 120, Qt.KeyboardModifier.ControlModifier)
    click(dock, "Next class")
    QTest.mouseClick(gallery.heading, Qt.MouseButton.LeftButton)
    save(viewer.window._qt_window, out / "plugin-review-large.png")
    for _ in range(2):
        wheel(gallery.viewport(), -120, Qt.KeyboardModifier.ControlModifier)
    show_as(dock, "narrow")
    pump(0.5)


def counter(viewer: Any, dock: Any, out: Path) -> None:
    """Cells of the field counted with keys, some of them after a click, beside the program's count."""
    from acting import click, press

    from napari_leukocls.widgets.common.session import session_of

    click(dock, "Counter")
    case = session_of(viewer).case
    assert case is not None
    cells = case.cells[case.cells["class"].isin(KEYS) & ~case.cells["needs_review"]]
    for cell in cells["cell_id"].tolist():
        case.select((int(cell),), "canvas")
        press(dock.counter, true_key(viewer, int(cell)))
    viewer.reset_view()
    click(dock, "Finish and compare")
    save(viewer.window._qt_window, out / "plugin-counter.png")
    click(dock, "New count")
    click(dock, "Gallery")


def explain(viewer: Any, window: Any, out: Path, gallery: Any) -> None:
    """Why an unsure cell is named as it is."""
    from acting import click_tile, pump, until

    dock = window("Explain")
    click_tile(gallery, 0)
    until(lambda: dock.content.isVisible(), 300)
    viewer.scene.camera.zoom = CLOSE
    pump(1.0)
    save(viewer.window._qt_window, out / "plugin-explain.png")


def train(viewer: Any, window: Any, out: Path, folder: Path) -> None:
    """An adaptation to crops of the drawn smears, with its verdict."""
    from acting import click, is_there, pick, pump, says, until, write
    from test_training_walk import labelled_crops

    dock = window("Train")
    dock.data.add(str(labelled_crops(folder / "crops")))
    pick(dock, "Recipe", "adapt")
    write(dock, "Name", "ours")
    click(dock, "Start training")
    until(lambda: is_there(dock, "Promote") or says(dock), 1500)
    viewer.window._qt_window.resize(1400, 1260)
    pump(1.0)
    save(dock, out / "plugin-train.png")
    viewer.window._qt_window.resize(1400, 900)


def batch(viewer: Any, window: Any, out: Path, folder: Path) -> None:
    """Three slides, one of them opened."""
    from acting import click, control, pump, until, write

    from napari_leukocls.paths import sample_smears

    slides = folder / "slides"
    slides.mkdir()
    for number, file in enumerate(sample_smears().values(), 1):
        (slides / f"slide_{number}.jpg").write_bytes(file.read_bytes())
    dock = window("Batch")
    write(dock, "Slides in", str(slides))
    click(dock, "Start batch")
    until(lambda: " done. Results in" in dock.message.text(), 900)
    control(dock, "Slides of the batch").setCurrentCell(0, 0)
    click(dock, "Open for review")
    until(lambda: "slide_1 cells" in viewer.layers, 100)
    pump(1.0)
    save(viewer.window._qt_window, out / "plugin-batch.png")


def proficiency(viewer: Any, window: Any, out: Path) -> None:
    """A learner's rounds, a cell that is asked, and the result of a round, side by side."""
    from acting import click, control, is_there, press, pump, until, write

    from napari_leukocls.widgets.common.session import session_of

    dock = window("Proficiency")
    viewer.window._qt_window.resize(1400, 860)
    until(lambda: control(dock, "Slides with a reference").count() >= 3, 100)
    write(dock, "Learner", "B. Learner")
    earlier_rounds(session_of(viewer).store)
    dock._look()
    until(lambda: is_there(dock, "Rounds so far"), 60)
    pictures = [grabbed(dock)]
    click(dock, "Start round")
    until(lambda: is_there(dock, "Cell to classify"), 60)
    for _ in range(3):
        press(dock.exam, "1")
    pictures.append(grabbed(dock))
    click(dock, "Interrupt")
    until(lambda: is_there(dock, "Rounds so far"), 60)
    pump(2.0)
    control(dock, "Rounds so far").setCurrentCell(1, 0)
    click(dock, "Open round")
    until(lambda: is_there(dock, "Save certificate…"), 60)
    pictures.append(grabbed(dock))
    whole = dock.widget().grab()
    whole.save(str(out / "whole.png"))
    with Image.open(out / "whole.png") as picture:
        place = dock.outcome.differing.mapTo(dock.widget(), dock.outcome.differing.rect().topLeft())
        scale = picture.width / max(1, dock.widget().width())
        top = round(place.y() * scale)
        picture.convert("RGB").crop((0, top, picture.width, min(picture.height, top + 620))).save(
            out / "plugin-proficiency-cells.png", optimize=True
        )
    (out / "whole.png").unlink()
    side_by_side(pictures).save(out / "plugin-proficiency.png", optimize=True)


def earlier_rounds(store: Any) -> None:
    """Three finished rounds of a learner who gets better."""
    import random

    from napari_leukocls.review.proficiency import Proficiency
    from napari_leukocls.review.proficiency_outcome import coarse

    chance, rounds = random.Random(1), Proficiency(store)
    keys = [one.key for one in rounds.references() if one.is_teaching][:3]
    for seed, wrong in enumerate((0.25, 0.15, 0.1)):
        begun = rounds.begin("B. Learner", keys, n=50, required=0.9, seed=seed)
        for place, question in enumerate(begun.questions):
            name = coarse(question.reference, store.scheme)
            if chance.random() < wrong:
                name = chance.choice(["monocyte", "lymphocyte", "immature_granulocyte"])
            begun.answer(place, name)
        begun.finish()


def grabbed(widget: Any) -> Image.Image:
    """What a widget shows, as a picture."""
    import io

    from acting import pump
    from qtpy.QtCore import QBuffer

    pump(0.6)
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    widget.grab().save(buffer, "PNG")
    return Image.open(io.BytesIO(bytes(buffer.data()))).convert("RGB")


def side_by_side(pictures: list[Image.Image], gap: int = 16) -> Image.Image:
    """Pictures of one height in a row."""
    width = sum(one.width for one in pictures) + gap * (len(pictures) - 1)
    made = Image.new("RGB", (width, max(one.height for one in pictures)), "white")
    at = 0
    for one in pictures:
        made.paste(one, (at, 0))
        at += one.width + gap
    return made


def demo(out: Path, folder: Path) -> None:
    """The overlay that ``leukocls demo`` writes, at a size for a first screen."""
    from napari_leukocls.cli import main as leukocls

    if leukocls(["demo", "--out", str(folder / "demo")]):
        raise SystemExit("The demo failed.")
    with Image.open(next((folder / "demo").glob("*/overlay.png"))) as picture:
        small = picture.convert("RGB")
        small.thumbnail((1200, 1200), Image.Resampling.LANCZOS)
        small.save(out / "demo.png", optimize=True)


def take(parts: list[str], out: Path) -> None:
    """Open a window and take the pictures of some parts."""
    import napari
    from acting import pump
    from superqt.utils import WorkerBase

    from napari_leukocls.widgets.common import preferences
    from napari_leukocls.widgets.common.cases import cases_of
    from napari_leukocls.widgets.common.session import session_of

    preferences._settings = lambda: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "demo" in parts:
            demo(out, folder)
        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(1400, 900)
        pump(2)

        def window(dock: str) -> Any:
            opened = viewer.window.add_plugin_dock_widget("napari-leukocls", dock, tabify=True)[1]
            pump(0.5)
            return opened

        if "window" in parts:
            analyse(viewer, window, out)
            explain(viewer, window, out, review(viewer, window, out))
        if "batch" in parts:
            viewer.layers.clear()
            batch(viewer, window, out, folder)
        if "proficiency" in parts:
            # Slides that are open are not asked.
            while session_of(viewer).case is not None:
                cases_of(viewer).close()
            proficiency(viewer, window, out)
        if "train" in parts:
            train(viewer, window, out, folder)
        viewer.close()
        WorkerBase.await_workers(60_000)


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    choices = ["demo", "window", "batch", "proficiency", "train"]
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        os.environ["LEUKOCLS_DATA"] = data
        take(args.only, args.out.resolve())


if __name__ == "__main__":
    main()
